//! What operators do about plans and features, in the transaction of a command or of a request. What is done in one tenant
//! stands in that tenant's audit log.

use std::collections::BTreeMap;

use erp_core::auth::{EntitlementTable, FlagReason};
use erp_core::db::{SystemTx, TenantTx, ToSql};
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::from_row;
use erp_core::shared::{Int, LARGEST_EXACT, Rng, TenantId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::TENANCY;

/// A feature, as all tenants have it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedFlag {
    /// Its name.
    pub name: &'static str,
    /// What is different where it is on.
    pub about: &'static str,
    /// Whether it is on where nobody has said anything.
    pub default: bool,
    /// The deployment's switch.
    pub switch: String,
    /// How many of 10,000 tenants have it by its rollout, if it has one.
    pub rollout: Option<i32>,
    /// The tenants for which it was set on.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    pub on: i64,
    /// The tenants for which it was set off.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    pub off: i64,
}

/// A feature, as one tenant has it, and why.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedFlag {
    /// Its name.
    pub name: &'static str,
    /// Whether it is on.
    pub is_on: bool,
    /// What has decided that.
    pub reason: FlagReason,
}

/// A plan.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedPlan {
    /// Its name.
    pub name: String,
    /// What it is.
    pub about: String,
    /// The requests in a window; none: `RATE_LIMIT_MAX`.
    pub rate_limit_max: Option<i32>,
    /// The connections to the database of one process; none: `DATABASE_TENANT_MAX_CONNECTIONS`.
    pub connections: Option<i32>,
    /// The requests of one process that are worked on at a time; none: as many as any.
    pub requests_at_once: Option<i32>,
    /// The database time of one process in a minute, in milliseconds; none: as much as any.
    pub database_ms: Option<i32>,
    /// How much a tenant may use, by the names of meters.
    #[schemars(with = "BTreeMap<String, Int<0, LARGEST_EXACT>>")]
    pub quotas: Value,
    /// How many tenants have it.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    pub tenants: i64,
    /// When it was last changed.
    pub changed_at: Timestamp,
}
from_row!(ListedPlan {
    name,
    about,
    rate_limit_max,
    connections,
    requests_at_once,
    database_ms,
    quotas,
    tenants,
    changed_at
});

/// What is to be changed of a plan: what is not given stays as it is.
#[derive(Debug, Default)]
pub struct PlanChange {
    /// What it is.
    pub about: Option<String>,
    /// The requests in a window; `Some(None)`: `RATE_LIMIT_MAX`.
    pub rate_limit_max: Option<Option<i32>>,
    /// The connections of one process; `Some(None)`: `DATABASE_TENANT_MAX_CONNECTIONS`.
    pub connections: Option<Option<i32>>,
    /// The requests of one process that are worked on at a time; `Some(None)`: as many as any.
    pub requests_at_once: Option<Option<i32>>,
    /// The database time of one process in a minute, in milliseconds; `Some(None)`: as much as any.
    pub database_ms: Option<Option<i32>>,
    /// How much a tenant may use, by the names of meters; `None`: as much as it likes.
    pub quotas: BTreeMap<String, Option<i64>>,
}

struct StoredFlag {
    flag: String,
    rollout: Option<i32>,
    on: i64,
    off: i64,
}
from_row!(StoredFlag { flag, rollout, on, off });

const FLAGS: &str = "select coalesce(r.flag, t.flag) as flag, r.basis_points as rollout, coalesce(t.\"on\", 0) as \"on\", \
       coalesce(t.\"off\", 0) as \"off\" from flag_rollouts r full join (select f.flag, count(*) filter (where f.is_on) as \"on\", \
         count(*) filter (where not f.is_on) as \"off\" from tenant_flags f group by f.flag) t on t.flag = r.flag";
const SET_FLAG: &str = "insert into tenant_flags (flag, is_on) values ($1, $2) \
     on conflict (tenant_id, flag) do update set is_on = excluded.is_on";
const CLEAR_FLAG: &str = "delete from tenant_flags where tenant_id = $1 and flag = $2";
const ROLL_OUT: &str = "insert into flag_rollouts (flag, salt, basis_points) values ($1, $2, $3) \
     on conflict (flag) do update set basis_points = excluded.basis_points, changed_at = now()";
const PLANS: &str = "select p.name, p.about, p.rate_limit_max, p.connections, p.quotas, p.requests_at_once, p.database_ms, p.changed_at, \
       (select count(*) from tenant_plans t where t.plan = p.name) as tenants from plans p order by p.name";
const SET_PLAN: &str = "insert into plans (name, about, rate_limit_max, connections, quotas, requests_at_once, database_ms) \
     values ($1, coalesce($2, ''), $4, $6, jsonb_strip_nulls($7), $9, $11) \
     on conflict (name) do update set about = coalesce($2, plans.about), \
       rate_limit_max = case when $3 then $4 else plans.rate_limit_max end, \
       connections = case when $5 then $6 else plans.connections end, \
       requests_at_once = case when $8 then $9 else plans.requests_at_once end, \
       database_ms = case when $10 then $11 else plans.database_ms end, \
       quotas = jsonb_strip_nulls(plans.quotas || $7), changed_at = now()";
pub(super) const HAS_PLAN: &str = "select from plans where name = $1";
pub(super) const GIVE_PLAN: &str =
    "insert into tenant_plans (plan) values ($1) on conflict (tenant_id) do update set plan = excluded.plan";
const TAKE_PLAN: &str = "delete from tenant_plans where tenant_id = $1";

/// All features.
///
/// # Errors
/// As the database answers.
pub(crate) async fn flags(tx: SystemTx<'_>, table: &EntitlementTable) -> Result<Vec<ListedFlag>> {
    let stored: Vec<StoredFlag> = tx.last().rows(FLAGS, &[]).await?;
    let listed = table.flags().map(|flag| {
        let known = stored.iter().find(|stored| stored.flag == flag.name);
        ListedFlag {
            name: flag.name,
            about: flag.about,
            default: flag.default,
            switch: flag.switch(),
            rollout: known.and_then(|known| known.rollout),
            on: known.map_or(0, |known| known.on),
            off: known.map_or(0, |known| known.off),
        }
    });
    Ok(listed.collect())
}

/// All features, as a tenant has them, and why. The deployment's switches are those of `table`.
///
/// # Errors
/// As the database answers.
pub(crate) async fn explain(
    tx: TenantTx<'_>,
    table: &EntitlementTable,
    tenant: TenantId,
) -> Result<Vec<ExplainedFlag>> {
    let stored = TENANCY.read(tx, tenant).await?;
    let explained = table.flags().map(|flag| {
        let state = flag.state(tenant, &stored, table.features());
        ExplainedFlag { name: flag.name, is_on: state.is_on, reason: state.reason }
    });
    Ok(explained.collect())
}

/// Switches a feature on or off for one tenant; `None`: as it is for others.
///
/// # Errors
/// As the database answers.
pub(crate) async fn set_flag(
    mut tx: TenantTx<'_>,
    tenant: TenantId,
    (flag, is_on): (&str, Option<bool>),
) -> Result<()> {
    let _: Vec<()> = match is_on {
        Some(is_on) => tx.rows(SET_FLAG, &[&flag, &is_on]).await?,
        None => tx.rows(CLEAR_FLAG, &[&tenant, &flag]).await?,
    };
    tx.commit().await
}

/// Lets a feature be on for so many of 10,000 tenants; `None`: for none by a rollout. The salt that it got the first time stays.
///
/// # Errors
/// As the database answers.
pub(crate) async fn roll_out(
    tx: &mut SystemTx<'_>,
    rng: &dyn Rng,
    flag: &str,
    basis_points: Option<i32>,
) -> Result<()> {
    let mut random = [0; 16];
    rng.fill(&mut random);
    let salt = format!("{:032x}", u128::from_le_bytes(random));
    tx.rows::<()>(ROLL_OUT, &[&flag, &salt, &basis_points]).await.map(drop)
}

/// All plans, by name.
///
/// # Errors
/// As the database answers.
pub(crate) async fn plans(tx: SystemTx<'_>) -> Result<Vec<ListedPlan>> {
    tx.last().rows(PLANS, &[]).await
}

/// Makes a plan, or changes what is given of it.
///
/// # Errors
/// As the database answers.
pub(crate) async fn set_plan(tx: &mut SystemTx<'_>, name: &str, change: &PlanChange) -> Result<()> {
    let PlanChange { about, rate_limit_max, connections, requests_at_once, database_ms, quotas } = change;
    let quotas = serde_json::to_value(quotas).map_err(Error::internal)?;
    let given = |number: &Option<Option<i32>>| (number.is_some(), number.flatten());
    let (limited, limit) = given(rate_limit_max);
    let (shared, share) = given(connections);
    let (bounded, at_once) = given(requests_at_once);
    let (timed, time) = given(database_ms);
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&name, about, &limited, &limit, &shared, &share, &quotas];
    params.extend([&bounded as &(dyn ToSql + Sync), &at_once, &timed, &time]);
    tx.rows::<()>(SET_PLAN, &params).await.map(drop)
}

/// Gives a tenant a plan in place of the one that it has; `None`: takes it away.
///
/// # Errors
/// `core.invalid` where there is no such plan, or as the database answers.
pub(crate) async fn give_plan(mut tx: TenantTx<'_>, tenant: TenantId, plan: Option<&str>) -> Result<()> {
    if let Some(plan) = plan {
        let known: Option<()> = tx.optional(HAS_PLAN, &[&plan]).await?;
        let unknown = || Violation::new("/plan", "unknown", "There is no such plan.");
        known.ok_or_else(|| Error::new(&core::INVALID).violation(unknown()))?;
        let _: Vec<()> = tx.rows(GIVE_PLAN, &[&plan]).await?;
    } else {
        let _: Vec<()> = tx.rows(TAKE_PLAN, &[&tenant]).await?;
    }
    tx.commit().await
}
