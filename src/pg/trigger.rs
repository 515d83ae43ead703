//! The triggers of a table, as its relcache entry describes them. Fires none and changes none.
#![expect(unsafe_code, reason = "relcache entries by pointer")]

use pgrx::PgTrigger;
use pgrx::prelude::*;

/// The triggers of a relation.
///
/// # Safety
/// The relation is open and stays so while the result is used.
pub unsafe fn triggers<'a>(relation: pg_sys::Relation) -> &'a [pg_sys::Trigger] {
    // SAFETY: the description of an open relation is not replaced, and counts its triggers.
    unsafe {
        let triggers = (*relation).trigdesc;
        if triggers.is_null() {
            return &[];
        }
        std::slice::from_raw_parts((*triggers).triggers, (*triggers).numtriggers as usize)
    }
}

/// The triggers of the table whose trigger runs.
pub fn triggers_beside<'a>(trigger: &'a PgTrigger<'_>) -> &'a [pg_sys::Trigger] {
    // SAFETY: the executor keeps a relation open while one of its triggers runs.
    unsafe { triggers(trigger.trigger_data().tg_relation) }
}

/// Shows the triggers of a table to `read`; locks the table as any reader does.
pub fn with_triggers<R>(table: pg_sys::Oid, read: impl FnOnce(&[pg_sys::Trigger]) -> R) -> R {
    // SAFETY: opened before and closed after the triggers are used; an error leaves the closing to the
    // transaction's abort. The lock stays until the end of the transaction.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let result = read(triggers(relation));
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        result
    }
}

/// Whether a trigger of this `tgenabled` fires in this session.
pub fn trigger_is_enabled(enabled: u8) -> bool {
    // SAFETY: a copy of the value of a setting, which only this process writes.
    let role = unsafe { pg_sys::SessionReplicationRole };
    if role == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32 {
        matches!(
            enabled,
            pg_sys::TRIGGER_FIRES_ALWAYS | pg_sys::TRIGGER_FIRES_ON_REPLICA
        )
    } else {
        matches!(
            enabled,
            pg_sys::TRIGGER_FIRES_ALWAYS | pg_sys::TRIGGER_FIRES_ON_ORIGIN
        )
    }
}
