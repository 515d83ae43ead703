//! The launcher of a preloaded server: keeps one worker in each database that has the extension.
//! It is connected to no database, so it holds up neither DROP DATABASE nor CREATE DATABASE.

use std::collections::HashMap;
use std::mem;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{is_running, main_loop, register_dynamic, registration, transaction};
use crate::error;

/// A worker that left earlier found no extension, or an error.
const SHORT_LIFE: Duration = Duration::from_secs(5);
/// The rest after a worker has left; doubled after each short life in a row, up to the longest:
/// so often a database without the extension is looked at. CREATE EXTENSION ends every rest.
const REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_secs(1);

/// Announces the launcher to the postmaster.
pub fn register() {
    let mut worker = registration(
        "plugin_webhooks launcher",
        "plugin_webhooks launcher",
        "plugin_webhooks_launcher_main",
    );
    worker.bgw_restart_time = 5;
    // SAFETY: called while shared_preload_libraries are loaded; the postmaster copies it.
    unsafe { pg_sys::RegisterBackgroundWorker(&mut worker) };
}

/// What the launcher knows of one database.
struct Served {
    worker: Option<(*mut pg_sys::BackgroundWorkerHandle, Instant)>,
    not_before: Instant,
    short_lives: u32,
    /// The launcher was woken while a worker ran that may have looked too early.
    look_again: bool,
}

impl Served {
    fn is_running(&mut self, now: Instant) -> bool {
        let Some((handle, since)) = self.worker else {
            return false;
        };
        let mut pid = 0;
        // SAFETY: a handle that RegisterDynamicBackgroundWorker returned, freed exactly once.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(handle, &mut pid) };
        if status != pg_sys::BgwHandleStatus::BGWH_STOPPED {
            return true;
        }
        // SAFETY: as above.
        unsafe { pg_sys::pfree(handle.cast()) };
        self.worker = None;
        self.short_lives = if now.duration_since(since) < SHORT_LIFE {
            self.short_lives.saturating_add(1)
        } else {
            0
        };
        let rest = if mem::take(&mut self.look_again) {
            Duration::ZERO
        } else {
            (REST * 2_u32.saturating_pow(self.short_lives.min(10))).min(LONGEST_REST)
        };
        self.not_before = now + rest;
        false
    }
}

/// Oids of the databases that accept connections. A scan of the shared catalogue: without a
/// database there is no SQL.
fn databases() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: the way of autovacuum's launcher: open, scan, close, inside a transaction.
    unsafe {
        let relation = pg_sys::table_open(
            pg_sys::DatabaseRelationId,
            pg_sys::AccessShareLock as pg_sys::LOCKMODE,
        );
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let database = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if (*database).datallowconn {
                found.push((*database).oid);
            }
        }
        if let Some(end) = (*(*(*scan).rs_rd).rd_tableam).scan_end {
            end(scan);
        }
        pg_sys::table_close(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
    }
    found
}

fn look(served: &mut HashMap<pg_sys::Oid, Served>, warned: &mut Option<Instant>) {
    let found = transaction::run(c"looking for databases to serve", || {
        // The processor, or a launcher before this one, may have started a worker too.
        let with_worker = |oid| (oid, is_running(oid));
        databases().into_iter().map(with_worker).collect()
    });
    let Ok::<HashMap<_, _>, _>(databases) = found else {
        return;
    };
    served.retain(|oid, _| databases.contains_key(oid));
    let now = Instant::now();
    for (oid, has_worker) in databases {
        let database = served.entry(oid).or_insert_with(|| Served {
            worker: None,
            not_before: now,
            short_lives: 0,
            look_again: false,
        });
        if database.is_running(now) || has_worker || now < database.not_before {
            continue;
        }
        match register_dynamic(oid) {
            Some(handle) => database.worker = Some((handle, now)),
            None if warned.is_none_or(|at| now.duration_since(at) >= LONGEST_REST) => {
                *warned = Some(now);
                error::warn(
                    PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
                    "plugin_webhooks: no background worker can be started, deliveries wait",
                    "Raise max_worker_processes (needs a restart): one for the launcher and one for each database.",
                );
            }
            None => {}
        }
    }
}

/// Entry point of the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn plugin_webhooks_launcher_main(_arg: pg_sys::Datum) {
    main_loop::set_up_signals();
    // SAFETY: first thing after the signals; without a database only shared catalogues are there.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) };
    let mut served = HashMap::new();
    let mut warned = None;
    loop {
        look(&mut served, &mut warned);
        if main_loop::wait(TICK) == main_loop::Woken::Latch {
            // CREATE EXTENSION somewhere, or new settings: no database waits for its next look.
            let now = Instant::now();
            for database in served.values_mut() {
                if database.is_running(now) {
                    database.look_again = true;
                } else {
                    database.not_before = now;
                }
            }
        }
    }
}
