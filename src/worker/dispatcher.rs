//! One tick of the worker: write outcomes, claim what fits, sign it, hand it to the threads.
//! One short transaction a tick; requests leave only after it has committed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use pgrx::prelude::*;
use pgrx::{Uuid, pg_sys};
use plugin_webhooks_core::egress::AllowedNetworks;
use plugin_webhooks_core::endpoint::{self, Unusable};
use plugin_webhooks_core::request::Request;
use plugin_webhooks_core::retry::{Schedule, Step};
use plugin_webhooks_core::sender::{Failure, FailureKind, Outcome, Sender, Settings};
use plugin_webhooks_core::signature;

use super::identity::Gate;
use super::{main_loop, transaction};
use crate::delivery::lanes::Lanes;
use crate::delivery::queue::{self, Claimed, Room, Settled, Source, Status};
use crate::secrets::Plaintext;
use crate::settings::{self, Dispatch};
use crate::{error, pg, secrets};

/// How often leases that ran out are looked for.
const RECOVER_EVERY: Duration = Duration::from_secs(10);

/// Bodies in memory at once, as long as more than one is: a tenant with huge rows must not fill the
/// server's memory.
const BODY_BYTES: usize = 64 << 20;

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
    installation: Uuid,
    claim: i64,
    attempts: u32,
    body_bytes: usize,
}

/// A claimed delivery, ready to leave when the claim has committed.
struct Departure {
    flight: Flight,
    request: Request,
}

/// The state of one worker. All of it can be lost: the queue knows everything that matters.
pub struct Dispatcher {
    extension: pg_sys::Oid,
    config: settings::Worker,
    sender: Option<Sender>,
    /// Senders of older settings whose requests are still out.
    retired: Vec<Sender>,
    flights: HashMap<u64, Flight>,
    body_bytes: usize,
    next_tag: u64,
    lanes: Lanes,
    /// Outcomes that are not written yet.
    outbox: Vec<Settled>,
    schedule: Schedule,
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
            config,
            retired: Vec::new(),
            flights: HashMap::new(),
            body_bytes: 0,
            next_tag: 0,
            lanes: Lanes::default(),
            outbox: Vec::new(),
            schedule: Schedule::default(),
            warned: HashSet::new(),
            recovered_at: Instant::now(),
            gate: Gate::default(),
        }
    }

    pub fn config(&self) -> &settings::Worker {
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
        self.config = config;
        self.warned.clear();
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
        let settled = self.outbox.len();
        let claimed = transaction::run(activity, || {
            if main_loop::extension() != Some(self.extension) {
                return Err(Tick::Gone);
            }
            if !lock_queue() {
                return Err(Tick::Blocked);
            }
            if settled > 0 {
                queue::settle(&self.outbox);
            }
            if !self.gate.is_open() {
                return Ok(Vec::new());
            }
            if recover {
                queue::recover(false);
            }
            Ok(room.map_or_else(Vec::new, |room| self.claim(room)))
        })?;
        let departures = match claimed {
            Ok(departures) => departures,
            Err(tick) => return Ok(tick),
        };
        self.outbox.clear();
        if recover {
            self.recovered_at = Instant::now();
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
        for (tag, outcome) in landed {
            let Some(flight) = self.flights.remove(&tag) else {
                continue;
            };
            self.body_bytes -= flight.body_bytes;
            self.lanes
                .finished(flight.installation, is_healthy(&outcome));
            let settled = match outcome.result {
                Ok(_) => Settled {
                    id: flight.delivery,
                    claim: flight.claim,
                    status: Status::Delivered,
                    failed: false,
                    error: None,
                    delay: Duration::ZERO,
                },
                Err(failure) => self.failed(&flight, failure.message),
            };
            self.outbox.push(settled);
        }
    }

    fn failed(&self, flight: &Flight, error: String) -> Settled {
        let (status, delay) = match self.schedule.after_failure(flight.attempts) {
            Step::Retry { after } => (Status::Pending, after),
            Step::Delivered | Step::Dead => (Status::Dead, Duration::ZERO),
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

    /// How much may be claimed now; `None` when everything is busy.
    fn room(&self) -> Option<Room> {
        self.sender.as_ref()?;
        let total = self.config.max_in_flight.saturating_sub(self.flights.len());
        let bytes = BODY_BYTES.saturating_sub(self.body_bytes);
        (total > 0 && bytes > 0).then(|| Room {
            total,
            bytes,
            per_installation: self.config.max_in_flight_per_installation,
            lanes: self.lanes.rooms(self.config.max_in_flight_per_installation),
        })
    }

    /// Claims and prepares. What cannot be sent is settled here and now.
    fn claim(&mut self, room: Room) -> Vec<Departure> {
        let claim = fencing_token();
        let source = match settings::dispatch() {
            Dispatch::OnCommit => Source::Due,
            Dispatch::OnCall => Source::Handed,
        };
        let total = room.total;
        let lanes = room.lanes.clone();
        let per_installation = room.per_installation;
        let bytes = room.bytes;
        let mut claimed = queue::claim(source, claim, settings::lease(), room);
        if source == Source::Due && claimed.len() < total {
            // What a processor call took shortly before belongs to this worker as well.
            let rest = Room {
                total: total - claimed.len(),
                per_installation,
                bytes: bytes.saturating_sub(claimed.iter().map(|c| c.body.len()).sum()),
                lanes,
            };
            claimed.extend(queue::claim(Source::Handed, claim, settings::lease(), rest));
        }
        let mut known_secrets = HashMap::new();
        let mut departures = Vec::with_capacity(claimed.len());
        let mut unsendable = Vec::new();
        for delivery in claimed {
            match self.prepare(delivery, claim, &mut known_secrets) {
                Ok(departure) => departures.push(departure),
                Err(settled) => unsendable.push(settled),
            }
        }
        if !unsendable.is_empty() {
            queue::settle(&unsendable);
        }
        departures
    }

    /// A claimed row as a signed request, or why it cannot be one.
    fn prepare(
        &mut self,
        delivery: Claimed,
        claim: i64,
        known: &mut HashMap<String, Result<Option<Plaintext>, String>>,
    ) -> Result<Departure, Settled> {
        let flight = Flight {
            delivery: delivery.id,
            installation: delivery.installation,
            claim,
            attempts: delivery.attempts,
            body_bytes: delivery.body.len(),
        };
        let endpoint = match endpoint::read_stored(delivery.config.as_deref()) {
            Ok(endpoint) => endpoint,
            Err(Unusable::NoUrl(reason)) => {
                return Err(Settled {
                    status: Status::Dead,
                    delay: Duration::ZERO,
                    ..self.failed(&flight, shorten(reason))
                });
            }
            Err(Unusable::BadSetting(reason)) => return Err(self.failed(&flight, shorten(reason))),
        };
        let signature = match self.sign(&delivery, known) {
            Ok(signature) => signature,
            Err(reason) => return Err(self.failed(&flight, reason)),
        };
        Ok(Departure {
            flight,
            request: Request {
                delivery_id: delivery.id.to_string(),
                event_type: delivery.event_type,
                body: delivery.body,
                signature,
                endpoint,
            },
        })
    }

    /// The signature of the body, `None` for an unsigned delivery, or why there is none.
    fn sign(
        &mut self,
        delivery: &Claimed,
        known: &mut HashMap<String, Result<Option<Plaintext>, String>>,
    ) -> Result<Option<String>, String> {
        if let Some(name) = delivery.secret_ref.as_deref() {
            let secret = known
                .entry(name.to_string())
                .or_insert_with(|| resolve(name));
            match secret {
                Ok(Some(secret)) => {
                    return Ok(Some(signature::sign(
                        secret.as_bytes(),
                        delivery.body.as_bytes(),
                    )));
                }
                Ok(None) => {}
                Err(detail) => {
                    if self.warned.insert(delivery.installation) {
                        warn_installation(
                            delivery.installation,
                            &format!("its signing secret cannot be read: {detail}"),
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
            );
        }
        Ok(None)
    }

    /// Hands committed claims to the threads.
    fn depart(&mut self, departures: Vec<Departure>) {
        let Some(sender) = &self.sender else {
            return;
        };
        for Departure { flight, request } in departures {
            self.next_tag += 1;
            self.lanes.started(flight.installation);
            self.body_bytes += flight.body_bytes;
            self.flights.insert(self.next_tag, flight);
            sender.submit(self.next_tag, request);
        }
    }
}

/// A receiver that answers is healthy, even when it refuses this delivery.
fn is_healthy(outcome: &Outcome) -> bool {
    match &outcome.result {
        Ok(_) => true,
        Err(Failure {
            kind: FailureKind::Status,
            status: Some(status),
            ..
        }) => *status < 500 && *status != 429,
        Err(_) => false,
    }
}

fn shorten(reason: String) -> String {
    reason.chars().take(500).collect()
}

/// A broken secret must not stop the others: it costs a subtransaction.
fn resolve(name: &str) -> Result<Option<Plaintext>, String> {
    match pg::guarded(|| secrets::by_name(name)) {
        Ok(Ok(secret)) => Ok(secret),
        Ok(Err(report)) => Err(report.message().to_string()),
        Err(message) => Err(message),
    }
}

fn warn_installation(installation: Uuid, reason: &str) {
    error::warn(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("plugin_webhooks: installation {installation}: {reason}"),
        "Set secret_ref of the installation to the name of an existing secret.",
    );
}

fn fencing_token() -> i64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: fills exactly eight bytes of a live buffer.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            "no randomness available from the operating system"
        );
    }
    i64::from_ne_bytes(bytes)
}

/// Locks the queue as any writer does, unless that would mean to wait for DDL.
fn lock_queue() -> bool {
    let Some(queue) = pg::relation(c"int", c"plugin_delivery_queue") else {
        return false;
    };
    // SAFETY: a lock of this transaction.
    unsafe {
        pg_sys::ConditionalLockRelationOid(queue, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE)
    }
}

/// The process to wake when an outcome arrives; threads may not ask PostgreSQL.
static MAIN_PROCESS: AtomicI32 = AtomicI32::new(0);

fn start_sender(config: &settings::Worker) -> Option<Sender> {
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
                Settings {
                    threads: config.max_in_flight,
                    allowed_networks: allowed_networks.clone(),
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
