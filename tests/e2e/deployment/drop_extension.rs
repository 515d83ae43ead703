use super::*;

/// Every object of this database that is not PostgreSQL's own.
fn objects(client: &mut Client) -> Vec<String> {
    let catalogs = [
        "pg_class",
        "pg_proc",
        "pg_type",
        "pg_namespace",
        "pg_policy",
        "pg_trigger",
        "pg_constraint",
        "pg_attrdef",
        "pg_rewrite",
        "pg_extension",
        "pg_default_acl",
        "pg_event_trigger",
        "pg_operator",
    ];
    let parts: Vec<String> = catalogs
        .iter()
        .map(|catalog| {
            format!("select '{catalog} ' || oid as object from {catalog} where oid >= 16384")
        })
        .collect();
    lines(
        client,
        &format!(
            "{} union all select 'pg_init_privs ' || objoid from pg_init_privs where objoid >= 16384
             union all select 'pg_description ' || objoid from pg_description where objoid >= 16384
             union all select 'pg_shdepend ' || d.objid from pg_shdepend d
                 where d.dbid = (select oid from pg_database where datname = current_database())
             order by 1",
            parts.join(" union all ")
        ),
    )
}

#[test]
fn leaves_nothing_behind_and_create_starts_afresh() {
    let database = shared_server().empty_database();
    let mut client = database.client();
    create_supabase_roles(&mut client);
    client
        .batch_execute("create table public.things (id int primary key, tenant_id uuid)")
        .expect("a table");
    let before = objects(&mut client);
    let receiver = Receiver::http();
    for round in 1..=2 {
        client.batch_execute(CREATE).expect("create extension");
        assert_eq!(
            count(&mut client, "select count(*) from int.plugins"),
            0,
            "round {round}"
        );
        deliver_things_to(&mut client, &receiver.url("/"));
        insert_thing(&mut client, round);
        receiver.wait_for(usize::try_from(round).expect("a count"), SOON);

        let refused = client.batch_execute("drop extension plugin_webhooks");
        expect_sqlstate(refused, "2BP01");
        client
            .batch_execute("drop extension plugin_webhooks cascade")
            .expect("drop");
        assert_eq!(objects(&mut client), before, "round {round}");
        wait_until(SOON, "the worker to leave the database", || {
            count(
                &mut client,
                "select count(*) from pg_stat_activity
                 where datname = current_database() and backend_type like 'plugin_webhooks%'",
            ) == 0
        });
    }
    assert_eq!(count(&mut client, "select count(*) from public.things"), 2);
}

#[test]
fn does_not_wait_for_a_delivery_under_way() {
    let database = shared_server().database();
    let mut client = database.client();
    let receiver = Receiver::http();
    receiver.answer("/", plugin_webhooks_kit::Reply::Hang);
    deliver_things_to(&mut client, &receiver.url("/"));
    insert_thing(&mut client, 1);
    receiver.wait_for(1, SOON);
    let started = std::time::Instant::now();
    client
        .batch_execute("drop extension plugin_webhooks cascade")
        .expect("drop");
    assert!(started.elapsed() < Duration::from_secs(5));
}
