//! Streaming replication and physical copies: a standby sends nothing, a promoted one goes on by itself, a
//! copy of another site waits.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, Receiver, Server, StopMode, Tenant, Tree, create_tracked_table, execute, project,
    value, wait_until,
};

const SOON: Duration = Duration::from_secs(30);

fn primary(settings: &[(&str, &str)]) -> Server {
    Server::builder(Tree::shared())
        .preloaded()
        .setting("plugin_webhooks.allowed_networks", "127.0.0.0/8")
        .settings(settings)
        .start()
}

/// A project whose items go to the receiver.
fn items_to<'a>(database: &'a Database, receiver: &Receiver) -> Tenant<'a> {
    create_tracked_table(&mut database.client(), "items");
    Tenant::with_items_to(database, &receiver.url("/"))
}

fn wait_for_replay(primary: &Server, standby: &Server) {
    let mut client = primary.connect("postgres");
    let written: String = value(&mut client, "select pg_current_wal_lsn()::text");
    let replayed = format!("select pg_last_wal_replay_lsn() >= '{written}'");
    wait_until(SOON, "the standby to catch up", || {
        value(&mut standby.connect("postgres"), &replayed)
    });
}

/// Ids of the items that the receiver has heard of.
fn heard(receiver: &Receiver) -> BTreeSet<i64> {
    let id = |text: &str| -> Option<i64> {
        let rest = text.split_once("\"record_id\": \"")?.1;
        rest.split_once('"')?.0.parse().ok()
    };
    receiver
        .requests()
        .iter()
        .filter_map(|request| id(request.text()))
        .collect()
}

fn workers(client: &mut Client) -> i64 {
    value(
        client,
        "select count(*) from pg_stat_activity where backend_type like 'plugin_webhooks%'",
    )
}

#[test]
fn a_standby_sends_nothing_and_starts_by_itself_after_a_planned_switch() {
    // The primary leaves everything to whoever comes after it.
    let primary = primary(&[("plugin_webhooks.dispatch", "on_call")]);
    let database = project(&primary);
    let receiver = Receiver::http();
    let tenant = items_to(&database, &receiver);
    let standby = primary.standby(&[("plugin_webhooks.dispatch", "on_commit")]);
    tenant.insert_items(&mut database.client(), 50);
    wait_for_replay(&primary, &standby);
    let mut client = standby.connect(database.name());
    assert_eq!(
        value::<i64>(
            &mut client,
            "select count(*) from int.plugin_delivery_queue where status = 'pending'"
        ),
        50
    );
    assert_eq!(workers(&mut client), 0);
    let refused = client.batch_execute("select public.rpc_process_plugin_deliveries()");
    assert!(refused.is_err());
    assert_eq!(receiver.count(), 0);

    primary.stop(StopMode::Fast);
    standby.promote();
    receiver.wait_for(50, SOON);
    tenant.insert_items(&mut standby.connect(database.name()), 1);
    receiver.wait_for(51, SOON);
    assert_eq!(receiver.count(), 51);
}

#[test]
fn no_acknowledged_change_is_lost_when_the_primary_is_killed_under_load() {
    let primary = primary(&[]);
    let database = project(&primary);
    let receiver = Receiver::http();
    let tenant = items_to(&database, &receiver);
    let standby = primary.standby(&[]);
    primary.alter_system("synchronous_standby_names", "*");
    let stop = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = database.client();
                    let insert = format!(
                        "insert into items (tenant_id, title) values ('{}', 'x') returning id",
                        tenant.id
                    );
                    let mut ids = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match client.query_one(insert.as_str(), &[]) {
                            Ok(row) => ids.push(row.get::<_, i64>(0)),
                            Err(_) => break,
                        }
                    }
                    ids
                })
            })
            .collect();
        receiver.wait_for(100, SOON);
        primary.crash();
        stop.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .flat_map(|writer| writer.join().expect("a writer"))
            .collect::<BTreeSet<i64>>()
    });
    assert!(acknowledged.len() >= 100);
    standby.promote();
    // The new primary waits for no standby.
    standby.alter_system("synchronous_standby_names", "");
    wait_until(SOON, "every acknowledged change to arrive", || {
        acknowledged.is_subset(&heard(&receiver))
    });
    let left = "select count(*) from int.plugin_delivery_queue where status <> 'delivered'";
    wait_until(SOON, "every delivery to be settled", || {
        value::<i64>(&mut standby.connect(database.name()), left) == 0
    });
}

#[test]
fn a_physical_copy_of_another_site_waits() {
    let primary = primary(&[("plugin_webhooks.site", "production")]);
    let database = project(&primary);
    let receiver = Receiver::http();
    let tenant = items_to(&database, &receiver);
    tenant.insert_items(&mut database.client(), 1);
    receiver.wait_for(1, SOON);
    let copy = primary.standby(&[("plugin_webhooks.site", "staging")]);
    copy.expect_log("are paused: the data belongs to site");
    let mut client = copy.connect(database.name());
    let instance = "select instance from plugin_webhooks.health";
    assert_eq!(
        value::<String>(&mut client, instance),
        "standby: its primary delivers"
    );
    assert_eq!(value::<String>(&mut database.client(), instance), "active");
    // The accident.
    copy.promote();
    tenant.insert_items(&mut client, 1);
    wait_until(SOON, "the copy's worker to say that it is paused", || {
        copy.log().contains(
            "are paused: the data belongs to site \"production\", plugin_webhooks.site \
        is \"staging\" here",
        )
    });
    let why: Option<String> = value(
        &mut client,
        "select paused_because from plugin_webhooks.health",
    );
    assert!(why.is_some_and(|why| why.contains("staging")));
    assert!(
        value::<String>(&mut client, instance).contains("SELECT plugin_webhooks.resume()"),
        "a copy says what to do"
    );
    wait_until(SOON, "the copy's worker to say that it is paused", || {
        value::<Option<String>>(
            &mut client,
            "select worker_activity from plugin_webhooks.health",
        )
        .as_deref()
            == Some("paused")
    });
    // The original does not notice.
    tenant.insert_items(&mut database.client(), 1);
    receiver.wait_for(2, SOON);
    assert_eq!(receiver.count(), 2);
    execute(&mut client, "select plugin_webhooks.resume()");
    receiver.wait_for(3, SOON);
}

#[test]
fn recovery_to_a_point_in_time_has_the_queue_of_that_time() {
    let primary = primary(&[("plugin_webhooks.dispatch", "on_call")]);
    let database = project(&primary);
    let receiver = Receiver::http();
    let tenant = items_to(&database, &receiver);
    tenant.insert_items(&mut database.client(), 2);
    let past = primary.standby(&[
        ("recovery_target_name", "then"),
        ("recovery_target_action", "promote"),
        ("plugin_webhooks.dispatch", "on_commit"),
    ]);
    tenant.insert_items(&mut database.client(), 3);
    execute(
        &mut database.client(),
        "select pg_create_restore_point('then')",
    );
    tenant.insert_items(&mut database.client(), 4);
    wait_until(SOON, "the end of recovery", || {
        !value::<bool>(&mut past.connect("postgres"), "select pg_is_in_recovery()")
    });
    receiver.wait_for(5, SOON);
    let mut client = past.connect(database.name());
    assert_eq!(
        value::<i64>(
            &mut client,
            "select count(*) from int.plugin_delivery_queue"
        ),
        5
    );
    assert_eq!(receiver.count(), 5);
}

#[test]
fn a_change_of_the_site_waits_for_the_operator() {
    let primary = primary(&[]);
    let database = project(&primary);
    let receiver = Receiver::http();
    let tenant = items_to(&database, &receiver);
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    receiver.wait_for(1, SOON);
    primary.expect_log("are paused: the data belongs to site");
    primary.alter_system("plugin_webhooks.site", "renamed");
    wait_until(SOON, "the worker to pause", || {
        primary
            .log()
            .contains("plugin_webhooks.site is \"renamed\" here")
    });
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    assert_eq!(receiver.count(), 1);
    execute(&mut client, "select plugin_webhooks.resume()");
    receiver.wait_for(2, SOON);
}
