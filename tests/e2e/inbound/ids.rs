//! Calls with an id run once, however many arrive at once. What else a payload may say about itself is shown by
//! the tests inside the server.

use std::thread;

use super::*;
use crate::private_server::builder;

const FIRST: &str = r#"{"id": "7", "action": "held", "data": {"n": 1}}"#;
const SECOND: &str = r#"{"id": "7", "action": "held", "data": {"n": 2}}"#;
const FAILS: &str = r#"{"id": "7", "action": "held", "data": {"fail": 1}}"#;

/// Two calls at once: the second arrives while the first is in its action.
fn overlapping(
    partners: &Partners,
    held: &HeldAction,
    first: &str,
    second: &str,
) -> (Result<String, Error>, Result<String, Error>) {
    thread::scope(|scope| {
        let one = scope.spawn(|| partners.call(&mut partners.session(), first));
        held.wait_for_callers(1);
        let two = scope.spawn(|| partners.call(&mut partners.session(), second));
        held.wait_for_followers(1);
        held.release();
        (
            one.join().expect("the first"),
            two.join().expect("the second"),
        )
    })
}

#[test]
fn a_concurrent_call_waits_for_the_first_and_gets_its_answer() {
    let partners = Partners::new();
    let held = HeldAction::new(&partners);
    let (first, second) = overlapping(&partners, &held, FIRST, SECOND);
    assert_eq!(first.expect("the first"), r#"{"n": 1}"#);
    assert_eq!(second.expect("the second"), r#"{"n": 1}"#);
    assert_eq!(held.ran(), r#"{"n": 1}"#);
}

#[test]
fn a_concurrent_call_runs_when_the_first_fails() {
    let partners = Partners::new();
    let held = HeldAction::new(&partners);
    let (first, second) = overlapping(&partners, &held, FAILS, SECOND);
    expect_sqlstate(first, "TK001");
    assert_eq!(second.expect("the second"), r#"{"n": 2}"#);
    assert_eq!(held.ran(), r#"{"n": 2}"#);
}

#[test]
fn a_call_that_gives_up_waiting_has_done_nothing() {
    let partners = Partners::new();
    let held = HeldAction::new(&partners);
    thread::scope(|scope| {
        let one = scope.spawn(|| partners.call(&mut partners.session(), FIRST));
        held.wait_for_callers(1);
        let mut impatient = partners.session();
        execute(&mut impatient, "set lock_timeout = '1ms'");
        expect_sqlstate(partners.call(&mut impatient, SECOND), "55P03");
        held.release();
        assert_eq!(
            one.join().expect("the first").expect("a call"),
            r#"{"n": 1}"#
        );
        let again = partners.call(&mut impatient, SECOND);
        assert_eq!(again.expect("the first one's answer"), r#"{"n": 1}"#);
    });
    assert_eq!(held.ran(), r#"{"n": 1}"#);
}

#[test]
fn many_at_once_run_once() {
    const SESSIONS: usize = 12;
    let partners = Partners::new();
    let held = HeldAction::new(&partners);
    held.release();
    let answers: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..SESSIONS)
            .map(|number| {
                let payload =
                    format!(r#"{{"id": "7", "action": "held", "data": {{"n": {number}}}}}"#);
                let partners = &partners;
                scope.spawn(move || partners.call(&mut partners.session(), &payload))
            })
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().expect("a partner").expect("a call"))
            .collect()
    });
    let ran = held.ran();
    assert!(
        answers.iter().all(|answer| *answer == ran),
        "{ran}: {answers:?}"
    );
}

/// Where the first call is invisible to the second one's snapshot, PostgreSQL has it repeat the transaction.
#[test]
fn no_isolation_lets_one_run_twice() {
    for isolation in ["repeatable read", "serializable"] {
        let partners = Partners::new();
        let held = HeldAction::new(&partners);
        held.release();
        let mut session = partners.session();
        execute(
            &mut session,
            &format!("set default_transaction_isolation = '{isolation}'"),
        );
        let signature = signature(&mut session, SECRET, SECOND);
        let call = |session: &mut Client, between: &mut dyn FnMut()| {
            as_user(session, "anon", "{}", |tx| {
                tx.execute("select pg_catalog.now()", &[])?;
                between();
                let row = tx.query_one(
                    "select public.rpc_plugin_ingest_webhook($1, $2::text::uuid, $3::text::jsonb, $4)::text",
                    &[&PLUGIN, &partners.installation, &SECOND, &signature],
                )?;
                Ok(row.get::<_, String>(0))
            })
        };
        let late = call(&mut session, &mut || {
            let first = partners.call(&mut partners.session(), FIRST);
            assert_eq!(first.expect("the first"), r#"{"n": 1}"#);
        });
        expect_sqlstate(late, "40001");
        let repeated = call(&mut session, &mut || {});
        assert_eq!(repeated.expect(isolation), r#"{"n": 1}"#);
        assert_eq!(held.ran(), r#"{"n": 1}"#, "{isolation}");
    }
}

/// It would lock the installation before the host's rows, and the delete of a tenant locks them the other way
/// round.
#[test]
fn a_call_that_runs_holds_up_no_uninstall() {
    let partners = Partners::new();
    let held = HeldAction::new(&partners);
    thread::scope(|scope| {
        let one = scope.spawn(|| partners.call(&mut partners.session(), FIRST));
        held.wait_for_callers(1);
        let mut admin = partners.admin();
        execute(
            &mut admin,
            &format!(
                "set lock_timeout = '1ms';
                 select public.rpc_uninstall_plugin('{TENANT}', '{}')",
                partners.installation
            ),
        );
        held.release();
        assert_eq!(
            one.join().expect("the call").expect("an answer"),
            r#"{"n": 1}"#
        );
    });
}

#[test]
fn a_session_that_ends_half_way_leaves_no_trace() {
    let partners = Partners::new();
    let held = HeldAction::new(&partners);
    thread::scope(|scope| {
        let one = scope.spawn(|| partners.call(&mut partners.session(), FIRST));
        held.wait_for_callers(1);
        execute(
            &mut partners.admin(),
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and wait_event = 'advisory'",
        );
        expect_sqlstate(one.join().expect("the first"), "57P01");
    });
    held.release();
    let again = partners.call(&mut partners.session(), SECOND);
    assert_eq!(again.expect("the second"), r#"{"n": 2}"#);
}

#[test]
fn an_id_and_a_timestamp_can_be_required() {
    let own = builder()
        .setting("plugin_webhooks.require_inbound_id", "on")
        .start();
    let partners = Partners::on(&own);
    let mut session = partners.session();
    let now = text(
        &mut session,
        "select floor(extract(epoch from clock_timestamp()))::text",
    );
    for payload in [
        NOOP.to_owned(),
        "[]".to_owned(),
        r#"{"id": "a"}"#.to_owned(),
        r#"{"id": "a", "timestamp": null}"#.to_owned(),
        format!(r#"{{"timestamp": {now}}}"#),
        format!(r#"{{"timestamp": {now}, "id": null}}"#),
    ] {
        let refused = partners.call(&mut session, &payload);
        assert!(refused.is_err(), "{payload}");
        expect_sqlstate(refused, "22023");
    }
    let payload = format!(r#"{{"timestamp": {now}, "id": "a"}}"#);
    assert_eq!(
        partners.call(&mut session, &payload).expect("a call"),
        NOOP_ANSWER
    );
    own.alter_system("plugin_webhooks.require_inbound_id", "off");
    let answer = partners.call(&mut partners.session(), NOOP);
    assert_eq!(answer.expect("a call without"), NOOP_ANSWER);
}
