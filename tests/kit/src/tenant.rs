//! A tenant with one installed plugin: set up and changed the way the clients of a project do it,
//! through the functions, as `service_role` and as an admin of the tenant.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::caller::as_user;
use crate::database::Database;
use crate::receiver::Receiver;
use crate::sql::describe;
use crate::wait::POLL_EVERY;

/// One installation of a plugin of its own, in a tenant of its own.
pub struct Tenant<'a> {
    database: &'a Database,
    /// The tenant's id.
    pub id: String,
    /// The id of its admin.
    pub admin: String,
    /// The key of the plugin.
    pub plugin: String,
    /// The id of the installation.
    pub installation: String,
}

/// One row of the delivery queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// What the receiver sees as `X-Plugin-Delivery-Id`.
    pub id: String,
    /// The state of the delivery.
    pub status: String,
    /// Failed attempts.
    pub attempts: i32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// What happened.
    pub event_type: String,
    /// `payload::text`.
    pub payload: String,
    /// Seconds until the next attempt, negative when it is due.
    pub due_in: f64,
}

impl<'a> Tenant<'a> {
    /// A new tenant whose admin installs a new plugin with this configuration, unsigned.
    #[track_caller]
    pub fn install(database: &'a Database, config: &str) -> Tenant<'a> {
        Tenant::install_with(database, config, None)
    }

    /// The same with the name of a signing secret.
    #[track_caller]
    pub fn install_with(
        database: &'a Database,
        config: &str,
        secret_ref: Option<&str>,
    ) -> Tenant<'a> {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let plugin = format!("plugin_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let row = database
            .client()
            .query_one(
                "select gen_random_uuid()::text, gen_random_uuid()::text",
                &[],
            )
            .expect("two ids");
        let mut tenant = Tenant {
            database,
            id: row.get(0),
            admin: row.get(1),
            plugin,
            installation: String::new(),
        };
        as_service(database, |call| {
            call.execute("select rpc_register_plugin($1, $1)", &[&tenant.plugin])
        });
        tenant.installation = tenant.call(
            "select rpc_install_plugin($1::text::uuid, $2, $3, $4::text::jsonb)::text",
            &[&tenant.id, &tenant.plugin, &secret_ref, &config],
        );
        tenant
    }

    /// A new tenant whose deliveries of every change of `items` go to `url`.
    #[track_caller]
    pub fn with_items_to(database: &'a Database, url: &str) -> Tenant<'a> {
        let tenant = Tenant::install(database, &format!(r#"{{"webhook_url": "{url}"}}"#));
        tenant.subscribe("items", &["INSERT", "UPDATE", "DELETE"], None, false);
        tenant
    }

    /// Subscribes to a table of schema `public`.
    #[track_caller]
    pub fn subscribe(
        &self,
        table: &str,
        operations: &[&str],
        allowlist: Option<&[&str]>,
        include_payload: bool,
    ) {
        let _: String = self.call(
            "select rpc_upsert_plugin_webhook_subscription(
                 $1::text::uuid, $2::text::uuid, 'public', $3, $4, $5, $6)::text",
            &[
                &self.id,
                &self.installation,
                &table,
                &operations,
                &allowlist,
                &include_payload,
            ],
        );
    }

    /// The admin changes the installation's status.
    #[track_caller]
    pub fn set_status(&self, status: &str) {
        let _: String = self.call(
            "select rpc_update_plugin_installation($1::text::uuid, $2::text::uuid, $3)::text",
            &[&self.id, &self.installation, &status],
        );
    }

    /// The admin uninstalls the plugin.
    #[track_caller]
    pub fn uninstall(&self) {
        let _: String = self.call(
            "select rpc_uninstall_plugin($1::text::uuid, $2::text::uuid)::text",
            &[&self.id, &self.installation],
        );
    }

    /// One call of the admin: a query with one text column.
    #[track_caller]
    fn call(&self, sql: &str, parameters: &[&(dyn postgres::types::ToSql + Sync)]) -> String {
        let claims = format!(
            r#"{{"sub": "{}", "tenant_id": "{}", "permissions": ["tenant.admin"]}}"#,
            self.admin, self.id
        );
        let mut session = self.database.authenticator();
        let row = as_user(&mut session, "authenticated", &claims, |call| {
            call.query_one(sql, parameters)
        });
        row.unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)))
            .get::<_, Option<String>>(0)
            .unwrap_or_default()
    }

    /// One statement that inserts `count` rows of this tenant into `items`.
    #[track_caller]
    pub fn insert_items(&self, client: &mut Client, count: i32) {
        client
            .execute(
                "insert into items (tenant_id, title)
                 select $1::text::uuid, 'item ' || n from generate_series(1, $2) as n",
                &[&self.id, &count],
            )
            .unwrap_or_else(|error| panic!("insert items: {}", describe(&error)));
    }

    /// Its deliveries in the order of the changes.
    #[track_caller]
    pub fn deliveries(&self, client: &mut Client) -> Vec<Delivery> {
        let rows = client
            .query(
                "select id::text, status, attempts, last_error, event_type, payload::text,
                        (extract(epoch from next_attempt_at) - extract(epoch from clock_timestamp()))::float8
                 from int.plugin_delivery_queue
                 where plugin_installation_id = $1::text::uuid order by source_entity_change_id",
                &[&self.installation],
            )
            .unwrap_or_else(|error| panic!("read the queue: {}", describe(&error)));
        rows.iter()
            .map(|row| Delivery {
                id: row.get(0),
                status: row.get(1),
                attempts: row.get(2),
                last_error: row.get(3),
                event_type: row.get(4),
                payload: row.get(5),
                due_in: row.get(6),
            })
            .collect()
    }

    /// Its only delivery.
    #[track_caller]
    pub fn delivery(&self, client: &mut Client) -> Delivery {
        let mut deliveries = self.deliveries(client);
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        deliveries.remove(0)
    }

    /// Waits until every delivery of it satisfies `settled`, and returns them.
    ///
    /// # Panics
    /// When `deadline` has passed; the message shows the queue.
    #[track_caller]
    pub fn wait_for(
        &self,
        client: &mut Client,
        deadline: Duration,
        settled: impl Fn(&Delivery) -> bool,
    ) -> Vec<Delivery> {
        let started = Instant::now();
        loop {
            let seen = self.deliveries(client);
            let waiting: Vec<_> = seen
                .iter()
                .filter(|delivery| !settled(delivery))
                .map(|d| (&d.id, &d.status, d.attempts, &d.last_error))
                .collect();
            if waiting.is_empty() {
                return seen;
            }
            assert!(
                started.elapsed() < deadline,
                "waited {deadline:?} in vain for deliveries: {waiting:#?}"
            );
            thread::sleep(POLL_EVERY);
        }
    }

    /// Waits until all its deliveries are delivered.
    #[track_caller]
    pub fn wait_delivered(&self, client: &mut Client, deadline: Duration) -> Vec<Delivery> {
        self.wait_for(client, deadline, |delivery| delivery.status == "delivered")
    }

    /// Waits until its only delivery has failed `attempts` times, and returns it.
    #[track_caller]
    pub fn wait_failed(&self, client: &mut Client, deadline: Duration, attempts: i32) -> Delivery {
        self.wait_for(client, deadline, |delivery| delivery.attempts == attempts);
        self.delivery(client)
    }
}

/// Asserts that a change of a new tenant reaches the receiver: the worker has looked at the queue since.
#[track_caller]
pub fn assert_delivers(database: &Database, receiver: &Receiver) {
    let healthy = Tenant::with_items_to(database, &receiver.url("/healthy"));
    let mut client = database.client();
    healthy.insert_items(&mut client, 1);
    healthy.wait_delivered(&mut client, Duration::from_secs(30));
}

/// One call of the trusted backend.
#[track_caller]
pub fn as_service<T>(
    database: &Database,
    call: impl FnOnce(&mut postgres::Transaction<'_>) -> Result<T, postgres::Error>,
) -> T {
    as_user(
        &mut database.authenticator(),
        "service_role",
        r#"{"role": "service_role"}"#,
        call,
    )
    .unwrap_or_else(|error| panic!("call as service_role: {}", describe(&error)))
}
