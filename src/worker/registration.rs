//! Tells the postmaster which background workers to start, when, and what they serve. Knows their entry
//! points by name only, and nothing of what they do.
#![expect(unsafe_code, reason = "registers background workers")]

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::lock;
use crate::{error, pg};

const LIBRARY: &CStr = c"$libdir/plugin_webhooks";

/// Seconds until the postmaster starts a launcher that ended anew.
const LAUNCHER_RESTART: i32 = 5;

/// Whether the library came with shared_preload_libraries; inherited from the postmaster.
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Part of `_PG_init`: with shared_preload_libraries, registers the launcher.
pub fn init() {
    // SAFETY: flags that PostgreSQL sets before it loads a library.
    let preloading =
        unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade };
    if preloading {
        PRELOADED.store(true, Ordering::Relaxed);
        register_launcher();
    }
}

pub fn preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Starts a worker for this database unless one runs; false, with a warning, when none can start.
pub fn ensure_running() -> bool {
    let database = pg::database();
    lock::keep_worker_alive();
    if lock::worker_is_running(database) || register_worker(database).is_some() {
        return true;
    }
    error::warn(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
        "deliveries wait: no background worker can be started",
        "Raise max_worker_processes (needs a restart), or stop other background workers.",
    );
    false
}

/// A worker that was registered, whether or not it has started.
pub struct Handle(NonNull<pg_sys::BackgroundWorkerHandle>);

impl Handle {
    pub fn is_stopped(&self) -> bool {
        let mut pid = 0;
        // SAFETY: RegisterDynamicBackgroundWorker returned the handle; only dropping frees it.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.0.as_ptr(), &mut pid) };
        status == pg_sys::BgwHandleStatus::BGWH_STOPPED
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: palloc'd in the context that was current at the registration: the launcher's own, which
        // lives as long as the process, or that of a call which drops the handle at once.
        unsafe { pg_sys::pfree(self.0.as_ptr().cast()) };
    }
}

/// Registers a worker for a database; `None` when max_worker_processes is used up.
pub fn register_worker(database: pg_sys::Oid) -> Option<Handle> {
    let mut worker = registration(
        "plugin_webhooks worker",
        &format!("plugin_webhooks worker for database {}", database.to_u32()),
        "plugin_webhooks_worker_main",
    );
    worker.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
    worker.bgw_main_arg = pg_sys::Datum::from(database);
    let mut handle = std::ptr::null_mut();
    // SAFETY: copies the registration into shared memory, and sets the handle when it has found room.
    let registered = unsafe { pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle) };
    NonNull::new(handle).filter(|_| registered).map(Handle)
}

fn register_launcher() {
    let mut worker = registration(
        "plugin_webhooks launcher",
        "plugin_webhooks launcher",
        "plugin_webhooks_launcher_main",
    );
    worker.bgw_restart_time = LAUNCHER_RESTART;
    // SAFETY: called while shared_preload_libraries are loaded; the postmaster copies it.
    unsafe { pg_sys::RegisterBackgroundWorker(&mut worker) };
}

/// A registration, except for when the worker starts anew and what it serves.
fn registration(kind: &str, name: &str, function: &str) -> pg_sys::BackgroundWorker {
    let mut worker = pg_sys::BackgroundWorker {
        bgw_flags: (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION)
            as i32,
        // Never on a standby: delivery starts when recovery is over.
        bgw_start_time: pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished,
        ..Default::default()
    };
    fill(&mut worker.bgw_type, kind);
    fill(&mut worker.bgw_name, name);
    fill(&mut worker.bgw_library_name, &LIBRARY.to_string_lossy());
    fill(&mut worker.bgw_function_name, function);
    worker
}

/// Leaves the last byte as it is: a NUL.
fn fill(target: &mut [std::ffi::c_char], text: &str) {
    let end = target.len() - 1;
    for (slot, byte) in target[..end].iter_mut().zip(text.bytes()) {
        *slot = byte as std::ffi::c_char;
    }
}
