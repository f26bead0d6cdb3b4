use std::time::Duration;

use super::logins;
use super::start::pool_options;
use crate::auth::Trace;
use crate::config::Config;
use crate::db::{Db, System, SystemTx, SystemWork, TenantTx};
use crate::error::Result;
use crate::from_row;
use crate::lifecycle::{Lifecycle, StartError};
use crate::metrics::Metrics;
use crate::shared::{Rng, TenantId};

const TENANT: &str = "select id from tenants where slug = $1";

struct TenantOfSlug {
    id: TenantId,
}
from_row!(TenantOfSlug { id });

/// The way to the database that one command of an operator's has, as the system's login.
pub(super) struct OperatorSession {
    pub(super) lifecycle: Lifecycle,
    pub(super) trace: Trace,
    system: System,
}

impl OperatorSession {
    /// Opens it; nothing is sent before the first question.
    ///
    /// # Errors
    /// `Exit::Configuration` where the URLs cannot be used.
    pub(super) fn open(
        config: &Config,
        rng: &dyn Rng,
        work: &'static SystemWork,
    ) -> Result<Self, StartError> {
        let lifecycle = Lifecycle::new();
        let (runtime, system) = pool_options(&logins(config)?, config);
        let pools = Db::open(runtime, system, &Metrics::new(false), &lifecycle)?;
        let mut random = [0; 8];
        rng.fill(&mut random);
        let trace = Trace::new(format!("cli_{:016x}", u64::from_le_bytes(random)));
        Ok(Self { lifecycle, trace, system: System::new(pools.system, work) })
    }

    /// Ends what `open` has begun.
    pub(super) async fn close(self) {
        self.lifecycle.stop(Duration::from_secs(1)).await;
    }

    /// A transaction across tenants.
    pub(super) fn begin(&self) -> SystemTx<'_> {
        self.system.begin(&self.trace)
    }

    /// A transaction in one tenant.
    pub(super) async fn within(&self, tenant: TenantId) -> Result<TenantTx<'_>> {
        self.begin().within(tenant).await
    }

    /// The tenant of a slug, if there is one.
    pub(super) async fn tenant(&self, slug: &str) -> Result<Option<TenantId>> {
        let found: Option<TenantOfSlug> = self.begin().last().optional(TENANT, &[&slug]).await?;
        Ok(found.map(|row| row.id))
    }
}
