//! What tenants have, read in one statement, and remembered for five seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::App;
use crate::auth::{
    Caller, Entitlements, Networks, StoredEntitlements, StoredRollout, TenantPlan, TenantSetting, Trace,
};
use crate::db::{SystemWork, TenantTx};
use crate::error::{Error, Result, codes};
use crate::from_row;
use crate::shared::TenantId;
use crate::shares::{LoadLimits, LoadRefusal, RequestUnderWay};

/// How a module tells what tenants have. One module of a product has it; without one, tenants have what the modules declare.
pub struct Tenancy {
    /// The work of the system that this is, since plans are no tenant's.
    pub system: &'static SystemWork,
    /// The statement that tells what a tenant has: it is executed within the tenant, which `$1` names, and returns one row with the
    /// columns `plan text`, `rate_limit_max int` and `connections int` (null: none), `quotas jsonb` (an object of numbers, by the
    /// names of meters), `requests_at_once int` and `database_ms int` (null: no limit), `settings jsonb` (an object), `flags jsonb` (an object of booleans) and `rollouts jsonb` (an object of pairs: the salt, and how many of 10,000 tenants have
    /// it).
    pub entitlements: &'static str,
    /// The setting that says where a tenant's requests come from.
    pub allowed_networks: &'static TenantSetting<Networks>,
}

struct EntitlementRow {
    plan: Option<String>,
    rate_limit_max: Option<i32>,
    connections: Option<i32>,
    quotas: Option<Value>,
    requests_at_once: Option<i32>,
    database_ms: Option<i32>,
    settings: Option<Value>,
    flags: Option<Value>,
    rollouts: Option<Value>,
}
from_row!(EntitlementRow {
    plan,
    rate_limit_max,
    connections,
    quotas,
    requests_at_once,
    database_ms,
    settings,
    flags,
    rollouts
});

impl Tenancy {
    /// What a tenant has now, in a transaction of the system's within it.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn read(&self, tx: TenantTx<'_>, tenant: TenantId) -> Result<StoredEntitlements> {
        let row: EntitlementRow = tx.last().row(self.entitlements, &[&tenant]).await?;
        row.stored()
    }
}

impl App {
    /// Refuses a caller whose address is in none of the networks that its tenant's requests come from, or its key's. What has no
    /// address, such as a job, comes from inside.
    ///
    /// # Errors
    /// `core.address_refused`.
    pub(crate) fn check_address(&self, caller: &Caller) -> Result<()> {
        let Some(address) = caller.trace().client_ip else { return Ok(()) };
        let by_tenant = self.tenancy.map(|tenancy| caller.setting(tenancy.allowed_networks));
        let admitted = by_tenant.is_none_or(|networks| networks.admit(address))
            && caller.permissions().networks().admit(address);
        if admitted { Ok(()) } else { Err(Error::new(&codes::ADDRESS_REFUSED)) }
    }

    /// Lets a request of the caller's begin, unless its tenant has as many under way as its plan allows, or has used its database
    /// time (T-22).
    ///
    /// # Errors
    /// `core.rate_limited`.
    pub(crate) fn enter_load(&self, caller: &Caller) -> Result<RequestUnderWay> {
        let limits = caller.entitlements().plan().map_or_else(LoadLimits::default, |plan| plan.load);
        self.db.loads().enter(caller.tenant(), limits).map_err(|LoadRefusal { policy, wait }| {
            Error::new(&codes::RATE_LIMITED).violated(vec![policy]).retry_after(wait)
        })
    }

    /// What a tenant has: as it was read at most five seconds ago, or else as it is now.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn entitlements_of(&self, tenant: TenantId, trace: &Trace) -> Result<Entitlements> {
        // Boxed, since it is read once in five seconds and every request would carry its size.
        let read = || Box::pin(self.read_entitlements(tenant, trace));
        self.entitlements.get(tenant, self.clock.instant(), read).await
    }

    async fn read_entitlements(&self, tenant: TenantId, trace: &Trace) -> Result<StoredEntitlements> {
        let Some(tenancy) = self.tenancy else { return Ok(StoredEntitlements::default()) };
        let system = self.system(tenancy.system);
        let tx = system.begin(trace).within(tenant).await?;
        let stored = tenancy.read(tx, tenant).await?;
        let connections = stored.plan.as_ref().and_then(|plan| plan.connections);
        self.db.allow(tenant, connections);
        Ok(stored)
    }
}

impl EntitlementRow {
    fn stored(self) -> Result<StoredEntitlements> {
        let Self { plan, rate_limit_max, connections, quotas, requests_at_once, database_ms, .. } = self;
        let Self { settings, flags, rollouts, .. } = self;
        let number = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok());
        let quotas = object(quotas)?;
        let plan = plan.map(|name| TenantPlan {
            name,
            rate_limit_max: number(rate_limit_max),
            connections: number(connections),
            quotas,
            load: LoadLimits {
                at_once: number(requests_at_once),
                database: number(database_ms).map(|ms| Duration::from_millis(ms.into())),
            },
        });
        let rollouts: BTreeMap<String, (String, u32)> = object(rollouts)?;
        let rollout = |(flag, (salt, basis_points))| (flag, StoredRollout { salt, basis_points });
        Ok(StoredEntitlements {
            plan,
            settings: object(settings)?,
            flags: object(flags)?,
            rollouts: rollouts.into_iter().map(rollout).collect(),
        })
    }
}

/// An object of the database's; null is an empty one.
fn object<T: serde::de::DeserializeOwned>(json: Option<Value>) -> Result<BTreeMap<String, T>> {
    json.map(serde_json::from_value).transpose().map(Option::unwrap_or_default).map_err(Error::internal)
}
