//! What is sent when a row changes, and what is not: requests, their bytes, and the failures that a
//! tenant reads about.

mod answers;
mod installations;
mod requests;
mod signing;
mod standard_webhooks;
mod targets;
mod transactions;

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

pub fn config(url: &str) -> String {
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
pub fn assert_carries(request: &Received, delivery: &Delivery) {
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

/// What no function lets a tenant store, but an old row or a superuser may have.
pub fn store_config(client: &mut Client, tenant: &Tenant<'_>, config: Option<&str>) {
    client
        .execute(
            "update int.plugin_installations set config = $2::text::jsonb where id = $1::text::uuid",
            &[&tenant.installation, &config],
        )
        .expect("store a configuration");
}
