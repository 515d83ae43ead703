//! Turns the foreign keys among the extension's tables on, which are off in a database that may be
//! the target of a restore. Never waits for a writer, unless `check` is called by itself.

use crate::tables;
use crate::{instance, pg};

/// Has the foreign keys checked from now on, in the active instance; true when that is done.
pub fn turn_on() -> bool {
    if instance::is_older_schema() {
        // Version 0.1.0 never turned them off.
        return true;
    }
    let done = instance::is_active() && lock_referencing_tables();
    if done {
        check();
    }
    done
}

/// Locks the tables as ALTER TABLE will, unless that would mean to wait for a writer.
fn lock_referencing_tables() -> bool {
    [tables::INSTALLATIONS, tables::SUBSCRIPTIONS, tables::QUEUE]
        .into_iter()
        .all(|table| {
            pg::relation(table)
                .is_some_and(|table| pg::try_lock_table(table, pg::TableLock::ShareRowExclusive))
        })
}

/// Raises 23503 for rows that break one.
pub fn check() {
    instance::as_owner(|| {
        pg::one::<bool>(
            "SELECT true FROM (SELECT plugin_webhooks.check_foreign_keys(true)) AS x",
            &[],
        );
    });
}
