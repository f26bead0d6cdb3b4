//! Whose the keys are that were asked for a moment ago, so that a key that is used often costs no statement.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::{Identity, TenantSecret};

/// How long what was read holds: a key that has been rotated opens nothing for longer than this.
const FRESH: Duration = Duration::from_secs(5);
/// How many keys are remembered: some 1 MiB.
const MOST: usize = 10_000;

/// Whom keys belong to, as the database said at most five seconds ago. Keys that are none are not remembered: nobody fills the
/// memory with guesses.
#[derive(Default)]
pub struct KnownKeys(RwLock<HashMap<Vec<u8>, KnownKey>>);

struct KnownKey {
    identity: Identity,
    since: Instant,
}

impl KnownKeys {
    /// Whose it is, if that is known at `now`.
    pub fn find(&self, key: &TenantSecret, now: Instant) -> Option<Identity> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&key.hash()).filter(|known| known.is_fresh(now)).map(|known| known.identity)
    }

    /// Remembers whose a key is that was asked for at `since`.
    pub fn remember(&self, key: &TenantSecret, identity: Identity, since: Instant) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, known| known.is_fresh(since));
        }
        if known.len() >= MOST {
            known.clear(); // all used within five seconds: the price is asking for each once more
        }
        known.insert(key.hash(), KnownKey { identity, since });
    }

    /// Forgets the keys of an identity: for those who have just ended or rotated one.
    pub fn forget(&self, identity: Identity) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.identity != identity);
    }
}

impl KnownKey {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < FRESH
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Actor;
    use crate::shared::{PrincipalId, SystemClock, SystemRng, TenantId};

    fn key() -> (TenantSecret, Identity) {
        let (clock, rng) = (SystemClock, SystemRng::new());
        let tenant = TenantId::new(&clock, &rng);
        let owner = Identity::new(tenant, Actor::Key(PrincipalId::new(&clock, &rng)));
        (TenantSecret::new("live", tenant, &rng), owner)
    }

    #[test]
    fn k_02_a_key_is_remembered_for_five_seconds_at_most() {
        let (known, now, (secret, owner)) = (KnownKeys::default(), Instant::now(), key());
        assert_eq!(known.find(&secret, now), None);
        known.remember(&secret, owner, now);
        assert_eq!(known.find(&secret, now + FRESH - Duration::from_millis(1)), Some(owner));
        assert_eq!(known.find(&secret, now + FRESH), None);
        assert_eq!(known.find(&key().0, now), None);
        known.forget(owner);
        assert_eq!(known.find(&secret, now), None);
    }

    #[test]
    fn memory_is_bounded() {
        let (known, now, (_, owner)) = (KnownKeys::default(), Instant::now(), key());
        for _ in 0..MOST + 5 {
            known.remember(&key().0, owner, now);
        }
        assert!(known.0.read().unwrap().len() <= MOST);
    }
}
