//! The life of one database's worker: become the only one, look at the queue, wait for the latch, leave
//! when there is nothing to serve. Blocks nowhere but in WaitLatch, and decides nothing about deliveries.
#![expect(unsafe_code, reason = "an entry point by name")]

use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::connection::connect;
use super::dispatcher::{Dispatcher, Tick};
use super::foreign_keys_schedule::ForeignKeysSchedule;
use super::latch::{Woken, set_up_signals, wait};
use super::lock::{self, Lock};
use super::registration::preloaded;
use super::transaction::{self, Failure};
use crate::delivery::queue;
use crate::{error, instance, pg};

/// How long the worker waits after a tick that failed (DDL on the queue, an error): the first time,
/// and at most.
const FIRST_TIMEOUT: Duration = Duration::from_millis(100);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How often outcomes of slow requests are looked for.
const SLOW_OUTCOMES_EVERY: Duration = Duration::from_millis(25);
/// DDL that keeps the worker out for longer is worth a line in the server log, and again after each
/// doubling.
const LONG_BLOCKED: Duration = Duration::from_secs(5);

/// Becomes the worker of this database and returns the oid of the extension; `None` when there is nothing to
/// serve, or another one serves.
fn acquire_singleton() -> Option<pg_sys::Oid> {
    // Whoever looks whether a worker runs holds the lock for a moment.
    for _ in 0..10 {
        let (extension, alone) = transaction::run(c"starting", || {
            pg::remember_served_database();
            let extension = instance::extension();
            (
                extension,
                extension.is_some() && lock::try_acquire(Lock::Singleton),
            )
        })
        .ok()?;
        if alone || extension.is_none() {
            return extension;
        }
        wait(Duration::from_millis(50));
    }
    None
}

fn timeout_after(failures: u32) -> Duration {
    (FIRST_TIMEOUT * 2_u32.saturating_pow(failures.min(10))).min(LONGEST_TIMEOUT)
}

/// Entry point of a worker; the argument is the database's oid.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn plugin_webhooks_worker_main(arg: pg_sys::Datum) {
    set_up_signals();
    connect(pg_sys::Oid::from(arg.value() as u32));
    if let Some(extension) = acquire_singleton() {
        serve(extension);
    }
}

/// Returns claimed rows to the queue. A copy leaves its rows as they came.
fn recover_if_active(extension: pg_sys::Oid) {
    if instance::hold() && instance::extension() == Some(extension) && instance::is_active() {
        queue::recover(true);
    }
}

fn serve(extension: pg_sys::Oid) {
    let mut failures = 0;
    while let Err(failure) = transaction::run(c"recovering", || recover_if_active(extension)) {
        if let Failure::Error(reason) = failure {
            warn(&reason, failures);
        }
        wait(timeout_after(failures));
        failures += 1;
        if failures > 20 {
            return;
        }
    }
    let mut dispatcher = Dispatcher::new(extension);
    let mut last_work = Instant::now();
    let mut blocked = Blocked::default();
    let mut foreign_keys = ForeignKeysSchedule::default();
    failures = 0;
    loop {
        let timeout = match dispatcher.tick() {
            Ok(Tick::Gone) => return,
            Ok(Tick::Blocked) => {
                blocked.warn_if_long("int.plugin_delivery_queue");
                FIRST_TIMEOUT
            }
            Err(Failure::Locked) => {
                blocked.warn_if_long("a table or row that they need");
                FIRST_TIMEOUT
            }
            Ok(Tick::Done { worked }) => {
                failures = 0;
                blocked = Blocked::default();
                if worked || dispatcher.in_flight() > 0 {
                    last_work = Instant::now();
                }
                if let Err(Failure::Error(reason)) = dispatcher.purge() {
                    warn(&reason, 0);
                }
                foreign_keys.turn_on();
                dispatcher.timeout()
            }
            Err(Failure::Error(reason)) => {
                warn(&reason, failures);
                failures += 1;
                timeout_after(failures)
            }
        };
        let idle = last_work.elapsed() >= dispatcher.settings().idle_timeout;
        if !preloaded() && idle && may_leave(&mut dispatcher) {
            return;
        }
        let started = Instant::now();
        wait_for_work(&dispatcher, timeout);
        // Commits must not turn a failing queue into a busy loop.
        while failures > 0 && started.elapsed() < timeout {
            wait(timeout.saturating_sub(started.elapsed()));
        }
        dispatcher.reload();
    }
}

/// Waits for the latch, the timeout, or outcomes of slow requests. Those do not set the latch: a look at the queue
/// for each of them would cost more than it brings, and keep commits waiting.
fn wait_for_work(dispatcher: &Dispatcher, timeout: Duration) {
    let started = Instant::now();
    loop {
        let left = timeout.saturating_sub(started.elapsed());
        let nap = if dispatcher.in_flight() > 0 {
            left.min(SLOW_OUTCOMES_EVERY)
        } else {
            left
        };
        let woken = wait(nap);
        if woken == Woken::Latch || started.elapsed() >= timeout || dispatcher.has_outcomes() {
            return;
        }
    }
}

/// Ticks in a row that another session's lock prevented.
#[derive(Default)]
struct Blocked {
    since: Option<Instant>,
    warnings: u32,
}

impl Blocked {
    fn warn_if_long(&mut self, what: &str) {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        if waited < LONG_BLOCKED * 2_u32.saturating_pow(self.warnings) {
            return;
        }
        self.warnings += 1;
        error::warn(
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            format!(
                "plugin_webhooks: deliveries wait, for {} s another session has locked {what}",
                waited.as_secs()
            ),
            "Find the session in pg_locks and end its transaction.",
        );
    }
}

/// Releases the singleton lock, unless the processor counts on this worker or has just requested a
/// dispatch: nobody would send that before the next call.
fn may_leave(dispatcher: &mut Dispatcher) -> bool {
    if !transaction::run(c"leaving", || lock::try_acquire(Lock::KeepAlive)).unwrap_or(false) {
        return false;
    }
    let more_work = matches!(dispatcher.tick(), Ok(Tick::Done { worked: true }));
    if !more_work {
        lock::release(Lock::Singleton);
    }
    lock::release(Lock::KeepAlive);
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
