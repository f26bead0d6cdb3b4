//! An operator in a person's place: with a reason, for an hour at most, and seen by everybody whom it concerns.
//!
//! The token says both, and so does each line of the log and each audit row. What it may do is what the person may, but for what is the
//! person's own affair: `Route::is_for_oneself`. It ends by itself, by the operator, by the person, and with the operator's session.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{AccessToken, Operator};
use erp_core::db::{AuditEntry, System, SystemTx, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::logging::Severity;
use erp_core::mail::{MailAddress, MailTemplate, Recipient};
use erp_core::shared::{Int, OperatorId, SessionId, ShownSecret, TenantId, Text, UserId};
use erp_core::{from_row, mail_template, security_event};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::identity::facade::tenants::Slug;
use crate::identity::facade::{self as identity, Impersonation};

/// The body of `POST /api/v1/admin/impersonate`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ImpersonationAsked {
    #[schemars(example = &"acme")]
    tenant: Slug,
    user_id: UserId,
    /// For the tenant's audit log and the person's mail.
    #[schemars(example = &"Ticket 4711: the import fails")]
    reason: Text<1, 500>,
    /// For how long; it cannot be made longer.
    #[schemars(example = 15)]
    minutes: Int<1, 60>,
}

/// The answer of `POST /api/v1/admin/impersonate`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImpersonationBegun {
    /// What `DELETE /api/v1/admin/impersonate/{id}` ends.
    id: SessionId,
    /// A JWT; send it as `Authorization: Bearer …`. There is no refresh token.
    #[schemars(example = &"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI…")]
    access_token: ShownSecret,
    /// Always `Bearer`.
    #[schemars(example = &"Bearer")]
    token_type: &'static str,
    /// Seconds until it is over.
    #[schemars(example = 900)]
    #[schemars(range(min = 0, max = 3600))]
    expires_in: u64,
}

/// What the mail to the person says.
pub(super) struct ImpersonatedMail {
    tenant: String,
    reason: String,
    minutes: i64,
}

pub(super) static IMPERSONATED: MailTemplate<ImpersonatedMail> = mail_template!(
    "operators.impersonated", "Tells somebody that an operator acts in their place, and why.", ImpersonatedMail,
    "en": { subject: "Support is working in your place at {{ mail.tenant }}", text: "operators/mails/impersonated.en.txt" },
    "de": { subject: "Der Support arbeitet an Ihrer Stelle bei {{ mail.tenant }}", text: "operators/mails/impersonated.de.txt" },
);

const ACTIVE: &str = "select id from tenants where slug = $1 and status = 'active'";
/// Held until the end: the session of the operator ends before this one begins, or ends it, too.
const HOLD: &str = "select least(expires_at, now() + $2::bigint * interval '1 minute') as until from auth.operator_sessions \
     where id = $1 and ended_at is null and expires_at > now() for share";
const MEMBER: &str = "select m.email, p.name as tenant from memberships m join tenant_profiles p on p.tenant_id = m.tenant_id \
     where m.tenant_id = $1 and m.user_id = $2 and m.ended_at is null and m.deactivated_at is null and m.disabled_at is null";
const END: &str = "update sessions set revoked_at = now(), reason = 'ended' where id = $1 and operator_id = $2 \
     and revoked_at is null and expires_at > now() returning tenant_id, id, principal_id";
const END_OF_SESSION: &str = "update sessions set revoked_at = now(), reason = 'ended' where operator_session = $1 \
     and revoked_at is null and expires_at > now() returning tenant_id, id, principal_id";
const END_OF_OPERATOR: &str = "update sessions set revoked_at = now(), reason = 'ended' where operator_session in \
       (select s.id from auth.operator_sessions s where s.operator_id = $1) \
     and revoked_at is null and expires_at > now() returning tenant_id, id, principal_id";

struct ActiveOne {
    id: TenantId,
}
from_row!(ActiveOne { id });

struct HeldSession {
    until: Timestamp,
}
from_row!(HeldSession { until });

struct MemberThere {
    email: String,
    tenant: String,
}
from_row!(MemberThere { email, tenant });

/// An impersonation that was ended.
pub(super) struct EndedImpersonation {
    tenant_id: TenantId,
    id: SessionId,
    principal_id: UserId,
}
from_row!(EndedImpersonation { tenant_id, id, principal_id });

/// `POST /api/v1/admin/impersonate`.
pub(super) async fn begin(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Json(body): Json<ImpersonationAsked>,
) -> Result<Json<ImpersonationBegun>, Refusing<core::NOT_FOUND>> {
    let ImpersonationAsked { tenant: slug, user_id: person, reason, minutes } = body;
    let mut tx = system.by_operator(&operator);
    let found: Option<ActiveOne> = tx.optional(ACTIVE, &[&slug.as_str()]).await?;
    let ActiveOne { id: tenant } = found.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let mut tx = tx.within(tenant).await?;
    let held: Option<HeldSession> = tx.optional(HOLD, &[&operator.session(), &minutes]).await?;
    let HeldSession { until } = held.ok_or_else(|| Error::new(&core::UNAUTHENTICATED))?;
    let member: Option<MemberThere> = tx.optional(MEMBER, &[&tenant, &person]).await?;
    let member = member.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let reason = reason.as_str();
    let asked = Impersonation { tenant, person, operator: &operator, reason, until };
    let (id, token) = identity::impersonate(&app, &mut tx, &asked).await?;
    let told = ToldOfImpersonation { id, person, reason, minutes: minutes.get() };
    tell(&app, &operator, (tx, member), &told).await?;
    security_event!(
        Severity::High,
        "An operator acts in a person's place",
        action = "operators.impersonation_begun",
        tenant_id = %tenant,
        user_id = %person,
        operator_id = %operator.id(),
    );
    let AccessToken { access_token, token_type, expires_in } = token;
    Ok(Json(ImpersonationBegun { id, access_token, token_type, expires_in }))
}

/// What the tenant's auditor and the person are told.
struct ToldOfImpersonation<'a> {
    id: SessionId,
    person: UserId,
    reason: &'a str,
    minutes: i64,
}

/// Tells them, and commits.
async fn tell(
    app: &App,
    operator: &Operator,
    (mut tx, member): (TenantTx<'_>, MemberThere),
    told: &ToldOfImpersonation<'_>,
) -> Result<()> {
    let ToldOfImpersonation { id, person, reason, minutes } = told;
    let details = json!({ "session": id.to_string(), "reason": reason, "minutes": minutes });
    tx.audit(&entry("operators.impersonation_begun", *person, details))?;
    let MemberThere { email, tenant } = member;
    let address: MailAddress = email.parse().map_err(Error::internal)?;
    let mail = ImpersonatedMail { tenant, reason: (*reason).to_owned(), minutes: *minutes };
    app.mail_to(&mut tx, operator.trace(), &IMPERSONATED, &Recipient::new(address), &mail)?;
    tx.commit().await
}

fn entry(action: &'static str, person: UserId, details: serde_json::Value) -> AuditEntry {
    AuditEntry {
        action,
        resource: "user",
        resource_id: Some(person.to_string()),
        outcome: "success",
        details,
    }
}

/// `DELETE /api/v1/admin/impersonate/{id}`: one of the operator's own.
pub(super) async fn end(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Path(id): Path<SessionId>,
) -> Result<NoContent> {
    let mut tx = system.by_operator(&operator);
    let ended: Vec<EndedImpersonation> = tx.rows(END, &[&id, &operator.id()]).await?;
    let ended = ended.into_iter().next().ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let mut tx = tx.within(ended.tenant_id).await?;
    tx.audit(&ended.entry())?;
    tx.commit().await?;
    app.known_permissions.forget(ended.tenant_id, ended.principal_id.into());
    Ok(NoContent)
}

impl EndedImpersonation {
    fn entry(&self) -> AuditEntry {
        entry("operators.impersonation_ended", self.principal_id, json!({ "session": self.id.to_string() }))
    }
}

/// Ends all that a session of an operator has begun.
pub(super) async fn end_of_session(
    tx: &mut SystemTx<'_>,
    session: SessionId,
) -> Result<Vec<EndedImpersonation>> {
    tx.rows(END_OF_SESSION, &[&session]).await
}

/// Ends all that an operator has begun.
pub(super) async fn end_of_operator(
    tx: &mut SystemTx<'_>,
    operator: OperatorId,
) -> Result<Vec<EndedImpersonation>> {
    tx.rows(END_OF_OPERATOR, &[&operator]).await
}

/// Tells the auditors of those that have ended with something else, each in a transaction of `begin`'s.
pub(super) async fn tell_ended<'db>(
    begin: impl Fn() -> SystemTx<'db>,
    ended: &[EndedImpersonation],
) -> Result<()> {
    for ended in ended {
        let mut tx = begin().within(ended.tenant_id).await?;
        tx.audit(&ended.entry())?;
        tx.commit().await?;
    }
    Ok(())
}
