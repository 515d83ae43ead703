//! Locks on whole tables that are only taken where that means no waiting: the extension gives way to
//! DDL. They last until the end of the transaction.
#![expect(unsafe_code, reason = "calls the lock manager")]

use pgrx::pg_sys;

/// How a table is locked.
#[derive(Clone, Copy)]
pub enum TableLock {
    /// As any writer locks it.
    RowExclusive = pg_sys::RowExclusiveLock as isize,
    /// As ALTER TABLE does for foreign keys and triggers; conflicts with writers.
    ShareRowExclusive = pg_sys::ShareRowExclusiveLock as isize,
}

/// Locks a table; false when another session's lock is in the way.
pub fn try_lock_table(table: pg_sys::Oid, lock: TableLock) -> bool {
    // SAFETY: asks the lock manager for a lock on a number; it need not be that of a table.
    unsafe { pg_sys::ConditionalLockRelationOid(table, lock as pg_sys::LOCKMODE) }
}
