use super::*;

#[test]
fn odd_settings_beside_a_webhook_url_harm_nobody() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    let url = receiver.url("/");
    for settings in [
        r#""timeout_ms": "5000""#,
        r#""timeout_ms": "soon""#,
        r#""timeout_ms": -1"#,
        r#""timeout_ms": 1e400"#,
        r#""timeout_ms": [1]"#,
        r#""headers": null"#,
        r#""headers": [1]"#,
        r#""headers": {"X-Number": 5, "X-Null": null, "X-Plugin-Signature": "forged", "Host": "evil"}"#,
        r#""other": {"deep": 1e400}"#,
    ] {
        let tenant = Tenant::with_items_to(&database, &url);
        let stored = format!(r#"{{"webhook_url": "{url}", {settings}}}"#);
        store_config(&mut client, &tenant, Some(&stored));
        receiver.clear();
        tenant.insert_items(&mut client, 1);
        tenant.wait_delivered(&mut client, SOON);
        let request = &receiver.requests()[0];
        assert_carries(request, &tenant.delivery(&mut client));
        assert_eq!(request.header("X-Plugin-Signature"), None, "{settings}");
        assert_ne!(request.header("Host"), Some("evil"));
    }
    receiver.clear();
    for headers in [
        r#"{"bad name": "x"}"#,
        r#"{"X-Injected": "a\r\nX-Evil: 1"}"#,
        r#"{"": "x"}"#,
        r#"{"X-Nested": "é"}"#,
    ] {
        let tenant = Tenant::with_items_to(&database, &url);
        let stored = format!(r#"{{"webhook_url": "{url}", "headers": {headers}}}"#);
        store_config(&mut client, &tenant, Some(&stored));
        tenant.insert_items(&mut client, 1);
        let delivery = tenant.wait_failed(&mut client, SOON, 1);
        let error = delivery.last_error.expect("a reason");
        assert!(error.contains("headers"), "{headers}: {error}");
    }
    assert_eq!(receiver.count(), 0);
    assert_delivers(&database, &receiver);
}

/// What nobody but a superuser can store, and what a tenant can put into a row.
#[test]
fn odd_values_in_a_delivery_cost_no_other_delivery() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    receiver.answer("/down", Reply::Status(500, String::new()));
    let mut client = database.client();
    let enqueue_with = |client: &mut Client, tenant: &Tenant<'_>, odd: &str| {
        execute(
            client,
            &format!(
                "begin;
                 insert into items (tenant_id) values ('{}');
                 update int.plugin_delivery_queue set {odd} where plugin_installation_id = '{}';
                 commit",
                tenant.id, tenant.installation
            ),
        );
    };
    for odd in [
        "next_attempt_at = '-infinity', created_at = 'infinity', updated_at = '-infinity'",
        "attempts = 2147483647",
        "event_type = '', last_error = repeat('x', 100000)",
        r"event_type = E'a\r\nX-Evil: 1'",
        "payload = 'null'",
        "payload = '1.10'",
        r#"payload = '"text"'"#,
        "status = 'sending', lease_expires_at = '-infinity', claim_id = -1",
        "net_request_id = 1, sent_at = 'infinity'",
    ] {
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        receiver.clear();
        enqueue_with(&mut client, &tenant, odd);
        tenant.wait_delivered(&mut client, SOON);
        let request = &receiver.requests()[0];
        assert_carries(request, &tenant.delivery(&mut client));
        assert_eq!(request.header("X-Evil"), None);
    }
    let tenant = Tenant::with_items_to(&database, &receiver.url("/down"));
    enqueue_with(&mut client, &tenant, "attempts = 2147483647");
    tenant.wait_for(&mut client, SOON, |delivery| delivery.status == "dead");
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    enqueue_with(&mut client, &tenant, "event_type = repeat('x', 1000000)");
    tenant.wait_for(&mut client, SOON, |delivery| {
        delivery.status == "delivered" || delivery.attempts > 0
    });
    assert_delivers(&database, &receiver);
}

/// Compressed, a long text of one letter is short.
#[test]
fn payloads_that_grow_are_claimed_one_after_another() {
    let server = Server::preloaded(
        Tree::shared(),
        &[("plugin_webhooks.allowed_networks", "127.0.0.0/8")],
    );
    let (database, receiver) = (project_with_items(&server), Receiver::http());
    receiver.answer("/", Reply::Hang);
    let mut client = database.client();
    let tenants: Vec<_> = (0..6)
        .map(|_| {
            let config = format!(
                r#"{{"webhook_url": "{}", "timeout_ms": 120000}}"#,
                receiver.url("/")
            );
            let tenant = Tenant::install(&database, &config);
            tenant.subscribe("items", &["INSERT"], None, true);
            tenant
        })
        .collect();
    let ids: Vec<&str> = tenants.iter().map(|tenant| tenant.id.as_str()).collect();
    client
        .execute(
            "insert into items (tenant_id, title)
             select t::uuid, repeat('x', 9000000) from unnest($1::text[]) as t",
            &[&ids],
        )
        .expect("insert");
    // Bodies above 8 MiB go one at a time.
    receiver.wait_for(1, SOON);
    // A delivery that is settled later shows that the worker has looked again.
    assert_delivers(&database, &receiver);
    let claimed =
        "select concat_ws(' of ', count(claim_id), count(*)) from int.plugin_delivery_queue";
    assert_eq!(value::<String>(&mut client, claimed), "1 of 7");
    assert_eq!(receiver.count(), 2);
    receiver.answer("/", Reply::ok());
    receiver.stop();
    receiver.start_again();
    // Each is followed by a rest from reading.
    wait_until(4 * SOON, "the rest to arrive", || {
        value::<i64>(
            &mut client,
            "select count(*) from int.plugin_delivery_queue where status = 'delivered'",
        ) == 6
    });
}

/// Rows that wait when an installation is switched off: enqueued and switched off in one commit.
fn enqueue_and_store_status(client: &mut Client, tenant: &Tenant<'_>, status: &str) {
    execute(
        client,
        &format!(
            "begin;
             insert into items (tenant_id) values ('{}');
             update int.plugin_installations set status = '{status}' where id = '{}';
             commit",
            tenant.id, tenant.installation
        ),
    );
}

#[test]
fn a_disabled_or_uninstalled_installation_sends_nothing_until_it_is_installed_again() {
    for status in ["disabled", "uninstalled"] {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        let mut client = database.client();
        let tenant = Tenant::with_items_to(&database, &receiver.url("/off"));
        enqueue_and_store_status(&mut client, &tenant, status);
        tenant.insert_items(&mut client, 1);
        assert_delivers(&database, &receiver);
        let delivery = tenant.delivery(&mut client);
        assert_eq!(
            (&*delivery.status, delivery.attempts),
            ("pending", 0),
            "{status}"
        );
        assert_eq!(receiver.count(), 1, "only the healthy one");
        tenant.set_status("installed");
        tenant.wait_delivered(&mut client, SOON);
        assert_eq!(receiver.count(), 2);
        tenant.insert_items(&mut client, 1);
        assert_eq!(tenant.wait_delivered(&mut client, SOON).len(), 2);
    }
}

#[test]
fn an_installation_that_is_removed_takes_its_deliveries_with_it() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    receiver.answer(
        "/slow",
        Reply::Delay(Duration::from_secs(1), Box::new(Reply::ok())),
    );
    let mut client = database.client();
    let tenant = Tenant::with_items_to(&database, &receiver.url("/slow"));
    tenant.insert_items(&mut client, 40);
    receiver.wait_for(1, SOON);
    tenant.uninstall();
    assert_eq!(tenant.deliveries(&mut client), []);
    assert_delivers(&database, &receiver);
    tenant.insert_items(&mut client, 1);
    assert_delivers(&database, &receiver);
    assert!(
        receiver.count() < 40,
        "rows that were not in flight are never sent"
    );
}
