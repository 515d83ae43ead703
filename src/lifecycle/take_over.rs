//! What taking a database over needs beyond the install script: deliveries that the former system has
//! in flight, URLs that the address policy refuses, statements as the owner of a table, grants that a dump carries.

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use pgrx::{Uuid, name};
use plugin_webhooks_core::address_policy::AllowedNetworks;
use plugin_webhooks_core::endpoint;

use crate::delivery::queue;
use crate::error::{Error, Result};
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

#[pg_extern(sql = false)]
fn refused_installations()
-> TableIterator<'static, (name!(installation_id, Uuid), name!(reason, String))> {
    let allowed = AllowedNetworks::parse(&settings::worker().allowed_networks).unwrap_or_default();
    let stored = tables::INSTALLATIONS.rows(
        "SELECT i.id, i.config FROM int.plugin_installations AS i ORDER BY i.id",
        |row| {
            let config = row.get::<StoredConfig>(2)?.and_then(|config| config.0);
            Ok((row.get::<Uuid>(1)?, config))
        },
    );
    let refused = stored.into_iter().filter_map(move |(id, config)| {
        let endpoint = endpoint::read_stored(config.as_deref()).ok()?;
        let reason = endpoint.refused_as_written(&allowed)?;
        Some((id?, reason.to_string()))
    });
    TableIterator::new(refused.collect::<Vec<_>>())
}

#[pg_extern(sql = false)]
fn as_owner_of(relation: pg_sys::Oid, statement: &str) -> Result<Option<i64>> {
    // Whoever was granted EXECUTE must not become any owner by it.
    if !pg::current_user_is_superuser() {
        return Err(Error::SuperusersOnly("plugin_webhooks.as_owner_of()").into());
    }
    Ok(pg::owner(relation)
        .and_then(|owner| pg::as_role(owner, || pg::write_returning::<i64>(statement, &[]))))
}

#[pg_extern(sql = false)]
fn grant_as_administrator(statement: &str) {
    pg::outside_extension_script(|| Spi::run(statement).unwrap_or_report());
}
