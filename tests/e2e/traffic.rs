//! CREATE EXTENSION, ALTER EXTENSION UPDATE, the way back and DROP EXTENSION while applications write and read: no
//! transaction of theirs fails, and the switch succeeds or leaves everything as it was.
//!
//! `PLUGIN_WEBHOOKS_TRAFFIC_TRIES=20` is the long form.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, Server, assert_same_lines, catalog, describe, execute, expect_sqlstate,
    former_system, shared_server, value, wait_until,
};

use crate::upgrade;

const TRIES: &str = "PLUGIN_WEBHOOKS_TRAFFIC_TRIES";
const SOON: Duration = Duration::from_secs(20);
const CREATE: &str = "create extension plugin_webhooks";
const GO_BACK: &str =
    "begin; select plugin_webhooks.hand_back(); drop extension plugin_webhooks; commit";
const CLIENTS: usize = 8;

/// What an application does: it locks `auth.users`, `app.tenants`, its own tables, then through the audit
/// triggers the log and the queue.
pub const BUSINESS: &str = "
    create table app.clients (n integer primary key, user_id uuid, tenant_id uuid);
    with tenant as (insert into app.tenants (name) select 'Client ' || n from generate_series(0, 7) n returning id),
         account as (insert into auth.users (email) select 'client' || n from generate_series(0, 7) n returning id)
    insert into app.clients
        select t.n - 1, u.id, t.id from (select id, row_number() over () as n from tenant) t
        join (select id, row_number() over () as n from account) u using (n);
    create function app.do_business(n integer) returns void language plpgsql as $$
    declare
        client app.clients := (select c from app.clients c where c.n = do_business.n);
    begin
        update auth.users set email = n || '@' || clock_timestamp() where id = client.user_id;
        update app.tenants set name = 'Client ' || clock_timestamp() where id = client.tenant_id;
        perform pg_sleep(random() * 0.005);
        insert into app.assets (tenant_id, name) values (client.tenant_id, 'Asset');
        -- One that others subscribe to.
        insert into app.assets (tenant_id, name) values ('00000000-0000-0000-0000-000000000001', 'Asset');
    end $$;
    create function app.look() returns void language plpgsql as $$
    begin
        perform count(*) from public.v_plugin_installations;
        perform count(*) from public.v_audit_entity_changes where id < 5;
        perform pg_sleep(random() * 0.005);
    end $$;
    -- The worker is not what this is about.
    update int.plugin_installations set config = null where config ->> 'webhook_url' not like '%/desk'";

/// What a client repeats. Some read what the switch locks against readers, and write then.
pub const READ_AND_WRITE: [&str; 4] = [
    "select app.do_business({n})",
    "begin; select app.look(); select app.do_business({n}); commit",
    "begin; insert into app.assets (tenant_id, name) select tenant_id, 'Asset' from app.clients where n = {n};
     select pg_sleep(random() * 0.01); commit",
    "select app.look()",
];
/// Others write, and read then.
const WRITE_AND_READ: [&str; 2] = [
    "begin; select app.do_business({n}); select app.look(); commit",
    "select app.do_business({n})",
];

fn tries(few: usize) -> usize {
    std::env::var(TRIES).map_or(few, |text| text.parse().expect(TRIES))
}

/// Prints past libtest, which swallows what a successful test prints.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("write to standard error");
}

#[derive(Default)]
struct Diary {
    stopped: AtomicBool,
    committed: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// Clients that write and read until the end.
pub struct Traffic {
    diary: Arc<Diary>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub fn start(connect: impl Fn() -> Client, transactions: &'static [&'static str]) -> Traffic {
        let diary = Arc::new(Diary::default());
        let clients = (0..CLIENTS)
            .map(|number| {
                let (diary, client) = (Arc::clone(&diary), connect());
                thread::spawn(move || work(&diary, client, transactions, number))
            })
            .collect();
        let traffic = Traffic { diary, clients };
        traffic.goes_on();
        traffic
    }

    /// Waits until every kind of transaction has been under way again.
    fn goes_on(&self) {
        let before = self.diary.committed.load(Ordering::Relaxed);
        wait_until(SOON, "transactions of the application", || {
            self.diary.committed.load(Ordering::Relaxed) >= before + 2 * CLIENTS
        });
    }

    /// How many transactions were committed; fails when one was not.
    #[track_caller]
    pub fn end(self) -> usize {
        self.diary.stopped.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client");
        }
        let failures = self
            .diary
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assert!(
            failures.is_empty(),
            "{} failed: {failures:#?}",
            failures.len()
        );
        self.diary.committed.load(Ordering::Relaxed)
    }
}

fn work(diary: &Diary, mut client: Client, transactions: &[&str], number: usize) {
    let transaction = transactions[number % transactions.len()].replace("{n}", &number.to_string());
    while !diary.stopped.load(Ordering::Relaxed) {
        match client.batch_execute(&transaction) {
            Ok(()) => {
                diary.committed.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let mut failures = diary
                    .failures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                failures.push(format!("client {number}: {}", describe(&error)));
                let _ = client.batch_execute("rollback");
            }
        }
    }
}

/// The former system with an application of eight clients.
fn busy_host(server: &Server) -> Database {
    let database = former_system(server, "http://127.0.0.1:9");
    // It gives way to whoever waits for it.
    database.allow_log("canceling autovacuum task");
    // The worker looked, then waited for the end of the switch, after which tables are gone or another's.
    database.allow_log("the queue cannot be worked: ");
    execute(&mut database.client(), BUSINESS);
    database
}

/// Runs a switch and tells how long it took.
#[track_caller]
fn timed(client: &mut Client, sql: &str) -> Duration {
    let started = Instant::now();
    execute(client, sql);
    started.elapsed()
}

fn report(what: &str, times: &[Duration], committed: usize) {
    let longest = times.iter().max().copied().unwrap_or_default();
    say(&format!(
        "{what}: {} tries beside {CLIENTS} clients, {committed} transactions, none failed; longest switch {:.2} s",
        times.len(),
        longest.as_secs_f64()
    ));
}

fn there_and_back(transactions: &'static [&'static str], tries: usize) {
    let database = busy_host(shared_server());
    let mut dba = database.client();
    let traffic = Traffic::start(|| database.client(), transactions);
    let (mut there, mut back) = (Vec::new(), Vec::new());
    for _ in 0..tries {
        there.push(timed(&mut dba, CREATE));
        traffic.goes_on();
        back.push(timed(&mut dba, GO_BACK));
        traffic.goes_on();
    }
    let committed = traffic.end();
    report("take-over", &there, committed);
    report("way back", &back, committed);
}

#[test]
fn the_take_over_and_the_way_back_fail_no_transaction() {
    there_and_back(&READ_AND_WRITE, tries(5));
}

#[test]
fn those_who_read_after_they_have_written_do_not_fail_either() {
    there_and_back(&WRITE_AND_READ, tries(2));
}

#[test]
fn an_update_fails_no_transaction() {
    let mut times = Vec::new();
    let mut committed = 0;
    for _ in 0..tries(3) {
        let database = busy_host(upgrade::server());
        let mut dba = database.client();
        // Of the earlier version.
        database.allow_log("the address policy refuses the webhook_url of installations");
        database.allow_log("pg_dump does not carry everything that was on the tables");
        execute(&mut dba, &format!("{CREATE} version '0.2.0'"));
        let traffic = Traffic::start(|| database.client(), &READ_AND_WRITE);
        times.push(timed(&mut dba, "alter extension plugin_webhooks update"));
        traffic.goes_on();
        committed += traffic.end();
    }
    report("update", &times, committed);
}

/// What several sessions do at once succeeds in one of them. No other ends with a deadlock.
#[test]
fn switches_do_not_deadlock_with_each_other() {
    let database = busy_host(shared_server());
    let traffic = Traffic::start(|| database.client(), &READ_AND_WRITE);
    for statement in [CREATE, GO_BACK, CREATE, GO_BACK] {
        let sessions: Vec<_> = (0..4)
            .map(|_| {
                let mut client = database.client();
                thread::spawn(move || {
                    client.batch_execute(statement).map_err(|error| {
                        let code = error.code().map_or("none", |code| code.code()).to_owned();
                        (code, describe(&error))
                    })
                })
            })
            .collect();
        let outcomes: Vec<_> = sessions
            .into_iter()
            .map(|session| session.join().expect("a session"))
            .collect();
        let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(done, 1, "{statement}: {outcomes:#?}");
        for (code, text) in outcomes.into_iter().filter_map(Result::err) {
            assert!(code != "40P01" && code != "55P03", "{statement}: {text}");
        }
    }
    traffic.end();
}

mod gives_up {
    use super::*;

    /// A session that has begun and waits for nothing, with what it did.
    fn idle(database: &Database, sql: &str) -> (Client, i32) {
        let mut idle = database.client();
        execute(&mut idle, "set application_name = 'month-end report'");
        let pid = value(&mut idle, "select pg_backend_pid()");
        execute(&mut idle, &format!("begin; {sql}"));
        (idle, pid)
    }

    /// The switch fails in time, names the session and what it holds, changes nothing, and succeeds when it is over.
    #[track_caller]
    fn until_it_ends(
        database: &Database,
        switch: &str,
        (mut idle, pid): (Client, i32),
        object: &str,
    ) {
        let mut dba = database.client();
        execute(&mut dba, "set lock_timeout = '1500ms'");
        let before = catalog(&mut dba);
        let started = Instant::now();
        let error = expect_sqlstate(dba.batch_execute(switch), "55P03");
        let waited = started.elapsed();
        assert!(waited < SOON, "{waited:?}");
        assert_eq!(
            error.message(),
            format!("could not lock {object} within 1.5 s")
        );
        let detail = error.detail().unwrap_or_default();
        for part in [
            format!(
                "Process {pid} (application_name 'month-end report', role postgres, idle in transaction since 2"
            ),
            format!("on {object}. Its query: "),
        ] {
            assert!(detail.contains(&part), "{part}: {detail}");
        }
        let after = catalog(&mut database.client());
        assert_same_lines(("before", &before), ("after", &after));
        execute(&mut idle, "rollback");
        execute(&mut database.client(), switch);
    }

    #[test]
    fn the_take_over_behind_a_session_that_has_written() {
        let database = busy_host(shared_server());
        let traffic = Traffic::start(|| database.client(), &READ_AND_WRITE);
        let session = idle(
            &database,
            "insert into app.tenants (name) values ('Not yet')",
        );
        until_it_ends(&database, CREATE, session, "app.tenants");
        traffic.end();
    }

    #[test]
    fn the_way_back_behind_a_session_that_has_read() {
        let database = busy_host(shared_server());
        execute(&mut database.client(), CREATE);
        let traffic = Traffic::start(|| database.client(), &READ_AND_WRITE);
        let session = idle(&database, "select from public.v_plugin_installations");
        until_it_ends(&database, GO_BACK, session, "public.v_plugin_installations");
        traffic.end();
    }
}
