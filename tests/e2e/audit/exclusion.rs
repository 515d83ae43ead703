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
