//! Installing, changing and uninstalling a plugin for a tenant.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{
        Caller, Tenant, WHITE_SPACE, operator, plain_role, plugin, text, uuid,
    };
    use pgrx::prelude::*;

    fn row(installation: &str) -> String {
        operator()
            .rows(&format!(
                "select status, secret_ref, config from int.plugin_installations where id = '{installation}'"
            ))
            .pop()
            .expect("the installation exists")
    }

    #[pg_extern]
    fn an_admin_installs_a_plugin_for_the_own_tenant() {
        let (plugin, tenant, user) = (plugin("crm"), uuid(), uuid());
        let admin = Caller::user(&user, &tenant, &["tenant.admin"]);
        let id = admin.value(&format!(
            r#"public.rpc_install_plugin(p_tenant_id => '{tenant}', p_plugin_key => 'crm',
                 p_secret_ref => 'crm_secret', p_config => '{{"webhook_url": "https://example.com/h"}}')"#
        ));
        let stored = operator().rows(&format!(
            "select tenant_id, plugin_id, status, secret_ref, config ->> 'webhook_url' as url, installed_by
             from int.plugin_installations where id = '{id}'"
        ));
        assert_eq!(
            stored,
            [format!(
                "({tenant},{plugin},installed,crm_secret,https://example.com/h,{user})"
            )]
        );
    }

    #[pg_extern]
    fn secret_and_config_of_a_new_installation_are_null_by_default() {
        plugin("crm");
        let tenant = uuid();
        let admin = Caller::admin(&tenant);
        let id = admin.value(&format!("public.rpc_install_plugin('{tenant}', 'crm')"));
        assert_eq!(row(&id), "(installed,,)");
        let again = admin.value(&format!(
            "public.rpc_install_plugin('{tenant}', 'crm', null, null)"
        ));
        assert_eq!(again, id);
        assert_eq!(row(&id), "(installed,,)");
    }

    #[pg_extern]
    fn permissions_count_in_app_metadata_too() {
        plugin("crm");
        let tenant = uuid();
        let claims = serde_json::json!({
            "sub": uuid(), "tenant_id": tenant, "app_metadata": {"permissions": ["tenant.admin"]},
        });
        Caller::role_with("authenticated", &claims.to_string())
            .value(&format!("public.rpc_install_plugin('{tenant}', 'crm')"));
    }

    #[pg_extern]
    fn installing_again_keeps_the_row_and_replaces_its_contents() {
        let tenant = Tenant::with_plugin("crm");
        let subscription = tenant.subscribe("public", "orders");
        for status in ["disabled", "uninstalled", "installed"] {
            operator().run(&format!(
                "update int.plugin_installations set status = '{status}', secret_ref = 'old', config = '{{\"old\": 1}}'
                 where id = '{}'",
                tenant.installation
            ));
            let id = tenant.admin.value(&format!(
                "public.rpc_install_plugin('{}', 'crm', 'new', '{{\"new\": 2}}')",
                tenant.id
            ));
            assert_eq!(id, tenant.installation, "from {status}");
            assert_eq!(
                row(&id),
                r#"(installed,new,"{""new"": 2}")"#,
                "from {status}"
            );
        }
        let id = tenant.admin.value(&format!(
            "public.rpc_install_plugin('{}', 'crm')",
            tenant.id
        ));
        assert_eq!(row(&id), "(installed,,)", "what is not given is removed");
        assert_eq!(
            operator().value("select id from int.plugin_webhook_subscriptions"),
            subscription,
            "subscriptions stay"
        );
    }

    #[pg_extern]
    fn two_tenants_install_the_same_plugin_side_by_side() {
        let first = Tenant::with_plugin("crm");
        let second = Tenant::with_installation_of("crm");
        assert_ne!(first.installation, second.installation);
        assert_eq!(operator().count("int.plugin_installations"), 2);
    }

    #[pg_extern]
    fn an_operator_installs_for_any_tenant_without_a_user() {
        let tenant = Tenant::with_plugin("crm");
        assert_eq!(
            operator().optional(&format!(
                "select installed_by from int.plugin_installations where id = '{}'",
                tenant.installation
            )),
            None
        );
    }

    #[pg_extern]
    fn a_superuser_with_claims_is_that_user_and_no_operator() {
        plugin("crm");
        let tenant = uuid();
        let claims = format!(r#"{{"sub": "{}", "tenant_id": "{tenant}"}}"#, uuid());
        let caller = Caller::superuser_with(&claims);
        let failure = caller.refused(
            &format!("public.rpc_install_plugin('{tenant}', 'crm')"),
            "42501",
        );
        assert!(failure.message.contains("tenant.admin"), "{failure:?}");
    }

    #[pg_extern]
    fn installing_an_unknown_plugin_is_p0001() {
        let tenant = uuid();
        Caller::admin(&tenant).refused(
            &format!("public.rpc_install_plugin('{tenant}', 'nobody_knows')"),
            "P0001",
        );
    }

    #[pg_extern]
    fn update_changes_what_is_given_and_keeps_the_rest() {
        let tenant = Tenant::with_plugin("crm");
        let update = |rest: &str| {
            let result = tenant.admin.value(&format!(
                "public.rpc_update_plugin_installation('{}', '{}'{rest})",
                tenant.id, tenant.installation
            ));
            assert_eq!(result, "", "the function returns nothing");
            row(&tenant.installation)
        };
        assert_eq!(update(""), "(installed,,)");
        assert_eq!(update(", p_secret_ref => 'one'"), "(installed,one,)");
        assert_eq!(update(", p_status => 'disabled'"), "(disabled,one,)");
        assert_eq!(
            update(r#", p_config => '{"a": 1}'"#),
            r#"(disabled,one,"{""a"": 1}")"#
        );
        assert_eq!(
            update(", null, null, null"),
            r#"(disabled,one,"{""a"": 1}")"#
        );
        assert_eq!(
            update(r#", 'uninstalled', 'two', '{"b": 2}'"#),
            r#"(uninstalled,two,"{""b"": 2}")"#
        );
        assert_eq!(update(", 'installed'"), r#"(installed,two,"{""b"": 2}")"#);
    }

    #[pg_extern]
    fn a_blank_secret_ref_is_23514_at_install_and_removes_it_at_update() {
        let tenant = Tenant::with_plugin("crm");
        let stored = || {
            operator().value(&format!(
                "select coalesce(secret_ref, 'none') from int.plugin_installations where id = '{}'",
                tenant.installation
            ))
        };
        let all: String = WHITE_SPACE.concat();
        for blank in WHITE_SPACE.into_iter().chain(["", &all]) {
            let blank = text(blank);
            let install = format!("public.rpc_install_plugin('{}', 'crm', {blank})", tenant.id);
            Caller::admin(&tenant.id).refused(&install, "23514");
            for name in ["'name'", &blank] {
                Caller::admin(&tenant.id).run(&format!(
                    "select public.rpc_update_plugin_installation('{}', '{}', null, {name})",
                    tenant.id, tenant.installation
                ));
            }
            assert_eq!(stored(), "none");
        }
        // Any other is stored as it is.
        Caller::admin(&tenant.id).run(&format!(
            "select public.rpc_install_plugin('{}', 'crm', ' a name ')",
            tenant.id
        ));
        assert_eq!(stored(), " a name ");
    }

    #[pg_extern]
    fn a_status_outside_the_three_is_23514() {
        let tenant = Tenant::with_plugin("crm");
        for status in ["", "Installed", "enabled", "INSTALLED", "installed;"] {
            let call = format!(
                "public.rpc_update_plugin_installation('{}', '{}', {})",
                tenant.id,
                tenant.installation,
                text(status)
            );
            tenant
                .admin
                .refused_with_hint(&call, "23514", "installed, disabled, uninstalled");
        }
        assert_eq!(row(&tenant.installation), "(installed,,)");
    }

    #[pg_extern]
    fn uninstall_deletes_the_installation_and_what_hangs_on_it() {
        let tenant = Tenant::with_plugin("crm");
        let other = Tenant::with_installation_of("crm");
        tenant.subscribe("int", "plugin_installations");
        other.subscribe("int", "plugin_installations");
        for tenant in [&tenant, &other] {
            operator().run(&format!(
                "select public.rpc_update_plugin_installation('{}', '{}', null, 's')",
                tenant.id, tenant.installation
            ));
        }
        assert_eq!(operator().count("int.plugin_delivery_queue"), 2);
        let result = tenant.admin.value(&format!(
            "public.rpc_uninstall_plugin(p_tenant_id => '{}', p_installation_id => '{}')",
            tenant.id, tenant.installation
        ));
        assert_eq!(result, "", "the function returns nothing");
        for table in ["plugin_webhook_subscriptions", "plugin_delivery_queue"] {
            assert_eq!(
                operator().rows(&format!("select plugin_installation_id from int.{table}")),
                [format!("({})", other.installation)],
                "{table}"
            );
        }
        assert_eq!(
            operator().rows("select id from int.plugin_installations"),
            [format!("({})", other.installation)]
        );
    }

    /// The calls of an admin on an installation, for a tenant.
    fn calls(tenant: &str, installation: &str, subscription: &str) -> [String; 5] {
        [
            format!("public.rpc_install_plugin('{tenant}', 'crm')"),
            format!("public.rpc_update_plugin_installation('{tenant}', '{installation}')"),
            format!("public.rpc_uninstall_plugin('{tenant}', '{installation}')"),
            format!(
                "public.rpc_upsert_plugin_webhook_subscription('{tenant}', '{installation}', 's', 't', '{{INSERT}}')"
            ),
            format!("public.rpc_delete_plugin_webhook_subscription('{tenant}', '{subscription}')"),
        ]
    }

    #[pg_extern]
    fn admin_functions_are_refused_without_a_user() {
        let tenant = Tenant::with_plugin("crm");
        let subscription = tenant.subscribe("s", "t");
        let no_sub = format!(
            r#"{{"tenant_id": "{}", "permissions": ["tenant.admin"]}}"#,
            tenant.id
        );
        let odd_sub = format!(
            r#"{{"sub": "nobody", "tenant_id": "{}", "permissions": ["tenant.admin"]}}"#,
            tenant.id
        );
        for claims in ["", "{}", "not json", "[]", "null", &no_sub, &odd_sub] {
            for call in calls(&tenant.id, &tenant.installation, &subscription) {
                let caller = Caller::role_with("authenticated", claims);
                caller.refused_with_hint(&call, "28000", "sub");
            }
        }
    }

    #[pg_extern]
    fn admin_functions_are_refused_to_other_tenants() {
        let tenant = Tenant::with_plugin("crm");
        let subscription = tenant.subscribe("s", "t");
        let stranger = Caller::admin(&uuid());
        let without_tenant = Caller::role_with(
            "authenticated",
            &format!(
                r#"{{"sub": "{}", "permissions": ["tenant.admin"]}}"#,
                uuid()
            ),
        );
        for caller in [stranger, without_tenant] {
            for call in calls(&tenant.id, &tenant.installation, &subscription) {
                caller.refused(&call, "42501");
            }
        }
    }

    #[pg_extern]
    fn admin_functions_need_tenant_admin_and_say_so() {
        let tenant = Tenant::with_plugin("crm");
        let subscription = tenant.subscribe("s", "t");
        let odd = |permissions: &str| {
            Caller::role_with(
                "authenticated",
                &format!(
                    r#"{{"sub": "{}", "tenant_id": "{}", "permissions": {permissions}}}"#,
                    uuid(),
                    tenant.id
                ),
            )
        };
        for caller in [
            Caller::member(&tenant.id),
            odd("\"tenant.admin\""),
            odd("{\"tenant.admin\": true}"),
            odd("[\"tenant.admin.read\", \"TENANT.ADMIN\", \"*\"]"),
            odd("null"),
        ] {
            for call in calls(&tenant.id, &tenant.installation, &subscription) {
                let failure = caller.refused(&call, "42501");
                assert!(failure.message.contains("tenant.admin"), "{failure:?}");
            }
        }
    }

    #[pg_extern]
    fn admin_functions_are_executable_by_authenticated_only() {
        let tenant = Tenant::with_plugin("crm");
        let subscription = tenant.subscribe("s", "t");
        let plain = plain_role("plain_admin");
        for call in calls(&tenant.id, &tenant.installation, &subscription) {
            for caller in [
                tenant.admin.as_role("anon"),
                tenant.admin.as_role("service_role"),
                tenant.admin.as_role("plain_admin"),
                plain.clone(),
            ] {
                let failure = caller.refused(&call, "42501");
                assert!(
                    failure
                        .message
                        .starts_with("permission denied for function"),
                    "{failure:?}"
                );
            }
        }
    }

    #[pg_extern]
    fn an_installation_of_another_tenant_is_42501() {
        let (own, foreign) = (Tenant::with_plugin("crm"), Tenant::with_plugin("erp"));
        let subscription = foreign.subscribe("s", "t");
        for caller in [own.admin.clone(), operator()] {
            for call in &calls(&own.id, &foreign.installation, &subscription)[1..] {
                caller.refused(call, "42501");
            }
        }
        assert_eq!(row(&foreign.installation), "(installed,,)");
        assert_eq!(operator().count("int.plugin_webhook_subscriptions"), 1);
    }

    #[pg_extern]
    fn an_unknown_installation_or_subscription_is_p0001() {
        let tenant = Tenant::with_plugin("crm");
        for call in &calls(&tenant.id, &uuid(), &uuid())[1..] {
            tenant.admin.refused(call, "P0001");
        }
    }

    #[pg_extern]
    fn null_for_a_required_argument_is_23514_never_a_null_result() {
        let tenant = Tenant::with_plugin("crm");
        let (t, i) = (&tenant.id, &tenant.installation);
        let calls = [
            "public.rpc_install_plugin(null, 'crm')".to_owned(),
            format!("public.rpc_install_plugin('{t}', null)"),
            format!("public.rpc_install_plugin('{t}', ' ')"),
            format!("public.rpc_update_plugin_installation(null, '{i}')"),
            format!("public.rpc_update_plugin_installation('{t}', null)"),
            format!("public.rpc_uninstall_plugin(null, '{i}')"),
            format!("public.rpc_uninstall_plugin('{t}', null)"),
            format!("public.rpc_delete_plugin_webhook_subscription(null, '{i}')"),
            format!("public.rpc_delete_plugin_webhook_subscription('{t}', null)"),
        ];
        for call in calls {
            tenant
                .admin
                .refused_with_hint(&call, "23514", "neither null nor blank");
        }
        assert_eq!(row(i), "(installed,,)");
    }
}
