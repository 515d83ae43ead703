//! Locks on whole tables. They last until the end of the (sub)transaction.
#![expect(unsafe_code, reason = "calls the lock manager and sets a timer")]

use std::ffi::c_int;
use std::sync::OnceLock;

use pgrx::PgTryBuilder;
use pgrx::pg_sys;

/// How a table is locked.
#[derive(Clone, Copy)]
pub enum TableLock {
    /// As a query locks it; conflicts with DROP and its like.
    AccessShare = pg_sys::AccessShareLock as isize,
    /// As any writer locks it.
    RowExclusive = pg_sys::RowExclusiveLock as isize,
    /// As ALTER TABLE does for foreign keys and triggers; conflicts with writers.
    ShareRowExclusive = pg_sys::ShareRowExclusiveLock as isize,
    /// As most of ALTER TABLE does; conflicts with readers, too.
    AccessExclusive = pg_sys::AccessExclusiveLock as isize,
}

/// Locks a table, unless that would mean to wait; false when another session's lock is in the way. For all who
/// give way to DDL.
pub fn try_lock_table(table: pg_sys::Oid, lock: TableLock) -> bool {
    // SAFETY: asks the lock manager for a lock on a number; it need not be that of a table.
    unsafe { pg_sys::ConditionalLockRelationOid(table, lock as pg_sys::LOCKMODE) }
}

/// `TimeoutId` of utils/timeout.h, the first one that is free for extensions.
#[cfg(any(feature = "pg15", feature = "pg16"))]
const USER_TIMEOUT: c_int = 12;

/// PostgreSQL looks once, `deadlock_timeout` after the wait began. A session that closes the circle later would look
/// itself, and its transaction would fail.
const LOOK_EVERY_MS: c_int = 10;

unsafe extern "C-unwind" {
    fn RegisterTimeout(id: c_int, handler: unsafe extern "C-unwind" fn()) -> c_int;
    fn enable_timeout_every(id: c_int, first: pg_sys::TimestampTz, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
    fn CheckDeadLockAlert();
}

/// Waits for a lock on a table or view, alone: what a view reads is not locked. Where the wait belongs to a deadlock,
/// it is this session that ends with 40P01, long before another one looks.
pub fn lock_and_look_for_deadlocks(relation: pg_sys::Oid, lock: TableLock) {
    if try_lock_table(relation, lock) {
        return;
    }
    static TIMER: OnceLock<c_int> = OnceLock::new();
    // SAFETY: registered once a process; the handler is PostgreSQL's own of deadlock_timeout, which only leaves a
    // note for the waiting loop, and harms nobody outside of one. The timer ends however the wait does.
    unsafe {
        let timer = *TIMER.get_or_init(|| RegisterTimeout(USER_TIMEOUT, CheckDeadLockAlert));
        let first = pg_sys::GetCurrentTimestamp() + 1_000;
        enable_timeout_every(timer, first, LOOK_EVERY_MS);
        PgTryBuilder::new(|| pg_sys::LockRelationOid(relation, lock as pg_sys::LOCKMODE))
            .finally(|| disable_timeout(timer, false))
            .execute();
    }
}
