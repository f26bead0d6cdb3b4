//! The counters of one process: a table that never grows beyond 32 MiB.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Charge, Charging, Spent};

/// Decisions about different tenants or addresses seldom wait for each other.
const SHARDS: usize = 16;
/// Places that a key can be in: two cache lines.
const WAYS: usize = 8;
/// Sets of a shard at first, and at most: 2 Mi counters of 16 bytes together.
const FEWEST: usize = 16;
const MOST: usize = 16 * 1024;

/// A key, and the moment when all its units are back, in microseconds. From then on it is as good as absent.
type TableSlot = [u64; 2];

pub(super) struct Table(Box<[Mutex<Shard>]>);

/// A set-associative table: expired counters are replaced where they stand, so nothing has to look for them.
struct Shard(Vec<TableSlot>);

impl Table {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::new(Shard::with_sets(FEWEST))).collect())
    }

    /// Charges all keys one unit, or none. They are of one scope.
    pub(super) fn charge(&self, now: u64, charges: &[Charge]) -> Charging {
        let Some(mut shard) = self.shard(charges) else { return Charging::default() };
        let mut spent = Spent::default();
        let mut allowed = true;
        for (charge, spent) in charges.iter().zip(&mut spent) {
            *spent = charge.quota.spent(shard.find(charge.slot()), now);
            allowed &= charge.quota.admits(*spent);
        }
        if allowed {
            for (charge, spent) in charges.iter().zip(&spent) {
                shard.put(charge.slot(), now + spent + charge.quota.interval(), now);
            }
        }
        Charging { allowed, spent }
    }

    /// Gives each key its unit back.
    pub(super) fn refund(&self, now: u64, charges: &[Charge]) {
        let Some(mut shard) = self.shard(charges) else { return };
        for charge in charges {
            let spent = charge.quota.spent(shard.find(charge.slot()), now);
            shard.put(charge.slot(), now + spent.saturating_sub(charge.quota.interval()), now);
        }
    }

    /// What a key has spent.
    pub(super) fn spent(&self, now: u64, charge: &Charge) -> u64 {
        self.shard(std::slice::from_ref(charge))
            .map_or(0, |shard| charge.quota.spent(shard.find(charge.slot()), now))
    }

    fn shard(&self, charges: &[Charge]) -> Option<MutexGuard<'_, Shard>> {
        let number = charges.first()?.key.scope.number() as usize % SHARDS;
        Some(self.0.get(number)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shard {
    /// Memory is taken as it is first written to: zeroed pages come from the system when they are touched.
    fn with_sets(sets: usize) -> Self {
        Self(vec![[0; 2]; sets * WAYS])
    }

    fn set(&self, key: u64) -> std::ops::Range<usize> {
        let first = key as usize % (self.0.len() / WAYS) * WAYS;
        first..first + WAYS
    }

    /// When the key's units are all back; 0 for a key that is not there.
    fn find(&self, key: u64) -> u64 {
        let set = self.0.get(self.set(key)).unwrap_or_default();
        set.iter().find(|slot| slot[0] == key).map_or(0, |slot| slot[1])
    }

    fn put(&mut self, key: u64, back: u64, now: u64) {
        let slot = self.place(key, now);
        if let Some(slot) = self.0.get_mut(slot) {
            *slot = [key, back];
        }
    }

    /// Where the key is or may go: a place of its own, an expired one, in a grown table, or that of the client that is
    /// soonest without a debt. Clients that are at their limit are the last to be forgotten.
    fn place(&mut self, key: u64, now: u64) -> usize {
        loop {
            let set = self.set(key);
            let first = set.start;
            let slots = self.0.get(set).unwrap_or_default();
            if let Some(own) = slots.iter().position(|slot| slot[0] == key) {
                return first + own;
            }
            let least = slots.iter().enumerate().min_by_key(|(_, slot)| slot[1]);
            let (place, back) = least.map_or((0, 0), |(place, slot)| (place, slot[1]));
            if back <= now || self.0.len() >= MOST * WAYS {
                return first + place;
            }
            self.grow(now);
        }
    }

    fn grow(&mut self, now: u64) {
        let larger = Self::with_sets(self.0.len() / WAYS * 2);
        let old = std::mem::replace(self, larger);
        for [key, back] in old.0.into_iter().filter(|slot| slot[1] > now) {
            // A set of the old table is divided between two of the new one, so that there is room.
            let set = self.set(key);
            if let Some(slot) = self.0.get_mut(set).and_then(|set| set.iter_mut().find(|slot| slot[1] == 0)) {
                *slot = [key, back];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::key::{Key, Scope};
    use crate::limits::{Policy, Quota};

    const MINUTE: u64 = 60_000_000;
    static POLICY: Policy = Policy::requests("p", |_| Quota::new(1, Duration::from_secs(60)));

    fn charge(scope: u64, id: u128, limit: u32) -> Charge {
        let key = Key { scope: Scope::Address(scope), policy: POLICY.name, id };
        Charge { policy: &POLICY, quota: Quota::new(limit, Duration::from_secs(60)), key }
    }

    /// Numbers that repeat and are spread as hashes are: splitmix64.
    fn spread(number: u64) -> u64 {
        let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn own(number: u64, limit: u32) -> Charge {
        charge(spread(number ^ 0x5555), u128::from(spread(number)), limit)
    }

    #[test]
    fn a_refused_decision_charges_no_key() {
        let table = Table::new();
        let (wide, narrow) = (charge(7, 1, 10), charge(7, 2, 1));
        assert!(table.charge(1, &[wide, narrow]).allowed);
        for _ in 0..5 {
            assert!(!table.charge(1, &[wide, narrow]).allowed);
        }
        assert_eq!(wide.quota.used(table.spent(1, &wide)), 1);
        table.refund(1, &[narrow]);
        assert!(table.charge(1, &[wide, narrow]).allowed);
        assert_eq!(wide.quota.used(table.spent(1, &wide)), 2);
    }

    #[test]
    fn a_refund_gives_back_one_unit_and_no_more() {
        let table = Table::new();
        let key = charge(1, 1, 3);
        table.refund(5, &[key]);
        assert_eq!((0..5).filter(|_| table.charge(5, &[key]).allowed).count(), 3);
        table.refund(5, &[key]);
        assert_eq!((0..5).filter(|_| table.charge(5, &[key]).allowed).count(), 1);
    }

    #[test]
    fn l_01_parallel_requests_pass_exactly_as_many_as_the_limit() {
        let table = Table::new();
        let passed = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let allowed = table.charge(1, &[charge(3, 9, 100), charge(3, 10, 1000)]).allowed;
                        passed.fetch_add(u32::from(allowed), std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 100);
    }

    #[test]
    fn l_05_a_million_keys_take_less_than_64_mib() {
        let table = Table::new();
        for number in 0..1_000_000 {
            table.charge(1, &[own(number, 2)]);
        }
        let bytes: usize =
            table.0.iter().map(|shard| shard.lock().unwrap().0.capacity() * size_of::<TableSlot>()).sum();
        assert!(bytes <= 32 * 1024 * 1024, "{bytes} bytes");
        let known = (0..1_000_000).filter(|number| table.spent(1, &own(*number, 2)) > 0).count();
        assert!(known > 970_000, "of a million keys {known} are known");
        for number in 1_000_000..2_500_000 {
            table.charge(1, &[own(number, 2)]);
        }
        let after: usize =
            table.0.iter().map(|shard| shard.lock().unwrap().0.capacity() * size_of::<TableSlot>()).sum();
        assert_eq!(after, bytes);
    }

    #[test]
    fn l_05_whoever_is_at_the_limit_is_forgotten_last() {
        let table = Table::new();
        let greedy: Vec<Charge> = (0..100).map(|number| own(number, 10)).collect();
        for charge in &greedy {
            for _ in 0..10 {
                table.charge(1, std::slice::from_ref(charge));
            }
        }
        for number in 1000..3_000_000 {
            table.charge(1, &[own(number, 10)]);
        }
        let refused = greedy.iter().filter(|key| !table.charge(1, std::slice::from_ref(key)).allowed).count();
        assert_eq!(refused, 100);
    }

    #[test]
    fn l_05_expired_keys_make_room_where_they_stand() {
        let table = Table::new();
        for round in 0..50 {
            for number in 0..5000 {
                table.charge(1 + round * 2 * MINUTE, &[own(round * 10_000 + number, 1)]);
            }
        }
        let slots: usize = table.0.iter().map(|shard| shard.lock().unwrap().0.len()).sum();
        assert!(slots <= 64 * 1024, "{slots} slots for 5000 keys at a time");
    }
}
