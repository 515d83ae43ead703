//! What somebody sends is not repeated to others, nor does it fill the server's log: an error shows the start.

use plugin_webhooks_kit::postgres::Error;
use plugin_webhooks_kit::{describe, project_with_items, shared_server, text};

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
/// Nothing of the product's own texts.
const LETTER: char = 'ä';

/// Asserts that no part of the error holds more than 100 letters of the input, and that it says something.
#[track_caller]
pub fn assert_shows_the_start(error: &Error, what: &str) {
    let answer = error.as_db_error().expect(what);
    for part in [
        Some(answer.message()),
        answer.detail(),
        answer.hint(),
        answer.where_(),
    ] {
        let part = part.unwrap_or_default();
        let repeated = part.chars().filter(|letter| *letter == LETTER).count();
        assert!(repeated <= 100, "{what}: {repeated} letters");
        assert!(part.chars().count() < 1000, "{what}: {}", describe(error));
    }
}

#[test]
fn of_any_size_is_repeated_in_errors_by_100_characters_at_most() {
    let database = project_with_items(shared_server());
    let mut client = database.client();
    text(
        &mut client,
        "select public.rpc_register_plugin('crm', 'CRM')::text",
    );
    let installation = text(
        &mut client,
        &format!("select public.rpc_install_plugin('{TENANT}', 'crm')::text"),
    );
    let install = |config: &str| {
        format!("select public.rpc_install_plugin('{TENANT}', 'crm', null, {config})::text")
    };
    let update = |arguments: &str| {
        format!(
            "select public.rpc_update_plugin_installation('{TENANT}', '{installation}', {arguments})::text"
        )
    };
    let subscribe = |arguments: &str| {
        format!(
            "select public.rpc_upsert_plugin_webhook_subscription('{TENANT}', '{installation}', {arguments})::text"
        )
    };
    let ingest =
        |arguments: &str| format!("select public.rpc_plugin_ingest_webhook({arguments})::text");
    let refused = [
        "select public.rpc_register_plugin($1, 'name')::text".to_owned(),
        format!("select public.rpc_install_plugin('{TENANT}', $1)::text"),
        install("to_jsonb($1)"),
        install("jsonb_build_object('webhook_url', $1)"),
        install("jsonb_build_object('webhook_url', 'https://a.example/#' || $1)"),
        install("jsonb_build_object('timeout_ms', $1)"),
        install("jsonb_build_object('headers', $1)"),
        install("jsonb_build_object('headers', jsonb_build_object($1, 'v'))"),
        install("jsonb_build_object('headers', jsonb_build_object('X-A', $1))"),
        install("jsonb_build_object('headers', jsonb_build_object('X-Plugin-' || $1, 'v'))"),
        install("jsonb_build_object('retry_schedule', $1)"),
        install("jsonb_build_object('retry_schedule', jsonb_build_array($1))"),
        update("$1"),
        update("p_config => jsonb_build_object('timeout_ms', $1)"),
        subscribe("'public', 'items', array[$1]"),
        ingest(&format!("$1, '{installation}', '{{}}', 'x'")),
        ingest(&format!("'crm', '{installation}', to_jsonb($1), $1")),
        format!("select int.plugin_webhook_apply_action('{TENANT}', $1, '{{}}')::text"),
        format!(
            "select int.plugin_webhook_apply_action('{TENANT}', 'work_order.create', jsonb_build_object('title', $1))::text"
        ),
        "select plugin_webhooks.register_action($1, 'now()')::text".to_owned(),
        "select plugin_webhooks.unregister_action($1)::text".to_owned(),
        "select audit.track('items', array[$1])::text".to_owned(),
    ];
    // As long as a name may be, and there already.
    let name = LETTER.to_string().repeat(200);
    let create = "select plugin_webhooks.create_secret('text', $1::text)::text";
    client.query(create, &[&name]).expect("a new name");
    let rename = "select plugin_webhooks.update_secret(plugin_webhooks.create_secret('text', 'other'), null, $1::text)::text";
    for sql in [create, rename] {
        let error = client.query(sql, &[&name]).expect_err(sql);
        assert_eq!(error.code().map(|code| code.code()), Some("23505"), "{sql}");
        assert_shows_the_start(&error, sql);
    }
    for letters in [101, 20_000, 5_000_000] {
        let input = LETTER.to_string().repeat(letters);
        for sql in &refused {
            // The type of the parameter does not depend on where it stands.
            let sql = sql.replace("$1", "$1::text");
            let error = client.query(&sql, &[&input]).expect_err(&sql);
            assert_shows_the_start(&error, &sql);
        }
    }
}
