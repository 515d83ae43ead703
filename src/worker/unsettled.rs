//! Outcomes that have arrived and are not committed yet, with the records of their attempts. Writes many
//! at a time, and leaves out rows that somebody else has locked.

use crate::delivery::attempts::{self, AttemptRecord};
use crate::delivery::queue::{self, UnsettledOutcome};

#[derive(Default)]
pub struct Unsettled {
    outcomes: Vec<UnsettledOutcome>,
    records: Vec<AttemptRecord>,
    /// Somebody holds locks on rows of these outcomes: write the others.
    around_locks: bool,
}

impl Unsettled {
    pub fn push(&mut self, (outcome, record): (UnsettledOutcome, AttemptRecord)) {
        self.outcomes.push(outcome);
        self.records.push(record);
    }

    /// Writes what it can; returns how many outcomes that was. They are kept until `committed`.
    pub fn write(&mut self) -> usize {
        let mut count = self.outcomes.len();
        if self.around_locks {
            let locked = queue::locked(&self.outcomes);
            self.outcomes
                .sort_by_key(|outcome| locked.contains(&outcome.id));
            count -= locked.len();
        }
        write(&self.outcomes[..count], &self.records);
        count
    }

    /// The transaction that wrote this many has committed.
    pub fn committed(&mut self, count: usize) {
        self.outcomes.drain(..count);
        self.records.clear();
        self.around_locks = !self.outcomes.is_empty();
    }

    /// The transaction that wrote some has failed: a row that somebody has locked would fail every batch
    /// it is in.
    pub fn failed(&mut self) {
        self.around_locks = !self.outcomes.is_empty();
    }
}

/// Writes outcomes, and records of attempts where the schema has a table for them.
pub fn write(outcomes: &[UnsettledOutcome], records: &[AttemptRecord]) {
    if !outcomes.is_empty() {
        queue::settle(outcomes);
    }
    if !records.is_empty() && attempts::exist() {
        attempts::record(records);
    }
}
