//! What is sent when a row changes, and what is not: requests, their bytes, and the failures that a
//! tenant reads about.

use std::fs;
use std::time::{Duration, Instant};

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Ca, Database, Delivery, Received, Receiver, Reply, Server, Tenant, Tree, assert_delivers,
    create_tracked_table, execute, project, project_with_items, quote_ident, quote_literal,
    shared_server, value, verify_signature, wait_until,
};

/// A server under load may be slow; a promise that is kept never waits that long.
const SOON: Duration = Duration::from_secs(30);

fn config(url: &str) -> String {
    format!(r#"{{"webhook_url": "{url}"}}"#)
}

/// The error of the first attempt of one change of `items`, sent to `url`.
#[track_caller]
fn error_from(database: &Database, url: &str) -> String {
    error_with(database, &config(url))
}

#[track_caller]
fn error_with(database: &Database, config: &str) -> String {
    let tenant = Tenant::install(database, config);
    tenant.subscribe("items", &["INSERT"], None, false);
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    let delivery = tenant.wait_failed(&mut client, SOON, 1);
    assert_eq!(delivery.status, "pending");
    delivery.last_error.expect("a reason")
}

/// Asserts that this is the request of this delivery, byte for byte.
#[track_caller]
fn assert_carries(request: &Received, delivery: &Delivery) {
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("Content-Type"), Some("application/json"));
    assert_eq!(request.header("X-Plugin-Delivery-Id"), Some(&*delivery.id));
    assert_eq!(
        percent_decoded(
            request
                .header("X-Plugin-Event-Type")
                .expect("an event type")
        ),
        delivery.event_type
    );
    assert_eq!(request.text(), delivery.payload);
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two hex digits"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// Asserts that two JSON texts are equal to PostgreSQL; `expected` is an SQL expression.
#[track_caller]
fn assert_json(client: &mut Client, body: &str, expected: &str) {
    let body = quote_literal(body);
    let equal: bool = value(client, &format!("select {body}::jsonb = ({expected})"));
    let expected: String = value(client, &format!("select ({expected})::text"));
    assert!(equal, "expected {expected}, got {body}");
}

mod requests {
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
}

mod answers {
    use super::*;

    #[test]
    fn any_2xx_delivers() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        let mut client = database.client();
        for status in [200, 201, 202, 204, 299] {
            let path = format!("/{status}");
            receiver.answer(&path, Reply::Status(status, String::new()));
            let tenant = Tenant::with_items_to(&database, &receiver.url(&path));
            tenant.insert_items(&mut client, 1);
            tenant.wait_delivered(&mut client, SOON);
            let delivery = tenant.delivery(&mut client);
            assert_eq!(
                (delivery.attempts, delivery.last_error),
                (0, None),
                "{status}"
            );
        }
        assert_eq!(receiver.count(), 5);
    }

    #[test]
    fn any_other_status_is_a_failed_attempt_with_the_start_of_the_body() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        for status in [400, 401, 404, 429, 500, 503, 599] {
            let path = format!("/{status}");
            receiver.answer(
                &path,
                Reply::Status(status, format!("no {status}\r\nsorry")),
            );
            let error = error_from(&database, &receiver.url(&path));
            assert!(
                error.starts_with(&format!("http {status}: no {status}")),
                "{error}"
            );
            assert!(error.ends_with("sorry"), "{error}");
        }
        assert_eq!(receiver.count(), 7);
    }

    #[test]
    fn an_error_has_at_most_500_characters_and_is_text_whatever_the_body_is() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        receiver.answer("/long", Reply::Status(500, "é".repeat(5000)));
        let error = error_from(&database, &receiver.url("/long"));
        assert_eq!(error.chars().count(), 500);
        assert!(error.starts_with("http 500: éé"), "{error}");
        let body = b"\xff\xfe\0 binary \x01".to_vec();
        receiver.on("/binary", move |_| Reply::Full {
            status: 500,
            headers: Vec::new(),
            body: body.clone(),
        });
        let error = error_from(&database, &receiver.url("/binary"));
        assert!(
            error.starts_with("http 500: ") && error.contains("binary"),
            "{error}"
        );
    }

    #[test]
    fn a_redirect_is_a_failed_attempt_and_is_not_followed() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        for status in [301, 302, 303, 307, 308] {
            let location = receiver.url("/target");
            let path = format!("/{status}");
            receiver.on(&path, move |_| Reply::Full {
                status,
                headers: vec![("Location".to_owned(), location.clone())],
                body: Vec::new(),
            });
            let error = error_from(&database, &receiver.url(&path));
            assert!(error.starts_with(&format!("http {status}: ")), "{error}");
        }
        assert!(
            receiver
                .requests()
                .iter()
                .all(|sent| sent.path() != "/target")
        );
        assert_eq!(receiver.count(), 5);
    }

    #[test]
    fn a_receiver_that_hangs_fails_the_attempt_after_timeout_ms() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        receiver.answer("/", Reply::Hang);
        let tenant = Tenant::install(
            &database,
            &format!(
                r#"{{"webhook_url": "{}", "timeout_ms": 1000}}"#,
                receiver.url("/")
            ),
        );
        tenant.subscribe("items", &["INSERT"], None, false);
        let mut client = database.client();
        let committed = Instant::now();
        tenant.insert_items(&mut client, 1);
        let delivery = tenant.wait_failed(&mut client, SOON, 1);
        let took = committed.elapsed();
        assert!(took >= Duration::from_secs(1), "{took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(receiver.count(), 1);
        let error = delivery.last_error.expect("a reason");
        assert!(error.contains("timeout"), "{error}");
    }

    #[test]
    fn broken_answers_are_failed_attempts() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        receiver.answer("/close", Reply::Close);
        receiver.answer("/raw", Reply::RawBytes(b"not http at all\r\n\r\n".to_vec()));
        for path in ["/close", "/raw"] {
            assert!(!error_from(&database, &receiver.url(path)).is_empty());
        }
    }
}

mod targets {
    use super::*;

    #[test]
    fn a_refused_connection_is_a_failed_attempt() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        receiver.stop();
        let error = error_from(&database, &receiver.url("/"));
        assert!(error.contains("refused"), "{error}");
        assert!(!error.contains("127.0"), "{error}");
    }

    #[test]
    fn an_unknown_host_is_a_failed_attempt() {
        let database = project_with_items(shared_server());
        for scheme in ["http", "https"] {
            let error = error_from(&database, &format!("{scheme}://something.invalid/hook"));
            assert!(error.contains("host name could not be resolved"), "{error}");
        }
    }

    #[test]
    fn https_is_verified_with_the_authorities_of_ca_file() {
        let ca = Ca::create(Tree::shared());
        let stranger = Ca::create(Tree::shared());
        let server = Server::preloaded(
            Tree::shared(),
            &[
                ("plugin_webhooks.allowed_networks", "127.0.0.0/8, ::1/128"),
                (
                    "plugin_webhooks.ca_file",
                    &ca.pem_path().display().to_string(),
                ),
            ],
        );
        let database = project_with_items(&server);
        let mut client = database.client();
        let receiver = Receiver::https(&ca);
        for url in [receiver.url("/"), receiver.url_for("localhost", "/")] {
            let tenant = Tenant::with_items_to(&database, &url);
            tenant.insert_items(&mut client, 1);
            tenant.wait_delivered(&mut client, SOON);
            assert_carries(
                receiver.requests().last().expect("a request"),
                &tenant.delivery(&mut client),
            );
        }
        let loopback = [127, 0, 0, 1].into();
        for (receiver, reason) in [
            (
                Receiver::https_on(&ca, loopback, &["other.example"]),
                "name",
            ),
            (Receiver::https(&stranger), "trusted"),
        ] {
            let error = error_from(&database, &receiver.url("/"));
            assert!(
                error.starts_with("TLS: ") && error.contains(reason),
                "{error}"
            );
            assert_eq!(receiver.count(), 0);
        }
    }

    #[test]
    fn https_with_an_unknown_authority_is_refused_before_anything_is_sent() {
        let ca = Ca::create(Tree::shared());
        let (database, receiver) = (project_with_items(shared_server()), Receiver::https(&ca));
        let error = error_from(&database, &receiver.url("/"));
        assert!(
            error.starts_with("TLS: ") && error.contains("trusted"),
            "{error}"
        );
        assert_eq!(receiver.count(), 0);
    }

    #[test]
    fn an_address_outside_of_allowed_networks_is_never_connected_nor_named() {
        let ca = Ca::create(Tree::shared());
        let server = Server::preloaded(
            Tree::shared(),
            &[
                ("plugin_webhooks.allowed_networks", "127.0.1.0/24"),
                (
                    "plugin_webhooks.ca_file",
                    &ca.pem_path().display().to_string(),
                ),
            ],
        );
        let database = project_with_items(&server);
        let (inside, outside) = ([127, 0, 1, 1].into(), [127, 0, 2, 1].into());
        assert_delivers(&database, &Receiver::http_on(inside));
        assert_delivers(&database, &Receiver::https_on(&ca, inside, &["127.0.1.1"]));
        let closed = [
            Receiver::http_on(outside),
            Receiver::https_on(&ca, outside, &["127.0.2.1", "localhost"]),
            Receiver::https(&ca),
        ];
        let urls = [
            closed[0].url("/"),
            closed[1].url("/"),
            closed[2].url_for("localhost", "/"),
            "https://169.254.169.254/latest/meta-data".to_owned(),
        ];
        for url in urls {
            let error = error_from(&database, &url);
            assert!(
                error.contains("plugin_webhooks.allowed_networks"),
                "{error}"
            );
            for part in ["127.", "::1", "169.254"] {
                assert!(!error.contains(part), "{error}");
            }
        }
        for receiver in closed {
            assert_eq!(receiver.connections(), 0);
        }
    }

    #[test]
    fn plain_http_works_only_in_allowed_networks() {
        let server = Server::preloaded(Tree::shared(), &[]);
        let database = project_with_items(&server);
        let receiver = Receiver::http();
        for host in ["127.0.0.1", "localhost"] {
            let error = error_from(&database, &receiver.url_for(host, "/"));
            assert!(error.contains("plain http"), "{error}");
            assert!(!error.contains("127."), "{error}");
        }
        assert_eq!(receiver.connections(), 0);
    }
}

mod installations {
    use super::*;

    /// What no function lets a tenant store, but an old row or a superuser may have.
    fn store_config(client: &mut Client, tenant: &Tenant<'_>, config: Option<&str>) {
        client
            .execute(
                "update int.plugin_installations set config = $2::text::jsonb where id = $1::text::uuid",
                &[&tenant.installation, &config],
            )
            .expect("store a configuration");
    }

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
            delivery.status != "sending"
                && (delivery.status == "delivered" || delivery.attempts > 0)
        });
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
        ] {
            let tenant = Tenant::install(&database, &config(&receiver.url("/huge")));
            tenant.subscribe("items", &["INSERT"], None, true);
            execute(
                &mut client,
                &format!(
                    "insert into items (tenant_id, data) select '{}', ({data}) from generate_series(1, 20)",
                    tenant.id
                ),
            );
            assert_delivers(&database, &receiver);
            wait_until(SOON, "the deliveries to be dead", || {
                status(&mut client, &tenant) == "dead: the payload is too long to send"
            });
        }
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        execute(
            &mut client,
            &format!(
                "update int.plugin_installations
                 set config = config || jsonb_build_object('x', (select jsonb_agg(1e131071::numeric) from generate_series(1, 10000)))
                 where id = '{}'",
                tenant.installation
            ),
        );
        tenant.insert_items(&mut client, 20);
        assert_delivers(&database, &receiver);
        wait_until(SOON, "the deliveries to be dead", || {
            status(&mut client, &tenant).starts_with("dead: ")
                && status(&mut client, &tenant).contains("webhook_url")
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
                 select t::uuid, repeat('x', 30000000) from unnest($1::text[]) as t",
                &[&ids],
            )
            .expect("insert");
        // 64 MB of bodies are two and the one that goes over.
        receiver.wait_for(3, SOON);
        let held = "select concat_ws(' ', count(*) filter (where status = 'sending' and claim_id is not null),
                           count(*) filter (where status = 'sending' and claim_id is null))
                    from int.plugin_delivery_queue";
        assert_eq!(value::<String>(&mut client, held), "3 3");
        receiver.answer("/", Reply::ok());
        receiver.stop();
        receiver.start_again();
        wait_until(SOON, "the rest to arrive", || {
            value::<i64>(
                &mut client,
                "select count(*) from int.plugin_delivery_queue where status = 'delivered'",
            ) == 3
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
}

mod signing {
    use super::*;

    #[test]
    fn a_secret_ref_that_names_no_secret_sends_unsigned_and_warns_once() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        let mut client = database.client();
        let tenant = Tenant::install_with(&database, &config(&receiver.url("/")), Some("nowhere"));
        tenant.subscribe("items", &["INSERT"], None, false);
        for _ in 0..3 {
            tenant.insert_items(&mut client, 2);
            tenant.wait_delivered(&mut client, SOON);
        }
        assert_eq!(receiver.count(), 6);
        for request in receiver.requests() {
            assert_eq!(request.header("X-Plugin-Signature"), None);
        }
        let log = shared_server().log();
        let warnings = log
            .lines()
            .filter(|line| line.contains("WARNING") && line.contains(&tenant.installation));
        assert_eq!(warnings.count(), 1);
    }

    #[test]
    fn an_odd_secret_ref_sends_unsigned_and_harms_nobody() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        let mut client = database.client();
        execute(
            &mut client,
            "select plugin_webhooks.create_secret('k', 'partner')",
        );
        for secret_ref in [
            "partner\n".to_owned(),
            " partner".to_owned(),
            String::new(),
            "\u{1}\r\nforged line".to_owned(),
            "%s'; select 1; --".to_owned(),
            "x".repeat(1_000_000),
        ] {
            let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
            client
                .execute(
                    "update int.plugin_installations set secret_ref = $2 where id = $1::text::uuid",
                    &[&tenant.installation, &secret_ref],
                )
                .expect("store a secret_ref");
            receiver.clear();
            tenant.insert_items(&mut client, 1);
            tenant.wait_delivered(&mut client, SOON);
            let request = &receiver.requests()[0];
            assert_carries(request, &tenant.delivery(&mut client));
            assert_eq!(request.header("X-Plugin-Signature"), None);
        }
        let log = shared_server().log();
        assert!(
            log.lines().all(|line| line.len() < 10_000),
            "a name does not fill the log"
        );
        assert!(!log.lines().any(|line| line.starts_with("forged line")));
    }

    #[test]
    fn with_require_signature_nothing_leaves_unsigned() {
        let server = Server::preloaded(
            Tree::shared(),
            &[
                ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
                ("plugin_webhooks.require_signature", "on"),
            ],
        );
        let (database, receiver) = (project_with_items(&server), Receiver::http());
        let mut client = database.client();
        execute(
            &mut client,
            "select plugin_webhooks.create_secret('k', 'partner')",
        );
        for secret_ref in [None, Some("nowhere")] {
            let unsigned = Tenant::install_with(&database, &config(&receiver.url("/")), secret_ref);
            unsigned.subscribe("items", &["INSERT"], None, false);
            unsigned.insert_items(&mut client, 1);
            let delivery = unsigned.wait_failed(&mut client, SOON, 1);
            assert_eq!(delivery.status, "pending");
            let error = delivery.last_error.expect("a reason");
            assert!(error.contains("require_signature"), "{error}");
        }
        assert_eq!(receiver.count(), 0);
        let signed = Tenant::install_with(&database, &config(&receiver.url("/")), Some("partner"));
        signed.subscribe("items", &["INSERT"], None, false);
        signed.insert_items(&mut client, 1);
        signed.wait_delivered(&mut client, SOON);
        assert_eq!(receiver.count(), 1);
    }

    #[test]
    fn a_secret_that_the_key_file_cannot_open_fails_its_deliveries_and_no_others() {
        let server = Server::preloaded(
            Tree::shared(),
            &[("plugin_webhooks.allowed_networks", "127.0.0.0/8")],
        );
        let (database, receiver) = (project_with_items(&server), Receiver::http());
        let mut client = database.client();
        execute(
            &mut client,
            "select plugin_webhooks.create_secret('old', 'lost')",
        );
        // The file keeps its owner and its mode.
        fs::write(
            server.data_dir().join("plugin_webhooks.key"),
            "ab".repeat(32),
        )
        .expect("another key");
        execute(
            &mut client,
            "select plugin_webhooks.create_secret('new', 'good')",
        );
        let install = |secret_ref| {
            let tenant = Tenant::install_with(&database, &config(&receiver.url("/")), secret_ref);
            tenant.subscribe("items", &["INSERT"], None, false);
            tenant
        };
        let (lost, good, unsigned) = (install(Some("lost")), install(Some("good")), install(None));
        // All in one commit, so that one claim takes all of them.
        execute(
            &mut client,
            &format!(
                "insert into items (tenant_id) values ('{}'), ('{}'), ('{}')",
                lost.id, good.id, unsigned.id
            ),
        );
        good.wait_delivered(&mut client, SOON);
        unsigned.wait_delivered(&mut client, SOON);
        let delivery = lost.wait_failed(&mut client, SOON, 1);
        assert_eq!(delivery.status, "pending");
        let error = delivery.last_error.expect("a reason");
        assert!(error.contains("secret"), "{error}");
        assert_eq!(receiver.count(), 2);
        let good = good.delivery(&mut client);
        let requests = receiver.requests();
        let signed = requests
            .iter()
            .find(|request| request.header("X-Plugin-Delivery-Id") == Some(&good.id))
            .expect("the signed request");
        let signature = signed.header("X-Plugin-Signature").expect("a signature");
        assert!(verify_signature("new", &signed.body, signature));
    }
}

mod transactions {
    use super::*;

    #[test]
    fn what_is_rolled_back_is_never_sent() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        let mut transaction = client.transaction().expect("begin");
        let insert = format!(
            "insert into items (tenant_id, title) values ('{}', 'gone')",
            tenant.id
        );
        transaction.batch_execute(&insert).expect("insert");
        transaction.rollback().expect("roll back");
        execute(
            &mut client,
            &format!(
                "begin; savepoint s; {insert}; rollback to s;
                 insert into items (tenant_id, title) values ('{}', 'kept'); commit",
                tenant.id
            ),
        );
        tenant.wait_delivered(&mut client, SOON);
        let delivery = tenant.delivery(&mut client);
        assert_eq!(receiver.count(), 1);
        assert_carries(&receiver.requests()[0], &delivery);
    }

    #[test]
    fn nothing_is_sent_before_the_commit() {
        let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/open"));
        let mut client = database.client();
        let mut transaction = client.transaction().expect("begin");
        transaction
            .batch_execute(&format!(
                "insert into items (tenant_id) values ('{}')",
                tenant.id
            ))
            .expect("insert");
        assert_delivers(&database, &receiver);
        assert_eq!(receiver.count(), 1, "only the healthy one");
        transaction.commit().expect("commit");
        tenant.wait_delivered(&mut client, SOON);
        assert_eq!(receiver.count(), 2);
    }

    #[test]
    fn a_prepared_transaction_is_sent_after_commit_prepared() {
        let server = Server::preloaded(
            Tree::shared(),
            &[
                ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
                ("max_prepared_transactions", "4"),
            ],
        );
        let (database, receiver) = (project_with_items(&server), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/prepared"));
        let mut client = database.client();
        for name in ["kept", "gone"] {
            execute(
                &mut client,
                &format!(
                    "begin; insert into items (tenant_id, title) values ('{}', '{name}'); prepare transaction '{name}'",
                    tenant.id
                ),
            );
        }
        assert_delivers(&database, &receiver);
        assert_eq!(receiver.count(), 1, "only the healthy one");
        execute(&mut client, "rollback prepared 'gone'");
        execute(&mut client, "commit prepared 'kept'");
        tenant.wait_delivered(&mut client, SOON);
        assert_eq!(tenant.deliveries(&mut client).len(), 1);
        assert_eq!(receiver.count(), 2);
    }
}
