//! Deletes what is older than the settings say: step by step, slowly enough that deliveries do not
//! notice. Knows when, not how: the SQL is in `delivery`.

use std::time::{Duration, Instant};

use crate::delivery::{attempts, queue};
use crate::settings::Retention;

/// Rows looked at in one step, about two milliseconds of work: deliveries wait no longer for it.
const ROWS: i32 = 500;
/// After a step, rest this many times as long as it took: at most 4 % of the time is spent on a table.
const REST_FACTOR: u32 = 24;
/// The same while deliveries keep the worker busy. What is deleted has to be vacuumed as well.
const BUSY_REST_FACTOR: u32 = 199;
/// The rest after a walk has come to rows that are too young.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A walk over one table, from its oldest row to its youngest, again and again.
struct Walker {
    start: i64,
    not_before: Instant,
}

impl Walker {
    fn new(now: Instant) -> Self {
        Self {
            start: i64::MIN,
            not_before: now,
        }
    }

    /// One step, if it is time. `shortest` is the shortest age that ends a row's life.
    fn step(
        &mut self,
        shortest: Option<Duration>,
        rest_factor: u32,
        purge: impl FnOnce(i64) -> queue::Walk,
    ) {
        let now = Instant::now();
        if now < self.not_before {
            return;
        }
        let Some(shortest) = shortest else {
            self.not_before = now + LONGEST_PAUSE;
            return;
        };
        // A step that fails rests as well.
        self.not_before = now + SHORTEST_PAUSE;
        let walk = purge(self.start);
        let took = now.elapsed();
        let at_the_end = walk.done || walk.seen < i64::from(ROWS);
        let rest = if at_the_end {
            self.start = i64::MIN;
            (shortest / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
        } else {
            // A step that saw one value only, such as the deliveries of one change, goes past it.
            let last = walk.last.unwrap_or(self.start);
            self.start = if last == self.start {
                last.saturating_add(1)
            } else {
                last
            };
            Duration::ZERO
        };
        self.not_before = Instant::now() + rest.max(took * rest_factor);
    }
}

/// The walks of one worker.
pub struct Sweeper {
    queue: Walker,
    attempts: Walker,
}

impl Sweeper {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            queue: Walker::new(now),
            attempts: Walker::new(now),
        }
    }

    /// How long until the next step is due.
    pub fn due_in(&self) -> Duration {
        let next = self.queue.not_before.min(self.attempts.not_before);
        next.saturating_duration_since(Instant::now())
    }

    /// The steps that are due; inside a transaction. `busy`: deliveries need the worker's time.
    pub fn sweep(&mut self, retention: &Retention, busy: bool) {
        let rest_factor = if busy { BUSY_REST_FACTOR } else { REST_FACTOR };
        let shortest = retention.delivered.into_iter().chain(retention.dead).min();
        self.queue.step(shortest, rest_factor, |start| {
            queue::purge(start, ROWS, retention.delivered, retention.dead)
        });
        let shortest = retention.attempts.filter(|_| attempts::exist());
        self.attempts.step(shortest, rest_factor, |start| {
            attempts::purge(start, ROWS, shortest.unwrap_or(Duration::MAX))
        });
    }
}
