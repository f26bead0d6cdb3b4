//! Refuses what is beyond the number of requests that can be worked on at a time (S-08).
//!
//! A fixed number, and no queue of our own: the database's pool queues already, and what would wait longer than its
//! client is work for nothing. A refusal comes after the route is known and before anything that costs. A place is held
//! while a body comes, which a client may draw out until `BODY_TIMEOUT`: so neither one tenant nor all strangers together
//! may have more than three quarters of the places, and one stranger's address an eighth.
//!
//! It assumes that clients keep to `Retry-After`, which differs from answer to answer so that they do not come back
//! together, and that `TRUSTED_PROXIES` names the proxies, behind which all strangers have one address otherwise.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::app::App;
use crate::error::{Error, codes};
use crate::module::Route;
use crate::shared::{Shares, TenantId, most_of, network};

/// The requests that may be worked on.
pub(in crate::middleware) struct Capacity {
    all: Arc<Semaphore>,
    strangers: Semaphore,
    of_address: Shares,
    of_tenant: Shares,
}

/// Whose request it is.
#[derive(Debug, Clone, Copy)]
pub(in crate::middleware) enum Party {
    Tenant(TenantId),
    Stranger(IpAddr),
}

/// One of them; given back on drop.
pub(in crate::middleware) struct Place<'a> {
    _share: SemaphorePermit<'a>,
    _of_strangers: Option<SemaphorePermit<'a>>,
    _of_all: SemaphorePermit<'a>,
}

impl Capacity {
    /// Of as many as `all` has places.
    pub(in crate::middleware) fn new(all: Arc<Semaphore>) -> Self {
        let most = all.available_permits();
        Self {
            all,
            strangers: Semaphore::new(most_of(most)),
            of_address: Shares::new(most.div_ceil(8)),
            of_tenant: Shares::new(most_of(most)),
        }
    }

    /// A place for a request. Probes and operators' routes need none: overload is when they are looked at.
    pub(in crate::middleware) fn enter(
        &self,
        app: &App,
        route: &Route,
        party: Party,
    ) -> Result<Option<Place<'_>>, Error> {
        if route.is_operators() {
            return Ok(None);
        }
        match self.take(party) {
            Some(place) => Ok(Some(place)),
            None => Err(refusal(app)),
        }
    }

    fn take(&self, party: Party) -> Option<Place<'_>> {
        let (share, of_strangers) = match party {
            Party::Tenant(tenant) => (self.of_tenant.of(tenant)?, None),
            Party::Stranger(address) => (self.of_address.of(network(address))?, Some(&self.strangers)),
        };
        Some(Place {
            _share: share.try_acquire().ok()?,
            _of_strangers: of_strangers.map(Semaphore::try_acquire).transpose().ok()?,
            _of_all: self.all.try_acquire().ok()?,
        })
    }
}

/// Counts a request that is refused for want of room, and asks its client to come back at another time than the others.
pub(in crate::middleware) fn refusal(app: &App) -> Error {
    app.metrics.http_requests_shed_total.with(&[]).inc();
    let mut random = [0];
    app.rng.fill(&mut random);
    Error::new(&codes::OVERLOADED).retry_after(Duration::from_secs(1 + u64::from(random[0] % 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(number: u8) -> Party {
        Party::Stranger([192, 0, 2, number].into())
    }

    fn tenant() -> Party {
        Party::Tenant(TenantId::from_uuid(uuid::Uuid::from_u128(1)))
    }

    /// As many as there are.
    fn fill(capacity: &Capacity, party: Party) -> Vec<Place<'_>> {
        std::iter::from_fn(|| capacity.take(party)).collect()
    }

    #[test]
    fn s_08_a_place_is_given_back_and_a_refusal_takes_none() {
        let capacity = Capacity::new(Arc::new(Semaphore::new(2)));
        for party in [tenant(), stranger(1)] {
            for _ in 0..3 {
                let held = fill(&capacity, party);
                assert!(!held.is_empty());
            }
        }
        assert_eq!((capacity.all.available_permits(), capacity.strangers.available_permits()), (2, 2));
    }

    #[test]
    fn s_08_neither_a_tenant_nor_an_address_nor_all_strangers_have_all_places() {
        let capacity = Capacity::new(Arc::new(Semaphore::new(64)));
        let held = fill(&capacity, tenant());
        assert_eq!((held.len(), fill(&capacity, stranger(1)).len()), (48, 8));
        drop(held);
        let held = (0..=255).flat_map(|number| fill(&capacity, stranger(number))).collect::<Vec<_>>();
        assert_eq!((held.len(), fill(&capacity, tenant()).len()), (48, 16));
    }
}
