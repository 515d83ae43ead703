//! Who calls, for which tenant, with which right: by the claims alone, and by each function that a
//! host may bring. A host with all of them is shown by the end-to-end tests.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{
        Caller, Tenant, early_in_the_minute, operator, plain_role, text, uuid,
    };
    use pgrx::prelude::*;

    const USER: &str = "plugin_webhooks.current_user_id()";
    const TENANT: &str = "plugin_webhooks.admin_tenant_id()";

    fn signed_in(claims: &str) -> Caller {
        Caller::role_with("authenticated", claims)
    }

    /// A call that every admin of the tenant may make.
    fn update(tenant: &Tenant) -> String {
        format!(
            "public.rpc_update_plugin_installation('{}', '{}')",
            tenant.id, tenant.installation
        )
    }

    /// Lets the functions that tell the caller be asked directly, not only from within views.
    fn open_caller_functions() {
        operator().run("grant usage on schema plugin_webhooks to anon, authenticated");
    }

    fn schema(name: &str) {
        operator().run(&format!("create schema {name}"));
    }

    /// Functions of the host, which count from then on.
    fn host(sql: &str) {
        operator().run(sql);
        operator().run("select plugin_webhooks.attach_host()");
    }

    #[pg_extern]
    fn the_user_is_claim_sub() {
        open_caller_functions();
        let user = uuid();
        for (claims, expected) in [
            (format!(r#"{{"sub": "{user}"}}"#), Some(&user)),
            (
                format!(r#"{{"sub": "{}"}}"#, user.to_uppercase()),
                Some(&user),
            ),
            (String::new(), None),
            ("{}".into(), None),
            ("not json".into(), None),
            ("null".into(), None),
            (format!(r#""{user}""#), None),
            (format!(r#"["{user}"]"#), None),
            (format!(r#"{{"sub": ["{user}"]}}"#), None),
            (r#"{"sub": null}"#.into(), None),
            (r#"{"sub": ""}"#.into(), None),
            (r#"{"sub": 5}"#.into(), None),
            (r#"{"sub": "somebody"}"#.into(), None),
            (format!(r#"{{"sub": "{user}0"}}"#), None),
            (format!(r#"{{"Sub": "{user}"}}"#), None),
        ] {
            for role in ["authenticated", "anon"] {
                assert_eq!(
                    Caller::role_with(role, &claims).optional(USER).as_ref(),
                    expected,
                    "{role} {claims}"
                );
            }
        }
    }

    #[pg_extern]
    fn the_tenant_context_is_the_claim_else_the_setting() {
        let (claimed, set) = (uuid(), uuid());
        let context = |claims: &str, setting: &str| {
            operator().run(&format!(
                "select set_config('app.current_tenant_id', {}, true)",
                text(setting)
            ));
            // An operator administers any tenant: admin_tenant_id is the context itself.
            assert_eq!(claims, "");
            operator().optional(TENANT)
        };
        assert_eq!(context("", &set), Some(set.clone()));
        assert_eq!(context("", ""), None);
        assert_eq!(context("", "garbage"), None);

        open_caller_functions();
        let admin = Caller::admin(&claimed);
        operator().run(&format!(
            "select set_config('app.current_tenant_id', '{set}', true)"
        ));
        assert_eq!(
            admin.optional(TENANT),
            Some(claimed.clone()),
            "the claim wins"
        );
        let elsewhere = signed_in(&format!(
            r#"{{"sub": "{}", "permissions": ["tenant.admin"]}}"#,
            uuid()
        ));
        assert_eq!(
            elsewhere.optional(TENANT),
            None,
            "the setting gives no rights"
        );
    }

    #[pg_extern]
    fn only_a_superuser_session_without_claims_is_an_operator() {
        let tenant = Tenant::with_plugin("crm");
        let call = update(&tenant);
        operator().run(&format!("select {call}"));
        plain_role("plain_caller");
        operator().run(
            "grant execute on function public.rpc_update_plugin_installation to plain_caller, anon, service_role",
        );
        for role in ["authenticated", "anon", "service_role", "plain_caller"] {
            Caller::role(role).refused(&call, "28000");
            Caller::role_with(role, "{}").refused(&call, "28000");
        }
        Caller::superuser_with("{}").refused(&call, "28000");
        Caller::superuser_with("garbage").refused(&call, "28000");
    }

    #[pg_extern]
    fn a_superusers_function_makes_nobody_an_operator() {
        let tenant = Tenant::with_plugin("crm");
        operator().run(&format!(
            "create function public.helper() returns void language sql security definer as $$ select {} $$",
            update(&tenant)
        ));
        Caller::role("authenticated").refused("public.helper()", "28000");
        Caller::member(&tenant.id).refused("public.helper()", "42501");
        tenant.admin.run("select public.helper()");
        operator().run("select public.helper()");
    }

    #[pg_extern]
    fn auth_uid_is_asked_where_it_exists() {
        let tenant = Tenant::with_plugin("crm");
        open_caller_functions();
        let hosts = uuid();
        schema("auth");
        host(&format!(
            "create function auth.uid() returns uuid language sql stable as $$ select '{hosts}'::uuid $$"
        ));
        assert_eq!(tenant.admin.optional(USER), Some(hosts.clone()));
        tenant.admin.run(&format!(
            "select public.rpc_install_plugin('{}', 'crm')",
            tenant.id
        ));
        assert_eq!(
            operator().value("select installed_by from int.plugin_installations"),
            hosts
        );
        host(
            "create or replace function auth.uid() returns uuid language sql stable as $$ select null::uuid $$",
        );
        assert_eq!(tenant.admin.optional(USER), None);
        tenant.admin.refused(&update(&tenant), "28000");
        assert_eq!(
            tenant.admin.count("public.v_plugin_installations"),
            0,
            "nobody administers nothing"
        );
    }

    #[pg_extern]
    fn a_writer_without_rights_on_the_hosts_schemas_can_write() {
        let user = uuid();
        schema("auth");
        host(&format!(
            "create function auth.uid() returns uuid language sql stable as $$ select '{user}'::uuid $$"
        ));
        operator().run("revoke all on function auth.uid() from public");
        operator().run("create table public.things (id int)");
        operator().run("select audit.track('public.things')");
        let writer = plain_role("plain_host_writer");
        operator().run("grant insert on public.things to plain_host_writer");
        writer.run("insert into public.things values (1)");
        assert_eq!(
            operator()
                .value("select user_id from audit.entity_changes where table_name = 'things'"),
            user
        );
    }

    #[pg_extern]
    fn the_hosts_tenant_context_is_asked_where_it_exists() {
        let tenant = Tenant::with_plugin("crm");
        let other = uuid();
        schema("authz");
        let context = |tenant: &str| {
            host(&format!(
                "create or replace function authz.get_current_tenant_id() returns uuid language sql stable
                 as $$ select {tenant}::uuid $$"
            ));
        };
        for (hosts, rows) in [
            (text(&tenant.id), 1),
            (text(&other), 0),
            ("null".to_owned(), 0),
        ] {
            context(&hosts);
            assert_eq!(
                tenant.admin.count("public.v_plugin_installations"),
                rows,
                "{hosts}"
            );
        }
    }

    #[pg_extern]
    fn the_hosts_permissions_count_and_not_the_claims() {
        let tenant = Tenant::with_plugin("crm");
        let member = Caller::member(&tenant.id);
        schema("authz");
        let allow = |answer: &str| {
            host(&format!(
                "create or replace function authz.has_permission(p_user uuid, p_tenant uuid, p_permission text)
                 returns boolean language sql stable as $$ select {answer} $$"
            ));
        };
        allow(&format!(
            "p_tenant = '{}' and p_permission = 'tenant.admin'",
            tenant.id
        ));
        member.run(&format!("select {}", update(&tenant)));
        assert_eq!(member.count("public.v_plugin_installations"), 1);
        for no in ["false", "null::boolean"] {
            allow(no);
            let failure = tenant.admin.refused(&update(&tenant), "42501");
            assert!(failure.message.contains("tenant.admin"), "{failure:?}");
            assert_eq!(tenant.admin.count("public.v_plugin_installations"), 0);
        }
    }

    #[pg_extern]
    fn the_hosts_memberships_count_and_not_the_claims() {
        let tenant = Tenant::with_plugin("crm");
        schema("authz");
        let member = |answer: &str| {
            host(&format!(
                "create or replace function authz.is_tenant_member(p_user uuid, p_tenant uuid)
                 returns boolean language sql stable as $$ select {answer} $$"
            ));
        };
        member("true");
        tenant.admin.run(&format!("select {}", update(&tenant)));
        for no in ["false", "null::boolean"] {
            member(no);
            tenant.admin.refused(&update(&tenant), "42501");
        }
    }

    #[pg_extern]
    fn rpc_setup_of_the_host_decides_alone() {
        let tenant = Tenant::with_plugin("crm");
        let user = uuid();
        schema("authz");
        let setup = |body: &str| {
            host(&format!(
                "create or replace function authz.rpc_setup(p_tenant uuid, p_permission text) returns uuid
                 language plpgsql as $$ begin {body} end $$"
            ));
        };
        let install = format!("public.rpc_install_plugin('{}', 'crm')", tenant.id);
        setup(&format!(
            "if p_tenant <> '{}' or p_permission <> 'tenant.admin' then raise 'asked for % %', p_tenant, \
            p_permission; end if;
             return '{user}';",
            tenant.id
        ));
        Caller::role("authenticated").run(&format!("select {install}"));
        assert_eq!(
            operator().value("select installed_by from int.plugin_installations"),
            user
        );
        for (sqlstate, message) in [
            ("42501", "tenant.admin, says the host"),
            ("28000", "who are you"),
        ] {
            setup(&format!(
                "raise exception '{message}' using errcode = '{sqlstate}';"
            ));
            let failure = tenant.admin.refused(&install, sqlstate);
            assert_eq!(failure.message, message);
        }
        setup("return null;");
        tenant.admin.refused(&install, "28000");
        operator().run(&format!("select {install}"));
    }

    #[pg_extern]
    fn the_hosts_rate_limit_is_asked_where_it_exists() {
        let tenant = Tenant::with_plugin("crm");
        let user = tenant.admin.value(USER_AS_ADMIN);
        schema("util");
        operator().run(
            "create table util.asked (operation text, max int, minutes int, user_id uuid, tenant_id uuid)",
        );
        let limit = |answer: &str| {
            host(&format!(
                "create or replace function util.check_rate_limit(p_operation text, p_key text, p_max int, \
                p_minutes int,
                     p_user uuid, p_tenant uuid) returns boolean language plpgsql as
                 $$ begin insert into util.asked values (p_operation, p_max, p_minutes, p_user, p_tenant); {answer} \
                 end $$"
            ));
        };
        let calls = [
            (update(&tenant), "rpc_update_plugin_installation", 20),
            (
                format!("public.rpc_install_plugin('{}', 'crm')", tenant.id),
                "rpc_install_plugin",
                10,
            ),
            (
                format!(
                    "public.rpc_upsert_plugin_webhook_subscription('{}', '{}', 's', 't', '{{INSERT}}')",
                    tenant.id, tenant.installation
                ),
                "rpc_upsert_plugin_webhook_subscription",
                30,
            ),
            (
                format!(
                    "public.rpc_delete_plugin_webhook_subscription('{}', (select id \
                    from public.v_plugin_webhook_subscriptions))",
                    tenant.id
                ),
                "rpc_delete_plugin_webhook_subscription",
                30,
            ),
            (
                format!(
                    "public.rpc_uninstall_plugin('{}', '{}')",
                    tenant.id, tenant.installation
                ),
                "rpc_uninstall_plugin",
                10,
            ),
        ];
        for no in [
            "return false;",
            "raise exception 'too many' using errcode = '54000';",
        ] {
            limit(no);
            for (call, _, _) in &calls {
                tenant.admin.refused(call, "54000");
            }
        }
        limit("return true;");
        for (call, operation, max) in &calls {
            tenant.admin.run(&format!("select {call}"));
            assert_eq!(
                operator().rows("select * from util.asked"),
                [format!("({operation},{max},1,{user},{})", tenant.id)]
            );
            operator().run("delete from util.asked");
        }
        assert_eq!(
            operator().count("plugin_webhooks.rate_limits"),
            0,
            "nothing is counted twice"
        );
    }

    /// The user as the views see it: without USAGE on the operator's schema.
    const USER_AS_ADMIN: &str = "current_setting('request.jwt.claims')::jsonb ->> 'sub'";

    #[pg_extern]
    fn a_call_that_fails_is_not_counted() {
        let tenant = Tenant::with_plugin("crm");
        early_in_the_minute();
        for _ in 0..12 {
            tenant.admin.refused(
                &format!("public.rpc_install_plugin('{}', 'unknown')", tenant.id),
                "P0001",
            );
        }
        tenant.admin.run(&format!(
            "select public.rpc_install_plugin('{}', 'crm')",
            tenant.id
        ));
    }
}
