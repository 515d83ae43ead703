//! Owns the threads that speak HTTP: a [`Request`] goes in, an [`Outcome`] comes out.
//! Knows no database, no queue rows and no retry rules; never blocks its caller.

mod attempt;
mod config;
mod connector;
mod resolver;

use std::{
    collections::VecDeque,
    fmt, mem,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use self::attempt::{Client, Exchange};
pub use self::config::SenderConfig;
use crate::{
    failure::{Failure, FailureKind},
    request::Request,
};

/// A thread without work leaves after this time.
const IDLE: Duration = Duration::from_secs(30);
/// Stack of a sender thread. Measured: a debug build needs between 64 and 128 KiB for TLS.
const STACK: usize = 512 * 1024;

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
    shared: Arc<Shared>,
}

impl Sender {
    /// Gets ready for up to `config.threads` threads, named `webhook-sender`.
    ///
    /// `notify` is called by one of them when the first outcome becomes available after all
    /// earlier ones were taken: on each call take outcomes until there is none. It is called with
    /// no lock held.
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
        Self::with_attempt(config.threads, notify, move |request| {
            client.attempt(request)
        })
    }

    fn with_attempt(
        threads: usize,
        notify: impl Fn() + Send + Sync + 'static,
        attempt: impl Fn(&Request) -> Exchange + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        if threads == 0 {
            return Err(StartError::NoThreads);
        }
        Ok(Self {
            shared: Arc::new(Shared {
                jobs: Mutex::default(),
                queued: Condvar::new(),
                outcomes: Mutex::default(),
                in_flight: AtomicUsize::new(0),
                threads,
                notify: Box::new(notify),
                attempt: Box::new(attempt),
            }),
        })
    }

    /// Hands a request to the threads. Its outcome comes back with the same `tag`, which means
    /// nothing to the sender. Never blocks; without an idle thread, and with none to start, the
    /// request waits in a queue without bound, and its timeout starts when a thread takes it.
    pub fn submit(&self, tag: u64, request: Request) {
        self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut jobs = lock(&self.shared.jobs);
        jobs.queue.push_back((tag, request));
        if jobs.queue.len() > jobs.idle && jobs.threads < self.shared.threads {
            match self.shared.spawn() {
                Ok(()) => jobs.threads += 1,
                // The threads that run will take it. Without one, it fails.
                Err(_) if jobs.threads > 0 => {}
                Err(error) => {
                    jobs.queue.pop_back();
                    drop(jobs);
                    let message = format!("no thread can be started to send it: {}", error.kind());
                    return self
                        .shared
                        .report(tag, internal(message).after(Instant::now()));
                }
            }
        }
        drop(jobs);
        self.shared.queued.notify_one();
    }

    /// Takes the next outcome, in the order in which attempts end. Never blocks.
    pub fn try_recv(&self) -> Option<(u64, Outcome)> {
        let outcome = lock(&self.shared.outcomes).pop_front()?;
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        Some(outcome)
    }

    /// Requests submitted whose outcome was not received yet.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut jobs = lock(&self.shared.jobs);
        jobs.closed = true;
        jobs.queue.clear();
        drop(jobs);
        self.shared.queued.notify_all();
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("threads", &self.shared.threads)
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

type Attempt = dyn Fn(&Request) -> Exchange + Send + Sync;

struct Shared {
    jobs: Mutex<Jobs>,
    queued: Condvar,
    outcomes: Mutex<VecDeque<(u64, Outcome)>>,
    /// Submitted and not received back.
    in_flight: AtomicUsize,
    threads: usize,
    notify: Box<dyn Fn() + Send + Sync>,
    attempt: Box<Attempt>,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<(u64, Request)>,
    closed: bool,
    /// Threads that run, and how many of them wait for a job.
    threads: usize,
    idle: usize,
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

impl Shared {
    fn spawn(self: &Arc<Self>) -> std::io::Result<()> {
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name("webhook-sender".to_owned())
            .stack_size(STACK)
            .spawn(move || shared.run())
            .map(drop)
    }

    fn run(&self) {
        while let Some((tag, request)) = self.next_job() {
            let started = Instant::now();
            let answer = no_panic(|| (self.attempt)(&request)).unwrap_or_else(|| {
                internal("internal error of the sender; see the server log".to_owned())
            });
            self.report(tag, answer.after(started));
        }
    }

    /// Waits for a job; `None` when this thread is to leave.
    fn next_job(&self) -> Option<(u64, Request)> {
        let mut jobs = lock(&self.jobs);
        let idle_since = Instant::now();
        loop {
            if let Some(job) = jobs.queue.pop_front() {
                return Some(job);
            }
            let Some(patience) = IDLE
                .checked_sub(idle_since.elapsed())
                .filter(|_| !jobs.closed)
            else {
                jobs.threads -= 1;
                return None;
            };
            jobs.idle += 1;
            jobs = self
                .queued
                .wait_timeout(jobs, patience)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            jobs.idle -= 1;
        }
    }

    fn report(&self, tag: u64, outcome: Outcome) {
        let mut outcomes = lock(&self.outcomes);
        let first = outcomes.is_empty();
        outcomes.push_back((tag, outcome));
        drop(outcomes);
        if first && !lock(&self.jobs).closed {
            no_panic(|| (self.notify)());
        }
    }
}

/// `None` when `f` panicked: no thread ends by that.
fn no_panic<T>(f: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(f))
        // A payload may panic again when it is dropped.
        .map_err(mem::forget)
        .ok()
}

/// Nothing under these locks panics half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Barrier, mpsc};

    use super::*;
    use crate::{address_policy::AllowedNetworks, endpoint::read_stored};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn request() -> Request {
        Request {
            delivery_id: String::new(),
            event_type: String::new(),
            body: String::new(),
            signature: None,
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
        let sender = Sender::with_attempt(1, notify, attempt).unwrap();
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
        let sender = Sender::with_attempt(1, notify, |_| answer(200)).unwrap();
        sender.submit(1, request());
        sender.submit(2, request());
        until(|| lock(&sender.shared.outcomes).len() == 2);
        assert_eq!(sender.try_recv().unwrap().0, 1);
        assert_eq!(sender.try_recv().unwrap().0, 2);
    }

    #[test]
    fn notifies_once_until_all_outcomes_were_taken() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let notify = move || {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        let sender = Sender::with_attempt(4, notify, |_| answer(204)).unwrap();
        for round in 1..=2 {
            for tag in 0..100 {
                sender.submit(tag, request());
            }
            until(|| lock(&sender.shared.outcomes).len() == 100);
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
        let sender = Sender::with_attempt(2, || (), attempt).unwrap();
        assert_eq!(sender.in_flight(), 0);
        sender.submit(1, request());
        sender.submit(2, request());
        assert_eq!(sender.in_flight(), 2);
        assert!(sender.try_recv().is_none());
        gate.wait();
        until(|| lock(&sender.shared.outcomes).len() == 2);
        assert_eq!(sender.in_flight(), 2);
        until(|| sender.try_recv().is_some());
        until(|| sender.try_recv().is_some());
        assert_eq!(sender.in_flight(), 0);
    }

    #[test]
    fn threads_start_when_they_are_needed_and_no_more_than_allowed() {
        let (release, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let attempt = move |_: &Request| {
            let _ = lock(&wait).recv_timeout(PATIENCE);
            answer(200)
        };
        let sender = Sender::with_attempt(3, || (), attempt).unwrap();
        let threads = || lock(&sender.shared.jobs).threads;
        assert_eq!(threads(), 0);
        for started in [1, 2, 3, 3, 3] {
            sender.submit(0, request());
            assert_eq!(threads(), started);
        }
        (0..5).for_each(|_| release.send(()).unwrap());
        until(|| lock(&sender.shared.outcomes).len() == 5);
        until(|| lock(&sender.shared.jobs).idle == 3);
        sender.submit(0, request());
        assert_eq!(threads(), 3, "an idle thread takes it");
    }

    #[test]
    fn dropping_waits_for_nobody_and_sends_the_threads_home() {
        let (release, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let attempt = move |_: &Request| {
            let _ = lock(&wait).recv_timeout(PATIENCE);
            answer(200)
        };
        let sender = Sender::with_attempt(2, || (), attempt).unwrap();
        for tag in 0..10 {
            sender.submit(tag, request());
        }
        let shared = Arc::downgrade(&sender.shared);
        until(|| lock(&sender.shared.jobs).queue.len() == 8);
        let start = Instant::now();
        drop(sender);
        assert!(start.elapsed() < Duration::from_secs(1));
        drop(release);
        until(|| shared.strong_count() == 0);
    }

    #[test]
    fn refuses_to_start_without_threads_or_with_bad_certificates() {
        let config = |threads, pem: &str| SenderConfig {
            threads,
            allowed_networks: AllowedNetworks::default(),
            show_internal_bodies: true,
            extra_ca_pem: Some(pem.as_bytes().to_vec()),
            connect_timeout: PATIENCE,
        };
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in ["", "nonsense", broken, "-----BEGIN CERTIFICATE-----\n!"] {
            let error = Sender::start(config(1, pem), || ()).unwrap_err();
            assert!(matches!(error, StartError::BadCertificate(_)), "{pem}");
        }
        let error = Sender::with_attempt(0, || (), |_| answer(200)).unwrap_err();
        assert!(matches!(error, StartError::NoThreads));
    }
}
