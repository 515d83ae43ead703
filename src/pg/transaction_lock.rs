//! Locks on numbers, for rules that hold among several rows. They are of a class that SQL's functions cannot
//! reach: nobody else can hold them.
#![expect(unsafe_code, reason = "calls the lock manager")]

use pgrx::pg_sys;

use super::process::database;

/// Takes, and keeps until the transaction ends, the lock of this name in this database; waits for whoever has it.
/// Two names may share a lock.
pub fn lock_until_end(class: u32, kind: u16, name: [u8; 16]) {
    let name = u128::from_ne_bytes(name);
    let halves = (name >> 64) as u64 ^ name as u64;
    let tag = pg_sys::LOCKTAG {
        locktag_field1: database().to_u32(),
        locktag_field2: class,
        locktag_field3: (halves >> 32) as u32 ^ halves as u32,
        locktag_field4: kind,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    };
    // SAFETY: the tag is copied; a lock of this transaction, whose end releases it also after an error.
    unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, false) };
}
