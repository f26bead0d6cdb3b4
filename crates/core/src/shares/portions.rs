//! What each party may hold, found by a hash: the same room however many parties there are.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;

use tokio::sync::Semaphore;

/// How many portions there are. Two parties whose hashes meet have one together, which is seldom.
const PORTIONS: u64 = 256;

/// The portions of all parties. A party finds its own by a hash with a key of this process, so that nobody can aim at
/// another's.
pub(super) struct Portions {
    portions: Box<[Arc<Semaphore>]>,
    keys: RandomState,
}

impl Portions {
    /// `each` may hold so much.
    pub(super) fn new(each: usize) -> Self {
        let portions = (0..PORTIONS).map(|_| Arc::new(Semaphore::new(each))).collect();
        Self { portions, keys: RandomState::new() }
    }

    /// The portion of a party; there always is one.
    pub(super) fn of(&self, party: impl Hash) -> Option<&Arc<Semaphore>> {
        let number = self.keys.hash_one(party) % PORTIONS;
        self.portions.get(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_that_holds_its_portion_keeps_nothing_from_most_others() {
        let portions = Portions::new(2);
        let of = |party: u32| portions.of(party).unwrap().try_acquire();
        let held = (of(0).unwrap(), of(0).unwrap());
        assert!(of(0).is_err());
        let others = (1..=1000).filter(|party| of(*party).is_ok()).count();
        assert!(others > 950, "{others}");
        drop(held);
        assert!(of(0).is_ok());
    }
}
