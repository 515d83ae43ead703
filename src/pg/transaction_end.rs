//! Tells the rest of the library how a transaction of this process ended.
#![expect(unsafe_code, reason = "registers a callback")]

use std::cell::Cell;

use pgrx::prelude::*;

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    Committed,
    Aborted,
    /// PREPARE TRANSACTION: another session ends it.
    Prepared,
}

thread_local! {
    static TELL: Cell<Option<fn(TransactionEnd)>> = const { Cell::new(None) };
}

/// From now on `tell` is called at the end of every transaction. It may not raise and may not look into
/// a catalog: by then PostgreSQL cannot take the transaction's end back. Once a process.
pub fn at_transaction_end(tell: fn(TransactionEnd)) {
    if TELL.replace(Some(tell)).is_none() {
        // SAFETY: the callback is a function of this library, which is never unloaded, and takes no
        // argument.
        unsafe { pg_sys::RegisterXactCallback(Some(ended), std::ptr::null_mut()) };
    }
}

#[pg_guard]
extern "C-unwind" fn ended(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    use pg_sys::XactEvent as Event;
    let end = match event {
        Event::XACT_EVENT_COMMIT => TransactionEnd::Committed,
        Event::XACT_EVENT_ABORT => TransactionEnd::Aborted,
        Event::XACT_EVENT_PREPARE => TransactionEnd::Prepared,
        _ => return,
    };
    if let Some(tell) = TELL.get() {
        tell(end);
    }
}
