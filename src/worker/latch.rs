//! How a background worker waits: for its latch or a timeout, noticing shutdown and changed settings
//! meanwhile. Knows nothing of what the worker does.
#![expect(unsafe_code, reason = "signal handlers, and the latch of the process")]

use std::time::Duration;

use pgrx::pg_sys;

use crate::pg::version;

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

/// SIGTERM ends the process wherever it is, even while it waits for a lock; SIGHUP reloads. The first
/// thing in a background worker's main function.
pub fn set_up_signals() {
    // SAFETY: the handlers are PostgreSQL's own, made for a process that has a latch, as each background
    // worker has before its main function is called.
    unsafe {
        version::handle_signal(pg_sys::SIGHUP, SignalHandlerForConfigReload);
        version::handle_signal(pg_sys::SIGTERM, die);
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Waits for the latch. Also where a worker notices shutdown and reloads its settings.
pub fn wait(timeout: Duration) -> Woken {
    let milliseconds = i64::try_from(timeout.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    // SAFETY: MyLatch is the process's own; the postmaster's death ends the process.
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
    // SAFETY: a flag that the signal handler only sets; outside a transaction, as PostgreSQL wants it for
    // reading the configuration.
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
