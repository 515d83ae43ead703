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
             insert into t (id, title) select id + 20000, title from gone union all select id + 20000, title \
             from changed;
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
         create table lone (id int primary key, parent_id int references parent on delete set null \
         on update set default);
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
                         when 4 then insert into t (id, title) select floor(random() * 100) + n * 1000, 'u' \
                         from generate_series(1, 5) n
                                     on conflict (id) do update set title = coalesce(t.title, '') || 'u', tenant_id = \
                                     gen_random_uuid();
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
