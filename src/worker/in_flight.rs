//! The attempts in flight: what the worker remembers of each until its outcome arrives, how many there
//! are, how many of them are slow, how large they are. All of it can be lost: the queue has the rest.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::Uuid;
use plugin_webhooks_core::retry::Schedule;

/// A request that is out longer than this waits for its receiver and not for us: it counts against
/// max_slow_in_flight instead of max_in_flight.
const SLOW_AFTER: Duration = Duration::from_secs(1);

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
    pub started: Instant,
}

impl Attempt {
    fn is_slow(&self, now: Instant) -> bool {
        now.duration_since(self.started) >= SLOW_AFTER
    }
}

/// All attempts in flight, each under a tag that the sender's threads pass on.
#[derive(Default)]
pub struct InFlight {
    by_tag: HashMap<u64, Attempt>,
    last_tag: u64,
    body_bytes: usize,
}

impl InFlight {
    /// Returns the tag.
    pub fn insert(&mut self, attempt: Attempt) -> u64 {
        self.last_tag += 1;
        self.body_bytes += attempt.body_bytes;
        self.by_tag.insert(self.last_tag, attempt);
        self.last_tag
    }

    pub fn remove(&mut self, tag: u64) -> Option<Attempt> {
        let attempt = self.by_tag.remove(&tag)?;
        self.body_bytes -= attempt.body_bytes;
        Some(attempt)
    }

    pub fn len(&self) -> usize {
        self.by_tag.len()
    }

    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// How many are not slow.
    pub fn not_slow(&self, now: Instant) -> usize {
        self.by_tag
            .values()
            .filter(|attempt| !attempt.is_slow(now))
            .count()
    }

    /// How long until the next one becomes slow.
    pub fn next_slow_in(&self, now: Instant) -> Option<Duration> {
        self.by_tag
            .values()
            .filter(|attempt| !attempt.is_slow(now))
            .map(|attempt| SLOW_AFTER - now.duration_since(attempt.started))
            .min()
    }
}
