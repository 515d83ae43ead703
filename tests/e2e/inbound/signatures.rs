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
        String::new(),
        "   ".to_owned(),
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
fn cover_no_time_and_no_number_unless_the_payload_has_them() {
    let partners = Partners::new();
    let mut session = partners.session();
    for _ in 0..3 {
        assert_eq!(
            partners.call(&mut session, NOOP).expect("a replayed call"),
            NOOP_ANSWER
        );
    }
}

/// The counter of the installation is locked until the first call's transaction ends.
#[test]
fn that_are_wrong_wait_for_nobody() {
    let partners = Partners::new();
    let mut session = partners.session();
    let good = signature(&mut session, SECRET, NOOP);
    let mut first = partners.admin();
    let mut open = first.transaction().expect("a transaction");
    open.execute(
        "select public.rpc_plugin_ingest_webhook($1, $2::text::uuid, $3::text::jsonb, $4)",
        &[&PLUGIN, &partners.installation, &NOOP, &good],
    )
    .expect("a good call");
    execute(&mut session, "set lock_timeout = '1ms'");
    let refused = ingest(&mut session, PLUGIN, &partners.installation, NOOP, "00");
    expect_sqlstate(refused, "42501");
    // What this holds for: a good one would wait.
    expect_sqlstate(partners.call(&mut session, NOOP), "55P03");
    open.commit().expect("commit");
    partners.call(&mut session, NOOP).expect("the next call");
}
