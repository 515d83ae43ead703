//! The tables and functions as the catalog has them: an interface that nothing may change.

#[pgrx::pg_schema]
mod tests {
    use crate::change::Operation;
    use crate::pgrx_tests::support::{Tenant, operator, plugin, uuid};
    use crate::status::{DeliveryStatus, InstallationStatus};
    use crate::text_enum::TextEnum;
    use pgrx::prelude::*;

    fn assert_columns(table: &str, expected: &[&str]) {
        let columns = operator().value(&format!(
            "select string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
                        case when a.attnotnull then 'not null' end,
                        case a.attidentity when 'a' then 'generated always as identity' end,
                        'default ' || pg_get_expr(d.adbin, d.adrelid)), E'\\n' order by a.attnum)
             from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
             where a.attrelid = '{table}'::regclass and a.attnum > 0 and not a.attisdropped"
        ));
        assert_eq!(columns.lines().collect::<Vec<_>>(), expected, "{table}");
    }

    fn constraints(table: &str) -> Vec<String> {
        operator().rows(&format!(
            "select contype, replace(pg_get_constraintdef(oid), '\"int\"', 'int') from pg_constraint
             where conrelid = '{table}'::regclass and contype in ('p', 'u', 'f') order by 1, 2"
        ))
    }

    #[pg_extern]
    fn columns_of_plugins() {
        assert_columns(
            "int.plugins",
            &[
                "id uuid not null default gen_random_uuid()",
                "key text not null",
                "name text not null",
                "description text",
                "is_integration boolean not null default false",
                "is_active boolean not null default true",
                "created_at timestamp with time zone not null default now()",
                "updated_at timestamp with time zone not null default now()",
            ],
        );
        assert_eq!(
            constraints("int.plugins"),
            ["(p,\"PRIMARY KEY (id)\")", "(u,\"UNIQUE (key)\")"]
        );
    }

    #[pg_extern]
    fn columns_of_plugin_installations() {
        assert_columns(
            "int.plugin_installations",
            &[
                "id uuid not null default gen_random_uuid()",
                "tenant_id uuid not null",
                "plugin_id uuid not null",
                "status text not null default 'installed'::text",
                "secret_ref text",
                "config jsonb",
                "installed_by uuid",
                "installed_at timestamp with time zone not null default now()",
                "updated_at timestamp with time zone not null default now()",
            ],
        );
        assert_eq!(
            constraints("int.plugin_installations"),
            [
                "(f,\"FOREIGN KEY (plugin_id) REFERENCES int.plugins(id) ON DELETE CASCADE\")",
                "(p,\"PRIMARY KEY (id)\")",
                "(u,\"UNIQUE (tenant_id, plugin_id)\")",
            ]
        );
    }

    #[pg_extern]
    fn columns_of_plugin_webhook_subscriptions() {
        assert_columns(
            "int.plugin_webhook_subscriptions",
            &[
                "id uuid not null default gen_random_uuid()",
                "plugin_installation_id uuid not null",
                "table_schema text not null",
                "table_name text not null",
                "operations text[] not null",
                "changed_fields_allowlist text[]",
                "include_payload boolean not null default false",
                "created_at timestamp with time zone not null default now()",
                "updated_at timestamp with time zone not null default now()",
            ],
        );
        assert_eq!(
            constraints("int.plugin_webhook_subscriptions"),
            [
                "(f,\"FOREIGN KEY (plugin_installation_id) REFERENCES int.plugin_installations(id) ON DELETE \
                CASCADE\")",
                "(p,\"PRIMARY KEY (id)\")",
                "(u,\"UNIQUE (plugin_installation_id, table_schema, table_name)\")",
            ]
        );
    }

    #[pg_extern]
    fn columns_of_plugin_delivery_queue() {
        assert_columns(
            "int.plugin_delivery_queue",
            &[
                "id uuid not null default gen_random_uuid()",
                "tenant_id uuid not null",
                "plugin_installation_id uuid not null",
                "source_entity_change_id bigint not null",
                "event_type text not null",
                "payload jsonb not null",
                "status text not null default 'pending'::text",
                "attempts integer not null default 0",
                "next_attempt_at timestamp with time zone not null default now()",
                "last_error text",
                "net_request_id bigint",
                "sent_at timestamp with time zone",
                "created_at timestamp with time zone not null default now()",
                "updated_at timestamp with time zone not null default now()",
                // Additions to the interface, last.
                "claim_id bigint",
                "lease_expires_at timestamp with time zone",
            ],
        );
        assert_eq!(
            constraints("int.plugin_delivery_queue"),
            [
                "(f,\"FOREIGN KEY (plugin_installation_id) REFERENCES int.plugin_installations(id) ON DELETE \
                CASCADE\")",
                "(f,\"FOREIGN KEY (source_entity_change_id) REFERENCES audit.entity_changes(id) ON DELETE CASCADE\")",
                "(p,\"PRIMARY KEY (id)\")",
                "(u,\"UNIQUE (plugin_installation_id, source_entity_change_id)\")",
            ]
        );
    }

    #[pg_extern]
    fn columns_of_plugin_delivery_attempts() {
        assert_columns(
            "int.plugin_delivery_attempts",
            &[
                "id bigint not null generated always as identity",
                "delivery_id uuid not null",
                "tenant_id uuid not null",
                "plugin_installation_id uuid not null",
                "attempt integer not null",
                "started_at timestamp with time zone not null",
                "duration_ms integer not null",
                "status_code integer",
                "error_kind text",
                "response_start text",
            ],
        );
        assert_eq!(
            constraints("int.plugin_delivery_attempts"),
            ["(p,\"PRIMARY KEY (id)\")"]
        );
    }

    #[pg_extern]
    fn columns_of_entity_changes() {
        assert_columns(
            "audit.entity_changes",
            &[
                "id bigint not null generated always as identity",
                "table_schema text not null",
                "table_name text not null",
                "record_id text not null",
                "operation text not null",
                "old_data jsonb",
                "new_data jsonb",
                "changed_fields text[]",
                "user_id uuid",
                "tenant_id uuid",
                "ip_address inet",
                "user_agent text",
                "created_at timestamp with time zone not null default now()",
            ],
        );
        assert_eq!(
            constraints("audit.entity_changes"),
            ["(p,\"PRIMARY KEY (id)\")"]
        );
    }

    #[pg_extern]
    fn functions_are_called_by_these_names_with_these_defaults() {
        assert_eq!(
            operator().rows(
                "select p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)
                 from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname like 'rpc\\_%' order by 1"
            ),
            [
                "(rpc_delete_plugin_webhook_subscription,\"p_tenant_id uuid, p_subscription_id uuid\",void)",
                "(rpc_install_plugin,\"p_tenant_id uuid, p_plugin_key text, p_secret_ref text DEFAULT NULL::text, \
                 p_config jsonb DEFAULT NULL::jsonb\",uuid)",
                "(rpc_plugin_ingest_webhook,\"p_plugin_key text, p_installation_id uuid, p_payload jsonb, \
                 p_signature text\",jsonb)",
                "(rpc_process_plugin_deliveries,\"p_batch_size integer DEFAULT 25\",integer)",
                "(rpc_register_plugin,\"p_key text, p_name text, p_description text DEFAULT NULL::text, \
                 p_is_integration boolean DEFAULT false, p_is_active boolean DEFAULT true\",uuid)",
                "(rpc_uninstall_plugin,\"p_tenant_id uuid, p_installation_id uuid\",void)",
                "(rpc_update_plugin_installation,\"p_tenant_id uuid, p_installation_id uuid, \
                 p_status text DEFAULT NULL::text, p_secret_ref text DEFAULT NULL::text, \
                 p_config jsonb DEFAULT NULL::jsonb\",void)",
                "(rpc_upsert_plugin_webhook_subscription,\"p_tenant_id uuid, p_installation_id uuid, \
                 p_table_schema text, p_table_name text, p_operations text[], \
                 p_changed_fields_allowlist text[] DEFAULT NULL::text[], p_include_payload boolean DEFAULT \
                 false\",uuid)",
            ]
        );
    }

    #[pg_extern]
    fn the_functions_a_host_may_call_keep_their_signatures() {
        assert_eq!(
            operator().rows(
                "select replace(p.oid::regprocedure::text, '\"int\"', 'int') collate \"C\", \
                pg_get_function_arguments(p.oid),
                        pg_get_function_result(p.oid)
                 from pg_proc p where p.pronamespace in ('int'::regnamespace, 'audit'::regnamespace)
                 order by 1"
            ),
            [
                "(\"audit.log_entity_change()\",\"\",trigger)",
                "(\"audit.track(regclass,text[])\",\"p_table regclass, p_exclude text[] DEFAULT NULL::text[]\",void)",
                "(\"audit.track_all(boolean)\",\"dry_run boolean DEFAULT true\",\"TABLE(tracked regclass, action text, reason text)\")",
                "(\"audit.untrack(regclass)\",\"p_table regclass\",void)",
                "(\"int.enqueue_plugin_events_from_audit()\",\"\",trigger)",
                "(\"int.forget_subscriptions()\",\"\",trigger)",
                "(\"int.plugin_webhook_apply_action(uuid,text,jsonb)\",\"p_tenant_id uuid, p_action text, p_data \
                jsonb\",jsonb)",
                "(\"int.resolve_installation_signing_secret(uuid)\",\"p_installation_id uuid\",text)",
            ]
        );
    }

    #[pg_extern]
    fn the_table_itself_checks_plugin_keys() {
        let insert =
            |key: &str| format!("insert into int.plugins (key, name) values ('{key}', 'P')");
        for key in ["ab", "a_9", &"k".repeat(80)] {
            operator().run(&insert(key));
        }
        for key in [
            "",
            "a",
            "AB",
            "a-b",
            "a b",
            "a\nb",
            "ab\n",
            "äb",
            &"k".repeat(81),
        ] {
            operator().refused_statement(&insert(key), "23514");
        }
        operator().refused_statement(&insert("ab"), "23505");
    }

    #[pg_extern]
    fn the_tables_know_their_statuses_and_operations() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("int", "plugin_installations");
        let set = |table: &str, column: &str, value: &str| {
            format!("update {table} set {column} = {value}")
        };
        let sets: [(&str, &str, &[&str], &[&str]); 5] = [
            (
                "int.plugin_installations",
                "status",
                &["'installed'", "'disabled'", "'uninstalled'"],
                &["''", "'INSTALLED'", "'active'"],
            ),
            (
                "int.plugin_delivery_queue",
                "status",
                &[
                    "'pending'",
                    "'sending'",
                    "'delivered'",
                    "'failed'",
                    "'dead'",
                ],
                &["''", "'Pending'", "'sent'"],
            ),
            (
                "int.plugin_delivery_queue",
                "attempts",
                &["0", "1", "2147483647"],
                &["-1"],
            ),
            (
                "int.plugin_webhook_subscriptions",
                "operations",
                &[
                    "'{INSERT}'",
                    "'{DELETE,UPDATE}'",
                    "'{INSERT,UPDATE,DELETE}'",
                ],
                &["'{}'", "'{insert}'", "'{INSERT,TRUNCATE}'"],
            ),
            (
                "audit.entity_changes",
                "operation",
                &["'INSERT'", "'UPDATE'", "'DELETE'"],
                &["''", "'insert'", "'TRUNCATE'"],
            ),
        ];
        for (table, column, good, bad) in sets {
            for value in good {
                operator().run(&set(table, column, value));
                assert_ne!(operator().count(table), 0, "{table} has a row to check");
            }
            for value in bad {
                operator().refused_statement(&set(table, column, value), "23514");
            }
        }
    }

    /// The words of a CHECK constraint and of an enum are the same, whatever their order.
    fn assert_check_has_the_words_of<T: TextEnum>(constraint: &str) {
        let definition = operator().value(&format!(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = '{constraint}'"
        ));
        let mut allowed: Vec<&str> = definition.split('\'').skip(1).step_by(2).collect();
        allowed.sort_unstable();
        let mut known: Vec<&str> = T::ALL.iter().map(|value| value.as_str()).collect();
        known.sort_unstable();
        assert_eq!(allowed, known, "{constraint}: {definition}");
    }

    #[pg_extern]
    fn the_operations_of_the_code_are_those_of_the_checks() {
        assert_check_has_the_words_of::<Operation>("entity_changes_operation_check");
        assert_check_has_the_words_of::<Operation>("plugin_webhook_subscriptions_operations_check");
    }

    #[pg_extern]
    fn the_statuses_of_the_code_are_those_of_the_checks() {
        assert_check_has_the_words_of::<DeliveryStatus>("plugin_delivery_queue_status_check");
        assert_check_has_the_words_of::<InstallationStatus>("plugin_installations_status_check");
    }

    #[pg_extern]
    fn one_tenant_installs_a_plugin_once() {
        let tenant = Tenant::with_plugin("crm");
        operator().refused_statement(
            &format!(
                "insert into int.plugin_installations (tenant_id, plugin_id) select '{}', id from int.plugins",
                tenant.id
            ),
            "23505",
        );
    }

    #[pg_extern]
    fn deleting_a_plugin_deletes_its_installations_and_the_rest() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("int", "plugin_installations");
        tenant.subscribe("int", "plugins");
        operator().run("update int.plugin_installations set secret_ref = 's'");
        assert_ne!(operator().count("int.plugin_delivery_queue"), 0);
        operator().run("delete from int.plugins");
        for table in [
            "plugin_installations",
            "plugin_webhook_subscriptions",
            "plugin_delivery_queue",
        ] {
            assert_eq!(operator().count(&format!("int.{table}")), 0, "{table}");
        }
    }

    #[pg_extern]
    fn deleting_an_audit_row_deletes_its_deliveries() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("int", "plugin_installations");
        for secret in ["one", "two"] {
            operator().run(&format!(
                "update int.plugin_installations set secret_ref = '{secret}'"
            ));
        }
        assert_eq!(operator().count("int.plugin_delivery_queue"), 2);
        operator().run(
            "delete from audit.entity_changes where id = (select min(source_entity_change_id) \
            from int.plugin_delivery_queue)",
        );
        assert_eq!(operator().count("int.plugin_delivery_queue"), 1);
    }

    #[pg_extern]
    fn references_point_to_rows_that_exist() {
        let tenant = Tenant::with_plugin("crm");
        plugin("erp");
        for statement in [
            format!(
                "insert into int.plugin_installations (tenant_id, plugin_id) values ('{}', '{}')",
                tenant.id,
                uuid()
            ),
            format!(
                "insert into int.plugin_webhook_subscriptions (plugin_installation_id, table_schema, table_name, \
                operations)
                 values ('{}', 's', 't', '{{INSERT}}')",
                uuid()
            ),
            format!(
                "insert into int.plugin_delivery_queue (tenant_id, plugin_installation_id, source_entity_change_id, \
                event_type, payload)
                 values ('{}', '{}', -1, 'e', '{{}}')",
                tenant.id, tenant.installation
            ),
        ] {
            operator().refused_statement(&statement, "23503");
        }
    }

    #[pg_extern]
    fn the_data_travels_with_a_dump() {
        assert_eq!(
            operator().rows(
                "select replace(c.oid::regclass::text, '\"int\"', 'int') collate \"C\" \
                from pg_extension e, unnest(e.extconfig) as t (oid)
                 join pg_class c on c.oid = t.oid where e.extname = 'plugin_webhooks' order by 1"
            ),
            [
                "(audit.entity_changes)",
                "(audit.entity_changes_id_seq)",
                "(int.plugin_delivery_attempts)",
                "(int.plugin_delivery_attempts_id_seq)",
                "(int.plugin_delivery_queue)",
                "(int.plugin_installations)",
                "(int.plugin_webhook_subscriptions)",
                "(int.plugins)",
                "(plugin_webhooks.actions)",
                "(plugin_webhooks.inbound_ids)",
                "(plugin_webhooks.instance)",
                "(plugin_webhooks.replaced)",
                "(plugin_webhooks.secrets)",
            ]
        );
    }
}
