//! One transaction of the worker, as the owner of the queue from its start until its commit has returned: an
//! error, a panic or a failing commit ends the transaction, never the process. Knows nothing of what it is for.
#![expect(unsafe_code, reason = "begins, commits and aborts transactions")]

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use crate::{instance, pg, tables};

/// Whose rights the transaction has: the queue's owner's. `None` where there is no extension, in which case the
/// worker only looks; in a launcher, which is connected to no database; and in a schema that somebody broke.
fn role() -> Option<pg_sys::Oid> {
    if pg::database() == pg_sys::InvalidOid {
        return None;
    }
    instance::extension()?;
    pg::owner(pg::relation(tables::QUEUE)?)
}

/// Why a transaction failed.
pub enum Failure {
    /// Another session kept a lock for longer than `lock_timeout`.
    Locked,
    Error(String),
}

impl From<CaughtError> for Failure {
    fn from(error: CaughtError) -> Self {
        match &error {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)
                if report.sql_error_code() == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE =>
            {
                Self::Locked
            }
            _ => Self::Error(pg::caught_message(error)),
        }
    }
}

/// Runs `body` in a transaction of its own; `activity` is what pg_stat_activity shows meanwhile.
pub fn run<R>(activity: &std::ffi::CStr, body: impl FnOnce() -> R) -> Result<R, Failure> {
    // SAFETY: called between the worker's transactions, never inside one: none is open here, and none is
    // left open, because all that can raise is inside the block of PgTryBuilder and an error is followed by the
    // abort. `activity` is copied.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, activity.as_ptr());
        let mut body = Some(body);
        let recover = |error: CaughtError| Err(Failure::from(error));
        let result = PgTryBuilder::new(AssertUnwindSafe(|| {
            let body = body.take().expect("runs once");
            pg_sys::StartTransactionCommand();
            let acting = pg::ActingAs::begin(role());
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let result = body();
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            acting.end();
            Ok(result)
        }))
        .catch_others(recover)
        .catch_rust_panic(recover)
        .execute();
        if result.is_err() {
            pg_sys::AbortOutOfAnyTransaction();
        }
        pg_sys::MemoryContextSwitchTo(context);
        // Otherwise autovacuum would never learn what the worker wrote.
        pg_sys::pgstat_report_stat(false);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, activity.as_ptr());
        result
    }
}
