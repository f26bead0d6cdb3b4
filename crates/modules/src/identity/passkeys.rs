//! Passkeys: made by somebody who is signed in, and asked for where a second factor is wanted (who signs in by one alone:
//! [`super::passkey_login`]).
//!
//! Each answer is to a challenge of ours, which is good once, for five minutes, for one person, and for the session or the waiting
//! sign-in that has asked for it. A passkey that has counted backwards may have been copied, and proves nothing.

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{
    Caller, InvalidPasskey, Method, PASSKEY_ALGORITHMS, PasskeyAct, PasskeyChallenge, PasskeyRequest,
    PasskeySite, ProvenPasskey, Trace,
};
use erp_core::db::{AuditEntry, System, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::from_row;
use erp_core::logging::Severity;
use erp_core::security_event;
use erp_core::shared::{Id, IdKind, TenantId, Text, UserId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::made::Made;
use super::mfa::FactorKind;
use super::password_routes::{SLUG, TenantSlug};
use super::session::address;
use super::step_up::require_recent;
use super::{codes, factors, mfa};

/// What a challenge is for: the kinds of `auth.one_time`.
const NEW: &str = "passkey-new";
pub(super) const PROOF: &str = "passkey";
/// So many passkeys has a person at most.
const MOST: i64 = 20;

/// Names the type of ids.
pub(super) enum PasskeyRow {}

impl IdKind for PasskeyRow {
    const NAME: &'static str = "passkey";
}

/// One of the caller's passkeys.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnPasskey {
    pub(super) id: Id<PasskeyRow>,
    #[schemars(example = &"My phone")]
    pub(super) name: String,
    created_at: Timestamp,
    /// When it was proven last, if it was.
    used_at: Option<Timestamp>,
}
from_row!(OwnPasskey { id, name, created_at, used_at });

/// The answer of `GET /api/v1/auth/passkeys`.
#[derive(Serialize, JsonSchema)]
pub(super) struct OwnPasskeys {
    passkeys: Vec<OwnPasskey>,
}

/// What a browser is asked to make: `PublicKeyCredentialCreationOptions`, in a form that JSON has.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PasskeyOptions {
    /// Of base64url, as all that is bytes here: good once, for five minutes.
    challenge: String,
    #[schemars(example = &"erp.example.com")]
    rp_id: String,
    /// The person, as an authenticator keeps it.
    user_id: String,
    #[schemars(example = &"ada@example.com")]
    user_name: String,
    /// COSE algorithms, the preferred one first.
    #[schemars(example = [-7, -8, -257])]
    algorithms: [i32; 3],
    /// Passkeys that the person has already.
    credentials: Vec<String>,
}

/// What a browser is asked to prove: `PublicKeyCredentialRequestOptions`, in a form that JSON has.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PasskeyQuestion {
    /// Of base64url, as all that is bytes here: good once, for five minutes.
    challenge: String,
    #[schemars(example = &"erp.example.com")]
    rp_id: String,
    /// The passkeys of which one is to answer; none where it is to find its owner by itself.
    credentials: Vec<String>,
    /// Whether it is to ask its owner, by a PIN or a finger: `required` where the passkey is all there is.
    #[schemars(example = &"preferred")]
    user_verification: &'static str,
}

impl PasskeyQuestion {
    /// To whichever passkey of ours there is, which stands alone.
    pub(super) fn to_any(app: &App, challenge: &PasskeyChallenge) -> Result<Self> {
        let (challenge, rp_id) = (challenge.text(), site(app)?.name().to_owned());
        Ok(Self { challenge, rp_id, credentials: Vec::new(), user_verification: "required" })
    }
}

/// The body of `POST /api/v1/auth/passkeys`: what a browser has answered, each as base64url.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MadePasskey {
    /// What its owner calls it.
    #[schemars(example = &"My phone")]
    name: Text<1, 100>,
    /// `response.clientDataJSON`.
    client_data: Text<1, 8000>,
    /// `response.attestationObject`.
    attestation_object: Text<1, 16_000>,
}

/// What a passkey has answered, each as base64url.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PasskeyAnswer {
    /// `rawId`.
    pub(super) credential: Text<1, 2000>,
    /// `response.clientDataJSON`.
    client_data: Text<1, 8000>,
    /// `response.authenticatorData`.
    authenticator_data: Text<1, 4000>,
    /// `response.signature`.
    signature: Text<1, 2000>,
    /// `response.userHandle`, as far as there is one: whose passkey its authenticator says it is.
    #[serde(default)]
    user_handle: Option<Text<1, 100>>,
}

impl PasskeyAnswer {
    /// What the browser says that it was asked.
    pub(super) fn client_data(&self) -> Result<Vec<u8>> {
        decoded(&self.client_data)
    }

    /// Whether its authenticator says whose the passkey is.
    pub(super) const fn names_its_owner(&self) -> bool {
        self.user_handle.is_some()
    }
}

/// The body of `POST /api/v1/auth/mfa/passkey`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AskPasskey {
    #[schemars(example = &"erp_mfa_…")]
    pub(super) mfa_token: erp_core::shared::Secret<String>,
}

const LIST: &str =
    "select id, name, created_at, used_at from auth.passkeys where person_id = $1 order by created_at, id";
const CREDENTIALS: &str = "select credential from auth.passkeys where person_id = $1 order by created_at, id";
const EMAIL: &str = "select email from auth.people where id = $1";
const FORGET: &str = "delete from auth.one_time where kind in ('passkey-new', 'passkey') and person_id = $1 and expires_at < now()";
const ASK: &str = "insert into auth.one_time (kind, hash, person_id, expires_at) values ($1, $2, $3, now() + interval '5 minutes')";
const SPEND: &str = "update auth.one_time set used_at = now() where kind = $1 and hash = $2 and person_id = $3 and used_at is null \
     and expires_at > now() returning person_id";
const ADD: &str = "insert into auth.passkeys (id, person_id, name, credential, public_key, sign_count) \
     select $1::uuid, $2::uuid, $3::text, $4::bytea, $5::bytea, $6::bigint \
     where (select count(*) from auth.passkeys where person_id = $2::uuid) < $7::bigint \
     on conflict do nothing returning id, name, created_at, used_at";
const FIND: &str = "select k.id, k.public_key from auth.passkeys k join auth.people p on p.id = k.person_id \
     where k.person_id = $1 and k.credential = $2 and p.disabled_at is null";
/// One that counts has counted on since; one that does not says zero for ever.
const USE: &str = "update auth.passkeys as p set sign_count = $2, used_at = now() where id = $1 \
     and (sign_count < $2 or sign_count = 0 and $2 = 0) returning id";
const REMOVE: &str = "delete from auth.passkeys where person_id = $1 and id = $2 returning id";

struct KnownCredential {
    credential: Vec<u8>,
}
from_row!(KnownCredential { credential });

struct PasskeyOwner {
    email: String,
}
from_row!(PasskeyOwner { email });

/// What a passkey's answer is verified by.
pub(super) struct StoredPasskey {
    pub(super) id: Id<PasskeyRow>,
    pub(super) public_key: Vec<u8>,
}
from_row!(StoredPasskey { id, public_key });

/// Whose answer it is, and for what it was asked.
pub(super) struct PasskeyClaim<'a> {
    pub(super) tenant: TenantId,
    pub(super) person: UserId,
    /// The session, or the sign-in that waits.
    pub(super) asked_by: &'a [u8],
    pub(super) answer: &'a PasskeyAnswer,
}

/// `GET /api/v1/auth/passkeys`.
pub(super) async fn list(caller: Caller, system: System) -> Result<Json<OwnPasskeys>> {
    Ok(Json(OwnPasskeys { passkeys: own(&caller, &system).await? }))
}

/// The same for the page.
pub(super) async fn own(caller: &Caller, system: &System) -> Result<Vec<OwnPasskey>> {
    system.begin(caller.trace()).last().rows(LIST, &[&caller.user()?]).await
}

/// `POST /api/v1/auth/passkeys/options`.
pub(super) async fn options(
    State(app): State<App>,
    caller: Caller,
    system: System,
) -> Result<Json<PasskeyOptions>, Refusing<(codes::STEP_UP_REQUIRED, codes::NO_PUBLIC_URL)>> {
    let (site, person) = (site(&app)?, caller.user()?);
    let has_factor = factors::has_factor(&system, caller.trace(), person).await?;
    require_recent(&app, &caller, has_factor)?;
    let by = session_of(&caller)?;
    let (challenge, credentials) = ask(&app, &system, caller.trace(), (NEW, person, &by)).await?;
    let PasskeyOwner { email } = system.begin(caller.trace()).last().row(EMAIL, &[&person]).await?;
    Ok(Json(PasskeyOptions {
        challenge,
        rp_id: site.name().to_owned(),
        user_id: URL_SAFE_NO_PAD.encode(person.as_uuid().as_bytes()),
        user_name: email,
        algorithms: PASSKEY_ALGORITHMS,
        credentials,
    }))
}

/// `POST /api/v1/auth/passkeys`: from now on a sign-in asks for it. That it was made proves nothing of the session.
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Json(body): Json<MadePasskey>,
) -> Result<
    Made<OwnPasskey>,
    Refusing<(codes::CODE_REFUSED, codes::FACTOR_EXISTS, codes::STEP_UP_REQUIRED, codes::NO_PUBLIC_URL)>,
> {
    let (tenant, person, by) = (caller.tenant(), caller.user()?, session_of(&caller)?);
    let site = site_of(&app, &system, caller.trace(), tenant).await?;
    let asked = site.asked(PasskeyAct::Create, &decoded(&body.client_data)?).map_err(invalid)?;
    spend(&system, caller.trace(), (NEW, person, &by), &asked).await?;
    let made = site.made(&decoded(&body.attestation_object)?).map_err(invalid)?;
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let id: Id<PasskeyRow> = Id::new(app.clock.as_ref(), app.rng.as_ref());
    let count = i64::from(made.sign_count);
    let added: Option<OwnPasskey> = tx
        .optional(ADD, &[&id, &person, &body.name, &made.credential, &made.public_key, &count, &MOST])
        .await?;
    let added = added.ok_or_else(|| {
        Error::new(&codes::FACTOR_EXISTS).detail("It is set up already, or there are twenty passkeys.")
    })?;
    mfa::tell(&app, &caller, (tx, person), ("identity.factor_enrolled", FactorKind::Passkey), &mfa::ADDED)
        .await?;
    Ok(Made::at(format!("/api/v1/auth/passkeys/{id}"), added)?)
}

/// `DELETE /api/v1/auth/passkeys/{id}`.
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<Id<PasskeyRow>>,
) -> Result<NoContent, Refusing<codes::STEP_UP_REQUIRED>> {
    let person = caller.user()?;
    require_recent(&app, &caller, factors::has_factor(&system, caller.trace(), person).await?)?;
    let mut tx = system.on_behalf(&caller).within(caller.tenant()).await?;
    let removed: Option<()> = tx.optional(REMOVE, &[&person, &id]).await?;
    removed.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    factors::drop_spare_codes(&mut tx, person).await?;
    mfa::tell(&app, &caller, (tx, person), ("identity.factor_removed", FactorKind::Passkey), &mfa::REMOVED)
        .await?;
    Ok(NoContent)
}

/// `POST /api/v1/auth/passkeys/challenge`: for a step-up.
pub(super) async fn challenge(
    State(app): State<App>,
    caller: Caller,
    system: System,
) -> Result<Json<PasskeyQuestion>, Refusing<(codes::NO_FACTOR, codes::STEP_UP_REQUIRED, codes::NO_PUBLIC_URL)>>
{
    let by = session_of(&caller)?;
    Ok(Json(question(&app, &system, caller.trace(), (caller.user()?, &by)).await?))
}

/// What a browser is asked to prove, for somebody who has a passkey.
pub(super) async fn question(
    app: &App,
    system: &System,
    trace: &Trace,
    (person, by): (UserId, &[u8]),
) -> Result<PasskeyQuestion> {
    let site = site(app)?;
    let (challenge, credentials) = ask(app, system, trace, (PROOF, person, by)).await?;
    if credentials.is_empty() {
        return Err(Error::new(&codes::NO_FACTOR));
    }
    let rp_id = site.name().to_owned();
    Ok(PasskeyQuestion { challenge, rp_id, credentials, user_verification: "preferred" })
}

/// Proves a passkey's answer, and tells the auditor of one that is not good.
///
/// # Errors
/// `identity.code_refused`, the same for every reason.
pub(super) async fn prove(
    app: &App,
    system: &System,
    trace: &Trace,
    claim: &PasskeyClaim<'_>,
) -> Result<Method> {
    let answered = answered(app, system, trace, claim).await;
    let mut tx = system.begin(trace).within(claim.tenant).await?;
    let judged = match answered {
        Ok((site, asked)) => judge(&mut tx, (&site, &asked), claim).await,
        Err(error) => Err(error),
    };
    match judged {
        Ok(()) => {
            tx.commit().await?;
            Ok(Method::Passkey)
        }
        Err(error) if error.code() == &codes::CODE_REFUSED => Err(fail(tx, trace, claim, error).await?),
        Err(error) => {
            tx.rollback();
            Err(error)
        }
    }
}

/// What was asked, by a page of ours: it is asked no more, whatever the answer is worth.
async fn answered(
    app: &App,
    system: &System,
    trace: &Trace,
    claim: &PasskeyClaim<'_>,
) -> Result<(PasskeySite, PasskeyRequest)> {
    site(app).map_err(|_| refused("there are no passkeys without PUBLIC_URL"))?;
    let site = site_of(app, system, trace, claim.tenant).await?;
    let asked = site.asked(PasskeyAct::Prove, &claim.answer.client_data()?).map_err(invalid)?;
    spend(system, trace, (PROOF, claim.person, claim.asked_by), &asked).await?;
    Ok((site, asked))
}

async fn judge(
    tx: &mut TenantTx<'_>,
    (site, asked): (&PasskeySite, &PasskeyRequest),
    claim: &PasskeyClaim<'_>,
) -> Result<()> {
    let answer = claim.answer;
    let found: Option<StoredPasskey> =
        tx.optional(FIND, &[&claim.person, &decoded(&answer.credential)?]).await?;
    let found = found.ok_or_else(|| refused("the person has no such passkey"))?;
    use_it(tx, (claim, &found), &signed((site, asked), claim, &found)?).await
}

/// What a passkey has signed. Where its authenticator says whose it is, it is so.
pub(super) fn signed(
    (site, asked): (&PasskeySite, &PasskeyRequest),
    claim: &PasskeyClaim<'_>,
    passkey: &StoredPasskey,
) -> Result<ProvenPasskey> {
    let answer = claim.answer;
    if let Some(handle) = &answer.user_handle {
        let is_owners = decoded(handle)? == claim.person.as_uuid().as_bytes();
        is_owners.then_some(()).ok_or_else(|| refused("the passkey says that it is another person's"))?;
    }
    let said = (&*decoded(&answer.authenticator_data)?, &*decoded(&answer.signature)?);
    site.proven(asked, said, &passkey.public_key).map_err(invalid)
}

/// Notes that a passkey was used, which counts on if it counts.
pub(super) async fn use_it(
    tx: &mut TenantTx<'_>,
    (claim, passkey): (&PasskeyClaim<'_>, &StoredPasskey),
    proven: &ProvenPasskey,
) -> Result<()> {
    let used: Option<()> = tx.optional(USE, &[&passkey.id, &i64::from(proven.sign_count)]).await?;
    used.ok_or_else(|| copied(claim, passkey.id))
}

async fn fail(mut tx: TenantTx<'_>, trace: &Trace, claim: &PasskeyClaim<'_>, error: Error) -> Result<Error> {
    tx.audit(&AuditEntry {
        action: "identity.factor_failed",
        resource: "user",
        resource_id: Some(claim.person.to_string()),
        outcome: "failure",
        details: json!({ "kind": FactorKind::Passkey.word() }),
    })?;
    tx.commit().await?;
    security_event!(
        Severity::Medium,
        "The answer of a passkey was refused",
        action = "identity.factor_failed",
        tenant_id = %claim.tenant,
        user_id = %claim.person,
        why = error.cause().map(ToString::to_string),
        ip = address(trace),
    );
    Ok(error)
}

/// Two authenticators have the key, it seems: the count of this one is behind.
fn copied(claim: &PasskeyClaim<'_>, id: Id<PasskeyRow>) -> Error {
    security_event!(
        Severity::High,
        "A passkey has counted backwards: it may have been copied",
        action = "identity.passkey_copied",
        tenant_id = %claim.tenant,
        user_id = %claim.person,
        passkey = %id,
    );
    refused("the passkey has counted backwards")
}

/// A challenge, and the passkeys that the person has.
async fn ask(
    app: &App,
    system: &System,
    trace: &Trace,
    (kind, person, by): (&'static str, UserId, &[u8]),
) -> Result<(String, Vec<String>)> {
    let challenge = PasskeyChallenge::new(app.rng.as_ref());
    let mut tx = system.begin(trace);
    let known: Vec<KnownCredential> = tx.rows(CREDENTIALS, &[&person]).await?;
    let _: Vec<()> = tx.rows(FORGET, &[&person]).await?;
    tx.last().rows::<()>(ASK, &[&kind, &challenge.bound_to(by), &person]).await?;
    let known = known.iter().map(|known| URL_SAFE_NO_PAD.encode(&known.credential)).collect();
    Ok((challenge.text(), known))
}

/// Spends a challenge, for good: it is answered once, also where the answer is refused.
async fn spend(
    system: &System,
    trace: &Trace,
    (kind, person, by): (&'static str, UserId, &[u8]),
    asked: &PasskeyRequest,
) -> Result<()> {
    let hash = asked.challenge.bound_to(by);
    let spent: Option<()> = system.begin(trace).last().optional(SPEND, &[&kind, &hash, &person]).await?;
    spent.ok_or_else(|| refused("the challenge is another one, or was used"))
}

/// Who a challenge is bound to that is asked for within a session.
pub(super) fn session_of(caller: &Caller) -> Result<[u8; 16]> {
    let none = || Error::new(&codes::STEP_UP_REQUIRED).detail("The token is of no session: sign in again.");
    Ok(*caller.signed_in().ok_or_else(none)?.session.as_uuid().as_bytes())
}

pub(super) fn site(app: &App) -> Result<PasskeySite> {
    PasskeySite::of(&app.config).ok_or_else(|| {
        Error::new(&codes::NO_PUBLIC_URL)
            .detail("Passkeys are for the name in PUBLIC_URL, which is not set, or is an address.")
    })
}

/// The same with the pages of the tenant's own name, if it has one.
async fn site_of(app: &App, system: &System, trace: &Trace, tenant: TenantId) -> Result<PasskeySite> {
    let site = site(app)?;
    if app.config.http.tenant_domain.is_none() {
        return Ok(site);
    }
    let TenantSlug { slug } = system.begin(trace).last().row(SLUG, &[&tenant]).await?;
    Ok(site.and_of_tenant(&app.config, &slug))
}

pub(super) fn decoded<const LEAST: usize, const MOST: usize>(text: &Text<LEAST, MOST>) -> Result<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.as_str()).map_err(|_| refused("it is not base64url"))
}

pub(super) fn invalid(why: InvalidPasskey) -> Error {
    Error::new(&codes::CODE_REFUSED).because(why)
}

pub(super) fn refused(why: &'static str) -> Error {
    Error::new(&codes::CODE_REFUSED).because(why)
}
