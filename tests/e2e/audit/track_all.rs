//! audit.track_all(): which row triggers of a former system it replaces, that the log stays the same, and the ways
//! back.

use super::*;

const RECORD: &str = "after insert or update or delete on %t for each row execute function audit.log_entity_change()";

/// Tables with triggers of each kind.
fn tables() -> Model {
    let trigger =
        |table: &str, name: &str| format!("create trigger {name} {};", RECORD.replace("%t", table));
    let plain = |table: &str| {
        format!(
            "create table {table} (id int primary key, tenant_id uuid, v int); {}",
            trigger(table, &format!("{table}_audit"))
        )
    };
    Model::with(&format!(
        "create function nothing() returns trigger language plpgsql as 'begin return null; end';
         {plains}
         create table in_three (id int, tenant_id uuid, v int);
         create trigger i after insert on in_three for each row execute function audit.log_entity_change('v');
         create trigger u after update on in_three for each row execute function audit.log_entity_change('v');
         create trigger only_when after update on conditional for each row when (new.v > 1)
             execute function audit.log_entity_change();
         create trigger only_v after update of v on by_column for each row
             execute function audit.log_entity_change();
         create trigger again after insert on twice for each row execute function audit.log_entity_change();
         alter table disabled disable trigger disabled_audit;
         alter table always enable always trigger always_audit;
         create table deferred (id int);
         create constraint trigger deferred_audit after insert on deferred deferrable initially deferred
             for each row execute function audit.log_entity_change();
         create trigger a_rule after update on ordered for each row execute function nothing();
         create trigger z_rule after update on beside for each row execute function nothing();
         create trigger a_report after delete on reported execute function nothing();
         create trigger z_report after insert on reported_later execute function nothing();
         create table parent (id int, v int) partition by list (v);
         create table part partition of parent default;
         {on_parent}
         create table heir () inherits (inherited);
         create temp table passing (id int);
         {on_temporary}
         create table nameless (v int);
         {on_nameless}",
        plains = [
            "plain", "conditional", "by_column", "twice", "disabled", "always", "ordered", "beside",
            "reported", "reported_later", "inherited",
        ]
        .map(plain)
        .concat(),
        on_parent = trigger("parent", "parent_audit"),
        on_temporary = trigger("passing", "passing_audit"),
        on_nameless = trigger("nameless", "nameless_audit"),
    ))
}

fn said(client: &mut Client, dry_run: bool) -> Vec<String> {
    let sql = format!(
        "select concat_ws(' | ', tracked, action, reason) from audit.track_all({dry_run}) order by tracked::text"
    );
    let rows = client.query(&sql, &[]).expect("audit.track_all()");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Every trigger on tables of schema public, with its state.
fn state(client: &mut Client) -> Vec<String> {
    let sql = "select format('%s %s', pg_get_triggerdef(t.oid), t.tgenabled) from pg_trigger t
               join pg_class c on c.oid = t.tgrelid where not t.tgisinternal
                and c.relnamespace = 'public'::regnamespace order by 1";
    let rows = client.query(sql, &[]).expect("triggers");
    rows.iter().map(|row| row.get(0)).collect()
}

const EXPECTED: &str = "\
always | keep | trigger always_audit is ENABLE ALWAYS or REPLICA
beside | replace | UPDATE stays row by row, beside trigger z_rule
by_column | keep | trigger only_v is fired by UPDATE OF columns
conditional | keep | trigger only_when has a WHEN condition
deferred | keep | trigger deferred_audit is a constraint trigger
disabled | keep | trigger disabled_audit is disabled
in_three | replace
inherited | keep | it inherits or is inherited from
nameless | keep | it has no column id
ordered | replace | UPDATE stays row by row, beside trigger a_rule
parent | keep | it is partitioned
part | keep | it is a partition
passing | keep | it is temporary
plain | replace
reported | replace | DELETE stays row by row, beside trigger a_report
reported_later | replace
twice | keep | triggers again and twice_audit both record each INSERT";

#[test]
fn says_which_tables_it_replaces_and_why_not_the_others() {
    let mut model = tables();
    let expected: Vec<_> = EXPECTED.lines().collect();
    let before = state(&mut model.client);
    assert_eq!(said(&mut model.client, true), expected);
    assert_eq!(
        state(&mut model.client),
        before,
        "a dry run changes nothing"
    );
    assert_eq!(said(&mut model.client, false), expected);
    let again = said(&mut model.client, false);
    for (line, before) in again.iter().zip(&expected) {
        let table = before.split(' ').next().expect("a table");
        if before.contains("| replace") {
            assert_eq!(*line, format!("{table} | keep | it is replaced already"));
        } else {
            assert_eq!(line, before);
        }
    }
    expect_sqlstate(
        model.client.batch_execute("select audit.track_all(null)"),
        "23514",
    );
}

#[test]
fn keeps_a_table_whose_triggers_would_change_their_order() {
    let mut model = Model::with(&format!(
        "create function nothing() returns trigger language plpgsql as 'begin return null; end';
         create table t (id int);
         create trigger audit {};
         create trigger between after update on t for each row execute function nothing();",
        RECORD.replace("%t", "t")
    ));
    assert_eq!(
        said(&mut model.client, false),
        ["t | keep | trigger between is fired beside audit by UPDATE, in the order of their names"]
    );
}

/// What the writes of one run leave in the log, without ids and times, in the order of ids for each record: which
/// comes first of several tables or operations of one statement is nobody's promise.
fn log_of_writes(client: &mut Client, writes: &str) -> Vec<String> {
    execute(
        client,
        "delete from audit.entity_changes; set client_min_messages = error;",
    );
    execute(client, writes);
    let rows = client
        .query(
            "select (to_jsonb(e) - '{id,created_at}'::text[])::text from audit.entity_changes e
             order by e.table_name, e.record_id, e.id",
            &[],
        )
        .expect("the log");
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn leaves_the_same_rows_in_the_log() {
    let mut model = tables();
    execute(
        &mut model.client,
        "create function bump() returns trigger language plpgsql as $$ begin
             update plain set v = v + 100 where id = new.id and v < 100; return null; end $$;
         create table child (id int primary key, tenant_id uuid,
                             plain_id int references plain on delete cascade on update set null);
         create trigger child_audit after insert or update or delete on child
             for each row execute function audit.log_entity_change();
         create trigger z_bump after update on beside for each row execute function bump();",
    );
    let writes = format!(
        "insert into plain select n, '{TENANT}', n from generate_series(1, 5) n;
         insert into child select n, '{TENANT}', (n + 1) / 2 from generate_series(1, 8) n;
         insert into beside select n, '{TENANT}', n from generate_series(1, 5) n;
         insert into in_three select n, '{TENANT}', n from generate_series(1, 5) n;
         update in_three set v = v + 1 where id < 4; delete from in_three;
         update beside set v = v + 1; delete from beside where id > 3;
         update plain set v = v where id = 2;
         update plain set id = 50 where id = 5;
         delete from plain where id = 1;
         insert into plain values (2, null, 0), (3, null, 0) on conflict (id) do update set v = -1;
         with gone as (delete from plain where id in (3, 4) returning *)
             insert into reported_later select * from gone;
         begin; savepoint s; insert into plain values (9); rollback to s; insert into plain values (10); commit;
         copy (select 1) to '/dev/null';
         set session_replication_role = replica; insert into plain values (77); reset session_replication_role;
         delete from reported; delete from reported_later; delete from child; delete from plain; delete from beside;"
    );
    let before = log_of_writes(&mut model.client, &writes);
    assert!(before.len() > 50, "{}", before.len());
    let replaced = said(&mut model.client, false);
    assert!(
        replaced.contains(&"child | replace".to_owned()),
        "{replaced:?}"
    );
    let after = log_of_writes(&mut model.client, &writes);
    let difference = before
        .iter()
        .zip(&after)
        .find(|(before, after)| before != after);
    assert_eq!(difference, None);
    assert_eq!(before.len(), after.len());
}

#[test]
fn a_table_that_is_in_use_is_kept_and_the_session_named() {
    let mut model = tables();
    let mut other = model._database.client();
    let pid: i32 = value(&mut other, "select pg_backend_pid()");
    execute(&mut other, "begin; insert into plain values (1);");
    let lines = said(&mut model.client, false);
    assert!(
        lines.contains(&format!(
            "plain | keep | it is in use by session {pid}; try again"
        )),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"in_three | replace".to_owned()),
        "{lines:?}"
    );
    execute(&mut other, "rollback");
    let lines = said(&mut model.client, false);
    assert!(lines.contains(&"plain | replace".to_owned()), "{lines:?}");
}

#[test]
fn nobody_else_may_call_it() {
    let model = tables();
    let refused = plugin_webhooks_kit::as_user(
        &mut model._database.authenticator(),
        "authenticated",
        "{}",
        |tx| tx.batch_execute("select audit.track_all()"),
    );
    expect_sqlstate(refused, "42501");
}

#[test]
fn a_table_that_becomes_a_partition_is_tracked_again() {
    let mut model = tables();
    said(&mut model.client, false);
    model.run(&format!(
        "create table whole (id int not null, tenant_id uuid, v int) partition by list (v);
         alter table whole attach partition plain default;
         select audit.track('plain');
         insert into whole values (1, '{TENANT}', 1);"
    ));
    assert_eq!(model.log_of("plain"), "INSERT 1");
}
