use super::*;

const VIEWS: [&str; 4] = [
    "v_plugin_installations",
    "v_plugin_webhook_subscriptions",
    "v_plugin_delivery_queue_recent",
    "v_audit_entity_changes",
];

#[test]
fn show_the_tenant_to_its_admins_only() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    host.subscribe(&installation, "assets");
    let mut dba = host.dba();
    execute(
        &mut dba,
        &format!(
            "select audit.track('app.assets');
             insert into app.assets (tenant_id, name) values ('{}', 'Pump'), ('{}', 'Not mine')",
            host.tenant, host.other_tenant
        ),
    );
    for view in VIEWS {
        let sql = format!("select * from {view}");
        assert!(host.rows_as(&host.admin, &host.tenant, &sql) > 0, "{view}");
        let foreign = format!("select * from {view} where tenant_id <> '{}'", host.tenant);
        assert_eq!(
            host.rows_as(&host.admin, &host.tenant, &foreign),
            0,
            "{view}"
        );
        assert_eq!(host.rows_as(&host.member, &host.tenant, &sql), 0, "{view}");
        assert_eq!(
            host.rows_as(&host.other_admin, &host.tenant, &sql),
            0,
            "{view}"
        );
        assert_eq!(
            host.rows_as(&host.admin, &host.other_tenant, &sql),
            0,
            "{view}"
        );
    }
    let theirs = "select * from v_audit_entity_changes where new_data ->> 'name' = 'Not mine'";
    assert_eq!(
        host.rows_as(&host.other_admin, &host.other_tenant, theirs),
        1
    );
    assert_eq!(
        host.rows_as(&host.member, &host.tenant, "select * from v_plugins"),
        1
    );
}

#[test]
fn do_not_widen_by_going_around_them() {
    let host = Host::new();
    host.install("https://receiver.invalid/");
    for table in ["int.plugin_installations", "audit.entity_changes"] {
        let sql = format!("select * from {table}");
        assert!(host.rows_as(&host.admin, &host.tenant, &sql) > 0, "{table}");
        assert_eq!(host.rows_as(&host.member, &host.tenant, &sql), 0, "{table}");
        assert_eq!(
            host.rows_as(&host.other_admin, &host.other_tenant, &sql),
            0,
            "{table}"
        );
    }
}
