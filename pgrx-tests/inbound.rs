//! `rpc_plugin_ingest_webhook` and the actions behind it: arguments, the order of checks, and what is
//! refused where. Signatures over a real connection are shown by the end-to-end tests.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::partner::{NOOP, NOOP_ANSWER, SECRET, anon, call, desk, sign, signed};
    use crate::pgrx_tests::support::{
        Caller, Failure, Tenant, early_in_the_minute, operator, plain_role, text, uuid,
    };
    use pgrx::prelude::*;
    use plugin_webhooks_core::signature;

    const BLANKS: [&str; 3] = ["null", "''", r"E' \t\n'"];

    fn refused(tenant: &Tenant, payload: &str, sqlstate: &str) -> Failure {
        anon().refused(&signed(tenant, payload), sqlstate)
    }

    #[pg_extern]
    fn partners_call_as_anon_authenticated_or_service_role() {
        let desk = desk();
        let stranger = Caller::admin(&uuid());
        for role in ["anon", "authenticated", "service_role"] {
            for caller in [Caller::role(role), stranger.as_role(role)] {
                assert_eq!(
                    caller.value(&signed(&desk, NOOP)),
                    NOOP_ANSWER,
                    "{caller:?}"
                );
            }
        }
        let failure = plain_role("plain_partner").refused(&signed(&desk, NOOP), "42501");
        assert!(
            failure
                .message
                .starts_with("permission denied for function"),
            "{failure:?}"
        );
    }

    #[pg_extern]
    fn each_argument_of_a_call_but_the_signature_is_required() {
        let desk = desk();
        let good = [
            "'desk'".to_owned(),
            format!("'{}'", desk.installation),
            text(NOOP),
            text(&sign(SECRET, NOOP)),
        ];
        let names = ["p_plugin_key", "p_installation_id", "p_payload"];
        for (position, name) in names.into_iter().enumerate() {
            let blanks: &[&str] = if position == 0 { &BLANKS } else { &["null"] };
            for blank in blanks {
                let mut arguments = good.clone();
                arguments[position] = (*blank).to_owned();
                let call = format!("public.rpc_plugin_ingest_webhook({})", arguments.join(", "));
                let failure = anon().refused(&call, "23514");
                assert!(failure.message.contains(name), "{failure:?}");
                assert!(failure.hint.is_some_and(|hint| hint.contains(name)));
            }
        }
    }

    #[pg_extern]
    fn a_null_or_blank_signature_is_a_wrong_one() {
        let desk = desk();
        for blank in BLANKS {
            let call = format!(
                "public.rpc_plugin_ingest_webhook('desk', '{}', {}, {blank})",
                desk.installation,
                text(NOOP)
            );
            let failure = anon().refused(&call, "42501");
            assert_eq!(failure.message, "wrong signature");
        }
    }

    #[pg_extern]
    fn the_installation_is_looked_up_before_the_signature_is_read() {
        let desk = desk();
        let other = Tenant::with_plugin("other");
        let wrong = "00";
        for (plugin, installation) in [
            ("desk", uuid().as_str()),
            ("other", &desk.installation),
            ("desk", &other.installation),
            ("DESK", &desk.installation),
            ("unknown", &desk.installation),
            (" desk ", &desk.installation),
        ] {
            for signature in [wrong, &sign(SECRET, NOOP)] {
                anon().refused(&call(plugin, installation, NOOP, signature), "P0001");
            }
        }
    }

    #[pg_extern]
    fn a_switched_off_installation_or_plugin_is_p0001() {
        let desk = desk();
        for (off, on) in [
            (
                "update int.plugin_installations set status = 'disabled'",
                "update int.plugin_installations set status = 'installed'",
            ),
            (
                "update int.plugin_installations set status = 'uninstalled'",
                "update int.plugin_installations set status = 'installed'",
            ),
            (
                "update int.plugins set is_active = false",
                "update int.plugins set is_active = true",
            ),
        ] {
            operator().run(off);
            refused(&desk, NOOP, "P0001");
            operator().run(on);
            assert_eq!(anon().value(&signed(&desk, NOOP)), NOOP_ANSWER);
        }
    }

    #[pg_extern]
    fn without_a_resolvable_secret_a_call_is_28000() {
        let desk = desk();
        for secret_ref in ["null", "''", "'unknown'", r"E'desk_secret\n'"] {
            operator().run(&format!(
                "update int.plugin_installations set secret_ref = {secret_ref}"
            ));
            for secret in [SECRET, ""] {
                let call = call("desk", &desk.installation, NOOP, &sign(secret, NOOP));
                anon().refused(&call, "28000");
            }
        }
    }

    #[pg_extern]
    fn a_wrong_signature_is_42501_whatever_the_action() {
        let desk = desk();
        let good = sign(SECRET, NOOP);
        for payload in [
            NOOP,
            r#"{"action": "unknown"}"#,
            r#"{"action": "work_order.create"}"#,
        ] {
            for signature in [
                sign("other", payload),
                "x".to_owned(),
                sign(SECRET, payload)[1..].to_owned(),
            ] {
                let failure = anon().refused(
                    &call("desk", &desk.installation, payload, &signature),
                    "42501",
                );
                assert!(!format!("{failure:?}").contains(&good), "{failure:?}");
            }
        }
        let padded = format!(" {}\n", good.to_uppercase());
        assert_eq!(
            anon().value(&call("desk", &desk.installation, NOOP, &padded)),
            NOOP_ANSWER
        );
    }

    #[pg_extern]
    fn the_signature_covers_the_payload_as_postgresql_prints_it() {
        let desk = desk();
        for payload in [
            r#"{"b": 1.10, "a": 12345678901234567890123, "action": ""}"#,
            r#"{"n": 1e400, "z": -0.00}"#,
            r#"{"t": "🦀 \u00e9 \u0001 \n \u2028 \" \\ /"}"#,
            r#"[1.0, {"a": []}, null]"#,
            r#""text""#,
            "1.10",
        ] {
            assert_eq!(
                anon().value(&signed(&desk, payload)),
                NOOP_ANSWER,
                "{payload}"
            );
        }
        let doubled = r#"{"a": 1, "a": 2}"#;
        let as_sent = signature::sign(SECRET.as_bytes(), doubled.as_bytes());
        anon().refused(
            &call("desk", &desk.installation, doubled, &as_sent),
            "42501",
        );
    }

    #[pg_extern]
    fn a_payload_blown_up_by_exponents_is_54000() {
        let desk = desk();
        for payload in [
            "jsonb_build_object('n', (select jsonb_agg(1e131071::numeric) from generate_series(1, 10000)))",
            "(select jsonb_agg(1e-16000::numeric) from generate_series(1, 100))",
        ] {
            anon().refused_with_hint(
                &format!(
                    "public.rpc_plugin_ingest_webhook('desk', '{}', {payload}, '00')",
                    desk.installation
                ),
                "54000",
                "exponents",
            );
        }
        assert_eq!(
            anon().value(&signed(&desk, r#"{"n": 1e131071}"#)),
            NOOP_ANSWER
        );
    }

    #[pg_extern]
    fn an_unknown_action_is_22023_and_points_to_the_list() {
        let desk = desk();
        for action in [
            r#""nope""#,
            r#""Noop""#,
            r#""work_order.CREATE""#,
            "7",
            "true",
            "{}",
            r#"["noop"]"#,
        ] {
            let payload = format!(r#"{{"action": {action}}}"#);
            let failure = refused(&desk, &payload, "22023");
            assert!(
                failure
                    .hint
                    .is_some_and(|hint| hint.contains("inbound_actions")),
                "{payload}"
            );
        }
    }

    #[pg_extern]
    fn a_handler_gets_the_installations_tenant_and_the_data() {
        let desk = desk();
        operator().run(
            "create function public.echo(tenant uuid, data jsonb) returns jsonb language sql
             as $$ select jsonb_build_array(tenant, data) $$",
        );
        operator().run("select plugin_webhooks.register_action('echo', 'public.echo(uuid,jsonb)')");
        for (data, got) in [
            (
                r#", "data": {"tenant_id": "x", "n": 1.10}"#,
                r#"{"n": 1.10, "tenant_id": "x"}"#,
            ),
            (r#", "data": [1, "two"]"#, r#"[1, "two"]"#),
            (r#", "data": "text""#, r#""text""#),
            (r#", "data": null"#, "{}"),
            ("", "{}"),
        ] {
            let payload = format!(r#"{{"action": "echo", "tenant": "{}"{data}}}"#, uuid());
            assert_eq!(
                anon().value(&signed(&desk, &payload)),
                format!(r#"["{}", {got}]"#, desk.id)
            );
        }
    }

    #[pg_extern]
    fn work_order_create_names_what_the_database_lacks() {
        let desk = desk();
        let payload = r#"{"action": "work_order.create", "data": {"title": "x"}}"#;
        let failure = refused(&desk, payload, "0A000");
        for object in [
            "app.work_orders",
            "app.pm_schedules",
            "app.projects",
            "app.locations",
            "app.assets",
            "cfg.priority_catalogs",
            "cfg.maintenance_type_catalogs",
            "cfg.get_default_status(uuid,text,jsonb)",
        ] {
            assert!(failure.message.contains(object), "{object}: {failure:?}");
        }
        operator().run("create schema app");
        operator().run(
            "create table app.work_orders (id uuid, tenant_id uuid, title text, description text, priority text,
                 maintenance_type text, assigned_to uuid, location_id uuid, asset_id uuid, due_date timestamptz,
                 pm_schedule_id uuid, project_id uuid, status text)",
        );
        operator().run("select plugin_webhooks.attach_host()");
        let failure = refused(&desk, payload, "0A000");
        assert!(!failure.message.contains("app.work_orders"), "{failure:?}");
        assert!(failure.message.contains("app.assets"), "{failure:?}");
    }

    #[pg_extern]
    fn an_installation_is_called_120_times_a_minute() {
        let desk = desk();
        let second = Tenant::with_installation_of("desk");
        operator().run("update int.plugin_installations set secret_ref = 'desk_secret'");
        early_in_the_minute();
        let (one, two) = (signed(&desk, NOOP), signed(&second, NOOP));
        for _ in 0..120 {
            anon().run(&format!("select {one}"));
        }
        for caller in [anon(), Caller::role("service_role"), operator()] {
            caller.refused_with_hint(&one, "54000", "Wait a minute");
        }
        assert_eq!(anon().value(&two), NOOP_ANSWER);
    }

    #[pg_extern]
    fn only_calls_that_succeed_are_counted() {
        let desk = desk();
        early_in_the_minute();
        let unsigned = call("desk", &desk.installation, NOOP, "00");
        for _ in 0..121 {
            anon().refused(&unsigned, "42501");
            refused(&desk, r#"{"action": "unknown"}"#, "22023");
        }
        let good = signed(&desk, NOOP);
        for _ in 0..120 {
            anon().run(&format!("select {good}"));
        }
        anon().refused(&good, "54000");
        anon().refused(&unsigned, "42501");
    }

    /// The host's function is for users: it raises for none.
    #[pg_extern]
    fn the_hosts_limiter_counts_for_whoever_installed_the_plugin() {
        let desk = desk();
        let user = uuid();
        operator().run("create schema util");
        operator().run("create table util.asked (args text)");
        operator().run(
            "create function util.check_rate_limit(p_operation text, p_key text, p_max int, p_minutes int,
                 p_user uuid, p_tenant uuid) returns boolean language plpgsql as
             $$ begin
                 if p_user is null then raise exception 'nobody' using errcode = '28000'; end if;
                 insert into util.asked
                     values (concat_ws(' ', p_operation, p_key, p_max, p_minutes, p_user, p_tenant));
                 return (select count(*) <= p_max from util.asked);
             end $$",
        );
        operator().run("select plugin_webhooks.attach_host()");
        let good = signed(&desk, NOOP);
        early_in_the_minute();
        for _ in 0..120 {
            assert_eq!(anon().value(&good), NOOP_ANSWER);
        }
        anon().refused_with_hint(&good, "54000", "Wait a minute");
        assert_eq!(operator().count("util.asked"), 0);

        operator().run(&format!(
            "update int.plugin_installations set installed_by = '{user}'"
        ));
        for _ in 0..120 {
            assert_eq!(anon().value(&good), NOOP_ANSWER);
        }
        anon().refused_with_hint(&good, "54000", "Wait a minute");
        assert_eq!(
            operator().rows("select distinct args from util.asked"),
            [format!(
                "(\"rpc_plugin_ingest_webhook {} 120 1 {user} {}\")",
                desk.installation, desk.id
            )]
        );
    }

    #[pg_extern]
    fn a_partner_cannot_tell_why_there_is_no_secret() {
        let desk = desk();
        let failures: Vec<String> = ["null", "'unknown'", "''", "'unreadable'"]
            .iter()
            .map(|secret_ref| {
                operator().run(&format!(
                    "update int.plugin_installations set secret_ref = {secret_ref}"
                ));
                if *secret_ref == "'unreadable'" {
                    operator().run(
                        "update plugin_webhooks.secrets set name = 'unreadable', ciphertext = '\\x00'",
                    );
                }
                format!("{:?}", refused(&desk, NOOP, "28000"))
            })
            .collect();
        assert!(
            failures.iter().all(|failure| *failure == failures[0]),
            "{failures:#?}"
        );
    }

    #[pg_extern]
    fn an_error_of_the_vault_is_for_the_server_log() {
        let desk = desk();
        let of_the_store = {
            operator().run("update int.plugin_installations set secret_ref = null");
            format!("{:?}", refused(&desk, NOOP, "28000"))
        };
        operator().run("update int.plugin_installations set secret_ref = 'desk_secret'");
        operator().run("create schema vault");
        operator().run(
            "create function vault.decrypt(name text) returns text language plpgsql as
             $$ begin raise exception 'the root key is not in /etc/vault' using hint = name; end $$",
        );
        operator().run(
            "create view vault.decrypted_secrets as
             select 'desk_secret'::text as name, vault.decrypt('desk_secret') as decrypted_secret",
        );
        operator().run("select plugin_webhooks.attach_host()");
        assert_eq!(format!("{:?}", refused(&desk, NOOP, "28000")), of_the_store);
    }

    #[pg_extern]
    fn an_operator_runs_actions_without_a_signature() {
        let tenant = uuid();
        let apply = |arguments: &str| format!("int.plugin_webhook_apply_action({arguments})");
        for arguments in [
            format!("'{tenant}', 'noop', '{{}}'"),
            format!("'{tenant}', 'noop', null"),
            format!("'{tenant}', null, null"),
            format!("'{tenant}', ' ', '[]'"),
            format!("p_tenant_id => '{tenant}', p_action => ' noop ', p_data => '{{}}'"),
        ] {
            assert_eq!(
                operator().value(&apply(&arguments)),
                NOOP_ANSWER,
                "{arguments}"
            );
        }
        operator().refused(&apply("null, 'noop', null"), "23514");
        operator().refused(&apply(&format!("'{tenant}', 'nope', null")), "22023");
        operator().refused(
            &apply(&format!("'{tenant}', 'work_order.create', '{{}}'")),
            "0A000",
        );
    }
}
