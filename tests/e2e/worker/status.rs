//! What callers see of a delivery: pending until an attempt has ended, and dead as soon as the processor returns
//! where it cannot be sent.

use super::*;

const RUNS: usize = 20;
const OLDER: usize = 40_000;

fn statuses(tenant: &Tenant<'_>, client: &mut Client) -> BTreeSet<String> {
    let deliveries = tenant.deliveries(client);
    deliveries
        .into_iter()
        .map(|delivery| delivery.status)
        .collect()
}

/// Without usable webhook_url.
fn nowhere(database: &Database) -> Tenant<'_> {
    let tenant = Tenant::with_items_to(database, "https://receiver.invalid/");
    execute(
        &mut database.client(),
        &format!(
            "update int.plugin_installations set config = null where id = '{}'",
            tenant.installation
        ),
    );
    tenant
}

fn settles_what_cannot_be_sent(dispatch: &str, older: usize) {
    let own = builder()
        .preloaded()
        .setting("plugin_webhooks.dispatch", dispatch)
        .start();
    let database = project_with_items(&own);
    let mut client = database.client();
    wait_for_worker(&mut client);
    let busy = Tenant::with_items_to(&database, "http://127.0.0.1:9/");
    busy.insert_items(&mut client, i32::try_from(older).expect("a number"));
    for run in 0..RUNS {
        let tenant = nowhere(&database);
        tenant.insert_items(&mut client, 1);
        let pending = BTreeSet::from(["pending".to_owned()]);
        assert_eq!(statuses(&tenant, &mut client), pending, "{run}");
        wait_for_looks(&mut client, 2);
        assert_eq!(statuses(&tenant, &mut client), pending, "{run}, later");
        process(&database, "(50)");
        let dead = BTreeSet::from(["dead".to_owned()]);
        assert_eq!(statuses(&tenant, &mut client), dead, "{run}, processed");
        let delivery = tenant.delivery(&mut client);
        let reason = delivery.last_error.expect("a reason");
        assert!(reason.contains("webhook_url"), "{reason}");
    }
}

#[test]
fn is_dead_when_the_processor_returns_and_pending_before() {
    settles_what_cannot_be_sent("on_commit", 0);
    settles_what_cannot_be_sent("on_call", 0);
}

#[test]
fn is_the_same_behind_many_older_deliveries() {
    settles_what_cannot_be_sent("on_commit", OLDER);
    settles_what_cannot_be_sent("on_call", OLDER);
}

#[test]
fn is_dead_soon_without_the_processor() {
    let database = project_with_items(server());
    let mut client = database.client();
    let tenant = nowhere(&database);
    tenant.insert_items(&mut client, 1);
    tenant.wait_for(&mut client, SOON, |delivery| delivery.status == "dead");
    let age: f64 = value(
        &mut client,
        "select extract(epoch from updated_at - created_at)::float8 from int.plugin_delivery_queue",
    );
    assert!(age >= 2.0, "{age}");
}

#[test]
fn is_pending_while_an_attempt_runs_however_it_was_started() {
    for dispatch in ["on_commit", "on_call"] {
        let own = builder()
            .preloaded()
            .setting("plugin_webhooks.dispatch", dispatch)
            .start();
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        receiver.answer("/", Reply::Hang);
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 1);
        if dispatch == "on_call" {
            assert_eq!(process(&database, "()"), 1);
        }
        receiver.wait_for(1, SOON);
        assert_eq!(tenant.delivery(&mut client).status, "pending");
        assert_eq!(process(&database, "()"), 0, "it is under way");
        // Sent anew, and the outcome of the first attempt counts no more.
        receiver.answer("/", Reply::ok());
        execute(
            &mut client,
            "update int.plugin_delivery_queue set status = 'pending'",
        );
        if dispatch == "on_call" {
            assert_eq!(process(&database, "()"), 1);
        }
        tenant.wait_delivered(&mut client, SOON);
        assert_eq!(receiver.count(), 2);
    }
}

/// As with any call, and nothing is settled.
#[test]
fn stays_when_the_processor_is_cancelled_while_it_reads_a_secret() {
    let own = builder()
        .preloaded()
        .setting("plugin_webhooks.dispatch", "on_call")
        .start();
    let database = project_with_items(&own);
    let mut client = database.client();
    let tenant = Tenant::with_items_to(&database, "http://127.0.0.1:9/");
    execute(
        &mut client,
        "create schema vault;
         create view vault.decrypted_secrets as
             select 'slow'::text as name, pg_catalog.pg_sleep(60)::text as decrypted_secret;
         select plugin_webhooks.attach_host();
         update int.plugin_installations set secret_ref = 'slow'",
    );
    tenant.insert_items(&mut client, 1);
    execute(&mut client, "set statement_timeout = '100ms'");
    let call = "select public.rpc_process_plugin_deliveries()";
    expect_sqlstate(client.batch_execute(call), "57014");
    let delivery = tenant.delivery(&mut client);
    assert_eq!(
        (delivery.status.as_str(), delivery.attempts),
        ("pending", 0)
    );
}
