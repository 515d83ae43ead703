use super::*;

#[test]
fn is_that_of_each_statement() {
    let mut model = Model::with_rows();
    model.run(
        "select set_config('request.jwt.claims', '{\"sub\": \"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"}', false),
                set_config('request.headers', '{\"x-forwarded-for\": \"203.0.113.7, \
                10.0.0.1\", \"user-agent\": \"curl\"}', false);
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
        "10 a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 203.0.113.7 curl, 11 a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 127.0.0.1, \
        12 127.0.0.1"
    );
}

#[test]
fn leaves_out_of_a_user_agent_what_no_text_holds() {
    let mut model = Model::with_rows();
    model.run(
        r#"select set_config('request.headers', '{"user-agent": "a\u0000b\n\u001b[31mc"}', false);
           insert into t (id) values (10);"#,
    );
    let agent: String = value(
        &mut model.client,
        "select user_agent from audit.entity_changes where record_id = '10'",
    );
    assert_eq!(agent, "ab[31mc");
}

#[test]
fn takes_the_address_from_where_the_operator_says() {
    const SETTING: &str = "plugin_webhooks.ip_address_from";
    let own = crate::private_server::builder().start();
    let database = plugin_webhooks_kit::project_with_items(&own);
    let mut client = database.client();
    execute(
        &mut client,
        r#"select set_config('request.headers',
               '{"x-forwarded-for": "203.0.113.7, 10.0.0.1", "cf-connecting-ip": "2001:db8::7", "x-bad": "none"}', false)"#,
    );
    for (sources, expected) in [
        ("connection", Some("127.0.0.1")),
        ("x-forwarded-for, connection", Some("203.0.113.7")),
        ("CF-Connecting-IP", Some("2001:db8::7")),
        ("connection,x-forwarded-for", Some("127.0.0.1")),
        ("x-missing , x-bad, cf-connecting-ip", Some("2001:db8::7")),
        ("x-missing", None),
        ("x-forwarded-for", Some("203.0.113.7")),
        ("", None),
    ] {
        own.alter_system(SETTING, sources);
        // A session reads the file between two statements, some time after the reload.
        wait_until(SOON, sources, || {
            execute(&mut client, "insert into items (title) values ('x')");
            let recorded: Option<String> = value(
                &mut client,
                "select host(ip_address) from audit.entity_changes order by id desc limit 1",
            );
            recorded.as_deref() == expected
        });
    }
}
