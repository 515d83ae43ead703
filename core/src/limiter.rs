//! How much of the sending each installation may use: a window of requests in flight that grows with
//! answers and shrinks with failures, and rests for a receiver in trouble. Pure bookkeeping of one
//! worker, forgotten when it ends; reads no clock.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// The window of an installation that nothing is known of: a receiver that never answers holds no
/// more threads than this before it is found out.
const FIRST_WINDOW: usize = 4;
/// After this many failures without an answer the receiver is probed: one request, then a rest.
const TROUBLED_AFTER: u32 = 3;
/// The rest after that; it doubles with each further failure, up to `Bounds::longest_rest`.
const FIRST_REST: Duration = Duration::from_secs(1);

/// What the settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The largest window.
    pub window: usize,
    /// The longest rest between two probes.
    pub longest_rest: Duration,
}

/// What an attempt says of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answered, whatever it said about this delivery.
    Answers,
    /// It did not answer, or with a server error.
    Fails,
    /// It asked for fewer requests (429, 503), perhaps for how long.
    Overloaded(Option<Duration>),
}

#[derive(Debug)]
struct Lane {
    in_flight: usize,
    window: usize,
    failures: u32,
    /// In trouble: nothing is sent before this.
    rests_until: Option<Instant>,
}

/// The lanes of all installations that have requests in flight or a receiver in trouble.
#[derive(Debug)]
pub struct Lanes<K> {
    lanes: HashMap<K, Lane>,
}

impl<K> Default for Lanes<K> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
        }
    }
}

/// How many more requests each installation may have.
#[derive(Clone, Debug)]
pub struct Rooms<K> {
    known: HashMap<K, usize>,
    first: usize,
}

impl<K: Copy + Eq + Hash> Rooms<K> {
    /// The room of an installation that `known` does not list.
    pub fn first(&self) -> usize {
        self.first
    }

    /// Installations with another room, and that room.
    pub fn known(&self) -> impl Iterator<Item = (K, usize)> {
        self.known
            .iter()
            .map(|(installation, room)| (*installation, *room))
    }

    /// The room of one installation.
    pub fn of(&self, installation: K) -> usize {
        self.known.get(&installation).copied().unwrap_or(self.first)
    }

    /// Takes one place.
    pub fn take(&mut self, installation: K) {
        let first = self.first;
        let room = self.known.entry(installation).or_insert(first);
        *room = room.saturating_sub(1);
    }
}

fn first_room(bounds: Bounds) -> usize {
    FIRST_WINDOW.min(bounds.window)
}

impl<K: Copy + Eq + Hash> Lanes<K> {
    /// A request of the installation went out.
    pub fn started(&mut self, installation: K, bounds: Bounds) {
        let lane = self.lanes.entry(installation).or_insert_with(|| Lane {
            in_flight: 0,
            window: first_room(bounds),
            failures: 0,
            rests_until: None,
        });
        lane.in_flight += 1;
    }

    /// A request of the installation came back.
    pub fn finished(&mut self, installation: K, health: Health, now: Instant, bounds: Bounds) {
        let Some(lane) = self.lanes.get_mut(&installation) else {
            return;
        };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        match health {
            Health::Answers => {
                lane.failures = 0;
                lane.rests_until = None;
                lane.window = (lane.window + 1).min(bounds.window);
            }
            Health::Fails => {
                lane.failures = lane.failures.saturating_add(1);
                lane.window = (lane.window / 2).max(1);
                if lane.failures >= TROUBLED_AFTER {
                    lane.window = 1;
                    lane.rest(now, lane.growing_rest(bounds));
                }
            }
            Health::Overloaded(wish) => {
                lane.failures = lane.failures.max(TROUBLED_AFTER - 1) + 1;
                lane.window = 1;
                let rest = lane.growing_rest(bounds);
                lane.rest(now, wish.map_or(rest, |wish| wish.max(rest)));
            }
        }
        if lane.in_flight == 0 && lane.failures == 0 {
            self.lanes.remove(&installation);
        }
    }

    /// How many more requests each installation may have now.
    pub fn rooms(&self, now: Instant, bounds: Bounds) -> Rooms<K> {
        let room = |lane: &Lane| {
            if lane.is_resting(now) {
                0
            } else {
                lane.window.saturating_sub(lane.in_flight)
            }
        };
        Rooms {
            known: self
                .lanes
                .iter()
                .map(|(k, lane)| (*k, room(lane)))
                .collect(),
            first: first_room(bounds),
        }
    }

    /// How long until the next rest ends, if one is on.
    pub fn next_probe(&self, now: Instant) -> Option<Duration> {
        self.lanes
            .values()
            .filter(|lane| lane.is_resting(now))
            .filter_map(|lane| lane.rests_until)
            .min()
            .map(|until| until.saturating_duration_since(now))
    }

    /// Forgets receivers whose trouble ended so long ago that they may start afresh.
    pub fn forget(&mut self, now: Instant, after: Duration) {
        self.lanes.retain(|_, lane| {
            lane.in_flight > 0 || lane.rests_until.is_none_or(|until| now < until + after)
        });
    }
}

impl Lane {
    fn is_resting(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    fn growing_rest(&self, bounds: Bounds) -> Duration {
        let doublings = self.failures.saturating_sub(TROUBLED_AFTER).min(16);
        (FIRST_REST * 2_u32.pow(doublings)).min(bounds.longest_rest)
    }

    /// A rest never ends earlier than one that was promised before.
    fn rest(&mut self, now: Instant, length: Duration) {
        self.rests_until = self.rests_until.max(Some(now + length));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        window: 16,
        longest_rest: Duration::from_secs(60),
    };

    struct Bench {
        lanes: Lanes<u8>,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                lanes: Lanes::default(),
                now: Instant::now(),
            }
        }

        fn room(&self, installation: u8) -> usize {
            self.lanes.rooms(self.now, BOUNDS).of(installation)
        }

        /// Sends as much as there is room for, and ends all of it.
        fn round(&mut self, installation: u8, health: Health) -> usize {
            let room = self.room(installation);
            (0..room).for_each(|_| self.lanes.started(installation, BOUNDS));
            (0..room).for_each(|_| self.lanes.finished(installation, health, self.now, BOUNDS));
            room
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }
    }

    #[test]
    fn a_new_installation_starts_small_and_grows_with_answers() {
        let mut bench = Bench::new();
        assert_eq!(bench.room(1), FIRST_WINDOW);
        // One stays out, so that the lane is not forgotten.
        bench.lanes.started(1, BOUNDS);
        let mut rooms = Vec::new();
        for _ in 0..4 {
            rooms.push(bench.round(1, Health::Answers));
        }
        assert_eq!(rooms, [3, 6, 12, 15]);
    }

    #[test]
    fn a_receiver_that_never_answers_holds_few_threads() {
        let mut bench = Bench::new();
        (0..FIRST_WINDOW).for_each(|_| bench.lanes.started(1, BOUNDS));
        assert_eq!(bench.room(1), 0);
    }

    #[test]
    fn a_receiver_in_trouble_is_probed_with_growing_rests() {
        let mut bench = Bench::new();
        assert_eq!(bench.round(1, Health::Fails), FIRST_WINDOW);
        let mut rests = Vec::new();
        for _ in 0..8 {
            assert_eq!(bench.room(1), 0);
            let rest = bench.lanes.next_probe(bench.now).unwrap_or_default();
            rests.push(rest.as_secs());
            bench.pass(rest);
            assert_eq!(bench.round(1, Health::Fails), 1, "one probe at a time");
        }
        assert_eq!(rests, [2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn one_answer_ends_the_trouble() {
        let mut bench = Bench::new();
        bench.round(1, Health::Fails);
        bench.pass(Duration::from_secs(2));
        bench.round(1, Health::Answers);
        assert_eq!(bench.room(1), FIRST_WINDOW);
        assert_eq!(bench.lanes.next_probe(bench.now), None);
    }

    #[test]
    fn an_overloaded_receiver_is_left_alone_as_long_as_it_asks_for() {
        let mut bench = Bench::new();
        bench.lanes.started(1, BOUNDS);
        let wish = Some(Duration::from_secs(300));
        bench
            .lanes
            .finished(1, Health::Overloaded(wish), bench.now, BOUNDS);
        assert_eq!(bench.lanes.next_probe(bench.now), wish);
        assert_eq!(bench.room(1), 0);
        bench.pass(Duration::from_secs(300));
        assert_eq!(bench.room(1), 1);
    }

    #[test]
    fn without_rests_a_receiver_in_trouble_is_still_sent_one_at_a_time() {
        let bounds = Bounds {
            longest_rest: Duration::ZERO,
            ..BOUNDS
        };
        let mut lanes = Lanes::default();
        let now = Instant::now();
        for _ in 0..10 {
            lanes.started(1, bounds);
            lanes.finished(1, Health::Fails, now, bounds);
        }
        assert_eq!(lanes.rooms(now, bounds).of(1), 1);
    }

    #[test]
    fn trouble_of_long_ago_is_forgotten() {
        let mut bench = Bench::new();
        bench.round(1, Health::Fails);
        let after = Duration::from_secs(600);
        bench.lanes.forget(bench.now, after);
        assert_eq!(bench.room(1), 0);
        bench.pass(Duration::from_secs(700));
        bench.lanes.forget(bench.now, after);
        assert_eq!(bench.room(1), FIRST_WINDOW);
    }

    #[test]
    fn places_that_are_taken_count() {
        let mut rooms = Lanes::default().rooms(Instant::now(), BOUNDS);
        for left in (0..FIRST_WINDOW).rev() {
            rooms.take(1);
            assert_eq!((rooms.of(1), rooms.of(2)), (left, FIRST_WINDOW));
        }
        rooms.take(1);
        assert_eq!(rooms.of(1), 0);
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
                let health = match what {
                    0 => {
                        let room = bench.room(installation);
                        (0..room).for_each(|_| bench.lanes.started(installation, BOUNDS));
                        out[n] += room;
                        prop_assert!(out[n] <= BOUNDS.window);
                        continue;
                    }
                    1 => Health::Answers,
                    2 => Health::Fails,
                    _ => Health::Overloaded(None),
                };
                if out[n] > 0 {
                    out[n] -= 1;
                    bench.lanes.finished(installation, health, bench.now, BOUNDS);
                }
            }
        }
    }
}
