//! What the former owner has written is brought back as the former owner: to parse an expression is enough to run code.

use plugin_webhooks_kit::{assert_same_lines, catalog};

use super::*;

const OWNER: &str = "legacy_owner";

#[test]
fn parses_what_the_former_owner_has_written_as_the_former_owner() {
    let mut watched = Watched::of(former_system(shared_server(), "http://127.0.0.1:9"));
    // A literal of an array of a domain is checked when it is parsed. Until the take-over the check tells nothing.
    let literal = |what: &str| format!("'{{{what}}}'::\"int\".evil[]");
    let of_view: String = value(
        &mut watched.client,
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
         where attrelid = 'public.v_plugins'::regclass and attnum > 0",
    );
    watched.run_as(
        OWNER,
        &format!(
            "create function \"int\".chk(text) returns boolean language plpgsql as $$ begin return true; end $$;
             create domain \"int\".evil as text check (\"int\".chk(value));
             create or replace function public.rpc_delete_plugin_webhook_subscription(
                 p_tenant_id uuid, p_subscription_id uuid) returns void language sql as $$ select {body} $$;
             create or replace view public.v_plugins with (security_invoker = on) as
                 select {of_view} from int.plugins where {view} is not null;
             alter table int.plugins alter column description set default ({default})[1];
             drop policy if exists plugins_select_authenticated on int.plugins;
             create policy plugins_select_authenticated on int.plugins for select to authenticated
                 using ({policy} is not null);
             drop trigger if exists entity_changes_plugin_enqueue_trigger on audit.entity_changes;
             create trigger entity_changes_plugin_enqueue_trigger after insert on audit.entity_changes for each row
                 when ({trigger} is not null) execute function int.enqueue_plugin_events_from_audit();",
            body = literal("body"),
            view = literal("view"),
            default = literal("default"),
            policy = literal("policy"),
            trigger = literal("trigger"),
        ),
    );
    let before = catalog(&mut watched.client);
    watched.run("create extension plugin_webhooks");
    watched.run_as(
        OWNER,
        "create or replace function \"int\".chk(text) returns boolean language plpgsql as $$
             begin return watch.tell($1); end $$",
    );
    watched.run("truncate watch.told; select setval('watch.superusers', 1, false)");
    // A table that was given to a superuser meanwhile is its former owner's again.
    watched.run(
        "alter table audit.entity_changes owner to postgres;
         begin; select plugin_webhooks.hand_back(); drop extension plugin_webhooks; commit;",
    );
    for what in ["view", "default", "policy", "trigger"] {
        let line = format!("{what}: {OWNER}");
        assert!(
            watched.told().contains(&line),
            "{line}: {:?}",
            watched.told()
        );
    }
    watched.assert_ran_only_as(&[OWNER]);
    let of_interest = |lines: BTreeSet<String>| -> BTreeSet<String> {
        let kinds = ["function", "view", "trigger", "policy", "grant"];
        lines
            .into_iter()
            .filter(|line| kinds.iter().any(|kind| line.starts_with(kind)))
            .filter(|line| {
                !line.contains("int\".chk") && !line.contains("plugin_delivery_attempts")
            })
            .filter(|line| !line.contains("schema plugin_webhooks"))
            .collect()
    };
    let after = catalog(&mut watched.client);
    assert_same_lines(
        ("before the take-over", &of_interest(before)),
        ("after the way back", &of_interest(after)),
    );
}
