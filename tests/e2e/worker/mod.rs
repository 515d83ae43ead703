//! The worker's life: when it is there, when it goes, what it holds meanwhile, and that nothing is lost
//! when it dies.

mod alone;
mod claims;
mod death;
mod footprint;
mod on_call;
mod presence;
mod shares;
mod sharing;
mod standby;
mod status;
mod trouble;
mod without_preload;

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

use crate::private_server::{SOON, builder};

/// Requests in flight to a receiver that has not answered yet.
const FIRST_WINDOW: usize = 4;

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
