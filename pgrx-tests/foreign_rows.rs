//! Rows that somebody else inserts into the audit log, when enqueueing them fails halfway.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Tenant, log_inserts, operator};
    use pgrx::prelude::*;

    /// A queue that refuses the delivery about record 150.
    fn refuse_one() {
        operator().run(
            "create function public.refuse_one() returns trigger language plpgsql as $$
             begin
                 if new.payload #>> '{audit,record_id}' = '150' then
                     raise exception 'refused' using errcode = 'check_violation';
                 end if;
                 return new;
             end $$",
        );
        operator().run(
            "create trigger refuse_one before insert on int.plugin_delivery_queue
             for each row execute function public.refuse_one()",
        );
    }

    fn insert_and_catch(tenant: &str) {
        operator().run(&format!(
            "do $$
             begin
                 insert into audit.entity_changes (tenant_id, table_schema, table_name, record_id, operation)
                 select '{tenant}', 'app', 'orders', n, 'INSERT' from generate_series(1, 300) as n;
                 raise exception 'was not refused';
             exception when check_violation then
                 null;
             end $$"
        ));
    }

    #[pg_extern]
    fn a_statement_that_fails_halfway_leaves_the_session_usable() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("app", "orders");
        refuse_one();
        for _ in 0..3 {
            insert_and_catch(&tenant.id);
            assert_eq!(
                operator().count("audit.entity_changes where table_name = 'orders'"),
                0
            );
            assert_eq!(operator().count("int.plugin_delivery_queue"), 0);
        }
        operator().run("drop trigger refuse_one on int.plugin_delivery_queue");
        log_inserts(&tenant.id, "app", "orders", 300);
        assert_eq!(operator().count("int.plugin_delivery_queue"), 300);
    }

    #[pg_extern]
    fn a_row_that_fails_row_by_row_leaves_the_session_usable() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("app", "orders");
        operator().run(
            "create or replace trigger entity_changes_plugin_enqueue_trigger
             after insert on audit.entity_changes
             for each row execute function int.enqueue_plugin_events_from_audit()",
        );
        refuse_one();
        insert_and_catch(&tenant.id);
        assert_eq!(operator().count("int.plugin_delivery_queue"), 0);
        operator().run("drop trigger refuse_one on int.plugin_delivery_queue");
        log_inserts(&tenant.id, "app", "orders", 300);
        assert_eq!(operator().count("int.plugin_delivery_queue"), 300);
    }
}
