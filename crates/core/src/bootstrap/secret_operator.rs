//! What an operator does about keys from a terminal, as the system's login: see how they stand, add versions, and end them.

use std::sync::Arc;

use serde_json::json;

use super::operator_session::OperatorSession;
use crate::config::Config;
use crate::crypto::KeyEncryption;
use crate::db::{AuditEntry, NewVersion, TenantKeys};
use crate::encryption::{
    KEEP_KEYS, KeyStatus, KeysOfTenant, REWRAP, retire, rewrap_keys, status, tenants_with_keys,
};
use crate::error::Result;
use crate::lifecycle::StartError;
use crate::shared::{Rng, SystemClock, TenantId};

/// The way of `secret` to the keys of tenants.
pub struct SecretOperator {
    session: OperatorSession,
    keys: TenantKeys,
    rng: Arc<dyn Rng>,
}

impl SecretOperator {
    /// Opens it; nothing is sent before the first question.
    ///
    /// # Errors
    /// `Exit::Configuration` where the URLs cannot be used.
    pub fn open(config: &Config, rng: Arc<dyn Rng>) -> Result<Self, StartError> {
        let session = OperatorSession::open(config, rng.as_ref(), &KEEP_KEYS)?;
        let keys = TenantKeys::new(
            KeyEncryption::of(config),
            session.system().clone(),
            (Arc::new(SystemClock), Arc::clone(&rng)),
            session.lifecycle.background().clone(),
        );
        Ok(Self { session, keys, rng })
    }

    /// Ends what `open` has begun.
    pub async fn close(self) {
        self.session.close().await;
    }

    /// The tenants that have keys, the platform among them; or the one of a slug.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenants(&self, slug: Option<&str>) -> Result<Vec<KeysOfTenant>> {
        tenants_with_keys(self.session.system(), &self.session.trace, slug).await
    }

    /// The versions of a tenant's key, and how many secrets are in a form from before there were keys of tenants.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn status(&self, tenant: TenantId) -> Result<(Vec<KeyStatus>, i64)> {
        status(self.session.system(), &self.session.trace, tenant).await
    }

    /// The name of the key that wraps data keys.
    pub fn current(&self) -> Option<String> {
        self.keys.encryption().current()
    }

    /// Adds a version of a tenant's data key, and enqueues the job that encrypts anew what the older ones have. `None` where another
    /// process was first.
    ///
    /// # Errors
    /// `core.unreadable` where there is no key that wraps, or as the database answers.
    pub async fn rotate(&self, tenant: TenantId) -> Result<Option<u32>> {
        let Some(version) = self.keys.add(tenant, NewVersion::Next).await? else { return Ok(None) };
        let mut tx = self.session.within(tenant).await?;
        tx.audit(&AuditEntry {
            action: "core.key_rotated",
            resource: "tenant",
            resource_id: Some(tenant.to_string()),
            outcome: "success",
            details: json!({ "version": version }),
        })?;
        self.session.enqueue(&mut tx, &REWRAP, (tenant, "rewrap"), &()).await?;
        tx.commit().await.map(|()| Some(version))
    }

    /// Wraps the data keys anew that another key has wrapped: how many, and how many could not be opened.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn rewrap(&self) -> Result<(usize, usize)> {
        let (system, trace) = (self.session.system(), &self.session.trace);
        rewrap_keys(system, trace, self.keys.encryption(), self.rng.as_ref()).await
    }

    /// Retires the versions of a tenant's key of which nothing is left: which.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn retire(&self, tenant: TenantId) -> Result<Vec<i32>> {
        retire(self.session.system(), &self.session.trace, tenant).await
    }

    /// Destroys all versions of a tenant's key, for ever: how many.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn destroy(&self, tenant: TenantId) -> Result<usize> {
        self.keys.destroy(tenant).await
    }
}
