use std::sync::Arc;
use std::time::Instant;

use super::{EntitlementTable, Entitlements, StoredEntitlements};
use crate::auth::remembered::Remembered;
use crate::error::Error;
use crate::shared::TenantId;

/// What tenants have, as it was read from the database at most five seconds ago.
#[derive(Default)]
pub struct KnownEntitlements {
    table: Arc<EntitlementTable>,
    known: Remembered<TenantId, Entitlements>,
}

impl KnownEntitlements {
    /// Of what the modules declare; nothing is known yet.
    pub fn new(table: EntitlementTable) -> Self {
        Self { table: Arc::new(table), known: Remembered::default() }
    }

    /// What the modules declare.
    pub fn table(&self) -> &Arc<EntitlementTable> {
        &self.table
    }

    /// What `tenant` has; by `read` where that is not known at `now`.
    ///
    /// # Errors
    /// As `read`.
    pub(crate) async fn get<F>(
        &self,
        tenant: TenantId,
        now: Instant,
        read: impl FnOnce() -> F,
    ) -> Result<Entitlements, Error>
    where
        F: Future<Output = Result<StoredEntitlements, Error>>,
    {
        let resolve = async || read().await.map(|stored| self.table.resolve(tenant, stored));
        self.known.get(tenant, now, resolve).await
    }

    /// What was known last of `tenant`, however long ago.
    pub(crate) fn last(&self, tenant: TenantId) -> Option<Entitlements> {
        self.known.last(tenant)
    }

    /// Forgets what a tenant has: the next request reads it anew. For those who have just changed it.
    pub fn forget(&self, tenant: TenantId) {
        self.known.forget(|known| *known == tenant);
    }
}
