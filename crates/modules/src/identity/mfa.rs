//! The routes of the second factor: set up, finish a sign-in, recovery codes, and removal.

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Caller, TenantSecret, TotpSeed, Trace, qr_png, recovery_code, recovery_hash};
use erp_core::db::{AuditEntry, System, TenantTx};
use erp_core::error::{Error, Result};
use erp_core::extract::Json;
use erp_core::limits::Attempt;
use erp_core::mail::{MailAddress, MailTemplate, Recipient};
use erp_core::mailer::link_base;
use erp_core::shared::{Secret, ShownSecret, TenantId, UserId};
use erp_core::{from_row, mail_template};
use http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::codes;
use super::factors::{self, FactorClaim, OF_PEOPLE};
use super::login::agent;
use super::passkeys::{self, AskPasskey, PasskeyAnswer, PasskeyClaim, PasskeyQuestion};
use super::password_routes::{self, NAME, ProfileName};
use super::seeds;
use super::session::{self, Begin, Tokens};
use super::step_up::{one_of, require_recent};

/// What the token of a sign-in that waits begins with: `erp_mfa_`.
const KIND: &str = "mfa";
/// For how many seconds it waits (J-03).
const WAITS: i32 = 300;
const RECOVERY_CODES: usize = 10;

/// The answer to the right password of an account that has a second factor.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PendingSignIn {
    /// What `POST /api/v1/auth/mfa/verify` takes within five minutes, beside a code. It opens nothing else.
    #[schemars(example = &"erp_mfa_…")]
    pub(super) mfa_token: ShownSecret,
    /// By what the sign-in can be finished.
    #[schemars(example = ["totp", "passkey", "recovery"])]
    pub(super) factors: Vec<&'static str>,
}

/// The body of `POST /api/v1/auth/mfa/verify`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct VerifyFactor {
    #[schemars(example = &"erp_mfa_…")]
    pub(super) mfa_token: Secret<String>,
    /// Of the authenticator app, or one of the recovery codes.
    #[schemars(example = &"123456")]
    #[serde(default)]
    pub(super) code: Option<Secret<String>>,
    /// In its place: what a passkey has answered to `POST /api/v1/auth/mfa/passkey`.
    #[serde(default)]
    pub(super) passkey: Option<PasskeyAnswer>,
}

/// The body of `POST /api/v1/auth/mfa/totp`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Enrol {
    /// The current one.
    #[schemars(example = &"correct horse battery staple")]
    pub(super) password: Secret<String>,
}

/// What an authenticator app is set up with.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NewTotp {
    /// For apps without a camera: base32.
    #[schemars(example = &"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")]
    pub(super) secret: ShownSecret,
    /// What the QR code says.
    #[schemars(example = &"otpauth://totp/…")]
    uri: ShownSecret,
    /// The QR code: a PNG as base64.
    #[schemars(example = &"iVBORw0KGgo…")]
    pub(super) qr: ShownSecret,
}

/// The body of `POST /api/v1/auth/mfa/totp/confirm`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirm {
    #[schemars(example = &"123456")]
    pub(super) code: Secret<String>,
}

/// The answer of `POST /api/v1/auth/mfa/recovery-codes`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RecoveryCodes {
    /// Each is good once, in the place of a code of the app.
    pub(super) codes: Vec<ShownSecret>,
}

/// Which second factor has come or gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FactorKind {
    Totp,
    Passkey,
    /// Whatever there was.
    All,
}

impl FactorKind {
    /// As the audit log has it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Passkey => "passkey",
            Self::All => "all",
        }
    }
}

/// What the mails on a factor that has come or gone say.
pub(super) struct FactorMail {
    tenant: String,
    kind: FactorKind,
}

impl FactorMail {
    fn is_app(&self) -> bool {
        self.kind == FactorKind::Totp
    }

    fn is_passkey(&self) -> bool {
        self.kind == FactorKind::Passkey
    }
}

pub(super) static ADDED: MailTemplate<FactorMail> = mail_template!(
    "identity.factor_added", "Tells somebody that a second factor was set up.", FactorMail,
    "en": { subject: "A second factor was set up", text: "identity/mails/factor_added.en.txt" },
    "de": { subject: "Ein zweiter Faktor wurde eingerichtet", text: "identity/mails/factor_added.de.txt" },
);

pub(super) static REMOVED: MailTemplate<FactorMail> = mail_template!(
    "identity.factor_removed", "Tells somebody that the second factor was removed.", FactorMail,
    "en": { subject: "Your second factor was removed", text: "identity/mails/factor_removed.en.txt" },
    "de": { subject: "Ihr zweiter Faktor wurde entfernt", text: "identity/mails/factor_removed.de.txt" },
);

const PEND: &str = "insert into auth.one_time (kind, hash, person_id, expires_at) \
     values ('mfa', $1, $2, now() + $3::int4 * interval '1 second')";
const FORGET_PENDING: &str =
    "delete from auth.one_time where kind = 'mfa' and person_id = $1 and expires_at < now()";
/// As at the sign-in: who was paused or removed meanwhile is nobody.
const FIND_PENDING: &str = "select o.person_id, p.email from auth.one_time o join auth.people p on p.id = o.person_id \
     join memberships m on m.user_id = p.id join tenants t on t.id = m.tenant_id \
     where o.kind = 'mfa' and o.hash = $1 and o.used_at is null and o.expires_at > now() and p.disabled_at is null \
       and m.tenant_id = $2 and m.ended_at is null and m.deactivated_at is null and t.status = 'active'";
const SPEND: &str = "update auth.one_time set used_at = now() where kind = 'mfa' and hash = $1 and used_at is null \
     and expires_at > now() returning person_id";
const BEGUN: &str = "select person_id from auth.factors where person_id = $1 and confirmed_at is null \
     and created_at > now() - interval '15 minutes'";
const EMAIL: &str = "select email from auth.people where id = $1";

struct PendingOwner {
    person_id: UserId,
    email: String,
}
from_row!(PendingOwner { person_id, email });

struct StoredAddress {
    email: String,
}
from_row!(StoredAddress { email });

/// A sign-in that waits for the second factor.
pub(super) async fn pend(
    app: &App,
    system: &System,
    trace: &Trace,
    (tenant, person): (TenantId, UserId),
) -> Result<PendingSignIn> {
    let secret = TenantSecret::new(KIND, tenant, app.rng.as_ref());
    let mut tx = system.begin(trace);
    let _: Vec<()> = tx.rows(FORGET_PENDING, &[&person]).await?;
    tx.last().rows::<()>(PEND, &[&secret.hash(), &person, &WAITS]).await?;
    let own = factors::of(system, trace, person).await?;
    let ways = [(own.totp, "totp"), (own.passkey, "passkey"), (true, "recovery")];
    let factors = ways.into_iter().filter(|(has, _)| *has).map(|(_, way)| way).collect();
    Ok(PendingSignIn { mfa_token: secret.shown(), factors })
}

/// `POST /api/v1/auth/mfa/verify`: a session, for the right password and a code.
pub(super) async fn verify(
    State(app): State<App>,
    trace: Trace,
    system: System,
    headers: HeaderMap,
    Json(body): Json<VerifyFactor>,
) -> Result<Json<Tokens>, Refusing<(codes::CODE_REFUSED, codes::TOO_MANY_CODES)>> {
    let (secret, pending) = waiting(&system, &trace, &body.mfa_token).await?;
    let (tenant, PendingOwner { person_id: person, email }) = (secret.tenant, pending);
    let method = match (&body.code, &body.passkey) {
        (Some(code), None) => {
            let claim = FactorClaim { tenant, person, code, confirmed: true };
            factors::prove(&app, &system, &trace, &claim).await?
        }
        (None, Some(answer)) => {
            let claim = PasskeyClaim { tenant, person, asked_by: &secret.hash(), answer };
            passkeys::prove(&app, &system, &trace, &claim).await?
        }
        _ => return Err(one_of(["code", "passkey"]).into()),
    };
    // Another password may have ended it meanwhile.
    let spent: Option<()> = system.begin(&trace).last().optional(SPEND, &[&secret.hash()]).await?;
    spent.ok_or_else(factors::refused)?;
    let methods = session::by_password().and(method);
    let begin = Begin { tenant, person, methods, from: None, agent: agent(&headers) };
    let begun = session::begin(&app, &system, &trace, begin).await?;
    Ok(Json(begun.on_device(&app, None, &email)))
}

/// `POST /api/v1/auth/mfa/passkey`: what a passkey is to answer, so that the sign-in goes on.
pub(super) async fn ask_passkey(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Json(body): Json<AskPasskey>,
) -> Result<Json<PasskeyQuestion>, Refusing<(codes::CODE_REFUSED, codes::NO_FACTOR, codes::NO_PUBLIC_URL)>> {
    let (secret, pending) = waiting(&system, &trace, &body.mfa_token).await?;
    Ok(Json(passkeys::question(&app, &system, &trace, (pending.person_id, &secret.hash())).await?))
}

/// A sign-in that waits, and whose it is.
async fn waiting(
    system: &System,
    trace: &Trace,
    token: &Secret<String>,
) -> Result<(TenantSecret, PendingOwner)> {
    let secret = TenantSecret::parse(KIND, token.expose()).ok_or_else(factors::refused)?;
    let tx = system.begin(trace).within(secret.tenant).await?.last();
    let pending: Option<PendingOwner> = tx.optional(FIND_PENDING, &[&secret.hash(), &secret.tenant]).await?;
    Ok((secret, pending.ok_or_else(factors::refused)?))
}

/// `POST /api/v1/auth/mfa/totp`: wants the current password (M-04).
pub(super) async fn enrol(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    system: System,
    Json(body): Json<Enrol>,
) -> Result<
    Json<NewTotp>,
    Refusing<(codes::SIGN_IN_FAILED, codes::FACTOR_EXISTS, codes::STEP_UP_REQUIRED, codes::LOCKED_OUT)>,
> {
    let own = password_routes::own(&app, &caller, &system, &attempt, body.password).await?;
    let known = factors::of(&system, caller.trace(), own.id).await?;
    if known.totp {
        return Err(Error::new(&codes::FACTOR_EXISTS).into());
    }
    // Beside another factor, the password alone makes none.
    if known.any() {
        require_recent(&app, &caller, true)?;
    }
    let (totp, id, sealed) = new_totp(&app, OF_PEOPLE.factors, *own.id.as_uuid(), &own.email).await?;
    let mut tx = system.on_behalf(&caller).within(caller.tenant()).await?;
    let _: Vec<()> = tx.rows(OF_PEOPLE.enrol, &[&id, &own.id, &sealed]).await?;
    tx.audit(&entry("identity.factor_begun", own.id))?;
    tx.commit().await?;
    Ok(Json(totp))
}

/// What an app is set up with, the id of the factor that it is to be, and what is stored of it.
pub(crate) async fn new_totp(
    app: &App,
    table: &'static str,
    holder: Uuid,
    account: &str,
) -> Result<(NewTotp, Uuid, Vec<u8>)> {
    let seed = TotpSeed::new(app.rng.as_ref());
    let mut id = [0; 16];
    app.rng.fill(&mut id);
    let id = Uuid::from_bytes(id);
    let sealed = seeds::seal(app, table, (holder, id), &seed).await?;
    let uri = seed.uri(&issuer(app), account);
    let qr = Secret::new(STANDARD.encode(qr_png(uri.expose())?));
    Ok((NewTotp { secret: seed.expose().into(), uri: uri.into(), qr: qr.into() }, id, sealed))
}

/// Recovery codes, and what is stored of them.
pub(crate) fn new_recovery_codes(app: &App) -> (RecoveryCodes, Vec<Vec<u8>>) {
    let made: Vec<Secret<String>> =
        std::iter::repeat_with(|| recovery_code(app.rng.as_ref())).take(RECOVERY_CODES).collect();
    let hashes = made.iter().filter_map(|code| recovery_hash(code.expose())).collect();
    (RecoveryCodes { codes: made.into_iter().map(ShownSecret::from).collect() }, hashes)
}

/// Under which an app lists the account: the host that people know.
fn issuer(app: &App) -> String {
    let url = link_base(&app.config);
    let host = url.as_deref().and_then(|url| url.split_once("://")).map(|(_, rest)| rest);
    host.and_then(|rest| rest.split(['/', ':']).next()).unwrap_or("erp-backend").to_owned()
}

/// `POST /api/v1/auth/mfa/totp/confirm`: from now on a sign-in wants a code, and not this one.
pub(super) async fn confirm(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Json(body): Json<Confirm>,
) -> Result<NoContent, Refusing<(codes::CODE_REFUSED, codes::TOO_MANY_CODES, codes::NO_FACTOR)>> {
    let (tenant, person) = (caller.tenant(), caller.user()?);
    let none = || Error::new(&codes::NO_FACTOR);
    let begun: Option<()> = system.begin(caller.trace()).last().optional(BEGUN, &[&person]).await?;
    begun.ok_or_else(none)?;
    let claim = FactorClaim { tenant, person, code: &body.code, confirmed: false };
    factors::prove(&app, &system, caller.trace(), &claim).await?;
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let confirmed: Option<()> = tx.optional(OF_PEOPLE.confirm, &[&person]).await?;
    confirmed.ok_or_else(none)?;
    tell(&app, &caller, (tx, person), ("identity.factor_enrolled", FactorKind::Totp), &ADDED).await?;
    Ok(NoContent)
}

/// `DELETE /api/v1/auth/mfa/totp`.
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    system: System,
) -> Result<NoContent, Refusing<(codes::STEP_UP_REQUIRED, codes::NO_FACTOR)>> {
    let person = with_factor(&app, &caller, &system).await?;
    let mut tx = system.on_behalf(&caller).within(caller.tenant()).await?;
    let removed: Option<()> = tx.optional(OF_PEOPLE.remove, &[&person]).await?;
    removed.ok_or_else(|| Error::new(&codes::NO_FACTOR))?;
    factors::drop_spare_codes(&mut tx, person).await?;
    tell(&app, &caller, (tx, person), ("identity.factor_removed", FactorKind::Totp), &REMOVED).await?;
    Ok(NoContent)
}

/// `POST /api/v1/auth/mfa/recovery-codes`.
pub(super) async fn make_recovery_codes(
    State(app): State<App>,
    caller: Caller,
    system: System,
) -> Result<Json<RecoveryCodes>, Refusing<(codes::STEP_UP_REQUIRED, codes::NO_FACTOR)>> {
    let person = with_factor(&app, &caller, &system).await?;
    let (codes, hashes) = new_recovery_codes(&app);
    let mut tx = system.on_behalf(&caller).within(caller.tenant()).await?;
    let _: Vec<()> = tx.rows(OF_PEOPLE.remove_codes, &[&person]).await?;
    let _: Vec<()> = tx.rows(OF_PEOPLE.add_codes, &[&person, &hashes]).await?;
    tx.audit(&entry("identity.recovery_codes_made", person))?;
    tx.commit().await?;
    Ok(Json(codes))
}

/// The caller, who has a second factor and has proven it a moment ago.
async fn with_factor(app: &App, caller: &Caller, system: &System) -> Result<UserId> {
    let person = caller.user()?;
    if !factors::has_factor(system, caller.trace(), person).await? {
        return Err(Error::new(&codes::NO_FACTOR));
    }
    require_recent(app, caller, true)?;
    Ok(person)
}

/// Tells the auditor and the person that a factor has come or gone, and commits.
pub(super) async fn tell(
    app: &App,
    caller: &Caller,
    (mut tx, person): (TenantTx<'_>, UserId),
    (action, kind): (&'static str, FactorKind),
    template: &'static MailTemplate<FactorMail>,
) -> Result<()> {
    tx.audit(&AuditEntry { details: json!({ "kind": kind.word() }), ..entry(action, person) })?;
    mail(app, caller.trace(), tx, (caller.tenant(), person), (template, kind)).await
}

/// Tells somebody by mail, and commits.
async fn mail(
    app: &App,
    trace: &Trace,
    mut tx: TenantTx<'_>,
    (tenant, person): (TenantId, UserId),
    (template, kind): (&'static MailTemplate<FactorMail>, FactorKind),
) -> Result<()> {
    let ProfileName { name } = tx.row(NAME, &[&tenant]).await?;
    let StoredAddress { email } = tx.row(EMAIL, &[&person]).await?;
    let address: MailAddress = email.parse().map_err(Error::internal)?;
    app.mail_to(&mut tx, trace, template, &Recipient::new(address), &FactorMail { tenant: name, kind })?;
    tx.commit().await
}

/// Tells somebody whose second factor an operator has removed, by a mail of one of its tenants.
///
/// # Errors
/// As the database answers.
pub(crate) async fn mail_removed(
    app: &App,
    trace: &Trace,
    tx: TenantTx<'_>,
    (tenant, person): (TenantId, UserId),
) -> Result<()> {
    mail(app, trace, tx, (tenant, person), (&REMOVED, FactorKind::All)).await
}

fn entry(action: &'static str, person: UserId) -> AuditEntry {
    AuditEntry {
        action,
        resource: "user",
        resource_id: Some(person.to_string()),
        outcome: "success",
        details: json!({ "kind": FactorKind::Totp.word() }),
    }
}
