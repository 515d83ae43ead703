//! Databases that were here before may have more on their log than a fresh one.

use super::*;

/// What happens on `t`, with one subscription to its inserts and updates.
fn changes(model: &mut Model) {
    model.run(
        "select public.rpc_register_plugin('crm', 'CRM');
         select public.rpc_upsert_plugin_webhook_subscription(
             '11111111-1111-1111-1111-111111111111',
             public.rpc_install_plugin('11111111-1111-1111-1111-111111111111', 'crm', null, \
             '{\"webhook_url\": \"https://receiver.invalid/\"}'),
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
    grant insert on seen to plugin_webhooks_owner;
    create function see_row() returns trigger language plpgsql as $$ begin insert into public.seen \
    values (new.id, 1); return null; end $$;
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
