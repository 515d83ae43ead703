//! Which changes become deliveries, and what these hold. Changes are written straight to the audit
//! log; how a row of a table gets there is in `audit`.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{
        Caller, Tenant, log_inserts, operator, plain_role, plugin, text, tracked_things, uuid,
    };
    use pgrx::prelude::*;

    const OPERATIONS: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

    /// A change of `app.orders` as the audit log has it.
    #[derive(Clone, Copy)]
    struct Change<'a> {
        tenant: Option<&'a str>,
        operation: &'a str,
        changed: Option<&'a [&'a str]>,
    }

    fn array(items: &[&str]) -> String {
        format!("'{{{}}}'", items.join(","))
    }

    /// Writes all changes with one statement; record_id is the position.
    fn log(changes: &[Change<'_>]) {
        let rows: Vec<String> = changes
            .iter()
            .enumerate()
            .map(|(position, change)| {
                format!(
                    "({}::uuid, 'app', 'orders', '{position}', '{}', {}::text[])",
                    change.tenant.map_or("null".into(), text),
                    change.operation,
                    change.changed.map_or("null".into(), array),
                )
            })
            .collect();
        operator().run(&format!(
            "insert into audit.entity_changes (tenant_id, table_schema, table_name, record_id, operation, \
            changed_fields)
             values {}",
            rows.join(", ")
        ));
    }

    fn deliveries() -> i64 {
        operator().count("int.plugin_delivery_queue")
    }

    /// Removes and returns the record_ids that were enqueued.
    fn take_enqueued() -> Vec<usize> {
        let records = operator().rows(
            "select payload #>> '{audit,record_id}' from int.plugin_delivery_queue order by source_entity_change_id",
        );
        operator().run("delete from int.plugin_delivery_queue");
        records
            .iter()
            .map(|record| record.trim_matches(['(', ')']).parse().unwrap())
            .collect()
    }

    /// Every subset of the operations but the empty one.
    fn subsets() -> Vec<Vec<&'static str>> {
        (1..8)
            .map(|bits| {
                (0..3)
                    .filter(|bit| bits & (1 << bit) != 0)
                    .map(|bit| OPERATIONS[bit])
                    .collect()
            })
            .collect()
    }

    #[pg_extern]
    fn exactly_the_matching_changes_are_enqueued() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("app", "orders");
        let stranger = uuid();
        let kinds: [(&str, Option<&[&str]>); 7] = [
            ("INSERT", None),
            ("DELETE", None),
            ("UPDATE", None),
            ("UPDATE", Some(&[])),
            ("UPDATE", Some(&["status"])),
            ("UPDATE", Some(&["title"])),
            ("UPDATE", Some(&["note", "status"])),
        ];
        let changes: Vec<Change<'_>> = [Some(tenant.id.as_str()), Some(&stranger), None]
            .into_iter()
            .flat_map(|tenant| {
                kinds.map(|(operation, changed)| Change {
                    tenant,
                    operation,
                    changed,
                })
            })
            .collect();
        let allowlists: [Option<&[&str]>; 5] = [
            None,
            Some(&[]),
            Some(&["status"]),
            Some(&["Status", "other"]),
            Some(&["title", "status"]),
        ];
        for status in ["installed", "disabled", "uninstalled"] {
            operator().run(&format!(
                "update int.plugin_installations set status = '{status}'"
            ));
            for operations in subsets() {
                for allowlist in allowlists {
                    for include_payload in [false, true] {
                        operator().run(&format!(
                            "update int.plugin_webhook_subscriptions set operations = {},
                                 changed_fields_allowlist = {}, include_payload = {include_payload}",
                            array(&operations),
                            allowlist.map_or("null".into(), array),
                        ));
                        log(&changes);
                        let expected: Vec<usize> = (0..changes.len())
                            .filter(|position| {
                                let change = changes[*position];
                                let listed = |fields: &[&str]| {
                                    fields.is_empty()
                                        || change.changed.is_some_and(|changed| {
                                            changed.iter().any(|field| fields.contains(field))
                                        })
                                };
                                status == "installed"
                                    && change.tenant == Some(&tenant.id)
                                    && operations.contains(&change.operation)
                                    && (change.operation != "UPDATE"
                                        || allowlist.is_none_or(listed))
                            })
                            .collect();
                        assert_eq!(
                            take_enqueued(),
                            expected,
                            "{status}, {operations:?}, {allowlist:?}, {include_payload}"
                        );
                    }
                }
            }
        }
    }

    #[pg_extern]
    fn the_payload_has_exactly_the_documented_keys() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("app", "orders");
        let old = r#"{"id": 7, "price": 1.10, "note": null}"#;
        let new = r#"{"id": 7, "price": 12345678901234567890123, "note": "\u0001 \"é\" 🦀"}"#;
        let cases = [
            ("INSERT", None, Some(new), "null"),
            ("UPDATE", Some(old), Some(new), r#"["price", "note"]"#),
            ("DELETE", Some(old), None, "null"),
        ];
        for (operation, old, new, changed) in cases {
            for include_payload in [false, true] {
                operator().run(&format!(
                    "update int.plugin_webhook_subscriptions set include_payload = {include_payload}"
                ));
                let data = |row: Option<&str>| row.map_or("null".into(), text);
                operator().run(&format!(
                    "insert into audit.entity_changes
                         (tenant_id, table_schema, table_name, record_id, operation, old_data, new_data, changed_fields)
                     values ('{}', 'app', 'orders', '7', '{operation}', {}, {}, {})",
                    tenant.id,
                    data(old),
                    data(new),
                    if changed == "null" { "null" } else { "'{price,note}'" },
                ));
                let id = operator().value("select max(id) from audit.entity_changes");
                let snapshot = if include_payload {
                    format!(
                        r#"{{"old_data": {}, "new_data": {}}}"#,
                        old.unwrap_or("null"),
                        new.unwrap_or("null")
                    )
                } else {
                    format!(r#"{{"record_id": "7", "changed_fields": {changed}}}"#)
                };
                let expected = format!(
                    r#"{{"v": 1, "tenant_id": "{}", "installation_id": "{}", "plugin_key": "crm",
                        "audit": {{"id": {id}, "table_schema": "app", "table_name": "orders", "record_id": "7",
                                  "operation": "{operation}", "changed_fields": {changed}}},
                        "snapshot": {snapshot}}}"#,
                    tenant.id, tenant.installation
                );
                assert_eq!(
                    operator().value("select payload from int.plugin_delivery_queue"),
                    operator().value(&format!("{}::jsonb", text(&expected))),
                );
                operator().run("delete from int.plugin_delivery_queue");
            }
        }
    }

    #[pg_extern]
    fn the_payload_tells_changed_fields_of_any_shape() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("app", "orders");
        for fields in ["{}", "{a,NULL}", "{{a,b},{c,NULL}}"] {
            operator().run(&format!(
                "insert into audit.entity_changes
                     (tenant_id, table_schema, table_name, record_id, operation, changed_fields)
                 values ('{}', 'app', 'orders', '7', 'INSERT', '{fields}')",
                tenant.id,
            ));
            assert_eq!(
                operator().value(
                    "select payload #> '{audit,changed_fields}' from int.plugin_delivery_queue"
                ),
                operator().value(&format!("to_jsonb('{fields}'::text[])")),
            );
            operator().run("delete from int.plugin_delivery_queue");
        }
    }

    #[pg_extern]
    fn a_new_delivery_is_pending_and_due_at_once() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("app", "orders");
        log_inserts(&tenant.id, "app", "orders", 1);
        assert_eq!(
            operator().rows(
                "select q.tenant_id, q.plugin_installation_id, q.source_entity_change_id = c.id as change, q.status,
                        q.attempts, q.next_attempt_at = now() as due, q.last_error, q.net_request_id, q.sent_at,
                        q.claim_id, q.lease_expires_at
                 from int.plugin_delivery_queue q, audit.entity_changes c where c.table_name = 'orders'"
            ),
            [format!(
                "({},{},t,pending,0,t,,,,,)",
                tenant.id, tenant.installation
            )]
        );
    }

    #[pg_extern]
    fn the_event_type_is_table_and_operation_in_lower_case() {
        let tenant = Tenant::with_plugin("crm");
        for (table, shown) in [
            ("orders", "orders"),
            ("UPPER", "upper"),
            ("Work Orders", "work orders"),
            ("a.b", "a.b"),
            ("it's 100%", "it's 100%"),
        ] {
            tenant.subscribe("app", table);
            for operation in OPERATIONS {
                operator().run(&format!(
                    "insert into audit.entity_changes (tenant_id, table_schema, table_name, record_id, operation)
                     values ('{}', 'app', {}, '1', '{operation}')",
                    tenant.id,
                    text(table)
                ));
                assert_eq!(
                    operator().rows(
                        "select event_type, payload #>> '{audit,table_name}' as name,
                                            payload #>> '{audit,operation}' as operation
                                     from int.plugin_delivery_queue"
                    ),
                    operator().rows(&format!(
                        "select {}::text, {}::text, '{operation}'::text",
                        text(&format!(
                            "entity_change.{shown}.{}",
                            operation.to_lowercase()
                        )),
                        text(table)
                    )),
                );
                operator().run("delete from int.plugin_delivery_queue");
            }
        }
    }

    #[pg_extern]
    fn schema_and_table_match_to_the_letter() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("app", "Orders");
        for (schema, table) in [
            ("app", "orders"),
            ("App", "Orders"),
            ("public", "Orders"),
            ("app", "Orders "),
            ("app", "\"Orders\""),
            ("app", "%"),
        ] {
            log_inserts(&tenant.id, schema, table, 1);
            assert_eq!(deliveries(), 0, "{schema}.{table}");
        }
        log_inserts(&tenant.id, "app", "Orders", 1);
        assert_eq!(deliveries(), 1);
    }

    #[pg_extern]
    fn a_table_with_upper_case_and_spaces_is_tracked_and_subscribed() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("My Schema", "Work Orders");
        operator().run("create schema \"My Schema\"");
        operator().run(
            "create table \"My Schema\".\"Work Orders\" (id int primary key, tenant_id uuid, \"Due Date\" date)",
        );
        operator().run("select audit.track('\"My Schema\".\"Work Orders\"')");
        operator().run(&format!(
            "insert into \"My Schema\".\"Work Orders\" values (1, '{}', '2026-01-01')",
            tenant.id
        ));
        operator().run("update \"My Schema\".\"Work Orders\" set \"Due Date\" = null");
        assert_eq!(
            operator().rows(
                "select event_type, payload #> '{audit,changed_fields}' as changed
                 from int.plugin_delivery_queue order by source_entity_change_id"
            ),
            [
                "(\"entity_change.work orders.insert\",null)",
                "(\"entity_change.work orders.update\",\"[\"\"Due Date\"\"]\")",
            ]
        );
    }

    #[pg_extern]
    fn the_same_change_is_never_enqueued_twice_for_an_installation() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("app", "orders");
        operator().run(
            "create trigger once_more after insert on audit.entity_changes referencing new table as inserted
             for each statement execute function int.enqueue_plugin_events_from_audit()",
        );
        log_inserts(&tenant.id, "app", "orders", 3);
        assert_eq!(deliveries(), 3);
        operator().refused_statement(
            "insert into int.plugin_delivery_queue
                 (tenant_id, plugin_installation_id, source_entity_change_id, event_type, payload)
             select tenant_id, plugin_installation_id, source_entity_change_id, event_type, payload
             from int.plugin_delivery_queue limit 1",
            "23505",
        );
    }

    #[pg_extern]
    fn each_installation_of_the_tenant_gets_its_own_delivery() {
        let tenant = Tenant::with_plugin("crm");
        plugin("erp");
        plugin("mute");
        let second = operator().value(&format!(
            "public.rpc_install_plugin('{}', 'erp')",
            tenant.id
        ));
        operator().run(&format!(
            "select public.rpc_install_plugin('{}', 'mute')",
            tenant.id
        ));
        let stranger = Tenant::with_installation_of("crm");
        stranger.subscribe("app", "orders");
        tenant.subscribe("app", "orders");
        operator().run(&format!(
            "select public.rpc_upsert_plugin_webhook_subscription('{}', '{second}', 'app', 'orders', '{{INSERT}}', \
            null, true)",
            tenant.id
        ));
        log_inserts(&tenant.id, "app", "orders", 1);
        let mut expected = [
            format!("({},crm,crm,changed_fields)", tenant.installation),
            format!("({second},erp,erp,new_data)"),
        ];
        expected.sort();
        let mut enqueued = operator().rows(
            "select q.plugin_installation_id, p.key, q.payload ->> 'plugin_key' as named,
                    (select min(k) from jsonb_object_keys(q.payload -> 'snapshot') k) as first_key
             from int.plugin_delivery_queue q join int.plugin_installations i on i.id = q.plugin_installation_id
             join int.plugins p on p.id = i.plugin_id",
        );
        enqueued.sort();
        assert_eq!(enqueued, expected);
    }

    #[pg_extern]
    fn without_a_subscription_nothing_is_enqueued() {
        let tenant = Tenant::with_plugin("crm");
        let subscription = tenant.subscribe("app", "orders");
        log_inserts(&tenant.id, "app", "invoices", 1);
        assert_eq!(deliveries(), 0);
        log_inserts(&tenant.id, "app", "orders", 1);
        operator().run(&format!(
            "select public.rpc_delete_plugin_webhook_subscription('{}', '{subscription}')",
            tenant.id
        ));
        log_inserts(&tenant.id, "app", "orders", 1);
        assert_eq!(deliveries(), 1, "what was enqueued before is still sent");
    }

    #[pg_extern]
    fn an_installation_hears_again_once_it_is_installed_again() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("app", "orders");
        let set = |status: &str| {
            operator().run(&format!(
                "select public.rpc_update_plugin_installation('{}', '{}', '{status}')",
                tenant.id, tenant.installation
            ));
        };
        set("disabled");
        log_inserts(&tenant.id, "app", "orders", 1);
        assert_eq!(deliveries(), 0);
        set("installed");
        assert_eq!(deliveries(), 0, "what happened meanwhile stays unheard");
        log_inserts(&tenant.id, "app", "orders", 1);
        assert_eq!(deliveries(), 1);
    }

    #[pg_extern]
    fn every_row_of_a_statement_is_enqueued() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("public", "things");
        tracked_things("id int primary key, tenant_id uuid, note text");
        operator().run(&format!(
            "insert into things select n, case when n % 2 = 0 then '{}'::uuid end from generate_series(1, 1000) n",
            tenant.id
        ));
        assert_eq!(deliveries(), 500);
        operator().run("update things set note = 'x' where id <= 10");
        operator().run("delete from things where id <= 4");
        assert_eq!(deliveries(), 500 + 5 + 2);
        assert_eq!(
            operator().count(
                "(select source_entity_change_id from int.plugin_delivery_queue group by 1 having count(*) > 1) as d"
            ),
            0
        );
    }

    #[pg_extern]
    fn a_writer_needs_no_rights_on_audit_log_and_queue() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("public", "things");
        tracked_things("id int primary key, tenant_id uuid");
        let writer = plain_role("plain_clerk");
        operator()
            .run("grant insert, select, update, delete on things to plain_clerk, authenticated");
        for (id, caller) in [
            (1, &writer),
            (2, &tenant.admin),
            (3, &Caller::member(&tenant.id)),
        ] {
            caller.run(&format!(
                "insert into things values ({id}, '{}')",
                tenant.id
            ));
        }
        writer.run("update things set id = 4 where id = 3");
        writer.run("delete from things where id = 4");
        assert_eq!(deliveries(), 5);
        writer.refused("count(*) from int.plugin_delivery_queue", "42501");
        writer.refused("count(*) from audit.entity_changes", "42501");
    }

    #[pg_extern]
    fn what_is_rolled_back_to_a_savepoint_is_not_enqueued() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("public", "things");
        tracked_things("id int primary key, tenant_id uuid");
        let insert = format!("insert into things values (1, '{}')", tenant.id);
        operator().refused_statement(&format!("{insert}; select 1 / 0"), "22012");
        assert_eq!(deliveries(), 0);
        operator().run(&insert);
        assert_eq!(deliveries(), 1);
    }

    #[pg_extern]
    fn the_enqueue_function_fired_in_another_way_is_39p01() {
        for (position, timing) in [
            "before insert on audit.entity_changes for each statement",
            "after insert on audit.entity_changes for each statement",
            "after insert on audit.entity_changes referencing new table as added for each statement",
        ]
        .into_iter()
        .enumerate()
        {
            operator().run(&format!(
                "create trigger odd_{position} {timing} execute function int.enqueue_plugin_events_from_audit()"
            ));
            operator().refused_statement(
                "insert into audit.entity_changes (table_schema, table_name, record_id, operation)
                 values ('s', 't', '1', 'INSERT')",
                "39P01",
            );
            operator().run(&format!("drop trigger odd_{position} on audit.entity_changes"));
        }
    }
}
