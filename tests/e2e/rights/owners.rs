//! Tables of `int` that somebody has given to different roles: no statement joins them with the rights of one, and
//! nobody's code runs as another.

use std::time::Duration;

use plugin_webhooks_kit::{
    Receiver, Tenant, create_tracked_table, expect_sqlstate, project, wait_until,
};

use super::*;

const SOON: Duration = Duration::from_secs(20);
const SAID: &str = "tables that are read together have different owners";

#[test]
fn that_differ_are_named_and_run_nobodys_code_as_another() {
    for (table, column) in [
        ("plugins", "key"),
        ("plugin_installations", "status"),
        ("plugin_webhook_subscriptions", "table_name"),
    ] {
        let receiver = Receiver::http();
        let mut watched = Watched::of(project(shared_server()));
        watched.database.allow_log(SAID);
        create_tracked_table(&mut watched.client, "items");
        let tenant = Tenant::with_items_to(&watched.database, &receiver.url("/"));
        tenant.insert_items(&mut watched.client, 1);
        tenant.wait_delivered(&mut watched.client, SOON);
        let (id, installation) = (tenant.id.clone(), tenant.installation.clone());
        let plugin = tenant.plugin.clone();
        watched.run(&format!(
            "grant usage, create on schema int to mallory; alter table int.{table} owner to mallory"
        ));
        watched.run_as(
            MALLORY,
            &format!(
                "create function int.yes(value text) returns boolean language plpgsql immutable as $$
                     begin perform watch.tell('policy'); return true; end $$;
                 create function int.always() returns boolean language plpgsql immutable as $$
                     begin perform watch.tell('constant'); return true; end $$;
                 create policy ppp on int.{table} using (int.yes({column}));
                 create index iii on int.{table} (int.yes({column})) where int.always();
                 alter table int.{table} force row level security;"
            ),
        );
        watched.run("delete from watch.told");
        let mut other = watched.database.client();
        for call in [
            format!("insert into public.items (tenant_id, title) values ('{id}', 'new')"),
            format!(
                "select public.rpc_process_plugin_deliveries(50), pg_sleep(0.1) where '{id}' <> ''"
            ),
            format!("select int.resolve_installation_signing_secret('{installation}')"),
            format!(
                "select public.rpc_plugin_ingest_webhook('{plugin}', '{installation}', '{{}}', 'x')"
            ),
        ] {
            let result = other.batch_execute(&call);
            if call.contains("rpc_process") {
                continue;
            }
            let error = expect_sqlstate(result, "55000");
            assert!(
                error.message().contains(SAID)
                    && error.message().contains(&format!("int.{table} of mallory"))
                    && error.message().contains("of plugin_webhooks_owner"),
                "{}",
                error.message()
            );
            assert!(error.hint().is_some());
        }
        let server = watched.database.server().clone();
        wait_until(SOON, "the worker to say why it waits", || {
            server
                .log()
                .contains(&format!("the queue cannot be worked: {SAID}"))
        });
        watched.assert_ran_only_as(&[MALLORY]);
        watched.run(&format!(
            "drop index int.iii; drop policy ppp on int.{table};
             alter table int.{table} no force row level security;
             alter table int.{table} owner to plugin_webhooks_owner;
             insert into public.items (tenant_id, title) values ('{id}', 'newer')"
        ));
        receiver.wait_for(2, SOON);
    }
}
