//! `rpc_register_plugin`: who may register what, and what a second call changes.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Caller, Tenant, WHITE_SPACE, operator, plain_role, text};
    use pgrx::prelude::*;

    fn service() -> Caller {
        Caller::role("service_role")
    }

    fn stored(key: &str) -> Vec<String> {
        operator().rows(&format!(
            "select name, description, is_integration, is_active from int.plugins where key = '{key}'"
        ))
    }

    #[pg_extern]
    fn service_role_registers_a_plugin_and_gets_its_id() {
        let id = service().value(
            "public.rpc_register_plugin(p_key => 'crm_2', p_name => 'CRM', p_description => 'Sends customers',
                 p_is_integration => true, p_is_active => false)",
        );
        assert_eq!(
            operator().value("select id from int.plugins where key = 'crm_2'"),
            id
        );
        assert_eq!(stored("crm_2"), ["(CRM,\"Sends customers\",t,f)"]);
    }

    #[pg_extern]
    fn a_plugin_is_active_and_no_integration_by_default() {
        service().run("select public.rpc_register_plugin('crm', 'CRM')");
        assert_eq!(stored("crm"), ["(CRM,,f,t)"]);
    }

    #[pg_extern]
    fn null_for_an_optional_argument_of_register_means_its_default() {
        service().run("select public.rpc_register_plugin('crm', 'CRM', 'old', true, false)");
        service().run("select public.rpc_register_plugin('crm', 'CRM', null, null, null)");
        assert_eq!(stored("crm"), ["(CRM,,f,t)"]);
    }

    #[pg_extern]
    fn registering_a_key_again_updates_the_same_row() {
        let first = service().value("public.rpc_register_plugin('crm', 'CRM')");
        let again =
            service().value("public.rpc_register_plugin('crm', 'CRM 2', 'second', true, false)");
        assert_eq!(again, first, "the id stays");
        assert_eq!(stored("crm"), ["(\"CRM 2\",second,t,f)"]);
    }

    #[pg_extern]
    fn register_refuses_a_key_or_name_that_is_null_or_blank() {
        for arguments in [
            "null, 'CRM'",
            "'', 'CRM'",
            "'  ', 'CRM'",
            "'crm', null",
            "'crm', ''",
            "'crm', E' \\t\\n '",
        ] {
            let call = format!("public.rpc_register_plugin({arguments})");
            service().refused_with_hint(&call, "23514", "neither null nor blank");
        }
        assert_eq!(operator().count("int.plugins"), 0);
    }

    #[pg_extern]
    fn a_key_with_white_space_around_it_is_not_trimmed() {
        for space in WHITE_SPACE {
            for key in [format!("ab{space}"), format!("{space}ab")] {
                let register = format!("public.rpc_register_plugin({}, 'P')", text(&key));
                service().refused_with_hint(&register, "23514", "a-z");
            }
        }
        let tenant = Tenant::with_plugin("ab");
        for space in WHITE_SPACE {
            let key = text(&format!("ab{space}"));
            let install = format!("public.rpc_install_plugin('{}', {key})", tenant.id);
            Caller::admin(&tenant.id).refused(&install, "P0001");
            let ingest = format!(
                "public.rpc_plugin_ingest_webhook({key}, '{}', '{{}}', 'x')",
                tenant.installation
            );
            Caller::role("anon").refused(&ingest, "P0001");
        }
    }

    #[pg_extern]
    fn a_plugin_key_has_2_to_80_characters_of_a_z_0_9_and_underscore() {
        for key in ["ab", "0_", "__", &"k".repeat(80)] {
            let call = format!("public.rpc_register_plugin('{key}', 'P')");
            service().value(&call);
        }
        for key in [
            "a",
            "CRM",
            "a-b",
            "a.b",
            "a b",
            "größe",
            "a\u{a0}b",
            &"k".repeat(81),
        ] {
            let call = format!("public.rpc_register_plugin('{key}', 'P')");
            service().refused_with_hint(&call, "23514", "2 to 80 characters");
        }
    }

    #[pg_extern]
    fn nobody_but_service_role_registers_plugins() {
        let admin = Caller::admin("00000000-0000-4000-8000-000000000001");
        for caller in [Caller::role("anon"), admin, plain_role("plain_registrar")] {
            caller.refused("public.rpc_register_plugin('crm', 'CRM')", "42501");
        }
    }
}
