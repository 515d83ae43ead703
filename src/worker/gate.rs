//! The gate before every claim: a worker sends only from the active instance. Where a restored
//! database has become that, the worker has its foreign keys checked again.

use std::time::{Duration, Instant};

use super::transaction;
use crate::instance;
use crate::lifecycle::foreign_keys;

/// How long a database that is a copy, or whose tables are in use, is left alone.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Remembers what it has said, so that a paused database does not fill the server log.
#[derive(Default)]
pub struct Gate {
    said: Option<String>,
}

impl Gate {
    /// Whether this database may send now. Call it in the transaction that claims.
    pub fn is_open(&mut self) -> bool {
        if instance::is_active() {
            self.said = None;
            return true;
        }
        let reason = instance::paused_because();
        if let Some(reason) = reason
            .as_deref()
            .filter(|reason| self.said.as_deref() != Some(*reason))
        {
            instance::warn_paused(reason);
        }
        self.said = reason;
        false
    }
}

/// Turns the foreign keys on that a restore needed off; once in a worker's life.
#[derive(Default)]
pub struct ForeignKeys {
    on: bool,
    looked_at: Option<Instant>,
}

impl ForeignKeys {
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
