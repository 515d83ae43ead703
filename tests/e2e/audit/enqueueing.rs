use super::*;

fn project_with_items() -> (Database, Client) {
    let database = plugin_webhooks_kit::project_with_items(shared_server());
    let client = database.client();
    (database, client)
}

const NOWHERE: &str = "https://receiver.invalid/";

#[test]
fn follows_subscriptions_that_other_sessions_change() {
    let (database, mut client) = project_with_items();
    let tenant = Tenant::install(&database, &format!(r#"{{"webhook_url": "{NOWHERE}"}}"#));
    let mut seen = 0;
    let mut step = |client: &mut Client, more: i64| {
        tenant.insert_items(client, 1);
        seen += more;
        assert_eq!(count(client, "int.plugin_delivery_queue"), seen);
    };
    step(&mut client, 0);
    tenant.subscribe("items", &["INSERT"], None, false);
    step(&mut client, 1);
    step(&mut client, 1);
    tenant.subscribe("items", &["UPDATE"], None, false);
    step(&mut client, 0);
    tenant.subscribe("items", &["INSERT"], None, false);
    tenant.set_status("disabled");
    step(&mut client, 0);
    tenant.set_status("installed");
    step(&mut client, 1);
    let second = Tenant::with_items_to(&database, NOWHERE);
    execute(
        &mut database.client(),
        &format!(
            "update int.plugin_installations set tenant_id = '{}' where id = '{}'",
            tenant.id, second.installation
        ),
    );
    step(&mut client, 2);
    execute(
        &mut database.client(),
        "set session_replication_role = replica; update int.plugins set key = key || '_renamed'",
    );
    step(&mut client, 2);
    let renamed: i64 = count(
        &mut client,
        "int.plugin_delivery_queue where payload ->> 'plugin_key' like '%_renamed'",
    );
    assert_eq!(renamed, 2);
}

#[test]
fn follows_subscriptions_of_its_own_transaction_and_forgets_them_when_it_is_rolled_back() {
    let (database, mut client) = project_with_items();
    let tenant = Tenant::install(&database, &format!(r#"{{"webhook_url": "{NOWHERE}"}}"#));
    let insert = format!("insert into items (tenant_id) values ('{}');", tenant.id);
    let subscribe = format!(
        "insert into int.plugin_webhook_subscriptions (plugin_installation_id, table_schema, table_name, operations)
         values ('{}', 'public', 'items', '{{INSERT}}');",
        tenant.installation
    );
    execute(
        &mut client,
        &format!("{insert} begin; {subscribe} {insert} rollback; {insert}"),
    );
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 0);
    execute(
        &mut client,
        &format!(
            "begin; {insert} savepoint a; {subscribe} {insert} rollback to a; {insert} commit;
             begin isolation level repeatable read; select 1 from items; {insert}"
        ),
    );
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 0);
    // What this transaction read must not outlive it.
    execute(&mut database.client(), &subscribe);
    execute(&mut client, &format!("commit; {insert}"));
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 1);
    execute(
        &mut client,
        &format!(
            "begin; {insert} {insert} delete from int.plugin_webhook_subscriptions; {insert} commit;"
        ),
    );
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 3);
}

#[test]
fn waits_for_an_installation_that_is_being_deleted_and_then_passes_it_by() {
    let (database, mut client) = project_with_items();
    let tenant = Tenant::with_items_to(&database, NOWHERE);
    tenant.insert_items(&mut client, 1);
    let mut other = database.client();
    let delete = format!(
        "delete from int.plugin_installations where id = '{}'",
        tenant.installation
    );
    execute(&mut other, &format!("begin; {delete};"));
    let pid: i32 = value(&mut client, "select pg_backend_pid()");
    thread::scope(|scope| {
        let writer = scope.spawn(|| tenant.insert_items(&mut client, 600));
        let mut observer = database.client();
        wait_until(SOON, "the writer to wait", || {
            count(
                &mut observer,
                &format!("pg_locks where pid = {pid} and not granted"),
            ) > 0
        });
        execute(&mut other, "commit");
        writer.join().expect("the insert succeeds");
    });
    assert_eq!(count(&mut other, "items"), 601);
    assert_eq!(count(&mut other, "int.plugin_delivery_queue"), 0);
    // And the other way round: the deletion waits for the writer, and takes its deliveries along.
    let next = Tenant::with_items_to(&database, NOWHERE);
    execute(&mut other, "begin");
    next.insert_items(&mut other, 2);
    let mut deleter = database.client();
    let pid: i32 = value(&mut deleter, "select pg_backend_pid()");
    thread::scope(|scope| {
        let deletion =
            scope.spawn(|| execute(&mut deleter, "delete from int.plugin_installations"));
        let mut observer = database.client();
        wait_until(SOON, "the deletion to wait", || {
            count(
                &mut observer,
                &format!("pg_locks where pid = {pid} and not granted"),
            ) > 0
        });
        execute(&mut other, "commit");
        deletion.join().expect("the deletion succeeds");
    });
    assert_eq!(count(&mut other, "int.plugin_delivery_queue"), 0);
}

#[test]
fn happens_for_rows_that_others_insert_into_the_log() {
    let (database, mut client) = project_with_items();
    let tenant = Tenant::with_items_to(&database, NOWHERE);
    let insert = format!(
        "insert into audit.entity_changes (table_schema, table_name, record_id, operation, tenant_id)
         select 'public', 'items', n, 'INSERT', '{}' from generate_series(1, 3) n",
        tenant.id
    );
    execute(&mut client, &insert);
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 3);
    // A database that was taken over may fire it row by row, or both ways.
    execute(
        &mut client,
        &format!(
            "create trigger row_by_row after insert on audit.entity_changes
                 for each row execute function int.enqueue_plugin_events_from_audit();
             {insert};
             drop trigger entity_changes_plugin_enqueue_trigger on audit.entity_changes;
             {insert};"
        ),
    );
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 9);
    tenant.insert_items(&mut client, 5);
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 14);
    execute(
        &mut client,
        "drop trigger row_by_row on audit.entity_changes",
    );
    tenant.insert_items(&mut client, 5);
    assert_eq!(
        count(&mut client, "int.plugin_delivery_queue"),
        14,
        "nobody asks for deliveries any more"
    );
}

#[test]
fn can_be_switched_off_at_its_trigger() {
    let (database, mut client) = project_with_items();
    let tenant = Tenant::with_items_to(&database, NOWHERE);
    execute(
        &mut client,
        "alter table audit.entity_changes disable trigger entity_changes_plugin_enqueue_trigger",
    );
    tenant.insert_items(&mut client, 3);
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 0);
    execute(
        &mut client,
        "alter table audit.entity_changes enable trigger entity_changes_plugin_enqueue_trigger",
    );
    tenant.insert_items(&mut client, 3);
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 3);
}

/// The first version of the schema has no triggers that announce changes.
#[test]
fn sees_changes_of_subscriptions_without_the_triggers_that_announce_them() {
    let (database, mut client) = project_with_items();
    execute(
        &mut client,
        "drop trigger plugins_forget_subscriptions on int.plugins;
         drop trigger plugin_installations_forget_subscriptions on int.plugin_installations;
         drop trigger plugin_webhook_subscriptions_forget_subscriptions on int.plugin_webhook_subscriptions;",
    );
    let tenant = Tenant::install(&database, &format!(r#"{{"webhook_url": "{NOWHERE}"}}"#));
    tenant.insert_items(&mut client, 1);
    tenant.subscribe("items", &["INSERT"], None, false);
    tenant.insert_items(&mut client, 1);
    tenant.set_status("disabled");
    tenant.insert_items(&mut client, 1);
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 1);
}

#[test]
fn of_one_statement_serves_many_tenants() {
    let (database, mut client) = project_with_items();
    execute(
        &mut client,
        "select rpc_register_plugin('many', 'Many');
         create table tenants as select gen_random_uuid() as id, n from generate_series(1, 200) n;
         select rpc_upsert_plugin_webhook_subscription(t.id, rpc_install_plugin(t.id, 'many'), 'public', 'items', \
         '{INSERT}')
             from tenants t where n % 2 = 0;
         insert into items (tenant_id) select t.id from generate_series(1, 10), tenants t;",
    );
    assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 1000);
    assert_eq!(
        count(&mut client, "int.plugin_delivery_queue q join audit.entity_changes c
            on c.id = q.source_entity_change_id and c.tenant_id = q.tenant_id join int.plugin_installations i
            on i.id = q.plugin_installation_id and i.tenant_id = q.tenant_id"),
        1000
    );
    drop(database);
}

#[test]
fn writes_the_payload_that_the_statement_would_write() {
    let (database, mut client) = project_with_items();
    for include in [false, true] {
        let tenant = Tenant::install(&database, &format!(r#"{{"webhook_url": "{NOWHERE}"}}"#));
        tenant.subscribe("items", &["INSERT", "UPDATE", "DELETE"], None, include);
        execute(
            &mut client,
            &format!(
                "insert into items (tenant_id, title, data) values ('{0}', E'\\u00fc \"\\n', '{{\"a\": [1.10, \
                null, \"x\"]}}'), ('{0}', null, '1');
                 update items set title = 'x', note = '' where tenant_id = '{0}';
                 update items set title = title where tenant_id = '{0}';
                 delete from items where tenant_id = '{0}';",
                tenant.id
            ),
        );
    }
    let written =
        "select string_agg(concat_ws('|', source_entity_change_id, event_type, payload), E'\\n' \
    order by source_entity_change_id)
                   from int.plugin_delivery_queue";
    let by_appending: String = value(&mut client, written);
    execute(
        &mut client,
        "delete from int.plugin_delivery_queue;
         create temp table kept as select * from audit.entity_changes where table_name = 'items';
         delete from audit.entity_changes;
         insert into audit.entity_changes overriding system value select * from kept order by id;",
    );
    let by_statement: String = value(&mut client, written);
    assert_eq!(by_appending, by_statement);
    assert_eq!(by_statement.lines().count(), 16);
}
