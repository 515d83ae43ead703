//! Where the data is at home. A dump, a template copy or a restored base backup carries
//! `plugin_webhooks.instance` along: where that does not describe the place it is in, nothing is
//! sent until `plugin_webhooks.resume()`. Knows nothing of how deliveries are sent.

use std::cell::Cell;

use pgrx::prelude::*;

use crate::delivery::queue;
use crate::{error, pg, settings, worker};

const ROWS: &str = "SELECT i.system_identifier, i.database_oid, i.extension_oid, i.site FROM plugin_webhooks.instance AS i";

/// One place: a row of `plugin_webhooks.instance`, or where this process is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    /// Text, because it is an unsigned 64-bit number.
    system_identifier: String,
    database: i64,
    extension: i64,
    site: String,
}

impl Place {
    fn here() -> Self {
        let extension = pg::extension(c"plugin_webhooks").unwrap_or(pg_sys::InvalidOid);
        Self {
            system_identifier: pg::system_identifier().to_string(),
            database: pg::database().to_u32().into(),
            extension: extension.to_u32().into(),
            site: settings::site(),
        }
    }

    /// What tells the home from here.
    fn difference(&self, here: &Self) -> String {
        if self.system_identifier != here.system_identifier {
            format!(
                "the data is at home in another cluster (system identifier {}, this one has {})",
                self.system_identifier, here.system_identifier
            )
        } else if self.site != here.site {
            format!(
                "the data is at home at site \"{}\", plugin_webhooks.site is \"{}\" here",
                self.site, here.site
            )
        } else if self.database != here.database {
            format!(
                "the data is at home in another database of this cluster (oid {}, this one has {})",
                self.database, here.database
            )
        } else {
            "the data was restored into this database from a dump".into()
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Home {
    Here,
    /// No plugin was registered yet, or the data comes from a version that kept no record.
    Nowhere,
    Elsewhere(String),
}

fn as_owner<R>(body: impl FnOnce() -> R) -> R {
    pg::as_owner_of(c"plugin_webhooks", c"instance", body)
}

fn home() -> Home {
    if pg::relation(c"plugin_webhooks", c"instance").is_none() {
        // The tables are those of version 0.1.0, which sent from wherever it was.
        return Home::Here;
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
        Some(elsewhere) => Home::Elsewhere(elsewhere.difference(&here)),
        None if places.is_empty() => Home::Nowhere,
        None => Home::Here,
    }
}

/// Whether deliveries may be sent from here.
pub fn is_here() -> bool {
    home() == Home::Here
}

thread_local! {
    /// The table of homes that this session has seen to name this place.
    static SEEN: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// The same for hot paths: once true, it stays true for the session.
pub fn was_here() -> bool {
    let Some(instance) = pg::relation(c"plugin_webhooks", c"instance") else {
        return true;
    };
    if SEEN.get() == instance {
        return true;
    }
    let here = is_here();
    if here {
        SEEN.set(instance);
    }
    here
}

/// Why nothing is sent from here; `None` when nothing holds deliveries back.
#[pg_extern(sql = false)]
pub fn paused_because() -> Option<String> {
    match home() {
        Home::Here => None,
        Home::Elsewhere(reason) => Some(reason),
        Home::Nowhere => {
            let has_installations = pg::as_owner_of(c"int", c"plugin_installations", || {
                pg::one::<bool>("SELECT EXISTS (SELECT FROM int.plugin_installations)", &[])
            });
            (has_installations == Some(true))
                .then(|| "nothing tells where the data is at home".into())
        }
    }
}

/// Tells the caller or the log that deliveries wait.
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

/// Has the foreign keys among the extension's tables checked from now on, where the data is at home;
/// true when that is done.
pub fn turn_on_foreign_keys() -> bool {
    if pg::relation(c"plugin_webhooks", c"instance").is_none() {
        // Version 0.1.0 never turned them off.
        return true;
    }
    let done = is_here() && lock_referencing_tables();
    if done {
        check_foreign_keys();
    }
    done
}

/// Locks the tables as ALTER TABLE will, unless that would mean to wait for a writer.
fn lock_referencing_tables() -> bool {
    [
        c"plugin_installations",
        c"plugin_webhook_subscriptions",
        c"plugin_delivery_queue",
    ]
    .iter()
    .all(|table| {
        pg::relation(c"int", table)
            .is_some_and(|table| pg::try_lock_table(table, pg::TableLock::ShareRowExclusive))
    })
}

fn check_foreign_keys() {
    as_owner(|| {
        pg::one::<bool>(
            "SELECT true FROM (SELECT plugin_webhooks.check_foreign_keys(true)) AS x",
            &[],
        );
    });
}

fn settle_here() {
    let here = Place::here();
    as_owner(|| {
        pg::write("DELETE FROM plugin_webhooks.instance", &[]);
        pg::write(
            "INSERT INTO plugin_webhooks.instance (system_identifier, database_oid, extension_oid, site)
             VALUES ($1, $2, $3, $4)",
            &[
                here.system_identifier.into(),
                here.database.into(),
                here.extension.into(),
                here.site.into(),
            ],
        );
    });
}

#[pg_extern(sql = false)]
fn resume() {
    match home() {
        Home::Here => {}
        Home::Nowhere => {
            check_foreign_keys();
            settle_here();
        }
        Home::Elsewhere(_) => {
            check_foreign_keys();
            // What a worker elsewhere had under way.
            queue::release_all();
            settle_here();
        }
    }
    worker::wake_at_commit();
}

#[pg_trigger(sql = false)]
fn adopt<'a>(
    _trigger: &'a pgrx::PgTrigger<'a>,
) -> error::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>> {
    if home() == Home::Nowhere {
        let has_deliveries = pg::as_owner_of(c"int", c"plugin_delivery_queue", || {
            pg::one::<bool>("SELECT EXISTS (SELECT FROM int.plugin_delivery_queue)", &[])
        });
        if has_deliveries == Some(false) {
            settle_here();
        }
    }
    Ok(None)
}
