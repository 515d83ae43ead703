//! Inside a host: its users, tenants, rights, limits, secrets and work orders are used instead of
//! the extension's own.

mod audit;
mod foreign_keys;
mod inbound;
mod owners;
mod rights;
mod taken_over;
mod vault;
mod views;
mod work_orders;

use std::time::Duration;

use plugin_webhooks_kit::postgres::{Client, Error, Transaction};
use plugin_webhooks_kit::{
    Database, HOST_SCHEMA, Receiver, Server, as_user, count, create_supabase_roles, execute,
    expect_sqlstate, shared_server, sign, text, verify_signature, wait_until,
};

use crate::input::assert_shows_the_start;

const SOON: Duration = Duration::from_secs(20);
const ADMIN: &str = "tenant.admin";

/// A host with two tenants; of the first, an admin and a member without permissions.
struct Host {
    database: Database,
    tenant: String,
    other_tenant: String,
    admin: String,
    member: String,
    other_admin: String,
}

impl Host {
    #[track_caller]
    fn new() -> Host {
        Host::on(shared_server())
    }

    #[track_caller]
    fn on(server: &Server) -> Host {
        Host::with(
            server,
            |database| execute(&mut database.client(), HOST_SCHEMA),
            |_| {},
        )
    }

    /// The same of another role: `prepare` says what it is before the extension comes, `attach` trusts it later.
    #[track_caller]
    fn of(owner: &str, prepare: impl Fn(&mut Client), attach: impl Fn(&mut Client)) -> Host {
        let load = |database: &Database| {
            database.allow_log("plugin_webhooks does not use these objects of the host");
            let mut client = database.client();
            execute(&mut client, &HOST_SCHEMA.replace("legacy_owner", owner));
            prepare(&mut client);
        };
        Host::with(shared_server(), load, attach)
    }

    #[track_caller]
    fn with(server: &Server, load: impl Fn(&Database), attach: impl Fn(&mut Client)) -> Host {
        let database = server.empty_database();
        create_supabase_roles(&mut database.client());
        load(&database);
        execute(&mut database.client(), "create extension plugin_webhooks");
        let mut client = database.client();
        attach(&mut client);
        let mut tenant = |name: &str| {
            text(
                &mut client,
                &format!("select app.create_tenant('{name}')::text"),
            )
        };
        let (one, two) = (tenant("One"), tenant("Two"));
        let mut member = |tenant: &str, permission: &str| {
            text(
                &mut client,
                &format!(
                    "select app.create_member('{tenant}', variadic array[{permission}]::text[])::text"
                ),
            )
        };
        let quoted = format!("'{ADMIN}'");
        Host {
            admin: member(&one, &quoted),
            member: member(&one, ""),
            other_admin: member(&two, &quoted),
            tenant: one,
            other_tenant: two,
            database,
        }
    }

    fn dba(&self) -> Client {
        self.database.client()
    }

    /// The plugin `desk` with an installation of the first tenant, whose secret is in Vault.
    #[track_caller]
    fn install(&self, url: &str) -> String {
        let mut dba = self.dba();
        execute(
            &mut dba,
            "insert into vault.secrets (name, secret) values ('desk_secret', 'from the vault')
                 on conflict do nothing;
             select public.rpc_register_plugin('desk', 'Desk');",
        );
        let (tenant, config) = (&self.tenant, format!(r#"{{"webhook_url": "{url}"}}"#));
        self.as_(&self.admin, &self.tenant, |tx| {
            let row = tx.query_one(
                "select public.rpc_install_plugin(p_tenant_id => $1::text::uuid, p_plugin_key => 'desk',
                     p_secret_ref => 'desk_secret', p_config => $2::text::jsonb)::text",
                &[tenant, &config],
            )?;
            Ok(row.get(0))
        })
        .expect("install")
    }

    #[track_caller]
    fn subscribe(&self, installation: &str, table: &str) {
        self.as_(&self.admin, &self.tenant, |tx| {
            tx.batch_execute(&format!(
                "select public.rpc_upsert_plugin_webhook_subscription('{}', '{installation}', 'app', '{table}',
                     '{{INSERT,UPDATE,DELETE}}')",
                self.tenant
            ))
        })
        .expect("subscribe");
    }

    /// A request of a user whose JWT names the tenant.
    fn as_<T>(
        &self,
        user: &str,
        tenant: &str,
        call: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let claims = format!(r#"{{"role":"authenticated","sub":"{user}","tenant_id":"{tenant}"}}"#);
        as_user(
            &mut self.database.authenticator(),
            "authenticated",
            &claims,
            call,
        )
    }

    fn rows_as(&self, user: &str, tenant: &str, sql: &str) -> usize {
        let rows = self.as_(user, tenant, |tx| tx.query(sql, &[]));
        rows.expect(sql).len()
    }

    /// A signed inbound call.
    fn ingest(&self, installation: &str, payload: &str) -> Result<String, Error> {
        let mut session = self.database.authenticator();
        as_user(&mut session, "anon", r#"{"role":"anon"}"#, |tx| {
            let printed: String = tx
                .query_one("select $1::text::jsonb::text", &[&payload])?
                .get(0);
            let row = tx.query_one(
                "select public.rpc_plugin_ingest_webhook('desk', $1::text::uuid, $2::text::jsonb, $3)::text",
                &[
                    &installation,
                    &payload,
                    &sign("from the vault", printed.as_bytes()),
                ],
            )?;
            Ok(row.get(0))
        })
    }
}
