//! Partners call in: who gets through `rpc_plugin_ingest_webhook`, and what a body may do.

mod held_action;
mod ids;
mod limits;
mod lookup;
mod payloads;
mod registered_actions;
mod signatures;
mod without_secret;

use std::cell::RefCell;

use plugin_webhooks_kit::postgres::{Client, Error};
use plugin_webhooks_kit::{
    Database, Server, as_user, create_supabase_roles, execute, expect_sqlstate, quote_literal,
    shared_server, sign, text, wait_until,
};

use self::held_action::HeldAction;

const PLUGIN: &str = "desk";
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const OTHER_TENANT: &str = "22222222-2222-2222-2222-222222222222";
const SECRET: &str = "the tenant's secret ä€";
const OTHER_SECRET: &str = "the other tenant's secret";
const NOOP: &str = r#"{"action": "noop"}"#;
const NOOP_ANSWER: &str = r#"{"ok": true, "action": "noop"}"#;

/// A database with one plugin that two tenants installed, each with a secret of its own.
struct Partners {
    database: Database,
    installation: String,
    other_installation: String,
}

impl Partners {
    #[track_caller]
    fn new() -> Partners {
        Partners::on(shared_server())
    }

    #[track_caller]
    fn on(server: &Server) -> Partners {
        let database = server.database_with(create_supabase_roles);
        let mut admin = database.client();
        execute(
            &mut admin,
            &format!(
                "select plugin_webhooks.create_secret({}, 'one'), plugin_webhooks.create_secret({}, 'two');
                 select public.rpc_register_plugin('{PLUGIN}', 'Desk'), public.rpc_register_plugin('unused', 'Unused')",
                quote_literal(SECRET),
                quote_literal(OTHER_SECRET)
            ),
        );
        Partners {
            installation: install(&mut admin, TENANT, PLUGIN, "one"),
            other_installation: install(&mut admin, OTHER_TENANT, PLUGIN, "two"),
            database,
        }
    }

    fn admin(&self) -> Client {
        self.database.client()
    }

    fn session(&self) -> Client {
        self.database.authenticator()
    }

    /// A signed call of `anon`.
    fn call(&self, session: &mut Client, payload: &str) -> Result<String, Error> {
        let signature = signature(session, SECRET, payload);
        ingest(session, PLUGIN, &self.installation, payload, &signature)
    }
}

#[track_caller]
fn install(admin: &mut Client, tenant: &str, plugin: &str, secret_ref: &str) -> String {
    text(
        admin,
        &format!("select public.rpc_install_plugin('{tenant}', '{plugin}', '{secret_ref}')::text"),
    )
}

/// What a partner who knows PostgreSQL's way to print jsonb signs.
fn signature(session: &mut Client, secret: &str, payload: &str) -> String {
    let row = session.query_one("select $1::text::jsonb::text", &[&payload]);
    let printed: String = row.expect("print the payload").get(0);
    sign(secret, printed.as_bytes())
}

/// The call as PostgREST makes it for `role` without a user session.
fn ingest_as(
    session: &mut Client,
    role: &str,
    plugin: &str,
    installation: &str,
    payload: &str,
    signature: &str,
) -> Result<String, Error> {
    as_user(session, role, &format!(r#"{{"role":"{role}"}}"#), |tx| {
        let row = tx.query_one(
            "select public.rpc_plugin_ingest_webhook(p_plugin_key => $1, p_installation_id => $2::text::uuid,
                 p_payload => $3::text::jsonb, p_signature => $4)::text",
            &[&plugin, &installation, &payload, &signature],
        )?;
        Ok(row.get(0))
    })
}

fn ingest(
    session: &mut Client,
    plugin: &str,
    installation: &str,
    payload: &str,
    signature: &str,
) -> Result<String, Error> {
    ingest_as(session, "anon", plugin, installation, payload, signature)
}
