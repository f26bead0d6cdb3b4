//! A share for each tenant that is its own alone, and that it may wait for: for what it holds long enough, such as a
//! connection of the pool, that no other tenant may be in its way (T-22).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::load::{HeldConnection, TenantLoads};
use crate::shared::TenantId;

/// Above this many entries, those of tenants that hold and wait for nothing are dropped.
const TIDY_ABOVE: usize = 1024;

/// What each tenant holds.
pub(crate) struct TenantShares {
    most: usize,
    tenants: Mutex<KnownShares>,
    loads: Arc<TenantLoads>,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct KnownShares {
    /// Those of tenants that hold or wait for something.
    in_use: HashMap<TenantId, Weak<OneShare>>,
    /// What tenants may hold that may not hold as much as any: by their plans.
    own: HashMap<TenantId, usize>,
}

/// What one tenant may hold. It grows and shrinks: units beyond what it may hold now are not given out again.
struct OneShare {
    free: Arc<Semaphore>,
    size: Mutex<ShareSize>,
}

struct ShareSize {
    most: usize,
    /// Units that are still held and are not to come back.
    excess: usize,
}

/// Counted as long as it lives: a waiter may be dropped at any time.
struct Waiter<'a>(&'a AtomicUsize);

/// One unit of a tenant's share, given back when dropped.
pub(crate) struct TenantShare {
    permit: Option<OwnedSemaphorePermit>,
    of: Arc<OneShare>,
    tenant: TenantId,
    /// What it is a unit of, once that is held.
    held: Option<HeldConnection>,
}

impl TenantShares {
    /// At most `most` units a tenant.
    pub(crate) fn new(most: usize, loads: Arc<TenantLoads>) -> Self {
        Self { most, loads, tenants: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// How much each tenant asks.
    pub(crate) fn loads(&self) -> &Arc<TenantLoads> {
        &self.loads
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A unit of the tenant's share, if one is free.
    pub(crate) fn take(&self, tenant: TenantId) -> Option<TenantShare> {
        let of = self.share(tenant);
        let permit = Arc::clone(&of.free).try_acquire_owned().ok()?;
        Some(TenantShare::new(permit, of, tenant))
    }

    /// Waits for a unit of the tenant's share. Waiters of one tenant are served in order, and hold nothing.
    pub(crate) async fn wait(&self, tenant: TenantId) -> Option<TenantShare> {
        let of = self.share(tenant);
        if let Ok(permit) = Arc::clone(&of.free).try_acquire_owned() {
            return Some(TenantShare::new(permit, of, tenant));
        }
        let _waiting = Waiter::new(&self.waiting);
        // The semaphore is never closed. The unit keeps it alive, and with it the tenant's count.
        let permit = Arc::clone(&of.free).acquire_owned().await.ok()?;
        Some(TenantShare::new(permit, of, tenant))
    }

    /// How much a tenant may hold from here on; `None`: as much as any. What it holds beyond that it keeps until it gives it
    /// back.
    pub(crate) fn allow(&self, tenant: TenantId, most: Option<usize>) {
        let most = most.map(|most| most.max(1)).filter(|most| *most != self.most);
        let mut tenants = self.lock();
        match most {
            Some(most) => tenants.own.insert(tenant, most),
            None => tenants.own.remove(&tenant),
        };
        if let Some(share) = tenants.in_use.get(&tenant).and_then(Weak::upgrade) {
            share.resize(most.unwrap_or(self.most));
        }
    }

    fn share(&self, tenant: TenantId) -> Arc<OneShare> {
        let mut tenants = self.lock();
        if let Some(share) = tenants.in_use.get(&tenant).and_then(Weak::upgrade) {
            return share;
        }
        if tenants.in_use.len() >= TIDY_ABOVE {
            tenants.in_use.retain(|_, share| share.strong_count() > 0);
        }
        let most = tenants.own.get(&tenant).copied().unwrap_or(self.most);
        let size = Mutex::new(ShareSize { most, excess: 0 });
        let share = Arc::new(OneShare { free: Arc::new(Semaphore::new(most)), size });
        tenants.in_use.insert(tenant, Arc::downgrade(&share));
        share
    }

    fn lock(&self) -> MutexGuard<'_, KnownShares> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OneShare {
    fn resize(&self, most: usize) {
        let mut size = self.lock();
        let before = std::mem::replace(&mut size.most, most);
        if most < before {
            let fewer = before - most;
            size.excess += fewer - self.free.forget_permits(fewer);
        } else {
            let more = most - before;
            let forgiven = more.min(size.excess);
            size.excess -= forgiven;
            self.free.add_permits(more - forgiven);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ShareSize> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TenantShare {
    fn new(permit: OwnedSemaphorePermit, of: Arc<OneShare>, tenant: TenantId) -> Self {
        Self { permit: Some(permit), of, tenant, held: None }
    }

    /// The connection that it is for is there: from here on its time is the tenant's.
    pub(crate) fn begin(&mut self, loads: &TenantLoads) {
        self.held = Some(loads.hold(self.tenant));
    }
}

impl Drop for TenantShare {
    fn drop(&mut self) {
        let mut size = self.of.lock();
        if size.excess > 0
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
            size.excess -= 1;
        } else {
            self.permit = None; // while the size is held, so that no unit comes back behind its back
        }
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
        let shares = TenantShares::new(2, Arc::default());
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
        let shares = TenantShares::new(1, Arc::default());
        for _ in 0..10_000 {
            drop(shares.wait(tenant()).await);
        }
        assert!(shares.lock().in_use.len() <= TIDY_ABOVE);
    }

    #[tokio::test]
    async fn t_22_a_share_grows_and_shrinks_while_it_is_held() {
        let shares = TenantShares::new(4, Arc::default());
        let (a, b) = (tenant(), tenant());
        let take = |tenant| std::iter::from_fn(|| shares.take(tenant)).collect::<Vec<_>>();
        let mut held = take(a);
        assert_eq!(held.len(), 4);
        shares.allow(a, Some(2));
        shares.allow(a, Some(2)); // said again, as every five seconds
        held.truncate(2);
        assert!(shares.take(a).is_none(), "what was beyond it does not come back");
        held.truncate(1);
        assert_eq!(take(a).len(), 1);
        shares.allow(a, Some(6));
        held.extend(take(a));
        assert_eq!(held.len(), 6);
        shares.allow(a, Some(1));
        shares.allow(a, None);
        drop(held);
        assert_eq!((take(a).len(), take(b).len()), (4, 4));
        shares.allow(a, Some(3));
        assert_eq!(take(a).len(), 3, "also where nothing was held meanwhile");
        shares.allow(a, Some(0));
        assert_eq!(take(a).len(), 1, "nobody is shut out by a plan");
    }
}
