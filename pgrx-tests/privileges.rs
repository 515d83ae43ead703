//! Who may do what, as the catalog has it and as the roles meet it.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Caller, Tenant, operator, plain_role, uuid};
    use pgrx::prelude::*;

    const ROLES: [&str; 3] = ["anon", "authenticated", "service_role"];

    /// Members of the extension, without these tests.
    const MEMBER_FUNCTIONS: &str = "
        (select p.* from pg_proc p
         join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
         join pg_extension e on d.refclassid = 'pg_extension'::regclass and e.oid = d.refobjid
         where e.extname = 'plugin_webhooks' and p.pronamespace <> 'tests'::regnamespace)";
    const MEMBER_RELATIONS: &str = "
        (select c.* from pg_class c
         join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
         join pg_extension e on d.refclassid = 'pg_extension'::regclass and e.oid = d.refobjid
         where e.extname = 'plugin_webhooks' and c.relkind in ('r', 'v', 'S', 'm', 'f', 'p'))";

    #[pg_extern]
    fn exactly_these_roles_execute_exactly_these_functions() {
        let granted = operator().rows(&format!(
            "select replace(p.oid::regprocedure::text, '\"int\"', 'int') collate \"C\",
                    (select string_agg(case x.grantee when 0 then 'PUBLIC' else x.grantee::regrole::text end, ' '
                                       order by x.grantee::regrole::text)
                     from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
                     where x.grantee <> p.proowner)
             from {MEMBER_FUNCTIONS} p order by 1"
        ));
        assert_eq!(
            granted,
            [
                "(\"audit.log_entity_change()\",)",
                "(\"audit.track(regclass,text[])\",)",
                "(\"audit.track_all(boolean)\",)",
                "(\"audit.untrack(regclass)\",)",
                "(\"int.enqueue_plugin_events_from_audit()\",)",
                "(\"int.forget_subscriptions()\",)",
                "(\"int.plugin_webhook_apply_action(uuid,text,jsonb)\",)",
                "(\"int.resolve_installation_signing_secret(uuid)\",)",
                "(\"plugin_webhooks.admin_tenant_id()\",\"anon authenticated\")",
                "(\"plugin_webhooks.adopt()\",)",
                "(\"plugin_webhooks.as_owner_of(regclass,text)\",)",
                "(\"plugin_webhooks.as_role(oid,text)\",)",
                "(\"plugin_webhooks.attach_host(text[])\",)",
                "(\"plugin_webhooks.bind_host(text[])\",)",
                "(\"plugin_webhooks.check_foreign_keys(boolean)\",)",
                "(\"plugin_webhooks.check_references()\",)",
                "(\"plugin_webhooks.create_secret(text,text,text,uuid,text)\",)",
                "(\"plugin_webhooks.current_user_id()\",\"anon authenticated\")",
                "(\"plugin_webhooks.delete_secret(uuid)\",)",
                "(\"plugin_webhooks.follow_host()\",)",
                "(\"plugin_webhooks.forget_claim()\",)",
                "(\"plugin_webhooks.grant_as_administrator(text)\",)",
                "(\"plugin_webhooks.grant_on_schema(text,text)\",)",
                "(\"plugin_webhooks.grant_to_roles()\",)",
                "(\"plugin_webhooks.hand_back()\",)",
                "(\"plugin_webhooks.lock_for(text,interval)\",)",
                "(\"plugin_webhooks.lock_relation(oid,text)\",)",
                "(\"plugin_webhooks.missing_for_hand_back()\",)",
                "(\"plugin_webhooks.note_change()\",)",
                "(\"plugin_webhooks.paused_because()\",)",
                "(\"plugin_webhooks.queue_state()\",)",
                "(\"plugin_webhooks.receiver_secret(text)\",)",
                "(\"plugin_webhooks.refused_installations()\",)",
                "(\"plugin_webhooks.register_action(text,regprocedure)\",)",
                "(\"plugin_webhooks.registered_actions()\",)",
                "(\"plugin_webhooks.release_claims()\",)",
                "(\"plugin_webhooks.restore_row_triggers()\",)",
                "(\"plugin_webhooks.resume()\",)",
                "(\"plugin_webhooks.schedule_processor(text)\",)",
                "(\"plugin_webhooks.secret_name_is_allowed(text,uuid,text)\",)",
                "(\"plugin_webhooks.secret_refs()\",)",
                "(\"plugin_webhooks.settle_pg_net()\",)",
                "(\"plugin_webhooks.stored_secrets()\",)",
                "(\"plugin_webhooks.unregister_action(text)\",)",
                "(\"plugin_webhooks.update_secret(uuid,text,text,text)\",)",
                "(\"plugin_webhooks.wake_launcher()\",)",
                "(\"plugin_webhooks.worker_pid()\",)",
                "(\"rpc_delete_plugin_webhook_subscription(uuid,uuid)\",authenticated)",
                "(\"rpc_install_plugin(uuid,text,text,jsonb)\",authenticated)",
                "(\"rpc_plugin_ingest_webhook(text,uuid,jsonb,text)\",\"anon authenticated service_role\")",
                "(\"rpc_process_plugin_deliveries(integer)\",service_role)",
                "(\"rpc_register_plugin(text,text,text,boolean,boolean)\",service_role)",
                "(\"rpc_uninstall_plugin(uuid,uuid)\",authenticated)",
                "(\"rpc_update_plugin_installation(uuid,uuid,text,text,jsonb)\",authenticated)",
                "(\"rpc_upsert_plugin_webhook_subscription(uuid,uuid,text,text,text[],text[],boolean)\",authenticated)",
            ]
        );
    }

    #[pg_extern]
    fn exactly_these_roles_read_exactly_these_relations() {
        let granted = operator().rows(&format!(
            "select replace(c.oid::regclass::text, '\"int\"', 'int') collate \"C\", x.grantee::regrole, \
            string_agg(x.privilege_type, ' ' order by x.privilege_type)
             from {MEMBER_RELATIONS} c
             cross join aclexplode(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' \
             end::\"char\", c.relowner))) x
             where x.grantee <> c.relowner
             group by 1, 2 order by 1, x.grantee::regrole::text"
        ));
        assert_eq!(
            granted,
            [
                "(audit.entity_changes,anon,SELECT)",
                "(audit.entity_changes,authenticated,SELECT)",
                "(int.plugin_delivery_attempts,anon,SELECT)",
                "(int.plugin_delivery_attempts,authenticated,SELECT)",
                "(int.plugin_delivery_attempts,service_role,SELECT)",
                "(int.plugin_delivery_queue,anon,SELECT)",
                "(int.plugin_delivery_queue,authenticated,SELECT)",
                "(int.plugin_delivery_queue,service_role,SELECT)",
                "(int.plugin_installations,anon,SELECT)",
                "(int.plugin_installations,authenticated,SELECT)",
                "(int.plugin_webhook_subscriptions,anon,SELECT)",
                "(int.plugin_webhook_subscriptions,authenticated,SELECT)",
                "(int.plugins,anon,SELECT)",
                "(int.plugins,authenticated,SELECT)",
                "(v_audit_entity_changes,anon,SELECT)",
                "(v_audit_entity_changes,authenticated,SELECT)",
                "(v_plugin_delivery_attempts,anon,SELECT)",
                "(v_plugin_delivery_attempts,authenticated,SELECT)",
                "(v_plugin_delivery_queue_recent,anon,SELECT)",
                "(v_plugin_delivery_queue_recent,authenticated,SELECT)",
                "(v_plugin_installations,anon,SELECT)",
                "(v_plugin_installations,authenticated,SELECT)",
                "(v_plugin_webhook_subscriptions,anon,SELECT)",
                "(v_plugin_webhook_subscriptions,authenticated,SELECT)",
                "(v_plugins,anon,SELECT)",
                "(v_plugins,authenticated,SELECT)",
            ]
        );
    }

    #[pg_extern]
    fn no_role_holds_anything_in_the_operators_schema() {
        for role in ROLES {
            assert_eq!(
                operator().value(&format!(
                    "has_schema_privilege('{role}', 'plugin_webhooks', 'USAGE')
                     or has_schema_privilege('{role}', 'plugin_webhooks', 'CREATE')
                     or has_schema_privilege('{role}', 'int', 'CREATE')
                     or has_schema_privilege('{role}', 'audit', 'CREATE')"
                )),
                "false",
                "{role}"
            );
        }
    }

    #[pg_extern]
    fn nobody_but_the_functions_writes() {
        let tables = operator().rows(&format!(
            "select replace(c.oid::regclass::text, '\"int\"', 'int') collate \"C\" from {MEMBER_RELATIONS} c \
            where c.relkind = 'r' order by 1"
        ));
        assert!(tables.len() >= 12, "{tables:?}");
        let plain = plain_role("plain_writer");
        // USAGE on the schemas, so that the tables' own grants decide.
        operator().run(
            "grant usage on schema int, audit, plugin_webhooks to anon, authenticated, service_role, plain_writer",
        );
        let admin = Caller::admin(&uuid());
        let callers = [
            admin.as_role("anon"),
            admin.clone(),
            admin.as_role("service_role"),
            plain,
        ];
        for table in tables {
            let table = table.trim_matches(['(', ')']);
            let column = operator().value(&format!(
                "select quote_ident(attname) from pg_attribute where attrelid = '{table}'::regclass and attnum = 2"
            ));
            for caller in &callers {
                for statement in [
                    format!("insert into {table} default values"),
                    format!("update {table} set {column} = {column}"),
                    format!("delete from {table}"),
                    format!("truncate {table} cascade"),
                    format!("lock table {table} in access exclusive mode"),
                ] {
                    let failure = caller.refused_statement(&statement, "42501");
                    assert!(
                        failure.message.starts_with("permission denied for table"),
                        "{failure:?}"
                    );
                }
            }
        }
    }

    #[pg_extern]
    fn no_role_reads_the_tables_of_the_extensions_own_schema() {
        operator()
            .run("grant usage on schema plugin_webhooks to anon, authenticated, service_role");
        plain_role("plain_peeker");
        operator().run("grant usage on schema plugin_webhooks to plain_peeker");
        for role in ["anon", "authenticated", "service_role", "plain_peeker"] {
            for relation in [
                "secrets",
                "actions",
                "rate_limits",
                "inbound_ids",
                "secret_names",
                "inbound_actions",
                "health",
            ] {
                Caller::role(role).refused(
                    &format!("count(*) from plugin_webhooks.{relation}"),
                    "42501",
                );
            }
        }
    }

    #[pg_extern]
    fn row_security_is_on_for_every_table() {
        assert_eq!(
            operator().rows(&format!(
                "select c.oid::regclass from {MEMBER_RELATIONS} c where c.relkind = 'r' and not c.relrowsecurity"
            )),
            [""; 0]
        );
    }

    #[pg_extern]
    fn row_policies_only_let_roles_select() {
        assert_eq!(
            operator().rows(
                "select schemaname || '.' || tablename, policyname, permissive, roles, cmd
                 from pg_policies where schemaname in ('int', 'audit', 'plugin_webhooks') order by 1, 2"
            ),
            [
                "(audit.entity_changes,entity_changes_select_authenticated,PERMISSIVE,{authenticated},SELECT)",
                "(int.plugin_delivery_attempts,plugin_delivery_attempts_select_authenticated,PERMISSIVE,{authenticated},SELECT)",
                "(int.plugin_delivery_attempts,plugin_delivery_attempts_select_service_role,PERMISSIVE,{service_role},SELECT)",
                "(int.plugin_delivery_queue,plugin_delivery_queue_select_authenticated,PERMISSIVE,{authenticated},SELECT)",
                "(int.plugin_delivery_queue,plugin_delivery_queue_select_service_role,PERMISSIVE,{service_role},SELECT)",
                "(int.plugin_installations,plugin_installations_select_authenticated,PERMISSIVE,{authenticated},SELECT)",
                "(int.plugin_webhook_subscriptions,plugin_webhook_subscriptions_select_authenticated,PERMISSIVE,{authenticated},SELECT)",
                "(int.plugins,plugins_select_anon,PERMISSIVE,{anon},SELECT)",
                "(int.plugins,plugins_select_authenticated,PERMISSIVE,{authenticated},SELECT)",
            ]
        );
    }

    #[pg_extern]
    fn every_security_definer_function_pins_its_search_path() {
        assert_eq!(
            operator().rows(&format!(
                "select p.oid::regprocedure, p.proconfig from {MEMBER_FUNCTIONS} p
                 where p.prosecdef
                   and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)"
            )),
            [""; 0]
        );
        assert_eq!(
            operator().count(&format!(
                "{MEMBER_FUNCTIONS} p where p.prosecdef and p.pronamespace = 'public'::regnamespace"
            )),
            8,
            "all functions of the interface run with their owner's rights"
        );
    }

    #[pg_extern]
    fn no_function_is_strict() {
        assert_eq!(
            operator().rows(&format!(
                "select p.oid::regprocedure from {MEMBER_FUNCTIONS} p where p.proisstrict"
            )),
            [""; 0],
            "null would silently become null"
        );
    }

    #[pg_extern]
    fn every_object_says_what_it_is_for() {
        assert_eq!(
            operator().rows(&format!(
                "select p.oid::regprocedure::text from {MEMBER_FUNCTIONS} p \
                where obj_description(p.oid, 'pg_proc') is null
                 union all
                 select c.oid::regclass::text from {MEMBER_RELATIONS} c
                 where c.relkind <> 'S' and obj_description(c.oid, 'pg_class') is null
                 union all
                 select n.nspname::text from pg_namespace n
                 where n.nspname in ('int', 'audit', 'plugin_webhooks') and obj_description(n.oid, 'pg_namespace') \
                 is null"
            )),
            [""; 0]
        );
    }

    /// Roles a comment names as executing the function, against those that can.
    #[pg_extern]
    fn comments_name_the_roles_that_may_execute() {
        let wrong = operator().rows(&format!(
            "select p.oid::regprocedure, r.role
             from {MEMBER_FUNCTIONS} p, unnest(array['anon', 'authenticated', 'service_role']) as r (role),
                  substring(obj_description(p.oid, 'pg_proc') from 'Executable by ([^.]*)') as told (roles)
             where told.roles is not null
               and (told.roles ~ ('\\m' || r.role || '\\M')) <> has_function_privilege(r.role, p.oid, 'EXECUTE')
             order by 1, 2"
        ));
        assert_eq!(wrong, [""; 0]);
    }

    #[pg_extern]
    fn operators_functions_are_closed_to_every_role() {
        let tenant = Tenant::with_plugin("crm");
        operator().run("grant usage on schema int, audit, plugin_webhooks to anon, authenticated, service_role");
        operator().run("create table public.tracked_by_nobody (id int)");
        for role in ROLES {
            for call in [
                "audit.track('public.tracked_by_nobody')".to_owned(),
                "audit.untrack('int.plugins')".to_owned(),
                format!(
                    "int.resolve_installation_signing_secret('{}')",
                    tenant.installation
                ),
                format!(
                    "int.plugin_webhook_apply_action('{}', 'noop', null)",
                    tenant.id
                ),
                "plugin_webhooks.create_secret('s', 'n')".to_owned(),
                format!("plugin_webhooks.update_secret('{}', 's')", tenant.id),
                format!("plugin_webhooks.delete_secret('{}')", tenant.id),
                "plugin_webhooks.register_action('a.b', 'pg_catalog.now()')".to_owned(),
                "plugin_webhooks.unregister_action('a.b')".to_owned(),
                "plugin_webhooks.grant_to_roles()".to_owned(),
                "plugin_webhooks.resume()".to_owned(),
                "plugin_webhooks.hand_back()".to_owned(),
                "plugin_webhooks.attach_host()".to_owned(),
                "plugin_webhooks.bind_host('{}')".to_owned(),
                "plugin_webhooks.paused_because()".to_owned(),
                "plugin_webhooks.queue_state()".to_owned(),
                "plugin_webhooks.refused_installations()".to_owned(),
                "plugin_webhooks.registered_actions()".to_owned(),
                "plugin_webhooks.secret_refs()".to_owned(),
                "plugin_webhooks.stored_secrets()".to_owned(),
                "plugin_webhooks.release_claims()".to_owned(),
                "plugin_webhooks.settle_pg_net()".to_owned(),
                "plugin_webhooks.grant_as_administrator('select 1')".to_owned(),
                "plugin_webhooks.grant_on_schema('int', 'anon')".to_owned(),
                "plugin_webhooks.check_foreign_keys(true)".to_owned(),
                "plugin_webhooks.schedule_processor()".to_owned(),
                "plugin_webhooks.wake_launcher()".to_owned(),
                "plugin_webhooks.worker_pid()".to_owned(),
            ] {
                let failure = tenant.admin.as_role(role).refused(&call, "42501");
                assert!(
                    failure
                        .message
                        .starts_with("permission denied for function"),
                    "{role}: {failure:?}"
                );
            }
        }
    }
}
