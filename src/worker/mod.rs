//! The background worker's life: who starts it, who wakes it, that there is one a database.
//! The delivering itself is in `main_loop` and `dispatcher`.

mod dispatcher;
mod gate;
mod launcher;
mod main_loop;
mod processor;
mod purge;
mod transaction;

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::error;

const LIBRARY: &CStr = c"$libdir/plugin_webhooks";

/// Our advisory locks are of a class that SQL's functions cannot reach: nobody else can take them.
const LOCK_CLASS: u32 = 0x7077_6877;

/// What a lock of a database stands for.
#[derive(Clone, Copy)]
enum Lock {
    /// Makes a worker the only one.
    Office = 7,
    /// Shared by transactions of the processor that count on the worker they found; a worker takes it
    /// alone before it leaves.
    HandOver = 8,
}

/// Whether the library came with shared_preload_libraries; inherited from the postmaster.
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Part of `_PG_init`.
pub fn init() {
    // SAFETY: reads flags of the starting process, before any other thread exists.
    unsafe {
        if pg_sys::IsBinaryUpgrade {
            return;
        }
        if pg_sys::process_shared_preload_libraries_in_progress {
            PRELOADED.store(true, Ordering::Relaxed);
            launcher::register();
        }
    }
}

pub fn preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

fn this_database() -> pg_sys::Oid {
    // SAFETY: set for the life of the backend.
    unsafe { pg_sys::MyDatabaseId }
}

fn lock_tag(database: pg_sys::Oid, lock: Lock) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: database.to_u32(),
        locktag_field2: LOCK_CLASS,
        locktag_field3: 0,
        locktag_field4: lock as u16,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// Takes a lock of this database for the session, unless that would mean to wait.
fn take_alone(lock: Lock) -> bool {
    let tag = lock_tag(this_database(), lock);
    // SAFETY: a session lock taken inside a transaction, without waiting.
    let result = unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, true, true) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

fn give_back(lock: Lock) {
    let tag = lock_tag(this_database(), lock);
    // SAFETY: releases what `take_alone` took; without it, only warns.
    unsafe { pg_sys::LockRelease(&tag, pg_sys::ExclusiveLock as i32, true) };
}

/// Whether a worker serves the database. Needs a transaction.
fn is_running(database: pg_sys::Oid) -> bool {
    let tag = lock_tag(database, Lock::Office);
    // SAFETY: a lock of this transaction, given back at once.
    unsafe {
        let result = pg_sys::LockAcquire(&tag, pg_sys::ShareLock as i32, false, true);
        if result == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&tag, pg_sys::ShareLock as i32, false);
        false
    }
}

/// Starts a worker for this database unless one runs; false, with a warning, when none can start.
pub fn ensure_running() -> bool {
    let database = this_database();
    // Until the end of the transaction no worker leaves; waits only for one that just does.
    // SAFETY: a lock of this transaction.
    unsafe {
        let tag = lock_tag(database, Lock::HandOver);
        pg_sys::LockAcquire(&tag, pg_sys::ShareLock as i32, false, false);
    }
    if is_running(database) {
        return true;
    }
    if register_dynamic(database).is_some() {
        return true;
    }
    error::warn(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
        "deliveries wait: no background worker can be started",
        "Raise max_worker_processes (needs a restart), or stop other background workers.",
    );
    false
}

fn fill(target: &mut [std::ffi::c_char], text: &str) {
    let room = target.len() - 1;
    for (slot, byte) in target[..room].iter_mut().zip(text.bytes()) {
        *slot = byte as std::ffi::c_char;
    }
}

/// A worker's registration, except for when it starts and what it serves.
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

/// Registers a worker for a database; `None` when max_worker_processes is used up.
fn register_dynamic(database: pg_sys::Oid) -> Option<*mut pg_sys::BackgroundWorkerHandle> {
    let mut worker = registration(
        "plugin_webhooks worker",
        &format!("plugin_webhooks worker for database {}", database.to_u32()),
        "plugin_webhooks_worker_main",
    );
    worker.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
    worker.bgw_main_arg = pg_sys::Datum::from(database);
    let mut handle = std::ptr::null_mut();
    // SAFETY: copies the registration into shared memory; the handle is palloc'd.
    let registered = unsafe { pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle) };
    registered.then_some(handle)
}
