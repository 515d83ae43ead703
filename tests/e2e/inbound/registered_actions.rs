//! Actions of the database's own.

use std::time::Duration;

use super::*;

/// `desk.tickets` and everything a test adds in schema `desk` belong to `desk_owner`, who may
/// touch nothing else; `public.ledger` is somebody else's.
fn desk(handlers: &str) -> Partners {
    let partners = Partners::new();
    let mut admin = partners.admin();
    execute(
        &mut admin,
        &format!(
            "do $$ begin create role desk_owner; exception when duplicate_object or unique_violation then null; \
            end $$;
             create schema desk authorization desk_owner;
             create table public.ledger (entry text);
             set role desk_owner;
             create table desk.tickets (id int generated always as identity, tenant_id uuid, title text, made_by \
             name);
             {handlers};
             reset role;"
        ),
    );
    partners
}

/// A handler `desk.handle` with this PL/pgSQL body.
fn handler(body: &str) -> String {
    format!(
        "create or replace function desk.handle(tenant uuid, data jsonb) returns jsonb
             language plpgsql as $handler$ begin {body} end $handler$"
    )
}

fn register(partners: &Partners) {
    execute(
        &mut partners.admin(),
        "select plugin_webhooks.register_action('ticket.open', 'desk.handle(uuid,jsonb)')",
    );
}

const CALL: &str = r#"{"action": "ticket.open", "data": {"title": "It leaks"}}"#;

#[test]
fn get_tenant_and_data_and_answer_for_themselves() {
    let partners = desk(&handler(
        "insert into desk.tickets (tenant_id, title, made_by) values (tenant, data ->> 'title', current_user);
         return jsonb_build_object('ticket', 1);",
    ));
    register(&partners);
    let mut session = partners.session();
    let answer = partners.call(&mut session, CALL);
    assert_eq!(answer.expect("a call"), r#"{"ticket": 1}"#);
    assert_eq!(
        text(
            &mut partners.admin(),
            "select concat_ws(' ', tenant_id, title, made_by) from desk.tickets"
        ),
        format!("{TENANT} It leaks desk_owner")
    );
    let who = session
        .query_one("select current_user::text", &[])
        .expect("the session goes on");
    assert_eq!(who.get::<_, String>(0), "authenticator");
}

#[test]
fn get_empty_data_when_there_is_none() {
    let partners = desk(&handler("return data;"));
    register(&partners);
    let mut session = partners.session();
    for payload in [
        r#"{"action": "ticket.open"}"#,
        r#"{"action": " ticket.open ", "data": null}"#,
    ] {
        let answer = partners.call(&mut session, payload);
        assert_eq!(answer.expect(payload), "{}");
    }
}

#[test]
fn may_do_what_their_owner_may_and_nothing_else() {
    let partners = desk("");
    let mut session = partners.session();
    for forbidden in [
        "insert into public.ledger values ('x')",
        "perform * from public.ledger",
        "perform * from int.plugins",
        "update int.plugin_installations set status = 'disabled'",
        "perform * from plugin_webhooks.secrets",
        "perform int.resolve_installation_signing_secret(tenant)",
        "perform plugin_webhooks.create_secret('a', 'b')",
        "perform public.rpc_process_plugin_deliveries()",
        "create schema more",
        "perform pg_read_file('postgresql.conf')",
    ] {
        execute(
            &mut partners.admin(),
            &format!(
                "set role desk_owner; {}",
                handler(&format!("{forbidden}; return null;"))
            ),
        );
        register(&partners);
        let code = partners
            .call(&mut session, CALL)
            .err()
            .and_then(|error| error.code().map(|code| code.code().to_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}");
    }
    assert_eq!(
        text(
            &mut partners.admin(),
            "select count(*)::text from public.ledger"
        ),
        "0"
    );
}

#[test]
fn cannot_become_someone_else() {
    let partners = desk("");
    let mut session = partners.session();
    for attempt in [
        "execute 'set role postgres'",
        "execute 'set local role postgres'",
        "execute 'reset role'",
        "execute 'set role none'",
        "execute 'set session authorization default'",
        "execute 'set session authorization postgres'",
        "perform set_config('role', 'postgres', false)",
        "perform set_config('role', 'none', true)",
        "perform set_config('session_authorization', 'postgres', false)",
    ] {
        execute(
            &mut partners.admin(),
            &format!(
                "set role desk_owner; {}",
                handler(&format!("{attempt}; return to_jsonb(current_user::text);"))
            ),
        );
        register(&partners);
        let code = partners
            .call(&mut session, CALL)
            .err()
            .and_then(|error| error.code().map(|code| code.code().to_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{attempt}");
    }
}

#[test]
fn leave_no_setting_behind() {
    let partners = desk(&handler(
        "perform set_config('search_path', 'desk', false);
         perform set_config('request.jwt.claims', '{\"sub\": \"someone\"}', false);
         return to_jsonb(current_setting('search_path'));",
    ));
    register(&partners);
    let mut session = partners.session();
    partners.call(&mut session, CALL).expect("a call");
    let after = session
        .query_one(
            "select current_setting('search_path'), coalesce(current_setting('request.jwt.claims', true), '')",
            &[],
        )
        .expect("the session goes on");
    assert_eq!(
        (after.get::<_, String>(0), after.get::<_, String>(1)),
        ("\"$user\", public".to_owned(), String::new())
    );
}

#[test]
fn start_with_a_search_path_that_nobody_can_write_to() {
    let partners = desk(&handler("return to_jsonb(current_setting('search_path'));"));
    register(&partners);
    let answer = partners.call(&mut partners.session(), CALL);
    assert_eq!(answer.expect("a call"), r#""pg_catalog, pg_temp""#);
}

fn failing(sqlstate: &str) -> Partners {
    let partners = desk(&handler(&format!(
        "insert into desk.tickets (title) values ('half done');
         raise exception 'no tickets on %', data ->> 'title'
             using errcode = '{sqlstate}', detail = 'closed', hint = 'tomorrow';"
    )));
    register(&partners);
    partners
}

#[test]
fn fail_with_their_own_error_and_leave_nothing() {
    let partners = failing("23514");
    let mut session = partners.session();
    let error = expect_sqlstate(partners.call(&mut session, CALL), "23514");
    assert_eq!(error.message(), "no tickets on It leaks");
    assert_eq!(error.detail(), Some("closed"));
    assert_eq!(error.hint(), Some("tomorrow"));
    assert_eq!(
        text(
            &mut partners.admin(),
            "select count(*)::text from desk.tickets"
        ),
        "0"
    );
}

/// PostgREST turns PT404 into a 404.
#[test]
fn fail_with_an_sqlstate_of_their_own() {
    for sqlstate in ["PT404", "TK001"] {
        let partners = failing(sqlstate);
        let mut session = partners.session();
        expect_sqlstate(partners.call(&mut session, CALL), sqlstate);
    }
}

#[test]
fn can_be_cancelled() {
    let partners = desk(&handler("perform pg_sleep(60); return null;"));
    register(&partners);
    let mut session = partners.session();
    execute(&mut session, "set statement_timeout = '200ms'");
    let started = std::time::Instant::now();
    expect_sqlstate(partners.call(&mut session, CALL), "57014");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn that_are_dropped_or_unregistered_are_refused() {
    let partners = desk(&handler("return null;"));
    register(&partners);
    let (mut admin, mut session) = (partners.admin(), partners.session());
    partners.call(&mut session, CALL).expect("registered");
    for gone in [
        "alter function desk.handle(uuid, jsonb) rename to handled",
        "create function desk.handle(tenant uuid, data jsonb) returns text language sql as 'select null::text'",
        "drop function desk.handle(uuid, jsonb)",
    ] {
        execute(&mut admin, gone);
        let error = expect_sqlstate(partners.call(&mut session, CALL), "42P13");
        assert_eq!(error.message(), "desk.handle cannot handle an action");
    }
    execute(
        &mut admin,
        "select plugin_webhooks.unregister_action('ticket.open')",
    );
    expect_sqlstate(partners.call(&mut session, CALL), "22023");
}

const HOSTILE: &str =
    "insert into public.ledger values (current_user); return to_jsonb(current_user::text);";

/// A handler of a superuser's becomes another one, while or before it is called.
fn exchanges() -> [String; 2] {
    let body = handler(HOSTILE);
    [
        format!(
            "alter function desk.handle(uuid, jsonb) owner to desk_owner; set local role desk_owner; {body}"
        ),
        format!("drop function desk.handle(uuid, jsonb); set local role desk_owner; {body}"),
    ]
}

fn of_a_superuser() -> Partners {
    let partners = desk("");
    execute(
        &mut partners.admin(),
        &format!(
            "grant insert on public.ledger to public; {}",
            handler("return null;")
        ),
    );
    register(&partners);
    partners
}

#[test]
fn run_as_their_present_owner_in_a_transaction_that_began_before() {
    for exchange in exchanges() {
        let partners = of_a_superuser();
        let mut session = partners.session();
        let signature = signature(&mut session, SECRET, CALL);
        execute(
            &mut session,
            "begin isolation level repeatable read; set local role anon; select 1",
        );
        execute(&mut partners.admin(), &format!("begin; {exchange}; commit"));
        let answer = session
            .query_one(
                "select public.rpc_plugin_ingest_webhook($1, $2::text::uuid, $3::text::jsonb, $4)::text",
                &[&PLUGIN, &partners.installation, &CALL, &signature],
            )
            .expect("a call");
        assert_eq!(answer.get::<_, String>(0), r#""desk_owner""#, "{exchange}");
    }
}

#[test]
fn run_as_their_present_owner_when_they_are_exchanged_during_the_call() {
    for exchange in exchanges() {
        let partners = of_a_superuser();
        let mut admin = partners.admin();
        execute(&mut admin, &format!("begin; {exchange}"));
        std::thread::scope(|scope| {
            let call = scope.spawn(|| partners.call(&mut partners.session(), CALL));
            let mut watcher = partners.admin();
            wait_until(Duration::from_secs(20), "the call to wait", || {
                text(
                    &mut watcher,
                    "select count(*)::text from pg_stat_activity
                     where datname = current_database() and wait_event_type = 'Lock' and wait_event = 'object'",
                ) == "1"
            });
            execute(&mut admin, "commit");
            let answer = call.join().expect("no panic");
            assert_eq!(answer.expect("a call"), r#""desk_owner""#, "{exchange}");
        });
    }
}
