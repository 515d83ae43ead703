//! Sessions that change rows of one owner take turns; whether one more row fits under a limit. Raises nothing.

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

/// Waits until every transaction that took its turn for the same owner has ended; holds up the next one until this
/// one ends.
pub fn take_turn(owner: &Of) {
    let (kind, id) = match owner {
        Of::Tenant(id) => (1, id),
        Of::Installation(id) => (2, id),
    };
    pg::lock_until_end(CLASS, kind, *id.as_bytes());
}

/// Asks `question` when every transaction that may have added a row of the same owner has ended; holds up the
/// next one until this one ends.
pub fn is_full(owner: Of, question: &str, args: &[DatumWithOid<'_>]) -> bool {
    take_turn(&owner);
    let table = match owner {
        Of::Tenant(_) => tables::INSTALLATIONS,
        Of::Installation(_) => tables::SUBSCRIPTIONS,
    };
    pg::with_latest_snapshot(|| table.one::<bool>(question, args)) == Some(true)
}
