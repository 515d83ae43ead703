//! Installations: what tenants do with rows of `int.plugin_installations`. What foreign keys do to them is in
//! `references`.

use pgrx::Uuid;
use pgrx::prelude::*;
use plugin_webhooks_core::endpoint;

use super::ownership::check_owned;
use super::room;
use crate::caller::{self, Caller, rate_limit};
use crate::error::{Error, Result, quoted, required, required_text};
use crate::limits::{self, NewConfig, ShortText};
use crate::pg::{BoundedJsonb, Jsonb};
use crate::status::InstallationStatus;
use crate::tables;
use crate::text_enum::TextEnum;
use crate::{secrets, settings};

/// JSON null means the same as no value; anything else must be a usable configuration.
fn checked_config(config: Option<NewConfig>) -> Result<Option<Jsonb>> {
    let Some(BoundedJsonb(config)) = config else {
        return Ok(None);
    };
    let config = config.ok_or_else(|| Error::Config(endpoint::too_long()))?;
    if config == "null" {
        return Ok(None);
    }
    endpoint::validate(&config).map_err(Error::Config)?;
    Ok(Some(Jsonb(config)))
}

fn checked_status(word: &str) -> Result<InstallationStatus> {
    let words = || {
        let all = InstallationStatus::ALL;
        let words: Vec<&str> = all.iter().map(|status| status.as_str()).collect();
        words.join(", ")
    };
    InstallationStatus::parse(word).ok_or_else(|| {
        Error::Invalid {
            name: "p_status",
            message: quoted(word),
            hint: format!("Use one of {}.", words()),
        }
        .into()
    })
}

/// Raises when installations of this plugin may not refer to a secret of this name.
fn check_secret_ref(caller: &Caller, plugin: &str, name: Option<&str>) -> Result<()> {
    match name {
        Some(name) => {
            let names = settings::allowed_secret_names();
            if secrets::may_refer(&names, name, caller.tenant, plugin) {
                return Ok(());
            }
            Err(Error::ForbiddenSecret(name.to_owned()).into())
        }
        None => Ok(()),
    }
}

/// Waits for other installations of the tenant, and raises when there is no room for one more.
fn check_room(tenant: Uuid, plugin: Uuid) -> Result<()> {
    room::check(
        room::Of::Tenant(tenant),
        "SELECT NOT EXISTS (SELECT FROM int.plugin_installations WHERE tenant_id = $1 AND plugin_id = $2)
            AND (SELECT pg_catalog.count(*) FROM int.plugin_installations WHERE tenant_id = $1) >= $3",
        vec![tenant.into(), plugin.into()],
    )
}

#[pg_extern(sql = false)]
fn rpc_install_plugin(
    p_tenant_id: Option<Uuid>,
    p_plugin_key: Option<&str>,
    p_secret_ref: Option<ShortText>,
    p_config: Option<NewConfig>,
) -> Result<Option<Uuid>> {
    let caller = caller::authorize(p_tenant_id)?;
    rate_limit::INSTALL.count(&caller)?;
    let key = required_text("p_plugin_key", p_plugin_key)?;
    let secret_ref = limits::secret_ref("p_secret_ref", p_secret_ref)?;
    if let Some(name) = &secret_ref {
        required_text("p_secret_ref", Some(name))?;
    }
    let config = checked_config(p_config)?;
    let plugin = tables::PLUGINS
        .one::<Uuid>("SELECT id FROM int.plugins WHERE key = $1", &[key.into()])
        .ok_or(Error::Unknown("plugin"))?;
    check_secret_ref(&caller, key, secret_ref.as_deref())?;
    check_room(caller.tenant, plugin)?;
    Ok(tables::INSTALLATIONS.write_returning::<Uuid>(
        "INSERT INTO int.plugin_installations AS i (tenant_id, plugin_id, secret_ref, config, installed_by)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id, plugin_id) DO UPDATE SET
             status = 'installed', secret_ref = excluded.secret_ref, config = excluded.config,
             installed_by = excluded.installed_by, updated_at = pg_catalog.now()
         RETURNING id",
        &[
            caller.tenant.into(),
            plugin.into(),
            secret_ref.into(),
            config.into(),
            caller.user.into(),
        ],
    ))
}

#[pg_extern(sql = false)]
fn rpc_update_plugin_installation(
    p_tenant_id: Option<Uuid>,
    p_installation_id: Option<Uuid>,
    p_status: Option<&str>,
    p_secret_ref: Option<ShortText>,
    p_config: Option<NewConfig>,
) -> Result<()> {
    let caller = caller::authorize(p_tenant_id)?;
    rate_limit::UPDATE.count(&caller)?;
    let installation = required("p_installation_id", p_installation_id)?;
    let status = p_status.map(checked_status).transpose()?;
    let secret_ref = limits::secret_ref("p_secret_ref", p_secret_ref)?;
    let config = checked_config(p_config)?;
    check_owned(&caller, installation)?;
    let plugin = tables::INSTALLATIONS.one::<String>(
        "SELECT p.key FROM int.plugin_installations AS i
         JOIN int.plugins AS p ON p.id = i.plugin_id WHERE i.id = $1",
        &[installation.into()],
    );
    // A blank secret_ref removes it; null keeps it.
    let removes = secret_ref
        .as_deref()
        .is_some_and(|name| name.trim().is_empty());
    let secret_ref = secret_ref.filter(|_| !removes);
    check_secret_ref(&caller, &plugin.unwrap_or_default(), secret_ref.as_deref())?;
    tables::INSTALLATIONS.write(
        "UPDATE int.plugin_installations SET
             status = coalesce($2, status),
             secret_ref = CASE WHEN $5 THEN NULL ELSE coalesce($3, secret_ref) END,
             config = coalesce($4, config),
             updated_at = pg_catalog.now()
         WHERE id = $1",
        &[
            installation.into(),
            status.map(InstallationStatus::as_str).into(),
            secret_ref.into(),
            config.into(),
            removes.into(),
        ],
    );
    Ok(())
}

#[pg_extern(sql = false)]
fn rpc_uninstall_plugin(p_tenant_id: Option<Uuid>, p_installation_id: Option<Uuid>) -> Result<()> {
    let caller = caller::authorize(p_tenant_id)?;
    rate_limit::UNINSTALL.count(&caller)?;
    let installation = required("p_installation_id", p_installation_id)?;
    check_owned(&caller, installation)?;
    // Another installation may hear of it, which locks that one.
    room::take_turn(&room::Of::Tenant(caller.tenant));
    tables::INSTALLATIONS.write(
        "DELETE FROM int.plugin_installations WHERE id = $1",
        &[installation.into()],
    );
    Ok(())
}
