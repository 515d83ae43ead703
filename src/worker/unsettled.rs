//! Settlements that are not committed yet, with the records of their attempts. Writes many at a time, and
//! leaves out rows that somebody else has locked.

use plugin_webhooks_core::retry::Schedule;

use crate::delivery::attempts::{self, AttemptRecord};
use crate::delivery::queue::{self, Settlement};

use super::outcome;
use super::prepare::Unsendable;

#[derive(Default)]
pub struct Unsettled {
    settlements: Vec<Settlement>,
    records: Vec<AttemptRecord>,
    /// Somebody holds locks on rows of these settlements: write the others.
    around_locks: bool,
}

impl Unsettled {
    pub fn push(&mut self, (settlement, record): (Settlement, AttemptRecord)) {
        self.settlements.push(settlement);
        self.records.push(record);
    }

    /// Writes what it can; returns how many settlements that was. They are kept until `committed`.
    pub fn write(&mut self) -> usize {
        let mut count = self.settlements.len();
        if self.around_locks {
            let locked = queue::locked(&self.settlements);
            self.settlements
                .sort_by_key(|settlement| locked.contains(&settlement.id));
            count -= locked.len();
        }
        write(&self.settlements[..count], &self.records);
        count
    }

    /// The transaction that wrote this many has committed.
    pub fn committed(&mut self, count: usize) {
        self.settlements.drain(..count);
        self.records.clear();
        self.around_locks = !self.settlements.is_empty();
    }

    /// The transaction that wrote some has failed: a row that somebody has locked would fail every batch
    /// it is in.
    pub fn failed(&mut self) {
        self.around_locks = !self.settlements.is_empty();
    }
}

/// Writes settlements, and records of attempts where the schema has a table for them.
pub fn write(settlements: &[Settlement], records: &[AttemptRecord]) {
    if !settlements.is_empty() {
        queue::settle(settlements);
    }
    if !records.is_empty() && attempts::exist() {
        attempts::record(records);
    }
}

/// Settles claimed deliveries that cannot be sent.
pub fn write_unsendable(unsendable: &[Unsendable], schedule: &Schedule) {
    let (settlements, records): (Vec<_>, Vec<_>) = unsendable
        .iter()
        .map(|delivery| outcome::of_unsendable(delivery, schedule))
        .unzip();
    write(&settlements, &records);
}
