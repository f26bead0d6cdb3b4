//! Operators among themselves: who there is, who comes, and who goes.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Actor, Operator, Trace};
use erp_core::bootstrap::OperatorSession;
use erp_core::db::{System, SystemTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::from_row;
use erp_core::mail::MailAddress;
use erp_core::shared::OperatorId;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::codes;
use super::enrolment::{self, InvitedOperator, WORK};
use super::impersonation::{self, EndedImpersonation};
use super::sign_in::FACTORS;
use erp_core::platform_log::PlatformEntry;

/// An operator, or somebody who is to be one.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedOperator {
    /// Its id.
    pub id: OperatorId,
    #[schemars(example = &"ops@example.com")]
    /// Its address.
    pub email: String,
    /// `invited`, `active` or `disabled`.
    #[schemars(example = &"active")]
    pub status: String,
    /// When it was first invited.
    pub created_at: Timestamp,
    /// When it was last signed in and did something.
    pub used_at: Option<Timestamp>,
}
from_row!(ListedOperator { id, email, status, created_at, used_at });

/// The operators, in the order of their addresses.
#[derive(Serialize, JsonSchema)]
pub(super) struct Operators {
    operators: Vec<ListedOperator>,
}

/// The body of `POST /api/v1/admin/operators`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOperator {
    #[schemars(example = &"second@example.com")]
    email: MailAddress,
}

const LIST: &str = "select o.id, o.email, o.created_at, \
       case when o.enrolled_at is not null then 'active' when o.disabled_at is not null then 'disabled' else 'invited' end as status, \
       (select max(s.used_at) from auth.operator_sessions s where s.operator_id = o.id) as used_at \
     from auth.operators o order by o.email limit 1000";
/// Held until the end: of two who disable one another, one stays.
const HOLD: &str =
    "select id from auth.operators where enrolled_at is not null order by id for no key update";
const DISABLE: &str = "update auth.operators set disabled_at = now(), enrolled_at = null, phc = null, secret_hash = null, secret_until = null \
     where id = $1 and disabled_at is null returning id";
const END_SESSIONS: &str =
    "update auth.operator_sessions set ended_at = now() where operator_id = $1 and ended_at is null";

struct HeldOperator {
    id: OperatorId,
}
from_row!(HeldOperator { id });

/// All operators.
///
/// # Errors
/// As the database answers.
pub async fn all(tx: SystemTx<'_>) -> Result<Vec<ListedOperator>> {
    tx.last().rows(LIST, &[]).await
}

/// Disables an operator, and all that it could come in with; the last one only where it is said. What it did in people's places ends,
/// too, of which their auditors are to be told.
///
/// # Errors
/// `core.not_found`; `operators.last_operator`.
async fn end(
    mut tx: SystemTx<'_>,
    (id, even_the_last): (OperatorId, bool),
    (actor, trace): (Actor, &Trace),
) -> Result<Vec<EndedImpersonation>> {
    let held: Vec<HeldOperator> = tx.rows(HOLD, &[]).await?;
    if held.iter().all(|other| other.id == id) && !held.is_empty() && !even_the_last {
        return Err(Error::new(&codes::LAST_OPERATOR));
    }
    let disabled: Option<()> = tx.optional(DISABLE, &[&id]).await?;
    disabled.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let _: Vec<()> = tx.rows(END_SESSIONS, &[&id]).await?;
    let ended = impersonation::end_of_operator(&mut tx, id).await?;
    let _: Vec<()> = tx.rows(FACTORS.remove, &[&id]).await?;
    let _: Vec<()> = tx.rows(FACTORS.remove_codes, &[&id]).await?;
    let subject = Some(id.to_string());
    let entry = PlatformEntry { actor, action: "operators.disabled", subject, details: json!({}), trace };
    entry.end(tx).await?;
    Ok(ended)
}

/// `erp-backend operator disable`: even the last one.
///
/// # Errors
/// `core.not_found`.
pub async fn end_by_command(session: &OperatorSession, id: OperatorId) -> Result<()> {
    let by = (Actor::System(WORK.name), session.trace());
    let ended = end(session.begin(), (id, true), by).await?;
    impersonation::tell_ended(|| session.begin(), &ended).await
}

/// `GET /api/v1/admin/operators`.
pub(super) async fn list(operator: Operator, system: System) -> Result<Json<Operators>> {
    Ok(Json(Operators { operators: all(system.by_operator(&operator)).await? }))
}

/// `POST /api/v1/admin/operators`.
pub(super) async fn invite(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Json(new): Json<NewOperator>,
) -> Result<Json<InvitedOperator>, Refusing<codes::OPERATOR_TAKEN>> {
    let tx = system.by_operator(&operator);
    let by = (operator.actor(), operator.trace());
    let made = (app.clock.as_ref(), app.rng.as_ref());
    Ok(Json(enrolment::invite(tx, &new.email, Some(operator.id()), made, by).await?))
}

/// `POST /api/v1/admin/operators/{id}/disable`.
pub(super) async fn disable(
    operator: Operator,
    system: System,
    Path(id): Path<OperatorId>,
) -> Result<NoContent, Refusing<codes::LAST_OPERATOR>> {
    let ended = end(system.by_operator(&operator), (id, false), (operator.actor(), operator.trace())).await?;
    impersonation::tell_ended(|| system.by_operator(&operator), &ended).await?;
    Ok(NoContent)
}
