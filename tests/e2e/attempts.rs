//! The records of attempts.

use std::sync::OnceLock;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Ca, Receiver, Reply, Server, Tenant, Tree, as_user, execute, project_with_items, value,
};

use crate::private_server::{SOON, builder};

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        builder()
            .preloaded()
            .setting("plugin_webhooks.max_probe_interval", "0")
            .start()
    })
}

/// Number, status, kind of error and start of the response of a tenant's attempts, oldest first.
type Record = (i32, Option<i32>, Option<String>, Option<String>);

fn attempts(client: &mut Client, tenant: &Tenant) -> Vec<Record> {
    let rows = client
        .query(
            "select attempt, status_code, error_kind, response_start
             from int.plugin_delivery_attempts
             where plugin_installation_id = $1::text::uuid and tenant_id = $2::text::uuid
             order by id",
            &[&tenant.installation, &tenant.id],
        )
        .expect("read the records");
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect()
}

mod records {
    use super::*;

    #[test]
    fn each_attempt_is_one_row_with_what_the_receiver_said() {
        let (database, receiver) = (project_with_items(server()), Receiver::http());
        receiver.answer("/", Reply::Status(500, "not\nyet".to_owned()));
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 1);
        tenant.wait_failed(&mut client, SOON, 1);
        receiver.answer("/", Reply::Status(201, "thanks".to_owned()));
        execute(
            &mut client,
            "update int.plugin_delivery_queue set next_attempt_at = now()",
        );
        tenant.wait_delivered(&mut client, SOON);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            attempts(&mut client, &tenant),
            [
                (1, Some(500), text("status"), text("not yet")),
                (2, Some(201), None, text("thanks")),
            ]
        );
        let plausible: bool = value(
            &mut client,
            "select bool_and(a.duration_ms between 0 and 30000
                             and a.started_at between q.created_at and clock_timestamp()
                             and a.delivery_id = q.id)
             from int.plugin_delivery_attempts as a join int.plugin_delivery_queue as q on q.id = a.delivery_id",
        );
        assert!(plausible);
    }

    #[test]
    fn names_the_kind_of_each_failure() {
        let (database, receiver) = (project_with_items(server()), Receiver::http());
        receiver.answer("/hang", Reply::Hang);
        receiver.answer("/close", Reply::Close);
        receiver.answer(
            "/noise",
            Reply::RawBytes(b"this is not HTTP\r\n\r\n".to_vec()),
        );
        let stranger = Receiver::https(&Ca::create(Tree::shared()));
        let mut client = database.client();
        let hang = format!(
            r#"{{"webhook_url": "{}", "timeout_ms": 1000}}"#,
            receiver.url("/hang")
        );
        let to = |url: &str| format!(r#"{{"webhook_url": "{url}"}}"#);
        let cases = [
            (hang, "timeout"),
            (to(&receiver.url("/close")), "connect"),
            (to(&receiver.url("/noise")), "protocol"),
            (to("http://127.0.0.1:9/"), "connect"),
            (to("https://no-such-host.invalid/"), "dns"),
            (to("http://10.1.2.3/"), "denied"),
            (to(&stranger.url("/")), "tls"),
        ];
        for (config, kind) in cases {
            let tenant = Tenant::install(&database, &config);
            tenant.subscribe("items", &["INSERT"], None, false);
            tenant.insert_items(&mut client, 1);
            tenant.wait_failed(&mut client, SOON, 1);
            let expected = (1, None, Some(kind.to_owned()), None);
            assert_eq!(attempts(&mut client, &tenant), [expected], "{config}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_an_attempt_too() {
        let (database, receiver) = (project_with_items(server()), Receiver::http());
        database.expect_log("its signing secret cannot be read");
        let mut client = database.client();
        for (change, kind) in [
            ("config = '{}'", "setting"),
            (
                "config = config || '{\"headers\": {\"not a name\": \"x\"}}'",
                "setting",
            ),
            ("secret_ref = 'unreadable'", "secret"),
        ] {
            let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
            execute(
                &mut client,
                &format!(
                    "insert into plugin_webhooks.secrets (name, key_id, nonce, ciphertext)
                     values ('unreadable', 'x', decode(repeat('00', 24), 'hex'), 'x') on conflict do nothing;
                     update int.plugin_installations set {change} where id = '{}'",
                    tenant.installation
                ),
            );
            tenant.insert_items(&mut client, 1);
            tenant.wait_failed(&mut client, SOON, 1);
            let expected = (1, None, Some(kind.to_owned()), None);
            assert_eq!(attempts(&mut client, &tenant), [expected], "{change}");
        }
        assert_eq!(receiver.count(), 0);
    }

    #[test]
    fn keeps_at_most_a_kibibyte_of_a_response() {
        let (database, receiver) = (project_with_items(server()), Receiver::http());
        receiver.answer("/", Reply::Status(200, "ä".repeat(5000)));
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 1);
        tenant.wait_delivered(&mut client, SOON);
        let expected = (1, Some(200), None, Some("ä".repeat(512)));
        assert_eq!(attempts(&mut client, &tenant), [expected]);
    }

    #[test]
    fn is_read_by_the_tenants_admin_and_nobody_else() {
        let (database, receiver) = (project_with_items(server()), Receiver::http());
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 2);
        tenant.wait_delivered(&mut client, SOON);
        let claims = |tenant: &str, permissions: &str| {
            format!(
                r#"{{"sub": "00000000-0000-0000-0000-00000000000a", "tenant_id": "{tenant}", "permissions": {permissions}}}"#
            )
        };
        let admin = r#"["tenant.admin"]"#;
        let other = "00000000-0000-0000-0000-0000000000ff";
        let mut session = database.authenticator();
        for (role, claims, rows) in [
            ("authenticated", claims(&tenant.id, admin), 2),
            ("authenticated", claims(&tenant.id, "[]"), 0),
            ("authenticated", claims(other, admin), 0),
            ("anon", claims(&tenant.id, "[]"), 0),
        ] {
            let seen: i64 = as_user(&mut session, role, &claims, |call| {
                let sql =
                    "select count(*) from v_plugin_delivery_attempts where plugin_key is not null";
                Ok(call.query_one(sql, &[])?.get(0))
            })
            .expect("read the view");
            assert_eq!(seen, rows, "{role} {claims}");
        }
    }
}
