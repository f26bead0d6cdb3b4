//! The routes by which sessions are kept up, listed and ended.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Caller, Trace};
use erp_core::db::{AuditEntry, System, SystemTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::from_row;
use erp_core::shared::{Secret, SessionId, TenantId, UserId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::session::{self, Tokens};
use super::{END_SESSIONS, codes};

/// The body of `POST /api/v1/auth/refresh`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Refresh {
    #[schemars(example = &"ert_AZtgk0…")]
    refresh_token: Secret<String>,
}

/// One of the caller's sessions.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnSession {
    pub(super) id: SessionId,
    /// What the client has said that it is, when the session began.
    #[schemars(example = &"Firefox on Windows")]
    pub(super) device: String,
    /// Where it was used from last.
    #[schemars(example = &"203.0.113.7")]
    pub(super) address: Option<String>,
    /// How its person has signed in.
    #[schemars(example = ["pwd"])]
    methods: Vec<String>,
    pub(super) signed_in_at: Timestamp,
    /// When it was refreshed last.
    pub(super) used_at: Timestamp,
    expires_at: Timestamp,
    /// Whether it is the one that asks.
    pub(super) current: bool,
}

/// The caller's sessions in the tenant.
#[derive(Serialize, JsonSchema)]
pub(super) struct OwnSessions {
    sessions: Vec<OwnSession>,
}

const OWN: &str = "select id, device, host(address) as address, amr, created_at, rotated_at, expires_at from sessions \
     where principal_id = $1 and revoked_at is null and expires_at > now() and idle_at > now() \
     order by rotated_at desc, id limit 200";
const END: &str = "update sessions set revoked_at = now(), reason = $3 where id = $1 and tenant_id = $2 \
     and revoked_at is null and expires_at > now() and ($4::uuid is null or principal_id = $4) returning id, principal_id";
/// In all tenants: a person who has lost a device wants to be out everywhere.
const END_ALL: &str = "update sessions set revoked_at = now(), reason = $2 where principal_id = $1 and revoked_at is null \
     and ($3::uuid is null or id <> $3) returning id, tenant_id";

struct OwnRow {
    id: SessionId,
    device: String,
    address: Option<String>,
    amr: Vec<String>,
    created_at: Timestamp,
    rotated_at: Timestamp,
    expires_at: Timestamp,
}
from_row!(OwnRow { id, device, address, amr, created_at, rotated_at, expires_at });

struct EndedSession {
    id: SessionId,
    principal_id: UserId,
}
from_row!(EndedSession { id, principal_id });

/// A session that has ended, of whichever tenant.
pub(super) struct EndedThere {
    id: SessionId,
    tenant_id: TenantId,
}
from_row!(EndedThere { id, tenant_id });

/// `POST /api/v1/auth/refresh`.
pub(super) async fn refresh(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Json(refresh): Json<Refresh>,
) -> Result<Json<Tokens>, Refusing<codes::SESSION_ENDED>> {
    Ok(Json(session::refresh(&app, &system, &trace, refresh.refresh_token.expose()).await?))
}

/// `GET /api/v1/auth/sessions`.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<OwnSessions>> {
    Ok(Json(OwnSessions { sessions: own(&app, &caller).await? }))
}

/// The same for the page.
pub(super) async fn own(app: &App, caller: &Caller) -> Result<Vec<OwnSession>> {
    let rows: Vec<OwnRow> = app.db.tenant_read(caller).last().rows(OWN, &[&caller.user()?]).await?;
    let asking = caller.signed_in().map(|signed_in| signed_in.session);
    let own = |OwnRow { id, device, address, amr, created_at, rotated_at, expires_at }| OwnSession {
        id,
        device,
        address,
        methods: amr,
        signed_in_at: created_at,
        used_at: rotated_at,
        expires_at,
        current: asking == Some(id),
    };
    Ok(rows.into_iter().map(own).collect())
}

/// `DELETE /api/v1/auth/sessions/{id}`: one's own, or anybody's for who may end them.
pub(super) async fn end(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<SessionId>,
) -> Result<NoContent> {
    let own = (!caller.may(&END_SESSIONS)).then(|| caller.user()).transpose()?;
    if end_one(&app, &caller, &system, (id, own, "ended")).await? {
        return Ok(NoContent);
    }
    Err(Error::new(&core::NOT_FOUND))
}

/// One's own, by the page.
pub(super) async fn end_own(app: &App, caller: &Caller, system: &System, id: SessionId) -> Result<()> {
    let ended = end_one(app, caller, system, (id, Some(caller.user()?), "ended")).await?;
    if ended { Ok(()) } else { Err(Error::new(&core::NOT_FOUND)) }
}

/// `POST /api/v1/auth/logout`: the session that asks.
pub(super) async fn logout(State(app): State<App>, caller: Caller, system: System) -> Result<NoContent> {
    let Some(signed_in) = caller.signed_in() else { return Ok(NoContent) };
    end_one(&app, &caller, &system, (signed_in.session, Some(caller.user()?), "signed-out")).await?;
    Ok(NoContent)
}

/// `POST /api/v1/auth/logout-all`: all of the person's sessions, in all tenants.
pub(super) async fn logout_all(State(app): State<App>, caller: Caller, system: System) -> Result<NoContent> {
    const REASON: &str = "signed-out";
    let (person, here) = (caller.user()?, caller.tenant());
    let mut tx = system.on_behalf(&caller);
    let ended = end_in(&mut tx, (person, REASON, None)).await?;
    let mut tx = tx.within(here).await?;
    tx.audit(&entry(person, REASON, &ended, here))?;
    tx.commit().await?;
    tell_others(&app, &system, caller.trace(), (person, REASON, here), &ended).await?;
    Ok(NoContent)
}

/// Ends a session of the tenant, of anybody's or of `own`; whether there was one.
async fn end_one(
    app: &App,
    caller: &Caller,
    system: &System,
    (id, own, reason): (SessionId, Option<UserId>, &'static str),
) -> Result<bool> {
    let mut tx = system.on_behalf(caller).within(caller.tenant()).await?;
    let ended: Option<EndedSession> = tx.optional(END, &[&id, &caller.tenant(), &reason, &own]).await?;
    let Some(ended) = ended else { return Ok(false) };
    tx.audit(&AuditEntry {
        action: "identity.session_ended",
        resource: "session",
        resource_id: Some(ended.id.to_string()),
        outcome: "success",
        details: json!({ "user": ended.principal_id.to_string(), "reason": reason }),
    })?;
    tx.commit().await?;
    app.known_permissions.forget(caller.tenant(), ended.principal_id.into());
    Ok(true)
}

/// Ends all of a person's sessions but one, in all tenants. The caller's own auditor is told by the caller's entry, which the
/// transaction goes on to write, and those of other tenants by [`tell_others`].
pub(super) async fn end_in(
    tx: &mut SystemTx<'_>,
    (person, reason, but): (UserId, &'static str, Option<SessionId>),
) -> Result<Vec<EndedThere>> {
    tx.rows(END_ALL, &[&person, &reason, &but]).await
}

/// Forgets what was known of the sessions that have ended, and tells the auditors of other tenants than `here`.
pub(super) async fn tell_others(
    app: &App,
    system: &System,
    trace: &Trace,
    (person, reason, here): (UserId, &'static str, TenantId),
    ended: &[EndedThere],
) -> Result<()> {
    for session in ended {
        app.known_permissions.forget(session.tenant_id, person.into());
    }
    for tenant in others(ended, here) {
        let mut tx = system.begin(trace).within(tenant).await?;
        tx.audit(&entry(person, reason, ended, tenant))?;
        tx.commit().await?;
    }
    Ok(())
}

/// Those of a tenant among the sessions that have ended, by their ids.
pub(super) fn of_tenant(ended: &[EndedThere], tenant: TenantId) -> Vec<String> {
    let there = ended.iter().filter(|session| session.tenant_id == tenant);
    there.map(|session| session.id.to_string()).collect()
}

fn entry(person: UserId, reason: &str, ended: &[EndedThere], tenant: TenantId) -> AuditEntry {
    let sessions = of_tenant(ended, tenant);
    AuditEntry {
        action: "identity.sessions_ended",
        resource: "user",
        resource_id: Some(person.to_string()),
        outcome: "success",
        details: json!({ "reason": reason, "sessions": sessions }),
    }
}

fn others(ended: &[EndedThere], here: TenantId) -> Vec<TenantId> {
    let mut tenants: Vec<TenantId> = ended.iter().map(|session| session.tenant_id).collect();
    tenants.sort();
    tenants.dedup();
    tenants.retain(|tenant| *tenant != here);
    tenants
}
