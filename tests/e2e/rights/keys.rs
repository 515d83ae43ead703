//! A foreign key of somebody who was granted REFERENCES: its cascade fires his triggers as whoever deletes, which is the
//! owner of the table. That is PostgreSQL's rule; it reaches no secret, no other role and nothing after the statement.

use plugin_webhooks_kit::{Tenant, as_user, create_tracked_table, project};

use super::*;

/// What the trigger tries; what worked tells.
const ATTEMPTS: [&str; 13] = [
    "select int.resolve_installation_signing_secret(id) from int.plugin_installations",
    "select int.plugin_webhook_apply_action(gen_random_uuid(), ''noop'', null)",
    "select plugin_webhooks.create_secret(''s'', ''made'')",
    "select plugin_webhooks.register_action(''a.b'', ''pg_catalog.now()'')",
    "select plugin_webhooks.as_owner_of(''pg_catalog.pg_class'', ''select 1::bigint'')",
    "select plugin_webhooks.as_role(10, ''select 1::text'')",
    "select plugin_webhooks.hand_back()",
    "set role postgres",
    "reset session authorization",
    "grant plugin_webhooks_owner to mallory",
    "create or replace function public.rpc_register_plugin(p_key text, p_name text, p_description text default null,
         p_is_integration boolean default false, p_is_active boolean default true)
         returns uuid language sql as ''select null::uuid''",
    "declare held cursor with hold for select watch.tell(''held'')",
    "create temporary table later (id int)",
];

#[test]
fn of_others_get_the_tables_owner_and_nothing_more() {
    let mut watched = Watched::of(project(shared_server()));
    create_tracked_table(&mut watched.client, "items");
    let tenant = Tenant::with_items_to(&watched.database, "http://127.0.0.1:9/")
        .id
        .to_string();
    watched.run(
        "grant usage on schema int, plugin_webhooks to mallory;
         grant references on int.plugin_webhook_subscriptions to mallory;
         create schema mallorys authorization mallory;
         grant usage on schema mallorys to public;",
    );
    let attempts: String = ATTEMPTS
        .iter()
        .enumerate()
        .map(|(number, sql)| {
            format!(
                "begin execute '{sql}'; perform watch.tell('got {number}'); exception when others then null; end;\n"
            )
        })
        .collect();
    watched.run_as(
        MALLORY,
        &format!(
            "create table mallorys.child (id uuid references int.plugin_webhook_subscriptions on delete cascade);
             create function mallorys.on_row() returns trigger language plpgsql as $$
             begin perform watch.tell('trigger'); {attempts} return null; end $$;
             create function mallorys.late() returns trigger language plpgsql as $$
             begin perform watch.tell('deferred'); return null; end $$;
             create trigger ttt after delete on mallorys.child for each row execute function mallorys.on_row();"
        ),
    );
    watched.run("insert into mallorys.child select id from int.plugin_webhook_subscriptions");
    let subscription: String = value(
        &mut watched.client,
        "select id::text from int.plugin_webhook_subscriptions",
    );
    let delete = format!(
        "select public.rpc_delete_plugin_webhook_subscription('{tenant}', '{subscription}')"
    );
    let claims = format!(
        r#"{{"sub": "{tenant}", "tenant_id": "{tenant}", "permissions": ["tenant.admin"]}}"#
    );
    // A deferred one could outlive the statement: the delete fails.
    watched.run_as(
        MALLORY,
        "create constraint trigger ddd after delete on mallorys.child deferrable initially deferred
             for each row execute function mallorys.late()",
    );
    let mut session = watched.database.authenticator();
    let deferred = as_user(&mut session, "authenticated", &claims, |tx| {
        tx.batch_execute(&delete)
    });
    let code = deferred.expect_err("a deferred trigger").code().cloned();
    assert_eq!(code.as_ref().map(|code| code.code()), Some("42501"));
    watched.run_as(MALLORY, "drop trigger ddd on mallorys.child");
    as_user(&mut session, "authenticated", &claims, |tx| {
        tx.batch_execute(&delete)
    })
    .expect("the delete");
    let told: Vec<String> = watched.told().into_iter().collect();
    assert_eq!(told, ["trigger: plugin_webhooks_owner"]);
    watched.assert_ran_only_as(&["plugin_webhooks_owner"]);
}
