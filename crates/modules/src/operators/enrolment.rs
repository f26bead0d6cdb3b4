//! How an operator begins: a one-time secret, which the command line prints for the first one and an operator gives to each further one,
//! sets the password and the second factor. There are no default credentials.

use axum::extract::State;
use erp_core::answer::Refusing;
use erp_core::app::App;
use erp_core::auth::{Actor, TenantSecret, Trace};
use erp_core::bootstrap::OperatorSession;
use erp_core::db::{System, SystemTx};
use erp_core::error::{Error, Result};
use erp_core::extract::Json;
use erp_core::from_row;
use erp_core::mail::MailAddress;
use erp_core::shared::{Clock, Id, OperatorId, Rng, Secret, ShownSecret, TenantId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::sign_in::FACTORS;
use super::{ENROL, codes};
use crate::identity::facade::{self as identity, CodeGiven, CodeVerdict, NewTotp, RecoveryCodes};
use erp_core::platform_log::PlatformEntry;

/// The work that the session of the verb `operator` is opened for.
pub static WORK: &erp_core::db::SystemWork = &ENROL;

/// What the secret begins with: `erp_enrol_`. It names no tenant.
const KIND: &str = "enrol";

/// The body of `POST /api/v1/admin/auth/enrol`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Enrolment {
    /// The one-time secret.
    #[schemars(example = &"erp_enrol_…")]
    secret: Secret<String>,
    #[schemars(example = &"correct horse battery staple")]
    password: Secret<String>,
}

/// The body of `POST /api/v1/admin/auth/enrol/confirm`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EnrolmentCode {
    /// The one-time secret.
    #[schemars(example = &"erp_enrol_…")]
    secret: Secret<String>,
    /// Of the authenticator app. It does not sign in.
    #[schemars(example = &"123456")]
    code: Secret<String>,
}

/// Somebody who can become an operator by a secret, which is shown this once.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvitedOperator {
    /// Its id.
    pub id: OperatorId,
    #[schemars(example = &"ops@example.com")]
    /// Its address.
    pub email: String,
    /// What `POST /api/v1/admin/auth/enrol` takes.
    #[schemars(example = &"erp_enrol_…")]
    pub secret: ShownSecret,
    /// Until when.
    pub expires_at: Timestamp,
}

/// An operator who was disabled, or has not enrolled, begins anew.
const INVITE: &str = "insert into auth.operators as o (id, email, secret_hash, secret_until, invited_by) \
       values ($1, $2, $3, now() + interval '1 hour', $4) \
     on conflict (email) do update set secret_hash = excluded.secret_hash, secret_until = excluded.secret_until, \
       invited_by = excluded.invited_by, phc = null, disabled_at = null where o.enrolled_at is null \
     returning id, secret_until";
const ANY: &str = "select exists (select from auth.operators where enrolled_at is not null) as there_is";
const FIND: &str = "select id, email from auth.operators where secret_hash = $1 and secret_until > now() and disabled_at is null";
const SET_PASSWORD: &str = "update auth.operators set phc = $3 where id = $1 and secret_hash = $2 and secret_until > now() \
     returning id";
const FINISH: &str = "update auth.operators set enrolled_at = now(), secret_hash = null, secret_until = null \
     where id = $1 and secret_hash = $2 and secret_until > now() and phc is not null and disabled_at is null returning id";
/// A secret of the command line is for as long as there is no operator: the first who enrols ends the others.
const END_OTHERS: &str =
    "update auth.operators set secret_hash = null, secret_until = null where invited_by is null and id <> $1";

struct InvitedRow {
    id: OperatorId,
    secret_until: Timestamp,
}
from_row!(InvitedRow { id, secret_until });

struct ThereIs {
    there_is: bool,
}
from_row!(ThereIs { there_is });

struct Enrolling {
    id: OperatorId,
    email: String,
}
from_row!(Enrolling { id, email });

/// Makes the secret by which somebody becomes an operator, or becomes one anew.
///
/// # Errors
/// `operators.operator_taken` where there is an operator of the address who can sign in.
pub(super) async fn invite(
    mut tx: SystemTx<'_>,
    email: &MailAddress,
    inviter: Option<OperatorId>,
    (clock, rng): (&dyn Clock, &dyn Rng),
    (actor, trace): (Actor, &Trace),
) -> Result<InvitedOperator> {
    let new: OperatorId = Id::new(clock, rng);
    let secret = TenantSecret::new(KIND, TenantId::NOBODY, rng);
    let email = email.to_string().to_lowercase();
    let row: Option<InvitedRow> = tx.optional(INVITE, &[&new, &email, &secret.hash(), &inviter]).await?;
    let InvitedRow { id, secret_until } = row.ok_or_else(|| Error::new(&codes::OPERATOR_TAKEN))?;
    let subject = Some(id.to_string());
    let entry = PlatformEntry { actor, action: "operators.invited", subject, details: json!({}), trace };
    entry.end(tx).await?;
    Ok(InvitedOperator { id, email, secret: secret.shown(), expires_at: secret_until })
}

/// `erp-backend operator bootstrap`: a secret for the first operator, or `again` for one more.
///
/// # Errors
/// `operators.operator_taken` where there is an operator who can sign in, unless it is said `again`.
pub async fn bootstrap(
    session: &OperatorSession,
    email: &MailAddress,
    again: bool,
    (clock, rng): (&dyn Clock, &dyn Rng),
) -> Result<InvitedOperator> {
    let found: Option<ThereIs> = session.begin().last().optional(ANY, &[]).await?;
    if found.is_some_and(|found| found.there_is) && !again {
        return Err(Error::new(&codes::OPERATOR_TAKEN)
            .detail("There is an operator who can sign in and invite others."));
    }
    let by = (Actor::System(WORK.name), session.trace());
    invite(session.begin(), email, None, (clock, rng), by).await
}

/// `POST /api/v1/admin/auth/enrol`.
pub(super) async fn enrol(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Json(body): Json<Enrolment>,
) -> Result<Json<NewTotp>, Refusing<(codes::ENROLMENT_ENDED, identity::WEAK_PASSWORD)>> {
    app.passwords.admit(&body.password)?;
    let (secret, Enrolling { id, email }) = find(&system, &trace, &body.secret).await?;
    identity::check(&body.password, &[&email])?;
    let hash = app.passwords.hash(body.password).await?;
    let (totp, factor, sealed) = identity::new_totp(&app, FACTORS.factors, *id.as_uuid(), &email).await?;
    let mut tx = system.begin(&trace);
    let set: Option<()> = tx.optional(SET_PASSWORD, &[&id, &secret.hash(), &hash.expose()]).await?;
    set.ok_or_else(|| Error::new(&codes::ENROLMENT_ENDED))?;
    tx.last().rows::<()>(FACTORS.enrol, &[&factor, &id, &sealed]).await?;
    Ok(Json(totp))
}

/// `POST /api/v1/admin/auth/enrol/confirm`.
pub(super) async fn confirm(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Json(body): Json<EnrolmentCode>,
) -> Result<Json<RecoveryCodes>, Refusing<(codes::ENROLMENT_ENDED, identity::CODE_REFUSED)>> {
    let (secret, Enrolling { id, .. }) = find(&system, &trace, &body.secret).await?;
    let ring = identity::seeds::keys(&app).await?;
    let mut tx = system.begin(&trace).within(TenantId::NOBODY).await?;
    let given = CodeGiven { holder: *id.as_uuid(), code: &body.code, confirmed: false, ring };
    match identity::judge(&app, &mut tx, &FACTORS, &given).await? {
        CodeVerdict::Right(_) => {}
        CodeVerdict::Wrong => {
            tx.commit().await?;
            return Err(Error::new(&identity::CODE_REFUSED).into());
        }
        CodeVerdict::ShutOut(_) | CodeVerdict::Nobody => {
            tx.rollback();
            return Err(Error::new(&identity::CODE_REFUSED).into());
        }
    }
    let (shown, hashes) = identity::new_recovery_codes(&app);
    let finished: Option<()> = tx.optional(FINISH, &[&id, &secret.hash()]).await?;
    let confirmed: Option<()> = tx.optional(FACTORS.confirm, &[&id]).await?;
    if finished.is_none() || confirmed.is_none() {
        tx.rollback();
        return Err(Error::new(&codes::ENROLMENT_ENDED).into());
    }
    let _: Vec<()> = tx.rows(FACTORS.remove_codes, &[&id]).await?;
    let _: Vec<()> = tx.rows(FACTORS.add_codes, &[&id, &hashes]).await?;
    let _: Vec<()> = tx.rows(END_OTHERS, &[&id]).await?;
    let (actor, subject) = (Actor::Operator(id), None);
    let entry =
        PlatformEntry { actor, action: "operators.enrolled", subject, details: json!({}), trace: &trace };
    entry.add(&mut tx).await?;
    tx.commit().await?;
    Ok(Json(shown))
}

async fn find(system: &System, trace: &Trace, text: &Secret<String>) -> Result<(TenantSecret, Enrolling)> {
    let ended = || Error::new(&codes::ENROLMENT_ENDED);
    let secret = TenantSecret::parse(KIND, text.expose()).ok_or_else(ended)?;
    let found: Option<Enrolling> = system.begin(trace).last().optional(FIND, &[&secret.hash()]).await?;
    Ok((secret, found.ok_or_else(ended)?))
}
