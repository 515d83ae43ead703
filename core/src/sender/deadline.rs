//! When an operation has to end. The clock decides, never the sum of the timeouts of its steps.

use std::{
    io,
    time::{Duration, Instant},
};

use ureq::unversioned::transport::NextTimeout;

use crate::endpoint::MAX_TIMEOUT;

/// The moment at which `timeout` ends.
pub(super) fn deadline(timeout: NextTimeout) -> Instant {
    // Without a limit ureq says u64::MAX seconds, which no clock can reach.
    Instant::now() + (*timeout.after).min(MAX_TIMEOUT)
}

/// What is left until then; an error of kind `TimedOut` when nothing is.
pub(super) fn time_left(deadline: Instant) -> io::Result<Duration> {
    deadline
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
        .ok_or_else(|| io::ErrorKind::TimedOut.into())
}
