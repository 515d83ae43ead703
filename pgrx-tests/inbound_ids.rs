//! What a signed payload may say about itself: for which installation, when, and as which call, which then runs
//! once. Two sessions with one id are shown by the end-to-end tests.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::partner::{NOOP_ANSWER, anon, desk, signed};
    use crate::pgrx_tests::support::{Failure, Tenant, operator, uuid};
    use pgrx::prelude::*;

    fn answer(tenant: &Tenant, payload: &str) -> String {
        anon().value(&signed(tenant, payload))
    }

    fn refused(tenant: &Tenant, payload: &str, sqlstate: &str) -> Failure {
        anon().refused(&signed(tenant, payload), sqlstate)
    }

    /// An action that writes its data to `public.ledger` and answers how many have.
    fn ledger() {
        operator().run("create table public.ledger (entry jsonb)");
        operator().run(
            "create function public.enter(tenant uuid, data jsonb) returns jsonb language plpgsql as
             $$ begin
                 insert into public.ledger values (data);
                 if data ? 'fail' then raise exception 'no' using errcode = '23514'; end if;
                 return jsonb_build_object('entries', (select count(*) from public.ledger));
             end $$",
        );
        operator()
            .run("select plugin_webhooks.register_action('enter', 'public.enter(uuid,jsonb)')");
    }

    fn entries() -> i64 {
        operator().count("public.ledger")
    }

    /// Unix time, early in its second: a test reads the clock, and the extension shortly after.
    fn now() -> i64 {
        loop {
            let clock: f64 = operator()
                .value("extract(epoch from clock_timestamp())")
                .parse()
                .unwrap();
            if clock.fract() < 0.5 {
                return clock as i64;
            }
        }
    }

    #[pg_extern]
    fn a_payload_may_name_the_installation_it_is_for() {
        let desk = desk();
        let id = &desk.installation;
        for own in [id.clone(), id.to_uppercase(), id.replace('-', "")] {
            let payload = format!(r#"{{"installation_id": "{own}"}}"#);
            assert_eq!(answer(&desk, &payload), NOOP_ANSWER);
        }
        let other = format!("\"{}\"", uuid());
        for other in [
            other.as_str(),
            "null",
            "1",
            "\"\"",
            "\"x\"",
            "[]",
            "{}",
            "true",
        ] {
            refused(
                &desk,
                &format!(r#"{{"installation_id": {other}}}"#),
                "42501",
            );
        }
        let inside = format!(r#"{{"installation_id": ["{id}"]}}"#);
        refused(&desk, &inside, "42501");
    }

    #[pg_extern]
    fn a_timestamp_may_be_300_seconds_off_and_no_more() {
        let desk = desk();
        for (off, good) in [
            (-301, false),
            (-300, true),
            (0, true),
            (300, true),
            (302, false),
        ] {
            let payload = format!(r#"{{"timestamp": {}}}"#, now() + off);
            if good {
                assert_eq!(answer(&desk, &payload), NOOP_ANSWER, "{off}");
            } else {
                let failure = refused(&desk, &payload, "42501");
                assert!(failure.message.contains("timestamp"), "{failure:?}");
            }
        }
        let fraction = format!(r#"{{"timestamp": {}.25}}"#, now());
        assert_eq!(answer(&desk, &fraction), NOOP_ANSWER);
        for far in ["0", "-1", "1e400", "-1e131071", "1e-16000", "9.99e131071"] {
            refused(&desk, &format!(r#"{{"timestamp": {far}}}"#), "42501");
        }
    }

    #[pg_extern]
    fn a_timestamp_is_a_json_number() {
        let desk = desk();
        let text = format!("\"{}\"", now());
        for wrong in [text.as_str(), "null", "true", "[]", "{}", "\"\""] {
            let failure = refused(&desk, &format!(r#"{{"timestamp": {wrong}}}"#), "22023");
            assert!(failure.hint.is_some_and(|hint| hint.contains("number")));
        }
    }

    #[pg_extern]
    fn an_id_is_a_text_of_1_to_200_characters() {
        let desk = desk();
        for length in [1, 200] {
            for letter in ["x", "é", "🦀", " "] {
                let payload = format!(r#"{{"id": "{}"}}"#, letter.repeat(length));
                assert_eq!(answer(&desk, &payload), NOOP_ANSWER, "{letter} {length}");
            }
        }
        let long = format!("\"{}\"", "x".repeat(201));
        for wrong in [long.as_str(), "\"\"", "null", "7", "true", "[\"x\"]", "{}"] {
            let failure = refused(&desk, &format!(r#"{{"id": {wrong}}}"#), "22023");
            assert!(failure.message.len() < 100, "{failure:?}");
            assert!(
                failure
                    .hint
                    .is_some_and(|hint| hint.contains("200 characters"))
            );
        }
    }

    #[pg_extern]
    fn what_is_no_object_has_no_members() {
        let desk = desk();
        for payload in [r#"["id", "timestamp", "installation_id"]"#, r#""id""#, "1"] {
            assert_eq!(answer(&desk, payload), NOOP_ANSWER, "{payload}");
        }
    }

    #[pg_extern]
    fn the_same_id_runs_once_and_is_answered_again() {
        let desk = desk();
        ledger();
        for later in [
            r#"{"id": "a", "action": "enter"}"#,
            r#"{"id": "a", "action": "enter"}"#,
            r#"{"id": "a", "action": "enter", "data": {"other": 1}}"#,
            r#"{"id": "a"}"#,
            r#"{"id": "a", "action": "unknown"}"#,
        ] {
            assert_eq!(answer(&desk, later), r#"{"entries": 1}"#, "{later}");
        }
        assert_eq!(entries(), 1);
        for next in [
            r#"{"id": "A", "action": "enter"}"#,
            r#"{"id": "a ", "action": "enter"}"#,
        ] {
            answer(&desk, next);
        }
        answer(&desk, r#"{"action": "enter"}"#);
        answer(&desk, r#"{"action": "enter"}"#);
        assert_eq!(entries(), 5, "other ids, and calls without one, run");
    }

    #[pg_extern]
    fn an_answer_comes_again_as_it_was() {
        let desk = desk();
        operator().run(
            "create function public.say(tenant uuid, data jsonb) returns jsonb language sql as
             $$ select data -> 'say' $$",
        );
        operator().run("select plugin_webhooks.register_action('say', 'public.say(uuid,jsonb)')");
        for (number, said) in [
            r#"{"bb": 1.10, "a": 12345678901234567890123}"#,
            "null",
            "[]",
            r#""é\n""#,
        ]
        .into_iter()
        .enumerate()
        {
            let payload =
                format!(r#"{{"id": "{number}", "action": "say", "data": {{"say": {said}}}}}"#);
            let first = answer(&desk, &payload);
            assert_eq!(answer(&desk, &payload), first);
        }
        let nothing = r#"{"id": "none", "action": "say"}"#;
        for _ in 0..2 {
            assert_eq!(answer(&desk, nothing), r#"{"ok": true, "action": "say"}"#);
        }
    }

    #[pg_extern]
    fn an_id_is_one_of_an_installation() {
        let desk = desk();
        ledger();
        let other = Tenant::with_installation_of("desk");
        operator().run("update int.plugin_installations set secret_ref = 'desk_secret'");
        let payload = r#"{"id": "a", "action": "enter"}"#;
        answer(&desk, payload);
        assert_eq!(answer(&other, payload), r#"{"entries": 2}"#);
    }

    #[pg_extern]
    fn a_call_that_fails_leaves_no_trace_of_its_id() {
        let desk = desk();
        ledger();
        refused(
            &desk,
            r#"{"id": "a", "action": "enter", "data": {"fail": 1}}"#,
            "23514",
        );
        refused(&desk, r#"{"id": "a", "action": "unknown"}"#, "22023");
        assert_eq!(operator().count("plugin_webhooks.inbound_ids"), 0);
        assert_eq!(
            answer(&desk, r#"{"id": "a", "action": "enter"}"#),
            r#"{"entries": 1}"#
        );
    }

    #[pg_extern]
    fn a_known_id_excuses_no_other_member() {
        let desk = desk();
        answer(&desk, r#"{"id": "a"}"#);
        refused(&desk, r#"{"id": "a", "timestamp": 1}"#, "42501");
        refused(&desk, r#"{"id": 7, "timestamp": 1}"#, "42501");
        refused(&desk, r#"{"id": "a", "timestamp": "1"}"#, "22023");
        refused(
            &desk,
            &format!(r#"{{"id": "a", "installation_id": "{}"}}"#, uuid()),
            "42501",
        );
    }

    #[pg_extern]
    fn a_longer_answer_than_64_kib_is_refused_where_it_would_be_kept() {
        let desk = desk();
        operator().run(
            "create function public.blow(tenant uuid, data jsonb) returns jsonb language sql as
             $$ select to_jsonb(repeat('x', (data ->> 'length')::int - 2)) $$",
        );
        operator().run("select plugin_webhooks.register_action('blow', 'public.blow(uuid,jsonb)')");
        let call = |length: usize, id: &str| {
            format!(r#"{{{id} "action": "blow", "data": {{"length": {length}}}}}"#)
        };
        assert_eq!(answer(&desk, &call(65_536, r#""id": "a","#)).len(), 65_536);
        assert_eq!(answer(&desk, &call(7, r#""id": "a","#)).len(), 65_536);
        refused(&desk, &call(65_537, r#""id": "b","#), "54000");
        assert_eq!(answer(&desk, &call(65_537, "")).len(), 65_537);
    }

    #[pg_extern]
    fn an_action_cannot_call_itself_with_its_id() {
        let desk = desk();
        let inner = signed(&desk, r#"{"id": "a"}"#);
        operator().run(&format!(
            "create function public.again(tenant uuid, data jsonb) returns jsonb language sql as
             $again$ select {inner} $again$"
        ));
        operator()
            .run("select plugin_webhooks.register_action('again', 'public.again(uuid,jsonb)')");
        refused(&desk, r#"{"id": "a", "action": "again"}"#, "55006");
    }

    #[pg_extern]
    fn ids_go_with_their_installation() {
        let desk = desk();
        let other = Tenant::with_installation_of("desk");
        operator().run("update int.plugin_installations set secret_ref = 'desk_secret'");
        answer(&desk, r#"{"id": "a"}"#);
        answer(&other, r#"{"id": "a"}"#);
        operator().run(&format!(
            "select public.rpc_uninstall_plugin('{}', '{}')",
            desk.id, desk.installation
        ));
        assert_eq!(
            operator().rows("select plugin_installation_id from plugin_webhooks.inbound_ids"),
            [format!("({})", other.installation)]
        );
    }
}
