//! What operators do with tenants. What is done in one stands in its audit log, with the operator and the reason.

use std::collections::BTreeMap;

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::Operator;
use erp_core::db::System;
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path, Query};
use erp_core::mail::MailAddress;
use erp_core::mailer::link_base;
use erp_core::shared::{Int, List, TenantId, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::identity::facade::erasure::{self, ErasureTerms};
use crate::identity::facade::tenants::{
    self, CreatedTenant, ListedTenant, NewTenant, Slug, TenantMove, TenantTerms,
};
use crate::identity::facade::{self as identity, IdentitySettings, NewTenantRole};
use crate::tenants::facade::equip;

/// How many are shown unless it is said.
const PAGE: i64 = 50;

/// What is asked of the list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantPage {
    /// `nextCursor` of the page before.
    cursor: Option<Text<1, 63>>,
    limit: Option<Int<1, 200>>,
    /// Those of this state alone.
    status: Option<TenantStatus>,
}

/// What a tenant is.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum TenantStatus {
    /// It works.
    Active,
    /// Nobody comes in until it is resumed.
    Suspended,
    /// Nobody comes in any more.
    Closed,
    /// Its people, files and rows are being deleted.
    Erasing,
    /// They are deleted.
    Erased,
}

impl TenantStatus {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Closed => "closed",
            Self::Erasing => "erasing",
            Self::Erased => "erased",
        }
    }
}

/// A page of tenants.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedTenants {
    items: Vec<ListedTenant>,
    next_cursor: Option<String>,
}

/// `GET /api/v1/admin/tenants`.
pub(super) async fn list(
    operator: Operator,
    system: System,
    Query(page): Query<TenantPage>,
) -> Result<Json<ListedTenants>> {
    let limit = page.limit.map_or(PAGE, |limit| limit.get());
    let after = page.cursor.as_ref().map_or("", Text::as_str);
    let status = page.status.map(TenantStatus::as_str);
    let mut items = tenants::list(system.by_operator(&operator), (after, status), limit + 1).await?;
    let more = items.len() as i64 > limit;
    items.truncate(usize::try_from(limit).unwrap_or_default());
    let next_cursor = items.last().filter(|_| more).map(|tenant| tenant.slug.clone());
    Ok(Json(ListedTenants { items, next_cursor }))
}

/// The body of `POST /api/v1/admin/tenants`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantToMake {
    #[schemars(example = &"acme")]
    slug: Slug,
    /// What it calls itself.
    #[schemars(example = &"Acme Ltd")]
    name: Text<1, 200>,
    /// The address of its first owner, who is invited by mail.
    #[schemars(example = &"owner@acme.example")]
    owner: MailAddress,
    /// What it pays for, of the plans that there are.
    #[serde(default)]
    plan: Option<Text<1, 63>>,
    /// Values of its settings, by name.
    #[schemars(example = BTreeMap::from([("tenants.currency", "CHF")]))]
    #[serde(default)]
    settings: BTreeMap<String, Value>,
    /// Roles of its own.
    #[serde(default)]
    roles: Option<List<NewTenantRole, 0, 50>>,
}

/// The body of what moves a tenant from state to state.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantReason {
    /// For the tenant's audit log.
    #[schemars(example = &"The invoice of March is open")]
    reason: Text<1, 500>,
}

/// `GET /api/v1/admin/tenants/{id}`.
pub(super) async fn read(
    operator: Operator,
    system: System,
    Path(id): Path<TenantId>,
) -> Result<Json<ListedTenant>> {
    Ok(Json(tenants::read(system.by_operator(&operator), id).await?))
}

/// `POST /api/v1/admin/tenants`.
pub(super) async fn create(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Json(body): Json<TenantToMake>,
) -> Result<Json<CreatedTenant>, Refusing<(identity::TENANT_TAKEN, identity::NO_PUBLIC_URL)>> {
    let TenantToMake { slug, name, owner, plan, settings, roles } = body;
    let new = NewTenant { slug, name: name.to_string(), first_owner: owner };
    let base = link_base(&app.config).ok_or_else(|| Error::new(&identity::NO_PUBLIC_URL))?;
    let lifetime = app.settings::<IdentitySettings>()?.invitation_lifetime;
    let (clock, rng) = (app.clock.as_ref(), app.rng.as_ref());
    let terms = TenantTerms { base, invitation_lifetime: lifetime, clock, rng };
    let (mut tx, made) = tenants::create(system.by_operator(&operator), &new, terms).await?;
    let plan = plan.as_ref().map(Text::as_str);
    equip(app.entitlements.table(), &mut tx, (plan, &settings)).await?;
    identity::add_first(&app, &mut tx, roles.as_deref().unwrap_or_default()).await?;
    tenants::mail_first_owner(&app, &mut tx, operator.trace(), (&new, &made), lifetime)?;
    tx.commit().await?;
    Ok(Json(made))
}

/// `POST /api/v1/admin/tenants/{id}/suspend`.
pub(super) async fn suspend(
    operator: Operator,
    system: System,
    Path(id): Path<TenantId>,
    Json(body): Json<TenantReason>,
) -> Result<NoContent, Refusing<core::WRONG_STATE>> {
    steer(&operator, &system, (id, TenantMove::Suspend), &body).await
}

/// `POST /api/v1/admin/tenants/{id}/resume`.
pub(super) async fn resume(
    operator: Operator,
    system: System,
    Path(id): Path<TenantId>,
    Json(body): Json<TenantReason>,
) -> Result<NoContent, Refusing<core::WRONG_STATE>> {
    steer(&operator, &system, (id, TenantMove::Resume), &body).await
}

/// `POST /api/v1/admin/tenants/{id}/close`.
pub(super) async fn close(
    operator: Operator,
    system: System,
    Path(id): Path<TenantId>,
    Json(body): Json<TenantReason>,
) -> Result<NoContent, Refusing<core::WRONG_STATE>> {
    steer(&operator, &system, (id, TenantMove::Close), &body).await
}

/// `POST /api/v1/admin/tenants/{id}/erase`.
pub(super) async fn erase(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(id): Path<TenantId>,
    Json(body): Json<TenantReason>,
) -> Result<NoContent, Refusing<core::WRONG_STATE>> {
    tenants::read(system.by_operator(&operator), id).await?; // a reserved one is not shown here
    let grace = app.settings::<IdentitySettings>()?.closed_for;
    let terms = ErasureTerms { grace, clock: app.clock.as_ref(), rng: app.rng.as_ref() };
    let what = (id, body.reason.as_str());
    erasure::begin(|| system.by_operator(&operator), operator.trace(), what, &terms).await?;
    Ok(NoContent)
}

async fn steer(
    operator: &Operator,
    system: &System,
    (id, what): (TenantId, TenantMove),
    body: &TenantReason,
) -> Result<NoContent, Refusing<core::WRONG_STATE>> {
    tenants::read(system.by_operator(operator), id).await?; // a reserved one is not shown here
    tenants::steer(system.by_operator(operator), id, what, body.reason.as_str()).await?;
    Ok(NoContent)
}
