//! A delivery that no later attempt could save is dead at once, and costs no other.

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Receiver, Tenant, assert_delivers, execute, project_with_items, shared_server, value,
    wait_until,
};

use crate::outbound::{assert_carries, config, store_config};
use crate::private_server::SOON;

#[test]
fn without_a_usable_webhook_url_a_delivery_is_dead_at_once() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    let configs = [
        None,
        Some("null"),
        Some("{}"),
        Some("[1, 2]"),
        Some(r#""text""#),
        Some("7"),
        Some(r#"{"webhook_url": null}"#),
        Some(r#"{"webhook_url": " "}"#),
        Some(r#"{"webhook_url": 5}"#),
        Some(r#"{"webhook_url": {"a": 1}}"#),
        Some(r#"{"webhook_url": "ftp://127.0.0.1/"}"#),
        Some(r#"{"webhook_url": "not a url"}"#),
    ];
    for stored in configs {
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        store_config(&mut client, &tenant, stored);
        tenant.insert_items(&mut client, 1);
        tenant.wait_for(&mut client, SOON, |delivery| delivery.status == "dead");
        let delivery = tenant.delivery(&mut client);
        let error = delivery.last_error.expect("a reason");
        assert!(error.contains("webhook_url"), "{stored:?}: {error}");
    }
    assert_eq!(receiver.count(), 0);
    assert_delivers(&database, &receiver);
}

/// A number of a few bytes may print as 131,072 digits.
#[test]
fn a_payload_too_long_to_print_is_dead_and_costs_no_other_delivery() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    let status = |client: &mut Client, tenant: &Tenant<'_>| -> String {
        value(
            client,
            &format!(
                "select string_agg(distinct status || ': ' || coalesce(last_error, ''), ', ')
                 from int.plugin_delivery_queue where plugin_installation_id = '{}'",
                tenant.installation
            ),
        )
    };
    for data in [
        "select jsonb_agg(1e131071::numeric) from generate_series(1, 10000)",
        "select jsonb_agg(1e-16383::numeric) from generate_series(1, 100)",
        "select jsonb_object_agg(n, array[-1e100000::numeric]) from generate_series(1, 20) n",
        "select to_jsonb(repeat(E'\\x01', 12000000))",
    ] {
        let tenant = Tenant::install(&database, &config(&receiver.url("/huge")));
        tenant.subscribe("items", &["INSERT"], None, true);
        execute(
            &mut client,
            &format!(
                "insert into items (tenant_id, data) select '{}', ({data}) from generate_series(1, 4)",
                tenant.id
            ),
        );
        assert_delivers(&database, &receiver);
        wait_until(4 * SOON, "the deliveries to be dead", || {
            status(&mut client, &tenant) == "dead: the payload is too long to send"
        });
    }
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    execute(
        &mut client,
        &format!(
            "set session_replication_role = replica;
             update int.plugin_installations
             set config = config || jsonb_build_object('x', (select jsonb_agg(1e131071::numeric) \
             from generate_series(1, 10000))), updated_at = 'yesterday'
             where id = '{}';
             reset session_replication_role",
            tenant.installation
        ),
    );
    tenant.insert_items(&mut client, 20);
    assert_delivers(&database, &receiver);
    wait_until(SOON, "the attempts to fail", || {
        status(&mut client, &tenant) == "pending: config is longer than 1048576 bytes"
    });
    for data in [
        "select to_jsonb(1e131071::numeric)",
        "select jsonb_agg(1e400::numeric) from generate_series(1, 1000)",
        "select jsonb_agg(repeat(E'\\x01', 100)) from generate_series(1, 10000)",
        "select to_jsonb(repeat('x', 4000000))",
    ] {
        let tenant = Tenant::install(&database, &config(&receiver.url("/long")));
        tenant.subscribe("items", &["INSERT"], None, true);
        receiver.clear();
        execute(
            &mut client,
            &format!(
                "insert into items (tenant_id, data) values ('{}', ({data}))",
                tenant.id
            ),
        );
        tenant.wait_delivered(&mut client, SOON);
        assert_carries(&receiver.requests()[0], &tenant.delivery(&mut client));
    }
}
