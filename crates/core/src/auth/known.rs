use std::time::Instant;

use super::Permissions;
use super::remembered::Remembered;
use crate::error::Error;
use crate::shared::{PrincipalId, SessionId, TenantId};

/// What principals may do in their tenants, as it was read from the database at most five seconds ago. Somebody who was no member
/// is not remembered: a new member need not wait.
#[derive(Default)]
pub struct KnownPermissions(Remembered<Grantee, Permissions>);

/// Who has permissions: a principal in a tenant, for as long as its session lasts, if it has one.
pub(crate) type Grantee = (TenantId, PrincipalId, Option<SessionId>);

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
        self.0.get(grantee, now, read).await
    }

    /// Forgets it, so that it is read anew.
    pub(crate) fn forget_one(&self, grantee: Grantee) {
        self.0.forget(|of| *of == grantee);
    }

    /// Forgets what a principal may do, in all its sessions: the next request reads it anew. For those who have just changed
    /// it.
    pub fn forget(&self, tenant: TenantId, principal: PrincipalId) {
        self.0.forget(|of| (of.0, of.1) == (tenant, principal));
    }

    /// Forgets what everybody of a tenant may do. For those who have just changed a role.
    pub fn forget_all(&self, tenant: TenantId) {
        self.0.forget(|of| of.0 == tenant);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::auth::remembered::FRESH;
    use crate::auth::{Grants, Permission, PermissionTable, Role};

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
}
