//! A secret by its name: from Supabase Vault (`vault`) where there is one, else from the embedded store
//! (`store`), encrypted with a key that never enters the database (`key_file`). Plaintext lives in
//! memory that is wiped; it reaches neither the server log nor an error. Also whose secret it is, who may refer to
//! its name, and what operators are shown (`shown`).

mod key_file;
mod secret;
mod shown;
mod store;
mod vault;

use pgrx::Uuid;
use pgrx::prelude::*;
use plugin_webhooks_core::secret_names::{AllowedNames, Installation};
use plugin_webhooks_core::signing_key;

pub use self::secret::Secret;
pub use self::store::create;
use crate::error::{Error, Result, required, required_text};
use crate::limits::ShortText;
use crate::pg::BoundedText;
use crate::{host, settings, tables};

/// Whether an installation may refer to a secret of this name, whatever there is.
pub fn may_refer(names: &AllowedNames, name: &str, tenant: Uuid, plugin: &str) -> bool {
    *names == AllowedNames::Any
        || names.allow(
            name,
            Installation {
                tenant: &tenant.to_string(),
                plugin,
            },
        )
}

/// The secret of this name, or `None`. An empty secret counts as none. Who may use it is the caller's to ask.
pub fn by_name(name: &str) -> Result<Option<Secret>> {
    let found = match host::find(host::SECRETS)? {
        Some(vault) => vault::find(vault, name).map(|text| Secret::new(text, None, None)),
        None => store::find(name)?,
    };
    Ok(found.filter(|secret| !secret.text().is_empty()))
}

/// The secret of this name if an installation of this plugin may use it in this tenant.
pub fn of(name: &str, tenant: Uuid, plugin: &str) -> Result<Option<Secret>> {
    if !may_refer(&settings::allowed_secret_names(), name, tenant, plugin) {
        return Ok(None);
    }
    Ok(by_name(name)?.filter(|secret| secret.is_for(tenant, plugin)))
}

/// The signing secret of an installation, or `None`.
fn of_installation(installation: Uuid) -> Result<Option<Secret>> {
    // Plugins and installations have one owner.
    let found = tables::INSTALLATIONS.one_row(
        "SELECT i.secret_ref, i.tenant_id, p.key FROM int.plugin_installations AS i
         JOIN int.plugins AS p ON p.id = i.plugin_id WHERE i.id = $1",
        &[installation.into()],
        |row| row.get_three::<ShortText, Uuid, String>(),
    );
    match found {
        Some((Some(BoundedText(Some(name))), Some(tenant), Some(plugin))) => {
            of(&name, tenant, &plugin)
        }
        _ => Ok(None),
    }
}

#[pg_extern(sql = false)]
fn resolve_installation_signing_secret(p_installation_id: Option<Uuid>) -> Result<Option<String>> {
    let installation = required("p_installation_id", p_installation_id)?;
    Ok(of_installation(installation)?.map(|secret| secret.text().to_owned()))
}

#[pg_extern(sql = false)]
fn receiver_secret(name: Option<&str>) -> Result<Option<String>> {
    let name = required_text("name", name)?;
    let secret = by_name(name)?.ok_or(Error::Unknown("secret"))?;
    let text = signing_key::receiver_secret(secret.text()).map_err(Error::NoSigningKey)?;
    Ok(Some(text.to_string()))
}

#[pg_extern(sql = false)]
fn secret_name_is_allowed(
    secret_name: Option<&str>,
    tenant_id: Option<Uuid>,
    plugin_key: Option<&str>,
) -> Option<bool> {
    let names = settings::allowed_secret_names();
    Some(may_refer(&names, secret_name?, tenant_id?, plugin_key?))
}
