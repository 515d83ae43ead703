//! The loop of one database's worker: look at the queue, wait for the latch, leave when there is
//! nothing to serve. Blocks nowhere but in WaitLatch.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::dispatcher::{Dispatcher, Tick};
use super::gate::ForeignKeys;
use super::{Lock, give_back, preloaded, take_alone, transaction};
use crate::delivery::queue;
use crate::{error, instance};

/// How long a queue that could not be reached (DDL on it, an error) is left alone: the first time, and
/// at most.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// DDL that keeps the worker out for longer is worth a line in the log, and again after each doubling.
const LONG_BLOCKED: Duration = Duration::from_secs(5);

/// Why a wait ended.
#[derive(PartialEq, Eq)]
pub enum Woken {
    Latch,
    Timeout,
}

// As handlers they must be the C functions themselves, not pgrx's guarded wrappers.
unsafe extern "C-unwind" {
    fn SignalHandlerForConfigReload(signal: i32);
    fn die(signal: i32);
}

/// SIGTERM ends the process wherever it is, even while it waits for a lock; SIGHUP reloads.
pub fn set_up_signals() {
    // SAFETY: first thing in a background worker's main function.
    unsafe {
        pg_sys::pqsignal(pg_sys::SIGHUP as i32, Some(SignalHandlerForConfigReload));
        pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(die));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Waits for the latch. Also where a worker notices shutdown and reloads its settings.
pub fn wait(timeout: Duration) -> Woken {
    let milliseconds = i64::try_from(timeout.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    // SAFETY: the process's own latch; the postmaster's death ends the process.
    let events = unsafe {
        let events = pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            milliseconds,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        events
    };
    pgrx::check_for_interrupts!();
    // SAFETY: set by the signal handler, read and reset on the main thread only.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
    if events & pg_sys::WL_LATCH_SET as i32 != 0 {
        Woken::Latch
    } else {
        Woken::Timeout
    }
}

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

fn set_up_session() {
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

/// Becomes the worker of this database and returns lost rows to the queue; `None` when there is
/// nothing to serve, or another one serves.
fn take_office() -> Option<pg_sys::Oid> {
    // The processor holds the lock for a moment when it looks whether a worker runs.
    for _ in 0..10 {
        let (extension, alone) = transaction::run(c"starting", || {
            let extension = instance::extension();
            (extension, extension.is_some() && take_alone(Lock::Office))
        })
        .ok()?;
        if alone || extension.is_none() {
            return extension;
        }
        wait(Duration::from_millis(50));
    }
    None
}

fn rest(failures: u32) -> Duration {
    (FIRST_REST * 2_u32.saturating_pow(failures.min(10))).min(LONGEST_REST)
}

/// Entry point of a worker; the argument is the database's oid.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn plugin_webhooks_worker_main(arg: pg_sys::Datum) {
    set_up_signals();
    let database = pg_sys::Oid::from(arg.value() as u32);
    // SAFETY: first thing after the signals; ends the process when the database is gone.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
    }
    set_up_session();
    if let Some(extension) = take_office() {
        serve(extension);
    }
}

/// A copy leaves its rows as they came.
fn recover_if_active() {
    if instance::is_active() {
        queue::recover(true);
    }
}

fn serve(extension: pg_sys::Oid) {
    let mut failures = 0;
    while let Err(error) = transaction::run(c"recovering", recover_if_active) {
        warn(&error, failures);
        wait(rest(failures));
        failures += 1;
        if failures > 20 {
            return;
        }
    }
    let mut dispatcher = Dispatcher::new(extension);
    let mut last_work = Instant::now();
    let mut blocked = Blocked::default();
    let mut foreign_keys = ForeignKeys::default();
    failures = 0;
    loop {
        let pause = match dispatcher.tick() {
            Ok(Tick::Gone) => return,
            Ok(Tick::Blocked) => {
                blocked.warn_if_long();
                FIRST_REST
            }
            Ok(Tick::Done { worked }) => {
                failures = 0;
                blocked = Blocked::default();
                if worked || dispatcher.in_flight() > 0 {
                    last_work = Instant::now();
                }
                if let Err(error) = dispatcher.sweep() {
                    warn(&error, 0);
                }
                foreign_keys.turn_on();
                dispatcher.pause()
            }
            Err(error) => {
                warn(&error, failures);
                failures += 1;
                rest(failures)
            }
        };
        let idle = last_work.elapsed() >= dispatcher.config().idle_timeout;
        if !preloaded() && idle && may_leave(&mut dispatcher) {
            return;
        }
        let started = Instant::now();
        wait(pause);
        // Commits must not turn a failing queue into a busy loop.
        while failures > 0 && started.elapsed() < pause {
            wait(pause.saturating_sub(started.elapsed()));
        }
        dispatcher.reload();
    }
}

/// A row of looks that a lock on the queue prevented.
#[derive(Default)]
struct Blocked {
    since: Option<Instant>,
    warnings: u32,
}

impl Blocked {
    fn warn_if_long(&mut self) {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        if waited < LONG_BLOCKED * 2_u32.saturating_pow(self.warnings) {
            return;
        }
        self.warnings += 1;
        error::warn(
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            format!(
                "plugin_webhooks: deliveries wait, for {} s another session has locked int.plugin_delivery_queue",
                waited.as_secs()
            ),
            "Find the session in pg_locks and end its transaction.",
        );
    }
}

/// Gives up the office, unless the processor counts on this worker or has just handed something over:
/// nobody would send that before the next call.
fn may_leave(dispatcher: &mut Dispatcher) -> bool {
    if !transaction::run(c"leaving", || take_alone(Lock::HandOver)).unwrap_or(false) {
        return false;
    }
    let more_work = matches!(dispatcher.tick(), Ok(Tick::Done { worked: true }));
    if !more_work {
        give_back(Lock::Office);
    }
    give_back(Lock::HandOver);
    !more_work
}

/// The first failure of a row of failures, and then each doubling, is worth a line.
fn warn(reason: &str, failures: u32) {
    if failures.is_power_of_two() || failures == 0 {
        error::warn(
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            format!("plugin_webhooks: deliveries wait, the queue cannot be worked: {reason}"),
            "The worker tries again by itself.",
        );
    }
}
