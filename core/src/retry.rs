//! Owns the decision what follows a failed attempt: again later, or never.
//! Never looks at a clock, never rolls dice, and never writes what it decides.

use std::{ffi::CStr, time::Duration};

use crate::excerpt::excerpt;

/// The delays of [`Schedule::default`], as PostgreSQL takes the default of a setting.
pub const DEFAULT_DELAYS: &CStr = c"2min, 4min, 8min, 16min, 32min, 64min, 64min";
/// Largest number of delays in a schedule.
pub const MAX_DELAYS: usize = 20;
/// Shortest delay in a schedule.
pub const MIN_DELAY: Duration = Duration::from_secs(1);
/// Longest delay in a schedule: a week.
pub const MAX_DELAY: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longest `Retry-After` that is honoured; a longer one counts as this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest backoff of a whole installation after one answer, [`Answer::backoff`].
pub const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);

/// A delay is up to this part shorter or longer than scheduled, so that deliveries that failed
/// together do not come back together.
const JITTER: f64 = 0.1;

/// The delays after the first, second, … failure of a delivery. The failure after the last one is
/// final, so there is one more attempt than delays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    delays: Vec<Duration>,
}

/// [`DEFAULT_DELAYS`]: dead at the 8th failure.
impl Default for Schedule {
    fn default() -> Self {
        let delays = DEFAULT_DELAYS.to_str().expect("the default is ASCII");
        Self::parse(delays).expect("the default is a legal setting")
    }
}

/// What a failed attempt got from the receiver, as far as the next step depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, when one arrived.
    pub status: Option<u16>,
    /// How long the receiver asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// How long nothing is sent to the whole installation, not only for this delivery: `None` unless
    /// the receiver says that it is overloaded (429, 503).
    ///
    /// That is the `Retry-After` of the answer, at least [`MIN_DELAY`], which also stands for a
    /// missing one, and at most [`MAX_BACKOFF`]: one answer must not silence an installation for a
    /// day.
    pub fn backoff(self) -> Option<Duration> {
        matches!(self.status, Some(429 | 503)).then(|| {
            self.retry_after
                .unwrap_or_default()
                .clamp(MIN_DELAY, MAX_BACKOFF)
        })
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Try again when `after` has passed.
    Retry {
        /// Time from the failure to the next attempt.
        after: Duration,
    },
    /// Never try again.
    Dead,
}

impl Schedule {
    /// The schedule of exactly these delays. Without any, the first failure is final.
    pub fn new(delays: Vec<Duration>) -> Self {
        Self { delays }
    }

    /// Reads the delays of a setting such as [`DEFAULT_DELAYS`]: 1 to [`MAX_DELAYS`] of them
    /// between commas, each a whole number with unit `s`, `min`, `h` or `d` (none means seconds),
    /// from [`MIN_DELAY`] to [`MAX_DELAY`].
    ///
    /// # Errors
    /// A sentence that names the first entry that breaks a rule.
    pub fn parse(list: &str) -> Result<Self, String> {
        let delays = list
            .split(',')
            .map(|entry| parse_delay(entry.trim()))
            .collect::<Result<Vec<_>, _>>()?;
        if delays.len() > MAX_DELAYS {
            return Err(format!("the list has more than {MAX_DELAYS} delays"));
        }
        Ok(Self { delays })
    }

    /// The step after a failed attempt, when `failures` earlier ones failed too.
    ///
    /// - 410 (gone) ends the delivery.
    /// - The delay is the schedule's, up to 10 % shorter or longer.
    /// - `Retry-After` prolongs it, up to [`MAX_RETRY_AFTER`], and is then exceeded by up to 10 %.
    ///   It never shortens it: a receiver that asks for one second eight times would otherwise end
    ///   a delivery in eight seconds that the schedule keeps for hours.
    ///
    /// `chance` is a random number from 0 (inclusive) to 1 (exclusive) that decides about these
    /// 10 %; anything else counts as one half, which means exactly on schedule.
    pub fn after_failure(&self, failures: u32, answer: Answer, chance: f64) -> Step {
        let index = usize::try_from(failures).unwrap_or(usize::MAX);
        let Some(&delay) = self
            .delays
            .get(index)
            .filter(|_| answer.status != Some(410))
        else {
            return Step::Dead;
        };
        let chance = if (0.0..1.0).contains(&chance) {
            chance
        } else {
            0.5
        };
        let scheduled = scaled(delay, 1.0 + JITTER * (2.0 * chance - 1.0));
        let asked = answer.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        Step::Retry {
            after: scheduled.max(scaled(asked, 1.0 + JITTER * chance)),
        }
    }
}

/// `factor` is near 1. A duration that no clock can reach stays as it is.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(duration)
}

fn parse_delay(entry: &str) -> Result<Duration, String> {
    if entry.is_empty() {
        return Err("the list has an empty entry".to_owned());
    }
    let digits = entry.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = entry.split_at(digits);
    let unit = match unit.trim() {
        "" | "s" => 1,
        "min" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => 0,
    };
    if number.is_empty() || unit == 0 {
        return Err(format!(
            "\"{}\" is not a delay like 30s, 2min, 1h or 1d",
            excerpt(entry)
        ));
    }
    // A number that does not even fit is out of range as well.
    let seconds = number.parse().unwrap_or(u64::MAX);
    let delay = Duration::from_secs(seconds.saturating_mul(unit));
    if (MIN_DELAY..=MAX_DELAY).contains(&delay) {
        Ok(delay)
    } else {
        Err(format!("\"{}\" is not between 1s and 7d", excerpt(entry)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOTHING: Answer = Answer {
        status: None,
        retry_after: None,
    };
    const ON_SCHEDULE: f64 = 0.5;
    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn answer(status: u16, retry_after: u64) -> Answer {
        Answer {
            status: Some(status),
            retry_after: Some(Duration::from_secs(retry_after)),
        }
    }

    #[test]
    fn waits_2_4_8_16_32_64_64_minutes_and_dies_at_the_8th_failure() {
        let schedule = Schedule::default();
        for (before, minutes) in (0..).zip([2, 4, 8, 16, 32, 64, 64]) {
            let after = MINUTE * minutes;
            let step = schedule.after_failure(before, NOTHING, ON_SCHEDULE);
            assert_eq!(step, Step::Retry { after });
        }
        let step = schedule.after_failure(7, NOTHING, ON_SCHEDULE);
        assert_eq!(step, Step::Dead);
    }

    #[test]
    fn chance_moves_a_delay_by_at_most_a_tenth() {
        let schedule = Schedule::default();
        for (chance, seconds) in [(0.0, 108), (0.25, 114), (0.5, 120), (0.75, 126)] {
            let after = Duration::from_secs(seconds);
            let step = schedule.after_failure(0, NOTHING, chance);
            assert_eq!(step, Step::Retry { after }, "{chance}");
        }
        for chance in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            let step = schedule.after_failure(0, NOTHING, chance);
            assert_eq!(step, Step::Retry { after: MINUTE * 2 }, "{chance}");
        }
    }

    #[test]
    fn retry_after_prolongs_a_delay_up_to_a_day_and_never_shortens_it() {
        let schedule = Schedule::default();
        let day = 24 * 60 * 60;
        let cases = [
            (0, 0.0, 108),
            (1, 0.5, 120),
            (119, 0.0, 119),
            (600, 0.0, 600),
            (600, 0.5, 630),
            (day, 0.0, day),
            (day + 1, 0.0, day),
            (u64::MAX, 0.5, day + day / 20),
        ];
        for (asked, chance, seconds) in cases {
            for status in [301, 404, 429, 500, 503] {
                let after = Duration::from_secs(seconds);
                let step = schedule.after_failure(0, answer(status, asked), chance);
                assert_eq!(step, Step::Retry { after }, "{asked} {chance}");
            }
        }
        // It does not add attempts.
        assert_eq!(schedule.after_failure(7, answer(503, 600), 0.5), Step::Dead);
    }

    #[test]
    fn gone_is_the_end() {
        for before in [0, 3, u32::MAX] {
            let step = Schedule::default().after_failure(before, answer(410, 60), 0.1);
            assert_eq!(step, Step::Dead);
        }
    }

    #[test]
    fn overload_slows_the_whole_installation() {
        let backoff = |status, retry_after: Option<u64>| {
            Answer {
                status,
                retry_after: retry_after.map(Duration::from_secs),
            }
            .backoff()
        };
        for status in [429, 503] {
            assert_eq!(backoff(Some(status), None), Some(SECOND));
            assert_eq!(backoff(Some(status), Some(0)), Some(SECOND));
            assert_eq!(backoff(Some(status), Some(90)), Some(SECOND * 90));
            assert_eq!(backoff(Some(status), Some(86_400)), Some(SECOND * 3_600));
        }
        for status in [None, Some(200), Some(404), Some(410), Some(500), Some(502)] {
            assert_eq!(backoff(status, Some(90)), None, "{status:?}");
        }
    }

    #[test]
    fn there_is_one_more_attempt_than_delays() {
        for delays in [vec![], vec![MINUTE], vec![MINUTE, MINUTE * 3]] {
            let schedule = Schedule::new(delays.clone());
            for (before, after) in (0..).zip(&delays) {
                let step = schedule.after_failure(before, NOTHING, ON_SCHEDULE);
                assert_eq!(step, Step::Retry { after: *after });
            }
            let last = u32::try_from(delays.len()).unwrap();
            let step = schedule.after_failure(last, NOTHING, ON_SCHEDULE);
            assert_eq!(step, Step::Dead);
        }
    }

    #[test]
    fn reads_delays_with_units() {
        let schedule = Schedule::parse(" 1 , 2s,3 min,\t1h, 7d , 604800").unwrap();
        let seconds = [1, 2, 180, 3_600, 604_800, 604_800];
        assert_eq!(schedule.delays, seconds.map(Duration::from_secs));
    }

    #[test]
    fn names_the_bad_delay() {
        let out_of_range = "is not between 1s and 7d";
        let malformed = "is not a delay like 30s, 2min, 1h or 1d";
        let bad = [
            ("0", out_of_range),
            ("0min", out_of_range),
            ("8d", out_of_range),
            ("604801", out_of_range),
            ("99999999999999999999d", out_of_range),
            ("9223372036854775807d", out_of_range),
            ("-1s", malformed),
            ("+1s", malformed),
            ("1.5h", malformed),
            ("s", malformed),
            ("min", malformed),
            ("2 minutes", malformed),
            ("2m", malformed),
            ("2MIN", malformed),
            ("2min 4min", malformed),
            ("１min", malformed),
            ("soon", malformed),
        ];
        for (entry, reason) in bad {
            let error = Schedule::parse(&format!("2min, {entry}")).unwrap_err();
            assert_eq!(error, format!("\"{entry}\" {reason}"));
        }
        for list in ["", " ", ",", "2min,", ",2min", "2min,,4min"] {
            let error = Schedule::parse(list).unwrap_err();
            assert!(error.contains("empty"), "{list}: {error}");
        }
        let delays = |n| vec!["1s"; n].join(",");
        assert!(Schedule::parse(&delays(MAX_DELAYS)).is_ok());
        assert!(Schedule::parse(&delays(MAX_DELAYS + 1)).is_err());
    }

    proptest! {
        #[test]
        fn every_delivery_ends(delays in 0..2 * MAX_DELAYS, before: u32) {
            let schedule = Schedule::new(vec![MINUTE; delays]);
            let dead = schedule.after_failure(before, NOTHING, 0.3) == Step::Dead;
            prop_assert_eq!(dead, before as usize >= delays);
        }

        #[test]
        fn never_earlier_than_asked_nor_a_tenth_before_its_time(
            delay in 0..10_000_000_u64, asked in 0..200_000_u64, chance in 0.0..1.0
        ) {
            let schedule = Schedule::new(vec![Duration::from_secs(delay)]);
            let Step::Retry { after } = schedule.after_failure(0, answer(429, asked), chance) else {
                panic!("the first failure of two is not the end");
            };
            let after = after.as_secs_f64();
            let (delay, asked) = (delay as f64, asked.min(86_400) as f64);
            prop_assert!(after >= asked && after >= delay * 0.9 - 1e-6);
            prop_assert!(after <= delay.max(asked) * 1.1 + 1e-6);
        }

        #[test]
        fn any_schedule_any_chance_no_panic(secs: u64, nanos in 0..1_000_000_000_u32, chance: f64) {
            let delay = Duration::new(secs, nanos);
            let _ = Schedule::new(vec![delay]).after_failure(0, NOTHING, chance);
            let _ = Schedule::parse(&delay.as_secs().to_string());
        }
    }
}
