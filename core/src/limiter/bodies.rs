//! Owns which bodies may be in memory at once. Small ones always: threads bound how many there are. Medium ones share
//! a number of bytes, of which a tenant leaves a reserve to those that have none. And one that is larger than this
//! reserve, or that finds no place among the others, goes alone.

use std::{collections::HashMap, hash::Hash};

use super::{
    bounds::Bounds,
    place::{Place, SMALL_BODY},
    pool::Pool,
    state::Limiter,
};

/// What is left for bodies while some of them are taken.
#[derive(Debug)]
pub struct Room<'a, K> {
    limiter: &'a Limiter<K>,
    shared: Pool,
    alone_is_free: bool,
    /// What tenants took of it.
    taken: HashMap<K, usize>,
}

impl<K: Copy + Eq + Hash> Room<'_, K> {
    /// Whether a body of this size may be taken.
    pub fn fits(&self, tenant: K, bytes: usize) -> bool {
        self.place(tenant, bytes).is_some()
    }

    /// Takes a body if it fits.
    pub fn take(&mut self, tenant: K, bytes: usize) -> bool {
        let place = self.place(tenant, bytes);
        place.map(|place| self.add(tenant, bytes, place)).is_some()
    }

    /// Whose turn it is to send what is not small: the tenant with the lowest number.
    pub fn turn(&self, tenant: K) -> u64 {
        let tenant = self.limiter.tenants.get(&tenant);
        tenant.map_or(0, |tenant| tenant.last_counted)
    }

    pub(super) fn place(&self, tenant: K, bytes: usize) -> Option<Place> {
        if bytes <= SMALL_BODY {
            return Some(Place::Small);
        }
        let (free, reserve) = (self.shared.free(), self.shared.reserve());
        let has_none = self.held(tenant) == 0;
        let is_medium = bytes <= reserve;
        if is_medium && (bytes + reserve <= free || has_none && bytes <= free) {
            return Some(Place::Shared);
        }
        (self.alone_is_free && (has_none || !is_medium)).then_some(Place::Alone)
    }

    pub(super) fn add(&mut self, tenant: K, bytes: usize, place: Place) {
        match place {
            Place::Small => return,
            Place::Shared => self.shared.used += bytes,
            Place::Alone => self.alone_is_free = false,
        }
        *self.taken.entry(tenant).or_default() += bytes;
    }

    /// Bytes that a tenant has in flight, or has taken.
    fn held(&self, tenant: K) -> usize {
        let in_flight = self.limiter.tenants.get(&tenant);
        let taken = self.taken.get(&tenant).copied().unwrap_or(0);
        in_flight.map_or(0, |tenant| tenant.body_bytes) + taken
    }
}

impl<K: Copy + Eq + Hash> Limiter<K> {
    /// What is left for bodies.
    pub fn room(&self, bounds: Bounds) -> Room<'_, K> {
        Room {
            limiter: self,
            shared: Pool {
                limit: bounds.body_bytes,
                used: self.body_bytes,
            },
            alone_is_free: !self.has_one_alone,
            taken: HashMap::new(),
        }
    }
}
