//! How often a partner may call, and who notices.

use std::thread;

use super::*;

fn minute(session: &mut Client) -> String {
    text(
        session,
        "select date_trunc('minute', clock_timestamp())::text",
    )
}

#[test]
fn are_120_calls_a_minute_for_each_installation() {
    // A minute may end while we count: then others count again, whose minute nobody has used.
    let counted = (0..3).find_map(|_| {
        let partners = Partners::new();
        let mut session = partners.session();
        let started = minute(&mut session);
        let mut good = 0;
        let refused = loop {
            match partners.call(&mut session, NOOP) {
                Ok(_) => good += 1,
                Err(error) => break error,
            }
            assert!(good <= 240, "there is no limit");
        };
        let theirs = signature(&mut session, OTHER_SECRET, NOOP);
        let other = ingest(
            &mut session,
            PLUGIN,
            &partners.other_installation,
            NOOP,
            &theirs,
        );
        let still = partners.call(&mut session, NOOP);
        (minute(&mut session) == started).then_some((good, refused, other, still))
    });
    let (good, refused, other, still) = counted.expect("a minute long enough");
    assert_eq!(good, 120);
    expect_sqlstate::<()>(Err(refused), "54000");
    assert_eq!(
        other.expect("another installation is not affected"),
        NOOP_ANSWER
    );
    expect_sqlstate(still, "54000");
}

#[test]
fn many_partners_at_once_do_not_meet() {
    const PARTNERS: usize = 12;
    const CALLS: usize = 40;
    let partners = Partners::new();
    let mut admin = partners.admin();
    let installations: Vec<String> = (0..PARTNERS)
        .map(|number| {
            let tenant = format!("33333333-3333-3333-3333-{number:012}");
            install(&mut admin, &tenant, PLUGIN, "one")
        })
        .collect();
    thread::scope(|scope| {
        let calls: Vec<_> = installations
            .iter()
            .map(|installation| {
                let mut session = partners.session();
                scope.spawn(move || {
                    let signature = signature(&mut session, SECRET, NOOP);
                    for _ in 0..CALLS {
                        let answer = ingest(&mut session, PLUGIN, installation, NOOP, &signature);
                        assert_eq!(answer.expect("a call"), NOOP_ANSWER);
                    }
                })
            })
            .collect();
        for call in calls {
            call.join().expect("a partner");
        }
    });
}

#[test]
fn hold_for_concurrent_calls_of_one_installation() {
    const SESSIONS: usize = 8;
    const CALLS: usize = 30;
    let partners = Partners::new();
    let counted = (0..3).find_map(|_| {
        let mut session = partners.session();
        let started = minute(&mut session);
        execute(
            &mut partners.admin(),
            "truncate plugin_webhooks.rate_limits",
        );
        let good: usize = thread::scope(|scope| {
            let calls: Vec<_> = (0..SESSIONS)
                .map(|_| {
                    let mut session = partners.session();
                    let partners = &partners;
                    scope.spawn(move || {
                        let answers = (0..CALLS).map(|_| partners.call(&mut session, NOOP).is_ok());
                        answers.filter(|good| *good).count()
                    })
                })
                .collect();
            calls
                .into_iter()
                .map(|call| call.join().expect("a session"))
                .sum()
        });
        (minute(&mut session) == started).then_some(good)
    });
    assert_eq!(counted, Some(120));
}

/// All are at work at once, and others get through meanwhile.
#[test]
fn let_slow_calls_of_one_installation_run_side_by_side() {
    const SESSIONS: usize = 20;
    let partners = Partners::new();
    let held = HeldAction::new(&partners);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..SESSIONS)
            .map(|_| {
                let mut session = partners.session();
                let partners = &partners;
                scope.spawn(move || partners.call(&mut session, HeldAction::CALL))
            })
            .collect();
        held.wait_for_callers(SESSIONS);
        let other = partners.call(&mut partners.session(), NOOP);
        assert_eq!(other.expect("a call meanwhile"), NOOP_ANSWER);
        held.release();
        for call in calls {
            call.join().expect("a partner").expect("a slow call");
        }
    });
}

#[test]
fn are_not_used_up_by_strangers() {
    let partners = Partners::new();
    let mut session = partners.session();
    for _ in 0..150 {
        let refused = ingest(&mut session, PLUGIN, &partners.installation, NOOP, "00");
        expect_sqlstate(refused, "42501");
    }
    partners
        .call(&mut session, NOOP)
        .expect("the partner's call");
    let written = text(
        &mut partners.admin(),
        "select string_agg(hits::text, ' ') from plugin_webhooks.rate_limits",
    );
    assert_eq!(written, "1");
}
