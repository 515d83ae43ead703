//! What operators call: actions, grants, scheduling, health.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Tenant, log_inserts, operator, text};
    use pgrx::prelude::*;

    const SHAPE: &str = "(tenant uuid, data jsonb) returns jsonb";

    /// A handler `public.<name>` that answers with its own name.
    fn handler(name: &str) {
        operator().run(&format!(
            "create function public.{name}(uuid, jsonb) returns jsonb language sql as $$ \
            select to_jsonb('{name}'::text) $$"
        ));
    }

    fn register(action: &str, handler: &str) {
        operator().run(&format!(
            "select plugin_webhooks.register_action({}, '{handler}(uuid,jsonb)')",
            text(action)
        ));
    }

    fn apply(action: &str) -> String {
        operator().value(&format!(
            "int.plugin_webhook_apply_action(gen_random_uuid(), {}, '{{}}')",
            text(action)
        ))
    }

    fn registered() -> Vec<String> {
        operator().rows(
            "select action, handler from plugin_webhooks.inbound_actions where not built_in order by action",
        )
    }

    #[pg_extern]
    fn the_allowlist_starts_with_the_two_built_in_actions() {
        assert_eq!(
            operator().rows("select * from plugin_webhooks.inbound_actions order by action"),
            ["(noop,,t)", "(work_order.create,,t)"]
        );
    }

    #[pg_extern]
    fn actions_are_listed_and_run_until_they_are_unregistered() {
        handler("open");
        operator().run("create schema \"My Desk\"");
        operator().run(
            "create function \"My Desk\".\"Close It\"(uuid, jsonb) returns jsonb language sql as $$ \
            select '\"closed\"'::jsonb $$",
        );
        let answer = operator().value(
            "plugin_webhooks.register_action(action => ' ticket.open ', handler => 'public.open(uuid,jsonb)')",
        );
        assert_eq!(answer, "", "the function returns nothing");
        register("ticket.close", "\"My Desk\".\"Close It\"");
        assert_eq!(
            registered(),
            [
                "(ticket.close,\"\"\"My Desk\"\".\"\"Close It\"\"(uuid,jsonb)\")",
                "(ticket.open,\"public.open(uuid,jsonb)\")"
            ]
        );
        assert_eq!(apply("ticket.open"), "\"open\"");
        assert_eq!(apply("ticket.close"), "\"closed\"");
        let answer = operator().value("plugin_webhooks.unregister_action(action => 'ticket.open')");
        assert_eq!(answer, "", "the function returns nothing");
        assert_eq!(registered().len(), 1);
        operator().refused(
            "int.plugin_webhook_apply_action(gen_random_uuid(), 'ticket.open', null)",
            "22023",
        );
    }

    #[pg_extern]
    fn registering_an_action_again_changes_its_handler() {
        handler("first");
        handler("second");
        register("ticket.open", "public.first");
        register("ticket.open", "public.second");
        assert_eq!(
            registered(),
            ["(ticket.open,\"public.second(uuid,jsonb)\")"]
        );
        assert_eq!(apply("ticket.open"), "\"second\"");
    }

    #[pg_extern]
    fn names_of_actions_are_words_joined_by_dots() {
        handler("open");
        let longest = format!("a.{}", "b".repeat(98));
        for good in ["a", "ticket", "ticket.open", "a.b.c_d.9", longest.as_str()] {
            register(good, "public.open");
            assert_eq!(apply(good), "\"open\"");
        }
        for bad in [
            "Ticket",
            "ticket open",
            "ticket-open",
            ".open",
            "open.",
            "a..b",
            "größe",
            "a;b",
            &format!("{longest}b"),
        ] {
            let call = format!(
                "plugin_webhooks.register_action({}, 'public.open(uuid,jsonb)')",
                text(bad)
            );
            operator().refused_with_hint(&call, "23514", "joined by dots");
        }
        for blank in ["null", "''", "'  '"] {
            for call in [
                format!("register_action({blank}, 'public.open(uuid,jsonb)')"),
                format!("unregister_action({blank})"),
            ] {
                operator().refused_with_hint(
                    &format!("plugin_webhooks.{call}"),
                    "23514",
                    "neither null nor blank",
                );
            }
        }
        operator().refused("plugin_webhooks.register_action('a.b', null)", "23514");
    }

    #[pg_extern]
    fn built_in_actions_cannot_be_changed() {
        handler("open");
        for action in ["noop", "work_order.create", " noop "] {
            operator().refused(
                &format!("plugin_webhooks.register_action('{action}', 'public.open(uuid,jsonb)')"),
                "42710",
            );
            operator().refused(
                &format!("plugin_webhooks.unregister_action('{action}')"),
                "42710",
            );
        }
        assert_eq!(apply("noop"), r#"{"ok": true, "action": "noop"}"#);
    }

    #[pg_extern]
    fn an_action_that_is_not_registered_cannot_be_unregistered() {
        operator().refused("plugin_webhooks.unregister_action('ticket.open')", "P0001");
    }

    #[pg_extern]
    fn a_function_of_another_shape_is_42p13() {
        for (function, signature) in [
            (
                "function f(jsonb, uuid) returns jsonb language sql as 'select $1'",
                "f(jsonb,uuid)",
            ),
            (
                "function f(uuid) returns jsonb language sql as 'select null::jsonb'",
                "f(uuid)",
            ),
            (
                "function f(uuid, json) returns jsonb language sql as 'select $2::jsonb'",
                "f(uuid,json)",
            ),
            (
                "function f(uuid, jsonb) returns json language sql as 'select $2::json'",
                "f(uuid,jsonb)",
            ),
            (
                "function f(uuid, jsonb) returns setof jsonb language sql as 'select $2'",
                "f(uuid,jsonb)",
            ),
            (
                "function f(uuid, jsonb, text default '') returns jsonb language sql as 'select $2'",
                "f(uuid,jsonb,text)",
            ),
            (
                "function f(uuid, jsonb) returns void language sql as ''",
                "f(uuid,jsonb)",
            ),
            (
                "procedure f(uuid, jsonb) language sql as ''",
                "f(uuid,jsonb)",
            ),
        ] {
            operator().run(&format!("create {function}"));
            let call = format!("plugin_webhooks.register_action('ticket.open', '{signature}')");
            operator().refused_with_hint(&call, "42P13", SHAPE);
            operator().run(&format!("drop routine {signature}"));
        }
        for built_in in ["pg_catalog.now()", "pg_catalog.pg_sleep(float8)"] {
            operator().refused(
                &format!("plugin_webhooks.register_action('ticket.open', '{built_in}')"),
                "42P13",
            );
        }
        operator().refused(
            "plugin_webhooks.register_action('ticket.open', 4294967295::oid::regprocedure)",
            "42P13",
        );
        operator().refused(
            "plugin_webhooks.register_action('ticket.open', 'no_such_function(uuid,jsonb)')",
            "42883",
        );
        assert_eq!(registered(), [""; 0]);
    }

    #[pg_extern]
    fn a_handler_may_be_strict_and_answer_with_null() {
        operator().run(
            "create function public.silent(uuid, jsonb) returns jsonb strict language sql as $$ select null::jsonb $$",
        );
        register("ticket.open", "public.silent");
        assert_eq!(
            apply("ticket.open"),
            r#"{"ok": true, "action": "ticket.open"}"#
        );
    }

    #[pg_extern]
    fn grants_can_be_repeated_and_tell_the_roles() {
        for _ in 0..2 {
            assert_eq!(
                operator().value("plugin_webhooks.grant_to_roles()"),
                "{anon,authenticated,service_role}"
            );
        }
    }

    #[pg_extern]
    fn schedule_processor_without_pg_cron_is_0a000() {
        for call in ["schedule_processor()", "schedule_processor('*/5 * * * *')"] {
            operator().refused_with_hint(&format!("plugin_webhooks.{call}"), "0A000", "pg_cron");
        }
    }

    #[pg_extern]
    fn schedule_processor_asks_pg_cron_for_the_job_of_the_interface() {
        operator().run("create schema cron");
        operator().run("create table cron.asked (job text, schedule text, command text)");
        operator().run(
            "create function cron.schedule(text, text, text) returns bigint language sql
             as $$ insert into cron.asked values ($1, $2, $3) returning 42::bigint $$",
        );
        let schedule = |arguments: &str| {
            operator().run(&format!(
                "create temp table job on commit drop as select plugin_webhooks.schedule_processor({arguments}) as id"
            ));
            let id = operator().value("select id from job");
            operator().run("drop table job");
            id
        };
        assert_eq!(schedule(""), "42");
        assert_eq!(schedule("schedule => '*/5 * * * *'"), "42");
        assert_eq!(
            operator().rows("select * from cron.asked"),
            ["* * * * *", "*/5 * * * *"].map(|schedule| format!(
                "(plugin_webhook_process,\"{schedule}\",\"select public.rpc_process_plugin_deliveries(50)\")"
            ))
        );
    }

    #[pg_extern]
    fn health_counts_what_waits_is_sent_and_died() {
        let columns = "pending, due, sending, dead_last_hour, oldest_due_at = now() - interval '5 min' as oldest,
                       oldest_due_age";
        let health = || operator().rows(&format!("select {columns} from plugin_webhooks.health"));
        assert_eq!(health(), ["(0,0,0,0,,)"]);
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("app", "orders");
        log_inserts(&tenant.id, "app", "orders", 7);
        let set = |record: &str, values: &str| {
            operator().run(&format!(
                "update int.plugin_delivery_queue set {values} where payload #>> '{{audit,record_id}}' = '{record}'"
            ));
        };
        set("1", "next_attempt_at = now() - interval '5 min'");
        set("2", "next_attempt_at = now() + interval '5 min'");
        set(
            "3",
            "status = 'sending', next_attempt_at = now() - interval '9 min'",
        );
        set("4", "status = 'dead', updated_at = now()");
        set(
            "5",
            "status = 'dead', updated_at = now() - interval '2 hours'",
        );
        set("6", "status = 'delivered'");
        assert_eq!(health(), ["(3,2,1,1,t,00:05:00)"]);
        set("7", "next_attempt_at = '-infinity'");
        assert_eq!(health(), ["(3,2,1,1,f,)"], "an odd row breaks nothing");
    }

    #[pg_extern]
    fn the_worker_is_looked_up_by_the_numbers_of_its_lock() {
        use crate::worker::lock::{CLASS, Lock};
        let source = operator().value(
            "(select prosrc from pg_proc where oid = 'plugin_webhooks.worker_pid()'::regprocedure)",
        );
        for condition in [
            format!("l.objsubid = {} ", Lock::Singleton as u16),
            format!("l.classid = {CLASS} "),
        ] {
            assert!(source.contains(&condition), "{condition}in {source}");
        }
    }

    #[pg_extern]
    fn the_worker_is_the_one_that_pg_stat_activity_shows() {
        assert_eq!(
            operator().count(
                "plugin_webhooks.health h
                 full join (select pid, state from pg_stat_activity
                            where backend_type = 'plugin_webhooks worker' and datname = current_database()) a
                     on a.pid = h.worker_pid
                 where a.pid is distinct from plugin_webhooks.worker_pid()
                    or (h.worker_pid is null) <> (h.worker_started_at is null)"
            ),
            0
        );
    }

    #[pg_extern]
    fn waking_the_launcher_does_no_harm() {
        assert_eq!(operator().value("plugin_webhooks.wake_launcher()"), "");
    }
}
