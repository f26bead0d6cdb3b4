use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;

use tokio::sync::Semaphore;

/// How many shares there are. Two parties that meet in one have it together, which is seldom.
const SHARES: u64 = 256;

/// What each party may hold of something that all have in common, so that none holds all of it.
///
/// A party finds its share by a hash with a key of this process: that takes the same room however many parties there
/// are, and nobody can aim at another's share.
pub(crate) struct Shares {
    shares: Box<[Arc<Semaphore>]>,
    keys: RandomState,
}

impl Shares {
    /// `each` may hold so much.
    pub(crate) fn new(each: usize) -> Self {
        let shares = (0..SHARES).map(|_| Arc::new(Semaphore::new(each))).collect();
        Self { shares, keys: RandomState::new() }
    }

    /// The share of a party; there always is one.
    pub(crate) fn of(&self, party: impl Hash) -> Option<&Arc<Semaphore>> {
        let number = self.keys.hash_one(party) % SHARES;
        self.shares.get(number as usize)
    }
}

/// Three quarters: what a party may hold where others must find something left.
pub(crate) fn most_of(whole: usize) -> usize {
    whole.saturating_mul(3).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_that_holds_its_share_keeps_nothing_from_most_others() {
        let shares = Shares::new(2);
        let of = |party: u32| shares.of(party).unwrap().try_acquire();
        let held = (of(0).unwrap(), of(0).unwrap());
        assert!(of(0).is_err());
        let others = (1..=1000).filter(|party| of(*party).is_ok()).count();
        assert!(others > 950, "{others}");
        drop(held);
        assert!(of(0).is_ok());
    }

    #[test]
    fn three_quarters_of_little_is_something() {
        assert_eq!([1, 2, 4, 512].map(most_of), [1, 2, 3, 384]);
    }
}
