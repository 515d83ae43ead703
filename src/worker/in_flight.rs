//! The attempts in flight: what the worker remembers of each until its outcome arrives. All of it can be
//! lost: the queue has the rest.

use std::collections::HashMap;

use pgrx::Uuid;
use plugin_webhooks_core::retry::Schedule;

/// An attempt of a claimed delivery.
pub struct Attempt {
    pub delivery: Uuid,
    pub tenant: Uuid,
    pub installation: Uuid,
    pub claim_id: i64,
    /// Failed attempts before this one.
    pub failures: u32,
    pub body_bytes: usize,
    /// The installation's own.
    pub schedule: Option<Schedule>,
}

/// All attempts in flight, each under a tag that the sender's threads pass on.
#[derive(Default)]
pub struct InFlight {
    by_tag: HashMap<u64, Attempt>,
    last_tag: u64,
}

impl InFlight {
    /// Returns the tag.
    pub fn insert(&mut self, attempt: Attempt) -> u64 {
        self.last_tag += 1;
        self.by_tag.insert(self.last_tag, attempt);
        self.last_tag
    }

    pub fn remove(&mut self, tag: u64) -> Option<Attempt> {
        self.by_tag.remove(&tag)
    }

    pub fn len(&self) -> usize {
        self.by_tag.len()
    }
}
