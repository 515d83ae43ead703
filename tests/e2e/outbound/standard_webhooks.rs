//! Standard Webhooks, verified with the unchanged library: a signature that our own code checks proves little.

use standardwebhooks::Webhook;

use super::*;

/// Whether the library takes the request, with what a receiver has of the secret.
fn verifies(receiver_secret: &str, request: &Received) -> bool {
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let value = request.header(name).expect("the headers");
        headers.insert(name, value.parse().expect("a header's value"));
    }
    let webhook = Webhook::new(receiver_secret).expect("a secret as the library takes it");
    webhook.verify(&request.body, &headers).is_ok()
}

/// A tenant whose deliveries are signed with this secret, and what a receiver is given of it.
fn signed_with<'a>(
    database: &'a Database,
    secret: &str,
    name: &str,
    url: &str,
) -> (Tenant<'a>, String) {
    let mut client = database.client();
    client
        .execute(
            "select plugin_webhooks.create_secret($1, $2)",
            &[&secret, &name],
        )
        .expect("store a secret");
    let tenant = Tenant::install_with(database, &config(url), Some(name));
    tenant.subscribe("items", &["INSERT"], None, true);
    let text = client
        .query_one("select plugin_webhooks.receiver_secret($1)", &[&name])
        .expect("the receiver's secret");
    (tenant, text.get(0))
}

#[test]
fn the_library_verifies_text_secrets_and_whsec_secrets() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    for (n, secret) in [
        "a text",
        "whsec_plJ3nmyCDGBKInavdOK15jsl",
        "v1,whsec_plJ3nmyCDGBKInavdOK15jsl",
        "whsec_YQ",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "ein Schlüssel \u{1F511}\n",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("secret_{n}");
        let (tenant, given) = signed_with(&database, secret, &name, &receiver.url("/"));
        receiver.clear();
        tenant.insert_items(&mut client, 1);
        tenant.wait_delivered(&mut client, SOON);
        let request = &receiver.requests()[0];
        assert!(verifies(&given, request), "{secret:?}");
        assert!(!verifies("whsec_b3RoZXI=", request), "{secret:?}");
        assert_eq!(
            request.header("webhook-id"),
            request.header("X-Plugin-Delivery-Id")
        );
        let signature = request.header("X-Plugin-Signature").expect("a signature");
        assert!(verify_signature(secret, &request.body, signature));
    }
}

#[test]
fn the_library_verifies_a_body_with_every_odd_character() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    execute(&mut client, "alter table items add column odd text");
    let (tenant, given) = signed_with(&database, "a text", "odd", &receiver.url("/"));
    let odd: String = (1..0x3000)
        .chain([0xFFFD, 0xFFFF, 0x1F511, 0x10FFFF])
        .filter_map(char::from_u32)
        .collect();
    client
        .execute(
            "insert into items (tenant_id, odd) values ($1::text::uuid, $2)",
            &[&tenant.id, &odd],
        )
        .expect("insert");
    tenant.wait_delivered(&mut client, SOON);
    assert!(verifies(&given, &receiver.requests()[0]));
}

#[test]
fn each_attempt_has_the_time_of_its_own_and_the_same_id() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    receiver.answer("/", Reply::Status(500, "no".to_owned()));
    let (tenant, given) = signed_with(&database, "a text", "again", &receiver.url("/"));
    tenant.insert_items(&mut client, 1);
    tenant.wait_failed(&mut client, SOON, 1);
    receiver.answer("/", Reply::ok());
    const NOW: &str = "select extract(epoch from clock_timestamp())::bigint::text";
    // As if it had waited: the second attempt starts in another second.
    let first = receiver.requests()[0].clone();
    let timestamp = |request: &Received| request.header("webhook-timestamp").map(str::to_owned);
    wait_until(SOON, "another second", || {
        value::<String>(&mut client, NOW) != timestamp(&first).expect("a timestamp")
    });
    execute(
        &mut client,
        "update int.plugin_delivery_queue set next_attempt_at = now() where status = 'pending'",
    );
    tenant.wait_delivered(&mut client, SOON);
    let second = receiver.requests()[1].clone();
    assert!(verifies(&given, &first) && verifies(&given, &second));
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_ne!(timestamp(&first), timestamp(&second));
    assert_ne!(
        first.header("webhook-signature"),
        second.header("webhook-signature")
    );
}

#[test]
fn without_a_secret_there_is_none_of_the_headers() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    tenant.insert_items(&mut client, 1);
    tenant.wait_delivered(&mut client, SOON);
    let request = &receiver.requests()[0];
    assert!(
        !request
            .headers
            .iter()
            .any(|(name, _)| name.to_ascii_lowercase().starts_with("webhook-")),
        "{request:?}"
    );
}

#[test]
fn a_whsec_secret_without_base64_fails_the_attempt_and_is_never_used_as_text() {
    let (database, receiver) = (project(shared_server()), Receiver::http());
    database.expect_log("the secret begins with whsec_, but no base64 follows");
    let mut client = database.client();
    // A Vault takes any text.
    execute(
        &mut client,
        "create schema vault;
         create view vault.decrypted_secrets as select 'bad'::text as name, 'whsec_*'::text as decrypted_secret;
         select plugin_webhooks.attach_host(array[current_user])",
    );
    create_tracked_table(&mut client, "items");
    let tenant = Tenant::install_with(&database, &config(&receiver.url("/")), Some("bad"));
    tenant.subscribe("items", &["INSERT"], None, false);
    tenant.insert_items(&mut client, 1);
    let delivery = tenant.wait_failed(&mut client, SOON, 1);
    assert_eq!(delivery.status, "pending");
    let kind = "select error_kind from int.plugin_delivery_attempts";
    assert_eq!(value::<String>(&mut client, kind), "secret");
    assert_eq!(receiver.count(), 0);
}

#[test]
fn switched_off_the_headers_are_gone_and_the_text_signs_as_before() {
    let server = Server::preloaded(
        Tree::shared(),
        &[
            ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
            ("plugin_webhooks.standard_webhooks", "off"),
        ],
    );
    let (database, receiver) = (project_with_items(&server), Receiver::http());
    let mut client = database.client();
    let (tenant, _) = signed_with(&database, "a text", "off", &receiver.url("/"));
    tenant.insert_items(&mut client, 1);
    tenant.wait_delivered(&mut client, SOON);
    let request = &receiver.requests()[0];
    assert_eq!(request.header("webhook-signature"), None);
    let signature = request.header("X-Plugin-Signature").expect("a signature");
    assert!(verify_signature("a text", &request.body, signature));
}
