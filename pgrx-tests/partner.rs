//! A partner that calls an installation in, and what it sends.

use plugin_webhooks_core::signature;

use super::support::{Caller, Tenant, operator, text};

pub const SECRET: &str = "sécret";
pub const NOOP: &str = r#"{"action": "noop"}"#;
pub const NOOP_ANSWER: &str = r#"{"ok": true, "action": "noop"}"#;

/// A tenant whose installation of "desk" has a secret.
pub fn desk() -> Tenant {
    let tenant = Tenant::with_plugin("desk");
    operator().run(&format!(
        "select plugin_webhooks.create_secret('{SECRET}', 'desk_secret')"
    ));
    operator().run("update int.plugin_installations set secret_ref = 'desk_secret'");
    tenant
}

pub fn sign(secret: &str, payload: &str) -> String {
    let printed = operator().value(&format!("{}::jsonb", text(payload)));
    signature::sign(secret.as_bytes(), printed.as_bytes())
}

pub fn call(plugin: &str, installation: &str, payload: &str, signature: &str) -> String {
    format!(
        "public.rpc_plugin_ingest_webhook(p_plugin_key => {}, p_installation_id => '{installation}',
             p_payload => {}, p_signature => {})",
        text(plugin),
        text(payload),
        text(signature)
    )
}

pub fn signed(tenant: &Tenant, payload: &str) -> String {
    call(
        "desk",
        &tenant.installation,
        payload,
        &sign(SECRET, payload),
    )
}

pub fn anon() -> Caller {
    Caller::role_with("anon", r#"{"role": "anon"}"#)
}
