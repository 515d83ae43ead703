//! The host with a former system, taken over.

use plugin_webhooks_kit::{former_system, value};

use super::*;

const DESK: &str = "00000000-0000-0000-0000-000000000101";
const NOOP: &str = r#"{"action": "noop"}"#;

fn taken_over(receiver: &str) -> Database {
    let database = former_system(shared_server(), receiver);
    execute(&mut database.client(), "create extension plugin_webhooks");
    database
}

/// A signed call of a partner of the plugin `desk`.
fn call(session: &mut Client) -> Result<String, Error> {
    as_user(session, "anon", r#"{"role":"anon"}"#, |tx| {
        let row = tx.query_one(
            "select public.rpc_plugin_ingest_webhook('desk', $1::text::uuid, $2::text::jsonb, $3)::text",
            &[&DESK, &NOOP, &sign("from the vault", NOOP.as_bytes())],
        )?;
        Ok(row.get(0))
    })
}

/// Calls until one is refused: two minutes may share them. Returns who refused it.
#[track_caller]
fn refused_by(session: &mut Client) -> &'static str {
    let (made, refused) = (0..=240)
        .map(|n| (n, call(session)))
        .find(|(_, result)| result.is_err())
        .expect("one call too many");
    assert!(made >= 120, "{made}: {refused:?}");
    let error = expect_sqlstate(refused, "54000");
    if error.message().starts_with("host: ") {
        "the host"
    } else {
        "the extension"
    }
}

/// The host's limiter raises for nobody, and for somebody who is gone its foreign key does.
#[test]
fn inbound_calls_go_on_with_and_without_a_user() {
    let database = taken_over("http://127.0.0.1:9");
    let mut dba = database.client();
    let mut session = database.authenticator();
    assert_eq!(refused_by(&mut session), "the host");
    execute(
        &mut dba,
        &format!("update int.plugin_installations set installed_by = null where id = '{DESK}'"),
    );
    assert_eq!(refused_by(&mut session), "the extension");
    for gone in [
        "delete from auth.users where id = (select id from leaving)",
        // Where nothing has told the installation, as in rows that an import brought.
        "alter table int.plugin_installations drop constraint plugin_installations_installed_by_fkey;
         drop trigger plugin_webhooks_plugin_installations_installed_by on auth.users;
         delete from auth.users where id = (select id from leaving)",
    ] {
        execute(
            &mut dba,
            &format!(
                "truncate plugin_webhooks.rate_limits;
                 create temp table leaving as select app.create_member('00000000-0000-0000-0000-000000000001') as id;
                 update int.plugin_installations set installed_by = (select id from leaving) where id = '{DESK}';"
            ),
        );
        call(&mut session).expect("a call for a user");
        execute(&mut dba, gone);
        call(&mut session).expect(gone);
        let here: i64 = value(
            &mut dba,
            "select sum(hits)::bigint from plugin_webhooks.rate_limits",
        );
        assert_eq!(here, 1, "{gone}");
        execute(&mut dba, "drop table leaving");
    }
}

#[test]
fn traffic_of_an_application_is_recorded_and_delivered() {
    let receiver = Receiver::http();
    let database = taken_over(receiver.url("").trim_end_matches('/'));
    let mut dba = database.client();
    execute(
        &mut dba,
        &format!(
            "set request.jwt.claim.sub = '00000000-0000-0000-0000-0000000000a1';
             insert into app.meter_readings (tenant_id, asset_id, reading)
             select tenant_id, id, 7 from app.assets limit 1;
             insert into int.plugin_webhook_subscriptions (plugin_installation_id, table_schema, table_name, operations)
             values ('{DESK}', 'app', 'work_orders', '{{INSERT}}');
             select app.sign_up('someone@new', 'New');
             insert into app.work_orders (tenant_id, title, priority, status)
             values ('00000000-0000-0000-0000-000000000001', 'Pump', 'low', 'open');"
        ),
    );
    wait_until(SOON, "the work order", || {
        let requests = receiver.requests();
        requests
            .iter()
            .any(|request| request.text().contains("work_orders"))
    });
    assert_eq!(
        text(
            &mut dba,
            "select string_agg(format('%s by %s', table_name, right(user_id::text, 2)), ', ' order by id)
             from audit.entity_changes
             where id > (select id from audit.entity_changes where table_name like 'meter_readings%')"
        ),
        "profiles by a1, tenants by a1, work_orders by a1, work_orders by a1"
    );
}
