use std::collections::HashMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use super::Identity;

/// How many tokens are remembered: about 2 MiB.
const MOST: usize = 4096;

/// Tokens whose signature has been verified, until they expire.
///
/// It answers what verifying would answer: the ring of keys and the rules do not change while a process runs, and the
/// expiry is compared at each look-up. What revokes a token sooner is asked after it, not instead of it.
#[derive(Default)]
pub(super) struct Verified(RwLock<HashMap<End, KnownToken>>);

/// The end of a token, which is of its signature: nobody can make two good ones alike, and it is a tenth of what there
/// would be to hash.
type End = [u8; 32];

struct KnownToken {
    token: Box<str>,
    identity: Identity,
    /// In seconds since 1970; a clock that is set back does not make a token valid before its time.
    from: i64,
    expires: i64,
}

impl Verified {
    /// Who the token was issued to, if it was verified before and is valid at `now`, in seconds since 1970.
    pub(super) fn find(&self, token: &str, now: i64) -> Option<Identity> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known
            .get(end(token)?)
            .filter(|entry| *entry.token == *token && (entry.from..entry.expires).contains(&now))
            .map(|entry| entry.identity)
    }

    /// Remembers a token that has just been verified.
    pub(super) fn remember(&self, token: &str, identity: Identity, valid: Range<i64>, now: i64) {
        let Some(end) = end(token) else { return };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, entry| now < entry.expires);
        }
        if known.len() >= MOST {
            known.clear(); // all alive: rare, and the price is verifying each once more
        }
        let entry = KnownToken { token: token.into(), identity, from: valid.start, expires: valid.end };
        known.insert(*end, entry);
    }
}

fn end(token: &str) -> Option<&End> {
    token.as_bytes().last_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Actor;
    use crate::shared::{SystemClock, SystemRng, TenantId, UserId};

    fn identity() -> Identity {
        let (clock, rng) = (SystemClock, SystemRng::new());
        Identity::new(TenantId::new(&clock, &rng), Actor::Person(UserId::new(&clock, &rng)))
    }

    #[test]
    fn j_02_a_remembered_token_expires_all_the_same() {
        let (verified, someone) = (Verified::default(), identity());
        let token = |head: &str| format!("{head}.{}", "s".repeat(43));
        verified.remember(&token("token"), someone, 0..900, 0);
        assert_eq!(verified.find(&token("token"), -1), None);
        assert_eq!(verified.find(&token("token"), 899), Some(someone));
        assert_eq!(verified.find(&token("token"), 900), None);
        assert_eq!(verified.find(&token("Token"), 0), None, "another token with the same end");
        assert_eq!(verified.find("token", 0), None);
    }

    #[test]
    fn memory_is_bounded() {
        let (verified, someone) = (Verified::default(), identity());
        for n in 0..3 * MOST {
            verified.remember(&format!("{n:043}"), someone, 0..900, 0);
        }
        assert!(verified.0.read().unwrap().len() <= MOST);
    }
}
