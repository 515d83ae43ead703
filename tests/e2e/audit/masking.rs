//! What one plugin of a tenant learns of another one's installation.

use super::*;
use plugin_webhooks_kit::{Receiver, former_system};

/// In every place where a configuration may hold something that is nobody else's business.
const CONFIG: &str = r#"{
    "webhook_url": "https://receiver.invalid:8443/hook?token=hunter2", "timeout_ms": 5000, "retry_schedule": [60],
    "headers": {"Authorization": "Bearer hunter2", "X-Key": "hunter2"},
    "own": "hunter2", "own_list": ["hunter2"], "own_object": {"deep": {"key": "hunter2"}}, "own_number": 42,
    "own_null": null}"#;
const MASKED: &str = r#"{
    "webhook_url": "https://receiver.invalid:8443/hook?***", "timeout_ms": 5000, "retry_schedule": [60],
    "headers": {"Authorization": "***", "X-Key": "***"},
    "own": "***", "own_list": "***", "own_object": "***", "own_number": "***", "own_null": null}"#;

/// A tenant with a plugin `spy` that hears of installations, and the id of one of `crm`.
#[track_caller]
fn spied_on(client: &mut Client, tenant: &str) -> String {
    execute(
        client,
        &format!(
            "select rpc_register_plugin('spy', 'Spy'), rpc_register_plugin('crm', 'CRM');
             select rpc_upsert_plugin_webhook_subscription('{tenant}', rpc_install_plugin('{tenant}', 'spy'),
                 'int', 'plugin_installations', '{{INSERT,UPDATE,DELETE}}', null, true);
             delete from audit.entity_changes;"
        ),
    );
    value(
        client,
        &format!("select rpc_install_plugin('{tenant}', 'crm', null, '{CONFIG}')::text"),
    )
}

#[track_caller]
fn assert_nothing_leaks(client: &mut Client, changes: i64) {
    for (table, text) in [
        ("audit.entity_changes", "concat(old_data, new_data)"),
        ("int.plugin_delivery_queue", "payload::text"),
    ] {
        let installations = match table {
            "audit.entity_changes" => "table_name = 'plugin_installations'",
            _ => "event_type like 'entity_change.plugin_installations.%'",
        };
        let of_installations = format!("{table} where {installations}");
        assert_eq!(count(client, &of_installations), changes, "{table}");
        let leaks = format!("{of_installations} and {text} like '%hunter%'");
        assert_eq!(count(client, &leaks), 0, "{table}");
    }
}

#[test]
fn no_subscriber_reads_what_another_installation_is_authorized_with() {
    let database = project(shared_server());
    let mut client = database.client();
    let crm = spied_on(&mut client, TENANT);
    execute(
        &mut client,
        &format!(
            "update int.plugin_installations
             set config = jsonb_set(config, '{{headers,Authorization}}', '\"Bearer hunter3\"') where id = '{crm}';
             update int.plugin_installations set secret_ref = 'signing' where id = '{crm}';
             select rpc_uninstall_plugin('{TENANT}', '{crm}');"
        ),
    );
    assert_nothing_leaks(&mut client, 4);
    let rows = client
        .query(
            "select operation, coalesce(old_data -> 'config', 'null') in ('null', $1::text::jsonb),
                    coalesce(new_data -> 'config', 'null') in ('null', $1::text::jsonb),
                    coalesce(old_data, new_data) ->> 'status', array_remove(changed_fields, 'updated_at'),
                    coalesce(new_data, old_data) ->> 'secret_ref'
             from audit.entity_changes order by id",
            &[&MASKED],
        )
        .expect("read the log");
    let described: Vec<String> = rows
        .iter()
        .map(|row| {
            let changed: Option<Vec<String>> = row.get(4);
            let changed = changed.unwrap_or_default().join(",");
            let secret: Option<String> = row.get(5);
            assert!(row.get::<_, bool>(1) && row.get::<_, bool>(2), "{row:?}");
            assert_eq!(row.get::<_, &str>(3), "installed");
            format!(
                "{} {changed} {}",
                row.get::<_, &str>(0),
                secret.unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        described,
        [
            "INSERT  ",
            "UPDATE config ",
            "UPDATE secret_ref signing",
            "DELETE  signing"
        ]
    );
    let written = "audit.entity_changes where new_data -> 'config' ->> 'timeout_ms' = '5000'";
    assert_eq!(count(&mut client, written), 3);
}

#[test]
fn the_installation_itself_keeps_its_configuration() {
    let database = project(shared_server());
    let mut client = database.client();
    let crm = spied_on(&mut client, TENANT);
    let kept = format!("int.plugin_installations where id = '{crm}' and config = '{CONFIG}'");
    assert_eq!(count(&mut client, &kept), 1);
}

#[test]
fn odd_configurations_are_masked_too() {
    let database = project(shared_server());
    let mut client = database.client();
    let crm = spied_on(&mut client, TENANT);
    for (stored, masked) in [
        ("{}", "{}"),
        ("null", "null"),
        ("[\"hunter2\"]", "\"***\""),
        ("\"hunter2\"", "\"***\""),
        (r#"{"headers": "hunter2"}"#, r#"{"headers": "***"}"#),
        (r#"{"headers": {}}"#, r#"{"headers": {}}"#),
        (r#"{"webhook_url": null}"#, r#"{"webhook_url": null}"#),
        (
            r#"{"webhook_url": ["https://a.invalid/hunter2"]}"#,
            r#"{"webhook_url": "***"}"#,
        ),
        (
            r#"{"webhook_url": "https://me:hunter2@a.invalid/"}"#,
            r#"{"webhook_url": "***"}"#,
        ),
        (
            r#"{"webhook_url": "HTTPS://a.invalid#hunter2\n"}"#,
            r#"{"webhook_url": "HTTPS://a.invalid?***"}"#,
        ),
        (
            r#"{"webhook_url": "https://a.invalid/\nhunter2"}"#,
            r#"{"webhook_url": "***"}"#,
        ),
        (
            r#"{"batch": {"token": "hunter2"}, "order": {"token": "hunter2"}, "cloudevents": "hunter2", "timeout_ms": "hunter2",
                "max_per_second": ["hunter2"], "retry_schedule": "hunter2"}"#,
            r#"{"batch": "***", "order": "***", "timeout_ms": "***", "cloudevents": "***", "max_per_second": "***", "retry_schedule": "***"}"#,
        ),
        (
            r#"{"batch": {"max_events": 9, "max_wait_ms": 7}, "order": "record", "cloudevents": true, "max_per_second": 0.5,
                "retry_schedule": [60, 300]}"#,
            r#"{"batch": {"max_events": 9, "max_wait_ms": 7}, "order": "record", "cloudevents": true, "max_per_second": 0.5, "retry_schedule": [60, 300]}"#,
        ),
        (
            r#"{"webhook_url": "http://a.invalid/a/b"}"#,
            r#"{"webhook_url": "http://a.invalid/a/b"}"#,
        ),
    ] {
        execute(
            &mut client,
            &format!("update int.plugin_installations set config = '{stored}' where id = '{crm}'"),
        );
        let logged: String = value(
            &mut client,
            "select (new_data -> 'config')::text from audit.entity_changes order by id desc limit 1",
        );
        assert_eq!(logged, masked, "{stored}");
    }
}

#[test]
fn holds_in_a_database_that_was_taken_over_and_one_whose_log_only_a_statement_can_write() {
    let receiver = Receiver::http();
    let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
    let mut client = database.client();
    execute(
        &mut client,
        "create extension plugin_webhooks;
         alter table audit.entity_changes
             add column lower_name text generated always as (lower(table_name)) stored;",
    );
    let tenant: String = value(&mut client, "select id::text from app.tenants limit 1");
    let crm = spied_on(&mut client, &tenant);
    execute(
        &mut client,
        &format!("delete from int.plugin_installations where id = '{crm}'"),
    );
    assert_nothing_leaks(&mut client, 2);
}
