//! Owns the order in which free threads are dealt out: to the tenant that holds the fewest, of several to the
//! one served least recently, and in it to an installation by the same rule.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    hash::Hash,
    time::Instant,
};

use super::{bounds::Bounds, place::Place, pool::Pool, receiver::Receiver, state::Limiter};

/// An installation with due rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<K> {
    /// Whose it is.
    pub tenant: K,
    /// Its id.
    pub installation: K,
    /// How many rows of it were found. None of one that was not to be looked at, see [`Limiter::permits`].
    pub due: usize,
}

/// Who gets a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dealt {
    /// For each thread, in the order of dealing, the index of the installation.
    pub threads: Vec<usize>,
    /// Whether rows wait that would have got one if there were more threads.
    pub short: bool,
    /// Whether rows wait that get one in the next deal: those to slow receivers, and to unknown ones, take turns.
    pub more: bool,
}

/// Whose turn it is: the one that holds the fewest threads; the one served least recently; the first.
type Turn = Reverse<(usize, u64, usize)>;

/// A tenant while threads are dealt out.
#[derive(Default)]
struct Hand {
    prompt: usize,
    slow: usize,
    last: u64,
    /// It has rows that were not looked for, because it has its part of the threads.
    refused: bool,
    /// Its installations that may have another thread, by index.
    turns: BinaryHeap<Turn>,
}

/// An installation while threads are dealt out.
struct Rest {
    /// How many more threads it may have.
    threads: usize,
    slow: bool,
    /// Its requests are expected to be prompt, and have been.
    known_as_prompt: bool,
    /// The size of its next body, if that has not fitted yet.
    left_over: Option<usize>,
}

/// The tenants that were refused a thread.
#[derive(Default)]
struct Refused {
    /// The first one, and how many it holds: the others hold no fewer.
    first: Option<(usize, usize)>,
    /// There are others.
    others: bool,
}

impl Refused {
    fn add(&mut self, tenant: usize, held: usize) {
        let (first, _) = *self.first.get_or_insert((tenant, held));
        self.others |= first != tenant;
    }

    /// Whether somebody else waits, and this tenant has its share and no fewer than that one.
    fn outweigh(&self, tenant: usize, held: usize, share: usize) -> bool {
        self.first.is_some_and(|(first, fewest)| {
            (self.others || first != tenant) && held >= share.max(fewest)
        })
    }
}

impl<K: Copy + Eq + Hash> Limiter<K> {
    /// Deals out threads. No installation gets more than its permits, no tenant more than the
    /// [pools](Pool) admit: one for requests that are expected to be slow, one for the others, and one for all. While
    /// another tenant waits, none gets more than its share of all threads. No more than [`Bounds::at_once`] go to
    /// receivers that are not known as prompt. An installation whose next body does not fit gets none.
    pub fn deal(&self, waiting: &[Waiting<K>], now: Instant, bounds: Bounds) -> Dealt {
        let (mut hands, mut rests) = self.hands(waiting, now, bounds);
        let mut tenants: BinaryHeap<Turn> = hands
            .iter()
            .enumerate()
            .map(|(n, hand)| Reverse((hand.prompt + hand.slow, hand.last, n)))
            .collect();
        let [mut prompt, mut slow, mut all] = self.pools(bounds);
        let mut room = self.room(bounds);
        let reading = self.reading(now);
        // Whose turn it is to send one alone is known when all of them are claimed.
        let mut alone = HashSet::new();
        let share = all.limit.div_ceil(self.sharing(&hands));
        let mut refused = Refused::default();
        let mut at_once = bounds.at_once();
        let mut dealt = Dealt::default();
        while let Some(Reverse((held, last, tenant))) = tenants.pop() {
            let hand = &mut hands[tenant];
            let Some(Reverse((in_flight, served, n))) = hand.turns.pop() else {
                if hand.refused {
                    refused.add(tenant, held);
                    dealt.short = true;
                }
                continue;
            };
            let rest = &mut rests[n];
            if let Some(bytes) = rest.left_over.take() {
                let whose = waiting[n].tenant;
                let place = room.place(whose, bytes);
                let fits = match place.filter(|_| reading.admits(bytes)) {
                    Some(Place::Alone) => alone.insert(whose),
                    Some(place) => {
                        room.add(whose, bytes, place);
                        true
                    }
                    None => false,
                };
                if !fits {
                    tenants.push(Reverse((held, last, tenant)));
                    continue;
                }
            }
            let (pool, part): (&mut Pool, &mut usize) = if rest.slow {
                (&mut slow, &mut hand.slow)
            } else {
                (&mut prompt, &mut hand.prompt)
            };
            if !all.admits(held) || !pool.admits(*part) || refused.outweigh(tenant, held, share) {
                // What is refused once is refused for the rest of this deal: threads only get fewer.
                refused.add(tenant, held);
                dealt.short = true;
                tenants.push(Reverse((held, last, tenant)));
                continue;
            }
            if !rest.known_as_prompt {
                if at_once == 0 {
                    dealt.more = true;
                    tenants.push(Reverse((held, last, tenant)));
                    continue;
                }
                at_once -= 1;
            }
            pool.used += 1;
            all.used += 1;
            *part += 1;
            rest.threads -= 1;
            dealt.threads.push(n);
            if rest.threads > 0 {
                hand.turns.push(Reverse((in_flight + 1, served, n)));
            }
            tenants.push(Reverse((held + 1, last, tenant)));
        }
        dealt
    }

    /// How many tenants hold threads or want some.
    fn sharing(&self, hands: &[Hand]) -> usize {
        let idle = hands.iter().filter(|hand| hand.prompt + hand.slow == 0);
        (self.holders + idle.count()).max(1)
    }

    fn hands(
        &self,
        waiting: &[Waiting<K>],
        now: Instant,
        bounds: Bounds,
    ) -> (Vec<Hand>, Vec<Rest>) {
        let mut hands: Vec<Hand> = Vec::new();
        let mut rests = Vec::with_capacity(waiting.len());
        let mut index = HashMap::new();
        for (n, waiting) in waiting.iter().enumerate() {
            let receiver = self.receivers.get(&waiting.installation);
            let permits = receiver.map_or(bounds.first_window(), |receiver| receiver.permits(now));
            let left_over = receiver.and_then(|receiver| receiver.left_over);
            let rest = Rest {
                threads: waiting
                    .due
                    .min(permits)
                    .min(left_over.map_or(permits, |_| 1)),
                slow: receiver.is_some_and(Receiver::is_slow),
                known_as_prompt: receiver.is_some_and(Receiver::is_known_as_prompt),
                left_over,
            };
            let hand = *index.entry(waiting.tenant).or_insert_with(|| {
                hands.push(self.hand(waiting.tenant));
                hands.len() - 1
            });
            hands[hand].refused |= waiting.due == 0 && permits > 0;
            if rest.threads > 0 {
                let (in_flight, last) =
                    receiver.map_or((0, 0), |receiver| (receiver.in_flight(), receiver.last()));
                hands[hand].turns.push(Reverse((in_flight, last, n)));
            }
            rests.push(rest);
        }
        (hands, rests)
    }

    fn hand(&self, tenant: K) -> Hand {
        self.tenants
            .get(&tenant)
            .map_or_else(Hand::default, |tenant| Hand {
                prompt: tenant.prompt,
                slow: tenant.slow,
                last: tenant.last,
                refused: false,
                turns: BinaryHeap::new(),
            })
    }
}
