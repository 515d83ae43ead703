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
         insert into app.tenants values (gen_random_uuid(), 'x'), (null, null); update app.tenants \
         set id = gen_random_uuid();",
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
