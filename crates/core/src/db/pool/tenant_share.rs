//! Each tenant's share of the pool, so that one tenant's rush leaves connections to the others (T-22).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::shared::TenantId;

/// Above this many entries, those of tenants that hold and wait for nothing are dropped.
const TIDY_ABOVE: usize = 1024;

/// How many connections each tenant holds in this process.
pub(in crate::db) struct TenantShares {
    most: usize,
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
    waiting: AtomicUsize,
}

/// Counted as long as it lives: a waiter may be dropped at any time.
struct Waiting<'a>(&'a AtomicUsize);

/// A place in the tenant's share, given back when dropped.
pub(in crate::db) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl TenantShares {
    /// At most `most` connections a tenant.
    pub(in crate::db) fn new(most: usize) -> Self {
        Self { most, tenants: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// How many wait for a place.
    pub(in crate::db) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A place in the tenant's share, if one is free.
    pub(in crate::db) fn place_at_once(&self, tenant: TenantId) -> Option<Place> {
        self.share(tenant).try_acquire_owned().ok().map(|permit| Place { _permit: permit })
    }

    /// Waits for a place in the tenant's share. Waiters of one tenant are served in order, and hold nothing.
    pub(in crate::db) async fn place(&self, tenant: TenantId) -> Option<Place> {
        let share = self.share(tenant);
        if let Ok(permit) = Arc::clone(&share).try_acquire_owned() {
            return Some(Place { _permit: permit });
        }
        let _waiting = Waiting::new(&self.waiting);
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

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
        assert_eq!(shares.waiting(), 0);
        let third = shares.place(a);
        let mut third = Box::pin(third);
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        assert!(shares.place(b).await.is_some());
        {
            let mut fourth = Box::pin(shares.place(a));
            assert!(futures_util::poll!(fourth.as_mut()).is_pending());
            assert_eq!(shares.waiting(), 2);
        }
        assert_eq!(shares.waiting(), 1, "who gives up waits no longer");
        drop(held);
        assert!(third.await.is_some());
        assert_eq!(shares.waiting(), 0);
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
