//! What a payload may be, and what it becomes.

use super::*;

#[test]
fn without_an_action_are_a_noop() {
    let partners = Partners::new();
    let mut session = partners.session();
    for payload in [
        "{}",
        r#"{"action": ""}"#,
        r#"{"action": "  "}"#,
        r#"{"action": null}"#,
        r#"{"data": {"x": 1}}"#,
        "null",
        "[]",
        "7",
        r#""noop""#,
    ] {
        let answer = partners.call(&mut session, payload);
        assert_eq!(answer.expect(payload), NOOP_ANSWER, "{payload}");
    }
}

#[test]
fn with_an_unknown_action_are_refused() {
    let partners = Partners::new();
    let mut session = partners.session();
    for action in [
        "work_order.delete",
        "NOOP",
        "noop; drop table int.plugins",
        "pg_catalog.pg_sleep",
        "{\"a\": 1}",
    ] {
        let payload = format!(r#"{{"action": "{}"}}"#, action.replace('"', "\\\""));
        expect_sqlstate(partners.call(&mut session, &payload), "22023");
    }
    expect_sqlstate(
        partners.call(&mut session, r#"{"action": ["noop"]}"#),
        "22023",
    );
    let long = format!(r#"{{"action": "{}"}}"#, "x".repeat(100_000));
    let error = expect_sqlstate(partners.call(&mut session, &long), "22023");
    assert!(error.message().len() < 300, "it does not fill the log");
}

#[test]
fn may_be_a_megabyte() {
    let partners = Partners::new();
    let mut session = partners.session();
    let payload = format!(
        r#"{{"action": "noop", "data": {{"text": "{}"}}}}"#,
        "0123456789abcdef".repeat(65_536)
    );
    assert!(payload.len() > 1_000_000);
    assert_eq!(
        partners.call(&mut session, &payload).expect("a call"),
        NOOP_ANSWER
    );
}

#[test]
fn may_be_nested_as_deeply_as_postgresql_reads() {
    let partners = Partners::new();
    let mut session = partners.session();
    let nested = |depth: usize| {
        format!(
            r#"{{"action": "noop", "data": {}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert_eq!(
        partners.call(&mut session, &nested(1_000)).expect("a call"),
        NOOP_ANSWER
    );
    let too_deep = ingest(
        &mut session,
        PLUGIN,
        &partners.installation,
        &nested(1_000_000),
        "00",
    );
    expect_sqlstate(too_deep, "54001");
    partners
        .call(&mut session, NOOP)
        .expect("the session goes on");
}

#[test]
fn that_look_like_sql_stay_text() {
    let partners = Partners::new();
    let (mut admin, mut session) = (partners.admin(), partners.session());
    execute(
        &mut admin,
        "create table public.tickets (body jsonb);
         create function public.open_ticket(tenant uuid, data jsonb) returns jsonb language sql
             as $$ insert into public.tickets values (data) returning null::jsonb $$;
         select plugin_webhooks.register_action('ticket.open', 'public.open_ticket(uuid,jsonb)')",
    );
    let objects =
        "select concat_ws(' ', (select count(*) from pg_class), (select count(*) from pg_proc),
                          (select count(*) from pg_roles), (select count(*) from int.plugins))";
    let before = text(&mut admin, objects);
    for hostile in [
        "'); drop table int.plugins; --",
        "$1; create role owned superuser; $$",
        "\\'; copy (select 1) to program 'touch /tmp/owned'; --",
        "{\"a\": (select decrypted_secret from vault.decrypted_secrets)}",
    ] {
        let quoted = hostile.replace('\\', "\\\\").replace('"', "\\\"");
        let payload = format!(
            r#"{{"action": "ticket.open", "data": {{"{quoted}": "{quoted}"}}, "{quoted}": 1}}"#
        );
        let answer = partners.call(&mut session, &payload);
        assert_eq!(
            answer.expect(hostile),
            r#"{"ok": true, "action": "ticket.open"}"#
        );
        let stored = admin
            .query_one("select body ->> $1 from tickets", &[&hostile])
            .expect("the ticket");
        assert_eq!(stored.get::<_, String>(0), hostile);
        execute(&mut admin, "truncate tickets");
    }
    assert_eq!(text(&mut admin, objects), before);
}
