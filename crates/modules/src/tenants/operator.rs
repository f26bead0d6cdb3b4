//! What an operator does about plans and features from a terminal, as the system's login. What is done in one tenant stands in that
//! tenant's audit log; what concerns all of them is told in the log of the command.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use erp_core::auth::EntitlementTable;
use erp_core::bootstrap::OperatorSession;
use erp_core::error::{Error, Result, codes as core};
use erp_core::from_row;
use erp_core::shared::{Day, Rng, TenantId};
use erp_core::usage::{READ_USAGE, StoredUsage};
use serde_json::Value;

use super::TENANCY;
use super::first_day::equip;
use super::provision;
pub use super::provision::{ExplainedFlag, ListedFlag, ListedPlan, PlanChange};
use super::usage::{FILE_QUOTA, FileQuota, MeterUsage, UsageLimits, usage_of};

struct BilledTenant {
    slug: String,
}
from_row!(BilledTenant { slug });

const CLEAR_SETTING: &str = "delete from tenant_settings where tenant_id = $1 and name = $2 returning name";
const BILLED: &str =
    "select slug from tenants where status not in ('reserved', 'erasing', 'erased') order by slug";

/// All features.
///
/// # Errors
/// As the database answers.
pub async fn flags(session: &OperatorSession, table: &EntitlementTable) -> Result<Vec<ListedFlag>> {
    provision::flags(session.begin(), table).await
}

/// All features, as a tenant has them, and why. The deployment's switches are those of `table`.
///
/// # Errors
/// `core.not_found`, or as the database answers.
pub async fn explain(
    session: &OperatorSession,
    table: &EntitlementTable,
    slug: &str,
) -> Result<Vec<ExplainedFlag>> {
    let tenant = find(session, slug).await?;
    provision::explain(session.within(tenant).await?, table, tenant).await
}

/// Switches a feature on or off for one tenant; `None`: as it is for others.
///
/// # Errors
/// `core.not_found`, or as the database answers.
pub async fn set_flag(session: &OperatorSession, slug: &str, flag: &str, is_on: Option<bool>) -> Result<()> {
    let tenant = find(session, slug).await?;
    provision::set_flag(session.within(tenant).await?, tenant, (flag, is_on)).await
}

/// Lets a feature be on for so many of 10,000 tenants; `None`: for none by a rollout. The salt that it got the first time stays.
///
/// # Errors
/// As the database answers.
pub async fn roll_out(
    session: &OperatorSession,
    rng: &dyn Rng,
    flag: &str,
    basis_points: Option<i32>,
) -> Result<()> {
    let mut tx = session.begin();
    provision::roll_out(&mut tx, rng, flag, basis_points).await?;
    tx.commit().await
}

/// What a tenant has set, by name.
///
/// # Errors
/// `core.not_found`, or as the database answers.
pub async fn settings(session: &OperatorSession, slug: &str) -> Result<BTreeMap<String, Value>> {
    let tenant = find(session, slug).await?;
    TENANCY.read(session.within(tenant).await?, tenant).await.map(|stored| stored.settings)
}

/// Gives a setting of a tenant's a value.
///
/// # Errors
/// `core.not_found` where there is no such tenant; `core.invalid` where there is no such setting, or it does not take the value.
pub async fn set_setting(
    session: &OperatorSession,
    table: &EntitlementTable,
    slug: &str,
    (name, value): (&str, Value),
) -> Result<()> {
    let tenant = find(session, slug).await?;
    let mut tx = session.within(tenant).await?;
    let settings = BTreeMap::from([(name.to_owned(), value)]);
    equip(table, &mut tx, (None, &settings)).await?;
    tx.commit().await
}

/// Takes back what a tenant has set.
///
/// # Errors
/// `core.not_found` where it has not, or where there is no such tenant, or as the database answers.
pub async fn clear_setting(session: &OperatorSession, slug: &str, name: &str) -> Result<()> {
    let tenant = find(session, slug).await?;
    let mut tx = session.within(tenant).await?;
    let cleared: Option<()> = tx.optional(CLEAR_SETTING, &[&tenant, &name]).await?;
    cleared.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    tx.commit().await
}

/// All plans, by name.
///
/// # Errors
/// As the database answers.
pub async fn plans(session: &OperatorSession) -> Result<Vec<ListedPlan>> {
    provision::plans(session.begin()).await
}

/// Makes a plan, or changes what is given of it.
///
/// # Errors
/// As the database answers.
pub async fn set_plan(session: &OperatorSession, name: &str, change: &PlanChange) -> Result<()> {
    let mut tx = session.begin();
    provision::set_plan(&mut tx, name, change).await?;
    tx.commit().await
}

/// Gives a tenant a plan in place of the one that it has; `None`: takes it away.
///
/// # Errors
/// `core.not_found` where there is no such tenant, `core.invalid` where there is no such plan, or as the database answers.
pub async fn give_plan(session: &OperatorSession, slug: &str, plan: Option<&str>) -> Result<()> {
    let tenant = find(session, slug).await?;
    provision::give_plan(session.within(tenant).await?, tenant, plan).await
}

/// What a tenant uses, on these days, and what its plan has. `of_all` is the quota of files of who has no other.
///
/// # Errors
/// `core.not_found`, or as the database answers.
pub async fn usage(
    session: &OperatorSession,
    (table, of_all): (&Arc<EntitlementTable>, i64),
    slug: &str,
    (days, today): (&RangeInclusive<Day>, Day),
) -> Result<Vec<MeterUsage>> {
    let tenant = find(session, slug).await?;
    let entitlements = table.resolve(tenant, TENANCY.read(session.within(tenant).await?, tenant).await?);
    let mut tx = session.within(tenant).await?;
    let own: Option<FileQuota> = tx.optional(FILE_QUOTA, &[&tenant]).await?;
    let until = today.max(*days.end());
    let rows: Vec<StoredUsage> = tx.last().rows(READ_USAGE, &[&tenant, days.start(), &until]).await?;
    let limits = UsageLimits { entitlements: &entitlements, files: (own, of_all) };
    Ok(usage_of(table, &limits, &rows, (days, today)))
}

/// The tenants whose usage is billed, by their slugs: those that have been closed, too.
///
/// # Errors
/// As the database answers.
pub async fn billed(session: &OperatorSession) -> Result<Vec<String>> {
    let all: Vec<BilledTenant> = session.begin().last().rows(BILLED, &[]).await?;
    Ok(all.into_iter().map(|tenant| tenant.slug).collect())
}

async fn find(session: &OperatorSession, slug: &str) -> Result<TenantId> {
    session.tenant(slug).await?.ok_or_else(|| Error::new(&core::NOT_FOUND))
}
