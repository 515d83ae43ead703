//! Change capture: what the audit log records is what a small model in PL/pgSQL records, whatever the
//! rows, the statements and the shape of the log; what it enqueues; what it costs in memory.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, Tenant, create_tracked_table, describe, execute, expect_sqlstate, project,
    shared_server, value, wait_until,
};

const MODEL: &str = include_str!("../fixtures/audit_model.sql");
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const SOON: Duration = Duration::from_secs(30);

/// A database whose tables are tracked twice: by the extension and by the model.
struct Model {
    client: Client,
    _database: Database,
}

impl Model {
    fn new() -> Model {
        let database = project(shared_server());
        let mut client = database.client();
        execute(&mut client, MODEL);
        Model {
            client,
            _database: database,
        }
    }

    #[track_caller]
    fn with(sql: &str) -> Model {
        let mut model = Model::new();
        model.run(sql);
        model
    }

    /// With a tracked table t (id bigint, tenant_id uuid, title text, n int) of three rows.
    #[track_caller]
    fn with_rows() -> Model {
        Model::with(&format!(
            "create table t (id bigint primary key, tenant_id uuid default '{TENANT}', title text, n int);
             select model.track('t');
             insert into t (id, title, n) values (1, 'one', 1), (2, 'two', 2), (3, 'three', 3);"
        ))
    }

    #[track_caller]
    fn run(&mut self, sql: &str) {
        execute(&mut self.client, sql);
    }

    /// Exactly this many changes were recorded, each as the model says.
    #[track_caller]
    fn agrees_on(&mut self, changes: i64) {
        self.agrees();
        let recorded: i64 = value(&mut self.client, "select count(*) from model.recorded");
        assert_eq!(recorded, changes);
    }

    #[track_caller]
    fn agrees(&mut self) {
        let differences: Option<String> = value(
            &mut self.client,
            "select string_agg(left(concat_ws(E'\n', d.side, d.table_name, d.record_id, d.operation, d.changed_fields, d.old_data, d.new_data), 3000), E'\\n' order by d::text)
             from (select * from model.differences limit 10) d",
        );
        assert_eq!(differences, None);
    }

    /// The changes of a table in the order of their ids.
    #[track_caller]
    fn log_of(&mut self, table: &str) -> String {
        value(
            &mut self.client,
            &format!(
                "select coalesce(string_agg(operation || ' ' || record_id, ', ' order by id), '')
                 from audit.entity_changes where table_name = '{table}'"
            ),
        )
    }
}

#[track_caller]
fn count(client: &mut Client, from: &str) -> i64 {
    value(client, &format!("select count(*) from {from}"))
}

mod values {
    use super::*;

    /// Every type that a column can have, arrays, ranges and multiranges included.
    const TYPES: &str = "
        select array_agg(t.oid::regtype order by t.oid) from pg_type t
        where t.typnamespace = 'pg_catalog'::regnamespace and t.typisdefined
          and t.typtype in ('b', 'r', 'm') and t.typcategory <> 'P'
          and t.typname !~ '^(_?pg_|_?gtsvector|_?aclitem$|_?cstring$)' and cardinality(model.literals(t.oid::regtype)) > 0";

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
             insert into t values (1, 'sad', (1, 1.0, 'a'), ((1, 2, 'b'), array[(1, 1.10, null)::point3], 'ok'), array[(1, 2, '3')::point3, null],
                 'short', 1.5, '{sad,happy}', '{\"a\": 1.0}', (1, 1.00, 'x'), 'shorter', '[1.0,2)', 'red', '{red,green}', '37.5', null);
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
}

mod tables {
    use super::*;

    #[test]
    fn change_their_columns_between_statements() {
        let mut model = Model::with_rows();
        model.run(
            "alter table t drop column n;
             update t set title = title || '!';
             alter table t add column added int not null default 7, add column late text;
             update t set title = 'x' where id = 1;
             insert into t (id, late) values (4, 'late');
             alter table t rename column title to \"Title \"\"x\"\"\";
             update t set \"Title \"\"x\"\"\" = 'renamed', added = added + 1;
             alter table t alter column added type text using added || ' (was int)';
             update t set late = added;
             alter table t add column twice numeric generated always as (id * 2.0) stored;
             update t set id = id + 100;
             alter table t rename to \"Tä ble\";
             update \"Tä ble\" set late = 'again';
             create schema \"other Schema\";
             alter table \"Tä ble\" set schema \"other Schema\";
             delete from \"other Schema\".\"Tä ble\" where id = 101;
             alter schema \"other Schema\" rename to yet_another;
             delete from yet_another.\"Tä ble\";",
        );
        model.agrees_on(3 + 3 + 1 + 1 + 4 + 4 + 4 + 4 + 4);
    }

    #[test]
    fn have_an_id_and_a_tenant_of_any_type_or_no_tenant() {
        let mut model = Model::new();
        let mut expected = 0;
        for (n, (id, ids)) in [
            ("bigint", ["1", "2"]),
            ("uuid", [TENANT, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
            ("text", ["a", ""]),
            ("varchar(10)", ["b", "ü"]),
            ("smallint", ["1", "-2"]),
            ("numeric", ["1.50", "NaN"]),
        ]
        .into_iter()
        .enumerate()
        {
            for (m, (tenant, tenants)) in [
                (
                    "tenant_id uuid,",
                    [TENANT, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
                ),
                ("tenant_id text,", [TENANT, "no uuid"]),
                (
                    "tenant_id varchar,",
                    ["{11111111111111111111111111111111}", ""],
                ),
                ("tenant_id bigint,", ["1", "2"]),
                ("", ["", ""]),
            ]
            .into_iter()
            .enumerate()
            {
                let table = format!("t_{n}_{m}");
                model.run(&format!(
                    "create table {table} ({tenant} id {id}, x int); select model.track('{table}');"
                ));
                for (id, tenant_value) in ids.iter().zip(tenants) {
                    let (column, literal) = if tenant.is_empty() {
                        ("", String::new())
                    } else {
                        ("tenant_id, ", format!("'{tenant_value}', "))
                    };
                    model.run(&format!(
                        "insert into {table} ({column}id) values ({literal}'{id}')"
                    ));
                }
                model.run(&format!("update {table} set x = 1; delete from {table};"));
                expected += 6;
            }
        }
        model.run(
            "create table nulls (id int, tenant_id uuid); select model.track('nulls');
             insert into nulls values (null, null); update nulls set id = 1; update nulls set id = null;
             create schema app; create table app.tenants (id uuid, tenant_id text); select model.track('app.tenants');
             insert into app.tenants values (gen_random_uuid(), 'x'), (null, null); update app.tenants set id = gen_random_uuid();",
        );
        model.agrees_on(expected + 3 + 4);
        let tenants: i64 = count(
            &mut model.client,
            "audit.entity_changes where table_schema = 'app' and tenant_id::text = record_id",
        );
        assert_eq!(tenants, 3);
    }

    #[test]
    fn that_are_dropped_and_created_again_are_recorded_as_what_they_are_now() {
        let mut model = Model::with_rows();
        model.run(
            "drop table t;
             create table t (note text, tenant_id text, id uuid default gen_random_uuid());
             select model.track('t');
             insert into t (note) values ('new');",
        );
        model.run(
            "begin; drop table t; create table t (id text); select model.track('t'); insert into t values ('x'); rollback;",
        );
        model.run("update t set note = 'still here';");
        model.agrees_on(5);
    }

    #[test]
    fn with_partitions_are_recorded_under_the_partitions_name_whichever_way_they_are_written() {
        let mut model = Model::with(&format!(
            "create table p (id int, tenant_id uuid default '{TENANT}', region text, v int) partition by list (region);
             create table p_north partition of p for values in ('north');
             create table p_south (v int, dropped int, region text, tenant_id uuid, id int);
             alter table p_south drop column dropped;
             alter table p attach partition p_south for values in ('south');
             create table p_rest partition of p default partition by range (v);
             create table p_low partition of p_rest for values from (minvalue) to (100);
             select model.track('p');
             insert into p (id, region, v) values (1, 'north', 1), (2, 'south', 2), (3, 'east', 3);
             update p set v = v + 1;
             update p set region = 'south' where id = 1;
             update p set region = 'west', id = 20 where id = 2;
             insert into p_south (id, region) values (4, 'south');
             update p_south set v = 9;
             delete from p_low;
             create table p_high partition of p_rest for values from (100) to (maxvalue);
             insert into p (id, region, v) values (5, 'east', 200);
             delete from p;"
        ));
        model.agrees();
        assert_eq!(
            count(
                &mut model.client,
                "audit.entity_changes where table_name = 'p'"
            ),
            0
        );
        let north = model.log_of("p_north");
        assert_eq!(
            north, "INSERT 1, UPDATE 1, DELETE 1",
            "a move is a delete here and an insert there"
        );
        // A partition is not tracked twice.
        model.run("select audit.track('p_south'); insert into p (id, region) values (6, 'south');");
        assert!(model.log_of("p_south").ends_with("INSERT 6"));
        model.agrees();
    }

    #[test]
    fn that_inherit_are_recorded_where_the_row_is() {
        let mut model = Model::with(
            "create table base (id int, v text);
             create table derived (extra int) inherits (base);
             create table untracked () inherits (base);
             select model.track('base'), model.track('derived');
             insert into base values (1, 'a');
             insert into derived values (2, 'b', 5);
             insert into untracked values (3, 'c');
             update base set v = v || '!';
             delete from only base;
             delete from base;",
        );
        model.agrees_on(2 + 2 + 1 + 1);
    }

    #[test]
    fn keep_a_statement_trigger_from_being_used_where_rows_lose_their_table() {
        let mut model = Model::with(
            "create table p (id int) partition by list (id);
             create table p1 partition of p default;
             create trigger by_hand after insert on p referencing new table as n
                 for each statement execute function audit.log_entity_change();",
        );
        expect_sqlstate(
            model.client.batch_execute("insert into p values (1)"),
            "39P01",
        );
    }

    #[test]
    fn that_row_triggers_record_are_not_recorded_twice() {
        let mut model = Model::with_rows();
        model.run(
            "create trigger by_hand after update on t for each row execute function audit.log_entity_change();
             update t set n = 0;
             alter table t disable trigger by_hand;
             update t set n = 1;",
        );
        model.agrees_on(9);
    }
}

mod statements {
    use super::*;

    #[test]
    fn of_every_kind_are_recorded() {
        let mut model = Model::with_rows();
        model.run(
            "update t set n = n;
             update t set n = 5 where false;
             delete from t where false;
             insert into t select id + 10, tenant_id, title, n from t;
             update t set id = id + 100 where id > 10;
             update t set id = 1000 - id;
             insert into t (id, title) values (999, 'again'), (5000, 'new')
                 on conflict (id) do update set title = excluded.title || ' ' || t.title;
             insert into t (id) values (999) on conflict do nothing;
             merge into t using (values (999, 1), (998, 2), (7000, 3)) as s (id, action) on t.id = s.id
                 when matched and s.action = 1 then update set title = 'merged'
                 when matched then delete
                 when not matched then insert (id, title) values (s.id, 'merged in');
             with gone as (delete from t where id = 997 returning *),
                  changed as (update t set title = 'cte' where id = 999 returning *)
                 insert into t (id, title) select id + 20000, title from gone union all select id + 20000, title from changed;
             with a as (insert into t (id) values (1) returning id), b as (insert into t (id) values (2) returning id)
                 update t set n = 77 from a, b where t.id = 999;
             update t set n = s.n from generate_series(1, 3) as s (n) where t.id = 999;
             delete from t using t as u where t.id = u.id and t.n is null returning t.*;
             truncate t;
             insert into t (id) values (1);",
        );
        model.agrees();
        let mut copy = model
            .client
            .copy_in("copy t (id, title, n) from stdin")
            .expect("start copy");
        std::io::Write::write_all(&mut copy, b"100\tcopied\t1\n101\t\\N\t\\N\n").expect("copy");
        copy.finish().expect("end copy");
        model.agrees();
        assert!(
            model
                .log_of("t")
                .ends_with("INSERT 1, INSERT 100, INSERT 101")
        );
    }

    #[test]
    fn keep_the_order_of_their_rows() {
        let mut model = Model::with_rows();
        model.run(
            "insert into t (id) select 100 + n from generate_series(1, 1500) as n;
             update t set id = id + 10000 where id > 100;",
        );
        model.agrees_on(3 + 1500 + 1500);
        let in_order: bool = value(
            &mut model.client,
            "select bool_and(record_id::bigint > coalesce(before, 0)) from
                 (select record_id, lag(record_id::bigint) over (partition by operation order by id) as before
                  from audit.entity_changes) as l",
        );
        assert!(in_order);
    }

    #[test]
    fn that_are_rolled_back_leave_nothing() {
        let mut model = Model::with_rows();
        model.run(
            "begin; update t set n = 10; savepoint a; update t set n = 11; delete from t where id = 1; rollback to a;
             update t set title = 'kept' where id = 2; savepoint b; insert into t (id) values (50); release b; commit;
             begin; delete from t; rollback;
             do $$ begin
                 begin
                     update t set n = 99; raise exception 'no';
                 exception when raise_exception then null;
                 end;
                 update t set n = 12;
             end $$;",
        );
        model.agrees_on(3 + 3 + 1 + 1 + 4);
    }

    #[test]
    fn that_cascade_are_recorded_in_every_table() {
        let mut model = Model::with(
            "create table parent (id int primary key, v int);
             create table child (id int primary key, parent_id int references parent on delete cascade on update cascade);
             create table lone (id int primary key, parent_id int references parent on delete set null on update set default);
             create table node (id int primary key, up int references node on delete cascade);
             select model.track('parent'), model.track('child'), model.track('lone'), model.track('node');
             insert into parent select n, n from generate_series(1, 5) n;
             insert into child select n, 1 + n % 5 from generate_series(1, 20) n;
             insert into lone select n, 1 + n % 5 from generate_series(1, 10) n;
             insert into node values (1, null), (2, 1), (3, 2), (4, 3), (5, 1);
             update parent set id = id + 100 where id in (1, 2);
             delete from parent where id in (101, 3, 4);
             delete from node where id = 1;
             begin; set constraints all deferred; delete from parent; commit;",
        );
        model.agrees_on(5 + 20 + 10 + 5 + (2 + 8 + 4) + (3 + 12 + 4) + 5 + (2 + 8 + 2));
    }

    #[test]
    fn with_deferred_constraints_are_recorded_or_fail_as_a_whole() {
        let mut model = Model::with(
            "create table parent (id int primary key);
             create table child (id int primary key, parent_id int references parent deferrable initially deferred);
             select model.track('parent'), model.track('child');
             begin; insert into child values (1, 1), (2, 2); insert into parent values (1), (2); commit;
             begin; update child set parent_id = parent_id + 10; update parent set id = id + 10; commit;",
        );
        model.agrees_on(8);
        let failed = model
            .client
            .batch_execute("insert into child values (3, 3)");
        expect_sqlstate(failed, "23503");
        model.agrees_on(8);
    }

    #[test]
    fn share_their_table_with_other_triggers() {
        let mut model = Model::with_rows();
        model.run(
            "create function touch() returns trigger language plpgsql as $$
                 begin
                     if new.id = 13 then return null; end if;
                     new.title := upper(new.title);
                     return new;
                 end $$;
             create trigger aa_touch before insert or update on t for each row execute function touch();
             create function follow() returns trigger language plpgsql as $$
                 begin
                     if new.n < 3 then update t set n = new.n + 1 where id = new.id; end if;
                     return null;
                 end $$;
             create trigger aa_follow after insert or update on t for each row execute function follow();
             insert into t (id, title, n) values (10, 'ten', 1), (13, 'unlucky', 1), (14, 'more', 5);
             update t set title = 'lower';
             update t set n = 0 where id = 1;",
        );
        model.agrees();
        assert!(!model.log_of("t").contains(" 13"));
    }

    #[test]
    fn do_not_depend_on_the_search_path() {
        let mut model = Model::with_rows();
        model.run(
            "create schema trap;
             create function trap.to_jsonb(anyelement) returns jsonb language sql as $$ select '\"trapped\"'::jsonb $$;
             create function trap.lower(text) returns text language sql as $$ select 'trapped' $$;
             create function trap.now() returns timestamptz language sql as $$ select '2000-01-01'::timestamptz $$;
             create domain trap.uuid as text;
             create table trap.entity_changes (id int);
             set search_path = trap, pg_catalog;
             update public.t set n = 5;
             set search_path = '';
             update public.t set n = 6;
             reset search_path;",
        );
        model.agrees_on(9);
        assert_eq!(
            count(
                &mut model.client,
                "audit.entity_changes where created_at < '2020-01-01'"
            ),
            0
        );
    }

    #[test]
    fn of_a_replication_role_are_not_recorded() {
        let mut model = Model::with_rows();
        model.run("set session_replication_role = replica; update t set n = 9; reset session_replication_role;");
        model.agrees_on(3);
    }

    /// Random statements over a random table, many at once and one by one.
    #[test]
    fn at_random_are_recorded() {
        let mut model = Model::with_rows();
        model.run(
            "select setseed(0.7);
             do $$
             declare some_id text := 'id = any (array(select id from t order by random() limit floor(random() * 20)))';
             begin
                 for round in 1 .. 300 loop
                     begin
                         case floor(random() * 8)
                             when 0 then insert into t (id, title) select floor(random() * 1000), md5(random()::text)
                                         from generate_series(1, 1 + floor(random() * 30)::int) on conflict do nothing;
                             when 1 then execute 'update t set title = title || ''x'' where ' || some_id;
                             when 2 then execute 'update t set id = -id, title = null where ' || some_id;
                             when 3 then execute 'delete from t where ' || some_id;
                             when 4 then insert into t (id, title) select floor(random() * 100) + n * 1000, 'u' from generate_series(1, 5) n
                                         on conflict (id) do update set title = coalesce(t.title, '') || 'u', tenant_id = gen_random_uuid();
                             when 5 then execute 'update t set n = null, tenant_id = null where ' || some_id;
                             when 6 then update t set title = title;
                             else insert into t (id, title, n) values (floor(random() * 500), 'single', round)
                                  on conflict (id) do update set n = excluded.n;
                         end case;
                         if random() < 0.1 then raise exception 'roll back'; end if;
                     exception when raise_exception or unique_violation then null;
                     end;
                 end loop;
             end $$;",
        );
        model.agrees();
        assert!(count(&mut model.client, "model.recorded") > 2000);
    }
}

mod exclusion {
    use super::*;

    #[test]
    fn keeps_columns_out_of_the_log_for_good() {
        let mut model = Model::with(&format!(
            "create table t (id int, tenant_id uuid default '{TENANT}', title text, secret text, \"Big One\" bytea);
             select model.track('t', '{{secret,Big One}}');
             insert into t (id, title, secret, \"Big One\") values (1, 'a', 's3cret', 'abc'), (2, 'b', 's3cret', 'abc');
             update t set title = 'c', secret = 's3cret!';
             update t set secret = 's3cret again';
             delete from t where id = 1;
             select audit.track('t');
             delete from t;"
        ));
        model.agrees_on(8);
        let (leaks, empty) = (
            count(
                &mut model.client,
                "audit.entity_changes c where c::text ~ 's3cret|Big One|secret'",
            ),
            count(
                &mut model.client,
                "audit.entity_changes where changed_fields = '{}'",
            ),
        );
        assert_eq!(
            (leaks, empty),
            (0, 2),
            "an update of excluded columns only changes nothing"
        );
    }

    #[test]
    fn works_row_by_row_and_in_partitions() {
        let mut model = Model::with(
            "create table p (id int, secret text, v int) partition by list (v);
             create table p1 partition of p default;
             select model.track('p', '{secret}');
             insert into p values (1, 's', 1);
             update p1 set secret = 't', v = 2;",
        );
        model.agrees_on(2);
        assert_eq!(
            count(
                &mut model.client,
                "audit.entity_changes c where c::text like '%secret%'"
            ),
            0
        );
    }

    #[test]
    fn stops_writes_rather_than_record_a_column_that_was_renamed() {
        let mut model = Model::with(
            "create table t (id int, secret text);
             select audit.track('t', '{secret}');
             alter table t rename secret to confidential;",
        );
        let failed = model.client.batch_execute("insert into t values (1, 's')");
        let error = expect_sqlstate(failed, "42703");
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("audit.track")),
            "{error:?}"
        );
        model.run("select audit.track('t', '{confidential}'); insert into t values (1, 's');");
        assert_eq!(
            count(
                &mut model.client,
                "audit.entity_changes c where c::text like '%confidential%'"
            ),
            0
        );
        model.run("select audit.track('t', '{}'); insert into t values (2, 's');");
        assert_eq!(
            count(
                &mut model.client,
                "audit.entity_changes c where c::text like '%confidential%'"
            ),
            1
        );
    }

    #[test]
    fn is_refused_for_columns_that_are_needed_or_not_there() {
        let mut model = Model::with("create table t (id int, tenant_id uuid, v int);");
        for list in ["{id}", "{tenant_id}", "{nothing}", "{V}", "{v,NULL}"] {
            let failed = model
                .client
                .batch_execute(&format!("select audit.track('t', '{list}')"));
            expect_sqlstate(failed, "23514");
        }
        assert_eq!(
            count(
                &mut model.client,
                "pg_trigger where tgrelid = 't'::regclass"
            ),
            0
        );
    }
}

mod tracking {
    use super::*;

    fn triggers(model: &mut Model, table: &str) -> String {
        value(
            &mut model.client,
            &format!(
                "select coalesce(string_agg(tgname, ' ' order by tgname), '') from pg_trigger
                 where tgrelid = '{table}'::regclass and tgfoid = 'audit.log_entity_change'::regproc"
            ),
        )
    }

    const BY_STATEMENT: &str =
        "plugin_webhooks_audit_delete plugin_webhooks_audit_insert plugin_webhooks_audit_update";

    #[test]
    fn attaches_statement_triggers_once_and_detaches_them() {
        let mut model = Model::with(
            "create table \"T t\" (id int); select audit.track('\"T t\"'), audit.track('\"T t\"');",
        );
        assert_eq!(triggers(&mut model, "\"T t\""), BY_STATEMENT);
        model.run("select audit.untrack('\"T t\"');");
        assert_eq!(triggers(&mut model, "\"T t\""), "");
    }

    #[test]
    fn again_replaces_the_row_trigger_of_the_first_version() {
        let mut model = Model::with(
            "create table t (id int);
             create trigger plugin_webhooks_audit after insert or update or delete on t
                 for each row execute function audit.log_entity_change();
             insert into t values (1);
             select audit.track('t');
             insert into t values (2);",
        );
        assert_eq!(triggers(&mut model, "t"), BY_STATEMENT);
        assert_eq!(model.log_of("t"), "INSERT 1, INSERT 2");
    }

    #[test]
    fn leaves_triggers_of_other_names_alone() {
        let mut model = Model::with(
            "create table t (id int, v int);
             create trigger by_host after insert on t for each row execute function audit.log_entity_change();
             select audit.track('t');",
        );
        assert_eq!(triggers(&mut model, "t"), "by_host");
        let failed = model.client.batch_execute("select audit.track('t', '{v}')");
        expect_sqlstate(failed, "42809");
        model.run("select audit.untrack('t'), audit.track('t', '{v}');");
        assert_eq!(triggers(&mut model, "t"), BY_STATEMENT);
    }

    #[test]
    fn follows_a_table_that_becomes_a_partition() {
        let mut model = Model::with(
            "create table part (id int, v int); select audit.track('part');
             create table p (id int, v int) partition by list (v);
             alter table p attach partition part default;
             select audit.track('part');",
        );
        assert_eq!(triggers(&mut model, "part"), "plugin_webhooks_audit");
        model.run("insert into p values (1, 1);");
        assert_eq!(model.log_of("part"), "INSERT 1");
    }
}

/// Databases that were here before may have more on their log than a fresh one.
mod logs {
    use super::*;

    /// What happens on `t`, with one subscription to its inserts and updates.
    fn changes(model: &mut Model) {
        model.run(
            "select public.rpc_register_plugin('crm', 'CRM');
             select public.rpc_upsert_plugin_webhook_subscription(
                 '11111111-1111-1111-1111-111111111111',
                 public.rpc_install_plugin('11111111-1111-1111-1111-111111111111', 'crm', null, '{\"webhook_url\": \"https://receiver.invalid/\"}'),
                 'public', 't', '{INSERT,UPDATE}', null, true);
             insert into t (id, title) select n, 'x' from generate_series(10, 1209) n;
             update t set title = 'y' where id between 10 and 20;
             insert into t (id) values (5000);
             delete from t where id = 5000;",
        );
        model.agrees_on(3 + 1200 + 11 + 1 + 1);
        assert_eq!(
            count(
                &mut model.client,
                "int.plugin_delivery_queue q join audit.entity_changes c on c.id = q.source_entity_change_id"
            ),
            1200 + 11 + 1
        );
    }

    const SEEN: &str = "
        create table seen (id bigint, rows bigint);
        create function see_row() returns trigger language plpgsql as $$ begin insert into public.seen values (new.id, 1); return null; end $$;
        create function see_rows() returns trigger language plpgsql
            as $$ begin insert into public.seen select null, count(*) from added; return null; end $$;";

    #[test]
    fn of_a_fresh_database_are_written() {
        changes(&mut Model::with_rows());
    }

    #[test]
    fn fire_the_hosts_row_triggers() {
        let mut model = Model::with_rows();
        model.run(&format!(
            "{SEEN} create trigger see after insert on audit.entity_changes for each row execute function see_row();"
        ));
        changes(&mut model);
        assert_eq!(
            count(
                &mut model.client,
                "audit.entity_changes c join seen s using (id) where table_name = 't'"
            ),
            1213
        );
    }

    #[test]
    fn release_the_row_types_that_row_triggers_were_given() {
        let mut model = Model::with_rows();
        model.run(&format!(
            "{SEEN} create trigger see after insert on audit.entity_changes for each row execute function see_row();"
        ));
        for n in 10..15 {
            model.run(&format!("insert into t (id) values ({n})"));
        }
        assert!(!shared_server().log().contains("reference leak"));
    }

    #[test]
    fn fire_the_hosts_statement_triggers() {
        let mut model = Model::with_rows();
        model.run(&format!(
            "{SEEN} create trigger see after insert on audit.entity_changes referencing new table as added
                 for each statement execute function see_rows();"
        ));
        changes(&mut model);
        let rows: i64 = value(
            &mut model.client,
            "select sum(rows)::bigint - (select count(*) from audit.entity_changes where table_schema = 'int') from seen",
        );
        assert_eq!(rows, 1213);
    }

    #[test]
    fn let_a_before_trigger_change_or_drop_a_row() {
        let mut model = Model::with_rows();
        model.run(
            "create function amend() returns trigger language plpgsql as $$
                 begin
                     if new.operation = 'DELETE' then return null; end if;
                     new.user_agent := 'amended';
                     return new;
                 end $$;
             create trigger amend before insert on audit.entity_changes for each row execute function amend();
             insert into t (id) select n from generate_series(10, 19) n; delete from t where id = 1;",
        );
        assert_eq!(
            count(
                &mut model.client,
                "audit.entity_changes where user_agent = 'amended'"
            ),
            10
        );
        assert_eq!(
            count(
                &mut model.client,
                "audit.entity_changes where operation = 'DELETE'"
            ),
            0
        );
    }

    #[test]
    fn with_foreign_keys_checks_and_more_indexes_hold_to_them() {
        let mut model = Model::with_rows();
        model.run(&format!(
            "create table public.tenants (id uuid primary key); insert into public.tenants values ('{TENANT}');
             alter table audit.entity_changes add foreign key (tenant_id) references public.tenants (id);
             create index on audit.entity_changes (table_schema, table_name, record_id);
             create index on audit.entity_changes using gin (changed_fields);
             create index on audit.entity_changes (lower(table_name)) where operation = 'UPDATE';
             alter table audit.entity_changes add check (record_id <> '66666');"
        ));
        changes(&mut model);
        let failed = model
            .client
            .batch_execute("update t set tenant_id = gen_random_uuid() where id = 1");
        expect_sqlstate(failed, "23503");
        let failed = model
            .client
            .batch_execute("update t set id = 10 where id = 11");
        expect_sqlstate(failed, "23505");
        let failed = model
            .client
            .batch_execute("update t set id = 66666 where id = 1");
        expect_sqlstate(failed, "23514");
        model.run("set enable_seqscan = off");
        let by_index = count(
            &mut model.client,
            "audit.entity_changes where lower(table_name) = 't' and operation = 'UPDATE'",
        );
        assert_eq!(by_index, 11);
    }

    #[test]
    fn that_only_a_statement_can_write_are_written_by_one() {
        let mut model = Model::with_rows();
        model.run(
            "alter table audit.entity_changes force row level security;
             create policy everything on audit.entity_changes to public using (true) with check (true);
             alter table audit.entity_changes add column lower_name text generated always as (lower(table_name)) stored;",
        );
        changes(&mut model);
        assert_eq!(
            count(
                &mut model.client,
                "audit.entity_changes where lower_name = 't'"
            ),
            1216
        );
    }

    #[test]
    fn count_their_rows_in_the_statistics() {
        let mut model = Model::with_rows();
        changes(&mut model);
        wait_until(SOON, "the statistics", || {
            count(
                &mut model.client,
                "pg_stat_user_tables where relid = 'audit.entity_changes'::regclass and n_tup_ins >= 1216",
            ) == 1
        });
    }
}

mod enqueueing {
    use super::*;

    fn project_with_items() -> (Database, Client) {
        let database = plugin_webhooks_kit::project_with_items(shared_server());
        let client = database.client();
        (database, client)
    }

    const NOWHERE: &str = "https://receiver.invalid/";

    #[test]
    fn follows_subscriptions_that_other_sessions_change() {
        let (database, mut client) = project_with_items();
        let tenant = Tenant::install(&database, &format!(r#"{{"webhook_url": "{NOWHERE}"}}"#));
        let mut seen = 0;
        let mut step = |client: &mut Client, more: i64| {
            tenant.insert_items(client, 1);
            seen += more;
            assert_eq!(count(client, "int.plugin_delivery_queue"), seen);
        };
        step(&mut client, 0);
        tenant.subscribe("items", &["INSERT"], None, false);
        step(&mut client, 1);
        step(&mut client, 1);
        tenant.subscribe("items", &["UPDATE"], None, false);
        step(&mut client, 0);
        tenant.subscribe("items", &["INSERT"], None, false);
        tenant.set_status("disabled");
        step(&mut client, 0);
        tenant.set_status("installed");
        step(&mut client, 1);
        let second = Tenant::with_items_to(&database, NOWHERE);
        execute(
            &mut database.client(),
            &format!(
                "update int.plugin_installations set tenant_id = '{}' where id = '{}'",
                tenant.id, second.installation
            ),
        );
        step(&mut client, 2);
        execute(
            &mut database.client(),
            "set session_replication_role = replica; update int.plugins set key = key || '_renamed'",
        );
        step(&mut client, 2);
        let renamed: i64 = count(
            &mut client,
            "int.plugin_delivery_queue where payload ->> 'plugin_key' like '%_renamed'",
        );
        assert_eq!(renamed, 2);
    }

    #[test]
    fn follows_subscriptions_of_its_own_transaction_and_forgets_them_when_it_is_rolled_back() {
        let (database, mut client) = project_with_items();
        let tenant = Tenant::install(&database, &format!(r#"{{"webhook_url": "{NOWHERE}"}}"#));
        let insert = format!("insert into items (tenant_id) values ('{}');", tenant.id);
        let subscribe = format!(
            "insert into int.plugin_webhook_subscriptions (plugin_installation_id, table_schema, table_name, operations)
             values ('{}', 'public', 'items', '{{INSERT}}');",
            tenant.installation
        );
        execute(
            &mut client,
            &format!("{insert} begin; {subscribe} {insert} rollback; {insert}"),
        );
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 0);
        execute(
            &mut client,
            &format!(
                "begin; {insert} savepoint a; {subscribe} {insert} rollback to a; {insert} commit;
                 begin isolation level repeatable read; select 1 from items; {insert}"
            ),
        );
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 0);
        // What this transaction read must not outlive it.
        execute(&mut database.client(), &subscribe);
        execute(&mut client, &format!("commit; {insert}"));
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 1);
        execute(
            &mut client,
            &format!(
                "begin; {insert} {insert} delete from int.plugin_webhook_subscriptions; {insert} commit;"
            ),
        );
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 3);
    }

    #[test]
    fn waits_for_an_installation_that_is_being_deleted_and_then_passes_it_by() {
        let (database, mut client) = project_with_items();
        let tenant = Tenant::with_items_to(&database, NOWHERE);
        tenant.insert_items(&mut client, 1);
        let mut other = database.client();
        let delete = format!(
            "delete from int.plugin_installations where id = '{}'",
            tenant.installation
        );
        execute(&mut other, &format!("begin; {delete};"));
        let pid: i32 = value(&mut client, "select pg_backend_pid()");
        thread::scope(|scope| {
            let writer = scope.spawn(|| tenant.insert_items(&mut client, 600));
            let mut observer = database.client();
            wait_until(SOON, "the writer to wait", || {
                count(
                    &mut observer,
                    &format!("pg_locks where pid = {pid} and not granted"),
                ) > 0
            });
            execute(&mut other, "commit");
            writer.join().expect("the insert succeeds");
        });
        assert_eq!(count(&mut other, "items"), 601);
        assert_eq!(count(&mut other, "int.plugin_delivery_queue"), 0);
        // And the other way round: the deletion waits for the writer, and takes its deliveries along.
        let next = Tenant::with_items_to(&database, NOWHERE);
        execute(&mut other, "begin");
        next.insert_items(&mut other, 2);
        let mut deleter = database.client();
        let pid: i32 = value(&mut deleter, "select pg_backend_pid()");
        thread::scope(|scope| {
            let deletion =
                scope.spawn(|| execute(&mut deleter, "delete from int.plugin_installations"));
            let mut observer = database.client();
            wait_until(SOON, "the deletion to wait", || {
                count(
                    &mut observer,
                    &format!("pg_locks where pid = {pid} and not granted"),
                ) > 0
            });
            execute(&mut other, "commit");
            deletion.join().expect("the deletion succeeds");
        });
        assert_eq!(count(&mut other, "int.plugin_delivery_queue"), 0);
    }

    #[test]
    fn happens_for_rows_that_others_insert_into_the_log() {
        let (database, mut client) = project_with_items();
        let tenant = Tenant::with_items_to(&database, NOWHERE);
        let insert = format!(
            "insert into audit.entity_changes (table_schema, table_name, record_id, operation, tenant_id)
             select 'public', 'items', n, 'INSERT', '{}' from generate_series(1, 3) n",
            tenant.id
        );
        execute(&mut client, &insert);
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 3);
        // A database that was taken over may fire it row by row, or both ways.
        execute(
            &mut client,
            &format!(
                "create trigger row_by_row after insert on audit.entity_changes
                     for each row execute function int.enqueue_plugin_events_from_audit();
                 {insert};
                 drop trigger entity_changes_plugin_enqueue_trigger on audit.entity_changes;
                 {insert};"
            ),
        );
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 9);
        tenant.insert_items(&mut client, 5);
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 14);
        execute(
            &mut client,
            "drop trigger row_by_row on audit.entity_changes",
        );
        tenant.insert_items(&mut client, 5);
        assert_eq!(
            count(&mut client, "int.plugin_delivery_queue"),
            14,
            "nobody asks for deliveries any more"
        );
    }

    #[test]
    fn can_be_switched_off_at_its_trigger() {
        let (database, mut client) = project_with_items();
        let tenant = Tenant::with_items_to(&database, NOWHERE);
        execute(
            &mut client,
            "alter table audit.entity_changes disable trigger entity_changes_plugin_enqueue_trigger",
        );
        tenant.insert_items(&mut client, 3);
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 0);
        execute(
            &mut client,
            "alter table audit.entity_changes enable trigger entity_changes_plugin_enqueue_trigger",
        );
        tenant.insert_items(&mut client, 3);
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 3);
    }

    /// The first version of the schema has no triggers that announce changes.
    #[test]
    fn sees_changes_of_subscriptions_without_the_triggers_that_announce_them() {
        let (database, mut client) = project_with_items();
        execute(
            &mut client,
            "drop trigger plugins_forget_subscriptions on int.plugins;
             drop trigger plugin_installations_forget_subscriptions on int.plugin_installations;
             drop trigger plugin_webhook_subscriptions_forget_subscriptions on int.plugin_webhook_subscriptions;",
        );
        let tenant = Tenant::install(&database, &format!(r#"{{"webhook_url": "{NOWHERE}"}}"#));
        tenant.insert_items(&mut client, 1);
        tenant.subscribe("items", &["INSERT"], None, false);
        tenant.insert_items(&mut client, 1);
        tenant.set_status("disabled");
        tenant.insert_items(&mut client, 1);
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 1);
    }

    #[test]
    fn of_one_statement_serves_many_tenants() {
        let (database, mut client) = project_with_items();
        execute(
            &mut client,
            "select rpc_register_plugin('many', 'Many');
             create table tenants as select gen_random_uuid() as id, n from generate_series(1, 200) n;
             select rpc_upsert_plugin_webhook_subscription(t.id, rpc_install_plugin(t.id, 'many'), 'public', 'items', '{INSERT}')
                 from tenants t where n % 2 = 0;
             insert into items (tenant_id) select t.id from generate_series(1, 10), tenants t;",
        );
        assert_eq!(count(&mut client, "int.plugin_delivery_queue"), 1000);
        assert_eq!(
            count(&mut client, "int.plugin_delivery_queue q join audit.entity_changes c
                on c.id = q.source_entity_change_id and c.tenant_id = q.tenant_id join int.plugin_installations i
                on i.id = q.plugin_installation_id and i.tenant_id = q.tenant_id"),
            1000
        );
        drop(database);
    }

    #[test]
    fn writes_the_payload_that_the_statement_would_write() {
        let (database, mut client) = project_with_items();
        for include in [false, true] {
            let tenant = Tenant::install(&database, &format!(r#"{{"webhook_url": "{NOWHERE}"}}"#));
            tenant.subscribe("items", &["INSERT", "UPDATE", "DELETE"], None, include);
            execute(
                &mut client,
                &format!(
                    "insert into items (tenant_id, title, data) values ('{0}', E'\\u00fc \"\\n', '{{\"a\": [1.10, null, \"x\"]}}'), ('{0}', null, '1');
                     update items set title = 'x', note = '' where tenant_id = '{0}';
                     update items set title = title where tenant_id = '{0}';
                     delete from items where tenant_id = '{0}';",
                    tenant.id
                ),
            );
        }
        let written = "select string_agg(concat_ws('|', source_entity_change_id, event_type, payload), E'\\n' order by source_entity_change_id)
                       from int.plugin_delivery_queue";
        let by_appending: String = value(&mut client, written);
        execute(
            &mut client,
            "delete from int.plugin_delivery_queue;
             create temp table kept as select * from audit.entity_changes where table_name = 'items';
             delete from audit.entity_changes;
             insert into audit.entity_changes overriding system value select * from kept order by id;",
        );
        let by_statement: String = value(&mut client, written);
        assert_eq!(by_appending, by_statement);
        assert_eq!(by_statement.lines().count(), 16);
    }
}

mod origin {
    use super::*;

    #[test]
    fn is_that_of_each_statement() {
        let mut model = Model::with_rows();
        model.run(
            "select set_config('request.jwt.claims', '{\"sub\": \"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"}', false),
                    set_config('request.headers', '{\"x-forwarded-for\": \"203.0.113.7, 10.0.0.1\", \"user-agent\": \"curl\"}', false);
             insert into t (id) values (10);
             select set_config('request.headers', '{\"x-forwarded-for\": \"nonsense\"}', false);
             insert into t (id) values (11);
             select set_config('request.jwt.claims', 'no json', false), set_config('request.headers', '', false);
             insert into t (id) values (12);",
        );
        let origins: String = value(
            &mut model.client,
            "select string_agg(concat_ws(' ', record_id, user_id, host(ip_address), user_agent), ', ' order by id)
             from audit.entity_changes where record_id::int >= 10",
        );
        assert_eq!(
            origins,
            "10 a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 203.0.113.7 curl, 11 a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 127.0.0.1, 12 127.0.0.1"
        );
    }
}

mod memory {
    use super::*;

    /// Private memory of a process in KiB.
    fn private_memory(pid: i32) -> i64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    }

    /// The most that a session's private memory grows while it runs a statement, in KiB.
    fn growth(client: &mut Client, statement: &str) -> i64 {
        let pid: i32 = value(client, "select pg_backend_pid()");
        let before = private_memory(pid);
        let (done, most) = (AtomicBool::new(false), AtomicI64::new(before));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    most.fetch_max(private_memory(pid), Ordering::Relaxed);
                    thread::yield_now();
                }
            });
            let result = client.batch_execute(statement);
            done.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|error| panic!("{statement}: {}", describe(&error)));
        });
        most.into_inner() - before
    }

    #[test]
    fn of_a_statement_over_a_million_rows_stays_within_32_mb() {
        const LIMIT: i64 = 32 * 1024;
        let database = project(shared_server());
        let mut session = database.client();
        create_tracked_table(&mut session, "items");
        let tenant = Tenant::with_items_to(&database, "https://receiver.invalid/");
        execute(
            &mut session,
            "set statement_timeout = 0; set work_mem = '4MB'; update int.plugin_webhook_subscriptions set operations = '{DELETE}'",
        );
        tenant.insert_items(&mut session, 10);
        execute(&mut session, "delete from items");
        let insert = format!(
            "insert into items (tenant_id, title) select '{}', 'item ' || n from generate_series(1, 1000000) n",
            tenant.id
        );
        let inserting = growth(&mut session, &insert);
        let updating = growth(&mut session, "update items set note = 'x' where id % 4 = 0");
        let deleting = growth(&mut session, "delete from items where id % 4 = 1");
        assert_eq!(
            count(
                &mut session,
                "audit.entity_changes where table_name = 'items'"
            ),
            1_500_020
        );
        assert_eq!(count(&mut session, "int.plugin_delivery_queue"), 250_010);
        assert!(
            inserting < LIMIT && updating < LIMIT && deleting < LIMIT,
            "KiB: insert {inserting}, update {updating}, delete {deleting}"
        );
    }
}
