//! Each tenant's share of the pool, so that one tenant's rush leaves connections to the others (T-22).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::shared::TenantId;

/// Above this many entries, those of tenants that hold and wait for nothing are dropped.
const TIDY_ABOVE: usize = 1024;

/// How many connections each tenant holds in this process.
pub(super) struct TenantShares {
    most: usize,
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
}

/// A place in the tenant's share, given back when dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl TenantShares {
    /// At most `most` connections a tenant.
    pub(super) fn new(most: usize) -> Self {
        Self { most, tenants: Mutex::new(HashMap::new()) }
    }

    /// Waits for a place in the tenant's share. Waiters of one tenant are served in order, and hold nothing.
    pub(super) async fn place(&self, tenant: TenantId) -> Option<Place> {
        let share = self.share(tenant);
        // The semaphore is never closed. The permit keeps it alive, and with it the tenant's count.
        share.acquire_owned().await.ok().map(|permit| Place { _permit: permit })
    }

    fn share(&self, tenant: TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = tenants.get(&tenant).and_then(Weak::upgrade) {
            return share;
        }
        if tenants.len() >= TIDY_ABOVE {
            tenants.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Semaphore::new(self.most));
        tenants.insert(tenant, Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{SystemClock, SystemRng};

    fn tenant() -> TenantId {
        TenantId::new(&SystemClock, &SystemRng::new())
    }

    #[tokio::test]
    async fn t_22_a_tenant_holds_no_more_than_its_share() {
        let shares = TenantShares::new(2);
        let (a, b) = (tenant(), tenant());
        let held = (shares.place(a).await, shares.place(a).await);
        let third = shares.place(a);
        tokio::pin!(third);
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        assert!(shares.place(b).await.is_some());
        drop(held);
        assert!(third.await.is_some());
    }

    #[tokio::test]
    async fn t_18_a_million_tenants_leave_nothing_behind() {
        let shares = TenantShares::new(1);
        for _ in 0..10_000 {
            drop(shares.place(tenant()).await);
        }
        assert!(shares.tenants.lock().unwrap().len() <= TIDY_ABOVE);
    }
}
