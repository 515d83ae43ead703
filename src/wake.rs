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
    pg::at_transaction_end(wake);
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

/// A latch that is set without need costs one look; finding exactly ours would cost a catalog or
/// shared memory.
fn wake(end: pg::TransactionEnd) {
    let wanted = AT_COMMIT.replace(Wake::Nobody);
    if end != pg::TransactionEnd::Committed {
        return;
    }
    match wanted {
        Wake::Nobody => {}
        Wake::Workers => pg::set_latches_of_workers(pg::database()),
        Wake::Launcher => pg::set_latches_of_workers(pg_sys::InvalidOid),
    }
}
