//! No function runs with its caller's search_path: what operators call, least of all.

use plugin_webhooks_kit::create_supabase_roles;

use super::*;

/// Operators that hide PostgreSQL's own where a search_path names their schema first.
const CODE: &str = "
    create schema hostile;
    grant usage on schema hostile to public;
    do $$
    declare
        type text;
    begin
        foreach type in array '{name,oid,text,int4,int2,bool,\"char\"}'::text[] loop
            execute format('create function hostile.equal(a %1$s, b %1$s) returns boolean language plpgsql as $f$
                            begin return watch.tell(''operator'') and a operator(pg_catalog.=) b; end $f$', type);
            execute format('create operator hostile.= (leftarg = %1$s, rightarg = %1$s, function = hostile.equal)', type);
        end loop;
    end $$;
    create function hostile.now() returns timestamptz language plpgsql as $$
        begin perform watch.tell('function'); return pg_catalog.now(); end $$;";

#[test]
fn of_a_caller_is_never_used() {
    let mut watched = Watched::of(shared_server().database_with(create_supabase_roles));
    watched.run("create table public.items (id bigint primary key, tenant_id uuid)");
    watched.run_as(MALLORY, CODE);
    watched.run("set search_path = hostile, pg_catalog, public");
    for call in [
        "audit.track('public.items')",
        "audit.track('public.items', '{}')",
        "audit.track_all(false)",
        "audit.untrack('public.items')",
        "plugin_webhooks.attach_host()",
        "plugin_webhooks.grant_to_roles()",
        "plugin_webhooks.create_secret('a secret', 'a name')",
        "plugin_webhooks.delete_secret((select s.id from plugin_webhooks.secret_names s))",
        "plugin_webhooks.paused_because()",
        "plugin_webhooks.resume()",
        "plugin_webhooks.check_foreign_keys(true)",
        "plugin_webhooks.refused_installations()",
        "plugin_webhooks.queue_state()",
        "plugin_webhooks.registered_actions()",
        "plugin_webhooks.secret_refs()",
        "plugin_webhooks.stored_secrets()",
        "plugin_webhooks.settle_pg_net()",
        "plugin_webhooks.worker_pid()",
        "public.rpc_register_plugin('crm', 'CRM')",
        "public.rpc_install_plugin('00000000-0000-0000-0000-000000000001', 'crm')",
        "public.rpc_process_plugin_deliveries()",
        "plugin_webhooks.missing_for_hand_back()",
        "plugin_webhooks.hand_back()",
    ] {
        watched.run(&format!("select {call}"));
    }
    watched.run("reset search_path");
    watched.assert_ran_only_as(&[]);
}

#[test]
fn is_pinned_for_every_function_that_is_called_by_name() {
    let database = shared_server().database();
    let open: i64 = value(
        &mut database.client(),
        "select count(*) from plugin_webhooks.member_owners m
         join pg_proc p on m.kind = 'FUNCTION' and p.oid = m.object::regprocedure
         where p.prorettype <> 'trigger'::regtype
           and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)",
    );
    assert_eq!(open, 0);
}
