//! What a trigger of the audit log takes out of a row, or makes of it, holds for its deliveries.

use super::*;

const NOWHERE: &str = r#"{"webhook_url": "https://receiver.invalid/"}"#;

/// A tenant that hears of everything on `items`, with all data.
fn listener(database: &Database) -> Tenant<'_> {
    let tenant = Tenant::install(database, NOWHERE);
    tenant.subscribe("items", &["INSERT", "UPDATE", "DELETE"], None, true);
    tenant
}

/// Has every row that comes into the audit log amended first.
#[track_caller]
fn amend(client: &mut Client, amendment: &str) {
    execute(
        client,
        &format!(
            "create or replace function public.amend() returns trigger language plpgsql as $$
                 begin {amendment} return new; end $$;
             create or replace trigger amend before insert on audit.entity_changes
                 for each row when (new.table_name = 'items') execute function public.amend();"
        ),
    );
}

/// `rows` rows of the tenant are inserted, updated in two columns, and deleted.
#[track_caller]
fn change_items(client: &mut Client, tenant: &Tenant, rows: i32) {
    execute(
        client,
        &format!(
            "insert into items (tenant_id, title, note, data)
                 select '{0}', 'title', 'confidential', jsonb_build_object('n', n) from generate_series(1, {rows}) n;
             update items set title = 'other', note = 'more confidential' where tenant_id = '{0}';
             delete from items where tenant_id = '{0}';",
            tenant.id
        ),
    );
}

/// Every delivery says what its row of the audit log says; returns how many there are.
#[track_caller]
fn agreeing_deliveries(client: &mut Client) -> i64 {
    let deliveries = count(client, "int.plugin_delivery_queue");
    let agreeing = count(
        client,
        "int.plugin_delivery_queue q join audit.entity_changes c on c.id = q.source_entity_change_id
         where q.tenant_id = c.tenant_id
           and q.event_type = lower(format('entity_change.%s.%s', c.table_name, c.operation))
           and q.payload ->> 'tenant_id' = c.tenant_id::text
           and q.payload -> 'audit' = jsonb_build_object(
               'id', c.id, 'table_schema', c.table_schema, 'table_name', c.table_name,
               'record_id', c.record_id, 'operation', c.operation, 'changed_fields', c.changed_fields)
           and q.payload -> 'snapshot' = jsonb_build_object('old_data', c.old_data, 'new_data', c.new_data)",
    );
    assert_eq!(agreeing, deliveries);
    deliveries
}

/// Databases capture and enqueue in different ways.
const WAYS: [(&str, &str); 5] = [
    ("statement triggers", ""),
    (
        "row triggers",
        "select audit.untrack('items');
         create trigger by_row after insert or update or delete on items
             for each row execute function audit.log_entity_change();",
    ),
    (
        "a log that only a statement can write",
        "alter table audit.entity_changes
             add column lower_name text generated always as (lower(table_name)) stored;",
    ),
    (
        "an enqueue trigger for each row",
        "drop trigger entity_changes_plugin_enqueue_trigger on audit.entity_changes;
         create trigger row_by_row after insert on audit.entity_changes
             for each row execute function int.enqueue_plugin_events_from_audit();",
    ),
    (
        "one more trigger that is fired after an insert",
        "create function public.look() returns trigger language plpgsql as $$ begin return null; end $$;
         create trigger look after insert on audit.entity_changes for each row execute function public.look();",
    ),
];

#[test]
fn a_value_that_is_removed_from_the_audit_log_is_in_no_delivery() {
    for (way, setup) in WAYS {
        let database = plugin_webhooks_kit::project_with_items(shared_server());
        let (mut client, tenant) = (database.client(), listener(&database));
        execute(&mut client, setup);
        amend(
            &mut client,
            "new.old_data := new.old_data - 'note';
             new.new_data := new.new_data - 'note';
             new.changed_fields := array_remove(new.changed_fields, 'note');",
        );
        for rows in [1, 600] {
            execute(&mut client, "delete from int.plugin_delivery_queue");
            change_items(&mut client, &tenant, rows);
            let deliveries = agreeing_deliveries(&mut client);
            assert_eq!(deliveries, 3 * i64::from(rows), "{way}");
            let leaks = "int.plugin_delivery_queue where payload::text like '%confidential%'";
            assert_eq!(count(&mut client, leaks), 0, "{way}");
        }
    }
}

#[test]
fn a_change_whose_tenant_is_cleared_is_delivered_to_nobody() {
    for (way, setup) in WAYS {
        let database = plugin_webhooks_kit::project_with_items(shared_server());
        let (mut client, tenant) = (database.client(), listener(&database));
        execute(&mut client, setup);
        amend(&mut client, "new.tenant_id := null;");
        change_items(&mut client, &tenant, 3);
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 0, "{way}");
        let logged = "audit.entity_changes where table_name = 'items' and tenant_id is null";
        assert_eq!(count(&mut client, logged), 9, "{way}");
    }
}

#[test]
fn a_change_is_delivered_to_the_tenant_that_it_is_written_with() {
    for (way, setup) in WAYS {
        let database = plugin_webhooks_kit::project_with_items(shared_server());
        let (first, second) = (listener(&database), listener(&database));
        let mut client = database.client();
        execute(&mut client, setup);
        amend(&mut client, &format!("new.tenant_id := '{}';", second.id));
        change_items(&mut client, &first, 3);
        assert_eq!(agreeing_deliveries(&mut client), 9, "{way}");
        assert_eq!(second.deliveries(&mut client).len(), 9, "{way}");
    }
}

#[test]
fn a_change_that_is_not_written_is_not_delivered() {
    for (way, setup) in WAYS {
        let database = plugin_webhooks_kit::project_with_items(shared_server());
        let (mut client, tenant) = (database.client(), listener(&database));
        execute(&mut client, setup);
        amend(
            &mut client,
            "if new.operation = 'DELETE' or new.new_data -> 'data' ->> 'n' = '2' then return null; end if;",
        );
        change_items(&mut client, &tenant, 3);
        assert_eq!(agreeing_deliveries(&mut client), 4, "{way}");
    }
}

#[test]
fn a_change_is_matched_as_it_is_written() {
    for (way, setup) in WAYS {
        let database = plugin_webhooks_kit::project_with_items(shared_server());
        let (mut client, tenant) = (database.client(), Tenant::install(&database, NOWHERE));
        tenant.subscribe("renamed", &["DELETE"], None, true);
        tenant.subscribe("items", &["UPDATE"], Some(&["note"]), true);
        execute(&mut client, setup);
        amend(
            &mut client,
            "new.record_id := 'record ' || new.record_id;
             if new.operation = 'INSERT' then new.table_name := 'renamed'; new.operation := 'DELETE'; end if;
             if new.new_data -> 'data' ->> 'n' = '2' then new.changed_fields := '{title}'; end if;",
        );
        change_items(&mut client, &tenant, 3);
        assert_eq!(agreeing_deliveries(&mut client), 3 + 2, "{way}");
        let deletes = "int.plugin_delivery_queue where event_type = 'entity_change.renamed.delete'
             and payload -> 'audit' ->> 'record_id' like 'record %'";
        assert_eq!(count(&mut client, deletes), 3, "{way}");
    }
}

#[test]
fn values_that_a_trigger_takes_from_a_table_come_whole() {
    for (way, setup) in WAYS {
        let database = plugin_webhooks_kit::project_with_items(shared_server());
        let (mut client, tenant) = (database.client(), listener(&database));
        execute(&mut client, setup);
        // Stored outside of the row, and compressed in it.
        execute(
            &mut client,
            "create table public.stored (data jsonb, fields text[]);
             insert into public.stored
                 select jsonb_object_agg(n, md5(n::text)), array_agg(md5(n::text)) from generate_series(1, 5000) n;
             insert into public.stored values (jsonb_build_object('a', repeat('a', 100000)), array[repeat('f', 5000)]);
             grant select on public.stored to plugin_webhooks_owner;",
        );
        amend(
            &mut client,
            "select s.data, s.fields into new.new_data, new.changed_fields
                 from public.stored s offset (new.operation = 'UPDATE')::int limit 1;",
        );
        change_items(&mut client, &tenant, 2);
        assert_eq!(agreeing_deliveries(&mut client), 6, "{way}");
    }
}
