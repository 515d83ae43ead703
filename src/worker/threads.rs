//! The threads that send: started with the worker's settings, fed with requests, asked for outcomes.
//! What runs on them never calls into PostgreSQL.
#![expect(unsafe_code, reason = "signals and their mask")]

use std::sync::atomic::{AtomicI32, Ordering};

use plugin_webhooks_core::address_policy::AllowedNetworks;
use plugin_webhooks_core::limiter;
use plugin_webhooks_core::request::Request;
use plugin_webhooks_core::sender::{Outcome, Sender, SenderConfig};

use crate::error;
use crate::settings::WorkerSettings;

/// The process to wake when an outcome arrives; threads may not ask PostgreSQL.
static MAIN_PROCESS: AtomicI32 = AtomicI32::new(0);

/// The sender of the settings that hold, and those of earlier settings.
pub struct Threads {
    /// `None` when it could not be started.
    sender: Option<Sender>,
    /// Senders whose requests are still in flight.
    retired: Vec<Sender>,
}

impl Threads {
    pub fn start(settings: &WorkerSettings) -> Self {
        Self {
            sender: start_sender(settings),
            retired: Vec::new(),
        }
    }

    /// Takes over other settings. Requests in flight end under the old ones.
    pub fn restart(&mut self, settings: &WorkerSettings) {
        self.retired.extend(self.sender.take());
        self.sender = start_sender(settings);
    }

    pub fn can_send(&self) -> bool {
        self.sender.is_some()
    }

    /// Hands requests to the threads, each with a tag that comes back with its outcome.
    pub fn submit(&self, requests: Vec<(u64, Request)>) {
        let Some(sender) = &self.sender else {
            return;
        };
        // The sender may start a thread.
        with_signals_blocked(|| {
            for (tag, request) in requests {
                sender.submit(tag, request);
            }
        });
    }

    /// Whether outcomes have arrived. Those of slow requests wake nobody.
    pub fn has_outcomes(&self) -> bool {
        let mut senders = self.sender.iter().chain(&self.retired);
        senders.any(Sender::has_outcomes)
    }

    /// Takes the outcomes that have arrived.
    pub fn take_outcomes(&mut self) -> Vec<(u64, Outcome)> {
        let mut outcomes = Vec::new();
        for sender in self.sender.iter().chain(&self.retired) {
            outcomes.extend(std::iter::from_fn(|| sender.try_recv()));
        }
        self.retired.retain(|sender| sender.in_flight() > 0);
        outcomes
    }
}

fn start_sender(settings: &WorkerSettings) -> Option<Sender> {
    let allowed_networks =
        AllowedNetworks::parse(&settings.allowed_networks).unwrap_or_else(|error| {
            error::warn_setting(&format!(
                "plugin_webhooks.allowed_networks is ignored: {error}"
            ));
            AllowedNetworks::default()
        });
    let extra_ca_pem = settings.ca_file.as_ref().and_then(|path| {
        std::fs::read(path)
            .map_err(|error| {
                error::warn_setting(&format!(
                    "plugin_webhooks.ca_file {} is ignored: {error}",
                    path.display()
                ));
            })
            .ok()
    });
    MAIN_PROCESS.store(std::process::id().cast_signed(), Ordering::Relaxed);
    let start = |extra_ca_pem| {
        with_signals_blocked(|| {
            Sender::start(
                SenderConfig {
                    threads: settings.bounds.all_in_flight(),
                    allowed_networks: allowed_networks.clone(),
                    show_internal_bodies: settings.show_internal_bodies,
                    extra_ca_pem,
                    connect_timeout: settings.connect_timeout,
                    announced_within: limiter::SLOW_AFTER,
                },
                wake_main_thread,
            )
        })
    };
    let has_ca = extra_ca_pem.is_some();
    match start(extra_ca_pem) {
        Ok(sender) => Some(sender),
        Err(error) => {
            error::warn_setting(&format!("requests cannot be sent: {error}"));
            if has_ca { start(None).ok() } else { None }
        }
    }
}

/// SIGUSR1 is PostgreSQL's own "look at your latch"; only the main thread takes signals.
fn wake_main_thread() {
    // SAFETY: a signal to the own process, which PostgreSQL gave a handler for it when it became a worker.
    unsafe { libc::kill(MAIN_PROCESS.load(Ordering::Relaxed), libc::SIGUSR1) };
}

/// Threads inherit the signal mask: PostgreSQL's handlers must run on the main thread only.
fn with_signals_blocked<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: both masks are local, and the calls fill them before they are read.
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
