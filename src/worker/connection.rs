//! How a background worker becomes a session of its own: which database it is connected to, and the
//! settings it runs with. Called once in a process, right after the signals are set up.
#![expect(
    unsafe_code,
    reason = "connects the process and sets its session's settings"
)]

use std::ffi::CStr;

use pgrx::pg_sys;

/// Settings of the worker's own session.
const SESSION: [(&CStr, &CStr); 8] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    // Shorter than deadlock_timeout: the worker gives way to DDL.
    (c"lock_timeout", c"500ms"),
    // The worst a crash can do is that an outcome is forgotten and the delivery sent again.
    (c"synchronous_commit", c"off"),
    (c"default_transaction_isolation", c"read committed"),
    // A queue's statistics are always old; its plans are known.
    (c"enable_seqscan", c"off"),
    (c"enable_bitmapscan", c"off"),
    (c"jit", c"off"),
    (c"plan_cache_mode", c"force_generic_plan"),
];

/// Connects to a database; ends the process when it is gone.
pub fn connect(database: pg_sys::Oid) {
    // SAFETY: the process is a background worker that asked for a connection in its registration, and
    // has none yet.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
    }
    for (name, value) in SESSION {
        // SAFETY: both are static C strings; an unknown name would raise.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_SESSION,
            );
        }
    }
}

/// Connects to no database: only shared catalogs can be read.
pub fn connect_without_database() {
    // SAFETY: the process is a background worker that asked for a connection in its registration, and
    // has none yet.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) };
}
