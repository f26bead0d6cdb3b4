//! What operators do with people. Each thing is told in the audit log of each tenant that the person belongs to, and in the operators'
//! own log: a person may belong to none.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::Operator;
use erp_core::db::System;
use erp_core::error::{Result, codes as core};
use erp_core::extract::{Json, Path, Query};
use erp_core::shared::{Int, TenantId, Text, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::identity::facade as identity;
use crate::identity::facade::people::{self, ListedPerson, PersonMove};
use crate::identity::facade::tenants::DemandedAction;
use erp_core::platform_log::PlatformEntry;

/// How many are shown unless it is said.
const PAGE: i64 = 50;

/// What is asked of the list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PeoplePage {
    /// `nextCursor` of the page before.
    cursor: Option<Text<1, 254>>,
    limit: Option<Int<1, 200>>,
    /// Those who belong to the tenant of this slug alone.
    tenant: Option<Text<1, 63>>,
}

/// A page of people.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedPeople {
    items: Vec<ListedPerson>,
    next_cursor: Option<String>,
}

/// The body of what is done with a person.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PersonReason {
    /// For the audit log of each tenant that the person belongs to.
    #[schemars(example = &"The phone was lost; identity proven by telephone")]
    reason: Text<1, 500>,
}

/// What an operator demands of a person.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DemandOfPerson {
    /// Another password, before anything else.
    ChangePassword,
    /// A second factor in each session.
    SecondFactor,
}

/// The body of `POST /api/v1/admin/users/{id}/demand`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PersonDemand {
    action: DemandOfPerson,
    /// Whether the demand is taken back.
    #[serde(default)]
    withdraw: Option<bool>,
    /// For the audit log of each tenant that the person belongs to.
    #[schemars(example = &"The password was seen elsewhere")]
    reason: Text<1, 500>,
}

/// `GET /api/v1/admin/users`.
pub(super) async fn list(
    operator: Operator,
    system: System,
    Query(page): Query<PeoplePage>,
) -> Result<Json<ListedPeople>> {
    let limit = page.limit.map_or(PAGE, |limit| limit.get());
    let after = page.cursor.as_ref().map_or("", Text::as_str);
    let tenant = page.tenant.as_ref().map(Text::as_str);
    let mut items = people::list(system.by_operator(&operator), (after, tenant), limit + 1).await?;
    let more = items.len() as i64 > limit;
    items.truncate(usize::try_from(limit).unwrap_or_default());
    let next_cursor = items.last().filter(|_| more).map(|person| person.email.clone());
    Ok(Json(ListedPeople { items, next_cursor }))
}

/// `GET /api/v1/admin/users/{id}`.
pub(super) async fn read(
    operator: Operator,
    system: System,
    Path(id): Path<UserId>,
) -> Result<Json<ListedPerson>> {
    Ok(Json(people::read(system.by_operator(&operator), id).await?))
}

/// `POST /api/v1/admin/users/{id}/disable`.
pub(super) async fn disable(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(id): Path<UserId>,
    Json(body): Json<PersonReason>,
) -> Result<NoContent, Refusing<core::WRONG_STATE>> {
    steer(&app, &operator, &system, (id, PersonMove::Disable, &body)).await?;
    Ok(NoContent)
}

/// `POST /api/v1/admin/users/{id}/enable`.
pub(super) async fn enable(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(id): Path<UserId>,
    Json(body): Json<PersonReason>,
) -> Result<NoContent, Refusing<core::WRONG_STATE>> {
    steer(&app, &operator, &system, (id, PersonMove::Enable, &body)).await?;
    Ok(NoContent)
}

/// `POST /api/v1/admin/users/{id}/sign-out`.
pub(super) async fn sign_out(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(id): Path<UserId>,
    Json(body): Json<PersonReason>,
) -> Result<NoContent, Refusing<core::WRONG_STATE>> {
    steer(&app, &operator, &system, (id, PersonMove::SignOut, &body)).await?;
    Ok(NoContent)
}

/// `POST /api/v1/admin/users/{id}/remove-factor`: the person is told by mail.
pub(super) async fn remove_factor(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(id): Path<UserId>,
    Json(body): Json<PersonReason>,
) -> Result<NoContent, Refusing<(core::WRONG_STATE, identity::NO_FACTOR)>> {
    let tenants = steer(&app, &operator, &system, (id, PersonMove::RemoveFactor, &body)).await?;
    if let Some(tenant) = tenants.first() {
        let tx = system.by_operator(&operator).within(*tenant).await?;
        identity::mail_removed(&app, operator.trace(), tx, (*tenant, id)).await?;
    }
    Ok(NoContent)
}

/// `POST /api/v1/admin/users/{id}/demand`.
pub(super) async fn demand(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(id): Path<UserId>,
    Json(body): Json<PersonDemand>,
) -> Result<NoContent, Refusing<core::WRONG_STATE>> {
    let PersonDemand { action, withdraw, reason } = body;
    let action = match action {
        DemandOfPerson::ChangePassword => DemandedAction::ChangePassword,
        DemandOfPerson::SecondFactor => DemandedAction::SecondFactor,
    };
    let (demanded, why) = (!withdraw.unwrap_or_default(), reason.as_str());
    let tenants = people::demand(|| system.by_operator(&operator), id, ((action, demanded), why)).await?;
    for tenant in tenants {
        app.known_permissions.forget(tenant, id.into());
    }
    let done =
        if demanded { "operators.person_action_demanded" } else { "operators.person_demand_withdrawn" };
    tell(&operator, &system, (id, done), json!({ "why": why, "action": action.as_str() })).await?;
    Ok(NoContent)
}

/// `POST /api/v1/admin/users/{id}/erase`.
pub(super) async fn erase(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(id): Path<UserId>,
    Json(body): Json<PersonReason>,
) -> Result<NoContent, Refusing<identity::LAST_OWNER>> {
    steer(&app, &operator, &system, (id, PersonMove::Erase, &body)).await?;
    Ok(NoContent)
}

async fn steer(
    app: &App,
    operator: &Operator,
    system: &System,
    (id, what, body): (UserId, PersonMove, &PersonReason),
) -> Result<Vec<TenantId>> {
    let why = body.reason.as_str();
    let tenants = people::steer(|| system.by_operator(operator), id, (what, why)).await?;
    for tenant in &tenants {
        app.known_permissions.forget(*tenant, id.into());
    }
    let action = match what {
        PersonMove::Disable => "operators.person_disabled",
        PersonMove::Enable => "operators.person_enabled",
        PersonMove::SignOut => "operators.person_signed_out",
        PersonMove::RemoveFactor => "operators.person_factor_removed",
        PersonMove::Erase => "operators.person_erased",
    };
    tell(operator, system, (id, action), json!({ "why": why })).await?;
    Ok(tenants)
}

/// Tells of it in the platform log.
async fn tell(
    operator: &Operator,
    system: &System,
    (id, action): (UserId, &'static str),
    details: Value,
) -> Result<()> {
    let subject = Some(id.to_string());
    let entry = PlatformEntry { actor: operator.actor(), action, subject, details, trace: operator.trace() };
    entry.end(system.by_operator(operator)).await
}
