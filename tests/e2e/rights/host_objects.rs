//! A role that has CREATE on the database, and no more, puts up what a host would have. Its code never decides who
//! calls, never hands out a secret, and never runs as anybody but its owner.

use std::time::Duration;

use super::Watched;
use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, HOST_SCHEMA, Receiver, Tenant, as_user, count, create_supabase_roles,
    create_tracked_table, execute, expect_sqlstate, shared_server, sign, text,
};

const SOON: Duration = Duration::from_secs(30);
/// Who mallory would have everybody be.
const NOBODY: &str = "99999999-9999-9999-9999-999999999999";

/// Everything that the extension might look for.
fn hostile_host() -> String {
    let function = |signature: &str, result: &str, value: &str| {
        format!(
            "create function {signature} returns {result} language plpgsql as $$
             begin perform watch.tell('{signature}'); return {value}; end $$;"
        )
    };
    let nobody = format!("'{NOBODY}'::uuid");
    let mut sql: String = [
        "auth", "authz", "util", "vault", "net", "cron", "cfg", "app",
    ]
    .map(|schema| format!("create schema {schema}; grant usage on schema {schema} to public;"))
    .concat();
    for (signature, result, value) in [
        ("auth.uid()", "uuid", nobody.as_str()),
        ("authz.get_current_tenant_id()", "uuid", &nobody),
        ("authz.rpc_setup(uuid, text)", "uuid", &nobody),
        ("authz.has_permission(uuid, uuid, text)", "boolean", "true"),
        ("authz.is_tenant_member(uuid, uuid)", "boolean", "true"),
        (
            "util.check_rate_limit(text, text, int, int, uuid, uuid)",
            "boolean",
            "true",
        ),
        (
            "cfg.get_default_status(uuid, text, jsonb)",
            "text",
            "'open'",
        ),
        ("cron.schedule(text, text, text)", "bigint", "1"),
    ] {
        sql += &function(signature, result, value);
    }
    sql += "
        create view vault.decrypted_secrets as
            select 'signing'::text as name, 'chosen by mallory'::text as decrypted_secret
            where watch.tell('vault.decrypted_secrets');
        create view net._http_response as select 1::bigint as id, 200 as status_code
            where watch.tell('net._http_response');
        create view cron.job as
            select 'plugin_webhook_process'::text as jobname, 'mallory'::text as username,
                   'select public.rpc_process_plugin_deliveries(50)'::text as command
            where watch.tell('cron.job');
        create function app.record_row() returns trigger language plpgsql as $$
            begin perform watch.tell('trigger on ' || tg_table_name); return new; end $$;
        create table app.tenants (id uuid primary key);
        create table auth.users (id uuid primary key);
        create table app.work_orders (id uuid default gen_random_uuid(), tenant_id uuid, title text, description text,
            priority text, maintenance_type text, assigned_to uuid, location_id uuid, asset_id uuid,
            due_date timestamptz, pm_schedule_id uuid, project_id uuid, status text,
            noted boolean default watch.tell('default of work_orders'));
        create trigger record before insert on app.work_orders for each row execute function app.record_row();
        create constraint trigger record_late after insert on app.work_orders deferrable initially deferred
            for each row execute function app.record_row();
        create table app.pm_schedules (id uuid, tenant_id uuid, is_active boolean);
        create table app.projects (id uuid, tenant_id uuid);
        create table app.locations (id uuid, tenant_id uuid);
        create table app.assets (id uuid, tenant_id uuid);
        create table cfg.priority_catalogs (tenant_id uuid, entity_type text, key text);
        create table cfg.maintenance_type_catalogs (tenant_id uuid, entity_type text, key text);
        insert into cfg.priority_catalogs values (null, 'work_order', 'medium');
        alter table cfg.priority_catalogs enable row level security, force row level security;
        create policy record on cfg.priority_catalogs using (watch.tell('policy of priority_catalogs'));";
    sql
}

/// A database with a role that has CREATE on it, and no more.
fn empty(mallory: &str) -> Database {
    let database = Watched::of(shared_server().empty_database()).database;
    // Whose secret is a host's that is not trusted.
    database.allow_log("secret_ref resolves to no secret");
    let mut dba = database.client();
    create_supabase_roles(&mut dba);
    create_role(&mut dba, mallory);
    database
}

fn create_role(dba: &mut Client, name: &str) {
    execute(
        dba,
        &format!(
            "do $$ begin
                 create role {name} login;
             exception when duplicate_object or unique_violation then null; end $$;
             do $$ begin execute format('grant create on database %I to {name}', current_database()); end $$;"
        ),
    );
}

fn runs(database: &Database) -> String {
    text(
        &mut database.client(),
        "select coalesce(string_agg(distinct concat_ws(' ', what, 'as', who, super), E'\\n'), '') from watch.told",
    )
}

/// Takes the ways on which an object of a host might be used; those that need one are refused.
fn go_all_ways(database: &Database, tenant: &Tenant<'_>, receiver: &Receiver) {
    let mut dba = database.client();
    let sent = receiver.count();
    // The writer is a superuser.
    tenant.insert_items(&mut dba, 1);
    let claims = format!(
        r#"{{"role":"authenticated","sub":"{}","tenant_id":"{}","permissions":["tenant.admin"]}}"#,
        tenant.admin, tenant.id
    );
    let mut session = database.authenticator();
    as_user(&mut session, "authenticated", &claims, |tx| {
        tx.batch_execute(&format!(
            "select * from v_plugin_installations; select * from v_audit_entity_changes;
             insert into items (tenant_id, title) values ('{}', 'by a tenant')",
            tenant.id
        ))
    })
    .expect("a tenant's session");
    tenant.set_status("installed");
    receiver.wait_for(sent + 2, SOON);
    execute(
        &mut dba,
        "select plugin_webhooks.settle_pg_net(); select plugin_webhooks.grant_to_roles();",
    );
    let scheduled = dba.batch_execute("select plugin_webhooks.schedule_processor()");
    expect_sqlstate(scheduled, "0A000");
}

fn ingest(
    database: &Database,
    tenant: &Tenant<'_>,
    secret: &str,
) -> Result<u64, plugin_webhooks_kit::postgres::Error> {
    let signature = sign(secret, br#"{"action": "noop"}"#);
    as_user(
        &mut database.authenticator(),
        "anon",
        r#"{"role":"anon"}"#,
        |tx| {
            tx.execute(
            "select rpc_plugin_ingest_webhook($1, $2::text::uuid, '{\"action\": \"noop\"}', $3)",
            &[&tenant.plugin, &tenant.installation, &signature],
        )
        },
    )
}

fn tenant_of<'a>(database: &'a Database, receiver: &Receiver) -> Tenant<'a> {
    let mut dba = database.client();
    create_tracked_table(&mut dba, "items");
    execute(&mut dba, "grant insert on items to authenticated");
    let config = format!(r#"{{"webhook_url": "{}"}}"#, receiver.url("/"));
    let tenant = Tenant::install_with(database, &config, Some("signing"));
    tenant.subscribe("items", &["INSERT"], None, false);
    tenant
}

/// Nothing of mallory's is used, whichever way is gone.
fn assert_ignored(database: &Database, mallory: &str, tenant: &Tenant<'_>, receiver: &Receiver) {
    go_all_ways(database, tenant, receiver);
    expect_sqlstate(ingest(database, tenant, "chosen by mallory"), "28000");
    let mut dba = database.client();
    let create = dba.batch_execute(&format!(
        "select int.plugin_webhook_apply_action('{}', 'work_order.create', '{{\"title\": \"x\"}}')",
        tenant.id
    ));
    expect_sqlstate(create, "0A000");
    execute(
        &mut dba,
        "select plugin_webhooks.attach_host(); select plugin_webhooks.resume()",
    );
    assert_eq!(runs(database), "");
    assert_eq!(
        text(
            &mut dba,
            "select string_agg(coalesce(user_id::text, 'null'), ' ' order by id) from audit.entity_changes
             where table_name = 'items'"
        ),
        format!("null {}", tenant.admin),
        "users are told by the claims"
    );
    for request in receiver.requests() {
        assert_eq!(
            request.header("X-Plugin-Signature"),
            None,
            "no secret of mallory's"
        );
    }
    assert_eq!(
        text(
            &mut dba,
            "select string_agg(distinct concat_ws(' ', owner, status), ', ') from plugin_webhooks.host_objects"
        ),
        format!("{mallory} ignored")
    );
}

#[test]
fn made_before_create_extension_are_ignored_and_named() {
    let mallory = "mallory_before";
    let database = empty(mallory);
    database.expect_log("plugin_webhooks does not use these objects of the host");
    database
        .client_as(mallory)
        .batch_execute(&hostile_host())
        .expect("a hostile host");
    let created = database.psql("create extension plugin_webhooks");
    assert!(created.success, "{}", created.stderr);
    for part in [
        "WARNING:  plugin_webhooks does not use these objects of the host",
        "auth.uid() of mallory_before",
        "vault.decrypted_secrets of mallory_before",
        "cron.job: is no member of a superuser's extension pg_cron",
        "attach_host(ARRAY['owner'])",
    ] {
        assert!(created.stderr.contains(part), "{part}: {}", created.stderr);
    }
    assert_eq!(
        created.stderr.matches("WARNING").count(),
        1,
        "{}",
        created.stderr
    );
    assert_eq!(runs(&database), "");
    let receiver = Receiver::http();
    let tenant = tenant_of(&database, &receiver);
    assert_ignored(&database, mallory, &tenant, &receiver);
}

#[test]
fn made_after_create_extension_are_ignored() {
    let mallory = "mallory_after";
    let database = empty(mallory);
    database.expect_log("plugin_webhooks does not use these objects of the host");
    execute(&mut database.client(), "create extension plugin_webhooks");
    let receiver = Receiver::http();
    let tenant = tenant_of(&database, &receiver);
    database
        .client_as(mallory)
        .batch_execute(&hostile_host())
        .expect("a hostile host");
    assert_ignored(&database, mallory, &tenant, &receiver);
}

#[test]
fn of_an_owner_whom_a_superuser_trusts_run_as_this_owner() {
    let owner = "trusted_host_owner";
    let database = empty(owner);
    database.expect_log("plugin_webhooks does not use these objects of the host");
    execute(&mut database.client(), "create extension plugin_webhooks");
    let receiver = Receiver::http();
    let tenant = tenant_of(&database, &receiver);
    database
        .client_as(owner)
        .batch_execute(&hostile_host())
        .expect("a host");
    let mut dba = database.client();
    execute(
        &mut dba,
        &format!(
            "select plugin_webhooks.attach_host(ARRAY['{owner}']);
             insert into app.tenants values ('{0}');
             update cfg.priority_catalogs set tenant_id = '{0}';
             truncate watch.told;",
            tenant.id
        ),
    );
    assert_eq!(
        text(
            &mut dba,
            "select string_agg(object, ' ' order by object) from plugin_webhooks.host_objects where status <> 'bound'"
        ),
        "cron.job cron.schedule(text,text,text) net._http_response",
        "these count as members of their extensions only"
    );
    go_all_ways(&database, &tenant, &receiver);
    ingest(&database, &tenant, "chosen by mallory").expect("the host's secret");
    execute(
        &mut dba,
        &format!(
            "select int.plugin_webhook_apply_action('{}', 'work_order.create', '{{\"title\": \"x\"}}')",
            tenant.id
        ),
    );
    assert_eq!(
        text(
            &mut dba,
            "select string_agg(distinct concat_ws(' ', who, super), ', ') from watch.told"
        ),
        format!("{owner} f")
    );
    let seen = runs(&database);
    for what in [
        "auth.uid()",
        "authz.get_current_tenant_id()",
        "authz.rpc_setup(uuid, text)",
        "authz.has_permission(uuid, uuid, text)",
        "util.check_rate_limit(text, text, int, int, uuid, uuid)",
        "vault.decrypted_secrets",
        "cfg.get_default_status(uuid, text, jsonb)",
        "default of work_orders",
        "trigger on work_orders",
    ] {
        assert!(seen.contains(what), "{what}: {seen}");
    }
    assert_eq!(
        count(
            &mut dba,
            "select count(*) from watch.told where what = 'trigger on work_orders'"
        ),
        2,
        "the deferred one too, and before the commit"
    );
}

/// A host of a superuser, with a hostile role beside it.
fn host(mallory: &str) -> (Database, String, String) {
    let database = empty(mallory);
    let mut dba = database.client();
    execute(&mut dba, HOST_SCHEMA);
    execute(
        &mut dba,
        "create extension plugin_webhooks; select rpc_register_plugin('desk', 'Desk')",
    );
    let tenant = text(&mut dba, "select app.create_tenant('One')::text");
    let admin = text(
        &mut dba,
        &format!("select app.create_member('{tenant}', 'tenant.admin')::text"),
    );
    (database, tenant, admin)
}

fn install(
    database: &Database,
    tenant: &str,
    admin: &str,
) -> Result<(), plugin_webhooks_kit::postgres::Error> {
    let claims = format!(r#"{{"role":"authenticated","sub":"{admin}","tenant_id":"{tenant}"}}"#);
    as_user(
        &mut database.authenticator(),
        "authenticated",
        &claims,
        |tx| {
            tx.batch_execute(&format!(
            "select rpc_install_plugin('{tenant}', 'desk'); select * from v_plugin_installations"
        ))
        },
    )
}

fn reason(database: &Database, object: &str) -> String {
    text(
        &mut database.client(),
        &format!(
            "select concat_ws(': ', status, reason) from plugin_webhooks.host_objects where object = '{object}'"
        ),
    )
}

/// `set_up` changes an object after it was bound: nothing is decided by what it is then, or without it.
fn assert_closed(mallory: &str, object: &str, set_up: &str, why: &str) {
    let (database, tenant, admin) = host(mallory);
    install(&database, &tenant, &admin).expect("the host lets its admin in");
    execute(&mut database.client(), set_up);
    let error = expect_sqlstate(install(&database, &tenant, &admin), "55000");
    assert!(error.message().contains(object), "{}", error.message());
    assert_eq!(reason(&database, object), why);
    assert_eq!(runs(&database), "");
}

fn hostile_setup(schema: &str) -> String {
    format!(
        "create function {schema}.rpc_setup(p_tenant uuid, p_permission text) returns uuid language plpgsql as $$
         begin perform watch.tell('rpc_setup'); return '{NOBODY}'; end $$;"
    )
}

#[test]
fn that_got_another_owner_are_not_called() {
    let mallory = "mallory_owner";
    assert_closed(
        mallory,
        "authz.rpc_setup(uuid,text)",
        &format!("alter function authz.rpc_setup(uuid, text) owner to {mallory}"),
        "ignored: owner changed after attach_host(), from legacy_owner to mallory_owner",
    );
}

#[test]
fn that_somebody_made_anew_are_not_called() {
    let mallory = "mallory_anew";
    assert_closed(
        mallory,
        "authz.rpc_setup(uuid,text)",
        &format!(
            "drop function authz.rpc_setup(uuid, text); grant create on schema authz to public, {mallory};
             set role {mallory}; {} reset role",
            hostile_setup("authz")
        ),
        "ignored: owner mallory_anew is not trusted",
    );
}

#[test]
fn in_a_schema_that_took_the_place_of_theirs_are_not_called() {
    let mallory = "mallory_schema";
    assert_closed(
        mallory,
        "authz.rpc_setup(uuid,text)",
        &format!(
            "alter schema authz rename to authz_before;
             set role {mallory}; create schema authz; {} reset role",
            hostile_setup("authz")
        ),
        "ignored: owner mallory_schema is not trusted",
    );
}

#[test]
fn are_bound_by_superusers_only() {
    let mallory = "mallory_binder";
    let (database, ..) = host(mallory);
    let mut dba = database.client();
    execute(
        &mut dba,
        &format!(
            "grant usage on schema plugin_webhooks to {mallory};
             grant execute on all functions in schema plugin_webhooks to {mallory};"
        ),
    );
    let mut session = database.client_as(mallory);
    for call in [
        "plugin_webhooks.attach_host(ARRAY['mallory_binder'])",
        "plugin_webhooks.bind_host(ARRAY['mallory_binder'])",
    ] {
        expect_sqlstate(session.batch_execute(&format!("select {call}")), "42501");
    }
    let unknown = dba.batch_execute("select plugin_webhooks.attach_host(ARRAY['no such role'])");
    expect_sqlstate(unknown, "42704");
}
