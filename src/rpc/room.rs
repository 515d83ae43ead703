//! Sessions that change rows of one owner take turns; one more row has to fit under a limit.

use pgrx::Uuid;
use pgrx::datum::DatumWithOid;

use crate::error::{Error, Result};
use crate::{pg, settings, tables};

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

/// Waits until every transaction that may have added a row of the same owner has ended, and raises when there is no
/// room for one more. `question`, whose last parameter is the limit, asks whether there is none.
pub fn check(owner: Of, question: &str, mut args: Vec<DatumWithOid<'_>>) -> Result<()> {
    take_turn(&owner);
    let (table, most, owner, rows, setting) = match owner {
        Of::Tenant(_) => (
            tables::INSTALLATIONS,
            settings::max_installations(),
            "tenant",
            "installations",
            "max_installations",
        ),
        Of::Installation(_) => (
            tables::SUBSCRIPTIONS,
            settings::max_subscriptions(),
            "installation",
            "subscriptions",
            "max_subscriptions",
        ),
    };
    args.push(most.into());
    if pg::with_latest_snapshot(|| table.one::<bool>(question, &args)) == Some(true) {
        return Err(Error::Full {
            owner,
            rows,
            most,
            setting,
        }
        .into());
    }
    Ok(())
}
