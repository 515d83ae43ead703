use super::*;

fn bound(host: &Host) -> String {
    text(
        &mut host.dba(),
        "select string_agg(distinct concat_ws(' ', owner, status), ', ') from plugin_webhooks.host_objects
         where status <> 'not there'",
    )
}

/// With Supabase's part of the host, which is trusted anyway.
fn all_bound(owner: &str) -> String {
    format!("{owner} bound, supabase_admin bound, supabase_auth_admin bound")
}

/// Everything that a host is asked for, in one go.
fn assert_used(host: &Host) {
    let receiver = Receiver::http();
    let installation = host.install(&receiver.url("/"));
    host.subscribe(&installation, "work_orders");
    let mut dba = host.dba();
    execute(&mut dba, "select audit.track('app.work_orders')");
    host.ingest(
        &installation,
        r#"{"action": "work_order.create", "data": {"title": "x"}}"#,
    )
    .expect("a work order");
    let request = &receiver.wait_for(1, SOON)[0];
    let signature = request.header("X-Plugin-Signature").expect("a signature");
    assert!(verify_signature("from the vault", &request.body, signature));
    let refused = host.as_(&host.member, &host.tenant, |tx| {
        tx.batch_execute(&format!(
            "select rpc_install_plugin('{}', 'desk')",
            host.tenant
        ))
    });
    let error = expect_sqlstate(refused, "42501");
    assert_eq!(error.message(), "host: permission tenant.admin is missing");
    let sql = "select * from v_plugin_installations";
    assert_eq!(host.rows_as(&host.admin, &host.tenant, sql), 1);
    assert_eq!(host.rows_as(&host.member, &host.tenant, sql), 0);
    assert_eq!(
        text(
            &mut dba,
            "select user_id::text from audit.entity_changes where table_name = 'plugin_installations'"
        ),
        host.admin
    );
}

#[test]
fn without_superuser_rights_are_trusted_as_owners_of_the_database() {
    let owner = "host_database_owner";
    let host = Host::of(owner, |_| {}, |_| {});
    assert_eq!(bound(&host), all_bound(owner));
    assert_used(&host);
}

#[test]
fn without_superuser_rights_are_trusted_when_attach_host_names_them_once() {
    let owner = "host_named_owner";
    let host = Host::of(
        owner,
        |client| {
            execute(
                client,
                "do $$ begin execute format('alter database %I owner to postgres', current_database()); end $$",
            );
        },
        |client| {
            execute(
                client,
                &format!("select plugin_webhooks.attach_host(ARRAY['{owner}'])"),
            );
        },
    );
    assert_used(&host);
    execute(
        &mut host.dba(),
        &format!(
            "set role {owner};
             create or replace function app.nothing() returns void language sql as '';
             drop table app.assets cascade;
             create table app.assets (id uuid primary key, tenant_id uuid not null);
             reset role;
             select plugin_webhooks.attach_host();"
        ),
    );
    assert_eq!(bound(&host), all_bound(owner));
}

#[test]
fn who_have_a_deferred_foreign_key_on_work_orders_get_their_work_orders() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    execute(
        &mut host.dba(),
        "alter table app.work_orders alter constraint work_orders_tenant_id_fkey deferrable initially deferred",
    );
    host.ingest(
        &installation,
        r#"{"action": "work_order.create", "data": {"title": "x"}}"#,
    )
    .expect("a work order");
}
