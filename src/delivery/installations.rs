//! What the queue needs to know of the installations whose deliveries were claimed, and where they go.

use pgrx::{Uuid, pg_sys};
use plugin_webhooks_core::endpoint::{self, Endpoint, MAX_READ_CONFIG_BYTES, Unusable};

use crate::limits::{ShortText, StoredConfig};
use crate::pg::BoundedJsonb;
use crate::{pg, tables};

const INSTALLATIONS: &str = include_str!("sql/installations.sql");

/// Where deliveries of one installation go.
pub struct Installation {
    pub id: Uuid,
    pub tenant: Uuid,
    pub plugin: String,
    /// Tells this version of the row from every other.
    pub version: String,
    pub secret_ref: Option<ShortText>,
    /// `None` when the version is the known one.
    pub config: Option<Option<StoredConfig>>,
}

/// Reads installations by their ids, each once; with an id goes the version whose configuration is known already.
pub fn read(ids: Vec<Uuid>, known: Vec<Option<String>>) -> Vec<Installation> {
    let types = [
        pg_sys::BuiltinOid::UUIDARRAYOID,
        pg_sys::BuiltinOid::TEXTARRAYOID,
    ];
    // The claim saw rows that are younger than the transaction's snapshot; so must this.
    pg::as_owner_of(tables::QUEUE, || {
        pg::with_latest_snapshot(|| {
            let args = [ids.into(), known.into()];
            pg::run_kept(INSTALLATIONS, &types, &args, |table| {
                let mut found = Vec::with_capacity(table.len());
                for row in table {
                    let (Some(id), Some(tenant)) = (row.get::<Uuid>(1)?, row.get::<Uuid>(2)?)
                    else {
                        continue;
                    };
                    let known = row.get::<bool>(5)? == Some(true);
                    found.push(Installation {
                        id,
                        tenant,
                        plugin: row.get::<String>(3)?.unwrap_or_default(),
                        version: row.get::<String>(4)?.unwrap_or_default(),
                        secret_ref: row.get::<ShortText>(6)?,
                        config: (!known).then(|| row.get::<StoredConfig>(7)).transpose()?,
                    });
                }
                Ok(found)
            })
        })
    })
}

/// Where an installation with this configuration receives its deliveries, or why it can get none.
pub fn endpoint(config: Option<StoredConfig>) -> Result<Endpoint, Unusable> {
    match config {
        Some(BoundedJsonb(None)) => Err(Unusable::BadSetting(format!(
            "config is longer than {MAX_READ_CONFIG_BYTES} bytes"
        ))),
        Some(BoundedJsonb(config)) => endpoint::read_stored(config.as_deref()),
        None => endpoint::read_stored(None),
    }
}
