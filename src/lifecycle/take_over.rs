//! What taking a database over needs beyond the install script: deliveries that the former system has
//! in flight, installations that nothing can be sent to, statements as the owner of a table, grants that a dump
//! carries.

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use pgrx::{Uuid, name};
use plugin_webhooks_core::address_policy::AllowedNetworks;

use crate::delivery::{installations, queue};
use crate::error::{Error, Result, required};
use crate::limits::StoredConfig;
use crate::tables;
use crate::{host, pg, settings};

/// Ids of pg_net's requests that were answered 2xx.
fn answered_by_pg_net() -> Vec<i64> {
    host::as_owner_of_member(host::PG_NET_RESPONSES, || {
        pg::one::<Vec<i64>>(
            "SELECT pg_catalog.array_agg(r.id) FROM net._http_response AS r
             WHERE r.status_code BETWEEN 200 AND 299",
            &[],
        )
    })
    .flatten()
    .unwrap_or_default()
}

#[pg_extern(sql = false)]
fn settle_pg_net() -> i64 {
    let answered = answered_by_pg_net();
    if answered.is_empty() {
        return 0;
    }
    i64::try_from(queue::settle_pg_net(answered)).unwrap_or(i64::MAX)
}

/// The installed ones with their configuration. What names no URL and subscribes to nothing only receives.
const INSTALLED: &str = "
    SELECT i.id, i.config FROM int.plugin_installations AS i
    WHERE i.status = 'installed'
      AND (pg_catalog.jsonb_typeof(i.config) NOT IN ('null', 'object') OR i.config ? 'webhook_url'
           OR EXISTS (SELECT FROM int.plugin_webhook_subscriptions AS s WHERE s.plugin_installation_id = i.id))
    ORDER BY i.id";

#[pg_extern(sql = false)]
fn refused_installations()
-> TableIterator<'static, (name!(installation_id, Uuid), name!(reason, String))> {
    let allowed = AllowedNetworks::parse(&settings::worker().allowed_networks).unwrap_or_default();
    let installed = tables::INSTALLATIONS.rows(INSTALLED, |row| {
        let endpoint = installations::endpoint(row.get::<StoredConfig>(2)?);
        Ok((row.get::<Uuid>(1)?, endpoint))
    });
    let refused = installed.into_iter().filter_map(move |(id, endpoint)| {
        let reason = match endpoint {
            Ok(endpoint) => endpoint.refused_as_written(&allowed)?.to_string(),
            Err(unusable) => unusable.to_string(),
        };
        Some((id?, reason))
    });
    TableIterator::new(refused.collect::<Vec<_>>())
}

#[pg_extern(sql = false)]
fn as_owner_of(relation: pg_sys::Oid, statement: &str) -> Result<Option<i64>> {
    only_for_superusers("plugin_webhooks.as_owner_of()")?;
    Ok(pg::owner(relation)
        .and_then(|owner| pg::as_role(owner, || pg::write_returning::<i64>(statement, &[]))))
}

#[pg_extern(sql = false)]
fn as_role(role: Option<pg_sys::Oid>, statement: Option<&str>) -> Result<Option<String>> {
    only_for_superusers("plugin_webhooks.as_role()")?;
    let role = required("role", role)?;
    let statement = required("statement", statement)?;
    Ok(pg::as_role(role, || {
        pg::write_returning::<String>(statement, &[])
    }))
}

/// Whoever was granted EXECUTE must not become anybody else by it.
fn only_for_superusers(function: &'static str) -> Result<()> {
    if pg::current_user_is_superuser() {
        Ok(())
    } else {
        Err(Error::SuperusersOnly(function).into())
    }
}

#[pg_extern(sql = false)]
fn grant_as_administrator(statement: &str) {
    pg::outside_extension_script(|| Spi::run(statement).unwrap_or_report());
}
