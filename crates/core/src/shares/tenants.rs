//! A share for each tenant that is its own alone, and that it may wait for: for what it holds long enough, such as a
//! connection of the pool, that no other tenant may be in its way (T-22).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::shared::TenantId;

/// Above this many entries, those of tenants that hold and wait for nothing are dropped.
const TIDY_ABOVE: usize = 1024;

/// What each tenant holds.
pub(crate) struct TenantShares {
    most: usize,
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
    waiting: AtomicUsize,
}

/// Counted as long as it lives: a waiter may be dropped at any time.
struct Waiter<'a>(&'a AtomicUsize);

/// One unit of a tenant's share, given back when dropped.
pub(crate) struct TenantShare {
    _permit: OwnedSemaphorePermit,
}

impl TenantShares {
    /// At most `most` units a tenant.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, tenants: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A unit of the tenant's share, if one is free.
    pub(crate) fn take(&self, tenant: TenantId) -> Option<TenantShare> {
        self.share(tenant).try_acquire_owned().ok().map(|permit| TenantShare { _permit: permit })
    }

    /// Waits for a unit of the tenant's share. Waiters of one tenant are served in order, and hold nothing.
    pub(crate) async fn wait(&self, tenant: TenantId) -> Option<TenantShare> {
        let share = self.share(tenant);
        if let Ok(permit) = Arc::clone(&share).try_acquire_owned() {
            return Some(TenantShare { _permit: permit });
        }
        let _waiting = Waiter::new(&self.waiting);
        // The semaphore is never closed. The permit keeps it alive, and with it the tenant's count.
        share.acquire_owned().await.ok().map(|permit| TenantShare { _permit: permit })
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

impl<'a> Waiter<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiter<'_> {
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
        let held = (shares.wait(a).await, shares.wait(a).await);
        assert_eq!(shares.waiting(), 0);
        let third = shares.wait(a);
        let mut third = Box::pin(third);
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        assert!(shares.wait(b).await.is_some());
        {
            let mut fourth = Box::pin(shares.wait(a));
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
            drop(shares.wait(tenant()).await);
        }
        assert!(shares.tenants.lock().unwrap().len() <= TIDY_ABOVE);
    }
}
