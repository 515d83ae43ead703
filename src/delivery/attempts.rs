//! What attempts were like: the only SQL on `int.plugin_delivery_attempts`. Knows no queue.

use std::time::Duration;

use pgrx::{Uuid, pg_sys};
use plugin_webhooks_core::failure::FailureKind;

use super::purge::{self, PurgeStep, interval};
use crate::pg;
use crate::tables;

const RECORD: &str = include_str!("sql/record_attempts.sql");
const PURGE: &str = include_str!("sql/purge_attempts.sql");

/// What one attempt was like.
pub struct AttemptRecord {
    pub delivery: Uuid,
    pub tenant: Uuid,
    pub installation: Uuid,
    /// From 1.
    pub number: u32,
    /// From its start to now.
    pub age: Duration,
    pub duration: Duration,
    pub status: Option<u16>,
    /// `None`: delivered.
    pub error: Option<FailureKind>,
    /// At most 1 KiB.
    pub response: Option<String>,
}

/// Whether there is a table of them: not yet, while a new library runs on the schema of an older version.
pub fn exist() -> bool {
    pg::relation(tables::ATTEMPTS).is_some()
}

fn as_owner<R>(body: impl FnOnce() -> R) -> R {
    pg::as_owner_of(tables::ATTEMPTS, body)
}

/// Writes a batch of attempts.
pub fn record(attempts: &[AttemptRecord]) {
    use pg_sys::BuiltinOid as T;
    let types = [
        T::UUIDARRAYOID,
        T::UUIDARRAYOID,
        T::UUIDARRAYOID,
        T::INT4ARRAYOID,
        T::FLOAT8ARRAYOID,
        T::INT4ARRAYOID,
        T::INT4ARRAYOID,
        T::TEXTARRAYOID,
        T::TEXTARRAYOID,
    ];
    let uuids = |f: fn(&AttemptRecord) -> Uuid| attempts.iter().map(f).collect::<Vec<_>>();
    let numbers = |f: fn(&AttemptRecord) -> Option<i32>| attempts.iter().map(f).collect::<Vec<_>>();
    let texts =
        |f: fn(&AttemptRecord) -> Option<String>| attempts.iter().map(f).collect::<Vec<_>>();
    let args = [
        uuids(|a| a.delivery).into(),
        uuids(|a| a.tenant).into(),
        uuids(|a| a.installation).into(),
        numbers(|a| Some(i32::try_from(a.number).unwrap_or(i32::MAX))).into(),
        attempts
            .iter()
            .map(|a| a.age.as_secs_f64())
            .collect::<Vec<_>>()
            .into(),
        numbers(|a| Some(i32::try_from(a.duration.as_millis()).unwrap_or(i32::MAX))).into(),
        numbers(|a| a.status.map(i32::from)).into(),
        texts(|a| a.error.map(|kind| kind.as_str().to_owned())).into(),
        texts(|a| a.response.clone()).into(),
    ];
    as_owner(|| pg::run_kept(RECORD, &types, &args, |_| Ok(())));
}

/// Deletes attempts older than `age` among the next `rows` from `start` on.
pub fn purge(start: i64, rows: i32, age: Duration) -> PurgeStep {
    use pg_sys::BuiltinOid as T;
    let types = [T::INT8OID, T::INT4OID, T::INTERVALOID];
    let args = [start.into(), rows.into(), interval(age).into()];
    as_owner(|| purge::step(PURGE, &types, &args))
}
