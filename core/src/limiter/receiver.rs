//! Owns what is known of one installation's receiver: a window of requests in flight that grows with prompt
//! answers and shrinks with failures, a backoff while it is in trouble, and how long it keeps a thread.

use std::time::{Duration, Instant};

use super::bounds::Bounds;

/// After this many failures without an answer the receiver is probed: one request, then a backoff.
const TROUBLED_AFTER: u32 = 3;
/// The backoff after that; it doubles with each further failure, up to [`Bounds::longest_backoff`].
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// A request that is out for this long waits for its receiver and not for us.
pub const SLOW_AFTER: Duration = Duration::from_millis(250);
/// An answer widens the window if it came within this time. More requests at once to one that takes longer
/// hold more threads and deliver little more.
const WIDENS_WITHIN: Duration = Duration::from_secs(1);
/// Longer ones count as this in the average, so that a receiver that has become prompt is soon known as such.
const LONGEST_COUNTED: Duration = Duration::from_secs(1);
/// The part of the average that the last request makes, as a divisor.
const LAST: u32 = 4;

/// What an attempt says of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered, whatever it said about this delivery.
    Answers,
    /// It did not answer, or with a server error.
    Fails,
    /// It asked for fewer requests (429, 503), perhaps for how long.
    Overloaded(Option<Duration>),
}

/// The receiver of one installation.
#[derive(Debug)]
pub(super) struct Receiver<K> {
    /// Whose it is.
    pub tenant: K,
    in_flight: usize,
    window: usize,
    failures: u32,
    /// In trouble: nothing is sent before this.
    backoff_until: Option<Instant>,
    /// How long recent requests kept a thread.
    average: Duration,
    /// Whether a request came back.
    known: bool,
    /// The number of the last request, of all requests.
    last: u64,
    last_seen: Instant,
    /// The size of its next body, if that did not fit.
    pub left_over: Option<usize>,
}

impl<K> Receiver<K> {
    pub fn new(tenant: K, now: Instant, bounds: Bounds) -> Self {
        Self {
            tenant,
            in_flight: 0,
            window: bounds.first_window(),
            failures: 0,
            backoff_until: None,
            average: Duration::ZERO,
            known: false,
            last: 0,
            last_seen: now,
            left_over: None,
        }
    }

    /// The request with this number went out.
    pub fn started(&mut self, number: u64, now: Instant) {
        self.in_flight += 1;
        self.last = number;
        self.last_seen = now;
    }

    /// A request came back, or failed, after this time.
    pub fn finished(&mut self, verdict: Verdict, took: Duration, now: Instant, bounds: Bounds) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.last_seen = now;
        self.known = true;
        if took >= SLOW_AFTER {
            self.keeps_waiting();
        }
        self.average = (self.average * (LAST - 1) + took.min(LONGEST_COUNTED)) / LAST;
        match verdict {
            Verdict::Answers => {
                if self.failures >= TROUBLED_AFTER {
                    self.window = bounds.first_window();
                } else if took < WIDENS_WITHIN {
                    self.window = (self.window + 1).min(bounds.window);
                }
                self.failures = 0;
                self.backoff_until = None;
            }
            Verdict::Fails => {
                self.failures = self.failures.saturating_add(1);
                self.window = (self.window / 2).max(1);
                if self.failures >= TROUBLED_AFTER {
                    self.window = 1;
                    self.back_off(now, self.growing_backoff(bounds));
                }
            }
            Verdict::Overloaded(wish) => {
                self.failures = self.failures.max(TROUBLED_AFTER - 1) + 1;
                self.window = 1;
                let backoff = self.growing_backoff(bounds);
                self.back_off(now, wish.map_or(backoff, |wish| wish.max(backoff)));
            }
        }
    }

    /// One of its requests is out for longer than [`SLOW_AFTER`].
    pub fn keeps_waiting(&mut self) {
        self.average = self.average.max(SLOW_AFTER);
    }

    /// Whether its next request is expected to be slow.
    pub fn is_slow(&self) -> bool {
        self.average >= SLOW_AFTER
    }

    /// Whether its next request is expected to be prompt for a reason.
    pub fn is_known_as_prompt(&self) -> bool {
        self.known && !self.is_slow()
    }

    /// How many more requests it may have in flight now.
    pub fn permits(&self, now: Instant) -> usize {
        if self.is_in_backoff(now) {
            0
        } else {
            self.window.saturating_sub(self.in_flight)
        }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The number of its last request.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether there is nothing to know of it now but how it was when it had requests in flight.
    pub fn is_idle_and_well(&self) -> bool {
        self.in_flight == 0 && self.failures == 0
    }

    /// When its backoff ends.
    pub fn probe_at(&self, now: Instant) -> Option<Instant> {
        self.backoff_until.filter(|until| now < *until)
    }

    /// Whether nothing has happened for so long that it may start afresh.
    pub fn is_forgotten(&self, now: Instant, after: Duration) -> bool {
        let last = self.backoff_until.max(Some(self.last_seen));
        self.in_flight == 0 && last.is_none_or(|last| now >= last + after)
    }

    fn is_in_backoff(&self, now: Instant) -> bool {
        self.probe_at(now).is_some()
    }

    fn growing_backoff(&self, bounds: Bounds) -> Duration {
        let doublings = self.failures.saturating_sub(TROUBLED_AFTER).min(16);
        (FIRST_BACKOFF * 2_u32.pow(doublings)).min(bounds.longest_backoff)
    }

    /// A backoff never ends earlier than one that was promised before.
    fn back_off(&mut self, now: Instant, length: Duration) {
        self.backoff_until = self.backoff_until.max(Some(now + length));
    }
}
