//! The crash matrix: whatever dies under load, every committed change that somebody subscribed to is
//! received at least once or still queued, and at the end everything is delivered.
//!
//! The short form meets each fault once. `PLUGIN_WEBHOOKS_CRASH_ROUNDS=50` is the long form, and
//! `PLUGIN_WEBHOOKS_CRASH_SEED` repeats the choices (not the timing) of a run that failed.

use std::io::Write as _;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use plugin_webhooks_kit::postgres::{self, Client};
use plugin_webhooks_kit::{
    Database, Receiver, Reply, Server, StopMode, Tenant, Tree, Volume, create_tracked_table,
    describe, execute, project, value, wait_until,
};

const ROUNDS: &str = "PLUGIN_WEBHOOKS_CRASH_ROUNDS";
const SEED: &str = "PLUGIN_WEBHOOKS_CRASH_SEED";

/// A server on a busy machine needs its time to recover; nothing here should come near it.
const SOON: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const WRITERS: usize = 4;
const TRANSACTIONS: usize = 100;

/// What happens to the system in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    ImmediateStop,
    KilledPostmaster,
    KilledWorker,
    TerminatedWorker,
    TerminatedLauncher,
    PausedWorker,
    KilledReceiver,
    FullWalVolume,
}

const FAULTS: [Fault; 8] = [
    Fault::ImmediateStop,
    Fault::KilledPostmaster,
    Fault::KilledWorker,
    Fault::TerminatedWorker,
    Fault::TerminatedLauncher,
    Fault::PausedWorker,
    Fault::KilledReceiver,
    Fault::FullWalVolume,
];

#[test]
fn no_committed_change_is_lost_whatever_dies() {
    let rounds = from_environment(ROUNDS).unwrap_or(FAULTS.len());
    let seed = from_environment(SEED).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(0, |now| u64::from(now.subsec_nanos()))
    });
    say(&format!("crash matrix: {rounds} rounds, {SEED}={seed}"));
    let started = Instant::now();
    let mut dice = Dice(seed);
    let world = World::new(seed);
    let tenants = world.tenants();
    let mut diary = Diary::default();
    for (round, fault) in plan(rounds, &mut dice).into_iter().enumerate() {
        let round_started = Instant::now();
        world.round(round, fault, &tenants, &mut dice, &mut diary);
        let figures = world.check(&diary, fault);
        say(&format!(
            "round {:2} {fault:?}: {figures}, {:.1} s",
            round + 1,
            round_started.elapsed().as_secs_f64()
        ));
    }
    world.drain();
    let figures = world.check(&diary, "the end");
    assert_eq!(figures.waiting, 0, "everything is delivered at the end");
    say(&format!(
        "crash matrix: {rounds} rounds, {figures}, {:.0} s",
        started.elapsed().as_secs_f64()
    ));
}

/// Each fault once, then again in another order.
fn plan(rounds: usize, dice: &mut Dice) -> Vec<Fault> {
    let mut plan = Vec::with_capacity(rounds);
    while plan.len() < rounds {
        let mut faults = FAULTS.to_vec();
        while !faults.is_empty() {
            plan.push(faults.swap_remove(dice.below(faults.len())));
        }
    }
    plan.truncate(rounds);
    plan
}

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let parsed = text.parse().ok();
    assert!(parsed.is_some(), "{name} is not a number: {text}");
    parsed
}

/// Prints past libtest, which swallows what a successful test prints.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("write to standard error");
}

/// A small random number generator (splitmix64): a seed repeats its choices.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a small number");
        usize::try_from(self.next() % bound).expect("a small number")
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the writers know of their own transactions: the client's side of the oracle.
#[derive(Default)]
struct Diary {
    /// Operation, marker and number of rows that COMMIT has acknowledged.
    committed: Vec<(&'static str, String, i64)>,
    /// Markers that were rolled back, with a whole transaction or to a savepoint.
    undone: Vec<String>,
}

/// The result of one check.
struct Figures {
    changes: i64,
    deliveries: i64,
    delivered: i64,
    waiting: i64,
    requests: i64,
    duplicates: i64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figures {
            changes,
            deliveries,
            delivered,
            waiting,
            requests,
            duplicates,
        } = self;
        write!(
            f,
            "{changes} changes, {deliveries} deliveries ({delivered} delivered, {waiting} waiting), \
             {requests} requests, {duplicates} duplicates"
        )
    }
}

/// Each request that the receivers got: the delivery's id, and what they answered.
type Received = Arc<Mutex<Vec<(String, i32)>>>;

/// The system under test. The server goes before its volume.
struct World {
    database: Database,
    server: Server,
    wal: Option<Volume>,
    /// Never stops.
    steady: Receiver,
    /// Is killed in some rounds.
    shaky: Receiver,
    received: Received,
    calm: Arc<AtomicBool>,
}

impl World {
    fn new(seed: u64) -> World {
        let server = Server::builder(Tree::shared())
            .preloaded()
            .settings(&[
                ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
                ("plugin_webhooks.poll_interval", "100ms"),
                // A receiver that fails most of the time would hardly be tried.
                ("plugin_webhooks.max_probe_interval", "100ms"),
                ("min_wal_size", "32MB"),
                ("max_wal_size", "64MB"),
            ])
            .start();
        let wal = server.move_wal_to_volume(256);
        if wal.is_none() {
            say("no right to mount a small volume: rounds of FullWalVolume do nothing");
        }
        let database = project(&server);
        create_tracked_table(&mut database.client(), "items");
        let world = World {
            database,
            server,
            wal,
            steady: Receiver::http(),
            shaky: Receiver::http(),
            received: Received::default(),
            calm: Arc::default(),
        };
        world.answer(&world.steady, "/fast", seed, |_| Reply::ok());
        world.answer(&world.steady, "/slow", seed, |dice| {
            let delay = u64::try_from(dice.below(200)).expect("a small number");
            Reply::Delay(Duration::from_millis(delay), Box::new(Reply::ok()))
        });
        world.answer(&world.shaky, "/mixed", seed, |dice| match dice.below(10) {
            0 | 1 => Reply::Status(500, "not today".into()),
            2 => Reply::Close,
            3 => Reply::Delay(Duration::from_millis(300), Box::new(Reply::ok())),
            _ => Reply::ok(),
        });
        world.answer(&world.shaky, "/failing", seed, |dice| {
            let status = if dice.percent(80) { 503 } else { 200 };
            Reply::Status(status, String::new())
        });
        world
    }

    /// Answers as `choose` says, until the world is calm; keeps what was answered.
    fn answer(
        &self,
        receiver: &Receiver,
        path: &str,
        seed: u64,
        choose: impl Fn(&mut Dice) -> Reply + Send + Sync + 'static,
    ) {
        let dice = Mutex::new(Dice(seed));
        let (received, calm) = (Arc::clone(&self.received), Arc::clone(&self.calm));
        receiver.on(path, move |request| {
            let reply = if calm.load(Ordering::Relaxed) {
                Reply::ok()
            } else {
                choose(&mut lock(&dice))
            };
            let status = match &reply {
                Reply::Status(status, _) => i32::from(*status),
                Reply::Delay(..) => 200,
                _ => 0,
            };
            let delivery = request.header("X-Plugin-Delivery-Id");
            lock(&received).push((delivery.unwrap_or_default().to_owned(), status));
            reply
        });
    }

    fn tenants(&self) -> Vec<Tenant<'_>> {
        let install = |receiver: &Receiver, path: &str| {
            let url = receiver.url(path);
            let config = format!(r#"{{"webhook_url": "{url}", "timeout_ms": 2000}}"#);
            Tenant::install(&self.database, &config)
        };
        let everything = ["INSERT", "UPDATE", "DELETE"];
        let fast = install(&self.steady, "/fast");
        fast.subscribe("items", &everything, None, true);
        let slow = install(&self.steady, "/slow");
        slow.subscribe("items", &["INSERT"], None, false);
        let mixed = install(&self.shaky, "/mixed");
        mixed.subscribe("items", &everything, Some(&["title"]), false);
        let failing = install(&self.shaky, "/failing");
        failing.subscribe("items", &["UPDATE", "DELETE"], Some(&["note"]), false);
        vec![fast, slow, mixed, failing]
    }

    /// Writers at work; somewhere in between the fault strikes and ends.
    fn round(
        &self,
        round: usize,
        fault: Fault,
        tenants: &[Tenant<'_>],
        dice: &mut Dice,
        diary: &mut Diary,
    ) {
        self.make_retries_due(&mut self.database.client());
        let commits = AtomicUsize::new(0);
        let strike_at = 1 + dice.below(WRITERS * TRANSACTIONS / 2);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|number| {
                    let writer = Writer {
                        world: self,
                        tenants,
                        name: format!("w{number}-r{round}"),
                        dice: Dice(dice.next()),
                        commits: &commits,
                    };
                    scope.spawn(move || writer.work())
                })
                .collect();
            wait_until(SOON, "the load", || {
                commits.load(Ordering::Relaxed) >= strike_at
            });
            self.strike(fault, dice);
            for writer in writers {
                let written = writer.join().expect("the writer ends well");
                diary.committed.extend(written.committed);
                diary.undone.extend(written.undone);
            }
        });
    }

    fn strike(&self, fault: Fault, dice: &mut Dice) {
        match fault {
            Fault::ImmediateStop => {
                self.server.stop(StopMode::Immediate);
                self.server.start_again();
            }
            Fault::KilledPostmaster => {
                self.server.crash();
                self.server.start_again();
            }
            Fault::KilledWorker => self.server.kill_9_and_recover(self.process("worker")),
            Fault::TerminatedWorker => self.terminate("worker"),
            Fault::TerminatedLauncher => self.terminate("launcher"),
            Fault::PausedWorker => self.pause_worker_past_its_lease(dice),
            Fault::KilledReceiver => {
                self.shaky.stop();
                self.wait_for_commits();
                self.shaky.start_again();
            }
            Fault::FullWalVolume => self.fill_wal_volume(),
        }
    }

    /// The process id of the worker or the launcher.
    fn process(&self, kind: &str) -> i32 {
        let mut client = self.database.client();
        let mut pid = None;
        wait_until(SOON, kind, || {
            pid = value(
                &mut client,
                &format!(
                    "select (select pid from pg_stat_activity
                             where backend_type = 'plugin_webhooks {kind}' and state is not null
                               and (datname = current_database() or datname is null) limit 1)"
                ),
            );
            pid.is_some()
        });
        pid.expect("waited for it")
    }

    fn terminate(&self, kind: &str) {
        self.server.terminate(self.process(kind));
    }

    /// The shortest lease is 150 seconds, so the test ages the leases instead of waiting: as
    /// superuser, and without waiting for rows that the frozen worker has locked.
    fn pause_worker_past_its_lease(&self, dice: &mut Dice) {
        let pid = self.process("worker");
        let hand_over = dice.percent(50);
        let (done, is_done) = mpsc::channel::<()>();
        thread::scope(|scope| {
            self.server.pause(pid);
            scope.spawn(move || {
                // A process that is frozen inside one of PostgreSQL's own short locks holds up everybody.
                let _ = is_done.recv_timeout(LONGEST_PAUSE);
                self.server.resume(pid);
            });
            let mut client = self.database.client();
            execute(&mut client, AGE_LEASES);
            if hand_over {
                // The processor returns the rows to the queue and hands them over: newer claims.
                execute(&mut client, "select rpc_process_plugin_deliveries(1000)");
            }
            self.wait_for_commits();
            drop(done);
        });
    }

    /// Waits until the load has gone on for a moment.
    fn wait_for_commits(&self) {
        let mut client = self.database.client();
        let seen = "select coalesce(max(id), 0) from audit.entity_changes";
        let before: i64 = value(&mut client, seen);
        let patience = Instant::now() + Duration::from_secs(2);
        // The writers may have finished their part already.
        wait_until(SOON, "more changes", || {
            value::<i64>(&mut client, seen) > before + 20 || Instant::now() > patience
        });
    }

    /// PostgreSQL panics when it cannot write WAL and does not come back before there is room.
    fn fill_wal_volume(&self) {
        let Some(volume) = &self.wal else { return };
        let told = self.server.log().len();
        let says = |text: &str| self.server.log()[told..].contains(text);
        self.server.allow_log("No space left on device");
        self.server.allow_log("was terminated by signal 6");
        volume.fill();
        wait_until(SOON, "the panic", || {
            if let Ok(mut client) = self.server.try_connect_as("postgres", "postgres") {
                let _ = client.batch_execute("select pg_switch_wal()");
            }
            says("PANIC")
        });
        assert!(says("No space left on device"));
        // The one that panicked held locks: without the postmaster the others would wait for ever.
        wait_until(SOON, "the end of all sessions", || {
            says("all server processes terminated")
        });
        self.server.crash();
        volume.make_room();
        self.server.start_again();
    }

    fn make_retries_due(&self, client: &mut Client) {
        execute(
            client,
            "update int.plugin_delivery_queue set next_attempt_at = clock_timestamp(), attempts = 0
             where id in (select id from int.plugin_delivery_queue
                          where status = 'pending' and (attempts > 0 or next_attempt_at > clock_timestamp())
                          for update skip locked)",
        );
    }

    /// Every receiver answers 200 from now on: nothing may stay.
    fn drain(&self) {
        self.calm.store(true, Ordering::Relaxed);
        let mut client = self.database.client();
        wait_until(2 * SOON, "the queue to be empty", || {
            self.make_retries_due(&mut client);
            value::<i64>(
                &mut client,
                "select count(*) from int.plugin_delivery_queue where status <> 'delivered'",
            ) == 0
        });
    }

    /// The promises, after a fault is over.
    fn check(&self, diary: &Diary, when: impl std::fmt::Debug) -> Figures {
        let mut client = self.database.client();
        let over: String = value(&mut client, "select clock_timestamp()::text");
        wait_until(SOON, "no row to be claimed longer than its lease", || {
            value::<i64>(
                &mut client,
                "select count(*) from int.plugin_delivery_queue
                 where status = 'sending' or status = 'pending' and lease_expires_at < clock_timestamp()",
            ) == 0
        });
        wait_until(SOON, "every older claim to be over", || {
            value::<i64>(
                &mut client,
                &format!(
                    "select count(*) from int.plugin_delivery_queue
                     where status = 'pending' and claim_id is not null and sent_at < '{over}'"
                ),
            ) == 0
        });
        self.load_receivers_log(&mut client);
        load_diary(&mut client, diary);
        let lost = rows(&mut client, LOST);
        assert!(lost.is_empty(), "after {when:?}, lost: {lost:#?}");
        let misremembered = rows(&mut client, MISREMEMBERED);
        assert!(
            misremembered.is_empty(),
            "after {when:?}, not what was committed: {misremembered:#?}"
        );
        figures(&mut client)
    }

    fn load_receivers_log(&self, client: &mut Client) {
        // The queue first: whatever it calls delivered is in the log by then.
        execute(
            client,
            "create temp table if not exists received (delivery uuid, status int);
             truncate received;
             create temp table if not exists queue (like int.plugin_delivery_queue);
             truncate queue;
             insert into queue select * from int.plugin_delivery_queue;",
        );
        let log = lock(&self.received).clone();
        let lines = log.iter().map(|(id, status)| format!("{id}\t{status}\n"));
        copy(client, "received", lines);
        // A crash forgets the counters that autovacuum goes by.
        execute(
            client,
            "analyze received; analyze queue; analyze audit.entity_changes;
             set enable_nestloop = off; set enable_mergejoin = off;",
        );
    }
}

const AGE_LEASES: &str = "
    update int.plugin_delivery_queue set lease_expires_at = clock_timestamp() - interval '1 second'
    where id in (select id from int.plugin_delivery_queue where status = 'pending' and lease_expires_at is not null
                 for update skip locked)";

/// The oracle: committed changes that somebody subscribed to, without those that are queued and without
/// those that a receiver has accepted. The matching is written down a second time, on purpose.
const LOST: &str = "
    select c.id || ' ' || c.operation || ' for ' || s.plugin_installation_id || ': '
           || coalesce(q.status || ' ' || q.id, 'no delivery')
    from audit.entity_changes as c
    join int.plugin_installations as i on i.tenant_id = c.tenant_id
    join int.plugin_webhook_subscriptions as s on s.plugin_installation_id = i.id
        and (s.table_schema, s.table_name) = (c.table_schema, c.table_name)
        and c.operation = any (s.operations)
        and (c.operation <> 'UPDATE' or s.changed_fields_allowlist is null
             or s.changed_fields_allowlist && c.changed_fields)
    left join queue as q on q.plugin_installation_id = i.id and q.source_entity_change_id = c.id
    where q.status is distinct from 'pending' and q.status is distinct from 'sending'
      and not exists (select from received as r where r.delivery = q.id and r.status = 200)
    limit 10";

/// Acknowledged writes that the audit log does not show, and undone ones that it does.
const MISREMEMBERED: &str = "
    with seen as (
        select operation, case operation when 'INSERT' then new_data ->> 'title' else new_data ->> 'note' end
                   as marker, count(*) as rows
        from audit.entity_changes where operation <> 'DELETE' group by 1, 2
    )
    select 'committed: ' || d.operation || ' ' || d.marker || ' ' || d.rows || ', audited: ' || coalesce(seen.rows, 0)
    from diary as d left join seen using (operation, marker)
    where d.rows <> coalesce(seen.rows, 0)
    limit 10";

fn load_diary(client: &mut Client, diary: &Diary) {
    execute(
        client,
        "create temp table if not exists diary (operation text, marker text, rows bigint); truncate diary",
    );
    let committed = diary
        .committed
        .iter()
        .map(|(operation, marker, rows)| format!("{operation}\t{marker}\t{rows}\n"));
    let undone = diary.undone.iter().flat_map(|marker| {
        ["INSERT", "UPDATE"].map(|operation| format!("{operation}\t{marker}\t0\n"))
    });
    copy(client, "diary", committed.chain(undone));
    execute(client, "analyze diary");
}

fn copy(client: &mut Client, table: &str, lines: impl Iterator<Item = String>) {
    let mut writer = client
        .copy_in(&format!("copy {table} from stdin"))
        .expect("begin COPY");
    let text: String = lines.collect();
    writer.write_all(text.as_bytes()).expect("COPY");
    writer.finish().expect("end COPY");
}

fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    let rows = client
        .query(sql, &[])
        .unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)));
    rows.iter().map(|row| row.get(0)).collect()
}

fn figures(client: &mut Client) -> Figures {
    let row = client.query_one(
        "select (select count(*) from audit.entity_changes),
                count(*), count(*) filter (where status = 'delivered'),
                count(*) filter (where status in ('pending', 'sending')),
                (select count(*) from received),
                (select count(*) - count(distinct delivery) from received where status = 200)
         from queue",
        &[],
    );
    let row = row.expect("the figures");
    Figures {
        changes: row.get(0),
        deliveries: row.get(1),
        delivered: row.get(2),
        waiting: row.get(3),
        requests: row.get(4),
        duplicates: row.get(5),
    }
}

/// One session after the other that changes items until its share of the round is done.
struct Writer<'a> {
    world: &'a World,
    tenants: &'a [Tenant<'a>],
    name: String,
    dice: Dice,
    commits: &'a AtomicUsize,
}

/// What one transaction did, if it commits.
#[derive(Default)]
struct Written {
    committed: Vec<(&'static str, String, i64)>,
    undone: Vec<String>,
}

impl Writer<'_> {
    fn work(mut self) -> Diary {
        let mut diary = Diary::default();
        let mut client = self.connect();
        for number in 0..TRANSACTIONS {
            let mut written = Written::default();
            match self.transaction(&mut client, number, &mut written) {
                Ok(()) => {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    diary.committed.append(&mut written.committed);
                    diary.undone.append(&mut written.undone);
                }
                // Whether a COMMIT that was not answered has happened, only the server knows; what was
                // rolled back to a savepoint is undone in any case.
                Err(error) => {
                    assert!(
                        client.is_closed() || is_end_of_server(&error),
                        "{}",
                        describe(&error)
                    );
                    diary.undone.append(&mut written.undone);
                    client = self.connect();
                }
            }
        }
        diary
    }

    fn connect(&self) -> Client {
        let mut client = None;
        wait_until(SOON, "a session", || {
            let server = self.world.database.server();
            client = server
                .try_connect_as(self.world.database.name(), "postgres")
                .ok();
            client.is_some()
        });
        client.expect("waited for it")
    }

    /// A few statements of one tenant, some of them undone; `written` is right once it returns `Ok`.
    fn transaction(
        &mut self,
        client: &mut Client,
        number: usize,
        written: &mut Written,
    ) -> Result<(), postgres::Error> {
        let tenant = &self.tenants[self.dice.below(self.tenants.len())].id;
        let mut transaction = client.transaction()?;
        for statement in 0..=self.dice.below(3) {
            let marker = format!("{}-t{number}-s{statement}", self.name);
            match self.dice.below(10) {
                0..=4 => {
                    let rows = insert(&mut transaction, tenant, &marker, 1 + self.dice.below(5))?;
                    written.committed.push(("INSERT", marker, rows));
                }
                5 | 6 => {
                    let rows = update(&mut transaction, tenant, &marker)?;
                    written.committed.push(("UPDATE", marker, rows));
                }
                7 => {
                    transaction.execute(
                        "delete from items where id in
                             (select id from items where tenant_id = $1::text::uuid
                              order by id desc limit 1 for update skip locked)",
                        &[tenant],
                    )?;
                }
                _ => {
                    let mut savepoint = transaction.savepoint("part")?;
                    insert(&mut savepoint, tenant, &marker, 3)?;
                    update(&mut savepoint, tenant, &marker)?;
                    savepoint.rollback()?;
                    written.undone.push(marker);
                }
            }
        }
        if self.dice.percent(15) {
            let undone = written.committed.drain(..).map(|(_, marker, _)| marker);
            written.undone.extend(undone);
            return transaction.rollback();
        }
        transaction.commit()
    }
}

/// The session was lost: its server goes down, or panicked because its disk was full.
fn is_end_of_server(error: &postgres::Error) -> bool {
    let is_fatal = |code: &str| code.starts_with("57P") || code == "53100";
    error.code().is_none_or(|code| is_fatal(code.code()))
}

fn insert(
    transaction: &mut postgres::Transaction<'_>,
    tenant: &str,
    marker: &str,
    rows: usize,
) -> Result<i64, postgres::Error> {
    let rows = i32::try_from(rows).expect("a small number");
    let done = transaction.execute(
        "insert into items (tenant_id, title) select $1::text::uuid, $2 from generate_series(1, $3)",
        &[&tenant, &marker, &rows],
    )?;
    Ok(i64::try_from(done).expect("a small number"))
}

fn update(
    transaction: &mut postgres::Transaction<'_>,
    tenant: &str,
    marker: &str,
) -> Result<i64, postgres::Error> {
    let done = transaction.execute(
        "update items set note = $2, title = title || case when random() < 0.5 then '+' else '' end
         where id in (select id from items where tenant_id = $1::text::uuid
                      order by id desc limit 2 for update skip locked)",
        &[&tenant, &marker],
    )?;
    Ok(i64::try_from(done).expect("a small number"))
}
