//! One step of deleting old rows, as every purge statement tells of it. Knows no table and no schedule.

use std::time::Duration;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use crate::pg;

/// What a step through a table from its oldest row has seen.
#[derive(Clone, Copy, Debug)]
pub struct PurgeStep {
    /// Where to go on, when any row was seen.
    pub last: Option<i64>,
    pub seen: i64,
    /// Nothing further on is old enough.
    pub done: bool,
}

impl PurgeStep {
    /// A step that finds old rows by their age and went past no other.
    pub fn of_deleted(rows: usize) -> Self {
        Self {
            last: None,
            seen: i64::try_from(rows).unwrap_or(i64::MAX),
            done: false,
        }
    }
}

/// Runs one of the purge statements.
pub(super) fn step(
    sql: &'static str,
    types: &[pg_sys::BuiltinOid],
    args: &[DatumWithOid<'_>],
) -> PurgeStep {
    pg::run_kept(sql, types, args, |table| {
        let row = table.first();
        Ok(PurgeStep {
            last: row.get::<i64>(1)?,
            seen: row.get::<i64>(2)?.unwrap_or(0),
            done: row.get::<bool>(3)?.unwrap_or(true),
        })
    })
}

/// A duration as a parameter.
pub(super) fn interval(duration: Duration) -> pgrx::datum::Interval {
    pgrx::datum::Interval::from_seconds(duration.as_secs_f64())
}
