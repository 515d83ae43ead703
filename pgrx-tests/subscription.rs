//! Subscribing an installation to tables.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Tenant, operator, text};
    use pgrx::prelude::*;

    fn stored() -> Vec<String> {
        operator().rows(
            "select table_schema, table_name, operations, changed_fields_allowlist, include_payload
             from int.plugin_webhook_subscriptions order by table_schema, table_name",
        )
    }

    fn upsert(tenant: &Tenant, rest: &str) -> String {
        format!(
            "public.rpc_upsert_plugin_webhook_subscription('{}', '{}', {rest})",
            tenant.id, tenant.installation
        )
    }

    #[pg_extern]
    fn an_admin_subscribes_an_installation_to_a_table() {
        let tenant = Tenant::with_plugin("crm");
        let id = tenant.admin.value(&format!(
            "public.rpc_upsert_plugin_webhook_subscription(p_tenant_id => '{}', p_installation_id => '{}',
                 p_table_schema => 'app', p_table_name => 'work_orders', p_operations => '{{INSERT,UPDATE}}',
                 p_changed_fields_allowlist => '{{status,title}}', p_include_payload => true)",
            tenant.id, tenant.installation
        ));
        assert_eq!(
            operator()
                .rows("select id, plugin_installation_id from int.plugin_webhook_subscriptions"),
            [format!("({id},{})", tenant.installation)]
        );
        assert_eq!(
            stored(),
            [r#"(app,work_orders,"{INSERT,UPDATE}","{status,title}",t)"#]
        );
    }

    #[pg_extern]
    fn a_subscription_has_no_allowlist_and_no_payload_by_default() {
        let tenant = Tenant::with_plugin("crm");
        tenant
            .admin
            .value(&upsert(&tenant, "'app', 'a', '{DELETE}'"));
        tenant
            .admin
            .value(&upsert(&tenant, "'app', 'b', '{DELETE}', null, null"));
        assert_eq!(stored(), ["(app,a,{DELETE},,f)", "(app,b,{DELETE},,f)"]);
    }

    #[pg_extern]
    fn subscribing_again_to_a_table_changes_the_same_row() {
        let tenant = Tenant::with_plugin("crm");
        let first = tenant.admin.value(&upsert(
            &tenant,
            "'app', 'work_orders', '{INSERT}', '{status}', true",
        ));
        let again = tenant
            .admin
            .value(&upsert(&tenant, "'app', 'work_orders', '{DELETE}'"));
        assert_eq!(again, first, "the id stays");
        assert_eq!(stored(), ["(app,work_orders,{DELETE},,f)"]);
    }

    #[pg_extern]
    fn names_of_schema_and_table_are_trimmed() {
        let tenant = Tenant::with_plugin("crm");
        let plain = tenant
            .admin
            .value(&upsert(&tenant, "'app', 'My Table', '{INSERT}'"));
        let padded = tenant.admin.value(&upsert(
            &tenant,
            r"E' \t app\n', E'\n My Table  ', '{DELETE}'",
        ));
        assert_eq!(padded, plain, "the same subscription");
        assert_eq!(stored(), [r#"(app,"My Table",{DELETE},,f)"#]);
    }

    #[pg_extern]
    fn a_subscription_needs_schema_table_and_operations() {
        let tenant = Tenant::with_plugin("crm");
        for rest in [
            "null, 't', '{INSERT}'",
            "' ', 't', '{INSERT}'",
            "'s', null, '{INSERT}'",
            r"'s', E'\t', '{INSERT}'",
            "'s', 't', null",
            "'s', 't', '{}'",
        ] {
            let call = upsert(&tenant, rest);
            tenant
                .admin
                .refused_with_hint(&call, "23514", "neither null nor blank");
        }
        for ids in [
            format!("null, '{}'", tenant.installation),
            format!("'{}', null", tenant.id),
        ] {
            let call = format!(
                "public.rpc_upsert_plugin_webhook_subscription({ids}, 's', 't', '{{INSERT}}')"
            );
            tenant.admin.refused(&call, "23514");
        }
        assert_eq!(stored(), [""; 0]);
    }

    #[pg_extern]
    fn an_operation_outside_the_three_is_23514() {
        let tenant = Tenant::with_plugin("crm");
        for operations in [
            "{TRUNCATE}",
            "{INSERT,SELECT}",
            "{\"\"}",
            "{INSERT,NULL}",
            "{*}",
        ] {
            let call = upsert(&tenant, &format!("'s', 't', {}", text(operations)));
            tenant
                .admin
                .refused_with_hint(&call, "23514", "INSERT, UPDATE, DELETE");
        }
        assert_eq!(stored(), [""; 0]);
    }

    #[pg_extern]
    fn a_repeated_operation_is_stored_once() {
        let tenant = Tenant::with_plugin("crm");
        tenant
            .admin
            .value(&upsert(&tenant, "'s', 't', '{UPDATE,INSERT,UPDATE}'"));
        assert_eq!(stored(), [r#"(s,t,"{INSERT,UPDATE}",,f)"#]);
    }

    #[pg_extern]
    fn an_admin_deletes_a_subscription_and_no_other() {
        let tenant = Tenant::with_plugin("crm");
        let id = tenant.subscribe("s", "a");
        tenant.subscribe("s", "b");
        let delete = format!(
            "public.rpc_delete_plugin_webhook_subscription(p_tenant_id => '{}', p_subscription_id => '{id}')",
            tenant.id
        );
        assert_eq!(
            tenant.admin.value(&delete),
            "",
            "the function returns nothing"
        );
        assert_eq!(stored(), [r#"(s,b,"{INSERT,UPDATE,DELETE}",,f)"#]);
        tenant.admin.refused(&delete, "P0001");
    }
}
