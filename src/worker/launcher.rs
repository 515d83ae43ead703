//! The launcher of a preloaded server: keeps one worker in each database that has the extension.
//! It is connected to no database, so it holds up neither DROP DATABASE nor CREATE DATABASE.
#![expect(unsafe_code, reason = "an entry point by name")]

use std::collections::HashMap;
use std::mem;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::connection::connect_without_database;
use super::latch::{self, Woken};
use super::lock::worker_is_running;
use super::registration::{Handle, register_worker};
use super::transaction;
use crate::{error, pg};

/// A worker that left earlier found no extension, or an error.
const SHORT_LIFE: Duration = Duration::from_secs(5);
/// How long after a worker's end the next one starts; doubled after each short life in a row, up to the
/// longest: so often a database without the extension is looked at. CREATE EXTENSION ends every delay.
const DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the launcher knows of one database.
struct Served {
    worker: Option<(Handle, Instant)>,
    not_before: Instant,
    short_lives: u32,
    /// The launcher was woken while a worker ran that may have looked too early.
    look_again: bool,
}

impl Served {
    fn is_running(&mut self, now: Instant) -> bool {
        let Some((_, since)) = self.worker.take_if(|(handle, _)| handle.is_stopped()) else {
            return self.worker.is_some();
        };
        self.short_lives = if now.duration_since(since) < SHORT_LIFE {
            self.short_lives.saturating_add(1)
        } else {
            0
        };
        let delay = if mem::take(&mut self.look_again) {
            Duration::ZERO
        } else {
            (DELAY * 2_u32.saturating_pow(self.short_lives.min(10))).min(LONGEST_DELAY)
        };
        self.not_before = now + delay;
        false
    }
}

/// One look: starts what is missing.
fn look(served: &mut HashMap<pg_sys::Oid, Served>, warned: &mut Option<Instant>) {
    let found = transaction::run(c"looking for databases to serve", || {
        // The processor, or a launcher before this one, may have started a worker too.
        let with_worker = |oid| (oid, worker_is_running(oid));
        pg::databases().into_iter().map(with_worker).collect()
    });
    let Ok::<HashMap<_, _>, _>(databases) = found else {
        return;
    };
    served.retain(|oid, _| databases.contains_key(oid));
    let now = Instant::now();
    for (oid, has_worker) in databases {
        let database = served.entry(oid).or_insert_with(|| Served {
            worker: None,
            not_before: now,
            short_lives: 0,
            look_again: false,
        });
        if database.is_running(now) || has_worker || now < database.not_before {
            continue;
        }
        match register_worker(oid) {
            Some(handle) => database.worker = Some((handle, now)),
            None if warned.is_none_or(|at| now.duration_since(at) >= LONGEST_DELAY) => {
                *warned = Some(now);
                error::warn(
                    PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
                    "plugin_webhooks: no background worker can be started, deliveries wait",
                    "Raise max_worker_processes (needs a restart): one for the launcher and one for each database.",
                );
            }
            None => {}
        }
    }
}

/// Entry point of the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn plugin_webhooks_launcher_main(_arg: pg_sys::Datum) {
    latch::set_up_signals();
    connect_without_database();
    let mut served = HashMap::new();
    let mut warned = None;
    loop {
        look(&mut served, &mut warned);
        if latch::wait(LOOK_EVERY) == Woken::Latch {
            // CREATE EXTENSION somewhere, or new settings: no database waits for its next look.
            let now = Instant::now();
            for database in served.values_mut() {
                if database.is_running(now) {
                    database.look_again = true;
                } else {
                    database.not_before = now;
                }
            }
        }
    }
}
