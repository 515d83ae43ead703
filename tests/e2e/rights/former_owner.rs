//! After a take-over the former owner has his tables, and calls what he called: he changes nothing that others call
//! or read, nor the tables that the extension brought.

use plugin_webhooks_kit::as_user;

use super::*;

const OWNER: &str = "legacy_owner";
const ONE: &str = "00000000-0000-0000-0000-000000000001";
const DESK: &str = "00000000-0000-0000-0000-000000000101";
const ADMIN: &str = r#"{"sub": "00000000-0000-0000-0000-0000000000a1", "tenant_id": "00000000-0000-0000-0000-000000000001"}"#;

#[test]
fn changes_nothing_that_others_call_or_read() {
    let mut watched = Watched::taken_over("http://127.0.0.1:9");
    watched.run("grant create on schema public to legacy_owner");
    watched.run_as(
        OWNER,
        "create function public.hostile() returns trigger language plpgsql as $$
             begin perform watch.tell('trigger'); return new; end $$",
    );
    for attempt in [
        "create or replace function public.rpc_process_plugin_deliveries(p_batch_size integer default 25)
             returns integer language sql as 'select watch.tell(''processor'')::integer'",
        "create or replace function public.rpc_install_plugin(p_tenant_id uuid, p_plugin_key text,
             p_secret_ref text default null, p_config jsonb default null)
             returns uuid language sql as 'select case when watch.tell(''install'') then p_tenant_id end'",
        "create or replace function plugin_webhooks.admin_tenant_id() returns uuid language sql
             as 'select case when watch.tell(''policy'') then gen_random_uuid() end'",
        "create or replace function audit.log_entity_change() returns trigger language plpgsql
             as 'begin perform watch.tell(''audit''); return new; end'",
        "create or replace view public.v_plugins with (security_invoker = true) as
             select id, key, name, description, is_integration, is_active and watch.tell('view') as is_active,
                    created_at, updated_at from int.plugins",
        "create rule rrr as on insert to public.v_plugins do instead select watch.tell('rule')",
        "create trigger ttt instead of insert on public.v_plugins for each row execute function public.hostile()",
        "alter function public.rpc_process_plugin_deliveries(integer) rename to mine",
        "alter function public.rpc_install_plugin(uuid,text,text,jsonb) security invoker",
        "alter function plugin_webhooks.admin_tenant_id() set role to postgres",
        "drop function public.rpc_install_plugin(uuid,text,text,jsonb)",
        "alter view public.v_plugins rename to mine",
        "drop view public.v_plugins",
        "create trigger ttt before insert on plugin_webhooks.secrets for each row execute function public.hostile()",
        "create trigger ttt before insert on plugin_webhooks.actions for each row execute function public.hostile()",
        "create trigger ttt before insert on plugin_webhooks.inbound_ids for each row execute function public.hostile()",
        "create trigger ttt before insert on plugin_webhooks.rate_limits for each row execute function public.hostile()",
        "create table public.refers (id uuid references plugin_webhooks.secrets (id))",
        "select * from plugin_webhooks.secrets",
        "insert into plugin_webhooks.actions select * from plugin_webhooks.actions",
        "grant plugin_webhooks_owner to legacy_owner",
        "select int.resolve_installation_signing_secret('00000000-0000-0000-0000-000000000101')",
    ] {
        assert!(!watched.tries_as(OWNER, attempt), "{attempt}");
    }
    watched.run("select public.rpc_process_plugin_deliveries(50)");
    watched.run("select * from public.v_plugins, public.v_plugin_installations");
    watched.run("select plugin_webhooks.create_secret('s', 'a secret')");
    let _ = watched.client.batch_execute(&format!(
        "select public.rpc_install_plugin('{ONE}', 'plugin_9')"
    ));
    watched.assert_ran_only_as(&[]);
}

#[test]
fn calls_and_reads_what_he_did() {
    let mut watched = Watched::taken_over("http://127.0.0.1:9");
    watched.database.allow_log("no privileges were granted");
    watched.run("grant create on schema public to legacy_owner");
    for what_he_did in [
        "select public.rpc_process_plugin_deliveries(1)",
        "select * from public.v_plugins, public.v_audit_entity_changes",
        "select int.plugin_webhook_apply_action('00000000-0000-0000-0000-000000000001', 'noop', null)",
        "create table int.more (id uuid primary key);
         create trigger more_audit after insert on int.more for each row execute function audit.log_entity_change();
         insert into int.more values (gen_random_uuid())",
        // A migration that says again who may call; it changes nothing.
        "grant execute on function public.rpc_install_plugin(uuid,text,text,jsonb) to authenticated",
        "create function public.app_install(tenant uuid) returns uuid language sql security definer
             as $$ select public.rpc_install_plugin(tenant, 'plugin_9') $$;
         grant execute on function public.app_install(uuid) to authenticated",
    ] {
        watched.run_as(OWNER, what_he_did);
    }
    as_user(
        &mut watched.database.authenticator(),
        "authenticated",
        ADMIN,
        |tx| tx.batch_execute(&format!("select public.app_install('{ONE}')")),
    )
    .expect("the application's own function");
    let desks: i64 = value(
        &mut watched.client,
        &format!("select count(*) from int.plugin_installations where id = '{DESK}'"),
    );
    assert_eq!(desks, 1);
}
