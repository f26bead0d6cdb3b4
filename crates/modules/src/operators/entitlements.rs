//! What operators do with plans and features. What is done in one tenant stands in its audit log; what concerns all of them stands in the
//! operators' own.

use std::collections::BTreeMap;

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::Operator;
use erp_core::db::System;
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::extract::{Json, Patch, Path};
use erp_core::shared::{Int, LARGEST_EXACT, TenantId, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::identity::facade::tenants::{self, Slug};
use crate::tenants::facade::provision::{
    self as entitlements, ExplainedFlag, ListedFlag, ListedPlan, PlanChange,
};
use erp_core::platform_log::PlatformEntry;

/// All plans.
#[derive(Serialize, JsonSchema)]
pub(super) struct ListedPlans {
    plans: Vec<ListedPlan>,
}

/// All features, as all tenants have them.
#[derive(Serialize, JsonSchema)]
pub(super) struct ListedFlags {
    flags: Vec<ListedFlag>,
}

/// All features, as one tenant has them.
#[derive(Serialize, JsonSchema)]
pub(super) struct ExplainedFlags {
    flags: Vec<ExplainedFlag>,
}

/// A merge patch of a plan: what is absent stays, and `null` is as the deployment's settings have it.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PlanPatch {
    /// What it is.
    #[serde(default)]
    about: Option<Text<0, 500>>,
    /// The requests in a window.
    #[schemars(example = 5000)]
    #[serde(default)]
    rate_limit_max: Patch<Option<Int<1, 1_000_000>>>,
    /// The connections to the database of one process.
    #[serde(default)]
    connections: Patch<Option<Int<1, 1000>>>,
    /// The requests of one process that are worked on at a time.
    #[serde(default)]
    requests_at_once: Patch<Option<Int<1, 100_000>>>,
    /// The database time of one process in a minute, in milliseconds.
    #[serde(default)]
    database_ms: Patch<Option<Int<1, 6_000_000>>>,
    /// How much a tenant may use, by the names of meters; `null`: as much as it likes.
    #[schemars(example = BTreeMap::from([("catalog.items", 1000)]))]
    #[serde(default)]
    quotas: BTreeMap<String, Option<Int<0, LARGEST_EXACT>>>,
}

/// The body of `PUT /api/v1/admin/tenants/{id}/plan`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenPlan {
    /// Its name; `null` takes away the one that the tenant has.
    #[schemars(example = &"business")]
    plan: Option<Text<1, 63>>,
}

/// The body of `PUT /api/v1/admin/tenants/{id}/flags/{flag}`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FlagSwitch {
    /// `null`: as it is for others.
    #[schemars(example = true)]
    is_on: Option<bool>,
}

/// The body of `PUT /api/v1/admin/flags/{flag}/rollout`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FlagRollout {
    /// How many of 10,000 tenants have it; `null`: none by a rollout.
    #[schemars(example = 2500)]
    basis_points: Option<Int<0, 10_000>>,
}

/// `GET /api/v1/admin/plans`.
pub(super) async fn plans(operator: Operator, system: System) -> Result<Json<ListedPlans>> {
    Ok(Json(ListedPlans { plans: entitlements::plans(system.by_operator(&operator)).await? }))
}

/// `PATCH /api/v1/admin/plans/{name}`: it is made where it is not there.
pub(super) async fn set_plan(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(name): Path<String>,
    Json(patch): Json<PlanPatch>,
) -> Result<NoContent> {
    let name = Slug::try_from(name)
        .map_err(|wrong| Error::new(&core::INVALID).detail(format!("A plan's name is {wrong}.")))?;
    let change = patch.change(&app)?;
    let mut tx = system.by_operator(&operator);
    entitlements::set_plan(&mut tx, name.as_str(), &change).await?;
    let subject = Some(name.as_str().to_owned());
    let (actor, trace) = (operator.actor(), operator.trace());
    PlatformEntry { actor, action: "operators.plan_set", subject, details: json!({}), trace }.end(tx).await?;
    Ok(NoContent)
}

impl PlanPatch {
    fn change(self, app: &App) -> Result<PlanChange> {
        let table = app.entitlements.table();
        let declared = |name: &str| table.meters().any(|meter| meter.name == name && meter.has_quota());
        if let Some(name) = self.quotas.keys().find(|name| !declared(name)) {
            let unknown =
                Violation::new(format!("/quotas/{name}"), "unknown", "No meter of this name has a quota.");
            return Err(Error::new(&core::INVALID).violation(unknown));
        }
        Ok(PlanChange {
            about: self.about.map(|about| about.to_string()),
            rate_limit_max: given(&self.rate_limit_max),
            connections: given(&self.connections),
            requests_at_once: given(&self.requests_at_once),
            database_ms: given(&self.database_ms),
            quotas: self.quotas.into_iter().map(|(name, most)| (name, most.map(|most| most.get()))).collect(),
        })
    }
}

fn given<const MIN: i64, const MAX: i64>(patch: &Patch<Option<Int<MIN, MAX>>>) -> Option<Option<i32>> {
    let number = patch
        .value
        .as_ref()
        .and_then(|value| value.as_ref())
        .map(|number| i32::try_from(number.get()).unwrap_or(i32::MAX));
    patch.given.then_some(number)
}

/// `PUT /api/v1/admin/tenants/{id}/plan`.
pub(super) async fn give_plan(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(id): Path<TenantId>,
    Json(given): Json<GivenPlan>,
) -> Result<NoContent> {
    tenants::read(system.by_operator(&operator), id).await?;
    let tx = system.by_operator(&operator).within(id).await?;
    entitlements::give_plan(tx, id, given.plan.as_ref().map(Text::as_str)).await?;
    app.entitlements.forget(id);
    Ok(NoContent)
}

/// `GET /api/v1/admin/flags`.
pub(super) async fn flags(
    State(app): State<App>,
    operator: Operator,
    system: System,
) -> Result<Json<ListedFlags>> {
    let tx = system.by_operator(&operator);
    Ok(Json(ListedFlags { flags: entitlements::flags(tx, app.entitlements.table()).await? }))
}

/// `PUT /api/v1/admin/flags/{flag}/rollout`.
pub(super) async fn roll_out(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(flag): Path<String>,
    Json(rollout): Json<FlagRollout>,
) -> Result<NoContent> {
    let flag = declared(&app, &flag)?;
    let part = rollout.basis_points.and_then(|part| i32::try_from(part.get()).ok());
    let mut tx = system.by_operator(&operator);
    entitlements::roll_out(&mut tx, app.rng.as_ref(), flag, part).await?;
    let (subject, details) = (Some(flag.to_owned()), json!({ "basisPoints": part }));
    let (actor, trace) = (operator.actor(), operator.trace());
    PlatformEntry { actor, action: "operators.flag_rolled_out", subject, details, trace }.end(tx).await?;
    Ok(NoContent)
}

/// `GET /api/v1/admin/tenants/{id}/flags`.
pub(super) async fn explain_flags(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(id): Path<TenantId>,
) -> Result<Json<ExplainedFlags>> {
    tenants::read(system.by_operator(&operator), id).await?;
    let tx = system.by_operator(&operator).within(id).await?;
    Ok(Json(ExplainedFlags { flags: entitlements::explain(tx, app.entitlements.table(), id).await? }))
}

/// `PUT /api/v1/admin/tenants/{id}/flags/{flag}`.
pub(super) async fn set_flag(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path((id, flag)): Path<(TenantId, String)>,
    Json(switch): Json<FlagSwitch>,
) -> Result<NoContent, Refusing<core::NOT_FOUND>> {
    let flag = declared(&app, &flag)?;
    tenants::read(system.by_operator(&operator), id).await?;
    let tx = system.by_operator(&operator).within(id).await?;
    entitlements::set_flag(tx, id, (flag, switch.is_on)).await?;
    app.entitlements.forget(id);
    Ok(NoContent)
}

/// The name of a feature that a module declares.
fn declared(app: &App, name: &str) -> Result<&'static str> {
    let known = app.entitlements.table().flags().find(|flag| flag.name == name);
    known.map(|flag| flag.name).ok_or_else(|| Error::new(&core::NOT_FOUND))
}
