//! Which secrets a tenant may use: with plugin_webhooks.allowed_secret_names none but its own, whatever it stores and
//! whenever it stored it.

use plugin_webhooks_kit::postgres::{Client, Error};
use plugin_webhooks_kit::{
    Database, Receiver, Server, Tenant, as_user, assert_signed, describe, execute, expect_sqlstate,
    project_with_items, quote_literal, sign, text, value, wait_until,
};

use crate::private_server::{SOON, builder};

const SETTING: &str = "plugin_webhooks.allowed_secret_names";
const PAYLOAD: &str = r#"{"action": "noop"}"#;

/// Names that secrets of the stage have, with the text of each.
fn secrets(one: &str, two: &str) -> [(String, &'static str); 4] {
    [
        ("never meant for signing".to_owned(), "of the host"),
        ("shared".to_owned(), "of all"),
        (format!("{one}/hook"), "of one"),
        (format!("{two}/hook"), "of two"),
    ]
}

/// One call of the tenant's admin.
fn call(database: &Database, tenant: &Tenant<'_>, expression: &str) -> Result<(), Error> {
    let claims = format!(
        r#"{{"sub": "{}", "tenant_id": "{}", "permissions": ["tenant.admin"]}}"#,
        tenant.admin, tenant.id
    );
    let mut session = database.authenticator();
    as_user(&mut session, "authenticated", &claims, |call| {
        call.execute(&format!("select {expression}"), &[])
    })
    .map(|_| ())
}

/// The tenant's admin stores the name of a secret, in each of the two ways.
fn refer(database: &Database, tenant: &Tenant<'_>, name: &str) -> [Result<(), Error>; 2] {
    let config = text(
        &mut database.client(),
        &format!(
            "select quote_literal(config::text) from int.plugin_installations where id = '{}'",
            tenant.installation
        ),
    );
    let (id, installation, name) = (&tenant.id, &tenant.installation, quote_literal(name));
    [
        format!(
            "rpc_install_plugin('{id}', '{}', {name}, {config})",
            tenant.plugin
        ),
        format!("rpc_update_plugin_installation('{id}', '{installation}', null, {name})"),
    ]
    .map(|expression| call(database, tenant, &expression))
}

#[track_caller]
fn can_refer(database: &Database, tenant: &Tenant<'_>, name: &str) {
    for stored in refer(database, tenant, name) {
        stored.unwrap_or_else(|error| panic!("{name}: {}", describe(&error)));
    }
}

fn ingest(database: &Database, tenant: &Tenant<'_>, secret: &str) -> Result<(), Error> {
    let payload: String = value(
        &mut database.client(),
        &format!("select '{PAYLOAD}'::jsonb::text"),
    );
    call(
        database,
        tenant,
        &format!(
            "rpc_plugin_ingest_webhook('{}', '{}', '{payload}', '{}')",
            tenant.plugin,
            tenant.installation,
            sign(secret, payload.as_bytes())
        ),
    )
}

fn refused(client: &mut Client) -> Vec<String> {
    let rows = client.query(
        "select secret_ref || ': ' || reason from plugin_webhooks.refused_secret_refs order by 1",
        &[],
    );
    let rows = rows.expect("the view");
    rows.iter().map(|row| row.get(0)).collect()
}

/// The kind of the error of the last attempt, when one has ended without a delivery.
fn failed(client: &mut Client, tenant: &Tenant<'_>) -> String {
    let mut found = None;
    wait_until(SOON, "a failed attempt", || {
        found = value(
            client,
            &format!(
                "select (select a.error_kind || ': ' || q.last_error from int.plugin_delivery_queue as q
                         join int.plugin_delivery_attempts as a on a.delivery_id = q.id
                         where q.plugin_installation_id = '{}' and q.status = 'pending' and q.attempts > 0
                         order by a.id desc limit 1)",
                tenant.installation
            ),
        );
        found.is_some()
    });
    found.unwrap_or_default()
}

fn stage(own: &Server) -> (Database, Receiver) {
    let database = project_with_items(own);
    database.expect_log("secret_ref names a secret that it may not use");
    (database, Receiver::http())
}

#[test]
fn a_tenant_uses_no_name_outside_the_list_whenever_it_stored_it() {
    let own = builder().preloaded().start();
    let (database, receiver) = stage(&own);
    let mut client = database.client();
    let [one, two]: [Tenant<'_>; 2] =
        std::array::from_fn(|_| Tenant::with_items_to(&database, &receiver.url("/")));
    let secrets = secrets(&one.id, &two.id);
    for (name, secret) in &secrets {
        execute(
            &mut client,
            &format!("select plugin_webhooks.create_secret('{secret}', '{name}')"),
        );
    }
    let [host, shared, of_one, of_two] = &secrets;

    // Without a list: any.
    for (name, secret) in [host, of_two] {
        can_refer(&database, &one, name);
        one.insert_items(&mut client, 1);
        one.wait_delivered(&mut client, SOON);
        assert_signed(receiver.requests().last().expect("a request"), secret);
        ingest(&database, &one, secret).expect("its signature");
    }
    let sent = receiver.count();

    // What it has stored resolves to nothing from now on.
    own.alter_system(SETTING, "shared, {tenant_id}/%");
    let mut client = database.client();
    one.insert_items(&mut client, 1);
    assert_eq!(
        failed(&mut client, &one),
        "secret: secret_ref names a secret that this installation may not use"
    );
    assert_eq!(receiver.count(), sent, "nothing goes out unsigned");
    expect_sqlstate(ingest(&database, &one, of_two.1), "28000");
    let resolve = format!(
        "select int.resolve_installation_signing_secret('{}')",
        one.installation
    );
    assert_eq!(value::<Option<String>>(&mut client, &resolve), None);
    let outside = format!("{}: not in {SETTING}", of_two.0);
    assert_eq!(refused(&mut client), [outside]);

    // Nor can it store another one.
    for (name, _) in [host, of_two] {
        for stored in refer(&database, &one, name) {
            let error = expect_sqlstate(stored, "42501");
            assert!(
                error.hint().unwrap_or_default().contains(SETTING),
                "{error:?}"
            );
        }
    }
    for (name, secret) in [shared, of_one] {
        can_refer(&database, &one, name);
        execute(
            &mut client,
            "update int.plugin_delivery_queue set next_attempt_at = now() where status = 'pending'",
        );
        one.insert_items(&mut client, 1);
        one.wait_delivered(&mut client, SOON);
        assert_signed(receiver.requests().last().expect("a request"), secret);
        ingest(&database, &one, secret).expect("its signature");
    }
    assert_eq!(refused(&mut client), [""; 0]);
}

#[test]
fn a_secret_of_another_tenant_signs_nothing() {
    let own = builder().preloaded().start();
    let (database, receiver) = stage(&own);
    let mut client = database.client();
    let [one, two]: [Tenant<'_>; 2] =
        std::array::from_fn(|_| Tenant::with_items_to(&database, &receiver.url("/")));
    execute(
        &mut client,
        &format!(
            "select plugin_webhooks.create_secret('of one', 'bound', '', '{}', '{}')",
            one.id, one.plugin
        ),
    );
    for tenant in [&one, &two] {
        can_refer(&database, tenant, "bound");
    }
    two.insert_items(&mut client, 1);
    assert_eq!(
        failed(&mut client, &two),
        "secret: secret_ref names a secret that this installation may not use"
    );
    expect_sqlstate(ingest(&database, &two, "of one"), "28000");
    one.insert_items(&mut client, 1);
    one.wait_delivered(&mut client, SOON);
    ingest(&database, &one, "of one").expect("its signature");
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1, "nothing goes out unsigned");
    assert_signed(&requests[0], "of one");
    assert_eq!(
        refused(&mut client),
        ["bound: the secret is another tenant's or plugin's"]
    );
}
