//! When old rows are deleted: step by step, slowly enough that deliveries do not notice. Knows when, not
//! how: the SQL is with the tables.

use std::time::{Duration, Instant};

use crate::caller::rate_limit;
use crate::delivery::purge::PurgeStep;
use crate::delivery::{attempts, queue};
use crate::inbound_ids;
use crate::settings::Retention;

/// Rows looked at in one step, about two milliseconds of work: deliveries wait no longer for it.
const ROWS: i32 = 500;
/// The wait after a step, in times of how long it took: at most 4 % of the time is spent on a table.
const WAIT_FACTOR: u32 = 24;
/// The same while deliveries keep the worker busy. What is deleted has to be vacuumed as well.
const BUSY_WAIT_FACTOR: u32 = 199;
/// The wait after a step that has come to rows that are too young.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The least time that passes before counters are looked at again.
const RATE_LIMITS: Duration = Duration::from_secs(600);

/// Where the purge of one table stands: it goes from the oldest row to the youngest, again and again.
struct PurgeCursor {
    start: i64,
    not_before: Instant,
}

impl PurgeCursor {
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
        wait_factor: u32,
        purge: impl FnOnce(i64) -> PurgeStep,
    ) {
        let now = Instant::now();
        if now < self.not_before {
            return;
        }
        let Some(shortest) = shortest else {
            self.not_before = now + LONGEST_WAIT;
            return;
        };
        // After a step that fails, too.
        self.not_before = now + SHORTEST_WAIT;
        let step = purge(self.start);
        let took = now.elapsed();
        let at_the_end = step.done || step.seen < i64::from(ROWS);
        let wait = if at_the_end {
            self.start = i64::MIN;
            (shortest / 10).clamp(SHORTEST_WAIT, LONGEST_WAIT)
        } else {
            // A step that saw one value only, such as the deliveries of one change, goes past it.
            let last = step.last.unwrap_or(self.start);
            self.start = if last == self.start {
                last.saturating_add(1)
            } else {
                last
            };
            Duration::ZERO
        };
        self.not_before = Instant::now() + wait.max(took * wait_factor);
    }
}

/// The purge of all tables, by one worker.
pub struct PurgeSchedule {
    queue: PurgeCursor,
    attempts: PurgeCursor,
    inbound_ids: PurgeCursor,
    rate_limits: PurgeCursor,
}

impl PurgeSchedule {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            queue: PurgeCursor::new(now),
            attempts: PurgeCursor::new(now),
            inbound_ids: PurgeCursor::new(now),
            rate_limits: PurgeCursor::new(now),
        }
    }

    /// How long until the next step is due.
    pub fn due_in(&self) -> Duration {
        let next = [
            &self.queue,
            &self.attempts,
            &self.inbound_ids,
            &self.rate_limits,
        ]
        .into_iter()
        .map(|cursor| cursor.not_before)
        .fold(self.queue.not_before, Instant::min);
        next.saturating_duration_since(Instant::now())
    }

    /// The steps that are due; inside a transaction. `busy`: deliveries need the worker's time.
    pub fn step(&mut self, retention: &Retention, busy: bool) {
        let wait_factor = if busy { BUSY_WAIT_FACTOR } else { WAIT_FACTOR };
        let shortest = retention.delivered.into_iter().chain(retention.dead).min();
        self.queue.step(shortest, wait_factor, |start| {
            queue::purge(start, ROWS, retention.delivered, retention.dead)
        });
        let shortest = retention.attempts.filter(|_| attempts::exist());
        self.attempts.step(shortest, wait_factor, |start| {
            attempts::purge(start, ROWS, shortest.unwrap_or(Duration::MAX))
        });
        let age = retention.inbound_ids;
        let there = inbound_ids::exist().then_some(age);
        self.inbound_ids.step(there, wait_factor, |_| {
            PurgeStep::of_deleted(inbound_ids::purge(ROWS, age))
        });
        self.rate_limits.step(Some(RATE_LIMITS), wait_factor, |_| {
            PurgeStep::of_deleted(rate_limit::purge(ROWS))
        });
    }
}
