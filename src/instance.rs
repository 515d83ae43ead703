//! Answers whether this database is the active instance of its data, or a copy. A dump, a template
//! copy or a restored base backup carries `plugin_webhooks.instance` along: where that does not
//! describe the place it is in, nothing is sent until `plugin_webhooks.resume()`. Changes nothing.

use std::cell::Cell;

use pgrx::prelude::*;

use crate::tables;
use crate::{error, pg, settings};

const ROWS: &str = "
    SELECT i.system_identifier, i.database_oid, i.extension_oid, i.site
    FROM plugin_webhooks.instance AS i";

/// One place: a row of `plugin_webhooks.instance`, or where this process is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Text, because it is an unsigned 64-bit number.
    pub system_identifier: String,
    pub database: i64,
    pub extension: i64,
    pub site: String,
}

impl Place {
    pub fn here() -> Self {
        let extension = extension().unwrap_or(pg_sys::InvalidOid);
        Self {
            system_identifier: pg::system_identifier().to_string(),
            database: pg::database().to_u32().into(),
            extension: extension.to_u32().into(),
            site: settings::site(),
        }
    }

    /// What tells the active instance from the place `here`.
    fn difference(&self, here: &Self) -> String {
        if self.system_identifier != here.system_identifier {
            format!(
                "the data belongs to another cluster (system identifier {}, this one has {})",
                self.system_identifier, here.system_identifier
            )
        } else if self.site != here.site {
            format!(
                "the data belongs to site \"{}\", plugin_webhooks.site is \"{}\" here",
                self.site, here.site
            )
        } else if self.database != here.database {
            format!(
                "the data belongs to another database of this cluster (oid {}, this one has {})",
                self.database, here.database
            )
        } else {
            "the data was restored into this database from a dump".into()
        }
    }
}

/// What `plugin_webhooks.instance` says of this place.
#[derive(PartialEq, Eq, Debug)]
pub enum Instance {
    Active,
    /// No plugin was registered yet, or the data comes from a version that kept no record.
    Unrecorded,
    /// Another place is the active instance; the text says how it differs.
    Copy(String),
}

/// The extension's oid in this database; another CREATE EXTENSION makes another. Needs a transaction.
pub fn extension() -> Option<pg_sys::Oid> {
    pg::extension(c"plugin_webhooks")
}

/// Keeps the extension from being dropped until the end of the transaction, without waiting for anybody; false while
/// somebody drops it. Ask for its oid afterwards.
pub fn hold() -> bool {
    let Some(table) = pg::relation(tables::INSTANCE) else {
        return true;
    };
    pg::try_lock_table(table, pg::TableLock::AccessShare)
}

/// Runs `body` as the owner of `plugin_webhooks.instance`.
pub fn as_owner<R>(body: impl FnOnce() -> R) -> R {
    pg::as_owner_of(tables::INSTANCE, body)
}

/// Whether the tables are those of version 0.1.0, which sent from wherever it was.
pub fn is_older_schema() -> bool {
    pg::relation(tables::INSTANCE).is_none()
}

pub fn state() -> Instance {
    if is_older_schema() {
        return Instance::Active;
    }
    let places = as_owner(|| {
        pg::run_kept(ROWS, &[], &[], |table| {
            let mut places = Vec::with_capacity(table.len());
            for row in table {
                places.push(Place {
                    system_identifier: row.get(1)?.unwrap_or_default(),
                    database: row.get(2)?.unwrap_or_default(),
                    extension: row.get(3)?.unwrap_or_default(),
                    site: row.get(4)?.unwrap_or_default(),
                });
            }
            Ok(places)
        })
    });
    let here = Place::here();
    match places.iter().find(|place| **place != here) {
        Some(elsewhere) => Instance::Copy(elsewhere.difference(&here)),
        None if places.is_empty() => Instance::Unrecorded,
        None => Instance::Active,
    }
}

/// Whether deliveries may be sent from here.
pub fn is_active() -> bool {
    state() == Instance::Active
}

thread_local! {
    /// The table that this session has seen to name this place.
    static SEEN: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// `is_active` for hot paths: once true, it stays true for the session.
pub fn was_active() -> bool {
    let Some(table) = pg::relation(tables::INSTANCE) else {
        return true;
    };
    if SEEN.get() == table {
        return true;
    }
    let active = is_active();
    if active {
        SEEN.set(table);
    }
    active
}

/// Why nothing is sent from here; `None` when nothing holds deliveries back.
#[pg_extern(sql = false)]
pub fn paused_because() -> Option<String> {
    match state() {
        Instance::Active => None,
        Instance::Copy(reason) => Some(reason),
        Instance::Unrecorded => {
            let has_installations = pg::as_owner_of(tables::INSTALLATIONS, || {
                pg::one::<bool>("SELECT EXISTS (SELECT FROM int.plugin_installations)", &[])
            });
            (has_installations == Some(true)).then(|| "nothing tells where the data belongs".into())
        }
    }
}

/// Tells the caller, or the server log, that deliveries wait.
pub fn warn_paused(reason: &str) {
    error::warn(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "plugin_webhooks: deliveries of database \"{}\" are paused: {reason}",
            pg::database_name()
        ),
        "If this database is to send them from now on, run: SELECT plugin_webhooks.resume()",
    );
}
