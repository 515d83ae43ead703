//! What becomes of an error that somebody else's code raises: caught in a subtransaction, or passed on
//! with its own SQLSTATE.
#![expect(
    unsafe_code,
    reason = "subtransactions and the stack of error callbacks"
)]

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

unsafe extern "C-unwind" {
    // Unguarded: called while an error is being reported, where they only touch that report.
    fn errcode(code: i32) -> i32;
    fn geterrcode() -> i32;
}

/// The context callback of `foreign_code`, with the SQLSTATE of the last error it saw.
#[repr(C)]
struct KeptCode {
    callback: pg_sys::ErrorContextCallback,
    seen: i32,
}

/// PostgreSQL calls this when an error is raised: first by the foreign code itself, then again when
/// pgrx raises it anew with XX000 in place of a SQLSTATE it does not know.
///
/// # Safety
/// `kept` is the `KeptCode` of a callback that is on the stack, and an error is being reported.
unsafe extern "C-unwind" fn keep_code(kept: *mut std::ffi::c_void) {
    const INTERNAL_ERROR: i32 = PgSqlErrorCode::ERRCODE_INTERNAL_ERROR as i32;
    // The class of a notice or warning: the first two characters, six bits each.
    let is_error = |code: i32| !matches!(code & 0xfff, 0x000 | 0x040 | 0x080);
    // SAFETY: PostgreSQL passes the `arg` that `foreign_code` set, and calls only while it reports.
    unsafe {
        let kept = kept.cast::<KeptCode>();
        match geterrcode() {
            INTERNAL_ERROR if (*kept).seen != 0 => {
                errcode((*kept).seen);
            }
            code if is_error(code) => (*kept).seen = code,
            _ => {}
        }
    }
}

/// Runs code that somebody else wrote, which may raise SQLSTATEs of its own, such as PostgREST's
/// PT404: they reach the caller as they are. Not to be called inside `Spi::connect` or `caught`.
pub fn foreign_code<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: the callback lives in the memory context of the running function call. When `body`
    // fails it stays on the stack until PostgreSQL's error handling restores that, so that it sees
    // pgrx raise the error anew.
    unsafe {
        let previous = pg_sys::error_context_stack;
        let kept = pg_sys::palloc0(size_of::<KeptCode>()).cast::<KeptCode>();
        (*kept).callback.previous = previous;
        (*kept).callback.callback = Some(keep_code);
        (*kept).callback.arg = kept.cast();
        pg_sys::error_context_stack = &raw mut (*kept).callback;
        let result = body();
        pg_sys::error_context_stack = previous;
        pg_sys::pfree(kept.cast());
        result
    }
}

/// Message of a caught error.
pub fn caught_message(error: CaughtError) -> String {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            report.message().to_string()
        }
        CaughtError::RustPanic { ereport, .. } => ereport.message().to_string(),
    }
}

/// Whether an error is about the transaction and not about what the code in it did: to catch it would be wrong
/// where somebody waits for the transaction.
pub fn ends_transaction(error: &CaughtError) -> bool {
    use PgSqlErrorCode as Code;
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic {
        ereport: report, ..
    }) = error;
    matches!(
        report.sql_error_code(),
        Code::ERRCODE_QUERY_CANCELED
            | Code::ERRCODE_LOCK_NOT_AVAILABLE
            | Code::ERRCODE_T_R_DEADLOCK_DETECTED
            | Code::ERRCODE_T_R_SERIALIZATION_FAILURE
    )
}

/// Runs `body` in a subtransaction: an error rolls it back and is returned.
pub fn caught_error<R>(body: impl FnOnce() -> R) -> std::result::Result<R, CaughtError> {
    // SAFETY: the pattern of PL/pgSQL's exception block; context and resource owner are restored.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let resources = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let recover = |error: CaughtError| {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = resources;
            Err(error)
        };
        let mut body = Some(body);
        PgTryBuilder::new(AssertUnwindSafe(|| {
            let body = body.take().expect("runs once");
            let result = body();
            pg_sys::ReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = resources;
            Ok(result)
        }))
        .catch_others(recover)
        .catch_rust_panic(recover)
        .execute()
    }
}

/// Runs `body` in a subtransaction: an error rolls it back and becomes its message.
pub fn caught<R>(body: impl FnOnce() -> R) -> std::result::Result<R, String> {
    caught_error(body).map_err(caught_message)
}
