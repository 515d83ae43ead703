//! Wakes background workers when a transaction commits: remembers who is to be woken, and sets their
//! latches in a commit callback. Knows no queue, starts no process.

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    Nobody,
    Workers,
    Launcher,
}

thread_local! {
    static AT_COMMIT: Cell<Wake> = const { Cell::new(Wake::Nobody) };
}

/// Part of `_PG_init`.
pub fn init() {
    // SAFETY: the callback is a function of this library, which PostgreSQL never unloads, and takes no argument.
    unsafe { pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut()) };
}

/// When this transaction commits, the worker of this database looks at the queue.
pub fn wake_at_commit() {
    AT_COMMIT.set(Wake::Workers);
}

/// At commit, the launcher looks for databases to serve.
#[pg_extern(sql = false)]
fn wake_launcher() {
    AT_COMMIT.set(Wake::Launcher);
}

/// Registered in `init`; PostgreSQL calls it, and only it does.
#[pg_guard]
unsafe extern "C-unwind" fn at_transaction_end(
    event: pg_sys::XactEvent::Type,
    _arg: *mut std::ffi::c_void,
) {
    use pg_sys::XactEvent as Event;
    match event {
        Event::XACT_EVENT_COMMIT => match AT_COMMIT.replace(Wake::Nobody) {
            Wake::Nobody => {}
            Wake::Workers => set_latches(pg::database()),
            Wake::Launcher => set_latches(pg_sys::InvalidOid),
        },
        Event::XACT_EVENT_ABORT | Event::XACT_EVENT_PREPARE => AT_COMMIT.set(Wake::Nobody),
        _ => {}
    }
}

/// Sets the latch of every background worker that is connected to this database (`InvalidOid`: to
/// none, like the launcher). A latch that is set without need costs one look; finding exactly ours
/// would cost a catalogue or shared memory, and a commit callback may not raise.
fn set_latches(database: pg_sys::Oid) {
    // SAFETY: the array of PGPROCs lives as long as shared memory and never moves. A slot may change
    // hands while it is read; its latch stays a latch, and setting it is harmless to any owner.
    unsafe {
        let processes = pg_sys::ProcGlobal;
        for index in 0..(*processes).allProcCount as usize {
            let process = (*processes).allProcs.add(index);
            if (*process).pid != 0
                && pg::version::is_background_worker(process)
                && (*process).databaseId == database
            {
                pg_sys::SetLatch(&mut (*process).procLatch);
            }
        }
    }
}
