//! One tick of the worker: write outcomes, claim what fits, sign it, hand it to the threads.
//! One short transaction a tick; requests leave only after it has committed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use pgrx::prelude::*;
use pgrx::{Uuid, pg_sys};
use plugin_webhooks_core::address_policy::AllowedNetworks;
use plugin_webhooks_core::endpoint::{self, Unusable};
use plugin_webhooks_core::failure::{Failure, FailureKind};
use plugin_webhooks_core::limiter::{Health, Limiter};
use plugin_webhooks_core::request::Request;
use plugin_webhooks_core::retry::{Answer, Schedule, Step};
use plugin_webhooks_core::sender::{Outcome, Sender, SenderConfig};
use plugin_webhooks_core::signature;

use super::gate::Gate;
use super::purge::Sweeper;
use super::transaction;
use crate::delivery::attempts::{self, Attempt};
use crate::delivery::queue::{self, Claimed, Room, Settled, Source, Status};
use crate::secrets::Plaintext;
use crate::settings::{self, Dispatch, WorkerSettings};
use crate::{error, instance, pg, secrets};

/// How often leases that ran out are looked for.
const RECOVER_EVERY: Duration = Duration::from_secs(10);

/// Bodies in memory at once, as long as more than one is: a tenant with huge rows must not fill the
/// server's memory.
const BODY_BYTES: usize = 64 << 20;

/// A request that is out longer than this waits for its receiver and not for us: it counts against
/// max_slow_in_flight instead of max_in_flight.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// How long a receiver's trouble is remembered after its last rest.
const REMEMBER: Duration = Duration::from_secs(600);

/// What a tick found.
pub enum Tick {
    /// The extension is gone, or another installation of it took its place.
    Gone,
    /// Somebody changes the queue's definition.
    Blocked,
    /// `worked`: something was claimed or settled.
    Done { worked: bool },
}

/// A request on its way.
struct Flight {
    delivery: Uuid,
    tenant: Uuid,
    installation: Uuid,
    claim: i64,
    attempts: u32,
    body_bytes: usize,
    /// The installation's own.
    schedule: Option<Schedule>,
    departed: Instant,
}

impl Flight {
    /// The log's row for an attempt that ended now.
    fn attempt(&self, error: Option<FailureKind>) -> Attempt {
        Attempt {
            delivery: self.delivery,
            tenant: self.tenant,
            installation: self.installation,
            number: self.attempts.saturating_add(1),
            age: Duration::ZERO,
            duration: Duration::ZERO,
            status: None,
            error,
            response: None,
        }
    }
}

/// Why a claimed delivery cannot be sent.
struct Unsendable {
    flight: Flight,
    kind: FailureKind,
    reason: String,
    /// Trying again would not help.
    dead: bool,
}

/// A claimed delivery, ready to leave when the claim has committed.
struct Departure {
    flight: Flight,
    request: Request,
}

/// The state of one worker. All of it can be lost: the queue knows everything that matters.
pub struct Dispatcher {
    extension: pg_sys::Oid,
    config: WorkerSettings,
    sender: Option<Sender>,
    /// Senders of older settings whose requests are still out.
    retired: Vec<Sender>,
    flights: HashMap<u64, Flight>,
    body_bytes: usize,
    next_tag: u64,
    limiter: Limiter<Uuid>,
    /// Outcomes that are not written yet, and what the log says of them.
    outbox: Vec<Settled>,
    log: Vec<Attempt>,
    /// Somebody holds locks on rows of the outbox: write the others.
    around_locks: bool,
    schedule: Schedule,
    sweeper: Sweeper,
    warned: HashSet<Uuid>,
    recovered_at: Instant,
    gate: Gate,
}

impl Dispatcher {
    pub fn new(extension: pg_sys::Oid) -> Self {
        let config = settings::worker();
        Self {
            extension,
            sender: start_sender(&config),
            schedule: schedule(&config),
            config,
            retired: Vec::new(),
            flights: HashMap::new(),
            body_bytes: 0,
            next_tag: 0,
            limiter: Limiter::default(),
            outbox: Vec::new(),
            log: Vec::new(),
            around_locks: false,
            sweeper: Sweeper::new(),
            warned: HashSet::new(),
            recovered_at: Instant::now(),
            gate: Gate::default(),
        }
    }

    pub fn config(&self) -> &WorkerSettings {
        &self.config
    }

    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Takes over changed settings. Requests on their way end under the old ones.
    pub fn reload(&mut self) {
        let config = settings::worker();
        if config == self.config && self.sender.is_some() {
            return;
        }
        self.retired.extend(self.sender.take());
        self.sender = start_sender(&config);
        self.schedule = schedule(&config);
        if config.retention != self.config.retention {
            self.sweeper = Sweeper::new();
        }
        self.config = config;
        self.warned.clear();
    }

    /// How long the worker may wait for its latch.
    pub fn pause(&self) -> Duration {
        let now = Instant::now();
        let mut pause = self.config.poll_interval.min(self.sweeper.due_in());
        if let Some(probe) = self.limiter.next_probe(now) {
            pause = pause.min(probe);
        }
        if self.young(now) >= self.config.max_in_flight {
            // The first of them becomes slow and makes room.
            let oldest = self.flights.values().map(|flight| flight.departed);
            let ages = oldest.map(|departed| now.duration_since(departed));
            if let Some(age) = ages.filter(|age| *age < SLOW_AFTER).max() {
                pause = pause.min(SLOW_AFTER - age);
            }
        }
        pause.max(Duration::from_millis(1))
    }

    /// Requests on their way that are not slow.
    fn young(&self, now: Instant) -> usize {
        let is_young = |flight: &&Flight| now.duration_since(flight.departed) < SLOW_AFTER;
        self.flights.values().filter(is_young).count()
    }

    /// Deletes what is too old, in a transaction of its own.
    pub fn sweep(&mut self) -> Result<(), String> {
        if self.sweeper.due_in() > Duration::ZERO {
            return Ok(());
        }
        let busy = self.young(Instant::now()) > self.config.max_in_flight / 4;
        let (sweeper, retention) = (&mut self.sweeper, &self.config.retention);
        transaction::run(c"deleting old rows", || {
            // A copy keeps its rows as they came.
            if instance::extension() == Some(self.extension)
                && instance::is_active()
                && lock_queue()
            {
                sweeper.sweep(retention, busy);
            }
        })
    }

    /// One look at the queue.
    pub fn tick(&mut self) -> Result<Tick, String> {
        self.collect();
        let activity = if self.flights.is_empty() {
            c"looking for deliveries"
        } else {
            c"delivering"
        };
        let recover = self.recovered_at.elapsed() >= RECOVER_EVERY;
        let room = self.room();
        let mut settled = self.outbox.len();
        let claimed = transaction::run(activity, || {
            if instance::extension() != Some(self.extension) {
                return Err(Tick::Gone);
            }
            if !lock_queue() {
                return Err(Tick::Blocked);
            }
            if self.around_locks {
                let locked = queue::locked(&self.outbox);
                self.outbox
                    .sort_by_key(|outcome| locked.contains(&outcome.id));
                settled -= locked.len();
            }
            if settled > 0 {
                queue::settle(&self.outbox[..settled]);
            }
            if !self.log.is_empty() && attempts::exist() {
                attempts::log(&self.log);
            }
            if !self.gate.is_open() {
                return Ok(Vec::new());
            }
            if recover {
                queue::recover(false);
            }
            Ok(room.map_or_else(Vec::new, |room| self.claim(room)))
        });
        let departures = match claimed {
            Ok(Ok(departures)) => departures,
            Ok(Err(tick)) => return Ok(tick),
            Err(error) => {
                // A row that somebody has locked would fail every batch it is in.
                self.around_locks = !self.outbox.is_empty();
                return Err(error);
            }
        };
        self.outbox.drain(..settled);
        self.around_locks = !self.outbox.is_empty();
        self.log.clear();
        if recover {
            self.recovered_at = Instant::now();
            self.limiter.forget(self.recovered_at, REMEMBER);
        }
        let worked = settled > 0 || !departures.is_empty();
        self.depart(departures);
        Ok(Tick::Done { worked })
    }

    /// Takes what the threads have finished.
    fn collect(&mut self) {
        let mut landed = Vec::new();
        for sender in self.sender.iter().chain(&self.retired) {
            while let Some(done) = sender.try_recv() {
                landed.push(done);
            }
        }
        self.retired.retain(|sender| sender.in_flight() > 0);
        let now = Instant::now();
        for (tag, outcome) in landed {
            let Some(flight) = self.flights.remove(&tag) else {
                continue;
            };
            self.body_bytes -= flight.body_bytes;
            self.limiter.finished(
                flight.installation,
                health(&outcome),
                now,
                self.config.bounds,
            );
            self.land(&flight, outcome, now);
        }
    }

    /// Notes what is to be written about an attempt.
    fn land(&mut self, flight: &Flight, outcome: Outcome, now: Instant) {
        let failure = outcome.result.as_ref().err();
        self.log.push(Attempt {
            age: now.duration_since(outcome.started),
            duration: outcome.duration,
            status: match &outcome.result {
                Ok(status) => Some(*status),
                Err(failure) => failure.status,
            },
            response: outcome.response,
            ..flight.attempt(failure.map(|failure| failure.kind))
        });
        let settled = match outcome.result {
            Ok(_) => Settled {
                id: flight.delivery,
                claim: flight.claim,
                status: Status::Delivered,
                failed: false,
                error: None,
                delay: Duration::ZERO,
            },
            Err(failure) => self.failed(flight, failure.answer(), failure.message),
        };
        self.outbox.push(settled);
    }

    fn failed(&self, flight: &Flight, answer: Answer, error: String) -> Settled {
        let schedule = flight.schedule.as_ref().unwrap_or(&self.schedule);
        let (status, delay) = match schedule.after_failure(flight.attempts, answer, chance()) {
            Step::Retry { after } => (Status::Pending, after),
            Step::Dead => (Status::Dead, Duration::ZERO),
        };
        Settled {
            id: flight.delivery,
            claim: flight.claim,
            status,
            failed: true,
            error: Some(error),
            delay,
        }
    }

    /// How many requests may be claimed now, and how many bytes of bodies; `None` when everything
    /// is busy.
    fn room(&self) -> Option<(usize, usize)> {
        self.sender.as_ref()?;
        let all = self.config.max_in_flight + self.config.max_slow_in_flight;
        let young = self.young(Instant::now());
        let total = (self.config.max_in_flight.saturating_sub(young))
            .min(all.saturating_sub(self.flights.len()));
        let bytes = BODY_BYTES.saturating_sub(self.body_bytes);
        (total > 0 && bytes > 0).then_some((total, bytes))
    }

    /// Claims and prepares. What cannot be sent is settled here and now.
    fn claim(&mut self, (mut total, mut bytes): (usize, usize)) -> Vec<Departure> {
        let claim = fencing_token();
        // What a processor call took shortly before belongs to this worker as well.
        let sources: &[Source] = match settings::dispatch() {
            Dispatch::OnCommit => &[Source::Due, Source::Handed],
            Dispatch::OnCall => &[Source::Handed],
        };
        let mut permits = self.limiter.permits(Instant::now(), self.config.bounds);
        let mut claimed = Vec::new();
        for source in sources {
            if total == 0 || bytes == 0 {
                break;
            }
            let room = Room {
                total,
                bytes,
                installations: &permits,
            };
            let batch = queue::claim(*source, claim, settings::lease(), &room);
            for delivery in &batch {
                total = total.saturating_sub(1);
                bytes = bytes.saturating_sub(delivery.body.as_ref().map_or(0, String::len));
                permits.take(delivery.installation);
            }
            claimed.extend(batch);
        }
        let mut known_secrets = HashMap::new();
        let mut departures = Vec::with_capacity(claimed.len());
        let mut unsendable = Vec::new();
        for delivery in claimed {
            match self.prepare(delivery, claim, &mut known_secrets) {
                Ok(departure) => departures.push(departure),
                Err(reason) => unsendable.push(reason),
            }
        }
        self.settle_unsendable(&unsendable);
        departures
    }

    fn settle_unsendable(&self, unsendable: &[Unsendable]) {
        if unsendable.is_empty() {
            return;
        }
        let settled: Vec<Settled> = unsendable
            .iter()
            .map(|delivery| {
                let reason = shorten(&delivery.reason);
                let settled = self.failed(&delivery.flight, Answer::default(), reason);
                if delivery.dead {
                    Settled {
                        status: Status::Dead,
                        ..settled
                    }
                } else {
                    settled
                }
            })
            .collect();
        queue::settle(&settled);
        if attempts::exist() {
            let log: Vec<Attempt> = unsendable
                .iter()
                .map(|delivery| delivery.flight.attempt(Some(delivery.kind)))
                .collect();
            attempts::log(&log);
        }
    }

    /// A claimed row as a signed request, or why it cannot be one.
    fn prepare(
        &mut self,
        mut delivery: Claimed,
        claim: i64,
        known: &mut HashMap<String, Result<Option<Plaintext>, Unreadable>>,
    ) -> Result<Departure, Unsendable> {
        let body = delivery.body.take();
        let mut flight = Flight {
            delivery: delivery.id,
            tenant: delivery.tenant,
            installation: delivery.installation,
            claim,
            attempts: delivery.attempts,
            body_bytes: body.as_ref().map_or(0, String::len),
            schedule: None,
            departed: Instant::now(),
        };
        let Some(body) = body else {
            return Err(Unsendable {
                flight,
                kind: FailureKind::Payload,
                dead: true,
                reason: "the payload is too long to send".into(),
            });
        };
        let endpoint = match endpoint::read_stored(delivery.config.as_deref()) {
            Ok(endpoint) => endpoint,
            Err(unusable) => {
                return Err(Unsendable {
                    flight,
                    kind: FailureKind::Setting,
                    dead: matches!(unusable, Unusable::NoUrl(_)),
                    reason: unusable.to_string(),
                });
            }
        };
        flight.schedule.clone_from(&endpoint.retry_schedule);
        let signature = match self.sign(&delivery, &body, known) {
            Ok(signature) => signature,
            Err(reason) => {
                return Err(Unsendable {
                    flight,
                    kind: FailureKind::Secret,
                    dead: false,
                    reason,
                });
            }
        };
        Ok(Departure {
            flight,
            request: Request {
                delivery_id: delivery.id.to_string(),
                event_type: delivery.event_type,
                body,
                signature,
                endpoint,
            },
        })
    }

    /// The signature of the body, `None` for an unsigned delivery, or why there is none.
    fn sign(
        &mut self,
        delivery: &Claimed,
        body: &str,
        known: &mut HashMap<String, Result<Option<Plaintext>, Unreadable>>,
    ) -> Result<Option<String>, String> {
        if let Some(name) = delivery.secret_ref.as_deref() {
            let secret = known
                .entry(name.to_string())
                .or_insert_with(|| resolve(name));
            match secret {
                Ok(Some(secret)) => {
                    // The next trouble is worth a new warning.
                    self.warned.remove(&delivery.installation);
                    return Ok(Some(signature::sign(secret.as_bytes(), body.as_bytes())));
                }
                Ok(None) => {}
                Err(Unreadable { reason, remedy }) => {
                    if self.warned.insert(delivery.installation) {
                        warn_installation(
                            delivery.installation,
                            &format!("its signing secret cannot be read: {reason}"),
                            remedy,
                        );
                    }
                    return Err("the signing secret cannot be read".into());
                }
            }
        }
        if settings::require_signature() {
            return Err(
                "unsigned: secret_ref resolves to no secret and plugin_webhooks.require_signature is on"
                    .into(),
            );
        }
        // An installation without secret_ref never wanted a signature.
        if delivery.secret_ref.is_some() && self.warned.insert(delivery.installation) {
            warn_installation(
                delivery.installation,
                "secret_ref resolves to no secret, its deliveries go out unsigned",
                NO_SECRET_REMEDY,
            );
        }
        Ok(None)
    }

    /// Hands committed claims to the threads.
    fn depart(&mut self, departures: Vec<Departure>) {
        let Some(sender) = self.sender.as_ref().filter(|_| !departures.is_empty()) else {
            return;
        };
        let bounds = self.config.bounds;
        let mut leave = |departure: Departure| {
            let Departure { flight, request } = departure;
            self.next_tag += 1;
            self.limiter.started(flight.installation, bounds);
            self.body_bytes += flight.body_bytes;
            self.flights.insert(self.next_tag, flight);
            sender.submit(self.next_tag, request);
        };
        // The sender may start a thread.
        with_signals_blocked(|| departures.into_iter().for_each(&mut leave));
    }
}

/// A receiver that answers is healthy, even when it refuses this delivery.
fn health(outcome: &Outcome) -> Health {
    match &outcome.result {
        Ok(_) => Health::Answers,
        Err(Failure {
            kind: FailureKind::Status,
            status: Some(status),
            ..
        }) if *status < 500 && *status != 429 => Health::Answers,
        Err(failure) => match failure.answer().backoff() {
            Some(backoff) => Health::Overloaded(Some(backoff)),
            None => Health::Fails,
        },
    }
}

fn shorten(reason: &str) -> String {
    reason.chars().take(500).collect()
}

/// A random number from 0 to 1, for jitter.
fn chance() -> f64 {
    (u64::from_ne_bytes(pg::random_bytes()) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Why a secret cannot be read, and what to do about it.
struct Unreadable {
    reason: String,
    remedy: String,
}

const NO_SECRET_REMEDY: &str =
    "Set secret_ref of the installation to the name of an existing secret.";

/// A broken secret must not stop the others: it costs a subtransaction.
fn resolve(name: &str) -> Result<Option<Plaintext>, Unreadable> {
    // The claim saw rows that are younger than the transaction's snapshot; so must this.
    let (reason, remedy) = match pg::guarded(|| pg::with_latest_snapshot(|| secrets::by_name(name)))
    {
        Ok(Ok(secret)) => return Ok(secret),
        Ok(Err(report)) => (
            report.message().to_string(),
            report.hint().map(str::to_owned),
        ),
        Err(reason) => (reason, None),
    };
    Err(Unreadable {
        reason,
        remedy: remedy.unwrap_or_else(|| NO_SECRET_REMEDY.into()),
    })
}

fn warn_installation(installation: Uuid, reason: &str, remedy: &str) {
    error::warn(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("plugin_webhooks: installation {installation}: {reason}"),
        remedy,
    );
}

fn fencing_token() -> i64 {
    i64::from_ne_bytes(pg::random_bytes())
}

/// Locks the queue as any writer does, unless that would mean to wait for DDL.
fn lock_queue() -> bool {
    let Some(queue) = pg::relation(c"int", c"plugin_delivery_queue") else {
        return false;
    };
    pg::try_lock_table(queue, pg::TableLock::RowExclusive)
}

/// The process to wake when an outcome arrives; threads may not ask PostgreSQL.
static MAIN_PROCESS: AtomicI32 = AtomicI32::new(0);

fn start_sender(config: &WorkerSettings) -> Option<Sender> {
    let allowed_networks =
        AllowedNetworks::parse(&config.allowed_networks).unwrap_or_else(|error| {
            warn_setting(&format!(
                "plugin_webhooks.allowed_networks is ignored: {error}"
            ));
            AllowedNetworks::default()
        });
    let extra_ca_pem = config.ca_file.as_ref().and_then(|path| {
        std::fs::read(path)
            .map_err(|error| {
                warn_setting(&format!(
                    "plugin_webhooks.ca_file {} is ignored: {error}",
                    path.display()
                ));
            })
            .ok()
    });
    // SAFETY: no preconditions.
    MAIN_PROCESS.store(unsafe { libc::getpid() }, Ordering::Relaxed);
    let start = |extra_ca_pem| {
        with_signals_blocked(|| {
            Sender::start(
                SenderConfig {
                    threads: config.max_in_flight + config.max_slow_in_flight,
                    allowed_networks: allowed_networks.clone(),
                    show_internal_bodies: config.show_internal_bodies,
                    extra_ca_pem,
                    connect_timeout: config.connect_timeout,
                },
                wake_main_thread,
            )
        })
    };
    let has_ca = extra_ca_pem.is_some();
    match start(extra_ca_pem) {
        Ok(sender) => Some(sender),
        Err(error) => {
            warn_setting(&format!("requests cannot be sent: {error}"));
            if has_ca { start(None).ok() } else { None }
        }
    }
}

/// The retry schedule of the settings.
fn schedule(config: &WorkerSettings) -> Schedule {
    Schedule::parse(&config.retry_schedule).unwrap_or_else(|error| {
        warn_setting(&format!(
            "plugin_webhooks.retry_schedule is ignored: {error}"
        ));
        Schedule::default()
    })
}

fn warn_setting(message: &str) {
    error::warn(
        PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
        format!("plugin_webhooks: {message}"),
        "Correct the setting and reload.",
    );
}

/// SIGUSR1 is PostgreSQL's own "look at your latch"; only the main thread takes signals.
fn wake_main_thread() {
    // SAFETY: a signal to the own process, whose handler PostgreSQL installed.
    unsafe { libc::kill(MAIN_PROCESS.load(Ordering::Relaxed), libc::SIGUSR1) };
}

/// Threads inherit the signal mask: PostgreSQL's handlers must run on the main thread only.
fn with_signals_blocked<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: plain mask arithmetic on local values; the old mask is restored.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let result = body();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}
