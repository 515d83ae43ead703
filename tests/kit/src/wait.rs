//! Waiting for a condition with a deadline: the only way in which a test waits.

use std::thread;
use std::time::{Duration, Instant};

pub(crate) const POLL_EVERY: Duration = Duration::from_millis(5);

/// Polls `condition` every 5 ms and returns how long it took to hold.
///
/// # Panics
/// When `deadline` has passed; the message says `what` was waited for.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    loop {
        if condition() {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < deadline,
            "waited {deadline:?} in vain for: {what}"
        );
        thread::sleep(POLL_EVERY);
    }
}
