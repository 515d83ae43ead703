use super::*;

/// Every type that a column can have, arrays, ranges and multiranges included.
const TYPES: &str = "
    select array_agg(t.oid::regtype order by t.oid) from pg_type t
    where t.typnamespace = 'pg_catalog'::regnamespace and t.typisdefined
      and t.typtype in ('b', 'r', 'm') and t.typcategory <> 'P'
      and t.typname !~ '^(_?pg_|_?gtsvector|_?aclitem$|_?cstring$)' \
      and cardinality(model.literals(t.oid::regtype)) > 0";

fn play(settings: &str, rounds: u32) {
    let mut model = Model::new();
    model.run(&format!(
        "{settings}
         select setseed(0.42);
         do $$
         declare types regtype[] := ({TYPES}); size int := 25;
         begin
             assert cardinality(types) > 120, 'only ' || cardinality(types) || ' types';
             for n in 0 .. (cardinality(types) - 1) / size loop
                 perform model.play_with(types[n * size + 1 : (n + 1) * size], 'plays ' || n, {rounds});
             end loop;
         end $$;"
    ));
    model.agrees();
    assert!(count(&mut model.client, "model.recorded") > 200);
}

#[test]
fn of_every_core_type_are_recorded_as_to_jsonb_makes_them() {
    play("", 12);
}

#[test]
fn are_recorded_under_the_sessions_settings() {
    play(
        "set extra_float_digits = 0; set bytea_output = 'escape'; set datestyle = 'German, DMY';
         set intervalstyle = 'sql_standard'; set timezone = 'America/St_Johns'; set xmloption = content;",
        4,
    );
}

#[test]
fn of_types_that_users_make_are_recorded() {
    let mut model = Model::with(
        "create type mood as enum ('sad', 'ok', 'happy');
         create type point3 as (x int, y numeric, \"z z\" text);
         create type nested as (p point3, list point3[], m mood);
         create domain short as text check (length(value) < 50);
         create domain price as numeric(12, 2);
         create domain moods as mood[];
         create domain document as jsonb;
         create domain place as point3;
         create domain shorter as short;
         create type span as range (subtype = numeric);
         create type colour as enum ('red', 'green');
         create function as_json(colour) returns json language sql immutable
             as $$ select json_build_object('colour', $1::text, 'n', 1.50) $$;
         create cast (colour as json) with function as_json(colour);
         create type temperature;
         create function temperature_in(cstring) returns temperature language internal immutable strict as 'float8in';
         create function temperature_out(temperature) returns cstring language internal immutable strict as 'float8out';
         create type temperature (input = temperature_in, output = temperature_out, like = float8);
         create table t (
             id bigint primary key, m mood, p point3, n nested, ps point3[], s short, pr price, ms moods, d document,
             pl place, ss shorter, sp span, c colour, cs colour[], t temperature, whole_row pg_class);
         select model.track('t');
         insert into t (id) values (0);
         insert into t values (1, 'sad', (1, 1.0, 'a'), ((1, 2, 'b'), array[(1, 1.10, null)::point3], 'ok'), \
         array[(1, 2, '3')::point3, null],
             'short', 1.5, '{sad,happy}', '{\"a\": 1.0}', (1, 1.00, 'x'), 'shorter', '[1.0,2)', 'red', '{red,green}', \
             '37.5', null);
         update t set m = 'happy', p.y = 1.00, n.list[1].x = 5, ps[1].\"z z\" = 'q' where id = 1;
         update t set p.y = 1.0, d = '{\"a\": 1.00}', pl.y = 1.0, sp = '[1.00,2)', pr = 1.50, ms = '{sad}' where id = 1;
         update t set c = 'green', cs = '{green}', t = '36.6', ss = null, n = null where id = 1;
         update t set whole_row = (select k from pg_class k where relname = 'pg_class');
         alter type mood add value 'elated';",
    );
    model.run("update t set m = 'elated'; delete from t;");
    model.agrees_on(11);
}

/// Enum columns that lose or gain a cast to json between two statements.
#[test]
fn follow_a_cast_to_json_that_comes_and_goes() {
    let mut model = Model::with(
        "create type colour as enum ('red', 'green');
         create function as_json(colour) returns json language sql immutable as $$ select '[1]'::json $$;
         create table t (id int, c colour);
         select model.track('t');
         insert into t values (1, 'red');
         create cast (colour as json) with function as_json(colour);
         insert into t values (2, 'red');
         drop cast (colour as json);
         insert into t values (3, 'red');",
    );
    model.agrees_on(3);
    let seen: String = value(
        &mut model.client,
        "select string_agg(new_data ->> 'c', ' ' order by id) from audit.entity_changes",
    );
    assert_eq!(seen, "red [1] red");
}

#[test]
fn that_are_large_are_recorded_whole_stored_apart_or_compressed() {
    let mut model = Model::with(
        "create table t (id int primary key, a text, b bytea, c jsonb, d text[], e xml);
         alter table t alter a set storage external;
         select model.track('t');
         insert into t select n, repeat(md5(n::text), 5000), decode(repeat(md5(n::text), 3000), 'hex'),
             (select jsonb_agg(md5(i::text)) from generate_series(1, 3000) i), array_fill(repeat('x', 50), array[2000]),
             xmlelement(name x, repeat('y', 100000)) from generate_series(1, 3) n;
         update t set id = id + 10;
         update t set a = a || '!' where id = 11;
         update t set a = left(a, -1) || '?', c = c || '1', d = d || array['z'] where id = 11;
         update t set b = b, c = c || '{}', e = null;
         update t set a = 'small';
         delete from t;",
    );
    model.agrees_on(17);
}

#[test]
fn that_print_the_same_are_no_change() {
    let mut model = Model::with(
        "create table t (id int, n numeric, f float8, j jsonb, js json, a numeric[], r numrange);
         select model.track('t');
         insert into t values (1, 1.0, 0, '{\"a\": 1.0}', '{\"a\":1}', '{1.0}', '[1.0,2]');
         update t set n = 1.00, f = '-0', j = '{\"a\": 1.00}', js = '{ \"a\" : 1 }', a = '{1.00}', r = '[1.00,2]';",
    );
    model.agrees_on(2);
    let changed: Vec<String> = value(
        &mut model.client,
        "select changed_fields from audit.entity_changes where operation = 'UPDATE'",
    );
    assert_eq!(changed, ["r"], "a range is text, the others are numbers");
}
