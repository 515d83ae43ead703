use super::*;

#[test]
fn a_deleted_tenant_takes_its_installations_and_deliveries_along() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    host.subscribe(&installation, "assets");
    let mut dba = host.dba();
    execute(
        &mut dba,
        &format!(
            "select audit.track('app.assets'), public.rpc_install_plugin('{}', 'desk');
             insert into app.assets (tenant_id) values ('{}');",
            host.other_tenant, host.tenant
        ),
    );
    assert_eq!(
        count(&mut dba, "select count(*) from int.plugin_delivery_queue"),
        1
    );
    execute(
        &mut dba,
        &format!("delete from app.tenants where id = '{}'", host.tenant),
    );
    for table in [
        "int.plugin_delivery_queue",
        "int.plugin_webhook_subscriptions",
    ] {
        assert_eq!(
            count(&mut dba, &format!("select count(*) from {table}")),
            0,
            "{table}"
        );
    }
    assert_eq!(
        text(
            &mut dba,
            "select string_agg(tenant_id::text, ',') from int.plugin_installations"
        ),
        host.other_tenant
    );
}

#[test]
fn a_tenant_that_does_not_exist_has_no_installation() {
    let host = Host::new();
    let result = host.dba().batch_execute(
        "select public.rpc_register_plugin('desk', 'Desk');
         select public.rpc_install_plugin(gen_random_uuid(), 'desk')",
    );
    expect_sqlstate(result, "23503");
}

#[test]
fn a_deleted_user_leaves_the_installation_and_the_log() {
    let host = Host::new();
    host.install("https://receiver.invalid/");
    let mut dba = host.dba();
    assert_eq!(
        text(
            &mut dba,
            "select installed_by::text from int.plugin_installations"
        ),
        host.admin
    );
    execute(
        &mut dba,
        &format!("delete from auth.users where id = '{}'", host.admin),
    );
    assert_eq!(
        count(
            &mut dba,
            "select count(*) from int.plugin_installations where installed_by is null"
        ),
        1
    );
    assert!(
        count(
            &mut dba,
            "select count(*) from audit.entity_changes where table_name = 'plugin_installations'"
        ) > 0
    );
}
