//! Calls from partners: looks the installation up, verifies the signature, runs an action of
//! the allowlist. Nothing of a body ever becomes SQL.

mod actions;
mod work_order;

use pgrx::Uuid;
use pgrx::prelude::*;
use plugin_webhooks_core::signature;

use crate::caller::rate_limit;
use crate::error::{Error, Result, required, required_text};
use crate::limits::ShortText;
use crate::pg::BoundedJsonb;
use crate::pg::{self, Jsonb};
use crate::secrets;

/// Tenant and secret_ref of an installation that may be called.
fn callable_installation(key: &str, installation: Uuid) -> Result<(Uuid, Option<String>)> {
    let found = pg::one_row(
        "SELECT i.tenant_id, i.secret_ref
         FROM int.plugin_installations AS i
         JOIN int.plugins AS p ON p.id = i.plugin_id
         WHERE i.id = $1 AND i.status = 'installed' AND p.is_active AND p.key = $2",
        &[installation.into(), key.into()],
        |row| row.get_two::<Uuid, ShortText>(),
    );
    match found {
        // One that is too long is none.
        Some((Some(tenant), secret_ref)) => Ok((tenant, secret_ref.and_then(|name| name.0))),
        _ => Err(Error::Unknown("installation").into()),
    }
}

#[pg_extern(sql = false)]
fn rpc_plugin_ingest_webhook(
    p_plugin_key: Option<&str>,
    p_installation_id: Option<Uuid>,
    p_payload: Option<BoundedJsonb>,
    p_signature: Option<&str>,
) -> Result<Jsonb> {
    let key = required_text("p_plugin_key", p_plugin_key)?;
    let installation = required("p_installation_id", p_installation_id)?;
    let payload = required("p_payload", p_payload)?;
    let payload = Jsonb(payload.0.ok_or(Error::TooLong("p_payload"))?);
    let presented = required_text("p_signature", p_signature)?;
    let (tenant, secret_ref) = callable_installation(key, installation)?;
    rate_limit::INGEST.count_installation(installation, tenant)?;
    let secret = match secret_ref.as_deref() {
        Some(name) => secrets::by_name(name)?,
        None => None,
    }
    .ok_or(Error::NoSigningSecret)?;
    if !signature::verify(secret.as_bytes(), payload.0.as_bytes(), presented) {
        return Err(Error::WrongSignature.into());
    }
    drop(secret);
    let (action, data) = action_and_data(&payload);
    actions::run(tenant, &action, data)
}

/// `action` (missing or empty: noop) and `data` (missing: {}) of a payload.
fn action_and_data(payload: &Jsonb) -> (String, Jsonb) {
    let read = pg::one_row(
        "SELECT coalesce(nullif(pg_catalog.btrim($1 ->> 'action'), ''), 'noop'),
                coalesce(nullif($1 -> 'data', 'null'), '{}')",
        &[payload.clone().into()],
        |row| row.get_two::<String, Jsonb>(),
    );
    match read {
        Some((Some(action), Some(data))) => (action, data),
        _ => ("noop".into(), Jsonb("{}".into())),
    }
}

#[pg_extern(sql = false)]
fn plugin_webhook_apply_action(
    p_tenant_id: Option<Uuid>,
    p_action: Option<&str>,
    p_data: Option<Jsonb>,
) -> Result<Jsonb> {
    let tenant = required("p_tenant_id", p_tenant_id)?;
    let action = p_action.map(str::trim).filter(|action| !action.is_empty());
    let data = p_data.unwrap_or_else(|| Jsonb("{}".into()));
    actions::run(tenant, action.unwrap_or("noop"), data)
}
