//! What somebody has put there before CREATE EXTENSION: it becomes the extension's only with nobody else's code on it,
//! else one error names every object and its owner, and nothing is changed or evaluated.

use plugin_webhooks_kit::{assert_same_lines, catalog, expect_sqlstate};

use super::*;

const CREATE: &str = "create extension plugin_webhooks";
const OWNER: &str = "legacy_owner";

/// What `watch.tell` is called by, in a schema of its own.
const CODE: &str = "
    create schema {role}s;
    grant usage on schema {role}s to public;
    create function {role}s.yes(value text) returns boolean language plpgsql immutable as $$
        begin perform watch.tell('function'); return true; end $$;
    create function {role}s.always() returns boolean language plpgsql immutable as $$
        begin perform watch.tell('constant'); return true; end $$;
    create function {role}s.on_row() returns trigger language plpgsql as $$
        begin perform watch.tell('trigger'); return new; end $$;
    create function {role}s.equal(a text, b text) returns boolean language plpgsql immutable as $$
        begin perform watch.tell('operator'); return true; end $$;
    create operator {role}s.=== (leftarg = text, rightarg = text, function = {role}s.equal);
    create domain {role}s.checked as text check ({role}s.yes(value));
    create view {role}s.looked as select {role}s.yes('view') as yes;
    grant all on all tables in schema {role}s to public;";

/// Fails with an error whose detail has every line of `wanted`, and leaves the catalogs alone.
#[track_caller]
fn refused(watched: &mut Watched, wanted: &[&str]) {
    let before = catalog(&mut watched.client);
    let error = expect_sqlstate(watched.client.batch_execute(CREATE), "55000");
    let detail = error.detail().unwrap_or_default().to_owned();
    for line in wanted {
        assert!(
            detail.contains(line),
            "{line}: {} {detail}",
            error.message()
        );
    }
    assert!(error.hint().is_some());
    assert_same_lines(
        ("before", &before),
        ("after", &catalog(&mut watched.client)),
    );
    watched.assert_ran_only_as(&[]);
}

fn former() -> Watched {
    Watched::of(former_system(shared_server(), "http://127.0.0.1:9"))
}

#[test]
fn code_of_others_on_a_former_systems_tables_is_refused() {
    let cases = [
        (
            "create trigger aaa before insert on int.plugins for each row execute function mallorys.on_row()",
            "trigger aaa on table \"int\".plugins uses function mallorys.on_row(), which belongs to mallory",
        ),
        (
            "create rule rrr as on insert to int.plugins do also select 1",
            "\"int\".plugins has the rule rrr",
        ),
        (
            "alter table int.plugins alter column name set default mallorys.yes('x')::text",
            "default value for column name of table \"int\".plugins uses function mallorys.yes(text), which belongs to mallory",
        ),
        (
            "alter table audit.entity_changes add constraint ccc check (mallorys.yes(record_id)) not valid",
            "constraint ccc on table audit.entity_changes uses function mallorys.yes(text), which belongs to mallory",
        ),
        (
            "alter table audit.entity_changes add constraint ooo check (record_id operator(mallorys.===) '') not valid",
            "constraint ooo on table audit.entity_changes uses operator mallorys.===(text,text), which belongs to mallory",
        ),
        (
            "alter table audit.entity_changes add constraint ddd check (record_id::mallorys.checked is not null) not valid",
            "constraint ddd on table audit.entity_changes uses type mallorys.checked, which belongs to mallory",
        ),
        (
            "create index iii on int.plugin_delivery_queue (mallorys.yes(event_type))",
            "index \"int\".iii uses function mallorys.yes(text), which belongs to mallory",
        ),
        (
            "create index iii on int.plugin_delivery_queue (id) where mallorys.always()",
            "index \"int\".iii uses function mallorys.always(), which belongs to mallory",
        ),
        (
            "create statistics int.sss on id, (mallorys.yes(event_type)) from int.plugin_delivery_queue",
            "statistics object \"int\".sss uses function mallorys.yes(text), which belongs to mallory",
        ),
        (
            "do $$ begin execute format('alter database %I owner to postgres', current_database()); end $$;
             grant create on schema public to public",
            "everybody may create objects in schema public",
        ),
        (
            "create schema plugin_webhooks authorization legacy_owner",
            "schema plugin_webhooks belongs to legacy_owner: ALTER SCHEMA plugin_webhooks OWNER TO postgres",
        ),
        (
            "create policy ppp on int.plugins using (mallorys.yes(key))",
            "policy ppp on table \"int\".plugins uses function mallorys.yes(text), which belongs to mallory",
        ),
        (
            "create policy ppp on int.plugins using ((select yes from mallorys.looked))",
            "policy ppp on table \"int\".plugins uses view mallorys.looked, which belongs to mallory",
        ),
        (
            "drop view public.v_plugins, public.v_plugin_installations cascade; alter table int.plugins alter column name type mallorys.checked",
            "column int.plugins.name is mallorys.checked, expected text",
        ),
        (
            "alter table int.plugins drop column description cascade;
          alter table int.plugins add column description text generated always as (key) stored",
            "column int.plugins.description is generated",
        ),
        (
            "create constraint trigger ttt after insert on int.plugins deferrable for each row execute function int.set_updated_at()",
            "trigger ttt on \"int\".plugins is deferrable: DROP TRIGGER ttt ON \"int\".plugins",
        ),
        (
            "alter table int.plugin_installations add constraint fff foreign key (plugin_id) references int.plugins deferrable",
            "constraint fff of \"int\".plugin_installations is deferrable: ALTER TABLE \"int\".plugin_installations \
          ALTER CONSTRAINT fff NOT DEFERRABLE",
        ),
        (
            "create table app.pinned (plugin uuid references int.plugins deferrable initially deferred)",
            "of app.pinned is deferrable",
        ),
        (
            "alter table int.plugins owner to mallory",
            "\"int\".plugins belongs to mallory, and other objects to another role",
        ),
        (
            "alter function public.rpc_install_plugin owner to mallory",
            "public.rpc_install_plugin(uuid,text,text,jsonb) belongs to mallory, and other objects to another role",
        ),
        (
            "alter table int.plugins owner to postgres",
            "\"int\".plugins belongs to postgres, and other objects to another role",
        ),
        (
            "alter schema int owner to mallory",
            "schema \"int\" belongs to mallory: ALTER SCHEMA \"int\" OWNER TO postgres",
        ),
    ];
    for (change, difference) in cases {
        let mut watched = former();
        watched.run_as(MALLORY, &CODE.replace("{role}", MALLORY));
        watched.run(&format!("set row_security = off; {change}; truncate watch.told; select setval('watch.superusers', 1, false)"));
        println!("{change}");
        refused(&mut watched, &[difference]);
    }
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let mut watched = former();
    watched.run_as(MALLORY, &CODE.replace("{role}", MALLORY));
    watched.run(
        "create trigger aaa before insert on int.plugins for each row execute function mallorys.on_row();
         create rule rrr as on insert to int.plugin_installations do also select 1;
         alter table int.plugins add column colour text;
         alter schema audit owner to mallory;",
    );
    refused(
        &mut watched,
        &[
            "trigger aaa",
            "the rule rrr",
            "int.plugins.colour",
            "schema audit belongs to mallory",
        ],
    );
}

/// The former owner's own code stays, and runs as this owner: see `tables`. Nothing of it runs meanwhile as anybody else.
#[test]
fn code_of_the_former_owner_is_taken_over_and_runs_as_the_owner() {
    let mut watched = former();
    watched.run_as(OWNER, &CODE.replace("{role}", OWNER));
    watched.run_as(
        OWNER,
        "create trigger aaa before insert or update on int.plugin_delivery_queue for each row \
             execute function legacy_owners.on_row();
         create index iii on int.plugin_delivery_queue (legacy_owners.yes(event_type)) where legacy_owners.always();
         create index iii on audit.entity_changes (legacy_owners.yes(record_id)) where legacy_owners.always();
         create index jjj on int.plugins (legacy_owners.yes(key)) where legacy_owners.always();
         create index kkk on int.plugin_installations (legacy_owners.yes(status)) where legacy_owners.always();
         alter table audit.entity_changes alter column record_id drop not null;
         alter table audit.entity_changes add constraint ccc check (legacy_owners.always());
         alter table int.plugins drop constraint if exists plugins_key_check;
         create policy ppp on int.plugins using (legacy_owners.yes(key)); alter table int.plugins force row level security;",
    );
    watched.run("truncate watch.told; select setval('watch.superusers', 1, false)");
    watched.run(CREATE);
    watched.assert_ran_only_as(&[OWNER]);
    assert!(
        !watched.tries_as(
            OWNER,
            "create function audit.track(p_table text) returns void language sql as ''"
        ),
        "a function that an operator could take for ours"
    );
    watched.run("select plugin_webhooks.hand_back(); drop extension plugin_webhooks");
    watched.assert_ran_only_as(&[OWNER]);
}

/// A grant on all functions of a schema is quickly made.
#[test]
fn statements_as_an_owner_are_run_for_superusers_only() {
    let mut watched = Watched::of(shared_server().database());
    watched.run(
        "grant usage on schema plugin_webhooks to mallory;
         grant execute on all functions in schema plugin_webhooks to mallory",
    );
    watched.run("set role mallory");
    for call in [
        "select plugin_webhooks.as_owner_of('pg_catalog.pg_class', 'select 1::bigint where watch.tell(''x'')')",
        "select plugin_webhooks.as_role('pg_read_all_data'::regrole, 'select 1::text where watch.tell(''x'')')",
    ] {
        expect_sqlstate(watched.client.batch_execute(call), "42501");
    }
    watched.run("reset role");
    watched.assert_ran_only_as(&[]);
}

/// Foreign keys to the tables of a host are checked, which plans a query over them.
#[test]
fn what_hangs_on_a_trusted_hosts_tables_runs_as_their_owner() {
    let owner = "owner_of_a_host";
    let mut watched = Watched::empty();
    watched.run(&format!(
        "create role {owner};
         do $$ begin execute format('alter database %I owner to {owner}', current_database()); end $$"
    ));
    watched.run_as(
        owner,
        "create schema app;
         create schema auth;
         create function app.always() returns boolean language plpgsql immutable as $$
             begin perform watch.tell('index'); return true; end $$;
         create table app.tenants (id uuid primary key);
         create table auth.users (id uuid primary key);
         create index on app.tenants ((app.always())) where app.always();
         create index on auth.users ((app.always())) where app.always();",
    );
    watched.run("truncate watch.told; select setval('watch.superusers', 1, false)");
    watched.run(CREATE);
    watched.assert_ran_only_as(&[owner]);
    let keys: i64 = value(
        &mut watched.client,
        "select count(*) from pg_constraint
         where contype = 'f' and convalidated and confrelid in ('app.tenants'::regclass, 'auth.users'::regclass)",
    );
    assert_eq!(keys, 3);
}

/// Whoever owns our tables may read the host's: one query over both would run what hangs on the host's as him.
#[test]
fn what_hangs_on_a_hosts_tables_that_everybody_reads_runs_as_their_owner() {
    let mut watched = Watched::of(shared_server().empty_database());
    watched.run(
        "create schema app;
         create table app.tenants (id uuid primary key, name text);
         grant select on app.tenants to public;
         grant usage on schema app to public;
         grant create on schema app to mallory;
         alter table app.tenants owner to mallory;",
    );
    watched.run_as(
        MALLORY,
        "create function app.always() returns boolean language plpgsql immutable as $$
             begin perform watch.tell('index'); return true; end $$;
         create index on app.tenants ((app.always()));
         create index on app.tenants (id) where app.always();",
    );
    watched.run("truncate watch.told");
    watched.run(CREATE);
    watched.assert_ran_only_as(&[MALLORY]);
    let keys = "select count(*) filter (where convalidated) * 10 + count(*) from pg_constraint
                where contype = 'f' and confrelid = 'app.tenants'::regclass";
    assert_eq!(value::<i64>(&mut watched.client, keys), 22);
    let reads = "select has_table_privilege('plugin_webhooks_owner', 'int.plugin_installations', 'SELECT')
                        and has_table_privilege('plugin_webhooks_owner', 'int.plugin_delivery_queue', 'SELECT')";
    assert!(value::<bool>(&mut watched.client, reads));
    // Rows are looked up one by one.
    watched.run_as(
        MALLORY,
        "insert into app.tenants values ('00000000-0000-0000-0000-000000000001', 'One')",
    );
    watched.run(
        "select public.rpc_register_plugin('crm', 'CRM');
         select public.rpc_install_plugin('00000000-0000-0000-0000-000000000001', 'crm');
         select plugin_webhooks.hand_back(); drop extension plugin_webhooks;
         alter table int.plugin_installations drop constraint plugin_installations_tenant_id_fkey;",
    );
    watched.run(CREATE);
    assert_eq!(value::<i64>(&mut watched.client, keys), 22);
    watched.assert_ran_only_as(&[MALLORY]);
}

/// Whoever has CREATE on the database can make schemas, and what is in them, of any name.
#[test]
fn what_a_role_without_rights_has_made_is_no_former_system() {
    const PLUGINS: &str = "create table int.plugins (
        id uuid primary key default gen_random_uuid(), key text not null unique, name text not null, description text,
        is_integration boolean not null default false, is_active boolean not null default true,
        created_at timestamptz not null default now(), updated_at timestamptz not null default now())";
    const ATTEMPTS: &str = "create table int.plugin_delivery_attempts (
        id bigint generated always as identity primary key, delivery_id uuid not null, tenant_id uuid not null,
        plugin_installation_id uuid not null, attempt integer not null, started_at timestamptz not null,
        duration_ms integer not null, status_code integer, error_kind text, response_start text)";
    const SECRETS: &str = "create table plugin_webhooks.secrets (
        id uuid primary key default gen_random_uuid(), name text not null unique, description text not null default '',
        key_id text not null, nonce bytea not null, ciphertext bytea not null,
        created_at timestamptz not null default now(), updated_at timestamptz not null default now())";
    let cases = [
        (
            format!("create schema int; {PLUGINS}"),
            vec!["\"int\".plugins belongs to mallory, and the rest of a former system is not here"],
        ),
        (
            format!("create schema int; {ATTEMPTS}"),
            vec!["\"int\".plugin_delivery_attempts belongs to mallory"],
        ),
        (
            format!("create schema plugin_webhooks; {SECRETS}"),
            vec!["plugin_webhooks.secrets belongs to mallory"],
        ),
        (
            "create schema int".into(),
            vec!["schema \"int\" belongs to mallory"],
        ),
        (
            "create schema audit".into(),
            vec!["schema audit belongs to mallory"],
        ),
        (
            "create schema plugin_webhooks".into(),
            vec!["schema plugin_webhooks belongs to mallory"],
        ),
    ];
    for (made, wanted) in cases {
        let mut watched = Watched::empty();
        watched.run_as(MALLORY, &made);
        refused(&mut watched, &wanted);
    }
    // In a cluster that was upgraded from PostgreSQL 14 or earlier, everybody may write to schema public.
    let mut watched = Watched::empty();
    watched.run("grant create on schema public to public");
    watched.run_as(
        MALLORY,
        "create function public.rpc_install_plugin(p_tenant_id uuid, p_plugin_key text, p_secret_ref text default null,
             p_config jsonb default null) returns uuid language sql as 'select null::uuid';
         create view public.v_plugins as select null::uuid as id, ''::text as key, ''::text as name,
             ''::text as description, true as is_integration, true as is_active, now() as created_at,
             now() as updated_at;",
    );
    refused(
        &mut watched,
        &[
            "public.rpc_install_plugin(uuid,text,text,jsonb) belongs to mallory",
            "public.v_plugins belongs to mallory",
        ],
    );
}

/// PostgreSQL prefers a function of text, and a domain of a function's name, for a call with a literal.
#[test]
fn what_a_call_could_take_for_the_extensions_is_refused() {
    for (made, named) in [
        (
            "create function audit.track(p_table text) returns void language sql as ''",
            "function audit.track(text) belongs to legacy_owner",
        ),
        (
            "create procedure audit.purge() language sql as ''",
            "function audit.purge() belongs to legacy_owner",
        ),
        (
            "create operator audit.= (leftarg = text, rightarg = text, function = texteq)",
            "operator audit.=(text,text) belongs to legacy_owner",
        ),
        (
            "create domain audit.track as text check (watch.tell(value))",
            "type audit.track belongs to legacy_owner",
        ),
        (
            "create function int.resolve_installation_signing_secret(text) returns text language sql as 'select $1'",
            "function \"int\".resolve_installation_signing_secret(text) belongs to legacy_owner",
        ),
    ] {
        let mut watched = former();
        watched.run_as(OWNER, made);
        refused(&mut watched, &[named]);
    }
}

/// Whoever made a schema has been there, also when it belongs to a superuser by now.
#[test]
fn what_was_made_in_a_schema_before_it_became_a_superusers_is_refused() {
    let mut watched = Watched::empty();
    watched.run_as(
        MALLORY,
        "create schema int; create schema audit; create schema plugin_webhooks;
         create function audit.track(text) returns boolean language sql as 'select watch.tell($1)';
         create function plugin_webhooks.lock_for(text, text) returns boolean language sql as 'select watch.tell($1)';
         create domain plugin_webhooks.resume as text check (watch.tell(value));",
    );
    for _ in 0..2 {
        refused(
            &mut watched,
            &[
                "function audit.track(text) belongs to mallory",
                "function plugin_webhooks.lock_for(text,text) belongs to mallory",
                "type plugin_webhooks.resume belongs to mallory",
            ],
        );
        watched.run(
            "alter schema int owner to postgres; alter schema audit owner to postgres;
             alter schema plugin_webhooks owner to postgres",
        );
    }
    watched.run(
        "drop function audit.track(text); drop function plugin_webhooks.lock_for(text, text);
         drop domain plugin_webhooks.resume",
    );
    watched.run(CREATE);
}

/// Who was let into a schema could put another function beside ours.
#[test]
fn nobody_creates_where_operators_call_functions() {
    let mut watched = former();
    watched.run(
        "do $$ begin create role accomplice; exception when duplicate_object or unique_violation then null; end $$",
    );
    watched.run_as(
        OWNER,
        "grant create, usage on schema audit to accomplice with grant option;
         grant create on schema audit to public",
    );
    watched.run_as("accomplice", "grant create on schema audit to mallory");
    watched.run(CREATE);
    let create = "create function audit.track(text, text) returns boolean language sql as 'select watch.tell($1)'";
    for role in ["accomplice", MALLORY, OWNER] {
        assert!(!watched.tries_as(role, create), "{role}");
    }
    watched.run("select plugin_webhooks.hand_back(); drop extension plugin_webhooks");
    assert!(watched.tries_as("accomplice", create), "as it was");
}

/// An object of one of our names that no former system had, in a schema that is somebody's.
#[test]
fn what_is_in_the_way_is_not_replaced() {
    for made in [
        "create function audit.track(p_table regclass, p_exclude text[] default null) returns void language sql as ''",
        "create view audit.hand_back_before_drop_extension as select 1 as x",
        "create function plugin_webhooks.current_user_id() returns uuid language sql as 'select null::uuid'",
        "create table plugin_webhooks.instance (site text)",
        "create view plugin_webhooks.health as select 1 as x",
    ] {
        let mut watched = Watched::empty();
        watched.run("create schema audit; create schema plugin_webhooks; grant all on schema audit, plugin_webhooks to mallory");
        watched.run_as(MALLORY, made);
        let before = catalog(&mut watched.client);
        let created = watched.client.batch_execute(CREATE);
        assert!(created.is_err(), "{made}");
        assert_same_lines(
            ("before", &before),
            ("after", &catalog(&mut watched.client)),
        );
    }
}

/// A superuser's former system becomes the dedicated role's.
#[test]
fn a_superusers_former_system_becomes_the_dedicated_roles() {
    let mut watched = former();
    watched.run("reassign owned by legacy_owner to postgres");
    watched.run(CREATE);
    let owners: String = value(
        &mut watched.client,
        "select string_agg(distinct owner::regrole::text, ' ') from plugin_webhooks.member_owners where reached",
    );
    assert_eq!(owners, "plugin_webhooks_owner");
    watched.run("select plugin_webhooks.hand_back(); drop extension plugin_webhooks");
    let owners: String = value(
        &mut watched.client,
        "select string_agg(distinct c.relowner::regrole::text, ' ') from pg_class c
         where c.oid in ('int.plugins'::regclass, 'audit.entity_changes'::regclass, 'public.v_plugins'::regclass)",
    );
    assert_eq!(owners, "postgres", "and is the superuser's again");
}

/// Nobody renames a schema or changes a table between the look and the end.
#[test]
fn what_was_looked_at_stays_as_it_is_until_the_end() {
    let mut watched = former();
    watched.run("begin");
    watched.run(CREATE);
    for change in [
        "alter schema int rename to hidden",
        "alter schema audit rename to hidden",
        "create trigger late before insert on int.plugins for each row execute function int.set_updated_at()",
        "alter table audit.entity_changes add column late text",
        "create rule late as on insert to int.plugin_delivery_queue do also select 1",
    ] {
        let mut other = watched.database.client();
        execute(
            &mut other,
            "set role legacy_owner; set lock_timeout = '200ms'",
        );
        expect_sqlstate(other.batch_execute(change), "55P03");
    }
    watched.run("rollback");
}
