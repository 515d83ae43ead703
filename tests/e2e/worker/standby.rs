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
    let statuses = "select string_agg(status, ' ' order by status) from int.plugin_delivery_queue";
    let worker = wait_for_worker(&mut client);
    primary.pause(worker);
    tenant.insert_items(&mut client, 1);
    let claimed = "select concat_ws(' ', count(claim_id), count(*)) from int.plugin_delivery_queue";
    wait_until(SOON, "the standby to catch up", || {
        value::<String>(&mut reader, claimed) == "1 2"
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
