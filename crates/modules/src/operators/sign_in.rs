//! How operators sign in, with both factors at once, and how their requests are told.
//!
//! An operator's credential is a secret of a session, and no signed token: each request asks the database whether the session lasts, so
//! that its end counts at once everywhere, and no key that a tenant's tokens are signed with makes an operator of anybody.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Actor, Credential, Method, Operator, TenantSecret, Trace, bearer};
use erp_core::db::{System, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::Json;
use erp_core::from_row;
use erp_core::jobs::{JobKind, Schedule};
use erp_core::limits::Attempt;
use erp_core::logging::Severity;
use erp_core::module::OperatorAuthentication;
use erp_core::security_event;
use erp_core::shared::{Id, OperatorId, Secret, SessionId, ShownSecret, TenantId, Text};
use http::HeaderMap;
use http::header::USER_AGENT;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::impersonation;
use super::{OperatorsSettings, SIGN_IN};
use crate::identity::facade::{
    self as identity, CodeGiven, CodeVerdict, FactorTables, GuessTarget, factor_tables,
};
use erp_core::platform_log::PlatformEntry;

pub(super) static MOVE_SEEDS: JobKind<()> = JobKind::<()>::new(
    "operators.move_seeds",
    "Encrypts the secrets of operators' second factors with the platform's key that were sealed under ENCRYPTION_KEY itself.",
    |job, ()| Box::pin(identity::seeds::move_seeds(job, &FACTORS)),
)
.system(&SIGN_IN)
.unhurried();

pub(super) static SEEDS_NIGHTLY: Schedule = Schedule::for_platform(
    "operators.move_seeds",
    "Encrypts the secrets of operators' second factors with the platform's key that were sealed under ENCRYPTION_KEY itself.",
    "2 4 * * *",
    &MOVE_SEEDS,
    &(),
);

/// What the secret of a session begins with: `erp_operator_`. It names no tenant.
const KIND: &str = "operator";
/// Under what failures are counted, among the tenants' slugs, of which none has a space.
const COUNTED_AS: &str = "operators of the platform";

/// What proves operators' codes.
pub(super) static FACTORS: FactorTables = factor_tables!(
    "auth.operators",
    "auth.operator_factors",
    "auth.operator_recovery_codes",
    "auth.operator_factor_failures",
    "operator_id"
);

/// By `Authorization: Bearer` with the secret of a session that lasts.
pub(super) static AUTHENTICATION: OperatorAuthentication =
    OperatorAuthentication { system: &SIGN_IN, credential };

/// The body of `POST /api/v1/admin/auth/login`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OperatorLogin {
    #[schemars(example = &"ops@example.com")]
    email: String,
    #[schemars(example = &"correct horse battery staple")]
    password: Secret<String>,
    /// Of the authenticator app, or one of the recovery codes.
    #[schemars(example = &"123456")]
    code: Secret<String>,
}

/// The answer to an operator's sign-in.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperatorToken {
    /// Send it as `Authorization: Bearer …`, to `/api/v1/admin/…` alone.
    #[schemars(example = &"erp_operator_…")]
    access_token: ShownSecret,
    /// Always `Bearer`.
    #[schemars(example = &"Bearer")]
    token_type: &'static str,
    /// Seconds until it expires, unless it is used.
    #[schemars(example = 900)]
    #[schemars(range(min = 60, max = 3600))]
    expires_in: i64,
    /// When it expires, however it is used.
    session_expires_at: Timestamp,
}

const FIND: &str =
    "select id, phc from auth.operators where email = $1 and enrolled_at is not null and disabled_at is null";
const REPLACE: &str = "update auth.operators set phc = $3 where id = $1 and phc = $2 returning id";
const BEGIN: &str = "insert into auth.operator_sessions (id, operator_id, secret_hash, device, address, expires_at) \
     values ($1, $2, $3, $4, $5::text::inet, now() + $6::bigint * interval '1 second') returning expires_at";
/// It notes the use, without which a session ends.
const USE: &str = "update auth.operator_sessions s set used_at = now() from auth.operators o \
     where s.secret_hash = $1 and s.ended_at is null and s.expires_at > now() \
       and s.used_at > now() - $2::bigint * interval '1 second' \
       and o.id = s.operator_id and o.enrolled_at is not null and o.disabled_at is null \
     returning s.operator_id, s.id";
const END: &str = "update auth.operator_sessions set ended_at = now() where id = $1 and ended_at is null";

struct OperatorAccount {
    id: OperatorId,
    phc: Option<String>,
}
from_row!(OperatorAccount { id, phc });

struct BegunByOperator {
    expires_at: Timestamp,
}
from_row!(BegunByOperator { expires_at });

struct UsedByOperator {
    operator_id: OperatorId,
    id: SessionId,
}
from_row!(UsedByOperator { operator_id, id });

/// A sign-in that was right.
struct Proven {
    operator: OperatorId,
    token: OperatorToken,
}

/// `POST /api/v1/admin/auth/login`: a session for the right password and a code; for anything else one answer.
pub(super) async fn sign_in(
    State(app): State<App>,
    trace: Trace,
    attempt: Attempt,
    system: System,
    headers: HeaderMap,
    Json(body): Json<OperatorLogin>,
) -> Result<Json<OperatorToken>, Refusing<(identity::SIGN_IN_FAILED, identity::LOCKED_OUT)>> {
    app.passwords.admit(&body.password)?;
    let email = body.email.trim().to_lowercase();
    let target = GuessTarget { tenant: COUNTED_AS, email: &email, device: None };
    let guess = identity::begin((&app, &system, &trace), &attempt, &target).await?;
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match prove(&app, &system, &trace, (&email, body, agent)).await {
        Ok(Some(Proven { operator, token })) => {
            guess.succeeded().await;
            security_event!(
                Severity::Low,
                "An operator signed in",
                action = "operators.signed_in",
                operator_id = %operator,
                ip = identity::address(&trace),
            );
            Ok(Json(token))
        }
        Ok(None) => {
            let name = attempt.name(COUNTED_AS, &email);
            security_event!(
                Severity::High,
                "A sign-in as an operator failed",
                action = "operators.sign_in_failed",
                account = %name,
                ip = identity::address(&trace),
            );
            Err(Error::new(&identity::SIGN_IN_FAILED).into())
        }
        Err(error) => {
            guess.undecided().await; // what we could not decide is no failure of the caller's
            Err(error.into())
        }
    }
}

async fn prove(
    app: &App,
    system: &System,
    trace: &Trace,
    (email, body, agent): (&str, OperatorLogin, &str),
) -> Result<Option<Proven>> {
    let account: Option<OperatorAccount> = match Text::<3, 254>::parse(email) {
        Ok(email) => system.begin(trace).last().optional(FIND, &[&email]).await?,
        Err(_) => None,
    };
    let known = account.as_ref().and_then(|account| Some((*account.id.as_uuid(), account.phc.as_deref()?)));
    if !identity::verify_stored(app, system, trace, (known, body.password, REPLACE)).await? {
        return Ok(None);
    }
    let Some(OperatorAccount { id, .. }) = account else { return Ok(None) };
    let ring = identity::seeds::keys(app).await?;
    let mut tx = system.begin(trace).within(TenantId::NOBODY).await?;
    let given = CodeGiven { holder: *id.as_uuid(), code: &body.code, confirmed: true, ring };
    match identity::judge(app, &mut tx, &FACTORS, &given).await? {
        CodeVerdict::Right(method) => {
            let token = begin(app, &mut tx, (id, method), (agent, trace)).await?;
            tx.commit().await?;
            Ok(Some(Proven { operator: id, token }))
        }
        CodeVerdict::Wrong => {
            entry(id, "operators.factor_failed", json!({}), trace).add(&mut tx).await?;
            tx.commit().await?;
            Ok(None)
        }
        CodeVerdict::ShutOut(_) | CodeVerdict::Nobody => {
            tx.rollback();
            Ok(None)
        }
    }
}

/// Begins a session, in the transaction that has proven the code.
async fn begin(
    app: &App,
    tx: &mut TenantTx<'_>,
    (id, method): (OperatorId, Method),
    (agent, trace): (&str, &Trace),
) -> Result<OperatorToken> {
    let settings = app.settings::<OperatorsSettings>()?;
    let secret = TenantSecret::new(KIND, TenantId::NOBODY, app.rng.as_ref());
    let session: SessionId = Id::new(app.clock.as_ref(), app.rng.as_ref());
    let (device, address) = (identity::device(agent), identity::address(trace));
    let lifetime = identity::seconds(settings.session_lifetime);
    let BegunByOperator { expires_at } =
        tx.row(BEGIN, &[&session, &id, &secret.hash(), &device, &address, &lifetime]).await?;
    let details = json!({ "session": session.to_string(), "method": method.as_str() });
    entry(id, "operators.signed_in", details, trace).add(tx).await?;
    Ok(OperatorToken {
        access_token: secret.shown(),
        token_type: "Bearer",
        expires_in: identity::seconds(settings.session_idle),
        session_expires_at: expires_at,
    })
}

fn entry<'a>(
    operator: OperatorId,
    action: &'static str,
    details: Value,
    trace: &'a Trace,
) -> PlatformEntry<'a> {
    PlatformEntry { actor: Actor::Operator(operator), action, subject: None, details, trace }
}

fn credential(app: &App, system: System, headers: &HeaderMap) -> Result<Credential> {
    let unknown = || Error::new(&core::UNAUTHENTICATED);
    let Some(token) = bearer(headers)? else { return Ok(Credential::Missing) };
    let secret = TenantSecret::parse(KIND, token).ok_or_else(unknown)?;
    let idle = identity::seconds(app.settings::<OperatorsSettings>()?.session_idle);
    Ok(Credential::OfOperator(Box::pin(async move {
        let tx = system.begin(&Trace::new("operator")).last();
        let used: Option<UsedByOperator> = tx.optional(USE, &[&secret.hash(), &idle]).await?;
        used.map(|used| (used.operator_id, used.id)).ok_or_else(unknown)
    })))
}

/// `POST /api/v1/admin/auth/logout`.
pub(super) async fn sign_out(operator: Operator, system: System) -> Result<NoContent> {
    let mut tx = system.by_operator(&operator);
    let _: Vec<()> = tx.rows(END, &[&operator.session()]).await?;
    let ended = impersonation::end_of_session(&mut tx, operator.session()).await?;
    let details = json!({ "session": operator.session().to_string() });
    let entry = entry(operator.id(), "operators.signed_out", details, operator.trace());
    entry.end(tx).await?;
    impersonation::tell_ended(|| system.by_operator(&operator), &ended).await?;
    Ok(NoContent)
}
