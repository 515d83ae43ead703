//! Every difference between the supported majors of PostgreSQL, a small function for each: the only
//! file with a condition on a major. A new major is read against this list.

use pgrx::pg_sys;

/// A number for the running transaction of this backend, which it never uses again.
#[cfg(any(feature = "pg15", feature = "pg16"))]
pub fn local_transaction_id() -> u32 {
    // SAFETY: every process that runs SQL has a PGPROC, and only it writes this field.
    unsafe { (*pg_sys::MyProc).lxid }
}

/// A number for the running transaction of this backend, which it never uses again.
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
pub fn local_transaction_id() -> u32 {
    // SAFETY: every process that runs SQL has a PGPROC, and only it writes this field.
    unsafe { (*pg_sys::MyProc).vxid.lxid }
}

/// Whether a process is a background worker, not a client's session.
///
/// # Safety
/// `process` points into the array of PGPROCs.
#[cfg(not(feature = "pg18"))]
pub unsafe fn is_background_worker(process: *const pg_sys::PGPROC) -> bool {
    // SAFETY: a flag in shared memory, which stays mapped as long as this process lives.
    unsafe { (*process).isBackgroundWorker }
}

/// Whether a process is a background worker, not a client's session.
///
/// # Safety
/// `process` points into the array of PGPROCs.
#[cfg(feature = "pg18")]
pub unsafe fn is_background_worker(process: *const pg_sys::PGPROC) -> bool {
    // SAFETY: a flag in shared memory, which stays mapped as long as this process lives.
    unsafe { !(*process).isRegularBackend }
}
