//! Sign-in by a passkey alone: it finds its owner by itself, and asks for a PIN or a finger, so that it proves two things at once.
//!
//! The same tries are let through as of a password, but they are the passkey's own: strangers who guess at the account's password do
//! not shut it out. The challenge is signed and not stored; it is spent as soon as it is known whose passkey answers.

use axum::extract::State;
use erp_core::answer::Refusing;
use erp_core::app::App;
use erp_core::auth::{Method, Methods, PasskeyAct, Trace};
use erp_core::db::System;
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, SelectedTenant};
use erp_core::limits::Attempt;
use erp_core::logging::Severity;
use erp_core::shared::{Id, Secret, TenantId, UserId};
use erp_core::{from_row, security_event};
use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::codes;
use super::lock_out::{self, GuessTarget};
use super::login::{self, FIND_TENANT, TenantRow, agent, canonical};
use super::passkeys::{self, PasskeyAnswer, PasskeyClaim, PasskeyQuestion, PasskeyRow, StoredPasskey};
use super::session::{self, Begin, Tokens, address};

/// For whom its challenges are good: for whichever passkey answers first.
const ANYBODY: &[u8] = b"sign-in";

/// The body of `POST /api/v1/auth/login/passkey`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PasskeyLogin {
    /// The tenant's slug. Where it is left out, and nothing else selects one, the passkey's owner goes on in the tenant of the last
    /// sign-in.
    #[serde(default)]
    #[schemars(example = &"acme")]
    pub(super) tenant: String,
    /// What a passkey has answered to `POST /api/v1/auth/login/passkey/challenge`, with `userHandle`.
    pub(super) passkey: PasskeyAnswer,
    /// What the last sign-in of this account from this device has answered, if there was one.
    #[serde(default)]
    #[schemars(example = &"erd_AZtgk0…")]
    pub(super) device_token: Option<Secret<String>>,
}

/// The owner is looked for before it is known whether the answer is good: who cannot sign in there is not found.
const FIND: &str = "select k.id, k.public_key, p.id as person, p.email, t.id as tenant, t.slug \
     from auth.passkeys k join auth.people p on p.id = k.person_id \
     join memberships m on m.user_id = p.id join tenants t on t.id = m.tenant_id \
     where k.credential = $1 and ($2::text is null or t.slug = $2::text) and p.disabled_at is null \
       and m.ended_at is null and m.deactivated_at is null and t.status = 'active' \
     order by (select max(s.auth_time) from sessions s where s.tenant_id = t.id and s.principal_id = p.id and s.operator_id is null) \
       desc nulls last, t.slug limit 1";
/// It is known for longer than it is good, so that no clock makes it good again.
const SPEND: &str = "insert into auth.one_time (kind, hash, person_id, expires_at, used_at) \
     values ($1, $2, $3, now() + interval '15 minutes', now()) on conflict do nothing returning person_id";

struct PasskeyHolder {
    id: Id<PasskeyRow>,
    public_key: Vec<u8>,
    person: UserId,
    email: String,
    tenant: TenantId,
    slug: String,
}
from_row!(PasskeyHolder { id, public_key, person, email, tenant, slug });

/// The tenant that is named, as far as it exists, and whose passkey it is, as far as it can sign in there.
struct Found {
    tenant: Option<TenantId>,
    holder: Option<PasskeyHolder>,
}

/// `POST /api/v1/auth/login/passkey/challenge`: nothing is looked at, and nothing stored.
pub(super) async fn challenge(
    State(app): State<App>,
) -> Result<Json<PasskeyQuestion>, Refusing<codes::NO_PUBLIC_URL>> {
    let keys = app.authenticator.passkey_challenges();
    let issued = keys.issue(app.clock.now().as_second(), app.rng.as_ref());
    let challenge = issued.ok_or_else(|| Error::internal("the ring of keys is empty"))?;
    Ok(Json(PasskeyQuestion::to_any(&app, &challenge)?))
}

/// `POST /api/v1/auth/login/passkey`: a session for a passkey that has asked its owner; for anything else one answer.
pub(super) async fn login(
    State(app): State<App>,
    trace: Trace,
    attempt: Attempt,
    system: System,
    headers: HeaderMap,
    selected: SelectedTenant,
    Json(body): Json<PasskeyLogin>,
) -> Result<Json<Tokens>, Refusing<(codes::SIGN_IN_FAILED, codes::LOCKED_OUT, core::TENANT_SELECTION)>> {
    let named = login::meant(&selected, &body.tenant)?.map(|name| canonical(&name));
    let found = find(&system, &trace, named.as_deref(), &body.passkey).await?;
    let holder = found.holder.as_ref();
    let device = holder.and_then(|one| session::known_device(&app, body.device_token.as_ref(), &one.email));
    let tenant = holder.map(|one| one.slug.clone()).or(named).unwrap_or_default();
    let target = GuessTarget { tenant: &tenant, email: body.passkey.credential.as_str(), device };
    let guess = lock_out::begin((&app, &system, &trace), &attempt, &target).await?;
    let outcome = match holder {
        Some(holder) => {
            let begin = (agent(&headers), device);
            sign_in(&app, &system, &trace, (holder, &body.passkey), begin).await
        }
        None => Err(passkeys::refused("nobody who can sign in there has such a passkey")),
    };
    let outcome = outcome.map_err(|error| refuse(&app, &system, &trace, (&found, error), guess.is_last()));
    login::count(&app, outcome.as_ref().map(|_| "succeeded"))?;
    login::settle(guess, &outcome).await;
    Ok(Json(outcome?))
}

async fn find(system: &System, trace: &Trace, named: Option<&str>, answer: &PasskeyAnswer) -> Result<Found> {
    let credential = passkeys::decoded(&answer.credential).unwrap_or_default();
    let mut tx = system.begin(trace);
    let tenant: Option<TenantRow> = tx.optional(FIND_TENANT, &[&named.unwrap_or_default()]).await?;
    let holder: Option<PasskeyHolder> = tx.last().optional(FIND, &[&credential, &named]).await?;
    let tenant = holder.as_ref().map(|holder| holder.tenant).or(tenant.map(|row| row.id));
    Ok(Found { tenant, holder })
}

async fn sign_in(
    app: &App,
    system: &System,
    trace: &Trace,
    (holder, answer): (&PasskeyHolder, &PasskeyAnswer),
    (agent, device): (&str, Option<uuid::Uuid>),
) -> Result<Tokens> {
    let (tenant, person) = (holder.tenant, holder.person);
    prove(app, system, trace, (holder, &PasskeyClaim { tenant, person, asked_by: ANYBODY, answer })).await?;
    let methods = Methods::default().and(Method::Passkey).and(Method::MultiFactor);
    let begin = Begin { tenant, person, methods, from: None, agent };
    let begun = session::begin(app, system, trace, begin).await?;
    Ok(begun.on_device(app, device, &holder.email))
}

/// Proves that the passkey has signed what we have asked, that its authenticator has asked its owner, and that it says whose it is.
async fn prove(
    app: &App,
    system: &System,
    trace: &Trace,
    (holder, claim): (&PasskeyHolder, &PasskeyClaim<'_>),
) -> Result<()> {
    let site =
        passkeys::site(app).map_err(|_| passkeys::refused("there are no passkeys without PUBLIC_URL"))?;
    let site = site.and_of_tenant(&app.config, &holder.slug);
    let asked = site.asked(PasskeyAct::Prove, &claim.answer.client_data()?).map_err(passkeys::invalid)?;
    let (keys, now) = (app.authenticator.passkey_challenges(), app.clock.now().as_second());
    check(keys.accept(&asked.challenge, now), "the challenge is not one of ours, or too old")?;
    let hash = asked.challenge.bound_to(ANYBODY);
    let spend = system.begin(trace).last();
    let spent: Option<()> = spend.optional(SPEND, &[&passkeys::PROOF, &hash, &claim.person]).await?;
    check(spent.is_some(), "the challenge was used")?;
    check(claim.answer.names_its_owner(), "the passkey does not say whose it is")?;
    let passkey = StoredPasskey { id: holder.id, public_key: holder.public_key.clone() };
    let proven = passkeys::signed((&site, &asked), claim, &passkey)?;
    check(proven.user_verified, "its owner was not asked")?;
    let mut tx = system.begin(trace).within(claim.tenant).await?;
    passkeys::use_it(&mut tx, (claim, &passkey), &proven).await?;
    // The owner is in: strangers who guess at the password begin anew, as after a right one.
    let run = lock_out::account_name(app, &holder.slug, &holder.email);
    let _: Vec<()> = tx.rows(lock_out::OPEN, &[&run]).await?;
    tx.commit().await
}

fn check(holds: bool, otherwise: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(passkeys::refused(otherwise)) }
}

/// One answer for whatever is wrong with the passkey; why, stands in the security log. The tenant's auditor is told as of a password.
fn refuse(app: &App, system: &System, trace: &Trace, (found, error): (&Found, Error), last: bool) -> Error {
    if error.code() != &codes::CODE_REFUSED {
        return error;
    }
    let user = found.holder.as_ref().map(|holder| holder.person.to_string());
    security_event!(
        Severity::Medium,
        "Sign-in by a passkey failed",
        action = login::ACTION,
        tenant_id = found.tenant.map(|tenant| tenant.to_string()),
        user_id = user.as_deref(),
        why = error.cause().map(ToString::to_string),
        ip = address(trace),
    );
    if let Some(tenant) = found.tenant {
        login::deny(app, trace, (system.actor(), tenant, user), last);
    }
    Error::new(&codes::SIGN_IN_FAILED)
        .detail("The passkey is not one that can sign in there, or its owner was not asked.")
}
