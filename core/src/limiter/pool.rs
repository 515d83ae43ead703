//! Owns the rule by which tenants share a number of threads: what is left for whoever comes next is never less than
//! what the largest holder has.

/// The part of a pool that a tenant alone leaves free, as a divisor.
const RESERVE: usize = 8;

/// Threads, or bytes, that tenants share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub limit: usize,
    pub used: usize,
}

impl Pool {
    /// Whether a tenant that holds this many threads of the pool may have another one. A tenant alone gets all
    /// but an eighth. Of several that want more, n, each ends up with a part of n + 1: the last part stays
    /// free, so that a tenant that comes back to its receivers need not wait for somebody else's.
    pub fn admits(self, held: usize) -> bool {
        let free = self.free();
        free > self.reserve() || held < free
    }

    /// How many are not used.
    pub fn free(self) -> usize {
        self.limit.saturating_sub(self.used)
    }

    /// How many a tenant alone leaves free.
    pub fn reserve(self) -> usize {
        self.limit / RESERVE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What tenants hold that take turns until nobody may have another one.
    fn shares(limit: usize, tenants: usize) -> Vec<usize> {
        let mut held = vec![0; tenants];
        loop {
            let before = held.clone();
            for n in 0..tenants {
                let pool = Pool {
                    limit,
                    used: held.iter().sum(),
                };
                held[n] += usize::from(pool.admits(held[n]));
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn a_tenant_alone_gets_all_but_an_eighth() {
        assert_eq!(shares(64, 1), [56]);
        assert_eq!(shares(7, 1), [7]);
        assert_eq!(shares(8, 1), [7]);
    }

    #[test]
    fn several_leave_as_much_as_each_of_them_has() {
        assert_eq!(shares(64, 3), [19, 19, 18]);
        assert_eq!(shares(64, 10), [6, 6, 6, 6, 6, 6, 6, 6, 6, 5]);
        assert_eq!(shares(320, 9), [32; 9]);
    }

    #[test]
    fn a_full_pool_admits_nobody_and_the_last_thread_is_for_whoever_has_none() {
        let last = Pool { limit: 8, used: 7 };
        assert!(last.admits(0));
        assert!(!last.admits(1));
        assert!(!Pool { limit: 8, used: 8 }.admits(0));
        assert!(!Pool { limit: 8, used: 9 }.admits(0));
        assert!(!Pool { limit: 0, used: 0 }.admits(0));
        assert!(Pool { limit: 1, used: 0 }.admits(0));
    }

    proptest! {
        #[test]
        fn whoever_comes_next_finds_a_thread_unless_tenants_outnumber_them(
            limit in 1_usize..400, tenants in 1_usize..50,
        ) {
            let held = shares(limit, tenants);
            let used: usize = held.iter().sum();
            let most = held.iter().copied().max().unwrap_or(0);
            let least = held.iter().copied().min().unwrap_or(0);
            prop_assert!(used <= limit);
            prop_assert!(most - least <= 1, "{held:?}");
            prop_assert!(limit - used + 1 >= (limit / RESERVE).min(least));
            prop_assert!(tenants >= limit || limit < RESERVE || used < limit);
        }
    }
}
