//! What follows a failed attempt: when the next one comes, what the queue says, when it is given up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plugin_webhooks_e2e::postgres::Client;
use plugin_webhooks_e2e::{
    Database, Receiver, Reply, Server, Tenant, Tree, create_tracked_table, execute, project,
};

/// A server under load may be slow; a promise that is kept never waits that long.
const SOON: Duration = Duration::from_secs(30);
const MINUTES: [u32; 7] = [2, 4, 8, 16, 32, 64, 64];

/// Its workers find within 100 ms what a test makes due.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        Server::preloaded(
            Tree::shared(),
            &[
                ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
                ("plugin_webhooks.poll_interval", "100ms"),
            ],
        )
    })
}

fn project_with_items() -> Database {
    let database = project(server());
    create_tracked_table(&mut database.client(), "items");
    database
}

/// Time passes for what waits.
fn make_due(client: &mut Client) {
    execute(
        client,
        "update int.plugin_delivery_queue set next_attempt_at = now() - interval '1 second'
         where status = 'pending'",
    );
}

/// Asserts that the next attempt is `minutes` after a failure between `since` and now.
fn assert_waits(due_in: f64, minutes: u32, since: Instant) {
    let full = f64::from(minutes) * 60.0;
    let passed = since.elapsed().as_secs_f64();
    assert!(
        due_in <= full && due_in >= full - passed - 1.0,
        "the next attempt comes in {due_in} s and not {minutes} minutes after the failure"
    );
}

#[test]
fn a_delivery_is_tried_again_after_2_4_8_16_32_64_64_minutes_and_the_8th_failure_is_its_last() {
    let (database, receiver) = (project_with_items(), Receiver::http());
    receiver.on("/", |_| Reply::Status(503, "try later".to_owned()));
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    let mut since = Instant::now();
    tenant.insert_items(&mut client, 1);
    for (attempts, minutes) in (1..).zip(MINUTES) {
        let delivery = tenant.wait_failed(&mut client, SOON, attempts);
        assert_eq!(delivery.status, "pending", "after failure {attempts}");
        assert_eq!(delivery.last_error.as_deref(), Some("http 503: try later"));
        assert_waits(delivery.due_in, minutes, since);
        since = Instant::now();
        make_due(&mut client);
    }
    let delivery = tenant.wait_failed(&mut client, SOON, 8);
    assert_eq!(delivery.status, "dead");
    assert_eq!(delivery.last_error.as_deref(), Some("http 503: try later"));
    assert_eq!(receiver.count(), 8);
}

#[test]
fn every_attempt_carries_the_same_delivery_id_body_and_signature() {
    let (database, receiver) = (project_with_items(), Receiver::http());
    receiver.on("/", |_| Reply::Status(500, String::new()));
    let mut client = database.client();
    execute(
        &mut client,
        "select plugin_webhooks.create_secret('s3cret', 'partner')",
    );
    let config = format!(r#"{{"webhook_url": "{}"}}"#, receiver.url("/"));
    let tenant = Tenant::install_with(&database, &config, Some("partner"));
    tenant.subscribe("items", &["INSERT"], None, true);
    tenant.insert_items(&mut client, 1);
    for attempts in 1..=3 {
        tenant.wait_failed(&mut client, SOON, attempts);
        make_due(&mut client);
    }
    let delivery = tenant.wait_failed(&mut client, SOON, 4);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 4);
    for request in &requests {
        assert_eq!(request.header("X-Plugin-Delivery-Id"), Some(&*delivery.id));
        assert_eq!(request.text(), delivery.payload);
        assert_eq!(
            request.header("X-Plugin-Signature"),
            requests[0].header("X-Plugin-Signature")
        );
    }
    assert!(requests[0].header("X-Plugin-Signature").is_some());
}

#[test]
fn a_delivery_that_succeeds_in_the_end_keeps_the_count_of_its_failures_and_no_error() {
    let (database, receiver) = (project_with_items(), Receiver::http());
    let calls = AtomicUsize::new(0);
    receiver.on("/", move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Reply::Status(500, "not yet".to_owned()),
        _ => Reply::ok(),
    });
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    for attempts in 1..=2 {
        let delivery = tenant.wait_failed(&mut client, SOON, attempts);
        assert_eq!(delivery.last_error.as_deref(), Some("http 500: not yet"));
        make_due(&mut client);
    }
    tenant.wait_delivered(&mut client, SOON);
    let delivery = tenant.delivery(&mut client);
    assert_eq!((delivery.attempts, delivery.last_error), (2, None));
}

#[test]
fn the_last_error_is_that_of_the_last_attempt() {
    let (database, receiver) = (project_with_items(), Receiver::http());
    receiver.on("/", |_| Reply::Status(500, String::new()));
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    let first = tenant.wait_failed(&mut client, SOON, 1).last_error;
    assert!(first.expect("an error").starts_with("http 500: "));
    receiver.stop();
    make_due(&mut client);
    let second = tenant.wait_failed(&mut client, SOON, 2).last_error;
    let second = second.expect("an error");
    assert!(!second.contains("500"), "{second}");
}

#[test]
fn a_delivery_is_not_sent_before_its_time_and_a_dead_one_never_again() {
    let (database, receiver) = (project_with_items(), Receiver::http());
    receiver.on("/failing", |_| Reply::Status(500, String::new()));
    let waiting = Tenant::with_items_to(&database, &receiver.url("/failing"));
    let dead = Tenant::with_items_to(&database, &receiver.url("/failing"));
    let healthy = Tenant::with_items_to(&database, &receiver.url("/healthy"));
    let mut client = database.client();
    waiting.insert_items(&mut client, 1);
    dead.insert_items(&mut client, 1);
    waiting.wait_failed(&mut client, SOON, 1);
    dead.wait_failed(&mut client, SOON, 1);
    execute(
        &mut client,
        &format!(
            "update int.plugin_delivery_queue set status = 'dead', next_attempt_at = now() - interval '1 day'
             where plugin_installation_id = '{}'",
            dead.installation
        ),
    );
    // What is delivered after that shows that the worker looked at the queue and left these two.
    for _ in 0..3 {
        healthy.insert_items(&mut client, 1);
        healthy.wait_delivered(&mut client, SOON);
    }
    assert_eq!(waiting.delivery(&mut client).attempts, 1);
    assert_eq!(dead.delivery(&mut client).status, "dead");
    let failing = receiver.requests();
    let failing = failing.iter().filter(|sent| sent.path() == "/failing");
    assert_eq!(failing.count(), 2);
}
