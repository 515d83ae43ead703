//! The worker's life: when it is there, when it goes, what it holds meanwhile, and that nothing is lost
//! when it dies.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use plugin_webhooks_e2e::postgres::Client;
use plugin_webhooks_e2e::{
    Database, Receiver, Reply, Server, ServerBuilder, StopMode, Tenant, Tree, as_service,
    create_tracked_table, execute, project, quote_ident, value, wait_until,
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

fn project_with_items(server: &Server) -> Database {
    let database = project(server);
    create_tracked_table(&mut database.client(), "items");
    database
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

/// Asserts that a new tenant's change reaches the receiver.
#[track_caller]
fn assert_delivers(database: &Database, receiver: &Receiver) {
    let healthy = Tenant::with_items_to(database, &receiver.url("/healthy"));
    let mut client = database.client();
    healthy.insert_items(&mut client, 1);
    healthy.wait_delivered(&mut client, SOON);
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
        frozen(&database, &receiver).insert_items(&mut client, 40);
        receiver.wait_for(16, SOON);
        let started = Instant::now();
        execute(&mut client, "drop extension plugin_webhooks cascade");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
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
        frozen(&database, &receiver).insert_items(&mut database.client(), 40);
        receiver.wait_for(16, SOON);
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
        assert!(took < Duration::from_secs(4), "{took:?}");
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
        let mut client = database.client();
        for _ in 0..64 / FIRST_WINDOW {
            frozen(&database, &receiver).insert_items(&mut client, 5);
        }
        receiver.wait_for(64, SOON);
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
}

mod on_call {
    use super::*;

    #[test]
    fn only_what_the_processor_hands_over_is_sent_in_batches_of_the_asked_size() {
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
}

mod sharing {
    use super::*;

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
