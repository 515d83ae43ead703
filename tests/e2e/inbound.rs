//! Partners call in: who gets through `rpc_plugin_ingest_webhook`, and what a body may do.

use std::thread;
use std::time::Duration;

use plugin_webhooks_kit::postgres::{Client, Error};
use plugin_webhooks_kit::{
    Database, as_user, create_supabase_roles, execute, expect_sqlstate, quote_literal,
    shared_server, sign, text,
};

const PLUGIN: &str = "desk";
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const OTHER_TENANT: &str = "22222222-2222-2222-2222-222222222222";
const SECRET: &str = "the tenant's secret ä€";
const OTHER_SECRET: &str = "the other tenant's secret";
const NOOP: &str = r#"{"action": "noop"}"#;
const NOOP_ANSWER: &str = r#"{"ok": true, "action": "noop"}"#;

/// A database with one plugin that two tenants installed, each with a secret of its own.
struct Partners {
    database: Database,
    installation: String,
    other_installation: String,
}

impl Partners {
    #[track_caller]
    fn new() -> Partners {
        let database = shared_server().database_with(create_supabase_roles);
        let mut admin = database.client();
        execute(
            &mut admin,
            &format!(
                "select plugin_webhooks.create_secret({}, 'one'), plugin_webhooks.create_secret({}, 'two');
                 select public.rpc_register_plugin('{PLUGIN}', 'Desk'), public.rpc_register_plugin('unused', 'Unused')",
                quote_literal(SECRET),
                quote_literal(OTHER_SECRET)
            ),
        );
        Partners {
            installation: install(&mut admin, TENANT, PLUGIN, "one"),
            other_installation: install(&mut admin, OTHER_TENANT, PLUGIN, "two"),
            database,
        }
    }

    fn admin(&self) -> Client {
        self.database.client()
    }

    fn session(&self) -> Client {
        self.database.authenticator()
    }

    /// A signed call of `anon`.
    fn call(&self, session: &mut Client, payload: &str) -> Result<String, Error> {
        let signature = signature(session, SECRET, payload);
        ingest(session, PLUGIN, &self.installation, payload, &signature)
    }
}

#[track_caller]
fn install(admin: &mut Client, tenant: &str, plugin: &str, secret_ref: &str) -> String {
    text(
        admin,
        &format!("select public.rpc_install_plugin('{tenant}', '{plugin}', '{secret_ref}')::text"),
    )
}

/// What a partner who knows PostgreSQL's way to print jsonb signs.
fn signature(session: &mut Client, secret: &str, payload: &str) -> String {
    let row = session.query_one("select $1::text::jsonb::text", &[&payload]);
    let printed: String = row.expect("print the payload").get(0);
    sign(secret, printed.as_bytes())
}

/// The call as PostgREST makes it for `role` without a user session.
fn ingest_as(
    session: &mut Client,
    role: &str,
    plugin: &str,
    installation: &str,
    payload: &str,
    signature: &str,
) -> Result<String, Error> {
    as_user(session, role, &format!(r#"{{"role":"{role}"}}"#), |tx| {
        let row = tx.query_one(
            "select public.rpc_plugin_ingest_webhook(p_plugin_key => $1, p_installation_id => $2::text::uuid,
                 p_payload => $3::text::jsonb, p_signature => $4)::text",
            &[&plugin, &installation, &payload, &signature],
        )?;
        Ok(row.get(0))
    })
}

fn ingest(
    session: &mut Client,
    plugin: &str,
    installation: &str,
    payload: &str,
    signature: &str,
) -> Result<String, Error> {
    ingest_as(session, "anon", plugin, installation, payload, signature)
}

mod signatures {
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
}

mod lookup {
    use super::*;

    #[track_caller]
    fn unknown(session: &mut Client, plugin: &str, installation: &str) {
        let signature = signature(session, SECRET, NOOP);
        expect_sqlstate(
            ingest(session, plugin, installation, NOOP, &signature),
            "P0001",
        );
    }

    #[test]
    fn knows_only_the_installations_of_that_plugin() {
        let partners = Partners::new();
        let mut session = partners.session();
        let random = text(&mut session, "select gen_random_uuid()::text");
        unknown(&mut session, PLUGIN, &random);
        unknown(&mut session, "unused", &partners.installation);
        unknown(&mut session, "Desk", &partners.installation);
        unknown(&mut session, "desk' or '1'='1", &partners.installation);
    }

    #[test]
    fn skips_what_is_switched_off_until_it_is_on_again() {
        let partners = Partners::new();
        let (mut admin, mut session) = (partners.admin(), partners.session());
        let installation = &partners.installation;
        for status in ["disabled", "uninstalled"] {
            execute(
                &mut admin,
                &format!(
                    "select public.rpc_update_plugin_installation('{TENANT}', '{installation}', '{status}')"
                ),
            );
            unknown(&mut session, PLUGIN, installation);
        }
        execute(
            &mut admin,
            &format!(
                "select public.rpc_update_plugin_installation('{TENANT}', '{installation}', 'installed')"
            ),
        );
        partners.call(&mut session, NOOP).expect("installed again");
        execute(
            &mut admin,
            &format!("select public.rpc_register_plugin('{PLUGIN}', 'Desk', p_is_active => false)"),
        );
        unknown(&mut session, PLUGIN, installation);
        execute(
            &mut admin,
            &format!("select public.rpc_register_plugin('{PLUGIN}', 'Desk')"),
        );
        partners.call(&mut session, NOOP).expect("active again");
        execute(
            &mut admin,
            &format!("select public.rpc_uninstall_plugin('{TENANT}', '{installation}')"),
        );
        unknown(&mut session, PLUGIN, installation);
    }

    #[test]
    fn sees_a_new_secret_at_once() {
        let partners = Partners::new();
        let mut session = partners.session();
        partners.call(&mut session, NOOP).expect("the old secret");
        execute(
            &mut partners.admin(),
            "select plugin_webhooks.update_secret(id, 'rotated') from plugin_webhooks.secret_names where name = 'one'",
        );
        expect_sqlstate(partners.call(&mut session, NOOP), "42501");
        let rotated = signature(&mut session, "rotated", NOOP);
        let answer = ingest(&mut session, PLUGIN, &partners.installation, NOOP, &rotated);
        assert_eq!(answer.expect("the new secret"), NOOP_ANSWER);
    }
}

mod payloads {
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
}

mod limits {
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
                            let answer =
                                ingest(&mut session, PLUGIN, installation, NOOP, &signature);
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
                            let answers =
                                (0..CALLS).map(|_| partners.call(&mut session, NOOP).is_ok());
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
}

mod registered_actions {
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
        execute(&mut admin, "drop function desk.handle(uuid, jsonb)");
        assert!(partners.call(&mut session, CALL).is_err());
        execute(
            &mut admin,
            "select plugin_webhooks.unregister_action('ticket.open')",
        );
        expect_sqlstate(partners.call(&mut session, CALL), "22023");
    }
}
