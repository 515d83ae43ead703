//! Calls from partners: looks the installation up, verifies the signature, runs an action of the allowlist, once
//! when the call has an id. Nothing of a body ever becomes SQL, and a caller without the secret costs no lock and
//! learns no name.

mod actions;
mod call;
mod work_order;

use pgrx::Uuid;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use plugin_webhooks_core::signature;

use self::call::Call;
use crate::caller::rate_limit;
use crate::error::{self, Error, Result, required, required_text};
use crate::limits::ShortText;
use crate::pg::{self, BoundedJsonb, Jsonb};
use crate::secrets::{self, Secret};
use crate::{inbound_ids, tables};

/// An installation that may be called.
struct Installation {
    id: Uuid,
    tenant: Uuid,
    secret_ref: Option<String>,
    installed_by: Option<Uuid>,
}

impl Installation {
    fn find(key: &str, id: Uuid) -> Result<Self> {
        // Plugins and installations have one owner.
        let found = tables::INSTALLATIONS.one_row(
            "SELECT i.tenant_id, i.secret_ref, i.installed_by
             FROM int.plugin_installations AS i
             JOIN int.plugins AS p ON p.id = i.plugin_id
             WHERE i.id = $1 AND i.status = 'installed' AND p.is_active AND p.key = $2",
            &[id.into(), key.into()],
            |row| row.get_three::<Uuid, ShortText, Uuid>(),
        );
        match found {
            Some((Some(tenant), secret_ref, installed_by)) => Ok(Self {
                id,
                tenant,
                // One that is too long is none.
                secret_ref: secret_ref.and_then(|name| name.0),
                installed_by,
            }),
            _ => Err(Error::Unknown("installation").into()),
        }
    }

    /// The signing secret. Why there is none is for the server log: a partner must learn neither names nor paths.
    fn signing_secret(&self, key: &str) -> Result<Secret> {
        let read = |name: &str| read_secret(name, self.tenant, key);
        let (reason, hint) = match self.secret_ref.as_deref().map(read) {
            Some(Ok(Some(secret))) => return Ok(secret),
            Some(Ok(None)) => ("secret_ref names no secret that it may use".into(), None),
            Some(Err(unreadable)) => unreadable,
            None => ("there is no secret_ref".into(), None),
        };
        error::log(
            format!(
                "plugin_webhooks: a call of installation {} cannot be verified: {reason}",
                self.id
            ),
            hint.as_deref(),
        );
        Err(Error::NoSigningSecret.into())
    }

    fn run(&self, call: Call) -> Result<Jsonb> {
        let Call { id, action, data } = call;
        let run = || actions::run(self.tenant, &action, data);
        match id {
            Some(id) => inbound_ids::run_once(self.id, &id, run),
            None => run(),
        }
    }
}

/// The secret of this name, or why it cannot be read and what to do about it. Whatever a Vault raises is a reason,
/// unless it is about the transaction.
fn read_secret(
    name: &str,
    tenant: Uuid,
    plugin: &str,
) -> std::result::Result<Option<Secret>, (String, Option<String>)> {
    match pg::caught_error(|| secrets::of(name, tenant, plugin)) {
        Ok(Ok(secret)) => Ok(secret),
        Ok(Err(report)) => Err((
            report.message().to_owned(),
            report.hint().map(str::to_owned),
        )),
        Err(error) if pg::ends_transaction(&error) => error.rethrow(),
        Err(
            CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic {
                ereport: report, ..
            },
        ) => Err((
            report.message().to_owned(),
            report.hint().map(str::to_owned),
        )),
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
    let id = required("p_installation_id", p_installation_id)?;
    let payload = required("p_payload", p_payload)?;
    let payload = Jsonb(payload.0.ok_or(Error::TooLong("p_payload"))?);
    let installation = Installation::find(key, id)?;
    let secret = installation.signing_secret(key)?;
    let presented = p_signature.unwrap_or_default();
    if !signature::verify(secret.as_bytes(), payload.0.as_bytes(), presented) {
        return Err(Error::WrongSignature.into());
    }
    drop(secret);
    let call = Call::read(payload, installation.id)?;
    rate_limit::INGEST.count_call(
        installation.id,
        installation.tenant,
        installation.installed_by,
        || installation.run(call),
    )
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
