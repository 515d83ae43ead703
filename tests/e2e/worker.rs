//! The worker's life: when it is there, when it goes, what it holds meanwhile, and that nothing is lost
//! when it dies.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, Receiver, Reply, Server, ServerBuilder, StopMode, Tenant, Tree, as_service,
    assert_delivers, create_tracked_table, execute, expect_sqlstate, project_with_items,
    quote_ident, value, verify_signature, wait_until,
};

/// A server under load may be slow; a promise that is kept never waits that long.
const SOON: Duration = Duration::from_secs(30);

/// Requests in flight to a receiver that has not answered yet.
const FIRST_WINDOW: usize = 4;

fn builder() -> ServerBuilder {
    Server::builder(Tree::shared()).settings(&[
        ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
        ("plugin_webhooks.poll_interval", "100ms"),
        ("fsync", "off"),
    ])
}

/// For the tests that leave the server and its settings alone.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| builder().preloaded().start())
}

/// The workers of the session's database.
fn workers(client: &mut Client) -> Vec<i32> {
    let rows = client.query(
        "select pid from pg_stat_activity
         where backend_type = 'plugin_webhooks worker' and datname = current_database() and state is not null",
        &[],
    );
    rows.expect("ask for the workers")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[track_caller]
fn wait_for_worker(client: &mut Client) -> i32 {
    let mut pids = Vec::new();
    wait_until(SOON, "one worker of the database", || {
        pids = workers(client);
        pids.len() == 1
    });
    pids[0]
}

#[track_caller]
fn wait_for_no_worker(client: &mut Client) -> Duration {
    wait_until(SOON, "the worker to leave", || workers(client).is_empty())
}

/// Waits until the worker has looked at the queue at least `looks` times more.
#[track_caller]
fn wait_for_looks(client: &mut Client, looks: usize) {
    let mut seen = BTreeSet::new();
    wait_until(SOON, "the worker to look at the queue", || {
        let changed: Option<String> = value(
            client,
            "select (select state_change::text from pg_stat_activity where pid = plugin_webhooks.worker_pid())",
        );
        seen.extend(changed);
        // Each look is two changes, and the first one seen may be old.
        seen.len() > 2 * looks
    });
}

/// A call of the processor by the trusted backend; `batch` is SQL, such as `()` or `(7)`.
#[track_caller]
fn process(database: &Database, batch: &str) -> i32 {
    as_service(database, |call| {
        let row = call.query_one(&format!("select rpc_process_plugin_deliveries{batch}"), &[])?;
        Ok(row.get(0))
    })
}

/// A tenant whose receiver never answers, in a project of which nobody waits for the timeout.
fn frozen<'a>(database: &'a Database, receiver: &Receiver) -> Tenant<'a> {
    receiver.answer("/frozen", Reply::Hang);
    let config = format!(
        r#"{{"webhook_url": "{}", "timeout_ms": 120000}}"#,
        receiver.url("/frozen")
    );
    let tenant = Tenant::install(database, &config);
    tenant.subscribe("items", &["INSERT"], None, false);
    tenant
}

/// How many requests of each delivery came.
fn requests_by_delivery(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in receiver.requests() {
        let id = request
            .header("X-Plugin-Delivery-Id")
            .expect("the header")
            .to_owned();
        *counts.entry(id).or_default() += 1;
    }
    counts
}

/// Calls the processor in several sessions at once, all of them connected before the first call.
fn process_at_once(database: &Database, sessions: usize) {
    let mut clients: Vec<Client> = (0..sessions).map(|_| database.client()).collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| execute(client, "select rpc_process_plugin_deliveries(100)"));
        }
    });
}

/// Sixteen tenants with a receiver that never answers: 64 requests are out, 16 more deliveries wait.
fn freeze_64(database: &Database, receiver: &Receiver) {
    let mut client = database.client();
    for _ in 0..64 / FIRST_WINDOW {
        frozen(database, receiver).insert_items(&mut client, 5);
    }
    receiver.wait_for(64, SOON);
}

mod presence {
    use super::*;

    #[test]
    fn each_database_with_the_extension_has_one_worker_that_serves_it() {
        let databases = [project_with_items(server()), project_with_items(server())];
        let mut pids = HashSet::new();
        for database in &databases {
            let mut client = database.client();
            let pid = wait_for_worker(&mut client);
            pids.insert(pid);
            let told: Option<i32> =
                value(&mut client, "select worker_pid from plugin_webhooks.health");
            assert_eq!(told, Some(pid));
        }
        assert_eq!(pids.len(), 2);
        for database in &databases {
            assert_delivers(database, &Receiver::http());
            assert_eq!(workers(&mut database.client()).len(), 1);
        }
    }

    #[test]
    fn a_database_without_the_extension_keeps_no_worker() {
        let database = server().empty_database();
        let mut client = database.client();
        // Another database being served shows that the launcher has looked since.
        project_with_items(server());
        wait_for_no_worker(&mut client);
    }

    #[test]
    fn create_extension_brings_the_worker_without_a_restart() {
        let own = builder().preloaded().start();
        let database = own.empty_database();
        let mut client = database.client();
        assert_eq!(workers(&mut client), []);
        execute(&mut client, "create extension plugin_webhooks");
        wait_for_worker(&mut client);
    }

    #[test]
    fn create_extension_leaves_the_session_as_it_was() {
        let database = server().empty_database();
        let mut client = database.client();
        let settings = "select string_agg(name || '=' || setting, E'\n' order by name)
                        from pg_settings where name not like 'plugin_webhooks.%' and source = 'session'";
        execute(&mut client, "set search_path = public");
        let before: Option<String> = value(&mut client, settings);
        execute(&mut client, "create extension plugin_webhooks");
        let after: Option<String> = value(&mut client, settings);
        assert_eq!(after, before);
    }

    #[test]
    fn drop_extension_while_requests_are_out_is_quick_and_the_worker_leaves() {
        let (database, receiver) = (project_with_items(server()), Receiver::http());
        let mut client = database.client();
        freeze_64(&database, &receiver);
        let started = Instant::now();
        execute(&mut client, "drop extension plugin_webhooks cascade");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        wait_for_no_worker(&mut client);
        execute(&mut client, "create extension plugin_webhooks");
        execute(&mut database.client(), "select audit.track('items')");
        assert_delivers(&database, &receiver);
    }

    #[test]
    fn an_extension_that_is_dropped_and_created_at_once_is_served_at_once() {
        // On a server of its own: any CREATE EXTENSION makes the launcher look.
        let own = builder().preloaded().start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let mut client = database.client();
        wait_for_worker(&mut client);
        execute(&mut client, "drop extension plugin_webhooks cascade");
        execute(&mut client, "create extension plugin_webhooks");
        execute(&mut database.client(), "select audit.track('items')");
        assert_delivers(&database, &receiver);
    }

    #[test]
    fn drop_database_with_force_does_not_wait_for_requests_that_are_out() {
        let (database, receiver) = (project_with_items(server()), Receiver::http());
        freeze_64(&database, &receiver);
        let mut client = server().connect("postgres");
        let started = Instant::now();
        execute(
            &mut client,
            &format!(
                "drop database {} with (force)",
                quote_ident(database.name())
            ),
        );
        let took = started.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
    }

    #[test]
    fn without_a_free_background_worker_a_preloaded_server_says_so_in_its_log() {
        let own = builder()
            .preloaded()
            .setting("max_worker_processes", "2")
            .start();
        let database = project_with_items(&own);
        wait_until(SOON, "the warning", || {
            own.log()
                .lines()
                .any(|line| line.contains("max_worker_processes"))
        });
        let mut client = database.client();
        let tenant = Tenant::with_items_to(&database, &Receiver::http().url("/"));
        tenant.insert_items(&mut client, 1);
        assert_eq!(process(&database, "()"), 0);
        assert_eq!(tenant.delivery(&mut client).status, "pending");
    }

    #[test]
    fn a_database_that_found_no_free_background_worker_is_served_once_one_is_free() {
        // PostgreSQL's own launcher, ours, and one worker.
        let own = builder()
            .preloaded()
            .setting("max_worker_processes", "3")
            .start();
        let (first, receiver) = (project_with_items(&own), Receiver::http());
        assert_delivers(&first, &receiver);
        let second = project_with_items(&own);
        let tenant = Tenant::with_items_to(&second, &receiver.url("/second"));
        let mut client = second.client();
        tenant.insert_items(&mut client, 1);
        wait_until(SOON, "the warning with its remedy", || {
            let log = own.log();
            log.contains("no background worker can be started, deliveries wait")
                && log.contains("Raise max_worker_processes")
        });
        assert_eq!(tenant.delivery(&mut client).status, "pending");
        execute(
            &mut first.client(),
            "drop extension plugin_webhooks cascade",
        );
        tenant.wait_delivered(&mut client, SOON);
    }

    #[test]
    fn a_database_without_the_extension_costs_no_line_in_the_log() {
        let own = builder().preloaded().start();
        let _without = own.empty_database();
        // Other databases being served shows that the launcher has looked since.
        let served: Vec<Database> = (0..3).map(|_| project_with_items(&own)).collect();
        for database in &served {
            wait_for_worker(&mut database.client());
        }
        let log = own.log();
        let complaints: Vec<&str> = log
            .lines()
            .filter(|line| {
                ["WARNING", "ERROR", "FATAL", "exit code"]
                    .iter()
                    .any(|word| line.contains(word))
            })
            .collect();
        assert_eq!(complaints, Vec::<&str>::new());
    }

    #[test]
    fn a_database_that_was_dropped_with_force_and_created_again_is_served() {
        for own in [builder().preloaded().start(), builder().start()] {
            let (database, receiver) = (project_with_items(&own), Receiver::http());
            frozen(&database, &receiver).insert_items(&mut database.client(), 3);
            process(&database, "()");
            receiver.wait_for(3, SOON);
            let name = quote_ident(database.name());
            let mut client = own.connect("postgres");
            let refused = client.batch_execute(&format!("drop database {name}"));
            expect_sqlstate(refused, "55006");
            execute(&mut client, &format!("drop database {name} with (force)"));
            execute(
                &mut client,
                &format!("create database {name} template template0"),
            );
            let mut inside = database.client();
            execute(&mut inside, "create extension plugin_webhooks");
            create_tracked_table(&mut inside, "items");
            let tenant = Tenant::with_items_to(&database, &receiver.url("/again"));
            tenant.insert_items(&mut inside, 1);
            process(&database, "()");
            tenant.wait_delivered(&mut inside, SOON);
        }
    }
}

mod alone {
    use super::*;

    #[test]
    fn the_launcher_starts_no_second_worker_beside_one_of_the_processor() {
        let own = builder()
            .preloaded()
            .setting("log_min_messages", "debug1")
            .start();
        let database = project_with_items(&own);
        let mut client = database.client();
        let pid = wait_for_worker(&mut client);
        let started = || {
            let oid: String = value(
                &mut database.client(),
                "select oid::text from pg_database where datname = current_database()",
            );
            let line = format!(
                "starting background worker process \"plugin_webhooks worker for database {oid}\""
            );
            own.log().matches(&line).count()
        };
        let before = started();
        execute(
            &mut client,
            &format!("select pg_terminate_backend({pid}, 10000)"),
        );
        process(&database, "()");
        let successor = wait_for_worker(&mut client);
        // The launcher looks once a second.
        let mut looks = BTreeSet::new();
        wait_until(SOON, "the launcher to look", || {
            let look: Option<String> = value(
                &mut client,
                "select max(state_change)::text from pg_stat_activity where backend_type = 'plugin_webhooks launcher'",
            );
            looks.extend(look);
            looks.len() > 5
        });
        assert_eq!(wait_for_worker(&mut client), successor);
        assert_eq!(started(), before + 1);
    }

    #[test]
    fn the_processor_starts_no_second_worker_beside_one_that_delivers() {
        for own in [builder().preloaded().start(), builder().start()] {
            let (database, receiver) = (project_with_items(&own), Receiver::http());
            let mut client = database.client();
            frozen(&database, &receiver).insert_items(&mut client, 4);
            process(&database, "()");
            receiver.wait_for(4, SOON);
            let pid = wait_for_worker(&mut client);
            for _ in 0..5 {
                process_at_once(&database, 8);
            }
            assert_eq!(wait_for_worker(&mut client), pid);
            assert_delivers(&database, &receiver);
            let twice = requests_by_delivery(&receiver);
            assert!(twice.values().all(|times| *times == 1), "{twice:?}");
        }
    }

    /// If two of the new workers delivered, the second would return the first one's claims to the queue
    /// and send them once more.
    #[test]
    fn of_many_workers_that_start_at_once_after_a_death_exactly_one_delivers() {
        let own = builder().start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        const OUT: usize = FIRST_WINDOW;
        frozen(&database, &receiver).insert_items(&mut database.client(), 4);
        process(&database, "()");
        receiver.wait_for(OUT, SOON);
        for death in 1..=4 {
            let pid = wait_for_worker(&mut database.client());
            if death % 2 == 0 {
                own.kill_9_and_recover(pid);
            } else {
                execute(
                    &mut database.client(),
                    &format!("select pg_terminate_backend({pid}, 10000)"),
                );
            }
            process_at_once(&database, 12);
            receiver.wait_for(OUT * (death + 1), SOON);
            let mut client = database.client();
            assert_ne!(wait_for_worker(&mut client), pid);
            wait_for_looks(&mut client, 2);
            let sent = requests_by_delivery(&receiver);
            assert_eq!(sent.len(), OUT);
            assert!(sent.values().all(|times| *times == death + 1), "{sent:?}");
        }
    }

    #[test]
    fn the_lock_of_the_only_worker_is_out_of_reach_for_everybody_else() {
        let database = project_with_items(server());
        let mut client = database.client();
        let pid = wait_for_worker(&mut client);
        let lock = format!(
            "select format('%s %s', classid::int8 << 32 | objid::int8, count(*) over ())
             from pg_locks where pid = {pid} and locktype = 'advisory' and granted"
        );
        let held: String = value(&mut client, &lock);
        let (key, count) = held.split_once(' ').expect("two words");
        assert_eq!(count, "1");
        // The same numbers, taken with SQL's functions, are another lock.
        let key: i64 = key.parse().expect("a number");
        let free: bool = value(
            &mut client,
            &format!(
                "select pg_try_advisory_lock({key}) and pg_try_advisory_lock(({key} >> 32)::int, {key}::bit(32)::int)"
            ),
        );
        assert!(free);
    }
}

mod death {
    use super::*;

    #[test]
    fn a_terminated_worker_is_replaced_and_what_it_had_claimed_is_sent() {
        let own = builder().preloaded().start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let frozen = frozen(&database, &receiver);
        let mut client = database.client();
        frozen.insert_items(&mut client, 3);
        receiver.wait_for(3, SOON);
        let pid = wait_for_worker(&mut client);
        receiver.answer("/frozen", Reply::ok());
        execute(&mut client, &format!("select pg_terminate_backend({pid})"));
        let deliveries = frozen.wait_delivered(&mut client, SOON);
        assert!(deliveries.iter().all(|delivery| delivery.attempts == 0));
        assert_ne!(wait_for_worker(&mut client), pid);
        assert_eq!(receiver.count(), 6);
    }

    #[test]
    fn kill_9_of_the_worker_loses_no_committed_change() {
        let own = builder().preloaded().setting("fsync", "on").start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        receiver.answer(
            "/",
            Reply::Delay(Duration::from_millis(20), Box::new(Reply::ok())),
        );
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        for _ in 0..100 {
            tenant.insert_items(&mut client, 2);
        }
        receiver.wait_for(5, SOON);
        let pid = wait_for_worker(&mut client);
        own.kill_9_and_recover(pid);
        let mut client = database.client();
        let deliveries = tenant.wait_delivered(&mut client, SOON);
        assert_eq!(deliveries.len(), 200);
        let requests = receiver.requests();
        let received: HashSet<&str> = requests
            .iter()
            .filter_map(|request| request.header("X-Plugin-Delivery-Id"))
            .collect();
        assert!(
            deliveries
                .iter()
                .all(|delivery| received.contains(&*delivery.id))
        );
    }

    #[test]
    fn a_crash_of_the_server_loses_no_committed_change() {
        let own = builder().preloaded().setting("fsync", "on").start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = frozen(&database, &receiver);
        let mut client = database.client();
        tenant.insert_items(&mut client, 50);
        receiver.wait_for(FIRST_WINDOW, SOON);
        own.crash();
        receiver.answer("/frozen", Reply::ok());
        own.start_again();
        let mut client = database.client();
        assert_eq!(tenant.wait_delivered(&mut client, SOON).len(), 50);
    }

    #[test]
    fn a_fast_stop_does_not_wait_for_64_requests_that_are_out() {
        let own = builder().preloaded().start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        freeze_64(&database, &receiver);
        let took = own.stop(StopMode::Fast);
        assert!(took < Duration::from_secs(1), "{took:?}");
        receiver.answer("/frozen", Reply::ok());
        own.start_again();
        wait_until(SOON, "all deliveries after the restart", || {
            value::<i64>(
                &mut database.client(),
                "select count(*) from int.plugin_delivery_queue where status = 'delivered'",
            ) == 80
        });
    }
}

mod footprint {
    use super::*;

    #[test]
    fn while_requests_are_out_the_worker_holds_no_transaction_snapshot_or_table_lock() {
        let own = builder()
            .preloaded()
            .setting("plugin_webhooks.poll_interval", "60s")
            .start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let mut client = database.client();
        let pid = wait_for_worker(&mut client);
        let out = FIRST_WINDOW;
        frozen(&database, &receiver).insert_items(&mut client, 4);
        receiver.wait_for(out, SOON);
        wait_until(SOON, "the end of the claim", || {
            value::<bool>(
                &mut client,
                &format!("select state = 'idle' from pg_stat_activity where pid = {pid}"),
            )
        });
        for _ in 0..50 {
            let holds: String = value(
                &mut client,
                &format!(
                    "select concat_ws(' ', state, xact_start, backend_xid, backend_xmin,
                                (select string_agg(locktype, ' ') from pg_locks as l where l.pid = a.pid))
                     from pg_stat_activity as a where pid = {pid}"
                ),
            );
            assert_eq!(holds, "idle advisory");
        }
        assert_eq!(receiver.count(), out);
    }

    #[test]
    fn while_requests_are_out_vacuum_removes_every_dead_row() {
        let own = builder()
            .preloaded()
            .settings(&[
                ("autovacuum", "off"),
                ("plugin_webhooks.poll_interval", "60s"),
            ])
            .start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let mut client = database.client();
        frozen(&database, &receiver).insert_items(&mut client, 4);
        receiver.wait_for(FIRST_WINDOW, SOON);
        execute(
            &mut client,
            "update items set note = 'dead row'; delete from items",
        );
        // The launcher's look at the list of databases may hold back one VACUUM, for a moment.
        wait_until(SOON, "a VACUUM that keeps nothing back", || {
            let output =
                database.psql("vacuum (verbose) items; vacuum (verbose) int.plugin_delivery_queue");
            assert!(output.success, "{output:?}");
            let tuples = output
                .stderr
                .lines()
                .filter(|line| line.starts_with("tuples: "));
            tuples.clone().count() >= 2
                && tuples
                    .clone()
                    .all(|line| line.contains(" 0 are dead but not yet removable"))
        });
        assert_eq!(value::<i64>(&mut client, "select count(*) from items"), 0);
        let sending = "select count(*) from int.plugin_delivery_queue where status = 'sending'";
        assert_eq!(value::<i64>(&mut client, sending), 4);
        assert_eq!(receiver.count(), FIRST_WINDOW);
    }

    #[test]
    fn an_idle_worker_takes_no_transaction_id() {
        let own = builder().preloaded().setting("autovacuum", "off").start();
        let database = project_with_items(&own);
        let mut client = database.client();
        wait_for_worker(&mut client);
        wait_for_looks(&mut client, 1);
        let next = "select pg_snapshot_xmax(pg_current_snapshot())::text";
        let before: String = value(&mut client, next);
        wait_for_looks(&mut client, 10);
        let after: String = value(&mut client, next);
        assert_eq!(after, before);
    }
}

mod without_preload {
    use super::*;

    #[test]
    fn the_processor_starts_the_worker_which_leaves_when_idle() {
        let own = builder()
            .setting("plugin_webhooks.worker_idle_timeout", "1s")
            .start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        for _ in 0..2 {
            receiver.clear();
            tenant.insert_items(&mut client, 3);
            assert_eq!(workers(&mut client), []);
            assert_eq!(receiver.count(), 0);
            assert_eq!(process(&database, "()"), 3);
            tenant.wait_delivered(&mut client, SOON);
            assert_eq!(receiver.count(), 3);
            wait_for_no_worker(&mut client);
        }
    }

    #[test]
    fn a_worker_does_not_leave_while_a_call_of_the_processor_counts_on_it() {
        let own = builder()
            .settings(&[
                ("plugin_webhooks.worker_idle_timeout", "1s"),
                ("plugin_webhooks.dispatch", "on_call"),
            ])
            .start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        process(&database, "()");
        let pid = wait_for_worker(&mut client);
        tenant.insert_items(&mut client, 1);
        let mut session = database.client();
        let mut open = session.transaction().expect("begin");
        let moved = open.query_one("select rpc_process_plugin_deliveries()", &[]);
        assert_eq!(moved.expect("the processor").get::<_, i32>(0), 1);
        // Long enough for an idle worker to leave.
        wait_for_looks(&mut client, 15);
        open.commit().expect("commit");
        tenant.wait_delivered(&mut client, SOON);
        assert_eq!(wait_for_worker(&mut client), pid);
        wait_for_no_worker(&mut client);
    }

    #[test]
    fn a_commit_wakes_a_worker_that_the_processor_has_started() {
        let own = builder()
            .setting("plugin_webhooks.poll_interval", "60s")
            .start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let mut client = database.client();
        assert_eq!(process(&database, "()"), 0);
        wait_for_worker(&mut client);
        for _ in 0..3 {
            assert_delivers(&database, &receiver);
        }
    }

    #[test]
    fn without_a_free_background_worker_the_processor_moves_nothing_and_names_the_setting() {
        let own = builder().setting("max_worker_processes", "1").start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 2);
        let output = database.psql("set role service_role; select rpc_process_plugin_deliveries()");
        assert!(output.success, "{output:?}");
        assert_eq!(output.stdout, "0\n");
        assert!(output.stderr.contains("WARNING"), "{output:?}");
        assert!(output.stderr.contains("max_worker_processes"), "{output:?}");
        let waiting = tenant.deliveries(&mut client);
        assert!(waiting.iter().all(|delivery| delivery.status == "pending"));
        assert_eq!(receiver.count(), 0);
    }

    #[test]
    fn the_processor_starts_a_worker_as_soon_as_a_background_worker_is_free() {
        // PostgreSQL's own launcher and one worker.
        let own = builder()
            .settings(&[
                ("max_worker_processes", "2"),
                ("plugin_webhooks.worker_idle_timeout", "1s"),
            ])
            .start();
        let (first, second) = (project_with_items(&own), project_with_items(&own));
        let receiver = Receiver::http();
        process(&first, "()");
        wait_for_worker(&mut first.client());
        let tenant = Tenant::with_items_to(&second, &receiver.url("/"));
        let mut client = second.client();
        tenant.insert_items(&mut client, 1);
        assert_eq!(process(&second, "()"), 0);
        wait_until(SOON, "the first worker to make room", || {
            process(&second, "()") == 1
        });
        tenant.wait_delivered(&mut client, SOON);
    }
}

mod standby {
    use super::*;

    /// The primary is lost with one delivery on its way and one that waits; `take_over` happens after
    /// the promotion.
    #[track_caller]
    fn assert_failover(primary: ServerBuilder, take_over: impl FnOnce(&Server, &str)) {
        // A worker that does not look is in none of PostgreSQL's short locks when it is frozen.
        let primary = primary
            .setting("plugin_webhooks.poll_interval", "60s")
            .start();
        let (database, receiver) = (project_with_items(&primary), Receiver::http());
        let tenant = frozen(&database, &receiver);
        let mut client = database.client();
        tenant.insert_items(&mut client, 1);
        process(&database, "()");
        receiver.wait_for(1, SOON);

        let standby = primary.standby(&[]);
        let mut reader = standby.connect(database.name());
        let statuses =
            "select string_agg(status, ' ' order by status) from int.plugin_delivery_queue";
        let worker = wait_for_worker(&mut client);
        primary.pause(worker);
        tenant.insert_items(&mut client, 1);
        wait_until(SOON, "the standby to catch up", || {
            value::<Option<String>>(&mut reader, statuses).as_deref() == Some("pending sending")
        });

        let ours: i64 = value(
            &mut reader,
            "select count(*) from pg_stat_activity where backend_type like 'plugin_webhooks%'",
        );
        assert_eq!(ours, 0, "a standby has neither launcher nor worker");
        let refused = reader.batch_execute("select rpc_process_plugin_deliveries()");
        let error = expect_sqlstate(refused, "25006");
        assert!(error.hint().is_some_and(|hint| hint.contains("primary")));

        primary.crash();
        primary.kill_9(worker);
        assert_eq!(receiver.count(), 1);
        receiver.answer("/frozen", Reply::ok());
        standby.promote();
        take_over(&standby, database.name());
        wait_until(SOON, "every delivery", || {
            value::<String>(&mut reader, statuses) == "delivered delivered"
        });
        assert_eq!(receiver.count(), 3);
    }

    #[test]
    fn a_standby_sends_nothing_and_delivers_by_itself_after_its_promotion() {
        assert_failover(builder().preloaded(), |_, _| {});
    }

    #[test]
    fn a_standby_without_preload_delivers_after_its_promotion_once_the_processor_is_called() {
        assert_failover(builder(), |standby, database| {
            let mut client = standby.connect(database);
            assert_eq!(workers(&mut client), []);
            execute(&mut client, "select rpc_process_plugin_deliveries()");
        });
    }
}

mod on_call {
    use super::*;

    #[test]
    fn only_what_the_processor_requests_is_sent_in_batches_of_the_asked_size() {
        let own = builder()
            .preloaded()
            .setting("plugin_webhooks.dispatch", "on_call")
            .start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        wait_for_worker(&mut client);
        tenant.insert_items(&mut client, 60);
        let mut sent = 0;
        for (batch, moved) in [
            ("(7)", 7),
            ("(null)", 25),
            ("(0)", 25),
            ("()", 3),
            ("(-1)", 0),
        ] {
            wait_for_looks(&mut client, 3);
            assert_eq!(receiver.count(), sent, "before {batch}");
            assert_eq!(process(&database, batch), moved, "{batch}");
            sent += usize::try_from(moved).expect("a count");
            wait_until(SOON, "the batch", || {
                let deliveries = tenant.deliveries(&mut client);
                deliveries
                    .iter()
                    .filter(|delivery| delivery.status == "delivered")
                    .count()
                    == sent
            });
            let waiting = tenant.deliveries(&mut client);
            let waiting = waiting
                .iter()
                .filter(|delivery| delivery.status == "pending");
            assert_eq!(waiting.count(), 60 - sent);
        }
        assert_eq!(receiver.count(), 60);
    }
}

mod claims {
    use super::*;

    #[test]
    fn a_sending_row_whose_lease_ran_out_is_sent_again_and_no_other() {
        let (database, receiver) = (project_with_items(server()), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 3);
        let deliveries = tenant.wait_delivered(&mut client, SOON);
        receiver.clear();
        let leases = [
            "now() - interval '1 second'",
            "null",
            "now() + interval '1 hour'",
        ];
        for (delivery, lease) in deliveries.iter().zip(leases) {
            execute(
                &mut client,
                &format!(
                    "update int.plugin_delivery_queue set status = 'sending', claim_id = 1, lease_expires_at = {lease}
                     where id = '{}'",
                    delivery.id
                ),
            );
        }
        tenant.wait_for(&mut client, SOON, |delivery| {
            delivery.status == "delivered" || delivery.id == deliveries[2].id
        });
        let requests = receiver.requests();
        let again: HashSet<&str> = requests
            .iter()
            .filter_map(|request| request.header("X-Plugin-Delivery-Id"))
            .collect();
        assert_eq!(
            again,
            HashSet::from([&*deliveries[0].id, &*deliveries[1].id])
        );
        assert_eq!(tenant.deliveries(&mut client)[2].status, "sending");
    }

    #[test]
    fn the_processor_returns_expired_leases_at_once() {
        let own = builder()
            .preloaded()
            .setting("plugin_webhooks.dispatch", "on_call")
            .start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 1);
        execute(
            &mut client,
            "update int.plugin_delivery_queue
             set status = 'sending', claim_id = 1, lease_expires_at = now() - interval '1 second'",
        );
        assert_eq!(process(&database, "()"), 1);
        tenant.wait_delivered(&mut client, SOON);
        assert_eq!(receiver.count(), 1);
    }

    #[test]
    fn the_late_outcome_of_an_older_claim_changes_nothing() {
        let (database, receiver) = (project_with_items(server()), Receiver::http());
        for reply in [Reply::ok(), Reply::Status(500, String::new())] {
            let held = Arc::new(AtomicUsize::new(0));
            let release = Arc::new(AtomicBool::new(false));
            let (holding, released) = (Arc::clone(&held), Arc::clone(&release));
            receiver.on("/held", move |_| {
                holding.fetch_add(1, Ordering::Relaxed);
                wait_until(SOON, "the release", || released.load(Ordering::Relaxed));
                reply.clone()
            });
            let tenant = Tenant::with_items_to(&database, &receiver.url("/held"));
            let mut client = database.client();
            tenant.insert_items(&mut client, 1);
            wait_until(SOON, "the request", || held.load(Ordering::Relaxed) == 1);
            let newer_claim = "update int.plugin_delivery_queue
                 set claim_id = claim_id # 1, lease_expires_at = now() + interval '1 hour'
                 where status = 'sending'";
            execute(&mut client, newer_claim);
            let row = "select string_agg(q::text, '') from int.plugin_delivery_queue as q where status = 'sending'";
            let before: String = value(&mut client, row);
            let count = receiver.count();
            release.store(true, Ordering::Relaxed);
            receiver.wait_for(count + 1, SOON);
            // A later request that is settled shows that the outcome has been read.
            assert_delivers(&database, &receiver);
            wait_for_looks(&mut client, 2);
            let after: String = value(&mut client, row);
            assert_eq!(after, before);
            execute(&mut client, "delete from int.plugin_delivery_queue");
        }
    }

    #[test]
    fn the_late_outcome_of_an_older_claim_does_not_undo_the_newer_one() {
        let own = builder().preloaded().start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let order = Arc::new(AtomicUsize::new(0));
        let release = Arc::new(AtomicBool::new(false));
        let (arrivals, released) = (Arc::clone(&order), Arc::clone(&release));
        // The first request is held and then refused; the second is accepted at once.
        receiver.on("/held", move |_| {
            if arrivals.fetch_add(1, Ordering::Relaxed) > 0 {
                return Reply::ok();
            }
            wait_until(SOON, "the release", || released.load(Ordering::Relaxed));
            Reply::Status(500, "late".into())
        });
        let tenant = Tenant::with_items_to(&database, &receiver.url("/held"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 1);
        wait_until(SOON, "the first request", || {
            order.load(Ordering::Relaxed) == 1
        });
        // The lease is aged by hand: the shortest is longer than a test.
        execute(
            &mut client,
            "update int.plugin_delivery_queue set lease_expires_at = now() - interval '1 second'",
        );
        execute(&mut client, "select rpc_process_plugin_deliveries()");
        let before = tenant.wait_delivered(&mut client, SOON);
        assert_eq!(order.load(Ordering::Relaxed), 2);
        release.store(true, Ordering::Relaxed);
        receiver.wait_for(2, SOON);
        assert_delivers(&database, &receiver);
        wait_for_looks(&mut client, 2);
        let mut after = tenant.deliveries(&mut client);
        after[0].due_in = before[0].due_in;
        assert_eq!(after, before);
        assert_eq!((after[0].attempts, &after[0].last_error), (0, &None));
    }
}

mod trouble {
    use super::*;

    const SECRET: &str = "correct horse battery staple";

    #[test]
    fn a_key_file_that_is_repaired_signs_again_without_reload_or_restart() {
        let own = builder().preloaded().start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let mut client = database.client();
        let create = format!("select plugin_webhooks.create_secret('{SECRET}', 'signing')");
        execute(&mut client, &create);
        let config = format!(r#"{{"webhook_url": "{}"}}"#, receiver.url("/"));
        let tenant = Tenant::install_with(&database, &config, Some("signing"));
        tenant.subscribe("items", &["INSERT"], None, false);
        let key = own.data_dir().join("plugin_webhooks.key");
        let kept = key.with_extension("kept");
        let damages: [(&str, &str, &dyn Fn()); 3] = [
            ("does not exist", "Restore the file", &|| {
                fs::remove_file(&key).expect("lose the key");
            }),
            ("cannot be decrypted", "put the right file", &|| {
                fs::write(&key, "5".repeat(64)).expect("another key");
            }),
            ("is open to other users", "chmod 600", &|| {
                fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("open the key");
            }),
        ];
        fs::copy(&key, &kept).expect("keep the key");
        for (problem, remedy, damage) in damages {
            let told = own.log().len();
            damage();
            execute(&mut client, "delete from int.plugin_delivery_queue");
            tenant.insert_items(&mut client, 1);
            let failed = tenant.wait_failed(&mut client, SOON, 1);
            let seen = failed.last_error.expect("an error");
            assert_eq!(seen, "the signing secret cannot be read");
            let log = own.log();
            assert!(log[told..].contains(problem), "{problem}");
            assert!(log[told..].contains(remedy), "{remedy}");
            assert_eq!(receiver.count(), 0, "nothing leaves unsigned");

            let owner = fs::metadata(own.data_dir()).expect("the data directory");
            fs::remove_file(&key).ok();
            fs::copy(&kept, &key).expect("restore the key");
            chown(&key, Some(owner.uid()), Some(owner.gid())).expect("its owner");
            execute(
                &mut client,
                "update int.plugin_delivery_queue set next_attempt_at = clock_timestamp()",
            );
            let request = receiver.wait_for(1, SOON).remove(0);
            let signature = request.header("X-Plugin-Signature").expect("a signature");
            assert!(verify_signature(SECRET, &request.body, signature));
            tenant.wait_delivered(&mut client, SOON);
            receiver.clear();
        }
    }

    #[test]
    fn a_queue_that_stays_locked_is_said_so_and_delivery_goes_on_once_it_is_free() {
        let own = builder().preloaded().start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        let worker = wait_for_worker(&mut client);
        let mut session = database.client();
        let mut holder = session.transaction().expect("begin");
        holder
            .batch_execute("lock table int.plugin_delivery_queue in share mode")
            .expect("lock");
        wait_until(SOON, "the warning with its remedy", || {
            let log = own.log();
            log.contains("another session has locked int.plugin_delivery_queue")
                && log.contains("pg_locks")
        });
        holder.rollback().expect("let go");
        tenant.insert_items(&mut client, 1);
        tenant.wait_delivered(&mut client, SOON);
        assert_eq!(wait_for_worker(&mut client), worker);
    }

    #[test]
    fn a_full_disk_under_the_queue_is_said_so_and_delivery_goes_on_once_there_is_room() {
        // A worker that does not look is in none of PostgreSQL's short locks when it is frozen.
        let own = builder()
            .preloaded()
            .setting("plugin_webhooks.poll_interval", "60s")
            .start();
        let Some(volume) = own.tablespace_on_volume("small", 8) else {
            return; // Nobody but root can mount.
        };
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        execute(
            &mut client,
            "alter table int.plugin_delivery_queue set tablespace small;
             alter table int.plugin_delivery_queue set (fillfactor = 100)",
        );
        let worker = wait_for_worker(&mut client);
        own.pause(worker);
        tenant.insert_items(&mut client, 300);
        volume.fill();
        own.resume(worker);
        wait_until(SOON, "the warning", || {
            own.log()
                .contains("deliveries wait, the queue cannot be worked: could not extend file")
        });
        volume.make_room();
        tenant.wait_delivered(&mut client, SOON);
        assert_eq!(wait_for_worker(&mut client), worker);
        assert!(own.log().matches("the queue cannot be worked").count() < 20);
    }

    /// What `cargo xtask install` does to a server that runs.
    #[test]
    fn a_library_that_is_replaced_by_renaming_disturbs_no_running_server() {
        let tree = Tree::from_environment();
        let library = tree.library_dir().join("plugin_webhooks.so");
        let servers = [true, false].map(|preloaded| {
            let builder = Server::builder(&tree).settings(&[
                ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
                ("plugin_webhooks.poll_interval", "100ms"),
                ("fsync", "off"),
            ]);
            let builder = if preloaded {
                builder.preloaded()
            } else {
                builder
            };
            builder.start()
        });
        let receiver = Receiver::http();
        let databases = servers.each_ref().map(project_with_items);
        for database in &databases {
            process(database, "()");
            assert_delivers(database, &receiver);
        }
        let pids = databases
            .each_ref()
            .map(|database| wait_for_worker(&mut database.client()));
        let another_build = library.with_extension("new");
        fs::copy(&library, &another_build).expect("copy");
        File::options()
            .append(true)
            .open(&another_build)
            .and_then(|mut file| file.write_all(b"another build"))
            .expect("change");
        fs::rename(&another_build, &library).expect("replace");
        for (database, pid) in databases.iter().zip(pids) {
            assert_delivers(database, &receiver);
            assert_eq!(process(database, "()"), 0);
            assert_eq!(wait_for_worker(&mut database.client()), pid);
            // The next worker: of the old library where it was preloaded, else of the new one.
            execute(
                &mut database.client(),
                &format!("select pg_terminate_backend({pid}, 10000)"),
            );
            process(database, "()");
            assert_delivers(database, &receiver);
        }
        for (server, database) in servers.iter().zip(&databases) {
            let log = server.log();
            assert!(!log.contains("terminated by signal"), "{log}");
            server.restart();
            process(database, "()");
            assert_delivers(database, &receiver);
        }
    }

    /// A file that is not there, or is none, costs failed starts with growing rests, never the server.
    #[test]
    fn a_library_that_is_missing_costs_a_line_now_and_then_until_it_is_back() {
        let tree = Tree::from_environment();
        let own = Server::builder(&tree)
            .preloaded()
            .settings(&[
                ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
                ("plugin_webhooks.poll_interval", "100ms"),
            ])
            .start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 1);
        tenant.wait_delivered(&mut client, SOON);
        let library = tree.library_dir().join("plugin_webhooks.so");
        let kept = library.with_extension("kept");
        fs::rename(&library, &kept).expect("lose the library");
        let pid = wait_for_worker(&mut client);
        execute(
            &mut client,
            &format!("select pg_terminate_backend({pid}, 10000)"),
        );
        let failures = || {
            let log = own.log();
            log.lines()
                .filter(|line| line.contains("could not access file"))
                .count()
        };
        wait_until(SOON, "a worker that cannot start", || failures() > 0);
        // A session that has used the library before goes on.
        tenant.insert_items(&mut client, 1);
        fs::rename(&kept, &library).expect("find the library");
        tenant.wait_delivered(&mut client, 3 * SOON);
        assert!(failures() < 20, "{} lines", failures());
    }
}

mod sharing {
    use super::*;

    #[test]
    fn an_open_transaction_that_holds_rows_on_their_way_stops_nobody_else() {
        let own = builder().preloaded().start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = frozen(&database, &receiver);
        let mut client = database.client();
        tenant.insert_items(&mut client, 3);
        receiver.wait_for(3, SOON);
        let mut holder = database.client();
        let mut open = holder.transaction().expect("begin");
        let held = open
            .execute("select id from int.plugin_delivery_queue for update", &[])
            .expect("lock");
        assert_eq!(held, 3);
        // The requests end; their outcomes cannot be written.
        receiver.answer("/frozen", Reply::ok());
        receiver.stop();
        receiver.start_again();
        for _ in 0..3 {
            assert_delivers(&database, &receiver);
        }
        open.rollback().expect("let go");
        tenant.wait_for(&mut client, SOON, |delivery| delivery.status != "sending");
    }

    #[test]
    fn a_frozen_receiver_takes_its_share_of_requests_and_stops_nobody_else() {
        let (database, receiver) = (project_with_items(server()), Receiver::http());
        let frozen = frozen(&database, &receiver);
        let other = Tenant::with_items_to(&database, &receiver.url("/other"));
        let mut client = database.client();
        frozen.insert_items(&mut client, 200);
        receiver.wait_for(FIRST_WINDOW, SOON);
        for _ in 0..3 {
            other.insert_items(&mut client, 100);
            other.wait_delivered(&mut client, SOON);
        }
        let requests = receiver.requests();
        let stuck = requests
            .iter()
            .filter(|request| request.path() == "/frozen");
        assert_eq!(stuck.count(), FIRST_WINDOW);
    }

    #[test]
    fn allowed_networks_changes_take_effect_without_a_restart() {
        let own = builder()
            .preloaded()
            .setting("plugin_webhooks.allowed_networks", "")
            .start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        let pid = wait_for_worker(&mut client);
        tenant.insert_items(&mut client, 1);
        tenant.wait_failed(&mut client, SOON, 1);
        assert_eq!(receiver.connections(), 0);
        // The worker reads the file some time after the reload: each try may still be refused.
        let retry_until = |client: &mut Client, status: &str| {
            wait_until(SOON, status, || {
                execute(
                    client,
                    "update int.plugin_delivery_queue set attempts = 0, next_attempt_at = now() where status = 'pending'",
                );
                tenant
                    .deliveries(client)
                    .iter()
                    .any(|delivery| delivery.status == status)
            });
        };
        own.alter_system("plugin_webhooks.allowed_networks", "127.0.0.0/8");
        retry_until(&mut client, "delivered");
        own.alter_system("plugin_webhooks.allowed_networks", "10.0.0.0/8");
        wait_until(SOON, "a refused delivery", || {
            execute(&mut client, "delete from int.plugin_delivery_queue");
            tenant.insert_items(&mut client, 1);
            let settled = tenant.wait_for(&mut client, SOON, |delivery| {
                delivery.attempts > 0 || delivery.status == "delivered"
            });
            settled[0].status == "pending"
        });
        let connections = receiver.connections();
        execute(&mut client, "delete from int.plugin_delivery_queue");
        tenant.insert_items(&mut client, 1);
        tenant.wait_failed(&mut client, SOON, 1);
        assert_eq!(receiver.connections(), connections);
        assert_eq!(wait_for_worker(&mut client), pid);
    }
}
