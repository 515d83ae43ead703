//! What each caller sees: through the views, and in the tables themselves.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Caller, Tenant, operator, plain_role, plugin, uuid};
    use pgrx::prelude::*;

    const TENANT_VIEWS: [&str; 5] = [
        "v_plugin_installations",
        "v_plugin_webhook_subscriptions",
        "v_plugin_delivery_attempts",
        "v_plugin_delivery_queue_recent",
        "v_audit_entity_changes",
    ];
    const TENANT_TABLES: [&str; 5] = [
        "int.plugin_installations",
        "int.plugin_webhook_subscriptions",
        "int.plugin_delivery_attempts",
        "int.plugin_delivery_queue",
        "audit.entity_changes",
    ];

    /// A tenant with at least one row in each table and view.
    fn filled(key: &str) -> Tenant {
        let tenant = Tenant::with_plugin(key);
        tenant.subscribe("int", "plugin_installations");
        operator().run(&format!(
            "select public.rpc_update_plugin_installation('{}', '{}', 'installed', 'secret name')",
            tenant.id, tenant.installation
        ));
        // What the worker writes about an attempt.
        operator().run(&format!(
            "insert into int.plugin_delivery_attempts (delivery_id, tenant_id, plugin_installation_id, attempt,
                 started_at, duration_ms, status_code, error_kind, response_start)
             select id, tenant_id, plugin_installation_id, 1, now(), 12, 503, 'status', 'busy'
             from int.plugin_delivery_queue where tenant_id = '{}'",
            tenant.id
        ));
        tenant
    }

    #[pg_extern]
    fn the_columns_of_the_views_are_an_interface() {
        let columns = operator().rows(
            "select c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' \
            order by a.attnum)
             from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
             where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' and c.relname like 'v\\_%'
             group by c.relname order by c.relname",
        );
        assert_eq!(
            columns,
            [
                "(v_audit_entity_changes,\"id bigint, table_schema text, table_name text, record_id text, \
                 operation text, old_data jsonb, new_data jsonb, changed_fields text[], user_id uuid, \
                 tenant_id uuid, created_at timestamp with time zone\")",
                "(v_plugin_delivery_attempts,\"id bigint, delivery_id uuid, tenant_id uuid, \
                 plugin_installation_id uuid, plugin_key text, attempt integer, \
                 started_at timestamp with time zone, duration_ms integer, status_code integer, \
                 error_kind text, response_start text\")",
                "(v_plugin_delivery_queue_recent,\"id uuid, tenant_id uuid, plugin_installation_id uuid, \
                 plugin_key text, event_type text, status text, attempts integer, last_error text, \
                 created_at timestamp with time zone, updated_at timestamp with time zone\")",
                "(v_plugin_installations,\"id uuid, tenant_id uuid, plugin_id uuid, plugin_key text, \
                 plugin_name text, is_integration boolean, status text, secret_ref text, config jsonb, \
                 installed_by uuid, installed_at timestamp with time zone, updated_at timestamp with time zone\")",
                "(v_plugin_webhook_subscriptions,\"id uuid, tenant_id uuid, plugin_installation_id uuid, \
                 plugin_key text, table_schema text, table_name text, operations text[], \
                 changed_fields_allowlist text[], include_payload boolean, \
                 created_at timestamp with time zone, updated_at timestamp with time zone\")",
                "(v_plugins,\"id uuid, key text, name text, description text, is_integration boolean, \
                 is_active boolean, created_at timestamp with time zone, updated_at timestamp with time zone\")",
            ]
        );
    }

    #[pg_extern]
    fn the_views_run_with_the_rights_of_their_reader() {
        let without = operator().rows(
            "select c.oid::regclass from pg_class c
             where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' and c.relname like 'v\\_%'
               and not coalesce(c.reloptions @> '{security_invoker=true}', false)",
        );
        assert_eq!(without, [""; 0]);
    }

    #[pg_extern]
    fn v_plugins_shows_active_plugins_to_anon_and_authenticated() {
        let id = operator().value("public.rpc_register_plugin('crm', 'CRM', 'text', true)");
        operator().run("select public.rpc_register_plugin('old', 'Old', null, false, false)");
        for caller in [
            Caller::role("anon"),
            Caller::role("authenticated"),
            Caller::member(&uuid()),
            Caller::admin(&uuid()),
        ] {
            let rows = caller
                .rows("select id, key, name, description, is_integration, is_active from public.v_plugins");
            assert_eq!(rows, [format!("({id},crm,CRM,text,t,t)")], "{caller:?}");
        }
    }

    #[pg_extern]
    fn an_admin_sees_the_rows_of_the_own_tenant_and_no_others() {
        let (one, two) = (filled("crm"), filled("erp"));
        for view in TENANT_VIEWS {
            for tenant in [&one, &two] {
                assert_eq!(
                    tenant
                        .admin
                        .rows(&format!("select distinct tenant_id from public.{view}")),
                    [format!("({})", tenant.id)],
                    "{view}"
                );
            }
        }
    }

    #[pg_extern]
    fn the_views_show_what_is_stored() {
        let tenant = filled("crm");
        let admin = &tenant.admin;
        let id = &tenant.installation;
        assert_eq!(
            admin.rows(
                "select id, plugin_key, plugin_name, is_integration, status, secret_ref, config, installed_by
                 from public.v_plugin_installations"
            ),
            [format!("({id},crm,\"Plugin crm\",f,installed,\"secret name\",,)")]
        );
        assert_eq!(
            admin.rows(
                "select plugin_installation_id, plugin_key, table_schema, table_name, operations,
                        changed_fields_allowlist, include_payload
                 from public.v_plugin_webhook_subscriptions"
            ),
            [format!(
                "({id},crm,int,plugin_installations,\"{{INSERT,UPDATE,DELETE}}\",,f)"
            )]
        );
        assert_eq!(
            admin.rows(
                "select plugin_installation_id, plugin_key, event_type, status, attempts, last_error
                 from public.v_plugin_delivery_queue_recent"
            ),
            [format!("({id},crm,entity_change.plugin_installations.update,pending,0,)")]
        );
        assert_eq!(
            admin.rows(
                "select a.plugin_installation_id, a.plugin_key, a.attempt, a.duration_ms, a.status_code,
                        a.error_kind, a.response_start, a.delivery_id = q.id as delivery
                 from public.v_plugin_delivery_attempts a, public.v_plugin_delivery_queue_recent q"
            ),
            [format!("({id},crm,1,12,503,status,busy,t)")]
        );
        assert_eq!(
            admin.rows(
                "select table_schema, table_name, record_id, operation, old_data ->> 'secret_ref' as old,
                        new_data ->> 'secret_ref' as new
                 from public.v_audit_entity_changes order by id"
            ),
            [
                format!("(int,plugin_installations,{id},INSERT,,)"),
                format!("(int,plugin_installations,{id},UPDATE,,\"secret name\")"),
            ]
        );
    }

    #[pg_extern]
    fn whoever_is_no_admin_gets_zero_rows_and_no_error() {
        let tenant = filled("crm");
        let claims = |text: String| Caller::role_with("authenticated", &text);
        let strangers = [
            Caller::role("anon"),
            tenant.admin.as_role("anon"),
            Caller::role("authenticated"),
            Caller::member(&tenant.id),
            Caller::admin(&uuid()),
            claims("not json".into()),
            claims("{\"tenant_id\": 5, \"sub\": {}}".into()),
            claims(format!(
                "{{\"tenant_id\": \"{}\", \"permissions\": [\"tenant.admin\"]}}",
                tenant.id
            )),
            claims(format!(
                "{{\"sub\": \"{}\", \"permissions\": [\"tenant.admin\"]}}",
                uuid()
            )),
            claims(format!(
                "{{\"sub\": \"{}\", \"tenant_id\": \"not a uuid\", \"permissions\": [\"tenant.admin\"]}}",
                uuid()
            )),
        ];
        for view in TENANT_VIEWS {
            assert_ne!(tenant.admin.count(&format!("public.{view}")), 0, "{view}");
            for caller in &strangers {
                assert_eq!(
                    caller.count(&format!("public.{view}")),
                    0,
                    "{view} as {caller:?}"
                );
            }
        }
    }

    #[pg_extern]
    fn the_setting_names_a_tenant_but_gives_no_rights_there() {
        let tenant = filled("crm");
        operator().run(&format!(
            "select set_config('app.current_tenant_id', '{}', true)",
            tenant.id
        ));
        let without_tenant = Caller::role_with(
            "authenticated",
            &format!(
                r#"{{"sub": "{}", "permissions": ["tenant.admin"]}}"#,
                uuid()
            ),
        );
        for view in TENANT_VIEWS {
            let view = format!("public.{view}");
            assert_eq!(without_tenant.count(&view), 0, "{view}");
            assert_eq!(
                Caller::admin(&uuid()).count(&view),
                0,
                "the claim wins: {view}"
            );
            assert_ne!(
                operator().count(&view),
                0,
                "an operator chooses a tenant: {view}"
            );
        }
        operator().run("select set_config('app.current_tenant_id', 'garbage', true)");
        for view in TENANT_VIEWS {
            assert_eq!(operator().count(&format!("public.{view}")), 0, "{view}");
        }
    }

    #[pg_extern]
    fn an_admin_sees_only_own_rows_in_the_tables() {
        let (one, two) = (filled("crm"), filled("erp"));
        for table in TENANT_TABLES {
            assert!(one.admin.count(table) > 0, "{table}");
            assert!(one.admin.count(table) < operator().count(table), "{table}");
            for stranger in [
                Caller::role("authenticated"),
                Caller::member(&one.id),
                Caller::admin(&uuid()),
            ] {
                assert_eq!(stranger.count(table), 0, "{table} as {stranger:?}");
            }
        }
        assert_eq!(
            two.admin
                .rows("select id, tenant_id from int.plugin_installations"),
            [format!("({},{})", two.installation, two.id)]
        );
        assert_eq!(
            two.admin
                .rows("select plugin_installation_id from int.plugin_webhook_subscriptions"),
            [format!("({})", two.installation)]
        );
        for table in [
            "int.plugin_delivery_queue",
            "int.plugin_delivery_attempts",
            "audit.entity_changes",
        ] {
            assert_eq!(
                two.admin
                    .rows(&format!("select distinct tenant_id from {table}")),
                [format!("({})", two.id)]
            );
        }
    }

    #[pg_extern]
    fn every_authenticated_user_reads_the_list_of_plugins() {
        plugin("crm");
        operator().run("select public.rpc_register_plugin('old', 'Old', null, false, false)");
        for caller in [Caller::role("authenticated"), Caller::member(&uuid())] {
            assert_eq!(caller.count("int.plugins"), 2, "{caller:?}");
        }
    }

    #[pg_extern]
    fn anon_reads_nothing_around_the_views() {
        filled("crm");
        for table in TENANT_TABLES.into_iter().chain(["int.plugins"]) {
            Caller::role("anon").refused(&format!("count(*) from {table}"), "42501");
        }
    }

    #[pg_extern]
    fn service_role_reads_queue_and_attempts_of_all_tenants() {
        filled("crm");
        filled("erp");
        let service = Caller::role("service_role");
        assert_eq!(service.count("int.plugin_delivery_queue"), 2);
        assert_eq!(service.count("int.plugin_delivery_attempts"), 2);
    }

    #[pg_extern]
    fn a_plain_role_reads_nothing() {
        filled("crm");
        let plain = plain_role("plain_reader");
        for view in TENANT_VIEWS.into_iter().chain(["v_plugins"]) {
            plain.refused(&format!("count(*) from public.{view}"), "42501");
        }
        for table in TENANT_TABLES.into_iter().chain(["int.plugins"]) {
            plain.refused(&format!("count(*) from {table}"), "42501");
        }
    }

    #[pg_extern]
    fn a_view_evaluates_no_function_of_its_reader_on_foreign_rows() {
        let tenant = filled("crm");
        let stranger = Caller::admin(&uuid());
        operator().run(
            "create function public.peek(anyelement) returns boolean language plpgsql cost 0.0000001 as
             $$ begin raise exception 'saw %', $1; end $$",
        );
        for view in TENANT_VIEWS {
            let query = format!("public.{view} as v where public.peek(v.tenant_id)");
            assert_eq!(stranger.count(&query), 0, "{view}");
            tenant
                .admin
                .refused(&format!("count(*) from {query}"), "P0001");
        }
        for table in [
            "int.plugin_installations",
            "int.plugin_delivery_queue",
            "audit.entity_changes",
        ] {
            let query = format!("{table} as v where public.peek(v.tenant_id)");
            assert_eq!(stranger.count(&query), 0, "{table}");
        }
    }
    #[pg_extern]
    fn nobody_writes_through_the_views() {
        let tenant = filled("crm");
        for view in TENANT_VIEWS.into_iter().chain(["v_plugins"]) {
            for caller in [tenant.admin.clone(), Caller::role("anon")] {
                let failure = caller
                    .try_run(&format!("delete from public.{view}"))
                    .unwrap_err();
                // A join cannot be written to by anybody.
                assert!(
                    ["42501", "55000"].contains(&failure.sqlstate.as_str()),
                    "{view}: {failure:?}"
                );
            }
        }
    }
}
