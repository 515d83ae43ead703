//! What the settings say.

use std::time::Duration;

/// The window of an installation that nothing is known of: a receiver that never answers holds no
/// more threads than this before it is found out.
pub(super) const FIRST_WINDOW: usize = 4;

/// How many requests may be in flight, and how long a receiver in trouble is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The largest window of an installation.
    pub window: usize,
    /// The longest time between two probes.
    pub longest_backoff: Duration,
    /// Requests in flight that are not slow.
    pub in_flight: usize,
    /// Slow ones beyond them.
    pub slow_in_flight: usize,
    /// Bytes of the bodies in flight that are neither small nor alone.
    pub body_bytes: usize,
}

impl Bounds {
    pub(super) fn first_window(self) -> usize {
        FIRST_WINDOW.min(self.window)
    }

    /// How many requests that are slow, or may turn out to be, are worth their time in one look at the queue:
    /// whoever comes next waits for that look. It is enough to keep all slow threads busy with answers that take
    /// longer than [`SLOW_AFTER`](super::SLOW_AFTER) when there are 130 looks a second.
    pub fn at_once(self) -> usize {
        (self.slow_in_flight / 32).max(8)
    }

    /// All requests in flight.
    pub fn all_in_flight(self) -> usize {
        self.in_flight + self.slow_in_flight
    }

    /// Requests that are known to be slow before they start. With few slow threads of their own they may have
    /// half of the others, or they would never start.
    pub(super) fn known_slow(self) -> usize {
        self.slow_in_flight.max(self.in_flight.div_ceil(2))
    }
}
