//! Fair shares: how much of what all have in common one tenant, one address and all strangers together may hold, so that
//! none of them keeps it from the others. Everything that is shared out in the house is shared out here:
//!
//! | what | rules | what waits when there is none left |
//! | --- | --- | --- |
//! | requests under way (`middleware/admission/overload.rs`) | `REQUESTS` | nobody: 503 |
//! | requests that are held back (`limits/slow_down.rs`) | `SLEEPERS` | nobody: 429 |
//! | memory for bodies (`app/bodies.rs`) | `MEMBERS`, strangers' apart | the sender |
//! | memory for answers (`app/answers.rs`) | `MEMBERS`, `STRANGERS`, operators' apart | nobody: 503 |
//! | uploads of files (`files/store.rs`) | `MEMBERS` | nobody: 503 |
//! | streamed lists (`app/streams.rs`) | half of one tenant, and its own rules for slow readers | nobody: 503 |
//! | requests under way, and database time, by a plan (`load.rs`) | each tenant's own | nobody: 429 |
//! | connections of the pool (`db/pool/`) | `TenantShares` of `DATABASE_TENANT_MAX_CONNECTIONS` | the request |

mod load;
mod portions;
mod tenants;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::shared::{TenantId, network};
pub use load::{LOAD_MINUTES, LoadLimits, LoadOfTenant, LoadRefusal, RequestUnderWay, TenantLoads};
use portions::Portions;
pub(crate) use tenants::{TenantShare, TenantShares};

/// Who holds something.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Party {
    /// Any member of this tenant.
    Tenant(TenantId),
    /// Somebody who has not signed in, at this address.
    Stranger(IpAddr),
    /// An operator: has no share, and what operators need is set apart.
    Operator,
}

/// A part of the whole, as numerator and denominator.
type Fraction = (usize, usize);

/// How much of the whole each may hold; `None` bounds nobody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShareRules {
    /// One tenant.
    tenant: Option<Fraction>,
    /// One stranger's address, or its network.
    address: Option<Fraction>,
    /// All strangers together.
    strangers: Option<Fraction>,
}

/// No share has a bound of its own.
pub(crate) const OPEN: ShareRules = ShareRules { tenant: None, address: None, strangers: None };
/// Requests under way. A client may draw a body out, so neither a tenant nor all strangers have all of them.
pub(crate) const REQUESTS: ShareRules =
    ShareRules { tenant: Some((3, 4)), address: Some((1, 8)), strangers: Some((3, 4)) };
/// Requests that are held back.
pub(crate) const SLEEPERS: ShareRules =
    ShareRules { tenant: Some((1, 8)), address: Some((1, 8)), strangers: Some((3, 4)) };
/// Memory that members of tenants have for themselves.
pub(crate) const MEMBERS: ShareRules = ShareRules { tenant: Some((3, 4)), ..OPEN };
/// Memory that strangers have for themselves.
pub(crate) const STRANGERS: ShareRules = ShareRules { address: Some((1, 2)), ..OPEN };

/// A number of units, such as places or KiB, of which each party has a share.
pub(crate) struct Shares {
    whole: usize,
    all: Arc<Semaphore>,
    strangers: Option<Arc<Semaphore>>,
    of_tenant: Option<Portions>,
    of_address: Option<Portions>,
}

/// One unit, given back on drop.
pub(crate) struct Share<'a> {
    _own: Option<SemaphorePermit<'a>>,
    _of_strangers: Option<SemaphorePermit<'a>>,
    _of_all: SemaphorePermit<'a>,
}

/// Units that may outlive who took them; given back on drop.
pub(crate) struct OwnedShare {
    _own: Option<OwnedSemaphorePermit>,
    _of_strangers: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

impl Shares {
    /// So many units, by `rules`.
    pub(crate) fn new(whole: usize, rules: ShareRules) -> Self {
        Self::over(Arc::new(Semaphore::new(whole)), rules)
    }

    /// As many units as `all` has, which others may look at.
    pub(crate) fn over(all: Arc<Semaphore>, rules: ShareRules) -> Self {
        let whole = all.available_permits();
        let portions = |fraction| Portions::new(part_of(whole, fraction));
        Self {
            whole,
            all,
            strangers: rules.strangers.map(|fraction| Arc::new(Semaphore::new(part_of(whole, fraction)))),
            of_tenant: rules.tenant.map(portions),
            of_address: rules.address.map(portions),
        }
    }

    /// How many units are taken, and how many there are.
    pub(crate) fn in_use(&self) -> (usize, usize) {
        (self.whole.saturating_sub(self.all.available_permits()), self.whole)
    }

    /// A unit, if the party's share, the strangers' and the whole have one left.
    pub(crate) fn take(&self, party: Party) -> Option<Share<'_>> {
        let (own, of_strangers) = self.bounds(party);
        Some(Share {
            _own: own.map(|share| share.try_acquire()).transpose().ok()?,
            _of_strangers: of_strangers.map(|share| share.try_acquire()).transpose().ok()?,
            _of_all: self.all.try_acquire().ok()?,
        })
    }

    /// The same, for so many units.
    pub(crate) fn take_owned(&self, party: Party, units: u32) -> Option<OwnedShare> {
        let (own, of_strangers) = self.bounds(party);
        let take = |share: &Arc<Semaphore>| Arc::clone(share).try_acquire_many_owned(units);
        Some(OwnedShare {
            _own: own.map(take).transpose().ok()?,
            _of_strangers: of_strangers.map(take).transpose().ok()?,
            _of_all: take(&self.all).ok()?,
        })
    }

    /// Waits for so many units; `None` when there will never be any. They come together: two waiters that each held a part
    /// could wait for one another.
    pub(crate) async fn wait(&self, party: Party, units: u32) -> Option<OwnedShare> {
        let (own, of_strangers) = self.bounds(party);
        Some(OwnedShare {
            _own: wait_for(own, units).await?,
            _of_strangers: wait_for(of_strangers, units).await?,
            _of_all: wait_for(Some(&self.all), units).await??,
        })
    }

    /// What bounds the party beside the whole: its own share, and that of all strangers.
    fn bounds(&self, party: Party) -> (Option<&Arc<Semaphore>>, Option<&Arc<Semaphore>>) {
        match party {
            Party::Tenant(tenant) => (self.of_tenant.as_ref().and_then(|portions| portions.of(tenant)), None),
            Party::Stranger(address) => {
                let own = self.of_address.as_ref().and_then(|portions| portions.of(network(address)));
                (own, self.strangers.as_ref())
            }
            Party::Operator => (None, None),
        }
    }
}

/// The outer `None`: it will never come. The inner one: there is nothing to wait for.
async fn wait_for(share: Option<&Arc<Semaphore>>, units: u32) -> Option<Option<OwnedSemaphorePermit>> {
    match share {
        Some(share) => Arc::clone(share).acquire_many_owned(units).await.ok().map(Some),
        None => Some(None),
    }
}

/// Rounded up: of little, too, a part is something.
pub(crate) fn part_of(whole: usize, (numerator, denominator): Fraction) -> usize {
    whole.saturating_mul(numerator).div_ceil(denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u128) -> Party {
        Party::Tenant(TenantId::from_uuid(uuid::Uuid::from_u128(number)))
    }

    fn stranger(number: u8) -> Party {
        Party::Stranger([192, 0, 2, number].into())
    }

    /// As many as there are.
    fn fill(shares: &Shares, party: Party) -> Vec<Share<'_>> {
        std::iter::from_fn(|| shares.take(party)).collect()
    }

    #[test]
    fn three_quarters_of_little_is_something() {
        assert_eq!([1, 2, 4, 512].map(|whole| part_of(whole, (3, 4))), [1, 2, 3, 384]);
    }

    #[test]
    fn s_08_a_refusal_takes_nothing_and_what_was_taken_comes_back() {
        let shares = Shares::new(2, REQUESTS);
        for party in [tenant(1), stranger(1)] {
            for _ in 0..3 {
                assert!(!fill(&shares, party).is_empty());
            }
        }
        assert_eq!(shares.in_use(), (0, 2));
        assert_eq!(shares.strangers.as_ref().unwrap().available_permits(), 2);
    }

    #[test]
    fn s_08_neither_a_tenant_nor_an_address_nor_all_strangers_hold_everything() {
        let shares = Shares::new(64, REQUESTS);
        let held = fill(&shares, tenant(1));
        assert_eq!((held.len(), fill(&shares, stranger(1)).len()), (48, 8));
        drop(held);
        let held = (0..=255).flat_map(|number| fill(&shares, stranger(number))).collect::<Vec<_>>();
        assert_eq!((held.len(), fill(&shares, tenant(1)).len()), (48, 16));
    }

    #[tokio::test]
    async fn a_waiter_holds_nothing_of_the_whole_and_units_come_together() {
        let shares = Shares::new(8, MEMBERS);
        let held = shares.take_owned(tenant(1), 6).unwrap();
        let mut waiting = Box::pin(shares.wait(tenant(1), 2));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert_eq!(shares.in_use(), (6, 8), "its share is full, and the whole is not touched");
        assert!(shares.take_owned(tenant(2), 3).is_none() && shares.take_owned(tenant(2), 2).is_some());
        drop(held);
        assert!(waiting.await.is_some());
        assert_eq!(shares.in_use(), (0, 8));
    }
}
