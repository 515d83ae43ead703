//! Owns how much of the sending each installation may use: a window of requests in flight that grows
//! with answers and shrinks with failures, and a backoff from receivers in trouble. Pure bookkeeping
//! of one worker, forgotten when it ends; never reads a clock.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// The window of an installation that nothing is known of: a receiver that never answers holds no
/// more threads than this before it is found out.
const FIRST_WINDOW: usize = 4;
/// After this many failures without an answer the receiver is probed: one request, then a backoff.
const TROUBLED_AFTER: u32 = 3;
/// The backoff after that; it doubles with each further failure, up to [`Bounds::longest_backoff`].
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// What the settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The largest window.
    pub window: usize,
    /// The longest time between two probes.
    pub longest_backoff: Duration,
}

/// What an attempt says of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered, whatever it said about this delivery.
    Answers,
    /// It did not answer, or with a server error.
    Fails,
    /// It asked for fewer requests (429, 503), perhaps for how long.
    Overloaded(Option<Duration>),
}

#[derive(Debug)]
struct Receiver {
    in_flight: usize,
    window: usize,
    failures: u32,
    /// In trouble: nothing is sent before this.
    backoff_until: Option<Instant>,
}

/// The receivers of all installations that have requests in flight or are in trouble.
#[derive(Debug)]
pub struct Limiter<K> {
    receivers: HashMap<K, Receiver>,
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self {
            receivers: HashMap::new(),
        }
    }
}

/// How many more requests each installation may have in flight.
#[derive(Clone, Debug)]
pub struct Permits<K> {
    listed: HashMap<K, usize>,
    unlisted: usize,
}

impl<K: Copy + Eq + Hash> Permits<K> {
    /// The permits of each installation that [`Permits::listed`] does not name.
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// Installations with a number of permits of their own, and that number.
    pub fn listed(&self) -> impl Iterator<Item = (K, usize)> {
        self.listed
            .iter()
            .map(|(installation, permits)| (*installation, *permits))
    }

    /// The permits of one installation.
    pub fn of(&self, installation: K) -> usize {
        let listed = self.listed.get(&installation).copied();
        listed.unwrap_or(self.unlisted)
    }

    /// Takes one permit.
    pub fn take(&mut self, installation: K) {
        let permits = self.listed.entry(installation).or_insert(self.unlisted);
        *permits = permits.saturating_sub(1);
    }
}

fn first_window(bounds: Bounds) -> usize {
    FIRST_WINDOW.min(bounds.window)
}

impl<K: Copy + Eq + Hash> Limiter<K> {
    /// A request of the installation went out.
    pub fn started(&mut self, installation: K, bounds: Bounds) {
        let receiver = self
            .receivers
            .entry(installation)
            .or_insert_with(|| Receiver {
                in_flight: 0,
                window: first_window(bounds),
                failures: 0,
                backoff_until: None,
            });
        receiver.in_flight += 1;
    }

    /// A request of the installation came back.
    pub fn finished(&mut self, installation: K, verdict: Verdict, now: Instant, bounds: Bounds) {
        let Some(receiver) = self.receivers.get_mut(&installation) else {
            return;
        };
        receiver.in_flight = receiver.in_flight.saturating_sub(1);
        match verdict {
            Verdict::Answers => {
                receiver.failures = 0;
                receiver.backoff_until = None;
                receiver.window = (receiver.window + 1).min(bounds.window);
            }
            Verdict::Fails => {
                receiver.failures = receiver.failures.saturating_add(1);
                receiver.window = (receiver.window / 2).max(1);
                if receiver.failures >= TROUBLED_AFTER {
                    receiver.window = 1;
                    receiver.back_off(now, receiver.growing_backoff(bounds));
                }
            }
            Verdict::Overloaded(wish) => {
                receiver.failures = receiver.failures.max(TROUBLED_AFTER - 1) + 1;
                receiver.window = 1;
                let backoff = receiver.growing_backoff(bounds);
                receiver.back_off(now, wish.map_or(backoff, |wish| wish.max(backoff)));
            }
        }
        if receiver.in_flight == 0 && receiver.failures == 0 {
            self.receivers.remove(&installation);
        }
    }

    /// How many more requests each installation may have in flight now.
    pub fn permits(&self, now: Instant, bounds: Bounds) -> Permits<K> {
        let permits = |receiver: &Receiver| {
            if receiver.is_in_backoff(now) {
                0
            } else {
                receiver.window.saturating_sub(receiver.in_flight)
            }
        };
        let receivers = self.receivers.iter();
        Permits {
            listed: receivers.map(|(k, r)| (*k, permits(r))).collect(),
            unlisted: first_window(bounds),
        }
    }

    /// How long until the next backoff ends, if there is one.
    pub fn next_probe(&self, now: Instant) -> Option<Duration> {
        self.receivers
            .values()
            .filter(|receiver| receiver.is_in_backoff(now))
            .filter_map(|receiver| receiver.backoff_until)
            .min()
            .map(|until| until.saturating_duration_since(now))
    }

    /// Forgets receivers whose trouble ended so long ago that they may start afresh.
    pub fn forget(&mut self, now: Instant, after: Duration) {
        self.receivers.retain(|_, receiver| {
            receiver.in_flight > 0
                || receiver
                    .backoff_until
                    .is_none_or(|until| now < until + after)
        });
    }
}

impl Receiver {
    fn is_in_backoff(&self, now: Instant) -> bool {
        self.backoff_until.is_some_and(|until| now < until)
    }

    fn growing_backoff(&self, bounds: Bounds) -> Duration {
        let doublings = self.failures.saturating_sub(TROUBLED_AFTER).min(16);
        (FIRST_BACKOFF * 2_u32.pow(doublings)).min(bounds.longest_backoff)
    }

    /// A backoff never ends earlier than one that was promised before.
    fn back_off(&mut self, now: Instant, length: Duration) {
        self.backoff_until = self.backoff_until.max(Some(now + length));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        window: 16,
        longest_backoff: Duration::from_secs(60),
    };

    struct Bench {
        limiter: Limiter<u8>,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                limiter: Limiter::default(),
                now: Instant::now(),
            }
        }

        fn permits(&self, installation: u8) -> usize {
            self.limiter.permits(self.now, BOUNDS).of(installation)
        }

        /// Uses all permits, and ends all of these requests.
        fn round(&mut self, installation: u8, verdict: Verdict) -> usize {
            let permits = self.permits(installation);
            (0..permits).for_each(|_| self.limiter.started(installation, BOUNDS));
            (0..permits).for_each(|_| {
                self.limiter
                    .finished(installation, verdict, self.now, BOUNDS)
            });
            permits
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }
    }

    #[test]
    fn a_new_installation_starts_small_and_grows_with_answers() {
        let mut bench = Bench::new();
        assert_eq!(bench.permits(1), FIRST_WINDOW);
        // One stays out, so that the receiver is not forgotten.
        bench.limiter.started(1, BOUNDS);
        let mut rounds = Vec::new();
        for _ in 0..4 {
            rounds.push(bench.round(1, Verdict::Answers));
        }
        assert_eq!(rounds, [3, 6, 12, 15]);
    }

    #[test]
    fn a_receiver_that_never_answers_holds_few_threads() {
        let mut bench = Bench::new();
        (0..FIRST_WINDOW).for_each(|_| bench.limiter.started(1, BOUNDS));
        assert_eq!(bench.permits(1), 0);
    }

    #[test]
    fn a_receiver_in_trouble_is_probed_with_growing_backoff() {
        let mut bench = Bench::new();
        assert_eq!(bench.round(1, Verdict::Fails), FIRST_WINDOW);
        let mut backoffs = Vec::new();
        for _ in 0..8 {
            assert_eq!(bench.permits(1), 0);
            let backoff = bench.limiter.next_probe(bench.now).unwrap_or_default();
            backoffs.push(backoff.as_secs());
            bench.pass(backoff);
            assert_eq!(bench.round(1, Verdict::Fails), 1, "one probe at a time");
        }
        assert_eq!(backoffs, [2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn one_answer_ends_the_trouble() {
        let mut bench = Bench::new();
        bench.round(1, Verdict::Fails);
        bench.pass(Duration::from_secs(2));
        bench.round(1, Verdict::Answers);
        assert_eq!(bench.permits(1), FIRST_WINDOW);
        assert_eq!(bench.limiter.next_probe(bench.now), None);
    }

    #[test]
    fn an_overloaded_receiver_is_left_alone_as_long_as_it_asks_for() {
        let mut bench = Bench::new();
        bench.limiter.started(1, BOUNDS);
        let wish = Some(Duration::from_secs(300));
        bench
            .limiter
            .finished(1, Verdict::Overloaded(wish), bench.now, BOUNDS);
        assert_eq!(bench.limiter.next_probe(bench.now), wish);
        assert_eq!(bench.permits(1), 0);
        bench.pass(Duration::from_secs(300));
        assert_eq!(bench.permits(1), 1);
    }

    #[test]
    fn without_backoff_a_receiver_in_trouble_is_still_sent_one_at_a_time() {
        let bounds = Bounds {
            longest_backoff: Duration::ZERO,
            ..BOUNDS
        };
        let mut limiter = Limiter::default();
        let now = Instant::now();
        for _ in 0..10 {
            limiter.started(1, bounds);
            limiter.finished(1, Verdict::Fails, now, bounds);
        }
        assert_eq!(limiter.permits(now, bounds).of(1), 1);
    }

    #[test]
    fn trouble_of_long_ago_is_forgotten() {
        let mut bench = Bench::new();
        bench.round(1, Verdict::Fails);
        let after = Duration::from_secs(600);
        bench.limiter.forget(bench.now, after);
        assert_eq!(bench.permits(1), 0);
        bench.pass(Duration::from_secs(700));
        bench.limiter.forget(bench.now, after);
        assert_eq!(bench.permits(1), FIRST_WINDOW);
    }

    #[test]
    fn each_failure_before_the_trouble_halves_the_window() {
        let mut bench = Bench::new();
        // Grown to the largest window, and never idle.
        bench.limiter.started(1, BOUNDS);
        for _ in 0..4 {
            bench.round(1, Verdict::Answers);
        }
        let mut permits = Vec::new();
        for _ in 0..2 {
            bench.limiter.started(1, BOUNDS);
            bench.limiter.finished(1, Verdict::Fails, bench.now, BOUNDS);
            permits.push(bench.permits(1));
        }
        assert_eq!(permits, [7, 3]);
    }

    #[test]
    fn an_overloaded_receiver_that_asks_for_nothing_is_probed_with_growing_backoff() {
        let mut bench = Bench::new();
        let mut backoffs = Vec::new();
        for _ in 0..4 {
            bench.limiter.started(1, BOUNDS);
            let verdict = Verdict::Overloaded(None);
            bench.limiter.finished(1, verdict, bench.now, BOUNDS);
            let backoff = bench.limiter.next_probe(bench.now).unwrap_or_default();
            backoffs.push(backoff.as_secs());
            bench.pass(backoff);
        }
        assert_eq!(backoffs, [1, 2, 4, 8]);
    }

    #[test]
    fn a_receiver_whose_probe_is_out_is_remembered_and_another_until_its_time_is_over() {
        let mut bench = Bench::new();
        bench.round(1, Verdict::Fails);
        bench.round(2, Verdict::Fails);
        let backoff = bench.limiter.next_probe(bench.now).unwrap_or_default();
        bench.pass(backoff);
        bench.limiter.started(1, BOUNDS);
        let after = Duration::from_secs(600);
        bench.pass(after - Duration::from_nanos(1));
        bench.limiter.forget(bench.now, after);
        assert_eq!((bench.permits(1), bench.permits(2)), (0, 1));
        bench.pass(Duration::from_nanos(1));
        bench.limiter.forget(bench.now, after);
        assert_eq!((bench.permits(1), bench.permits(2)), (0, FIRST_WINDOW));
    }

    #[test]
    fn the_list_of_permits_names_whoever_is_known() {
        let mut bench = Bench::new();
        bench.limiter.started(1, BOUNDS);
        let permits = bench.limiter.permits(bench.now, BOUNDS);
        let listed: Vec<_> = permits.listed().collect();
        assert_eq!(listed, [(1, FIRST_WINDOW - 1)]);
        assert_eq!(permits.unlisted(), FIRST_WINDOW);
        let small = Bounds {
            window: 2,
            ..BOUNDS
        };
        assert_eq!(bench.limiter.permits(bench.now, small).unlisted(), 2);
    }

    #[test]
    fn permits_that_are_taken_count() {
        let mut permits = Limiter::<u8>::default().permits(Instant::now(), BOUNDS);
        for left in (0..FIRST_WINDOW).rev() {
            permits.take(1);
            assert_eq!((permits.of(1), permits.of(2)), (left, FIRST_WINDOW));
        }
        permits.take(1);
        assert_eq!(permits.of(1), 0);
    }

    proptest! {
        #[test]
        fn no_installation_ever_has_more_in_flight_than_its_window(
            steps in prop::collection::vec((0_u8..3, 0_u8..4, 0_u64..5), 1..200),
        ) {
            let mut bench = Bench::new();
            let mut out = [0_usize; 3];
            for (installation, what, seconds) in steps {
                bench.pass(Duration::from_secs(seconds));
                let n = usize::from(installation);
                let verdict = match what {
                    0 => {
                        let permits = bench.permits(installation);
                        (0..permits).for_each(|_| bench.limiter.started(installation, BOUNDS));
                        out[n] += permits;
                        prop_assert!(out[n] <= BOUNDS.window);
                        continue;
                    }
                    1 => Verdict::Answers,
                    2 => Verdict::Fails,
                    _ => Verdict::Overloaded(None),
                };
                if out[n] > 0 {
                    out[n] -= 1;
                    bench.limiter.finished(installation, verdict, bench.now, BOUNDS);
                }
            }
        }
    }
}
