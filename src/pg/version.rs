//! Every difference between the supported majors of PostgreSQL, 15 to 18, a small function for each:
//! the only file with a condition on a major. A new major is read against this list.
#![expect(unsafe_code, reason = "fields of PostgreSQL's structs")]

use pgrx::pg_sys;

/// A number for the running transaction of this backend, which it never uses again.
pub fn local_transaction_id() -> u32 {
    // SAFETY: every process that runs SQL has a PGPROC, and no other process writes this field.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let id = (*pg_sys::MyProc).lxid;
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        let id = (*pg_sys::MyProc).vxid.lxid;
        id
    }
}

/// Whether a process is a background worker; since 18, any process but the backend of a client.
///
/// # Safety
/// `process` points into the array of PGPROCs. What it holds may change meanwhile.
pub unsafe fn is_background_worker(process: *const pg_sys::PGPROC) -> bool {
    // SAFETY: shared memory that lives as long as the server; a flag is read at once.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        let is_worker = (*process).isBackgroundWorker;
        #[cfg(feature = "pg18")]
        let is_worker = !(*process).isRegularBackend;
        is_worker
    }
}

/// Has a signal handled by `handler`.
///
/// # Safety
/// `handler` may run at any point of the main thread: it does what a signal handler may do.
pub unsafe fn handle_signal(signal: u32, handler: unsafe extern "C-unwind" fn(i32)) {
    // SAFETY: the caller's handler is one.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(signal as i32, Some(handler));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(signal as i32, Some(handler));
    }
}

/// The columns of a row type, dropped ones included.
///
/// # Safety
/// `descriptor` is alive and stays so while the result is used.
pub unsafe fn attributes<'a>(descriptor: pg_sys::TupleDesc) -> &'a [pg_sys::FormData_pg_attribute] {
    // SAFETY: a descriptor is allocated with natts attributes in a row: at its end, or since 18 behind
    // as many compact ones.
    unsafe {
        let count = (*descriptor).natts as usize;
        #[cfg(not(feature = "pg18"))]
        let first = (*descriptor).attrs.as_ptr();
        #[cfg(feature = "pg18")]
        let first = (*descriptor).compact_attrs.as_ptr().add(count).cast();
        std::slice::from_raw_parts(first, count)
    }
}

/// Whether new rows have to pass a check; since 18 there are some that are not enforced.
#[cfg_attr(not(feature = "pg18"), expect(unused_variables))]
pub fn is_enforced(check: &pg_sys::ConstrCheck) -> bool {
    #[cfg(not(feature = "pg18"))]
    let is_enforced = true;
    #[cfg(feature = "pg18")]
    let is_enforced = check.ccenforced;
    is_enforced
}

/// The index of a table's primary key, `InvalidOid` where there is none, or it is deferrable.
///
/// # Safety
/// `table` is open.
pub unsafe fn primary_key_index(table: pg_sys::Relation) -> pg_sys::Oid {
    // SAFETY: fills in and reads the relcache entry of an open table.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        let index = pg_sys::RelationGetPrimaryKeyIndex(table);
        #[cfg(feature = "pg18")]
        let index = pg_sys::RelationGetPrimaryKeyIndex(table, false);
        index
    }
}

/// Makes the index entries of a new row; returns the indexes that are to be checked again.
///
/// # Safety
/// `result` has its indexes open in `estate`, and the row in `slot` has its place in the table.
pub unsafe fn insert_index_entries(
    result: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
) -> *mut pg_sys::List {
    // Not an update, no ON CONFLICT: nothing to tell about conflicts, and no arbiter.
    let (update, no_error, no_conflict, no_arbiters) =
        (false, false, std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: what CopyFrom does for a row that the access method has stored.
    unsafe {
        #[cfg(feature = "pg15")]
        let recheck = pg_sys::ExecInsertIndexTuples(
            result,
            slot,
            estate,
            update,
            no_error,
            no_conflict,
            no_arbiters,
        );
        #[cfg(not(feature = "pg15"))]
        let recheck = pg_sys::ExecInsertIndexTuples(
            result,
            slot,
            estate,
            update,
            no_error,
            no_conflict,
            no_arbiters,
            false,
        );
        recheck
    }
}
