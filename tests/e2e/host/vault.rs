use super::*;
use crate::private_server::builder;

#[test]
fn signs_deliveries_with_its_current_secret() {
    let host = Host::new();
    let receiver = Receiver::http();
    let installation = host.install(&receiver.url("/"));
    host.subscribe(&installation, "assets");
    let mut dba = host.dba();
    let insert = format!(
        "insert into app.assets (tenant_id) values ('{}')",
        host.tenant
    );
    execute(&mut dba, "select audit.track('app.assets')");
    for (arrived, secret) in [(1, "from the vault"), (2, "rotated in the vault")] {
        dba.execute("update vault.secrets set secret = $1", &[&secret])
            .expect("rotate");
        execute(&mut dba, &insert);
        let request = &receiver.wait_for(arrived, SOON)[arrived - 1];
        let signature = request.header("X-Plugin-Signature").expect("a signature");
        assert!(
            verify_signature(secret, &request.body, signature),
            "{secret}"
        );
    }
}

#[test]
fn is_asked_before_the_embedded_store() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    let mut dba = host.dba();
    execute(
        &mut dba,
        "select plugin_webhooks.create_secret('embedded', 'desk_secret')",
    );
    let resolve = format!("select int.resolve_installation_signing_secret('{installation}')");
    assert_eq!(text(&mut dba, &resolve), "from the vault");
    execute(&mut dba, "delete from vault.secrets");
    let none: Option<String> = dba.query_one(&resolve, &[]).expect("resolve").get(0);
    assert_eq!(none, None, "two stores would be one too many");
}

#[test]
fn is_closed_to_the_roles_of_the_interface() {
    let host = Host::new();
    let refused = host.as_(&host.admin, &host.tenant, |tx| {
        tx.query("select * from vault.decrypted_secrets", &[])
    });
    expect_sqlstate(refused, "42501");
}

#[test]
fn signs_with_no_secret_that_the_operator_does_not_allow() {
    let own = builder().preloaded().start();
    let host = Host::on(&own);
    host.database
        .expect_log("secret_ref names a secret that it may not use");
    let receiver = Receiver::http();
    let installation = host.install(&receiver.url("/"));
    host.subscribe(&installation, "assets");
    own.alter_system("plugin_webhooks.allowed_secret_names", "{tenant_id}/%");
    let mut dba = host.dba();
    execute(
        &mut dba,
        &format!(
            "select audit.track('app.assets'); insert into app.assets (tenant_id) values ('{}')",
            host.tenant
        ),
    );
    wait_until(SOON, "a failed attempt", || {
        count(
            &mut dba,
            "select count(*) from int.plugin_delivery_queue where attempts > 0 and last_error like '%may not use'",
        ) == 1
    });
    assert_eq!(receiver.count(), 0, "nothing goes out unsigned");
    let resolve = format!("select int.resolve_installation_signing_secret('{installation}')");
    let none: Option<String> = dba.query_one(&resolve, &[]).expect("resolve").get(0);
    assert_eq!(none, None);
    let stored = host.as_(&host.admin, &host.tenant, |tx| {
        tx.batch_execute(&format!(
            "select public.rpc_update_plugin_installation('{}', '{installation}', null, 'desk_secret')",
            host.tenant
        ))
    });
    expect_sqlstate(stored, "42501");
}
