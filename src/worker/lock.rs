//! Two advisory locks of a database: one makes a worker the only one, one keeps it from leaving. They
//! are of a class that SQL's functions cannot reach: nobody can hold up delivery by taking them.
#![expect(unsafe_code, reason = "calls the lock manager")]

use pgrx::pg_sys;

use crate::pg;

/// `classid` of both in pg_locks, in ASCII "pwhw". plugin_webhooks.worker_pid() knows it too; a test
/// compares the two.
pub(crate) const CLASS: u32 = 0x7077_6877;

/// `objsubid` in pg_locks.
#[derive(Clone, Copy)]
pub(crate) enum Lock {
    /// Held by the worker as long as it serves.
    Singleton = 7,
    /// Shared by transactions of the processor that count on the worker they found; a worker takes it
    /// alone before it leaves.
    KeepAlive = 8,
}

impl Lock {
    fn tag(self, database: pg_sys::Oid) -> pg_sys::LOCKTAG {
        pg_sys::LOCKTAG {
            locktag_field1: database.to_u32(),
            locktag_field2: CLASS,
            locktag_field3: 0,
            locktag_field4: self as u16,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }
}

/// Takes a lock of this database alone, until `release` or the end of the session; false when somebody
/// else has it. Needs a transaction.
pub fn try_acquire(lock: Lock) -> bool {
    let tag = lock.tag(pg::database());
    // SAFETY: the tag is copied; a session lock that is taken without waiting.
    let result = unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, true, true) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Releases what `try_acquire` took.
pub fn release(lock: Lock) {
    let tag = lock.tag(pg::database());
    // SAFETY: the tag is only read; a lock that is not held costs a warning.
    unsafe { pg_sys::LockRelease(&tag, pg_sys::ExclusiveLock as i32, true) };
}

/// Whether a worker serves the database. Needs a transaction.
pub fn worker_is_running(database: pg_sys::Oid) -> bool {
    let tag = Lock::Singleton.tag(database);
    // SAFETY: a lock of this transaction that is taken without waiting, and released at once.
    unsafe {
        let result = pg_sys::LockAcquire(&tag, pg_sys::ShareLock as i32, false, true);
        if result == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&tag, pg_sys::ShareLock as i32, false);
        false
    }
}

/// Until the end of the transaction no worker of this database leaves; waits only for one that just does.
pub fn keep_worker_alive() {
    let tag = Lock::KeepAlive.tag(pg::database());
    // SAFETY: a lock of this transaction, whose end releases it also after an error.
    unsafe { pg_sys::LockAcquire(&tag, pg_sys::ShareLock as i32, false, false) };
}
