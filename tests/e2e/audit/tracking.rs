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
