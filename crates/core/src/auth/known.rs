use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::Permissions;
use crate::error::{Error, ErrorCode};
use crate::shared::{PrincipalId, SessionId, TenantId};

/// How long what was read holds: a role that is taken away counts no longer than this.
const FRESH: Duration = Duration::from_secs(5);
/// When those who waited for a failure may come again.
const SOON: Duration = Duration::from_secs(1);
/// How many principals are remembered: some 2 MiB.
const MOST: usize = 10_000;

/// What principals may do in their tenants, as it was read from the database at most five seconds ago.
///
/// One request reads, while others of the same principal wait for what it finds; a failure is theirs too, so that a
/// database that is away is not asked by one after the other. Later requests do not hear of it, nor of somebody who was
/// no member: a new member need not wait.
#[derive(Default)]
pub struct KnownPermissions(RwLock<HashMap<Grantee, KnownGrants>>);

/// Who has permissions: a principal in a tenant, for as long as its session lasts, if it has one.
pub(crate) type Grantee = (TenantId, PrincipalId, Option<SessionId>);

struct KnownGrants {
    permissions: GrantsReading,
    since: Instant,
}

/// What is read, or was: the permissions, or the code of the failure.
type GrantsReading = Arc<OnceCell<Result<Permissions, &'static ErrorCode>>>;

impl KnownPermissions {
    /// What `grantee` may do; by `read` where that is not known at `now`.
    ///
    /// # Errors
    /// As `read`.
    pub(crate) async fn get<F>(
        &self,
        grantee: Grantee,
        now: Instant,
        read: impl FnOnce() -> F,
    ) -> Result<Permissions, Error>
    where
        F: Future<Output = Result<Permissions, Error>>,
    {
        let key = grantee;
        if let Some(permissions) = self.find(key, now) {
            return Ok(permissions);
        }
        let reading = self.begin(key, now);
        let mut failure = None;
        let found = reading.get_or_init(async || {
            read().await.map_err(|error| {
                self.give_up(key, &reading);
                failure.insert(error).code()
            })
        });
        match found.await {
            Ok(permissions) => Ok(permissions.clone()),
            Err(code) => Err(failure.unwrap_or_else(|| Error::new(code).retry_after(SOON))),
        }
    }

    /// Forgets a reading that has failed, once those who wait for it are told.
    fn give_up(&self, key: Grantee, reading: &GrantsReading) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.get(&key).is_some_and(|known| Arc::ptr_eq(&known.permissions, reading)) {
            known.remove(&key);
        }
    }

    /// Forgets what a principal may do, in all its sessions: the next request reads it anew. For those who have just changed
    /// it.
    pub fn forget(&self, tenant: TenantId, principal: PrincipalId) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|of, _| (of.0, of.1) != (tenant, principal));
    }

    /// Forgets what everybody of a tenant may do. For those who have just changed a role.
    pub fn forget_all(&self, tenant: TenantId) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|of, _| of.0 != tenant);
    }

    fn find(&self, key: Grantee, now: Instant) -> Option<Permissions> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&key).filter(|known| known.is_fresh(now))?.permissions.get()?.clone().ok()
    }

    /// What others wait for already, or else begins to be read now.
    fn begin(&self, key: Grantee, now: Instant) -> GrantsReading {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(&key) {
            known.retain(|_, known| known.is_fresh(now));
            if known.len() >= MOST {
                known.clear(); // all asked within five seconds: the price is reading each once more
            }
        }
        let anew = || KnownGrants { permissions: Arc::default(), since: now };
        let entry = known.entry(key).or_insert_with(anew);
        if !entry.is_fresh(now) {
            *entry = anew();
        }
        Arc::clone(&entry.permissions)
    }
}

impl KnownGrants {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < FRESH
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use uuid::Uuid;

    use super::*;
    use crate::auth::{Grants, Permission, PermissionTable, Role};
    use crate::error::codes;

    static READ: Permission =
        Permission { name: "a.thing.read", what: "", roles: &[Role::Owner], owners_alone: false };

    fn somebody(number: u128) -> (TenantId, PrincipalId) {
        (TenantId::from_uuid(Uuid::from_u128(1)), PrincipalId::from_uuid(Uuid::from_u128(number)))
    }

    fn of(role: Role) -> Permissions {
        Arc::new(PermissionTable::new([&READ])).resolve(&Grants { built_in: vec![role], ..Grants::default() })
    }

    #[tokio::test]
    async fn t_16_a_role_that_is_taken_away_counts_for_five_seconds_at_most() {
        let (known, (tenant, principal), now) = (KnownPermissions::default(), somebody(2), Instant::now());
        let get = async |at, role| {
            let found = known.get((tenant, principal, None), at, async || Ok(of(role))).await;
            found.unwrap().contains(&READ)
        };
        assert!(get(now, Role::Owner).await);
        assert!(get(now + FRESH - Duration::from_millis(1), Role::ReadOnly).await, "as it was read");
        assert!(!get(now + FRESH, Role::ReadOnly).await);
        known.forget(tenant, principal);
        assert!(get(now + FRESH, Role::Owner).await, "at once for those who change it");
        known.forget_all(tenant);
        assert!(!get(now + FRESH, Role::ReadOnly).await, "and for those who change a role");
    }

    #[tokio::test]
    async fn one_reads_and_others_wait_and_a_failure_is_not_kept() {
        let (known, (tenant, principal), now) = (KnownPermissions::default(), somebody(2), Instant::now());
        let refused = known.get((tenant, principal, None), now, async || Err(Error::unavailable())).await;
        assert!(refused.is_err());
        let reads = AtomicU32::new(0);
        let read = async || {
            reads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(of(Role::Owner))
        };
        let all = (0..50).map(|_| known.get((tenant, principal, None), now, read));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn s_06_a_failure_is_everybodys_who_waits_for_it_and_nobody_elses() {
        let (known, (tenant, principal), now) = (KnownPermissions::default(), somebody(2), Instant::now());
        let reads = AtomicU32::new(0);
        let fail = async || {
            reads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err(Error::unavailable())
        };
        let all = (0..50).map(|_| known.get((tenant, principal, None), now, fail));
        let refused = futures_util::future::join_all(all).await;
        assert!(refused.into_iter().all(|outcome| outcome.unwrap_err().code() == &codes::UNAVAILABLE));
        assert_eq!(reads.load(Ordering::Relaxed), 1, "not one after the other");
        assert!(known.get((tenant, principal, None), now, async || Ok(of(Role::Owner))).await.is_ok());
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let (known, now) = (KnownPermissions::default(), Instant::now());
        for number in 0..(2 * MOST as u128 + 5) {
            let (tenant, principal) = somebody(number);
            known.get((tenant, principal, None), now, async || Ok(Permissions::none())).await.unwrap();
        }
        assert!(known.0.read().unwrap().len() <= MOST);
    }
}
