//! Which old rows the worker deletes, and when.

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{Server, Tenant, execute, project_with_items, value, wait_until};

use crate::private_server::{SOON, builder};

fn statuses(client: &mut Client) -> String {
    value(
        client,
        "select coalesce(string_agg(status, ' ' order by status), '') from int.plugin_delivery_queue",
    )
}

/// A delivery in every status, all of them this old, with an attempt each.
fn age(client: &mut Client, tenant: &Tenant, interval: &str) {
    tenant.insert_items(client, 5);
    execute(
        client,
        &format!(
            "update int.plugin_delivery_queue as q
             set status = s.status, created_at = now() - interval '{interval}',
                 updated_at = now() - interval '{interval}', next_attempt_at = 'infinity',
                 claim_id = case s.status when 'sending' then 1 end,
                 lease_expires_at = case s.status when 'sending' then 'infinity'::timestamptz end
             from (select id, (array['pending', 'sending', 'delivered', 'failed', 'dead'])[row_number() \
             over (order by source_entity_change_id)] as status
                   from int.plugin_delivery_queue) as s
             where s.id = q.id;
             insert into int.plugin_delivery_attempts
                 (delivery_id, tenant_id, plugin_installation_id, attempt, started_at, duration_ms)
             select id, tenant_id, plugin_installation_id, 1, now() - interval '{interval}', 1
             from int.plugin_delivery_queue"
        ),
    );
}

fn server_with(delivered: &str, dead: &str, attempts: &str) -> Server {
    builder()
        .preloaded()
        .setting("plugin_webhooks.max_probe_interval", "0")
        .setting("plugin_webhooks.retain_delivered", delivered)
        .setting("plugin_webhooks.retain_dead", dead)
        .setting("plugin_webhooks.retain_attempts", attempts)
        // What the test makes is not to be sent.
        .setting("plugin_webhooks.dispatch", "on_call")
        .start()
}

fn attempts_left(client: &mut Client) -> i64 {
    value(client, "select count(*) from int.plugin_delivery_attempts")
}

#[test]
fn deletes_old_delivered_and_dead_rows_and_no_others() {
    let own = server_with("10s", "10s", "10s");
    let database = project_with_items(&own);
    let tenant = Tenant::with_items_to(&database, "http://127.0.0.1:9/");
    let mut client = database.client();
    age(&mut client, &tenant, "1 hour");
    wait_until(SOON, "the old rows to go", || {
        statuses(&mut client) == "failed pending sending"
    });
    wait_until(SOON, "the old attempts to go", || {
        attempts_left(&mut client) == 0
    });
}

#[test]
fn each_has_its_own_age() {
    let own = server_with("10s", "1d", "1d");
    let database = project_with_items(&own);
    let tenant = Tenant::with_items_to(&database, "http://127.0.0.1:9/");
    let mut client = database.client();
    age(&mut client, &tenant, "1 hour");
    wait_until(SOON, "the delivered row to go", || {
        statuses(&mut client) == "dead failed pending sending"
    });
    assert_eq!(attempts_left(&mut client), 5);
    own.alter_system("plugin_webhooks.retain_attempts", "10s");
    wait_until(SOON, "the attempts to go", || {
        attempts_left(&mut client) == 0
    });
    assert_eq!(statuses(&mut client), "dead failed pending sending");
    own.alter_system("plugin_webhooks.retain_dead", "10s");
    wait_until(SOON, "the dead row to go", || {
        statuses(&mut client) == "failed pending sending"
    });
}

#[test]
fn with_0_keeps_everything_and_young_rows_stay() {
    let own = server_with("0", "10s", "0");
    let database = project_with_items(&own);
    let tenant = Tenant::with_items_to(&database, "http://127.0.0.1:9/");
    let mut client = database.client();
    age(&mut client, &tenant, "1000 days");
    execute(
        &mut client,
        "update int.plugin_delivery_queue set status = 'dead', updated_at = now()
         where status = 'failed'",
    );
    // The old dead row goes, so the purge has passed the others.
    wait_until(SOON, "the old dead row to go", || {
        statuses(&mut client) == "dead delivered pending sending"
    });
    assert_eq!(attempts_left(&mut client), 5);
}

#[test]
fn gives_up_what_has_waited_too_long_for_an_installation_that_is_not_installed() {
    let own = server_with("10s", "1h", "0");
    let database = project_with_items(&own);
    let url = "http://127.0.0.1:9/";
    let [installed, just_disabled, disabled, uninstalled] =
        std::array::from_fn(|_| Tenant::with_items_to(&database, url));
    let mut client = database.client();
    // The purge passes them in this order.
    for tenant in [&installed, &just_disabled, &disabled, &uninstalled] {
        tenant.insert_items(&mut client, 3);
    }
    just_disabled.set_status("disabled");
    disabled.set_status("disabled");
    uninstalled.set_status("uninstalled");
    execute(
        &mut client,
        "update int.plugin_delivery_queue q set
             created_at = now() - interval '2 hours', updated_at = now() - interval '2 hours',
             last_error = 'http 500: no', attempts = 3
         where q.source_entity_change_id <> (
             select max(o.source_entity_change_id) from int.plugin_delivery_queue o
             where o.plugin_installation_id = q.plugin_installation_id)",
    );
    // They were stopped a while ago, but for the last one.
    execute(
        &mut client,
        &format!(
            "update int.plugin_installations set updated_at = now() - interval '2 hours' where id <> '{}'",
            just_disabled.installation
        ),
    );
    let described = |client: &mut Client, tenant: &Tenant| -> Vec<(String, i32, String)> {
        let mut rows: Vec<_> = tenant
            .deliveries(client)
            .into_iter()
            .map(|delivery| {
                let error = delivery.last_error.unwrap_or_default();
                (delivery.status, delivery.attempts, error)
            })
            .collect();
        rows.sort();
        rows
    };
    let row = |status: &str, attempts, error: &str| (status.to_owned(), attempts, error.to_owned());
    for (tenant, word) in [(&uninstalled, "uninstalled"), (&disabled, "disabled")] {
        let error = format!(
            "given up: the installation is {word}, and plugin_webhooks.retain_dead has passed"
        );
        let given_up = row("dead", 3, &error);
        wait_until(SOON, word, || {
            described(&mut client, tenant)
                == [given_up.clone(), given_up.clone(), row("pending", 0, "")]
        });
    }
    let waiting = row("pending", 3, "http 500: no");
    for tenant in [&installed, &just_disabled] {
        assert_eq!(
            described(&mut client, tenant),
            [row("pending", 0, ""), waiting.clone(), waiting.clone()]
        );
    }
    // They go like any other dead row.
    execute(
        &mut client,
        "update int.plugin_delivery_queue set updated_at = now() - interval '2 hours'
         where status = 'dead'",
    );
    wait_until(SOON, "the dead rows to go", || {
        statuses(&mut client) == ["pending"; 8].join(" ")
    });
}

#[test]
fn goes_through_more_rows_than_fit_into_one_step() {
    let own = server_with("10s", "10s", "10s");
    let database = project_with_items(&own);
    let tenant = Tenant::with_items_to(&database, "http://127.0.0.1:9/");
    let mut client = database.client();
    tenant.insert_items(&mut client, 3000);
    execute(
        &mut client,
        "update int.plugin_delivery_queue
         set status = case when source_entity_change_id % 2 = 0 then 'delivered' else 'pending' end,
             created_at = now() - interval '1 hour', updated_at = now() - interval '1 hour'",
    );
    let left = |client: &mut Client| -> i64 {
        value(client, "select count(*) from int.plugin_delivery_queue")
    };
    wait_until(SOON, "half of the rows to go", || left(&mut client) == 1500);
    let pending = "select count(*) from int.plugin_delivery_queue where status = 'pending'";
    assert_eq!(value::<i64>(&mut client, pending), 1500);
}

/// Without a minute to wait: what the test finds was made old by hand.
#[test]
fn deletes_ids_of_calls_and_counters_of_minutes_that_are_over() {
    let own = builder()
        .preloaded()
        .setting("plugin_webhooks.retain_inbound_ids", "900")
        .start();
    let database = project_with_items(&own);
    let mut client = database.client();
    // The first plugin makes it an active instance, where rows are deleted.
    execute(
        &mut client,
        "select public.rpc_register_plugin('any', 'Any');
         insert into plugin_webhooks.inbound_ids (plugin_installation_id, id, answer, created_at)
             select gen_random_uuid(), n, '{}', now() - interval '901 s' from generate_series(1, 1200) as n;
         insert into plugin_webhooks.inbound_ids (plugin_installation_id, id, answer, created_at)
             select gen_random_uuid(), 'young', '{}', now() - interval '10 min';
         insert into plugin_webhooks.rate_limits (bucket, window_start, hits)
             select n, now() - interval '601 s', 1 from generate_series(1, 1200) as n;
         insert into plugin_webhooks.rate_limits (bucket, window_start, hits) values ('young', now(), 1)",
    );
    // A new setting starts a new round.
    own.alter_system("plugin_webhooks.retain_attempts", "1d");
    wait_until(SOON, "the old ids to go", || {
        value::<String>(
            &mut client,
            "select string_agg(distinct id, ' ') from plugin_webhooks.inbound_ids",
        ) == "young"
    });
    wait_until(SOON, "the old counters to go", || {
        value::<String>(
            &mut client,
            "select string_agg(distinct bucket, ' ') from plugin_webhooks.rate_limits",
        ) == "young"
    });
}
