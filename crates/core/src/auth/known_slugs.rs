//! Which tenants the slugs are of that were asked for a moment ago, so that a tenant's subdomain costs no statement.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use super::remembered::{FRESH, MOST};
use crate::shared::TenantId;

/// The tenants of slugs, as the database said at most five seconds ago. Those that are no tenant's are not remembered: nobody fills
/// the memory with guesses.
#[derive(Default)]
pub struct KnownSlugs(RwLock<HashMap<String, (TenantId, Instant)>>);

impl KnownSlugs {
    /// Whose it is, if that is known at `now`.
    pub(crate) fn find(&self, slug: &str, now: Instant) -> Option<TenantId> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(slug).filter(|(_, since)| is_fresh(*since, now)).map(|(tenant, _)| *tenant)
    }

    /// Remembers whose a slug is that was asked for at `since`.
    pub(crate) fn remember(&self, slug: &str, tenant: TenantId, since: Instant) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, (_, asked)| is_fresh(*asked, since));
        }
        if known.len() >= MOST {
            known.clear(); // all asked within five seconds: the price is asking for each once more
        }
        known.insert(slug.to_owned(), (tenant, since));
    }
}

fn is_fresh(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < FRESH
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn t_17_a_slug_is_remembered_for_five_seconds_and_memory_is_bounded() {
        let (known, now) = (KnownSlugs::default(), Instant::now());
        let tenant = TenantId::from_uuid(Uuid::from_u128(1));
        assert_eq!(known.find("acme", now), None);
        known.remember("acme", tenant, now);
        assert_eq!(known.find("acme", now + FRESH - Duration::from_millis(1)), Some(tenant));
        assert_eq!((known.find("acme", now + FRESH), known.find("globex", now)), (None, None));
        for number in 0..MOST + 5 {
            known.remember(&number.to_string(), tenant, now);
        }
        assert!(known.0.read().unwrap().len() <= MOST);
    }
}
