//! What this process is connected to: its cluster, data directory and database, and the other processes
//! of the server. Nothing here depends on the user or on a setting.
#![expect(unsafe_code, reason = "PostgreSQL's globals and shared memory")]

use std::ffi::CStr;
use std::path::Path;

use pgrx::pg_sys;

use super::version;

/// The database that the process is connected to; `InvalidOid` in one that is connected to none.
pub fn database() -> pg_sys::Oid {
    // SAFETY: a copy of a value that is set once, before any code of the extension runs.
    unsafe { pg_sys::MyDatabaseId }
}

/// Name of that database; empty when it is gone.
pub fn database_name() -> String {
    // SAFETY: a syscache look-up; the result is null or a C string in the current memory context.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        if name.is_null() {
            return String::new();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// What `pg_control_system()` shows: the same for a cluster and its physical copies.
pub fn system_identifier() -> u64 {
    // SAFETY: reads the control file's copy in shared memory, which every process is attached to.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// Whether this server is a standby.
pub fn is_in_recovery() -> bool {
    // SAFETY: reads a flag in shared memory, which every process is attached to.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// A path that starts in the data directory unless it is absolute.
pub fn in_data_directory(path: &str) -> std::path::PathBuf {
    // SAFETY: a C string that is set before any library is loaded, and never again.
    let data = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Path::new(&*data.to_string_lossy()).join(path)
}

/// Sets the latch of every background worker that is connected to this database (`InvalidOid`: to
/// none, like a launcher). Raises nothing.
pub fn set_latches_of_workers(database: pg_sys::Oid) {
    // SAFETY: the array of PGPROCs lives as long as shared memory and never moves. A slot may change
    // hands while it is read; its latch stays a latch, and setting it is harmless to any owner.
    unsafe {
        let processes = pg_sys::ProcGlobal;
        for index in 0..(*processes).allProcCount as usize {
            let process = (*processes).allProcs.add(index);
            if (*process).pid != 0
                && version::is_background_worker(process)
                && (*process).databaseId == database
            {
                pg_sys::SetLatch(&mut (*process).procLatch);
            }
        }
    }
}

thread_local! {
    static SERVED: std::cell::OnceCell<String> = const { std::cell::OnceCell::new() };
}

/// Keeps the name of the database that a background worker serves: log_line_prefix knows it for sessions only.
/// Inside a transaction.
pub fn remember_served_database() {
    SERVED.with(|served| {
        served.get_or_init(database_name);
    });
}

/// The database that this process serves, if it is a background worker that remembers.
pub fn served_database() -> Option<String> {
    SERVED.with(|served| served.get().cloned())
}
