use super::*;

#[test]
fn insert_update_and_delete_each_send_one_signed_request_with_the_documented_payload() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    execute(
        &mut client,
        "select plugin_webhooks.create_secret('sécret', 'partner')",
    );
    let tenant = Tenant::install_with(
        &database,
        &config(&receiver.url("/in?k=1")),
        Some("partner"),
    );
    tenant.subscribe("items", &["INSERT", "UPDATE", "DELETE"], None, false);
    tenant.insert_items(&mut client, 1);
    execute(&mut client, "update items set title = 'new', note = 'set'");
    execute(&mut client, "delete from items");
    let deliveries = tenant.wait_delivered(&mut client, SOON);
    let record = "1";
    let mut requests = receiver.requests();
    assert_eq!((requests.len(), deliveries.len()), (3, 3));
    for (delivery, operation) in deliveries.iter().zip(["INSERT", "UPDATE", "DELETE"]) {
        let at = requests
            .iter()
            .position(|sent| sent.header("X-Plugin-Delivery-Id") == Some(&delivery.id))
            .expect("the request of the delivery");
        let request = requests.swap_remove(at);
        assert_carries(&request, delivery);
        assert_eq!(request.target, "/in?k=1");
        assert_eq!(
            delivery.event_type,
            format!("entity_change.items.{}", operation.to_lowercase())
        );
        let signature = request.header("X-Plugin-Signature").expect("a signature");
        assert!(verify_signature("sécret", &request.body, signature));
        let changed = match operation {
            "UPDATE" => r#"["title", "note"]"#,
            _ => "null",
        };
        assert_json(
            &mut client,
            request.text(),
            &format!(
                r#"select jsonb_build_object('v', 1, 'tenant_id', '{tenant}', 'installation_id', '{installation}',
                    'plugin_key', '{plugin}',
                    'audit', jsonb_build_object(
                        'id', (select id from audit.entity_changes where operation = '{operation}' and table_name = 'items'),
                        'table_schema', 'public', 'table_name', 'items', 'record_id', '{record}',
                        'operation', '{operation}', 'changed_fields', '{changed}'::jsonb),
                    'snapshot', jsonb_build_object('record_id', '{record}', 'changed_fields', '{changed}'::jsonb))"#,
                tenant = tenant.id,
                installation = tenant.installation,
                plugin = tenant.plugin,
            ),
        );
    }
}

#[test]
fn with_include_payload_the_snapshot_is_the_old_and_the_new_row() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    let tenant = Tenant::install(&database, &config(&receiver.url("/")));
    tenant.subscribe("items", &["INSERT", "UPDATE", "DELETE"], None, true);
    tenant.insert_items(&mut client, 1);
    let before: String = value(&mut client, "select to_jsonb(items)::text from items");
    execute(&mut client, "update items set title = 'new'");
    let after: String = value(&mut client, "select to_jsonb(items)::text from items");
    execute(&mut client, "delete from items");
    let deliveries = tenant.wait_delivered(&mut client, SOON);
    let null = "null".to_owned();
    let expected = [(&null, &before), (&before, &after), (&after, &null)];
    for (delivery, (old, new)) in deliveries.iter().zip(expected) {
        let snapshot: String = value(
            &mut client,
            &format!(
                "select (payload->'snapshot')::text from int.plugin_delivery_queue where id = '{}'",
                delivery.id
            ),
        );
        let expected = format!(
            "jsonb_build_object('old_data', {}::jsonb, 'new_data', {}::jsonb)",
            quote_literal(old),
            quote_literal(new)
        );
        assert_json(&mut client, &snapshot, &expected);
    }
    assert_eq!(receiver.count(), 3);
}

#[test]
fn an_update_is_sent_only_when_a_column_of_the_allowlist_changed() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    let tenant = Tenant::install(&database, &config(&receiver.url("/")));
    tenant.subscribe("items", &["UPDATE"], Some(&["title", "data"]), false);
    tenant.insert_items(&mut client, 1);
    execute(&mut client, "update items set note = 'not listed'");
    execute(
        &mut client,
        "update items set title = title, note = 'again'",
    );
    execute(
        &mut client,
        "update items set title = 'listed', note = 'too'",
    );
    execute(&mut client, "delete from items");
    tenant.wait_delivered(&mut client, SOON);
    let delivery = tenant.delivery(&mut client);
    assert_eq!(receiver.count(), 1);
    assert_carries(&receiver.requests()[0], &delivery);
    let changed: String = value(
        &mut client,
        "select payload #>> '{audit,changed_fields}' from int.plugin_delivery_queue",
    );
    assert_eq!(changed, r#"["title", "note"]"#);
}

#[test]
fn only_the_subscribed_operations_tables_and_tenants_are_sent() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    create_tracked_table(&mut client, "others");
    let tenant = Tenant::install(&database, &config(&receiver.url("/mine")));
    tenant.subscribe("items", &["DELETE"], None, false);
    let stranger = Tenant::with_items_to(&database, &receiver.url("/strangers"));
    tenant.insert_items(&mut client, 1);
    execute(
        &mut client,
        &format!(
            "update items set note = 'x';
             insert into others (tenant_id) values ('{}');
             delete from others;
             insert into items (title) values ('of no tenant')",
            tenant.id
        ),
    );
    stranger.insert_items(&mut client, 1);
    stranger.wait_delivered(&mut client, SOON);
    assert_eq!(tenant.deliveries(&mut client), []);
    execute(&mut client, "delete from items");
    tenant.wait_delivered(&mut client, SOON);
    stranger.wait_delivered(&mut client, SOON);
    assert_eq!(tenant.deliveries(&mut client).len(), 1);
    assert_eq!(stranger.deliveries(&mut client).len(), 2);
    assert_eq!(receiver.count(), 3);
}

#[test]
fn the_body_is_the_payload_as_postgresql_prints_it_whatever_it_holds() {
    const DATA: &str = r#"{"price": 1.10, "big": 12345678901234567890123, "huge": 1e400, "small": -0.000,
        "nested": {"b": [1, {"a": null}], "aa": [], "": {}}, "quote": "say \"hi\"", "slash": "a\\b/c",
        "emoji": "🦀 𝕏 é", "control": "\u0001 \n \t \u001f \u007f", "html": "<&>", "separator": "\u2028"}"#;
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    execute(
        &mut client,
        "select plugin_webhooks.create_secret('k', 'partner')",
    );
    let tenant = Tenant::install_with(&database, &config(&receiver.url("/")), Some("partner"));
    tenant.subscribe("items", &["INSERT"], None, true);
    execute(
        &mut client,
        &format!(
            "insert into items (tenant_id, title, data) values ('{}', {}, {})",
            tenant.id,
            quote_literal("line\nbreak \u{1} \\ \" 🦀"),
            quote_literal(DATA),
        ),
    );
    tenant.wait_delivered(&mut client, SOON);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_carries(request, &tenant.delivery(&mut client));
    let signature = request.header("X-Plugin-Signature").expect("a signature");
    assert!(verify_signature("k", &request.body, signature));
    let huge = format!(r#""huge": 1{}"#, "0".repeat(400));
    for part in [
        r#""price": 1.10"#,
        r#""big": 12345678901234567890123"#,
        &huge,
        r#""nested": {"": {}, "b": [1, {"a": null}], "aa": []}"#,
        r#""quote": "say \"hi\"""#,
        r#""slash": "a\\b/c""#,
        r#""emoji": "🦀 𝕏 é""#,
        r#""title": "line\nbreak \u0001 \\ \" 🦀""#,
    ] {
        assert!(
            request.text().contains(part),
            "{part} is not in {}",
            request.text()
        );
    }
    assert_json(
        &mut client,
        request.text(),
        "select payload from int.plugin_delivery_queue",
    );
}

#[test]
fn the_headers_of_the_configuration_are_sent_along() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    let tenant = Tenant::install(
        &database,
        &format!(
            r#"{{"webhook_url": "{}", "headers": {{"Authorization": "Bearer a b", "X-Empty": "", "x-lower": "!~"}}}}"#,
            receiver.url("/")
        ),
    );
    tenant.subscribe("items", &["INSERT"], None, false);
    tenant.insert_items(&mut client, 1);
    tenant.wait_delivered(&mut client, SOON);
    let request = &receiver.requests()[0];
    assert_eq!(request.header("Authorization"), Some("Bearer a b"));
    assert_eq!(request.header("X-Empty"), Some(""));
    assert_eq!(request.header("X-Lower"), Some("!~"));
    assert_eq!(request.header("X-Plugin-Signature"), None);
    assert_carries(request, &tenant.delivery(&mut client));
}

#[test]
fn a_table_of_any_name_can_be_subscribed() {
    let (database, receiver) = (project(shared_server()), Receiver::http());
    let mut client = database.client();
    let tenant = Tenant::install(&database, &config(&receiver.url("/")));
    for table in [
        "Work Orders",
        r#"say "hi" it's 100%"#,
        "Größe_ñ_日本",
        "UPPER",
        "back\\slash\nand line",
    ] {
        receiver.clear();
        create_tracked_table(&mut client, &quote_ident(table));
        tenant.subscribe(table, &["INSERT"], None, false);
        execute(
            &mut client,
            &format!(
                "insert into {} (tenant_id) values ('{}')",
                quote_ident(table),
                tenant.id
            ),
        );
        let delivery = tenant
            .wait_delivered(&mut client, SOON)
            .pop()
            .expect("a delivery");
        assert_eq!(
            delivery.event_type,
            format!("entity_change.{}.insert", table.to_lowercase())
        );
        let requests = receiver.requests();
        assert_eq!(requests.len(), 1, "{table}");
        assert_carries(&requests[0], &delivery);
        let name: String = value(
            &mut client,
            "select payload #>> '{audit,table_name}' from int.plugin_delivery_queue
             order by source_entity_change_id desc limit 1",
        );
        assert_eq!(name, table);
    }
}

#[test]
fn a_payload_of_a_megabyte_arrives_whole() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    let tenant = Tenant::install(&database, &config(&receiver.url("/")));
    tenant.subscribe("items", &["INSERT"], None, true);
    execute(
        &mut client,
        &format!(
            "insert into items (tenant_id, title) values ('{}', repeat('é', 600000))",
            tenant.id
        ),
    );
    tenant.wait_delivered(&mut client, SOON);
    let request = &receiver.requests()[0];
    assert!(request.body.len() > 1_200_000);
    assert!(request.text() == tenant.delivery(&mut client).payload);
}

#[test]
fn every_row_of_a_statement_arrives_exactly_once() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    tenant.insert_items(&mut client, 500);
    let deliveries = tenant.wait_delivered(&mut client, SOON);
    assert_eq!(deliveries.len(), 500);
    let mut expected: Vec<String> = deliveries.into_iter().map(|row| row.id).collect();
    let requests = receiver.requests();
    let mut sent: Vec<&str> = requests
        .iter()
        .filter_map(|request| request.header("X-Plugin-Delivery-Id"))
        .collect();
    expected.sort_unstable();
    sent.sort_unstable();
    assert_eq!(sent, expected);
}
