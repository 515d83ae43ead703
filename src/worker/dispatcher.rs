//! A tick, one look at the queue: write settlements, claim what fits, dispatch it to the threads. One short
//! transaction a tick; requests leave only after it has committed.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use pgrx::{Uuid, pg_sys};
use plugin_webhooks_core::limiter::{self, Limiter};
use plugin_webhooks_core::retry::Schedule;
use plugin_webhooks_core::sender::Outcome;

use super::gate::Gate;
use super::in_flight::InFlight;
use super::outcome;
use super::prepare::{Prepared, Preparer};
use super::purge_schedule::PurgeSchedule;
use super::threads::Threads;
use super::transaction::{self, Failure};
use super::unsettled::{self, Unsettled};
use crate::delivery::queue;
use crate::delivery::waiting::Rows;
use crate::settings::{self, Dispatch, WorkerSettings};
use crate::tables;
use crate::{error, instance, pg};

/// How often leases that ran out are looked for.
const RECOVER_EVERY: Duration = Duration::from_secs(10);

/// How long a tenant or receiver of which nothing is seen is remembered.
const REMEMBER: Duration = Duration::from_secs(600);

/// How long the worker waits before it goes on with slow receivers: the pause is for what is prompt.
const PAUSE: Duration = Duration::from_millis(5);

/// How long deliveries that cannot be sent are left alone.
const LEAVE_ALONE: Duration = Duration::from_secs(2);

/// What a tick found.
pub enum Tick {
    /// The extension is gone, or another CREATE EXTENSION put a new one in its place.
    Gone,
    /// Somebody changes the queue's definition.
    Blocked,
    /// `worked`: something was claimed or settled.
    Done { worked: bool },
}

/// The state of one worker. All of it can be lost: the queue knows everything that matters.
pub struct Dispatcher {
    extension: pg_sys::Oid,
    settings: WorkerSettings,
    schedule: Schedule,
    gate: Gate,
    limiter: Limiter<Uuid>,
    /// Rows wait for a thread.
    short: bool,
    /// Rows wait for the next tick.
    more: bool,
    /// Outcomes of slow requests that wait for the next tick.
    late: VecDeque<(u64, Outcome)>,
    preparer: Preparer,
    /// Installations whose new deliveries cannot be sent, and until when they are left alone: who enqueues and then
    /// looks sees pending.
    held: HashMap<Uuid, Instant>,
    threads: Threads,
    in_flight: InFlight,
    unsettled: Unsettled,
    recovered_at: Instant,
    purge: PurgeSchedule,
}

impl Dispatcher {
    pub fn new(extension: pg_sys::Oid) -> Self {
        let settings = settings::worker();
        Self {
            extension,
            threads: Threads::start(&settings),
            schedule: schedule(&settings),
            settings,
            gate: Gate::default(),
            limiter: Limiter::default(),
            short: false,
            more: false,
            late: VecDeque::new(),
            preparer: Preparer::default(),
            held: HashMap::new(),
            in_flight: InFlight::default(),
            unsettled: Unsettled::default(),
            recovered_at: Instant::now(),
            purge: PurgeSchedule::new(),
        }
    }

    pub fn settings(&self) -> &WorkerSettings {
        &self.settings
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Takes over changed settings. Requests in flight end under the old ones.
    pub fn reload(&mut self) {
        let settings = settings::worker();
        if settings == self.settings && self.threads.can_send() {
            return;
        }
        self.threads.restart(&settings);
        self.schedule = schedule(&settings);
        if settings.retention != self.settings.retention {
            self.purge = PurgeSchedule::new();
        }
        self.settings = settings;
        self.preparer.forget_warnings();
    }

    /// Whether there are outcomes to settle.
    pub fn has_outcomes(&self) -> bool {
        self.threads.has_outcomes()
    }

    /// How long the worker may wait for its latch.
    pub fn timeout(&self) -> Duration {
        let now = Instant::now();
        let mut timeout = self.settings.poll_interval;
        if self.gate.was_open() {
            timeout = timeout.min(self.purge.due_in());
        }
        if let Some(probe) = self.limiter.next_probe(now) {
            timeout = timeout.min(probe);
        }
        if self.short {
            // What becomes slow gives way to another request.
            timeout = timeout.min(self.limiter.next_slow_in(now).unwrap_or(timeout));
        }
        if self.more || !self.late.is_empty() {
            timeout = timeout.min(PAUSE);
        }
        if let Some(reading) = self.limiter.next_reading(now) {
            timeout = timeout.min(reading);
        }
        if let Some(until) = self.held.values().min() {
            timeout = timeout.min(until.saturating_duration_since(now));
        }
        timeout.max(Duration::from_millis(1))
    }

    /// Deletes what is too old, in a transaction of its own. A copy keeps its rows as they came.
    pub fn purge(&mut self) -> Result<(), Failure> {
        if !self.gate.was_open() || self.purge.due_in() > Duration::ZERO {
            return Ok(());
        }
        let busy = self.limiter.not_slow() > self.settings.bounds.in_flight / 4;
        let (purge, retention) = (&mut self.purge, &self.settings.retention);
        transaction::run(c"deleting old rows", || {
            if instance::hold()
                && instance::extension() == Some(self.extension)
                && instance::is_active()
                && lock_queue()
            {
                purge.step(retention, busy);
            }
        })
    }

    /// One tick.
    pub fn tick(&mut self) -> Result<Tick, Failure> {
        self.collect();
        self.more = false;
        let now = Instant::now();
        self.held.retain(|_, until| *until > now);
        let activity = if self.in_flight.len() == 0 {
            c"looking for deliveries"
        } else {
            c"delivering"
        };
        let recover = self.recovered_at.elapsed() >= RECOVER_EVERY;
        let done = transaction::run(activity, || {
            let is_held = instance::hold();
            if instance::extension() != Some(self.extension) {
                return Err(Tick::Gone);
            }
            if !is_held || !lock_queue() {
                return Err(Tick::Blocked);
            }
            let settled = self.unsettled.write();
            if !self.gate.is_open() {
                return Ok((settled, Vec::new()));
            }
            if recover {
                queue::recover(false);
            }
            let prepared = self.claim();
            Ok((settled, prepared))
        });
        let (settled, prepared) = match done {
            Ok(Ok(done)) => done,
            Ok(Err(tick)) => return Ok(tick),
            Err(error) => {
                self.unsettled.failed();
                return Err(error);
            }
        };
        self.unsettled.committed(settled);
        if recover {
            self.recovered_at = Instant::now();
            self.limiter.forget(self.recovered_at, REMEMBER);
        }
        let worked = settled > 0 || !prepared.is_empty();
        self.dispatch(prepared);
        Ok(Tick::Done { worked })
    }

    /// Takes the outcomes that the threads have for us. Those of slow requests take turns: what goes out together
    /// comes back together, and others wait while it is written.
    fn collect(&mut self) {
        let outcomes = self.threads.take_outcomes();
        let now = Instant::now();
        let bounds = self.settings.bounds;
        let (slow, prompt): (Vec<_>, Vec<_>) = outcomes
            .into_iter()
            .partition(|(_, outcome)| outcome.duration >= limiter::SLOW_AFTER);
        self.late.extend(slow);
        let turn = self.late.len().min(bounds.at_once());
        let turn: Vec<_> = self.late.drain(..turn).collect();
        for (tag, outcome) in prompt.into_iter().chain(turn) {
            let Some(attempt) = self.in_flight.remove(tag) else {
                continue;
            };
            let verdict = outcome::verdict(&outcome);
            let took = outcome.duration;
            self.limiter.finished(tag, verdict, took, now, bounds);
            let end = outcome::of_attempt(&attempt, outcome, &self.schedule, now);
            self.unsettled.push(end);
        }
        self.limiter.age(now);
    }

    /// Claims and prepares. What cannot be sent is settled here and now.
    fn claim(&mut self) -> Vec<Prepared> {
        if !self.threads.can_send() {
            return Vec::new();
        }
        let (now, bounds) = (Instant::now(), self.settings.bounds);
        let permits = self.limiter.permits(now, bounds);
        let mut waiting = Rows::default();
        // What a processor call requested shortly before belongs to this worker as well.
        waiting.add_requested(&permits);
        if settings::dispatch() == Dispatch::OnCommit {
            waiting.add_due(&permits, &self.held);
        }
        let dealt = self.limiter.deal(&waiting.installations, now, bounds);
        self.short = dealt.short;
        self.more = dealt.more;
        if dealt.threads.is_empty() {
            return Vec::new();
        }
        let claim_id = new_claim_id();
        let rows = waiting.dealt(&dealt.threads);
        let room = self.limiter.room(bounds);
        let reading = self.limiter.reading(now);
        let claim = queue::claim(&rows, claim_id, settings::lease(), room, reading);
        self.limiter.has_read(claim.reading, Instant::now());
        for n in dealt.threads {
            let waiting = &waiting.installations[n];
            let body = claim.left_over.get(&waiting.installation).copied();
            let of = (waiting.tenant, waiting.installation);
            self.limiter.left_over(of, body, now, bounds);
        }
        let (prepared, unsendable) = self.preparer.prepare(claim.claimed, claim_id);
        let (fresh, ripe): (Vec<_>, Vec<_>) = unsendable
            .into_iter()
            .partition(|delivery| delivery.fresh && settings::dispatch() == Dispatch::OnCommit);
        unsettled::write_unsendable(&ripe, &self.schedule);
        if !fresh.is_empty() {
            let until = now + LEAVE_ALONE;
            self.held.extend(
                fresh
                    .iter()
                    .map(|delivery| (delivery.attempt.installation, until)),
            );
            queue::release(
                fresh
                    .iter()
                    .map(|delivery| delivery.attempt.delivery)
                    .collect(),
                claim_id,
            );
        }
        prepared
    }

    /// Hands committed claims to the threads.
    fn dispatch(&mut self, prepared: Vec<Prepared>) {
        let (now, bounds) = (Instant::now(), self.settings.bounds);
        let mut requests = Vec::with_capacity(prepared.len());
        for Prepared { attempt, request } in prepared {
            let started = limiter::Request {
                tenant: attempt.tenant,
                installation: attempt.installation,
                body_bytes: attempt.body_bytes,
            };
            let tag = self.in_flight.insert(attempt);
            self.limiter.started(tag, started, now, bounds);
            requests.push((tag, request));
        }
        self.threads.submit(requests);
    }
}

/// The retry schedule of the settings.
pub(super) fn schedule(settings: &WorkerSettings) -> Schedule {
    Schedule::parse(&settings.retry_schedule).unwrap_or_else(|error| {
        error::warn_setting(&format!(
            "plugin_webhooks.retry_schedule is ignored: {error}"
        ));
        Schedule::default()
    })
}

pub(super) fn new_claim_id() -> i64 {
    i64::from_ne_bytes(pg::random_bytes())
}

/// Locks the queue as any writer does, unless that would mean to wait for DDL.
fn lock_queue() -> bool {
    let Some(queue) = pg::relation(tables::QUEUE) else {
        return false;
    };
    pg::try_lock_table(queue, pg::TableLock::RowExclusive)
}
