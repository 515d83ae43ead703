use super::*;

#[test]
fn needs_nothing_but_a_superuser() {
    let server = plain_server();
    let database = server.database();
    let mut client = database.client();
    let roles = count(
        &mut client,
        "select count(*) from pg_roles where rolname in ('anon', 'authenticated', 'service_role')",
    );
    assert_eq!(roles, 0);
    assert_eq!(
        lines(
            &mut client,
            "select unnest(plugin_webhooks.grant_to_roles())"
        ),
        Vec::<String>::new()
    );
    let receiver = Receiver::http();
    server.alter_system(LOOPBACK.0, LOOPBACK.1);
    let mut client = database.client();
    deliver_things_to(&mut client, &receiver.url("/"));
    insert_thing(&mut client, 1);
    client
        .batch_execute("select public.rpc_process_plugin_deliveries()")
        .expect("the processor");
    receiver.wait_for(1, SOON);
}

#[test]
fn is_refused_to_everyone_else() {
    let database = shared_server().empty_database();
    database
        .client()
        .batch_execute(&format!(
            "do $$ begin create role owner_of_nothing login; exception when duplicate_object then null; end $$;
             grant all on database \"{}\" to owner_of_nothing",
            database.name()
        ))
        .expect("a role");
    let mut client = database.client_as("owner_of_nothing");
    expect_sqlstate(client.batch_execute(CREATE), "42501");
}

#[test]
fn is_refused_in_another_encoding_with_the_reason() {
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let mut client = shared_server().connect("postgres");
        let name = format!("encoding_{}", encoding.to_lowercase());
        client
            .batch_execute(&format!(
                "create database {name} encoding '{encoding}' locale 'C' template template0"
            ))
            .expect("a database");
        let mut inside = shared_server().connect(&name);
        let error = expect_sqlstate(inside.batch_execute(CREATE), "0A000");
        assert!(error.message().contains("UTF8"), "{}", error.message());
        assert!(error.message().contains(encoding), "{}", error.message());
        assert!(error.hint().is_some_and(|hint| hint.contains("ENCODING")));
        assert_eq!(
            count(
                &mut inside,
                "select count(*) from pg_namespace where nspname in ('int', 'audit', 'plugin_webhooks')"
            ),
            0
        );
    }
}

#[test]
fn leaves_schemas_of_the_host_to_the_host() {
    let database = shared_server().database_with(|client| {
        client
            .batch_execute(
                "create schema int; create schema audit;
                 comment on schema audit is 'the host''s own'",
            )
            .expect("schemas");
    });
    let mut client = database.client();
    let receiver = Receiver::http();
    deliver_things_to(&mut client, &receiver.url("/"));
    insert_thing(&mut client, 1);
    receiver.wait_for(1, SOON);
    assert_eq!(
        text(&mut client, "select obj_description('audit'::regnamespace)"),
        "the host's own"
    );
    client
        .batch_execute("drop extension plugin_webhooks cascade")
        .expect("drop");
    assert_eq!(
        lines(
            &mut client,
            "select nspname::text from pg_namespace
             where nspname in ('int', 'audit', 'plugin_webhooks') order by 1"
        ),
        ["audit", "int"]
    );
}

#[test]
fn leaves_the_session_as_it_was() {
    let server = shared_server();
    for level in ["debug1", "notice", "warning", "error"] {
        let database = server.empty_database();
        let show = "show client_min_messages; show search_path; show check_function_bodies;";
        let output = database.psql(&format!(
            "set client_min_messages = {level}; set search_path = a, public; begin; {CREATE}; {show} commit; {show}"
        ));
        assert!(output.success, "{}", output.stderr);
        let unchanged = format!("{level}\na, public\non\n");
        assert_eq!(output.stdout, unchanged.repeat(2), "{level}");
    }
}

#[test]
fn does_not_depend_on_the_search_path_of_its_caller() {
    let database = shared_server().empty_database();
    let mut client = database.client();
    client
        .batch_execute(
            "create schema evil;
             create function evil.length(text) returns int language sql as $$ select 1/0 $$;
             create operator evil.~ (leftarg = text, rightarg = text, function = pg_catalog.textne);
             set search_path = evil, pg_catalog;
             create extension plugin_webhooks;
             select public.rpc_register_plugin('demo', 'Demo')",
        )
        .expect("create extension");
    expect_sqlstate(
        client.batch_execute("insert into int.plugins (key, name) values ('Not A Key', 'x')"),
        "23514",
    );
}
