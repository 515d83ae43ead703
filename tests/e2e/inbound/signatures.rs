//! Whose calls get through.

use super::*;

#[test]
fn the_right_one_opens_for_each_role_of_the_interface() {
    let partners = Partners::new();
    let mut session = partners.session();
    let signature = signature(&mut session, SECRET, NOOP);
    for role in ["anon", "authenticated", "service_role"] {
        let answer = ingest_as(
            &mut session,
            role,
            PLUGIN,
            &partners.installation,
            NOOP,
            &signature,
        );
        assert_eq!(answer.expect(role), NOOP_ANSWER);
    }
    let mut stranger = partners.admin();
    execute(
        &mut stranger,
        "do $$ begin create role stranger; exception when duplicate_object then null; end $$",
    );
    let refused = ingest_as(
        &mut stranger,
        "stranger",
        PLUGIN,
        &partners.installation,
        NOOP,
        &signature,
    );
    expect_sqlstate(refused, "42501");
}

#[test]
fn is_over_the_payload_as_postgresql_prints_it() {
    let partners = Partners::new();
    let mut session = partners.session();
    let sent = r#"{"n":12345678901234567890123,"bb":1.10,"a":1, "bb":1.100, "s":"\u00e9\u0041\/","action":"noop"}"#;
    let printed =
        r#"{"a": 1, "n": 12345678901234567890123, "s": "éA/", "bb": 1.100, "action": "noop"}"#;
    let over_printed = sign(SECRET, printed.as_bytes());
    let over_sent = sign(SECRET, sent.as_bytes());
    let answer = ingest(
        &mut session,
        PLUGIN,
        &partners.installation,
        sent,
        &over_printed,
    );
    assert_eq!(answer.expect("a signed call"), NOOP_ANSWER);
    let refused = ingest(
        &mut session,
        PLUGIN,
        &partners.installation,
        sent,
        &over_sent,
    );
    let error = expect_sqlstate(refused, "42501");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("p_payload::text")),
        "the hint says what to sign"
    );
}

#[test]
fn may_be_in_upper_case_and_padded() {
    let partners = Partners::new();
    let mut session = partners.session();
    let good = signature(&mut session, SECRET, NOOP);
    for variant in [
        good.to_uppercase(),
        format!("  {good}"),
        format!("{good}\n"),
        format!("\t{}\r\n", good.to_uppercase()),
    ] {
        let answer = ingest(&mut session, PLUGIN, &partners.installation, NOOP, &variant);
        assert_eq!(answer.expect(&variant), NOOP_ANSWER);
    }
}

#[test]
fn anything_else_is_wrong() {
    let partners = Partners::new();
    let mut session = partners.session();
    let good = signature(&mut session, SECRET, NOOP);
    for wrong in [
        "0".to_owned(),
        good[..63].to_owned(),
        format!("{good}00"),
        format!("sha256={good}"),
        format!("{} {}", &good[..32], &good[32..]),
        "g".repeat(64),
        "é".repeat(64),
        "0".repeat(1_000_000),
        signature(&mut session, OTHER_SECRET, NOOP),
        signature(&mut session, "", NOOP),
        signature(&mut session, SECRET, r#"{"action": "other"}"#),
    ] {
        let refused = ingest(&mut session, PLUGIN, &partners.installation, NOOP, &wrong);
        let error = expect_sqlstate(refused, "42501");
        let told = format!(
            "{} {:?} {:?}",
            error.message(),
            error.detail(),
            error.hint()
        );
        assert!(!told.contains(&good), "the error tells the right signature");
        assert!(!told.contains(SECRET), "the error tells the secret");
    }
    for blank in ["", "   "] {
        let refused = ingest(&mut session, PLUGIN, &partners.installation, NOOP, blank);
        expect_sqlstate(refused, "23514");
    }
}

#[test]
fn of_one_tenant_opens_nothing_of_another() {
    let partners = Partners::new();
    let mut session = partners.session();
    let mine = signature(&mut session, SECRET, NOOP);
    let refused = ingest(
        &mut session,
        PLUGIN,
        &partners.other_installation,
        NOOP,
        &mine,
    );
    expect_sqlstate(refused, "42501");
    let theirs = signature(&mut session, OTHER_SECRET, NOOP);
    let answer = ingest(
        &mut session,
        PLUGIN,
        &partners.other_installation,
        NOOP,
        &theirs,
    );
    assert_eq!(answer.expect("their own call"), NOOP_ANSWER);
}

#[test]
fn without_a_secret_nothing_opens() {
    let partners = Partners::new();
    let mut session = partners.session();
    for change in [
        "update int.plugin_installations set secret_ref = 'no such secret'",
        "update int.plugin_installations set secret_ref = null",
    ] {
        execute(&mut partners.admin(), change);
        for secret in [SECRET, ""] {
            let signature = signature(&mut session, secret, NOOP);
            let refused = ingest(
                &mut session,
                PLUGIN,
                &partners.installation,
                NOOP,
                &signature,
            );
            expect_sqlstate(refused, "28000");
        }
    }
}

#[test]
fn a_replayed_call_is_a_call_like_any_other() {
    let partners = Partners::new();
    let mut session = partners.session();
    for _ in 0..3 {
        assert_eq!(
            partners.call(&mut session, NOOP).expect("a call"),
            NOOP_ANSWER
        );
    }
}
