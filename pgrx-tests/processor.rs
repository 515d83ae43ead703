//! `rpc_process_plugin_deliveries`: what it moves and what it returns. What happens to the rows then is
//! shown by the end-to-end tests of the worker.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Caller, Tenant, log_inserts, operator, plain_role, uuid};
    use pgrx::prelude::*;

    /// From now on, deliveries of all installations can be sent.
    fn set_urls() {
        operator().run(
            "update int.plugin_installations set config = '{\"webhook_url\": \"https://receiver.example/\"}'",
        );
    }

    /// A tenant with this many due deliveries.
    fn waiting(count: u32) -> Tenant {
        let tenant = Tenant::with_plugin("crm");
        set_urls();
        tenant.subscribe("app", "orders");
        log_inserts(&tenant.id, "app", "orders", count);
        assert_eq!(pending(), i64::from(count));
        tenant
    }

    /// Deliveries that nobody has moved.
    fn pending() -> i64 {
        operator().count(
            "int.plugin_delivery_queue where status = 'pending' and lease_expires_at is null",
        )
    }

    fn process(argument: &str) -> i64 {
        let moved = Caller::role("service_role")
            .value(&format!("public.rpc_process_plugin_deliveries({argument})"));
        moved.parse().unwrap()
    }

    #[pg_extern]
    fn the_processor_moves_a_batch_and_returns_its_size() {
        waiting(30);
        assert_eq!(process("p_batch_size => 7"), 7);
        assert_eq!(pending(), 23);
        assert_eq!(process("1"), 1);
        assert_eq!(process("100"), 22);
        assert_eq!(process("100"), 0);
    }

    #[pg_extern]
    fn null_and_less_than_1_mean_25_deliveries() {
        waiting(30);
        for argument in ["", "null", "0", "-1", "-2147483648"] {
            operator().run("update int.plugin_delivery_queue set status = 'pending'");
            assert_eq!(process(argument), 25, "{argument:?}");
            assert_eq!(pending(), 5);
        }
    }

    #[pg_extern]
    fn a_batch_is_10000_deliveries_at_most() {
        waiting(10_010);
        assert_eq!(process("2147483647"), 10_000);
        assert_eq!(process("2147483647"), 10);
    }

    #[pg_extern]
    fn a_delivery_with_requested_dispatch_is_pending_without_a_claim() {
        waiting(1);
        assert_eq!(process("1"), 1);
        assert_eq!(
            operator().rows(
                "select status, attempts, claim_id, last_error, sent_at is not null as sent,
                        lease_expires_at > now() + interval '100 s' as leased
                 from int.plugin_delivery_queue"
            ),
            ["(pending,0,,,t,t)"]
        );
    }

    #[pg_extern]
    fn only_due_deliveries_of_installed_plugins_move() {
        let tenant = waiting(1);
        for left in [
            "next_attempt_at = now() + interval '1 hour'",
            "status = 'sending', lease_expires_at = now() + interval '1 hour'",
            "status = 'delivered'",
            "status = 'failed'",
            "status = 'dead'",
        ] {
            operator().run(
                "update int.plugin_delivery_queue set status = 'pending', next_attempt_at = now(), \
                lease_expires_at = null",
            );
            operator().run(&format!("update int.plugin_delivery_queue set {left}"));
            assert_eq!(process("10"), 0, "{left}");
        }
        operator().run(
            "update int.plugin_delivery_queue set status = 'pending', next_attempt_at = now()",
        );
        for status in ["disabled", "uninstalled"] {
            operator().run(&format!(
                "update int.plugin_installations set status = '{status}'"
            ));
            assert_eq!(process("10"), 0, "{status}");
        }
        operator().run(&format!(
            "select public.rpc_update_plugin_installation('{}', '{}', 'installed')",
            tenant.id, tenant.installation
        ));
        assert_eq!(process("10"), 1);
    }

    #[pg_extern]
    fn a_delivery_whose_lease_ran_out_moves_again() {
        waiting(2);
        assert_eq!(process("10"), 2);
        operator().run(
            "update int.plugin_delivery_queue set lease_expires_at = now() - interval '1 s', claim_id = 5
             where source_entity_change_id = (select min(source_entity_change_id) from int.plugin_delivery_queue)",
        );
        assert_eq!(process("10"), 1);
        assert_eq!(
            operator().count(
                "int.plugin_delivery_queue where lease_expires_at is not null and claim_id is null"
            ),
            2
        );
    }

    #[pg_extern]
    fn a_batch_is_dealt_out_over_installations() {
        let busy = waiting(50);
        let quiet = Tenant::with_installation_of("crm");
        quiet.subscribe("app", "orders");
        log_inserts(&quiet.id, "app", "orders", 2);
        let off = Tenant::with_installation_of("crm");
        set_urls();
        off.subscribe("app", "orders");
        log_inserts(&off.id, "app", "orders", 50);
        operator().run(&format!(
            "update int.plugin_installations set status = 'disabled' where id = '{}'",
            off.installation
        ));
        assert_eq!(process("10"), 10);
        for (tenant, moved) in [(&busy, 8), (&quiet, 2), (&off, 0)] {
            assert_eq!(
                operator().count(&format!(
                    "int.plugin_delivery_queue where lease_expires_at is not null and tenant_id = '{}'",
                    tenant.id
                )),
                moved
            );
        }
    }

    #[pg_extern]
    fn the_oldest_deliveries_of_an_installation_move_first() {
        waiting(5);
        operator().run(
            "update int.plugin_delivery_queue
             set next_attempt_at = now() - make_interval(mins => (payload #>> '{audit,record_id}')::int)",
        );
        assert_eq!(process("2"), 2);
        assert_eq!(
            operator().rows(
                "select payload #>> '{audit,record_id}' from int.plugin_delivery_queue \
                where lease_expires_at is not null order by 1"
            ),
            ["(4)", "(5)"]
        );
    }

    #[pg_extern]
    fn only_service_role_and_the_operator_process() {
        waiting(1);
        let call = "public.rpc_process_plugin_deliveries()";
        let admin = Caller::admin(&uuid());
        for caller in [
            Caller::role("anon"),
            Caller::role("authenticated"),
            admin.clone(),
            plain_role("plain_scheduler"),
        ] {
            let failure = caller.refused(call, "42501");
            assert!(
                failure
                    .message
                    .starts_with("permission denied for function"),
                "{failure:?}"
            );
        }
        assert_eq!(pending(), 1);
        assert_eq!(admin.as_role("service_role").value(call), "1");
        assert_eq!(operator().value(call), "0");
    }
}
