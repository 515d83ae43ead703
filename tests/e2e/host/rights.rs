use super::*;

/// One call of each function of tenant admins; none gets past the rights.
fn calls(tenant: &str) -> [String; 5] {
    let any = "gen_random_uuid()";
    [
        format!("select rpc_install_plugin('{tenant}', 'desk')"),
        format!("select rpc_update_plugin_installation('{tenant}', {any}, 'disabled')"),
        format!("select rpc_uninstall_plugin('{tenant}', {any})"),
        format!(
            "select rpc_upsert_plugin_webhook_subscription('{tenant}', {any}, 'app', 'assets', '{{INSERT}}')"
        ),
        format!("select rpc_delete_plugin_webhook_subscription('{tenant}', {any})"),
    ]
}

#[test]
fn are_the_hosts_to_refuse() {
    let host = Host::new();
    for sql in calls(&host.tenant) {
        let mut session = host.database.authenticator();
        let nobody = as_user(
            &mut session,
            "authenticated",
            r#"{"role":"authenticated"}"#,
            |tx| tx.batch_execute(&sql),
        );
        let error = expect_sqlstate(nobody, "28000");
        assert_eq!(error.message(), "host: not authenticated", "{sql}");

        let foreign = host.as_(&host.other_admin, &host.tenant, |tx| tx.batch_execute(&sql));
        let error = expect_sqlstate(foreign, "42501");
        assert_eq!(
            error.message(),
            "host: not a member of this tenant",
            "{sql}"
        );

        let member = host.as_(&host.member, &host.tenant, |tx| tx.batch_execute(&sql));
        let error = expect_sqlstate(member, "42501");
        assert_eq!(
            error.message(),
            "host: permission tenant.admin is missing",
            "{sql}"
        );
    }
}

#[test]
fn come_from_the_membership_whatever_the_claims_say() {
    let host = Host::new();
    execute(
        &mut host.dba(),
        "select public.rpc_register_plugin('desk', 'Desk')",
    );
    let claims = format!(
        r#"{{"role":"authenticated","sub":"{}","tenant_id":"{}","permissions":["{ADMIN}"],
            "app_metadata":{{"permissions":["{ADMIN}"]}}}}"#,
        host.member, host.tenant
    );
    let mut session = host.database.authenticator();
    let sql = format!("select rpc_install_plugin('{}', 'desk')", host.tenant);
    let refused = as_user(&mut session, "authenticated", &claims, |tx| {
        tx.batch_execute(&sql)
    });
    expect_sqlstate(refused, "42501");
    let rows = as_user(&mut session, "authenticated", &claims, |tx| {
        tx.query("select * from v_audit_entity_changes", &[])
    });
    assert!(rows.expect("the view").is_empty());
    host.as_(&host.admin, &host.tenant, |tx| tx.batch_execute(&sql))
        .expect("the admin");
}

#[test]
fn of_an_admin_end_at_the_tenants_installations() {
    let host = Host::new();
    let installation = host.install("https://example.com/");
    let tenant = &host.other_tenant;
    for sql in [
        format!("select rpc_update_plugin_installation('{tenant}', '{installation}', 'disabled')"),
        format!("select rpc_uninstall_plugin('{tenant}', '{installation}')"),
        format!(
            "select rpc_upsert_plugin_webhook_subscription('{tenant}', '{installation}', 'app', 'assets', '{{INSERT}}')"
        ),
    ] {
        let refused = host.as_(&host.other_admin, tenant, |tx| tx.batch_execute(&sql));
        expect_sqlstate(refused, "42501");
    }
}

#[test]
fn let_the_hosts_context_follow_the_call() {
    let host = Host::new();
    execute(
        &mut host.dba(),
        "select public.rpc_register_plugin('desk', 'Desk')",
    );
    // The JWT names no tenant: authz.rpc_setup sets the context for the rest of the transaction.
    let claims = format!(r#"{{"role":"authenticated","sub":"{}"}}"#, host.admin);
    let mut session = host.database.authenticator();
    let seen = as_user(&mut session, "authenticated", &claims, |tx| {
        let before = tx.query("select * from v_plugin_installations", &[])?.len();
        tx.batch_execute(&format!(
            "select rpc_install_plugin('{}', 'desk')",
            host.tenant
        ))?;
        let after = tx.query("select * from v_plugin_installations", &[])?.len();
        Ok((before, after))
    });
    assert_eq!(seen.expect("install"), (0, 1));
}

#[test]
fn use_the_hosts_limits() {
    let host = Host::new();
    execute(
        &mut host.dba(),
        "select public.rpc_register_plugin('desk', 'Desk');
         create or replace function util.check_rate_limit(
             p_operation text, p_key text, p_max integer, p_minutes integer, p_user_id uuid, p_tenant_id uuid
         ) returns boolean language plpgsql as $$
         begin
             raise exception 'host: % % % %', p_operation, p_max, p_minutes, (p_user_id, p_tenant_id)
                 using errcode = '54000';
         end $$",
    );
    let refused = host.as_(&host.admin, &host.tenant, |tx| {
        tx.batch_execute(&format!(
            "select rpc_install_plugin('{}', 'desk')",
            host.tenant
        ))
    });
    let error = expect_sqlstate(refused, "54000");
    assert_eq!(
        error.message(),
        format!(
            "host: rpc_install_plugin 10 1 ({},{})",
            host.admin, host.tenant
        )
    );
    assert_eq!(
        count(
            &mut host.dba(),
            "select count(*) from plugin_webhooks.rate_limits"
        ),
        0
    );
}
