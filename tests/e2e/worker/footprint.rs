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
    let sending = "select count(*) from int.plugin_delivery_queue where claim_id is not null";
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

#[test]
fn the_worker_of_a_database_without_plugins_looks_only_when_it_is_time() {
    let own = builder()
        .preloaded()
        .setting("plugin_webhooks.poll_interval", "60s")
        .start();
    let database = own.database();
    let mut client = database.client();
    let pid = wait_for_worker(&mut client);
    let mut last_look = || -> (String, String) {
        let row = client.query_one(
            "select query, concat(state, ' since ', state_change) from pg_stat_activity where pid = $1",
            &[&pid],
        );
        row.map(|row| (row.get(0), row.get(1)))
            .expect("ask for the worker")
    };
    wait_until(SOON, "a worker that waits", || {
        let look = last_look();
        look.0 == "looking for deliveries"
            && look.1.starts_with("idle")
            && (0..100).all(|_| last_look() == look)
    });
}
