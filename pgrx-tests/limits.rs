//! How often a user may call in a minute.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Caller, Tenant, early_in_the_minute, operator, uuid};
    use pgrx::prelude::*;

    /// `call` passes `max` times in a minute for one user of one tenant, and not once more.
    fn limits_to(max: usize, tenant: &Tenant, other: &Tenant, call: impl Fn(&Tenant) -> String) {
        early_in_the_minute();
        let statement = |tenant: &Tenant| format!("select {}", call(tenant));
        for _ in 0..max {
            tenant.admin.run(&statement(tenant));
        }
        tenant
            .admin
            .refused_with_hint(&call(tenant), "54000", "Wait a minute");
        let colleague = Caller::admin(&tenant.id);
        colleague.run(&statement(tenant));
        other.admin.run(&statement(other));
        for _ in 0..=max {
            operator().run(&statement(tenant));
        }
        tenant.admin.refused(&call(tenant), "54000");
    }

    fn two_tenants() -> (Tenant, Tenant) {
        (
            Tenant::with_plugin("crm"),
            Tenant::with_installation_of("crm"),
        )
    }

    #[pg_extern]
    fn a_user_installs_10_times_a_minute() {
        let (one, two) = two_tenants();
        limits_to(10, &one, &two, |tenant| {
            format!("public.rpc_install_plugin('{}', 'crm')", tenant.id)
        });
    }

    #[pg_extern]
    fn a_user_updates_installations_20_times_a_minute() {
        let (one, two) = two_tenants();
        limits_to(20, &one, &two, |tenant| {
            format!(
                "public.rpc_update_plugin_installation('{}', '{}')",
                tenant.id, tenant.installation
            )
        });
    }

    #[pg_extern]
    fn a_user_uninstalls_10_times_a_minute() {
        let (one, two) = two_tenants();
        limits_to(10, &one, &two, |tenant| {
            // Puts a row there, so that each call has something to delete.
            let id = uuid();
            operator().run("delete from int.plugin_installations");
            operator().run(&format!(
                "insert into int.plugin_installations (id, tenant_id, plugin_id)
                 select '{id}', '{}', p.id from int.plugins p",
                tenant.id
            ));
            format!(
                "public.rpc_uninstall_plugin('{}', id) from int.plugin_installations",
                tenant.id
            )
        });
    }

    #[pg_extern]
    fn a_user_subscribes_30_times_a_minute() {
        let (one, two) = two_tenants();
        limits_to(30, &one, &two, |tenant| {
            format!(
                "public.rpc_upsert_plugin_webhook_subscription('{}', '{}', 's', 't', '{{INSERT}}')",
                tenant.id, tenant.installation
            )
        });
    }

    #[pg_extern]
    fn a_user_deletes_subscriptions_30_times_a_minute() {
        let (one, two) = two_tenants();
        limits_to(30, &one, &two, |tenant| {
            let id = tenant.subscribe("s", "t");
            format!(
                "public.rpc_delete_plugin_webhook_subscription('{}', '{id}')",
                tenant.id
            )
        });
    }

    #[pg_extern]
    fn each_function_has_its_own_limit() {
        let tenant = Tenant::with_plugin("crm");
        early_in_the_minute();
        let install = format!("public.rpc_install_plugin('{}', 'crm')", tenant.id);
        for _ in 0..10 {
            tenant.admin.run(&format!("select {install}"));
        }
        tenant.admin.refused(&install, "54000");
        tenant.admin.run(&format!(
            "select public.rpc_update_plugin_installation('{}', '{}')",
            tenant.id, tenant.installation
        ));
    }

    #[pg_extern]
    fn a_new_minute_starts_with_a_new_count() {
        let tenant = Tenant::with_plugin("crm");
        early_in_the_minute();
        let install = format!("public.rpc_install_plugin('{}', 'crm')", tenant.id);
        for _ in 0..10 {
            tenant.admin.run(&format!("select {install}"));
        }
        operator().run(
            "update plugin_webhooks.rate_limits set window_start = window_start - interval '1 minute'",
        );
        for _ in 0..10 {
            tenant.admin.run(&format!("select {install}"));
        }
        tenant.admin.refused(&install, "54000");
    }
}
