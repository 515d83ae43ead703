//! Owns how much of a look's time goes into reading bodies: one look after the other stands between a commit and its
//! request, and a body of tens of megabytes takes most of a second to print.

use std::time::{Duration, Instant};

use super::place::SMALL_BODY;

/// Bodies that are not small, in bytes, that one look reads; one of any size always.
const LOOK_BYTES: usize = 1 << 20;
/// After reading such bodies for some time, none is read for this many times as long.
const REST: u32 = 9;

/// When bodies that are not small may be read again.
#[derive(Debug, Default)]
pub struct Rest {
    until: Option<Instant>,
}

impl Rest {
    /// A look has read bodies that are not small for this long.
    pub fn after(&mut self, reading: Duration, now: Instant) {
        if !reading.is_zero() {
            self.until = Some(now + reading * REST);
        }
    }

    /// How long until they may be read again, if they may not now.
    pub fn ends_in(&self, now: Instant) -> Option<Duration> {
        self.until
            .filter(|until| now < *until)
            .map(|until| until.duration_since(now))
    }

    /// What a look that begins now may read.
    pub fn reading(&self, now: Instant) -> Reading {
        Reading {
            rests: self.ends_in(now).is_some(),
            read: 0,
        }
    }
}

/// What one look has read of bodies that are not small.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    rests: bool,
    read: usize,
}

impl Reading {
    /// Whether a body of this size may be read.
    pub fn admits(&self, bytes: usize) -> bool {
        bytes <= SMALL_BODY
            || !self.rests && (self.read == 0 || self.read.saturating_add(bytes) <= LOOK_BYTES)
    }

    /// Counts a body that was read.
    pub fn add(&mut self, bytes: usize) {
        if bytes > SMALL_BODY {
            self.read = self.read.saturating_add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bodies_are_always_read_and_others_up_to_a_megabyte() {
        let mut reading = Rest::default().reading(Instant::now());
        for _ in 0..100 {
            assert!(reading.admits(SMALL_BODY));
            reading.add(SMALL_BODY);
        }
        assert!(reading.admits(60 << 20), "one of any size");
        reading.add(LOOK_BYTES - SMALL_BODY - 1);
        assert!(reading.admits(SMALL_BODY + 1));
        assert!(!reading.admits(SMALL_BODY + 2));
        assert!(reading.admits(SMALL_BODY));
    }

    #[test]
    fn one_that_is_larger_than_all_of_it_leaves_nothing_but_small_ones() {
        let mut reading = Rest::default().reading(Instant::now());
        reading.add(60 << 20);
        assert!(!reading.admits(SMALL_BODY + 1));
        assert!(reading.admits(SMALL_BODY));
    }

    #[test]
    fn reading_takes_a_tenth_of_the_time_at_most() {
        let (start, mut rest) = (Instant::now(), Rest::default());
        let (mut now, mut spent) = (start, Duration::ZERO);
        for _ in 0..20 {
            assert!(rest.reading(now).admits(60 << 20));
            let took = Duration::from_millis(700);
            (now, spent) = (now + took, spent + took);
            rest.after(took, now);
            assert!(!rest.reading(now).admits(SMALL_BODY + 1));
            assert!(rest.reading(now).admits(SMALL_BODY));
            now += rest.ends_in(now).expect("a rest");
        }
        assert_eq!(spent * 10, now.duration_since(start));
    }

    #[test]
    fn a_look_without_large_bodies_begins_no_rest() {
        let (now, mut rest) = (Instant::now(), Rest::default());
        rest.after(Duration::from_millis(100), now);
        let left = rest.ends_in(now);
        rest.after(Duration::ZERO, now);
        assert_eq!(rest.ends_in(now), left);
        assert_eq!(rest.ends_in(now + Duration::from_millis(900)), None);
    }
}
