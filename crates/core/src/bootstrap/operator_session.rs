//! The way of an operator's command to the database: as the system's login, across tenants or in one of them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::logins;
use super::start::pool_options;
use crate::auth::Trace;
use crate::config::Config;
use crate::db::{Db, System, SystemTx, SystemWork, TenantTx};
use crate::error::Result;
use crate::factory::modules;
use crate::from_row;
use crate::jobs::{JobKind, enqueue_once};
use crate::lifecycle::{Exit, Lifecycle, StartError};
use crate::metrics::Metrics;
use crate::module::Product;
use crate::shared::{Rng, SystemClock, SystemRng, TenantId};

const TENANT: &str = "select id from tenants where slug = $1";

struct TenantOfSlug {
    id: TenantId,
}
from_row!(TenantOfSlug { id });

/// The way to the database that one command of an operator's has, as the system's login.
pub struct OperatorSession {
    pub(super) lifecycle: Lifecycle,
    pub(super) trace: Trace,
    system: System,
}

impl OperatorSession {
    /// Opens it; nothing is sent before the first question.
    ///
    /// # Errors
    /// `Exit::Configuration` where the URLs cannot be used.
    pub fn open(config: &Config, rng: &dyn Rng, work: &'static SystemWork) -> Result<Self, StartError> {
        let lifecycle = Lifecycle::new();
        let (runtime, system) = pool_options(&logins(config)?, config, Arc::default());
        let pools = Db::open(runtime, system, &Metrics::new(false), &lifecycle)?;
        let mut random = [0; 8];
        rng.fill(&mut random);
        let trace = Trace::new(format!("cli_{:016x}", u64::from_le_bytes(random)));
        Ok(Self { lifecycle, trace, system: System::new(pools.system, work) })
    }

    /// Opens it for a verb that a module of the product declares in [`Module::system_verbs`](crate::module::Module::system_verbs).
    ///
    /// # Errors
    /// `Exit::Usage` where none does; `Exit::Configuration` where the URLs cannot be used.
    pub fn of_verb(
        product: &Product,
        config: &Config,
        rng: &dyn Rng,
        verb: &str,
    ) -> Result<Self, StartError> {
        let mut verbs = modules(product).flat_map(|module| module.system_verbs);
        let (_, work) = verbs.find(|(name, _)| *name == verb).ok_or_else(|| {
            StartError::new(Exit::Usage, format!("No module of {} has the verb '{verb}'", product.name))
        })?;
        Self::open(config, rng, work)
    }

    /// Adds a job that does work of the system to a transaction, once for a key; one of that key that rests begins now.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn enqueue<A: Serialize + DeserializeOwned>(
        &self,
        tx: &mut TenantTx<'_>,
        kind: &'static JobKind<A>,
        (tenant, key): (TenantId, &str),
        args: &A,
    ) -> Result<()> {
        let once = (tenant, key.to_owned());
        enqueue_once(tx, &self.trace, kind, once, args, (&SystemClock, &SystemRng::new())).await
    }

    /// Ends what `open` has begun.
    pub async fn close(self) {
        self.lifecycle.stop(Duration::from_secs(1)).await;
    }

    /// Under which id what it does is told.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    pub(super) fn system(&self) -> &System {
        &self.system
    }

    /// A transaction across tenants.
    pub fn begin(&self) -> SystemTx<'_> {
        self.system.begin(&self.trace)
    }

    /// A transaction in one tenant.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn within(&self, tenant: TenantId) -> Result<TenantTx<'_>> {
        self.begin().within(tenant).await
    }

    /// The tenant of a slug, if there is one.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenant(&self, slug: &str) -> Result<Option<TenantId>> {
        let found: Option<TenantOfSlug> = self.begin().last().optional(TENANT, &[&slug]).await?;
        Ok(found.map(|row| row.id))
    }
}
