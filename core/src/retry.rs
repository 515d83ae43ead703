//! Owns the decision what follows an attempt: delivered, again later, or dead.
//! Never looks at a clock and never knows why an attempt failed.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// How often a delivery is tried and how long it rests in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Failed attempts after which a delivery is dead. Default 8. 0 counts as 1.
    pub max_attempts: u32,
    /// Rest after the first, second, … failure. The last entry repeats; with no entry at all the
    /// next attempt is due at once. Default 2, 4, 8, 16, 32, 64, 64 minutes.
    pub delays: Vec<Duration>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            max_attempts: 8,
            delays: [2, 4, 8, 16, 32, 64, 64].map(|n| MINUTE * n).to_vec(),
        }
    }
}

/// What follows one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The receiver answered 2xx.
    Delivered,
    /// Try again when `after` has passed.
    Retry {
        /// Time from the failure to the next attempt.
        after: Duration,
    },
    /// Never try again.
    Dead,
}

impl Schedule {
    /// The step after one attempt, of which `attempts_before` earlier ones failed.
    pub fn after_attempt(&self, delivered: bool, attempts_before: u32) -> Step {
        if delivered {
            Step::Delivered
        } else {
            self.after_failure(attempts_before)
        }
    }

    /// The step after a failed attempt, of which `attempts_before` earlier ones failed too.
    /// Never [`Step::Delivered`].
    pub fn after_failure(&self, attempts_before: u32) -> Step {
        if attempts_before.saturating_add(1) >= self.max_attempts {
            return Step::Dead;
        }
        let index = usize::try_from(attempts_before).unwrap_or(usize::MAX);
        let after = self
            .delays
            .get(index)
            .or(self.delays.last())
            .copied()
            .unwrap_or_default();
        Step::Retry { after }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rests_2_4_8_16_32_64_64_minutes_and_dies_at_the_8th_failure() {
        let schedule = Schedule::default();
        for (before, minutes) in (0..).zip([2, 4, 8, 16, 32, 64, 64]) {
            let after = MINUTE * minutes;
            assert_eq!(schedule.after_failure(before), Step::Retry { after });
        }
        assert_eq!(schedule.after_failure(7), Step::Dead);
    }

    #[test]
    fn a_success_is_delivered_at_any_attempt() {
        for before in [0, 7, u32::MAX] {
            let step = Schedule::default().after_attempt(true, before);
            assert_eq!(step, Step::Delivered);
        }
    }

    #[test]
    fn the_last_delay_repeats() {
        let schedule = Schedule {
            max_attempts: 100,
            delays: vec![MINUTE, MINUTE * 3],
        };
        let after = MINUTE * 3;
        assert_eq!(schedule.after_failure(98), Step::Retry { after });
    }

    #[test]
    fn no_delays_means_at_once() {
        let schedule = Schedule {
            max_attempts: 2,
            delays: Vec::new(),
        };
        let after = Duration::ZERO;
        assert_eq!(schedule.after_failure(0), Step::Retry { after });
    }

    proptest! {
        #[test]
        fn every_delivery_ends(max_attempts: u32, before: u32) {
            let schedule = Schedule { max_attempts, ..Schedule::default() };
            let dead = schedule.after_failure(before) == Step::Dead;
            prop_assert_eq!(dead, u64::from(before) + 1 >= u64::from(max_attempts));
        }
    }
}
