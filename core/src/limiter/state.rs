//! Owns what is in flight, and what is known of the tenants and receivers that had requests lately.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::{Duration, Instant},
};

use super::{
    bounds::Bounds,
    place::Place,
    pool::Pool,
    reading::{Reading, Rest},
    receiver::{Receiver, SLOW_AFTER, Verdict},
};

/// A request that goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<K> {
    /// Whose it is.
    pub tenant: K,
    /// The installation whose receiver gets it.
    pub installation: K,
    /// The size of its body.
    pub body_bytes: usize,
}

/// A request in flight.
#[derive(Debug)]
struct InFlight<K> {
    request: Request<K>,
    slow: bool,
    place: Place,
}

/// What is known of a tenant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenant {
    /// Requests in flight that are not slow.
    pub prompt: usize,
    pub slow: usize,
    /// Of bodies that are not small.
    pub body_bytes: usize,
    /// The number of its last request, of all requests.
    pub last: u64,
    /// And of the last one whose body is not small.
    pub last_counted: u64,
    last_seen: Instant,
}

impl Tenant {
    fn held(&self) -> usize {
        self.prompt + self.slow
    }
}

/// The requests in flight, and the tenants and receivers that had some lately or are in trouble.
#[derive(Debug)]
pub struct Limiter<K> {
    requests: HashMap<u64, InFlight<K>>,
    /// Those that are not slow, the oldest first, and some that have ended.
    prompt: VecDeque<(Instant, u64)>,
    slow: usize,
    /// Of medium bodies.
    pub(super) body_bytes: usize,
    /// Whether the body that goes alone is in flight.
    pub(super) has_one_alone: bool,
    /// From reading bodies that are not small.
    pub(super) rest: Rest,
    pub(super) tenants: HashMap<K, Tenant>,
    /// How many tenants have requests in flight.
    pub(super) holders: usize,
    pub(super) receivers: HashMap<K, Receiver<K>>,
    started: u64,
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self {
            requests: HashMap::new(),
            prompt: VecDeque::new(),
            slow: 0,
            body_bytes: 0,
            has_one_alone: false,
            rest: Rest::default(),
            tenants: HashMap::new(),
            holders: 0,
            receivers: HashMap::new(),
            started: 0,
        }
    }
}

/// How many rows of each installation are worth looking at.
#[derive(Clone, Debug)]
pub struct Permits<K> {
    /// Installations with a number of their own, and that number.
    pub listed: Vec<(K, usize)>,
    /// The number of each other one.
    pub unlisted: usize,
}

impl<K: Copy + Eq + Hash> Limiter<K> {
    /// A request went out; `tag` is the caller's name for it.
    pub fn started(&mut self, tag: u64, request: Request<K>, now: Instant, bounds: Bounds) {
        self.started += 1;
        let receiver = self.receivers.entry(request.installation);
        let receiver = receiver.or_insert_with(|| Receiver::new(request.tenant, now, bounds));
        receiver.started(self.started, now);
        let slow = receiver.is_slow();
        let place = self.room(bounds).place(request.tenant, request.body_bytes);
        let place = place.unwrap_or(Place::Shared);
        let holder = self.tenants.entry(request.tenant).or_insert(Tenant {
            prompt: 0,
            slow: 0,
            body_bytes: 0,
            last: 0,
            last_counted: 0,
            last_seen: now,
        });
        self.holders += usize::from(holder.held() == 0);
        if place != Place::Small {
            holder.body_bytes += request.body_bytes;
            holder.last_counted = self.started;
        }
        match place {
            Place::Small => {}
            Place::Shared => self.body_bytes += request.body_bytes,
            Place::Alone => self.has_one_alone = true,
        }
        holder.last = self.started;
        holder.last_seen = now;
        if slow {
            holder.slow += 1;
            self.slow += 1;
        } else {
            holder.prompt += 1;
            self.prompt.push_back((now, tag));
        }
        let request = InFlight {
            request,
            slow,
            place,
        };
        self.requests.insert(tag, request);
    }

    /// A request came back, or failed, and kept a thread for this time.
    pub fn finished(
        &mut self,
        tag: u64,
        verdict: Verdict,
        took: Duration,
        now: Instant,
        bounds: Bounds,
    ) {
        let Some(InFlight {
            request,
            slow,
            place,
        }) = self.requests.remove(&tag)
        else {
            return;
        };
        let counted = match place {
            Place::Small => 0,
            Place::Shared => {
                self.body_bytes -= request.body_bytes;
                request.body_bytes
            }
            Place::Alone => {
                self.has_one_alone = false;
                request.body_bytes
            }
        };
        if let Some(tenant) = self.tenants.get_mut(&request.tenant) {
            tenant.last_seen = now;
            tenant.body_bytes -= counted;
            if slow {
                tenant.slow -= 1;
                self.slow -= 1;
            } else {
                tenant.prompt -= 1;
            }
            self.holders -= usize::from(tenant.held() == 0);
        }
        if let Some(receiver) = self.receivers.get_mut(&request.installation) {
            receiver.finished(verdict, took, now, bounds);
        }
    }

    /// Finds the requests that have become slow. Call it before anything is asked or dealt.
    pub fn age(&mut self, now: Instant) {
        while let Some((started, tag)) = self.prompt.front().copied() {
            let request = self.requests.get_mut(&tag);
            if request.is_some() && now.duration_since(started) < SLOW_AFTER {
                return;
            }
            self.prompt.pop_front();
            let Some(InFlight { request, slow, .. }) = request else {
                continue;
            };
            *slow = true;
            self.slow += 1;
            if let Some(tenant) = self.tenants.get_mut(&request.tenant) {
                tenant.prompt -= 1;
                tenant.slow += 1;
            }
            if let Some(receiver) = self.receivers.get_mut(&request.installation) {
                receiver.keeps_waiting();
            }
        }
    }

    /// Requests in flight that are not slow.
    pub fn not_slow(&self) -> usize {
        self.requests.len() - self.slow
    }

    /// How long until the next request becomes slow and gives way to another.
    pub fn next_slow_in(&self, now: Instant) -> Option<Duration> {
        let (started, _) = self
            .prompt
            .iter()
            .find(|(_, tag)| self.requests.contains_key(tag))?;
        Some(SLOW_AFTER.saturating_sub(now.duration_since(*started)))
    }

    /// How many rows of each installation are worth looking at now. One without requests in flight is looked at
    /// as a new one, whatever its window: the list must not name everybody. None is looked at of a tenant that has
    /// its part of the threads: whatever is found, the next deal gives it nothing.
    pub fn permits(&self, now: Instant, bounds: Bounds) -> Permits<K> {
        let number = |receiver: &Receiver<K>| {
            if !self.admits(receiver, bounds) {
                return Some(0);
            }
            (!receiver.is_idle_and_well()).then(|| receiver.permits(now))
        };
        let receivers = self.receivers.iter();
        Permits {
            listed: receivers
                .filter_map(|(installation, receiver)| Some((*installation, number(receiver)?)))
                .collect(),
            unlisted: bounds.first_window(),
        }
    }

    /// Whether the pools admit another request to this receiver as things are. While threads are dealt out they only
    /// get fewer.
    fn admits(&self, receiver: &Receiver<K>, bounds: Bounds) -> bool {
        let Some(tenant) = self.tenants.get(&receiver.tenant) else {
            return true;
        };
        let [prompt, slow, all] = self.pools(bounds);
        let part = if receiver.is_slow() {
            slow.admits(tenant.slow)
        } else {
            prompt.admits(tenant.prompt)
        };
        part && all.admits(tenant.held())
    }

    /// What a look that begins now may read of bodies.
    pub fn reading(&self, now: Instant) -> Reading {
        self.rest.reading(now)
    }

    /// A look has read bodies that are not small for this long.
    pub fn has_read(&mut self, reading: Duration, now: Instant) {
        self.rest.after(reading, now);
    }

    /// How long until a body that was left over may be read, if one waits for that.
    pub fn next_reading(&self, now: Instant) -> Option<Duration> {
        let waits = || {
            self.receivers
                .values()
                .any(|receiver| receiver.left_over.is_some())
        };
        self.rest.ends_in(now).filter(|_| waits())
    }

    /// How long until the next backoff ends, if there is one.
    pub fn next_probe(&self, now: Instant) -> Option<Duration> {
        self.receivers
            .values()
            .filter_map(|receiver| receiver.probe_at(now))
            .min()
            .map(|until| until.saturating_duration_since(now))
    }

    /// Forgets tenants and receivers of which nothing was seen for so long that they may start afresh.
    pub fn forget(&mut self, now: Instant, after: Duration) {
        self.receivers
            .retain(|_, receiver| !receiver.is_forgotten(now, after));
        self.tenants
            .retain(|_, tenant| tenant.held() > 0 || now < tenant.last_seen + after);
    }

    /// The next body of this installation did not fit (`None`: there is none that did not). Until one of this size
    /// fits the installation gets no thread, and then one at a time.
    pub fn left_over(
        &mut self,
        (tenant, installation): (K, K),
        body: Option<usize>,
        now: Instant,
        bounds: Bounds,
    ) {
        if body.is_some() {
            let receiver = self.receivers.entry(installation);
            receiver.or_insert_with(|| Receiver::new(tenant, now, bounds));
        }
        if let Some(receiver) = self.receivers.get_mut(&installation) {
            receiver.left_over = body;
        }
    }

    /// The threads that requests which are not slow share, that slow ones share, and all.
    pub(super) fn pools(&self, bounds: Bounds) -> [Pool; 3] {
        [
            (bounds.in_flight, self.not_slow()),
            (bounds.known_slow(), self.slow),
            (bounds.all_in_flight(), self.requests.len()),
        ]
        .map(|(limit, used)| Pool { limit, used })
    }
}
