//! Owns the way of a request through the threads: a [`Request`] goes in, an [`Outcome`] comes out.
//! Knows no database, no queue rows and no retry rules; never blocks its caller.

mod attempt;
mod config;
mod connector;
mod deadline;
mod pool;
mod resolver;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

pub use self::config::SenderConfig;
use self::{
    attempt::{Client, Exchange},
    pool::{Limits, Pool, lock, no_panic},
};
use crate::{
    failure::{Failure, FailureKind},
    request::Request,
};

/// A sender thread without work leaves after this time.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// The end of one attempt.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The 2xx status, or what went wrong.
    pub result: Result<u16, Failure>,
    /// The start of the response's body, at most 1 KiB, without control characters; `None` when it
    /// is empty or there is none.
    pub response: Option<String>,
    /// When a thread took the request.
    pub started: Instant,
    /// From then to the end of the attempt.
    pub duration: Duration,
}

/// Why a [`Sender`] could not start.
#[derive(Debug)]
pub enum StartError {
    /// `threads` is 0.
    NoThreads,
    /// `extra_ca_pem` holds no certificate or a broken one.
    BadCertificate(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoThreads => f.write_str("at least one sender thread is needed"),
            Self::BadCertificate(reason) => write!(f, "extra CA certificates: {reason}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running set of sender threads.
///
/// Dropping it drops the requests that no thread has taken yet and returns at once: a thread in
/// the middle of an attempt finishes it, whose outcome nobody receives, and leaves.
pub struct Sender {
    threads: usize,
    pool: Pool<(u64, Request)>,
    outcomes: Arc<Outcomes>,
}

impl Sender {
    /// Gets ready for up to `config.threads` threads, named `webhook-sender`.
    ///
    /// `notify` is called by one of them when the first outcome of an attempt that took no longer than
    /// `config.announced_within` becomes available after all earlier ones were taken: on each call
    /// take outcomes until there is none. It is called with no lock held.
    ///
    /// Threads, and those that they start for name lookups, inherit the signal mask of the caller of
    /// [`Sender::submit`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        config: SenderConfig,
        notify: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let client = Client::new(&config).map_err(StartError::BadCertificate)?;
        let within = config.announced_within;
        Self::with_attempt(config.threads, within, notify, move |request| {
            client.attempt(request)
        })
    }

    fn with_attempt(
        threads: usize,
        announced_within: Duration,
        notify: impl Fn() + Send + Sync + 'static,
        attempt: impl Fn(&Request) -> Exchange + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        if threads == 0 {
            return Err(StartError::NoThreads);
        }
        let outcomes = Arc::new(Outcomes {
            ended: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            announced_within,
            notify: Box::new(notify),
        });
        let limits = Limits {
            name: "webhook-sender",
            max_threads: threads,
            max_idle: MAX_IDLE,
        };
        let reports = Arc::clone(&outcomes);
        let pool = Pool::new(limits, move |(tag, request)| {
            let started = Instant::now();
            let exchange = no_panic(|| attempt(&request)).unwrap_or_else(|| {
                internal("internal error of the sender; see the server log".to_owned())
            });
            reports.report(tag, exchange.after(started));
        });
        Ok(Self {
            threads,
            pool,
            outcomes,
        })
    }

    /// Hands a request to the threads. Its outcome comes back with the same `tag`, which means
    /// nothing to the sender. Never blocks; without an idle thread, and with none to start, the
    /// request waits in a queue without bound, and its timeout starts when a thread takes it.
    pub fn submit(&self, tag: u64, request: Request) {
        self.outcomes.in_flight.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.pool.submit((tag, request)) {
            let message = format!("no thread can be started to send it: {}", error.kind());
            let exchange = internal(message);
            self.outcomes.report(tag, exchange.after(Instant::now()));
        }
    }

    /// Takes the next outcome, in the order in which attempts end. Never blocks.
    pub fn try_recv(&self) -> Option<(u64, Outcome)> {
        let mut ended = lock(&self.outcomes.ended);
        let outcome = ended.queue.pop_front();
        ended.announced &= !ended.queue.is_empty();
        drop(ended);
        let outcome = outcome?;
        self.outcomes.in_flight.fetch_sub(1, Ordering::Relaxed);
        Some(outcome)
    }

    /// Whether there are outcomes to take.
    pub fn has_outcomes(&self) -> bool {
        !lock(&self.outcomes.ended).queue.is_empty()
    }

    /// Requests submitted whose outcome was not received yet.
    pub fn in_flight(&self) -> usize {
        self.outcomes.in_flight.load(Ordering::Relaxed)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.outcomes.closed.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("threads", &self.threads)
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

/// What the threads have finished.
struct Outcomes {
    ended: Mutex<Ended>,
    /// Submitted and not received back.
    in_flight: AtomicUsize,
    /// Nobody will receive any more.
    closed: AtomicBool,
    announced_within: Duration,
    notify: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Ended {
    queue: VecDeque<(u64, Outcome)>,
    /// Whoever takes outcomes was told, and has not taken all since.
    announced: bool,
}

impl Outcomes {
    fn report(&self, tag: u64, outcome: Outcome) {
        let mut ended = lock(&self.ended);
        let announce = !ended.announced && outcome.duration <= self.announced_within;
        ended.announced |= announce;
        ended.queue.push_back((tag, outcome));
        drop(ended);
        if announce && !self.closed.load(Ordering::Relaxed) {
            no_panic(|| (self.notify)());
        }
    }
}

impl Exchange {
    fn after(self, started: Instant) -> Outcome {
        Outcome {
            result: self.result,
            response: self.response,
            started,
            duration: started.elapsed(),
        }
    }
}

/// No attempt could be made.
fn internal(message: String) -> Exchange {
    Exchange {
        result: Err(Failure {
            kind: FailureKind::Internal,
            status: None,
            message,
            retry_after: None,
        }),
        response: None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        sync::{Barrier, mpsc},
        thread,
    };

    use super::*;
    use crate::{address_policy::AllowedNetworks, endpoint::read_stored};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn request() -> Request {
        Request {
            delivery_id: String::new(),
            event_type: String::new(),
            body: String::new(),
            key: None,
            endpoint: read_stored(Some(r#"{"webhook_url": "https://a.example"}"#)).unwrap(),
        }
    }

    fn answer(status: u16) -> Exchange {
        Exchange {
            result: Ok(status),
            response: None,
        }
    }

    fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "the condition never came true");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_panic_becomes_an_outcome_and_the_thread_stays() {
        let (notify, notified) = mpsc::channel();
        let attempt = |_: &Request| panic!("a test's panic");
        let notify = move || notify.send(()).unwrap();
        let sender = Sender::with_attempt(1, Duration::MAX, notify, attempt).unwrap();
        for tag in 0..3 {
            sender.submit(tag, request());
            notified.recv_timeout(PATIENCE).unwrap();
            let (got, outcome) = sender.try_recv().unwrap();
            assert_eq!(got, tag);
            assert_eq!(outcome.result.unwrap_err().kind, FailureKind::Internal);
        }
        assert_eq!(sender.in_flight(), 0);
    }

    #[test]
    fn a_panic_in_notify_loses_nothing() {
        let notify = || panic!("a test's panic");
        let sender = Sender::with_attempt(1, Duration::MAX, notify, |_| answer(200)).unwrap();
        sender.submit(1, request());
        sender.submit(2, request());
        until(|| lock(&sender.outcomes.ended).queue.len() == 2);
        assert_eq!(sender.try_recv().unwrap().0, 1);
        assert_eq!(sender.try_recv().unwrap().0, 2);
    }

    #[test]
    fn a_slow_attempt_is_not_announced_and_hides_no_prompt_one() {
        let (notify, notified) = mpsc::channel();
        let notify = move || notify.send(()).unwrap();
        let limit = Duration::from_millis(500);
        let sender = Sender::with_attempt(2, limit, notify, move |request| {
            if request.body == "slow" {
                thread::sleep(limit + Duration::from_millis(1));
            }
            answer(200)
        });
        let sender = sender.unwrap();
        for round in 0..2 {
            let slow = Request {
                body: "slow".to_owned(),
                ..request()
            };
            sender.submit(round, slow);
            until(|| sender.has_outcomes());
            assert!(notified.try_recv().is_err());
            sender.submit(9, request());
            notified.recv_timeout(PATIENCE).unwrap();
            let tags: Vec<u64> = std::iter::from_fn(|| sender.try_recv())
                .map(|(tag, _)| tag)
                .collect();
            assert_eq!(tags, [round, 9]);
            assert!(!sender.has_outcomes());
        }
    }

    #[test]
    fn notifies_once_until_all_outcomes_were_taken() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let notify = move || {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        let sender = Sender::with_attempt(4, Duration::MAX, notify, |_| answer(204)).unwrap();
        for round in 1..=2 {
            for tag in 0..100 {
                sender.submit(tag, request());
            }
            until(|| lock(&sender.outcomes.ended).queue.len() == 100);
            until(|| calls.load(Ordering::SeqCst) == round);
            while sender.try_recv().is_some() {}
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert_eq!(sender.in_flight(), 0);
    }

    #[test]
    fn counts_what_is_submitted_running_and_received() {
        let gate = Arc::new(Barrier::new(3));
        let inside = Arc::clone(&gate);
        let attempt = move |_: &Request| {
            inside.wait();
            answer(200)
        };
        let sender = Sender::with_attempt(2, Duration::MAX, || (), attempt).unwrap();
        assert_eq!(sender.in_flight(), 0);
        sender.submit(1, request());
        sender.submit(2, request());
        assert_eq!(sender.in_flight(), 2);
        assert!(sender.try_recv().is_none());
        gate.wait();
        until(|| lock(&sender.outcomes.ended).queue.len() == 2);
        assert_eq!(sender.in_flight(), 2);
        until(|| sender.try_recv().is_some());
        until(|| sender.try_recv().is_some());
        assert_eq!(sender.in_flight(), 0);
    }

    #[test]
    fn what_ends_after_the_sender_is_dropped_is_not_announced() {
        let (release, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let attempt = move |_: &Request| {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = lock(&wait).recv_timeout(PATIENCE);
            answer(200)
        };
        let announced = Arc::new(AtomicBool::new(false));
        let announce = Arc::clone(&announced);
        let notify = move || announce.store(true, Ordering::SeqCst);
        let sender = Sender::with_attempt(2, Duration::MAX, notify, attempt).unwrap();
        (0..10).for_each(|tag| sender.submit(tag, request()));
        let outcomes = Arc::clone(&sender.outcomes);
        until(|| taken.load(Ordering::SeqCst) == 2);
        let start = Instant::now();
        drop(sender);
        assert!(start.elapsed() < Duration::from_secs(1));
        drop(release);
        until(|| Arc::strong_count(&outcomes) == 1);
        assert_eq!(lock(&outcomes.ended).queue.len(), 2);
        assert!(!announced.load(Ordering::SeqCst));
    }

    #[test]
    fn refuses_to_start_without_threads_or_with_bad_certificates() {
        let config = |threads, pem: &str| SenderConfig {
            threads,
            allowed_networks: AllowedNetworks::default(),
            show_internal_bodies: true,
            extra_ca_pem: Some(pem.as_bytes().to_vec()),
            connect_timeout: PATIENCE,
            announced_within: PATIENCE,
        };
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in ["", "nonsense", broken, "-----BEGIN CERTIFICATE-----\n!"] {
            let error = Sender::start(config(1, pem), || ()).unwrap_err();
            assert!(matches!(error, StartError::BadCertificate(_)), "{pem}");
        }
        let error = Sender::with_attempt(0, Duration::MAX, || (), |_| answer(200)).unwrap_err();
        assert!(matches!(error, StartError::NoThreads));
    }
}
