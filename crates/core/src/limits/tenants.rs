//! Limits that single tenants have instead of `RATE_LIMIT_MAX`, remembered for a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::quota::micros;
use crate::shared::TenantId;

/// How long a change may take to be noticed.
const FRESH: Duration = Duration::from_secs(60);
/// How long after a failure it is read again.
const AGAIN: Duration = Duration::from_secs(5);
/// How many tenants are remembered: about 1 MiB.
const MOST: usize = 10_000;

/// What is known of tenants' own limits. Read once a minute for each that asks, by one request while others wait.
#[derive(Default)]
pub struct TenantLimits(Mutex<HashMap<TenantId, KnownLimit>>);

struct KnownLimit {
    limit: Arc<OnceCell<Option<u32>>>,
    /// What it was before.
    last: Option<u32>,
    /// Microseconds, as [`Limits`](super::Limits) counts them.
    until: u64,
}

impl TenantLimits {
    /// The tenant's own limit, if it has one. When `read` cannot tell, what was known holds for now.
    pub(crate) async fn get<F>(&self, tenant: TenantId, now: u64, read: impl FnOnce() -> F) -> Option<u32>
    where
        F: Future<Output = Result<Option<u32>, crate::error::Error>>,
    {
        let (limit, last) = {
            let mut known = self.lock();
            let entry = fresh(&mut known, tenant, now);
            if let Some(limit) = entry.limit.get() {
                return *limit;
            }
            (Arc::clone(&entry.limit), entry.last)
        };
        *limit
            .get_or_init(|| async { read().await.unwrap_or_else(|_| self.again_soon(tenant, now, last)) })
            .await
    }

    /// Who cannot be told its limit now has the last one for a moment.
    fn again_soon(&self, tenant: TenantId, now: u64, last: Option<u32>) -> Option<u32> {
        if let Some(entry) = self.lock().get_mut(&tenant) {
            entry.until = now + micros(AGAIN);
        }
        last
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, KnownLimit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tenant's entry, made anew when it is old.
fn fresh(known: &mut HashMap<TenantId, KnownLimit>, tenant: TenantId, now: u64) -> &mut KnownLimit {
    let lives = |entry: &KnownLimit| now < entry.until;
    if known.len() >= MOST && !known.contains_key(&tenant) {
        known.retain(|_, entry| lives(entry));
        if known.len() >= MOST {
            known.clear(); // all asked within a minute: the price is reading each once more
        }
    }
    let made = |last| KnownLimit { limit: Arc::default(), last, until: now + micros(FRESH) };
    let entry = known.entry(tenant).or_insert_with(|| made(None));
    if !lives(entry) {
        *entry = made(entry.limit.get().copied().unwrap_or(entry.last));
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::Error;
    use crate::shared::{SystemClock, SystemRng};

    const MINUTE: u64 = 60_000_000;

    fn tenant() -> TenantId {
        TenantId::new(&SystemClock, &SystemRng::new())
    }

    #[tokio::test]
    async fn a_tenant_is_read_once_a_minute_however_many_ask() {
        let (limits, tenant, reads) = (TenantLimits::default(), tenant(), AtomicU32::new(0));
        let read = || async {
            reads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(Some(7))
        };
        let asked = (0..50).map(|_| limits.get(tenant, 1, read));
        assert!(futures_util::future::join_all(asked).await.iter().all(|limit| *limit == Some(7)));
        assert_eq!(reads.load(Ordering::SeqCst), 1);
        limits.get(tenant, MINUTE, read).await;
        assert_eq!(reads.load(Ordering::SeqCst), 1);
        limits.get(tenant, MINUTE + 1, read).await;
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_was_known_holds_while_the_database_is_away() {
        let (limits, tenant) = (TenantLimits::default(), tenant());
        let away = || async { Err(Error::unavailable()) };
        assert_eq!(limits.get(tenant, 1, away).await, None);
        assert_eq!(limits.get(tenant, 2 * MINUTE, || async { Ok(Some(3)) }).await, Some(3));
        assert_eq!(limits.get(tenant, 4 * MINUTE, away).await, Some(3));
        assert_eq!(limits.get(tenant, 6 * MINUTE, || async { Ok(None) }).await, None);
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let limits = TenantLimits::default();
        for _ in 0..2 * MOST + 10 {
            limits.get(tenant(), 1, || async { Ok(None) }).await;
        }
        assert!(limits.lock().len() <= MOST);
    }
}
