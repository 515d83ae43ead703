use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{bounds::FIRST_WINDOW, *};

const BOUNDS: Bounds = Bounds {
    window: 16,
    longest_backoff: Duration::from_secs(60),
    in_flight: 64,
    slow_in_flight: 256,
    body_bytes: 64 << 20,
};
const PROMPT: Duration = Duration::from_millis(5);
const SECOND: Duration = Duration::from_secs(1);
const FOR_EVER: usize = 1_000_000;

/// A limiter with requests out. Installation n belongs to tenant n / 100.
struct Bench {
    limiter: Limiter<u32>,
    now: Instant,
    last_tag: u64,
    /// The installation of each request that is out.
    out: BTreeMap<u64, u32>,
}

impl Bench {
    fn new() -> Self {
        Self {
            limiter: Limiter::default(),
            now: Instant::now(),
            last_tag: 0,
            out: BTreeMap::new(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.limiter.age(self.now);
    }

    fn start(&mut self, installation: u32) -> u64 {
        self.start_large(installation, 0)
    }

    fn start_large(&mut self, installation: u32, body_bytes: usize) -> u64 {
        self.last_tag += 1;
        let tag = self.last_tag;
        self.limiter
            .started(tag, request(installation, body_bytes), self.now, BOUNDS);
        self.out.insert(tag, installation);
        tag
    }

    fn end(&mut self, tag: u64, verdict: Verdict, took: Duration) {
        self.out.remove(&tag);
        self.limiter.finished(tag, verdict, took, self.now, BOUNDS);
    }

    fn end_of(&mut self, installation: u32, verdict: Verdict, took: Duration) {
        let tags: Vec<u64> = self.tags(installation).collect();
        tags.into_iter()
            .for_each(|tag| self.end(tag, verdict, took));
    }

    fn tags(&self, installation: u32) -> impl Iterator<Item = u64> + '_ {
        let out = self.out.iter();
        out.filter(move |(_, of)| **of == installation)
            .map(|(tag, _)| *tag)
    }

    /// One request from start to end.
    fn once(&mut self, installation: u32, verdict: Verdict, took: Duration) {
        let tag = self.start(installation);
        self.end(tag, verdict, took);
    }

    fn permits(&self, installation: u32) -> usize {
        let waiting = [waits(installation, FOR_EVER)];
        let free = Bounds {
            in_flight: FOR_EVER,
            slow_in_flight: FOR_EVER,
            ..BOUNDS
        };
        let dealt = self.limiter.deal(&waiting, self.now, free);
        dealt.threads.len()
    }

    /// Uses all permits, and ends all of these requests.
    fn round(&mut self, installation: u32, verdict: Verdict) -> usize {
        let permits = self.permits(installation);
        let tags: Vec<u64> = (0..permits).map(|_| self.start(installation)).collect();
        tags.into_iter()
            .for_each(|tag| self.end(tag, verdict, PROMPT));
        permits
    }

    /// Deals until nothing more is dealt, and starts what was dealt; returns the installations in order.
    fn deal(&mut self, waiting: &[Waiting<u32>]) -> Vec<u32> {
        let (mut rest, mut served) = (waiting.to_vec(), Vec::new());
        loop {
            let dealt = self.deal_once(&rest);
            for n in &dealt.threads {
                rest[*n].due -= 1;
                served.push(rest[*n].installation);
            }
            // Nothing is left of these, and it was looked for.
            rest.retain(|waiting| waiting.due > 0);
            if !dealt.more {
                return served;
            }
        }
    }

    /// One deal, and starts what was dealt.
    fn deal_once(&mut self, waiting: &[Waiting<u32>]) -> Dealt {
        let dealt = self.limiter.deal(waiting, self.now, BOUNDS);
        for n in &dealt.threads {
            self.start(waiting[*n].installation);
        }
        dealt
    }

    fn held(&self, tenant: u32) -> usize {
        self.out
            .values()
            .filter(|installation| **installation / 100 == tenant)
            .count()
    }
}

fn request(installation: u32, body_bytes: usize) -> Request<u32> {
    Request {
        tenant: installation / 100,
        installation,
        body_bytes,
    }
}

fn waits(installation: u32, due: usize) -> Waiting<u32> {
    Waiting {
        tenant: installation / 100,
        installation,
        due,
    }
}

/// Installations 0.. of each of the tenants, all with work for ever.
fn backlog(tenants: std::ops::Range<u32>, installations: u32) -> Vec<Waiting<u32>> {
    tenants
        .flat_map(|tenant| (0..installations).map(move |n| waits(tenant * 100 + n, FOR_EVER)))
        .collect()
}

mod receivers {
    use super::*;

    #[test]
    fn start_small_and_grow_with_answers() {
        let mut bench = Bench::new();
        let rounds: Vec<_> = (0..4).map(|_| bench.round(1, Verdict::Answers)).collect();
        assert_eq!(rounds, [FIRST_WINDOW, 8, 16, 16]);
    }

    #[test]
    fn that_never_answer_hold_few_threads() {
        let mut bench = Bench::new();
        (0..FIRST_WINDOW).for_each(|_| _ = bench.start(1));
        assert_eq!(bench.permits(1), 0);
    }

    #[test]
    fn do_not_widen_their_window_with_answers_that_take_a_second() {
        let mut bench = Bench::new();
        for _ in 0..20 {
            bench.once(1, Verdict::Answers, SECOND);
            bench.once(2, Verdict::Answers, SECOND - Duration::from_nanos(1));
        }
        assert_eq!((bench.permits(1), bench.permits(2)), (FIRST_WINDOW, 16));
    }

    #[test]
    fn in_trouble_are_probed_with_growing_backoff() {
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
    fn are_well_again_after_one_answer() {
        let mut bench = Bench::new();
        bench.round(1, Verdict::Fails);
        bench.pass(Duration::from_secs(2));
        bench.once(1, Verdict::Answers, SECOND);
        assert_eq!(bench.permits(1), FIRST_WINDOW);
        assert_eq!(bench.limiter.next_probe(bench.now), None);
        // It is not the first one for long.
        bench.once(1, Verdict::Answers, PROMPT);
        assert_eq!(bench.permits(1), FIRST_WINDOW + 1);
    }

    #[test]
    fn that_are_overloaded_are_left_alone_as_long_as_they_ask_for() {
        let mut bench = Bench::new();
        let wish = Some(Duration::from_secs(300));
        bench.once(1, Verdict::Overloaded(wish), PROMPT);
        assert_eq!(bench.limiter.next_probe(bench.now), wish);
        assert_eq!(bench.permits(1), 0);
        bench.pass(Duration::from_secs(300));
        assert_eq!(bench.permits(1), 1);
    }

    #[test]
    fn that_are_overloaded_and_ask_for_nothing_are_probed_with_growing_backoff() {
        let mut bench = Bench::new();
        let mut backoffs = Vec::new();
        for _ in 0..4 {
            bench.once(1, Verdict::Overloaded(None), PROMPT);
            let backoff = bench.limiter.next_probe(bench.now).unwrap_or_default();
            backoffs.push(backoff.as_secs());
            bench.pass(backoff);
        }
        assert_eq!(backoffs, [1, 2, 4, 8]);
    }

    #[test]
    fn in_trouble_are_sent_one_at_a_time_without_backoff_too() {
        let bounds = Bounds {
            longest_backoff: Duration::ZERO,
            ..BOUNDS
        };
        let mut limiter = Limiter::default();
        let now = Instant::now();
        for tag in 0..10 {
            limiter.started(tag, request(1, 0), now, bounds);
            limiter.finished(tag, Verdict::Fails, PROMPT, now, bounds);
        }
        let dealt = limiter.deal(&[waits(1, 10)], now, bounds);
        assert_eq!(dealt.threads, [0]);
        assert!(!dealt.short);
    }

    #[test]
    fn halve_their_window_with_each_failure_before_the_trouble() {
        let mut bench = Bench::new();
        for _ in 0..4 {
            bench.round(1, Verdict::Answers);
        }
        let mut permits = Vec::new();
        for _ in 0..2 {
            bench.once(1, Verdict::Fails, PROMPT);
            permits.push(bench.permits(1));
        }
        assert_eq!(permits, [8, 4]);
    }

    #[test]
    fn are_slow_from_the_moment_a_request_is_out_for_long() {
        let mut bench = Bench::new();
        bench.start(1);
        bench.pass(SLOW_AFTER - Duration::from_nanos(1));
        assert_eq!(bench.limiter.not_slow(), 1);
        assert_eq!(
            bench.limiter.next_slow_in(bench.now),
            Some(Duration::from_nanos(1))
        );
        bench.pass(Duration::from_nanos(1));
        assert_eq!(bench.limiter.not_slow(), 0);
        assert_eq!(bench.limiter.next_slow_in(bench.now), None);
        bench.start(1);
        assert_eq!(bench.limiter.not_slow(), 0, "known to be slow");
        bench.start(2);
        assert_eq!(bench.limiter.not_slow(), 1);
    }

    #[test]
    fn are_slow_after_one_slow_answer_and_prompt_again_after_a_few_prompt_ones() {
        let mut bench = Bench::new();
        bench.once(1, Verdict::Answers, SLOW_AFTER);
        let mut prompt = 0;
        loop {
            let tag = bench.start(1);
            let slow = bench.limiter.not_slow() == 0;
            bench.end(tag, Verdict::Answers, PROMPT);
            if !slow {
                break;
            }
            prompt += 1;
        }
        assert_eq!(prompt, 1);
        for _ in 0..100 {
            bench.once(1, Verdict::Answers, Duration::from_secs(100));
        }
        let mut prompt = 0;
        while {
            let tag = bench.start(1);
            let slow = bench.limiter.not_slow() == 0;
            bench.end(tag, Verdict::Answers, PROMPT);
            slow
        } {
            prompt += 1;
        }
        assert_eq!(prompt, 5);
    }

    #[test]
    fn that_fail_slowly_are_slow_and_those_that_refuse_are_not() {
        let mut bench = Bench::new();
        bench.once(1, Verdict::Fails, SECOND);
        bench.once(2, Verdict::Fails, Duration::ZERO);
        bench.start(1);
        assert_eq!(bench.limiter.not_slow(), 0);
        bench.start(2);
        assert_eq!(bench.limiter.not_slow(), 1);
    }

    #[test]
    fn are_forgotten_when_nothing_was_seen_of_them_for_long() {
        let mut bench = Bench::new();
        bench.round(1, Verdict::Fails);
        bench.round(2, Verdict::Fails);
        bench.round(3, Verdict::Answers);
        let backoff = bench.limiter.next_probe(bench.now).unwrap_or_default();
        bench.pass(backoff);
        bench.start(1);
        let after = Duration::from_secs(600);
        bench.pass(after - backoff - Duration::from_nanos(1));
        bench.limiter.forget(bench.now, after);
        assert_eq!(bench.permits(3), 2 * FIRST_WINDOW);
        bench.pass(Duration::from_nanos(1));
        bench.limiter.forget(bench.now, after);
        assert_eq!(bench.permits(3), FIRST_WINDOW);
        bench.pass(backoff - Duration::from_nanos(1));
        bench.limiter.forget(bench.now, after);
        assert_eq!((bench.permits(1), bench.permits(2)), (0, 1));
        bench.pass(Duration::from_nanos(1));
        bench.limiter.forget(bench.now, after);
        assert_eq!((bench.permits(1), bench.permits(2)), (0, FIRST_WINDOW));
    }

    #[test]
    fn are_listed_while_they_have_requests_out_or_are_in_trouble() {
        let mut bench = Bench::new();
        bench.round(1, Verdict::Answers);
        bench.start(2);
        bench.once(3, Verdict::Fails, PROMPT);
        let permits = bench.limiter.permits(bench.now, BOUNDS);
        let mut listed = permits.listed;
        listed.sort_unstable();
        assert_eq!(listed, [(2, FIRST_WINDOW - 1), (3, FIRST_WINDOW / 2)]);
        assert_eq!(permits.unlisted, FIRST_WINDOW);
        let small = Bounds {
            window: 2,
            ..BOUNDS
        };
        assert_eq!(bench.limiter.permits(bench.now, small).unlisted, 2);
    }
}

mod threads {
    use super::*;

    #[test]
    fn go_to_the_tenant_that_holds_the_fewest() {
        let mut bench = Bench::new();
        bench.start(100);
        bench.start(100);
        bench.start(200);
        let waiting = [waits(100, 1), waits(200, 2), waits(300, 3)];
        assert_eq!(bench.deal(&waiting), [300, 300, 200, 300, 100, 200]);
    }

    #[test]
    fn go_to_the_tenant_served_least_recently_and_not_to_the_first_row() {
        let mut bench = Bench::new();
        for installation in [300, 100, 200, 300] {
            bench.once(installation, Verdict::Answers, PROMPT);
        }
        let waiting = [300, 200, 100, 400].map(|installation| waits(installation, 1));
        assert_eq!(bench.deal(&waiting), [400, 100, 200, 300]);
    }

    #[test]
    fn of_a_tenant_go_to_its_installations_by_the_same_rule() {
        let mut bench = Bench::new();
        bench.once(102, Verdict::Answers, PROMPT);
        bench.once(101, Verdict::Answers, PROMPT);
        bench.start(103);
        let waiting = [103, 101, 102, 104].map(|installation| waits(installation, 2));
        assert_eq!(
            bench.deal(&waiting),
            [104, 102, 101, 104, 102, 101, 103, 103]
        );
    }

    #[test]
    fn are_dealt_to_tenants_in_rounds_however_many_installations_they_have() {
        let mut bench = Bench::new();
        let mut waiting = backlog(1..2, 10);
        waiting.push(waits(200, 3));
        let served = bench.deal(&waiting);
        let tenants: Vec<u32> = served.iter().map(|n| n / 100).take(7).collect();
        assert_eq!(tenants, [1, 2, 1, 2, 1, 2, 1]);
    }

    #[test]
    fn go_to_a_tenant_alone_but_for_an_eighth() {
        let mut bench = Bench::new();
        let waiting = backlog(0..1, 100);
        assert_eq!(bench.deal(&waiting).len(), 56);
        let dealt = bench.limiter.deal(&waiting, bench.now, BOUNDS);
        assert!(dealt.short && dealt.threads.is_empty());
        for _ in 0..10 {
            bench.pass(SLOW_AFTER);
            bench.deal(&waiting);
        }
        assert_eq!(bench.out.len(), 280);
    }

    /// Tenant 1 has all it may have of the slow threads. What tenant 2 holds, which wants prompt ones, beside others
    /// that want one.
    fn while_1_waits(before: u32, others: u32) -> usize {
        let mut bench = Bench::new();
        for n in 0..100 {
            bench.once(100 + n, Verdict::Answers, SECOND);
        }
        for n in 0..before {
            bench.start(200 + n % 40);
        }
        bench.pass(SLOW_AFTER);
        let mut waiting = backlog(1..2, 100);
        waiting.extend((50..100).map(|n| waits(200 + n, 1)));
        waiting.extend((0..others).map(|n| waits(300 + 100 * n, 1)));
        bench.deal(&waiting);
        bench.held(2)
    }

    #[test]
    fn beyond_its_share_are_dealt_to_no_tenant_while_another_with_fewer_waits() {
        assert_eq!(while_1_waits(10, 0), 10 + 50);
        assert_eq!(while_1_waits(150, 0), 160);
        assert_eq!(while_1_waits(130, 0), 160, "a half");
        assert_eq!(while_1_waits(130, 1), 130, "a third is less");
        assert_eq!(while_1_waits(170, 0), 170);
    }

    #[test]
    fn that_wait_are_left_to_prompt_receivers_by_more_slow_tenants_than_threads() {
        let mut bench = Bench::new();
        let waiting = backlog(1..1000, 1);
        // All are found out, one window after the other.
        for waiting in waiting.chunks(32) {
            bench.deal(waiting);
            bench.pass(SLOW_AFTER);
            for waiting in waiting {
                bench.end_of(waiting.installation, Verdict::Answers, SECOND);
            }
        }
        bench.deal(&waiting);
        assert_eq!(bench.out.len(), 256);
        assert_eq!(bench.limiter.not_slow(), 0);
        assert_eq!(bench.deal(&[waits(0, 2)]), [0, 0]);
    }

    #[test]
    fn of_which_few_are_for_slow_receivers_serve_them_with_half_of_the_others() {
        for (in_flight, expected) in [(1, 1), (2, 1), (9, 5)] {
            let bounds = Bounds {
                in_flight,
                slow_in_flight: 0,
                ..BOUNDS
            };
            let (mut limiter, now) = (Limiter::default(), Instant::now());
            let waiting = backlog(0..20, 1);
            for (tag, waiting) in waiting.iter().enumerate() {
                let request = request(waiting.installation, 0);
                limiter.started(tag as u64, request, now, bounds);
                limiter.finished(tag as u64, Verdict::Answers, SECOND, now, bounds);
            }
            let dealt = limiter.deal(&waiting, now, bounds);
            assert_eq!(dealt.threads.len(), expected, "of {in_flight}");
        }
    }

    #[test]
    fn that_turn_slow_are_counted_once_and_leave_when_they_end() {
        let mut bench = Bench::new();
        let first = bench.start(1);
        bench.pass(SLOW_AFTER / 2);
        let second = bench.start(2);
        bench.end(first, Verdict::Answers, PROMPT);
        assert_eq!(bench.limiter.next_slow_in(bench.now), Some(SLOW_AFTER));
        bench.pass(SLOW_AFTER);
        bench.pass(SLOW_AFTER);
        assert_eq!(bench.limiter.not_slow(), 0);
        bench.end(second, Verdict::Answers, SECOND);
        assert_eq!(bench.limiter.not_slow(), 0);
        bench.end(second, Verdict::Answers, SECOND);
        bench.start(3);
        assert_eq!(bench.limiter.not_slow(), 1);
    }

    #[test]
    fn of_tenants_are_forgotten_when_nothing_was_seen_of_them_for_long() {
        let mut bench = Bench::new();
        let after = Duration::from_secs(600);
        let first = bench.start(100);
        bench.once(200, Verdict::Answers, PROMPT);
        bench.pass(Duration::from_nanos(1));
        bench.end(first, Verdict::Answers, PROMPT);
        bench.start(300);
        bench.pass(after - Duration::from_nanos(1));
        bench.limiter.forget(bench.now, after);
        // The first was seen later, the second is as good as new, the third holds a thread.
        let waiting = [300, 100, 200].map(|installation| waits(installation, 1));
        assert_eq!(bench.deal(&waiting), [200, 100, 300]);
        for installation in [100, 200, 300] {
            bench.end_of(installation, Verdict::Answers, SECOND);
        }
        assert_eq!(bench.limiter.tenants.len(), 3);
        bench.pass(after);
        bench.limiter.forget(bench.now, after);
        assert!(bench.limiter.tenants.is_empty() && bench.limiter.receivers.is_empty());
    }
}

/// What one look at the queue costs, and whoever comes meanwhile waits for.
mod a_look {
    use super::*;

    /// Tenants whose receivers are known to answer late hold all that they may.
    fn full(bench: &mut Bench, tenants: std::ops::Range<u32>) -> Vec<Waiting<u32>> {
        let waiting = backlog(tenants, 10);
        for waiting in &waiting {
            bench.once(waiting.installation, Verdict::Answers, SECOND);
        }
        bench.deal(&waiting);
        waiting
    }

    #[test]
    fn is_not_for_rows_of_a_tenant_that_has_its_part_of_the_threads() {
        let mut bench = Bench::new();
        let waiting = full(&mut bench, 1..11);
        // One without a request in flight, too.
        let installation = waiting[5].installation;
        bench.once(101, Verdict::Answers, SECOND);
        bench.end_of(installation, Verdict::Answers, SECOND);
        bench.deal(&waiting);
        let listed = bench.limiter.permits(bench.now, BOUNDS).listed;
        assert_eq!(listed.len(), 100);
        assert!(listed.iter().all(|(_, permits)| *permits == 0));
    }

    #[test]
    fn that_leaves_out_a_tenant_says_that_it_waits_all_the_same() {
        let mut bench = Bench::new();
        let mut waiting = full(&mut bench, 1..11);
        waiting.iter_mut().for_each(|waiting| waiting.due = 0);
        let dealt = bench.deal_once(&waiting);
        assert!(dealt.short && !dealt.more && dealt.threads.is_empty());
        assert!(!bench.deal_once(&[]).short);
    }

    #[test]
    fn deals_few_threads_to_receivers_that_are_slow_or_unknown_and_tells_that_more_wait() {
        let mut bench = Bench::new();
        for installation in 200..210 {
            bench.once(installation, Verdict::Answers, SECOND);
        }
        for installation in 300..310 {
            bench.once(installation, Verdict::Answers, PROMPT);
        }
        for tenant in 1..3 {
            let dealt = bench.deal_once(&backlog(tenant..tenant + 1, 10));
            assert_eq!((dealt.threads.len(), dealt.more), (8, true));
        }
        let waiting = backlog(1..4, 10);
        let dealt = bench.deal_once(&waiting);
        let prompt = dealt.threads.iter().filter(|n| **n >= 20).count();
        assert_eq!((dealt.threads.len() - prompt, dealt.more), (8, true));
        assert!(prompt > 8, "prompt ones are not bounded");
        let dealt = Bench::new().deal_once(&[waits(100, 4), waits(200, 4)]);
        assert_eq!((dealt.threads.len(), dealt.more), (8, false));
    }

    #[test]
    fn after_another_gives_slow_receivers_all_they_may_have_and_everybody_a_turn() {
        let mut bench = Bench::new();
        let waiting = full(&mut bench, 1..12);
        assert_eq!(bench.out.len(), 256 - 256 / 12);
        for waiting in waiting {
            assert!(bench.tags(waiting.installation).count() > 0);
        }
    }

    #[test]
    fn serves_a_neighbour_before_slow_receivers() {
        let mut bench = Bench::new();
        let mut waiting = backlog(1..11, 10);
        waiting.push(waits(1100, 1));
        bench.deal_once(&waiting[..100]);
        let dealt = bench.deal_once(&waiting[..]);
        assert!(dealt.threads.contains(&100));
    }
}

mod bodies {
    use super::*;

    const MB: usize = 1 << 20;

    fn fits(bench: &Bench, tenant: u32, bytes: usize) -> bool {
        bench.limiter.room(BOUNDS).fits(tenant, bytes)
    }

    #[test]
    fn that_are_small_always_fit_and_are_not_counted() {
        let mut bench = Bench::new();
        bench.start_large(101, 60 * MB);
        (0..8).for_each(|_| _ = bench.start_large(101, 8 * MB));
        assert!(fits(&bench, 1, SMALL_BODY) && fits(&bench, 2, SMALL_BODY));
        assert!(!fits(&bench, 1, SMALL_BODY + 1));
        bench.end_of(101, Verdict::Answers, PROMPT);
        (0..300).for_each(|_| _ = bench.start_large(101, SMALL_BODY));
        assert!(fits(&bench, 1, 8 * MB) && fits(&bench, 1, 64 * MB));
    }

    #[test]
    fn of_a_tenant_leave_a_reserve_to_those_that_have_none() {
        let mut bench = Bench::new();
        (0..7).for_each(|_| _ = bench.start_large(101, 8 * MB));
        assert!(!fits(&bench, 1, SMALL_BODY + 1), "it has some");
        assert!(fits(&bench, 2, 8 * MB));
        bench.start_large(201, 8 * MB);
        assert!(fits(&bench, 3, 8 * MB), "alone");
        bench.start_large(301, 8 * MB);
        assert!(!fits(&bench, 4, SMALL_BODY + 1));
        bench.end_of(201, Verdict::Answers, PROMPT);
        assert!(fits(&bench, 4, 8 * MB));
    }

    #[test]
    fn larger_than_the_reserve_go_one_at_a_time_and_leave_the_others_their_room() {
        let mut bench = Bench::new();
        let first = bench.start_large(101, 60 * MB);
        assert!(!fits(&bench, 1, 55 * MB) && !fits(&bench, 2, 8 * MB + 1));
        assert!(fits(&bench, 1, 8 * MB) && fits(&bench, 2, 8 * MB));
        bench.end(first, Verdict::Answers, PROMPT);
        assert!(fits(&bench, 1, 1 << 40));
        // Others of its tenant do not keep it from going.
        bench.start_large(102, MB);
        assert!(fits(&bench, 1, 60 * MB));
    }

    #[test]
    fn that_go_alone_take_turns_by_tenant() {
        let mut bench = Bench::new();
        let mut sent: Vec<u32> = Vec::new();
        for _ in 0..6 {
            let mut room = bench.limiter.room(BOUNDS);
            let mut tenants = [1, 2, 3];
            tenants.sort_by_key(|tenant| room.turn(*tenant));
            let taken: Vec<u32> = tenants
                .into_iter()
                .filter(|tenant| room.take(*tenant, 9 * MB))
                .collect();
            assert_eq!(taken.len(), 1);
            sent.extend(&taken);
            let tag = bench.start_large(taken[0] * 100, 9 * MB);
            bench.end(tag, Verdict::Answers, PROMPT);
        }
        assert_eq!(sent, [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn that_did_not_fit_hold_back_their_installation_until_they_do() {
        let mut bench = Bench::new();
        let alone = bench.start_large(101, 60 * MB);
        for installation in [102, 201, 202] {
            bench.limiter.left_over(
                (installation / 100, installation),
                Some(50 * MB),
                bench.now,
                BOUNDS,
            );
        }
        let all = [102, 103, 201, 202, 203].map(|installation| waits(installation, 2));
        assert_eq!(bench.deal(&all), [203, 203, 103, 103], "and no other");
        bench.end(alone, Verdict::Answers, PROMPT);
        let dealt = bench.deal(&all[2..4]);
        assert_eq!(dealt, [201], "one of a tenant, with one thread");
        bench.limiter.left_over((2, 201), None, bench.now, BOUNDS);
        assert_eq!(bench.deal(&[waits(201, 2)]), [201, 201]);
    }
}

/// What keeps a neighbour's latency low: see "Fair claims" in docs/architecture.md.
mod a_neighbour {
    use super::*;

    /// Beside 100 installations of 10 tenants whose requests take as long as `took` says, a neighbour always gets
    /// this many threads at once.
    fn beside(took: impl Fn(u32) -> Duration, threads: usize) {
        let step = Duration::from_millis(10);
        let mut bench = Bench::new();
        let waiting = backlog(1..11, 10);
        let mut ends: HashMap<u64, (Instant, Duration)> = HashMap::new();
        for n in 0..500 {
            let due: Vec<u64> = bench
                .out
                .keys()
                .copied()
                .filter(|tag| ends.get(tag).is_some_and(|(end, _)| *end <= bench.now))
                .collect();
            for tag in due {
                let (_, took) = ends[&tag];
                bench.end(tag, Verdict::Answers, took);
            }
            let first_new = bench.last_tag + 1;
            bench.deal(&waiting);
            for tag in first_new..=bench.last_tag {
                let took = took(bench.out[&tag]);
                ends.insert(tag, (bench.now + took, took));
            }
            for tenant in 1..11 {
                let held = bench.held(tenant);
                assert!(held <= 32, "{held} of 320 at once after {n} steps");
            }
            let served = bench.deal(&[waits(0, threads)]);
            assert_eq!(served.len(), threads, "after {n} steps");
            bench.end_of(0, Verdict::Answers, PROMPT);
            bench.pass(step);
        }
        assert!(bench.out.len() > 64);
    }

    #[test]
    fn gets_a_thread_at_once_beside_slow_success() {
        beside(|_| Duration::from_secs(100), 2);
    }

    #[test]
    fn gets_a_thread_at_once_beside_a_backlog() {
        beside(|_| Duration::from_millis(900), 2);
    }

    #[test]
    fn gets_a_thread_at_once_beside_receivers_that_are_prompt_until_they_have_a_prompt_thread() {
        let requests = std::cell::Cell::new(0_u32);
        let took = |_| {
            requests.set(requests.get() + 1);
            if requests.get().is_multiple_of(10) {
                Duration::from_secs(30)
            } else {
                PROMPT
            }
        };
        beside(took, 1);
    }

    #[test]
    fn gets_a_thread_at_once_beside_both() {
        let took = |installation| match installation % 3 {
            0 => Duration::from_secs(100),
            1 => Duration::from_millis(900),
            _ => Duration::from_millis(240),
        };
        beside(took, 2);
    }
}

proptest! {
    #[test]
    fn whatever_is_found_of_a_tenant_that_is_not_looked_at_gets_nothing(
        steps in prop::collection::vec((0_u32..6, 0_u32..6, any::<bool>(), 0_u64..400), 1..200),
    ) {
        let bounds = Bounds { in_flight: 10, slow_in_flight: 20, ..BOUNDS };
        let (mut limiter, mut now) = (Limiter::default(), Instant::now());
        let mut out: BTreeMap<u64, Instant> = BTreeMap::new();
        let mut last_tag = 0;
        for (tenant, n, ends, milliseconds) in steps {
            now += Duration::from_millis(milliseconds);
            limiter.age(now);
            if let Some((tag, started)) = out.first_key_value().filter(|_| ends) {
                limiter.finished(*tag, Verdict::Answers, now - *started, now, bounds);
                out.pop_first();
            }
            let permits: HashMap<u32, usize> =
                limiter.permits(now, bounds).listed.into_iter().collect();
            let waiting = backlog(0..tenant + 1, n + 1);
            for n in limiter.deal(&waiting, now, bounds).threads {
                let installation = waiting[n].installation;
                prop_assert_ne!(permits.get(&installation), Some(&0));
                last_tag += 1;
                limiter.started(last_tag, request(installation, 0), now, bounds);
                out.insert(last_tag, now);
            }
        }
    }

    #[test]
    fn nobody_ever_has_more_than_the_bounds_allow(
        (in_flight, slow_in_flight, window) in (1_usize..40, 0_usize..80, 1_usize..20),
        steps in prop::collection::vec((0_u32..5, 0_u32..4, 0_u8..6, 0_u64..400), 1..150),
    ) {
        let bounds = Bounds { window, longest_backoff: SECOND, in_flight, slow_in_flight, ..BOUNDS };
        let (mut limiter, mut now) = (Limiter::default(), Instant::now());
        let mut out: BTreeMap<u64, (u32, Instant)> = BTreeMap::new();
        let mut last_tag = 0;
        for (tenant, n, what, milliseconds) in steps {
            now += Duration::from_millis(milliseconds);
            limiter.age(now);
            let verdict = match what {
                0..=2 => {
                    let mut waiting = backlog(0..tenant + 1, n + 1);
                    waiting.reverse();
                    let dealt = limiter.deal(&waiting, now, bounds);
                    for n in &dealt.threads {
                        last_tag += 1;
                        let installation = waiting[*n].installation;
                        limiter.started(last_tag, request(installation, 0), now, bounds);
                        out.insert(last_tag, (installation, now));
                    }
                    prop_assert!(out.len() <= in_flight + slow_in_flight);
                    prop_assert!(limiter.not_slow() <= in_flight);
                    for waiting in waiting {
                        let of_it = out.values().filter(|(of, _)| *of == waiting.installation);
                        prop_assert!(of_it.count() <= window);
                    }
                    continue;
                }
                3 => Verdict::Answers,
                4 => Verdict::Fails,
                _ => Verdict::Overloaded(None),
            };
            if let Some((tag, (_, started))) = out.pop_first() {
                limiter.finished(tag, verdict, now - started, now, bounds);
            }
        }
        for (tag, (_, started)) in out {
            limiter.finished(tag, Verdict::Answers, now - started, now, bounds);
        }
        prop_assert_eq!(limiter.not_slow(), 0);
        // Whatever happened before, whoever waits alone is served once the backoffs are over.
        now += Duration::from_secs(400);
        let dealt = limiter.deal(&[waits(1, 1)], now, bounds);
        prop_assert_eq!(dealt.threads, [0]);
    }

    #[test]
    fn nobody_gets_a_thread_while_somebody_with_fewer_waits(
        held in prop::collection::vec(0_usize..30, 2..12),
        due in prop::collection::vec(0_usize..4, 12),
    ) {
        let mut bench = Bench::new();
        for (tenant, held) in held.iter().enumerate() {
            (0..*held).for_each(|_| _ = bench.start(tenant as u32 * 100 + 99));
        }
        bench.pass(SLOW_AFTER);
        let waiting: Vec<_> = (0_u32..).zip(&held).zip(&due)
            .map(|((tenant, _), due)| waits(tenant * 100, *due))
            .collect();
        let served = bench.deal(&waiting);
        let after: Vec<usize> = (0..held.len()).map(|n| bench.held(n as u32)).collect();
        for (n, before) in held.iter().enumerate() {
            let got = served.iter().filter(|of| **of as usize == n * 100).count();
            prop_assert_eq!(after[n], before + got);
            if got < due[n] {
                // It waits: whoever got one had fewer than it, or as many.
                for other in 0..held.len() {
                    prop_assert!(after[other] == held[other] || after[other] <= after[n] + 1);
                }
            }
        }
    }

    #[test]
    fn bodies_have_a_bound_and_each_goes_in_the_end(
        rows in prop::collection::vec((0_u32..4, 0_usize..70 << 20, 0_u8..3), 1..60),
    ) {
        let mut waiting: Vec<(u32, usize)> = rows.iter()
            .map(|(tenant, bytes, size)| (*tenant, [*bytes, bytes >> 5, bytes >> 10][*size as usize]))
            .collect();
        let mut bench = Bench::new();
        let mut out = VecDeque::new();
        while !waiting.is_empty() {
            let mut room = bench.limiter.room(BOUNDS);
            waiting.sort_by_key(|(tenant, _)| room.turn(*tenant));
            let (now, later) = waiting.iter().partition(|(tenant, bytes)| room.take(*tenant, *bytes));
            prop_assert!(!out.is_empty() || !Vec::is_empty(&now), "nothing goes");
            waiting = later;
            for (tenant, bytes) in now {
                out.push_back((bench.start_large(tenant * 100, bytes), bytes));
            }
            let mut counted: Vec<usize> = out.iter().map(|(_, bytes)| *bytes)
                .filter(|bytes| *bytes > SMALL_BODY)
                .collect();
            counted.sort_unstable();
            counted.pop();
            prop_assert!(counted.iter().sum::<usize>() <= BOUNDS.body_bytes);
            prop_assert!(counted.iter().all(|bytes| *bytes <= BOUNDS.body_bytes / 8));
            if let Some((tag, _)) = out.pop_front() {
                bench.end(tag, Verdict::Answers, PROMPT);
            }
        }
    }
}
