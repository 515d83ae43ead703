//! Whether one more row fits under a limit, also when several sessions add one at the same time. Raises nothing.

use pgrx::Uuid;
use pgrx::datum::DatumWithOid;

use crate::{pg, tables};

/// Of the locks, in ASCII "pwhl".
const CLASS: u32 = 0x7077_686c;

/// What has a limited number of rows.
pub enum Of {
    Tenant(Uuid),
    Installation(Uuid),
}

/// Asks `question` when every transaction that may have added a row of the same owner has ended; holds up the
/// next one until this one ends.
pub fn is_full(owner: Of, question: &str, args: &[DatumWithOid<'_>]) -> bool {
    let (kind, id, table) = match owner {
        Of::Tenant(id) => (1, id, tables::INSTALLATIONS),
        Of::Installation(id) => (2, id, tables::SUBSCRIPTIONS),
    };
    pg::lock_until_end(CLASS, kind, *id.as_bytes());
    pg::with_latest_snapshot(|| table.one::<bool>(question, args)) == Some(true)
}
