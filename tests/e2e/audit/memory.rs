use super::*;

/// Private memory of a process in KiB.
fn private_memory(pid: i32) -> i64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

/// The most that a session's private memory grows while it runs a statement, in KiB.
fn growth(client: &mut Client, statement: &str) -> i64 {
    let pid: i32 = value(client, "select pg_backend_pid()");
    let before = private_memory(pid);
    let (done, most) = (AtomicBool::new(false), AtomicI64::new(before));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(private_memory(pid), Ordering::Relaxed);
                thread::yield_now();
            }
        });
        let result = client.batch_execute(statement);
        done.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|error| panic!("{statement}: {}", describe(&error)));
    });
    most.into_inner() - before
}

#[test]
fn of_a_statement_over_a_million_rows_stays_within_32_mb() {
    const LIMIT: i64 = 32 * 1024;
    let database = project(shared_server());
    let mut session = database.client();
    create_tracked_table(&mut session, "items");
    let tenant = Tenant::with_items_to(&database, "https://receiver.invalid/");
    execute(
        &mut session,
        "set statement_timeout = 0; set work_mem = '4MB'; update int.plugin_webhook_subscriptions \
        set operations = '{DELETE}'",
    );
    tenant.insert_items(&mut session, 10);
    execute(&mut session, "delete from items");
    let insert = format!(
        "insert into items (tenant_id, title) select '{}', 'item ' || n from generate_series(1, 1000000) n",
        tenant.id
    );
    let inserting = growth(&mut session, &insert);
    let updating = growth(&mut session, "update items set note = 'x' where id % 4 = 0");
    let deleting = growth(&mut session, "delete from items where id % 4 = 1");
    assert_eq!(
        count(
            &mut session,
            "audit.entity_changes where table_name = 'items'"
        ),
        1_500_020
    );
    assert_eq!(count(&mut session, "int.plugin_delivery_queue"), 250_010);
    assert!(
        inserting < LIMIT && updating < LIMIT && deleting < LIMIT,
        "KiB: insert {inserting}, update {updating}, delete {deleting}"
    );
}
