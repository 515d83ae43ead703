//! When the worker turns foreign keys on: as soon as a restored database has become the active instance.
//! How is in `lifecycle`.

use std::time::{Duration, Instant};

use super::transaction;
use crate::lifecycle::foreign_keys;

/// How long a database that is a copy, or whose tables are in use, is left alone.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Turns the foreign keys on that a restore needed off; once in a worker's life.
#[derive(Default)]
pub struct ForeignKeysSchedule {
    on: bool,
    looked_at: Option<Instant>,
}

impl ForeignKeysSchedule {
    /// One try, if it is time; outside a transaction.
    pub fn turn_on(&mut self) {
        if self.on || self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked_at = Some(Instant::now());
        // A writer may hold the tables: another time.
        self.on =
            transaction::run(c"checking foreign keys", foreign_keys::turn_on).unwrap_or(false);
    }
}
