//! What follows a failed attempt: when the next one comes, what the queue says, when it is given up.

mod dead_at_once;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, Receiver, Reply, Server, Tenant, execute, project_with_items, value, wait_until,
};

use crate::private_server::{SOON, builder};

const MINUTES: [u32; 7] = [2, 4, 8, 16, 32, 64, 64];

/// Its workers find within 100 ms what a test makes due, and do not back off when a receiver fails.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        builder()
            .preloaded()
            .setting("plugin_webhooks.max_probe_interval", "0")
            .start()
    })
}

/// Time passes for what waits.
fn make_due(client: &mut Client) {
    execute(
        client,
        "update int.plugin_delivery_queue set next_attempt_at = now() - interval '1 second'
         where status = 'pending'",
    );
}

/// Asserts that the next attempt is `minutes` after a failure between `since` and now, give or take a
/// tenth.
fn assert_waits(due_in: f64, minutes: u32, since: Instant) {
    let full = f64::from(minutes) * 60.0;
    assert_due_between(due_in, full * 0.9, full * 1.1, since);
}

/// Asserts that the next attempt is this many seconds after a failure between `since` and now.
fn assert_due_between(due_in: f64, shortest: f64, longest: f64, since: Instant) {
    let passed = since.elapsed().as_secs_f64();
    assert!(
        due_in <= longest && due_in >= shortest - passed - 1.0,
        "the next attempt comes in {due_in} s and not {shortest} to {longest} s after the failure"
    );
}

/// A tenant whose receiver answers this status with this `Retry-After`.
fn tenant_told<'a>(
    database: &'a Database,
    receiver: &Receiver,
    status: u16,
    retry_after: &str,
) -> Tenant<'a> {
    let path = format!("/{status}/{}", retry_after.len());
    let reply = Reply::Full {
        status,
        headers: vec![("Retry-After".to_owned(), retry_after.to_owned())],
        body: b"not now".to_vec(),
    };
    receiver.answer(&path, reply);
    Tenant::with_items_to(database, &receiver.url(&path))
}

#[test]
fn a_delivery_is_tried_again_after_2_4_8_16_32_64_64_minutes_and_the_8th_failure_is_its_last() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
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
    let (database, receiver) = (project_with_items(server()), Receiver::http());
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
    let (database, receiver) = (project_with_items(server()), Receiver::http());
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
    let (database, receiver) = (project_with_items(server()), Receiver::http());
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
    let (database, receiver) = (project_with_items(server()), Receiver::http());
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

#[test]
fn deliveries_that_failed_together_do_not_come_back_together() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    receiver.on("/", |_| Reply::Status(404, String::new()));
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    let since = Instant::now();
    tenant.insert_items(&mut client, 50);
    let failed = tenant.wait_for(&mut client, SOON, |delivery| delivery.attempts == 1);
    let due: Vec<f64> = failed.iter().map(|delivery| delivery.due_in).collect();
    for due in &due {
        assert_waits(*due, 2, since);
    }
    let (first, last) = due.iter().fold((f64::MAX, f64::MIN), |(first, last), due| {
        (first.min(*due), last.max(*due))
    });
    // Of 50 even chances over 24 s, less than 6 s apart is one in 10^26.
    assert!(last - first > 6.0, "{first} s to {last} s");
}

#[test]
fn retry_after_in_seconds_puts_the_next_attempt_off() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    let mut client = database.client();
    for status in [404, 429, 500, 503] {
        let tenant = tenant_told(&database, &receiver, status, "1000");
        let since = Instant::now();
        tenant.insert_items(&mut client, 1);
        let delivery = tenant.wait_failed(&mut client, SOON, 1);
        assert_due_between(delivery.due_in, 1000.0, 1100.0, since);
    }
}

#[test]
fn retry_after_never_hurries_and_never_asks_for_more_than_a_day() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    let mut client = database.client();
    let (hasty, patient) = (
        tenant_told(&database, &receiver, 503, "0"),
        tenant_told(&database, &receiver, 503, "999999999999999999999"),
    );
    let since = Instant::now();
    hasty.insert_items(&mut client, 1);
    patient.insert_items(&mut client, 1);
    assert_waits(hasty.wait_failed(&mut client, SOON, 1).due_in, 2, since);
    let due_in = patient.wait_failed(&mut client, SOON, 1).due_in;
    assert_due_between(due_in, 86_400.0, 95_040.0, since);
}

#[test]
fn retry_after_may_be_a_date() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    let mut client = database.client();
    let date: String = value(
        &mut client,
        "select to_char((now() + interval '20 minutes') at time zone 'UTC',
                        'FMDy, DD FMMon YYYY HH24:MI:SS \"GMT\"')",
    );
    let tenant = tenant_told(&database, &receiver, 429, &date);
    let since = Instant::now();
    tenant.insert_items(&mut client, 1);
    let delivery = tenant.wait_failed(&mut client, SOON, 1);
    assert_due_between(delivery.due_in, 1195.0, 1321.0, since);
}

#[test]
fn gone_ends_a_delivery_at_the_first_failure() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    receiver.on("/", |_| Reply::Status(410, "moved out".to_owned()));
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    let delivery = tenant.wait_failed(&mut client, SOON, 1);
    assert_eq!(delivery.status, "dead");
    assert_eq!(delivery.last_error.as_deref(), Some("http 410: moved out"));
}

#[test]
fn an_overloaded_receiver_gets_nothing_until_it_wants_to() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    let mut client = database.client();
    for status in [429, 503] {
        let overloaded = tenant_told(&database, &receiver, status, "600");
        let healthy = Tenant::with_items_to(&database, &receiver.url("/healthy"));
        overloaded.insert_items(&mut client, 1);
        overloaded.wait_failed(&mut client, SOON, 1);
        overloaded.insert_items(&mut client, 5);
        for _ in 0..3 {
            healthy.insert_items(&mut client, 1);
            healthy.wait_delivered(&mut client, SOON);
        }
        let waiting = overloaded.deliveries(&mut client);
        assert_eq!(waiting.iter().filter(|d| d.attempts == 0).count(), 5);
    }
}

#[test]
fn a_receiver_in_trouble_is_probed_and_not_hammered() {
    let own = builder().preloaded().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    receiver.on("/", |_| Reply::Status(500, String::new()));
    let broken = Tenant::with_items_to(&database, &receiver.url("/"));
    let healthy = Tenant::with_items_to(&database, &receiver.url("/healthy"));
    let mut client = database.client();
    broken.insert_items(&mut client, 1000);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        healthy.insert_items(&mut client, 10);
        healthy.wait_delivered(&mut client, SOON);
    }
    let requests = receiver.requests();
    let probes = requests.iter().filter(|r| r.path() == "/").count();
    // Four at first; then one after waits of 2, 4, 8 seconds.
    assert!((4..=7).contains(&probes), "{probes} requests");
    // It recovers: everything else is delivered.
    receiver.answer("/", Reply::ok());
    wait_until(Duration::from_secs(60), "the backlog to go out", || {
        let waiting = "select count(*) from int.plugin_delivery_queue where status <> 'delivered' and attempts = 0";
        value::<i64>(&mut client, waiting) == 0
    });
}

#[test]
fn an_installations_own_schedule_wins() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    receiver.on("/", |_| Reply::Status(500, String::new()));
    let config = format!(
        r#"{{"webhook_url": "{}", "retry_schedule": [600, 1200]}}"#,
        receiver.url("/")
    );
    let tenant = Tenant::install(&database, &config);
    tenant.subscribe("items", &["INSERT"], None, false);
    let mut client = database.client();
    let mut since = Instant::now();
    tenant.insert_items(&mut client, 1);
    for (attempts, minutes) in [(1, 10), (2, 20)] {
        let delivery = tenant.wait_failed(&mut client, SOON, attempts);
        assert_eq!(delivery.status, "pending");
        assert_waits(delivery.due_in, minutes, since);
        since = Instant::now();
        make_due(&mut client);
    }
    assert_eq!(tenant.wait_failed(&mut client, SOON, 3).status, "dead");
}

#[test]
fn the_schedule_of_the_settings_counts_for_everyone_else_and_a_bad_one_is_ignored() {
    let own = builder()
        .preloaded()
        .setting("plugin_webhooks.retry_schedule", "1s, 1s")
        .setting("plugin_webhooks.max_probe_interval", "0")
        .start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    receiver.on("/", |_| Reply::Status(500, String::new()));
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    assert_eq!(tenant.wait_failed(&mut client, SOON, 3).status, "dead");
    own.expect_log("plugin_webhooks.retry_schedule is ignored");
    own.alter_system("plugin_webhooks.retry_schedule", "soon");
    wait_until(SOON, "a warning that names the setting", || {
        own.log()
            .contains("plugin_webhooks.retry_schedule is ignored")
    });
    let other = Tenant::with_items_to(&database, &receiver.url("/"));
    let since = Instant::now();
    other.insert_items(&mut client, 1);
    let due_in = other.wait_failed(&mut client, SOON, 1).due_in;
    assert_waits(due_in, 2, since);
}
