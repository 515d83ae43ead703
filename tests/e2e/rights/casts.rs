//! Turning a row into jsonb calls the cast to json of a column's type, at any depth: it runs as the owner of its
//! function, whoever writes to the table.

use plugin_webhooks_kit::expect_sqlstate;

use super::*;

/// Types of mallory's. Her functions try what would outlive them.
const TYPES: &str = "
    create schema hostile;
    grant usage on schema hostile to public;
    create type hostile.colour as enum ('red');
    create type hostile.pair as (a int, c hostile.colour);
    create domain hostile.checked as hostile.pair;
    create type hostile.bare as enum ('x');
    create function hostile.yes() returns boolean language plpgsql as $$
        begin return watch.tell('cursor with hold'); end $$;
    create function hostile.to_json(value hostile.colour) returns json language plpgsql as $$
        begin
            perform watch.tell('cast');
            begin
                execute 'declare held cursor with hold for select hostile.yes()';
            exception when others then null; end;
            perform pg_catalog.set_config('search_path', 'hostile', false);
            return '\"cast\"';
        end $$;";
const CAST: &str =
    "create cast (hostile.colour as json) with function hostile.to_json(hostile.colour)";

const TABLE: &str = "
    create table public.painted (id int, tenant_id uuid, c hostile.colour, p hostile.pair, l hostile.colour[],
                                 d hostile.checked, ps hostile.pair[]);
    select audit.track('public.painted');";
const WRITE: &str = "
    insert into public.painted
        select n, null, 'red', '(1,red)', '{red}', '(2,red)', array['(3,red)'::hostile.pair] from generate_series(1, 2) n;
    update public.painted set id = 3, c = null where id = 1;
    delete from public.painted;";

fn watched() -> Watched {
    let mut watched = Watched::of(shared_server().database());
    watched.run_as(MALLORY, TYPES);
    watched
}

/// What the log holds of the first row that was written.
fn first(watched: &mut Watched) -> String {
    value(
        &mut watched.client,
        "select new_data::text from audit.entity_changes where table_name = 'painted' and new_data ->> 'id' = '1'
         order by id desc limit 1",
    )
}

#[test]
fn of_a_type_run_as_their_owner_when_a_superuser_writes() {
    let mut watched = watched();
    watched.run_as(MALLORY, CAST);
    watched.run(TABLE);
    watched.run(WRITE);
    assert_eq!(
        first(&mut watched),
        r#"{"c": "cast", "d": {"a": 2, "c": "cast"}, "l": ["cast"], "p": {"a": 1, "c": "cast"}, "id": 1, "ps": [{"a": 3, "c": "cast"}], "tenant_id": null}"#
    );
    let path: String = value(&mut watched.client, "show search_path");
    assert_eq!(path, "\"$user\", public");
    assert_eq!(watched.told(), BTreeSet::from([format!("cast: {MALLORY}")]));
    watched.assert_ran_only_as(&[MALLORY]);
}

#[test]
fn that_appear_or_change_hands_later_run_as_their_owner_too() {
    let mut watched = watched();
    watched.run(TABLE);
    watched.run(WRITE);
    assert!(watched.told().is_empty());
    let mut mallory = watched.database.client();
    execute(&mut mallory, &format!("set role {MALLORY}; {CAST}"));
    watched.run(WRITE);
    assert!(first(&mut watched).contains(r#""c": "cast""#));
    // One of a superuser's may run as the writer, until it is his no more.
    execute(
        &mut mallory,
        "reset role; drop cast (hostile.colour as json);
         create function public.harmless(value hostile.colour) returns json language sql as 'select ''\"mine\"''::json';
         create cast (hostile.colour as json) with function public.harmless(hostile.colour)",
    );
    watched.run(WRITE);
    assert!(first(&mut watched).contains(r#""c": "mine""#));
    execute(
        &mut mallory,
        "drop cast (hostile.colour as json);
         alter type hostile.pair add attribute b hostile.bare;
         set role mallory;
         create function hostile.bare_to_json(value hostile.bare) returns json language plpgsql as $$
             begin perform watch.tell('bare'); return '1'; end $$;
         create cast (hostile.bare as json) with function hostile.bare_to_json(hostile.bare)",
    );
    watched.run("insert into public.painted (id, p) values (1, row(1, 'red', 'x')::hostile.pair)");
    assert!(watched.told().contains(&format!("bare: {MALLORY}")));
    watched.assert_ran_only_as(&[MALLORY]);
}

#[test]
fn of_several_owners_in_one_column_are_refused_by_name() {
    let mut watched = watched();
    watched.run_as(MALLORY, CAST);
    watched.run(
        "do $$ begin create role trudy; exception when duplicate_object or unique_violation then null; end $$",
    );
    watched.run(
        "create type public.other as enum ('x');
         create function public.other_to_json(value public.other) returns json language sql as 'select ''1''::json';
         alter function public.other_to_json(public.other) owner to trudy;
         create cast (public.other as json) with function public.other_to_json(public.other);
         create type public.mixed as (c hostile.colour, o public.other);
         create table public.mixtures (id int, m public.mixed);
         select audit.track('public.mixtures')",
    );
    let error = expect_sqlstate(
        watched
            .client
            .batch_execute("insert into public.mixtures values (1, null)"),
        "0A000",
    );
    assert_eq!(
        error.message(),
        "column public.mixtures.m cannot be recorded: several roles own its types, or their casts to json: hostile.colour, other"
    );
    watched.run(
        "select audit.untrack('public.mixtures'), audit.track('public.mixtures', array['m']);
         insert into public.mixtures values (1, row('red', 'x'))",
    );
    watched.assert_ran_only_as(&[]);
}

/// Whoever owns a type may make a cast of it while a statement runs.
#[test]
fn that_one_owner_makes_in_mid_statement_never_run_as_the_owner_of_another_type() {
    let mut watched = watched();
    watched.run(
        "do $$ begin create role trudy; exception when duplicate_object or unique_violation then null; end $$;
         create type public.victims as enum ('x');
         alter type public.victims owner to trudy;
         create type public.pair as (v public.victims, b hostile.bare);
         create table public.pairs (id int, p public.pair);
         select audit.track('public.pairs');
         grant usage, create on schema audit to mallory;
         alter table audit.entity_changes owner to mallory",
    );
    watched.run_as(
        MALLORY,
        "create function hostile.bare_to_json(value hostile.bare) returns json language plpgsql as $$
             begin perform watch.tell('bare'); return '1'; end $$;
         create function hostile.make_cast() returns trigger language plpgsql as $$
         begin
             if not exists (select from pg_catalog.pg_cast c where c.castsource = 'hostile.bare'::regtype) then
                 create cast (hostile.bare as json) with function hostile.bare_to_json(hostile.bare);
             end if;
             return new;
         end $$;
         create trigger aaa before insert on audit.entity_changes for each row execute function hostile.make_cast()",
    );
    let written = watched
        .client
        .batch_execute("insert into public.pairs select n, row('x', 'x')::public.pair from generate_series(1, 3) n");
    let error = expect_sqlstate(written, "0A000");
    assert!(error.message().contains("victims, hostile.bare"), "{error}");
    // Of one owner they do: the cast appears with the first row.
    watched.run(
        "alter type public.victims owner to mallory;
         insert into public.pairs select n, row('x', 'x')::public.pair from generate_series(1, 3) n",
    );
    assert!(watched.told().contains(&format!("bare: {MALLORY}")));
    watched.assert_ran_only_as(&[MALLORY]);
}

#[test]
fn are_no_operators_while_a_superuser_writes() {
    let mut watched = watched();
    watched.run(
        "select public.rpc_register_plugin('crm', 'CRM');
         grant execute on function public.rpc_install_plugin(uuid, text, text, jsonb) to mallory",
    );
    watched.run_as(
        MALLORY,
        "create or replace function hostile.to_json(value hostile.colour) returns json language plpgsql as $$
         begin
             perform public.rpc_install_plugin('00000000-0000-0000-0000-000000000002', 'crm', null,
                 '{\"webhook_url\": \"https://evil.invalid/\"}');
             return '\"installed\"';
         exception when others then
             perform watch.tell(sqlstate);
             return '\"refused\"';
         end $$",
    );
    watched.run_as(MALLORY, CAST);
    watched.run(TABLE);
    watched.run(WRITE);
    assert!(first(&mut watched).contains(r#""c": "refused""#));
    assert_eq!(
        watched.told(),
        BTreeSet::from([format!("28000: {MALLORY}")])
    );
    watched.assert_ran_only_as(&[MALLORY]);
}

#[test]
fn fire_no_trigger_that_a_superuser_has_deferred() {
    let mut watched = watched();
    watched.run(
        "grant usage on schema int to mallory;
         grant execute on function int.plugin_webhook_apply_action(uuid, text, jsonb) to mallory;
         create sequence public.fired;
         create table public.later (id int);
         create function public.fire() returns trigger language plpgsql as $$
             begin perform pg_catalog.nextval('public.fired'); return null; end $$;
         create constraint trigger later after insert on public.later deferrable initially deferred
             for each row execute function public.fire()",
    );
    watched.run_as(
        MALLORY,
        "create or replace function hostile.to_json(value hostile.colour) returns json language plpgsql as $$
         begin
             perform watch.tell('cast');
             perform int.plugin_webhook_apply_action(null, 'work_order.create', '{}');
             return '1';
         exception when others then
             return '2';
         end $$",
    );
    watched.run_as(MALLORY, CAST);
    watched.run(TABLE);
    let fired = "select case when is_called then last_value else 0 end from public.fired";
    watched.run("begin; insert into public.later values (1)");
    watched.run(WRITE);
    assert_eq!(value::<i64>(&mut watched.client, fired), 0);
    watched.run("commit");
    assert_eq!(value::<i64>(&mut watched.client, fired), 1);
    watched.assert_ran_only_as(&[MALLORY]);
}
