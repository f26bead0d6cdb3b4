use axum::extract::State;
use erp_core::answer::Refusing;
use erp_core::app::{App, Denial};
use erp_core::auth::{Actor, Trace};
use erp_core::db::System;
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::extract::{Json, SelectedTenant};
use erp_core::limits::{AccountName, Attempt};
use erp_core::logging::Severity;
use erp_core::shared::{Secret, TenantId, Text, UserId};
use erp_core::{from_row, security_event, sql};
use http::HeaderMap;
use http::header::USER_AGENT;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::factors::HAS_FACTOR;
use super::lock_out::{self, Guess, GuessTarget};
use super::mfa::{self, PendingSignIn};
use super::session::{self, Begin, Tokens, address};
use super::{IdentityMetrics, codes, owner_notice, passwords};

/// What is tried here, in the audit log and in the security log.
pub(super) const ACTION: &str = "identity.sign_in";

pub(super) const FIND_TENANT: &str = "select id from tenants where slug = $1 and status = 'active'";
const FIND_PERSON: &str = sql![
    "select p.id, w.phc, ",
    HAS_FACTOR,
    " from auth.people p left join auth.passwords w on w.person_id = p.id \
     join memberships m on m.user_id = p.id \
     where p.email = $1 and p.disabled_at is null and m.tenant_id = $2 and m.ended_at is null and m.deactivated_at is null"
];

/// The body of `POST /api/v1/auth/login`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Login {
    /// The tenant's slug, in any case. It may be left out where the name of the host or the path selects the tenant, and names no
    /// other one.
    #[serde(default)]
    #[schemars(example = &"acme")]
    pub(super) tenant: String,
    #[schemars(example = &"owner@acme.example")]
    pub(super) email: String,
    #[schemars(example = &"correct horse battery staple")]
    pub(super) password: Secret<String>,
    /// What the last sign-in of this account from this device has answered, if there was one: strangers who fail do not shut it
    /// out.
    #[serde(default)]
    #[schemars(example = &"erd_AZtgk0…")]
    pub(super) device_token: Option<Secret<String>>,
}

pub(super) struct TenantRow {
    pub(super) id: TenantId,
}
from_row!(TenantRow { id });

struct AccountRow {
    id: UserId,
    phc: Option<String>,
    has_factor: bool,
}
from_row!(AccountRow { id, phc, has_factor });

/// The answer of `POST /api/v1/auth/login`.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum SignInAnswer {
    /// The password was enough: a session has begun.
    Begun(Tokens),
    /// The account has a second factor, and no session has begun yet.
    Pending(PendingSignIn),
}

/// `POST /api/v1/auth/login`: a session for the right password; for anything else one answer, as slow.
pub(super) async fn login(
    State(app): State<App>,
    trace: Trace,
    attempt: Attempt,
    system: System,
    headers: HeaderMap,
    selected: SelectedTenant,
    Json(mut login): Json<Login>,
) -> Result<Json<SignInAnswer>, Refusing<(codes::SIGN_IN_FAILED, codes::LOCKED_OUT, core::TENANT_SELECTION)>>
{
    // Before anything is looked up or counted: it must not tell what is there.
    app.passwords.admit(&login.password)?;
    login.tenant = meant(&selected, &login.tenant)?.ok_or_else(|| {
        Error::new(&core::INVALID).violation(Violation::new(
            "/tenant",
            "required",
            "It is not said which tenant.",
        ))
    })?;
    let (tenant, email) = (canonical(&login.tenant), canonical(&login.email));
    let name = attempt.name(&tenant, &email);
    let device = session::known_device(&app, login.device_token.as_ref(), &email);
    let target = GuessTarget { tenant: &tenant, email: &email, device };
    let guess = lock_out::begin((&app, &system, &trace), &attempt, &target).await.inspect_err(|_| {
        security_event!(
            Severity::High,
            "Sign-in refused: too many have failed",
            action = ACTION,
            account = %name,
            ip = address(&trace),
        );
    })?;
    let this = Try { login, name, agent: agent(&headers), device, last: guess.is_last() };
    let outcome = sign_in(&app, &system, &trace, this).await;
    count(&app, outcome.as_ref().map(word))?;
    let notice = guess.notice();
    let failed = settle(guess, &outcome).await;
    if let Some(notice) = notice.filter(|_| failed) {
        owner_notice::tell(&app, &system, &trace, (notice, tenant, email));
    }
    Ok(Json(outcome?))
}

/// Lets an attempt count when it has failed, and says whether it has. What we could not decide is no failure of the caller's.
pub(super) async fn settle<T>(guess: Guess<'_>, outcome: &Result<T>) -> bool {
    match outcome {
        Ok(_) => guess.succeeded().await,
        Err(error) if error.code() == &codes::SIGN_IN_FAILED => return true,
        Err(_) => guess.undecided().await,
    }
    false
}

/// The tenant that is selected or typed, if one is. Where both are, they are the same.
pub(super) fn meant(selected: &SelectedTenant, typed: &str) -> Result<Option<String>> {
    let typed = folded(typed);
    match selected.name()? {
        None => Ok(Some(typed).filter(|typed| !typed.is_empty())),
        Some(name) if typed.is_empty() || canonical(&typed) == name => Ok(Some(name.to_owned())),
        Some(_) => Err(Error::new(&core::TENANT_SELECTION)),
    }
}

const fn word(answer: &SignInAnswer) -> &'static str {
    match answer {
        SignInAnswer::Begun(_) => "succeeded",
        SignInAnswer::Pending(_) => "pending",
    }
}

pub(super) fn count(app: &App, outcome: Result<&'static str, &Error>) -> Result<()> {
    let outcome = match outcome {
        Ok(word) => word,
        Err(error) if error.code() == &codes::SIGN_IN_FAILED => "failed",
        Err(_) => "undecided",
    };
    app.metrics.of::<IdentityMetrics>()?.identity_sign_ins_total.with(&[outcome]).inc();
    Ok(())
}

/// One attempt to sign in.
struct Try<'a> {
    login: Login,
    name: AccountName,
    agent: &'a str,
    device: Option<Uuid>,
    /// When it fails, the next one is refused.
    last: bool,
}

async fn sign_in(
    app: &App,
    system: &System,
    trace: &Trace,
    Try { login, name, agent, device, last }: Try<'_>,
) -> Result<SignInAnswer> {
    let (tenant, account) = find(system, trace, &login).await?;
    let known = account.as_ref().and_then(|account| Some((account.id, account.phc.as_deref()?)));
    let verified = passwords::verify(app, system, trace, (known, login.password)).await?;
    match (tenant, account) {
        (Some(tenant), Some(account)) if verified => {
            let methods = session::by_password();
            let person = account.id;
            if account.has_factor {
                return mfa::pend(app, system, trace, (tenant, person)).await.map(SignInAnswer::Pending);
            }
            let begin = Begin { tenant, person, methods, from: None, agent };
            let begun = session::begin(app, system, trace, begin).await?;
            Ok(SignInAnswer::Begun(begun.on_device(app, device, &canonical(&login.email))))
        }
        (tenant, account) => {
            let user = account.map(|account| account.id.to_string());
            security_event!(
                Severity::Medium,
                "Sign-in failed",
                action = ACTION,
                account = %name,
                tenant_id = tenant.map(|tenant| tenant.to_string()),
                user_id = user.as_deref(),
                ip = address(trace),
            );
            if let Some(tenant) = tenant {
                let actor = system.actor();
                deny(app, trace, (actor, tenant, user), last);
            }
            Err(Error::new(&codes::SIGN_IN_FAILED))
        }
    }
}

/// Tells the tenant's auditor, within a minute: nothing is written here, so that the answer takes as long for who is there
/// as for who is not.
pub(super) fn deny(
    app: &App,
    trace: &Trace,
    (actor, tenant, user): (Actor, TenantId, Option<String>),
    last: bool,
) {
    let denial = Denial {
        tenant,
        actor,
        action: ACTION,
        resource: "user",
        resource_id: user,
        outcome: "failure",
        code: codes::SIGN_IN_FAILED.code,
    };
    if last {
        let code = erp_core::error::codes::RATE_LIMITED.code;
        let locked = Denial { action: "identity.lock_out", outcome: "denied", code, ..denial.clone() };
        app.deny(locked, trace);
    }
    app.deny(denial, trace);
}

/// What a client says of itself.
pub(super) fn agent(headers: &HeaderMap) -> &str {
    headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The tenant and the account that are meant, as far as they exist. Text that cannot be a slug or an address is
/// simply not found.
async fn find(
    system: &System,
    trace: &Trace,
    login: &Login,
) -> Result<(Option<TenantId>, Option<AccountRow>)> {
    let (tenant, email) = (canonical(&login.tenant), canonical(&login.email));
    let (Ok(slug), Ok(email)) = (Text::<1, 63>::parse(&tenant), Text::<3, 254>::parse(&email)) else {
        return Ok((None, None));
    };
    let mut tx = system.begin(trace);
    let tenant = tx.optional(FIND_TENANT, &[&slug]).await?.map(|TenantRow { id }| id);
    // Where there is no such tenant the account is looked for all the same, among nobody's: as much work, and as slow.
    let within = tenant.unwrap_or(TenantId::NOBODY);
    let tx = tx.within(within).await?;
    Ok((tenant, tx.last().optional(FIND_PERSON, &[&email, &within]).await?))
}

/// A slug or an address as it is stored and counted, in whatever case it was typed.
pub(super) fn folded(typed: &str) -> String {
    typed.trim().to_lowercase()
}

/// The same as it is looked for: letters that can be sent in several ways are one, so that they are counted as one.
pub(super) fn canonical(typed: &str) -> String {
    let folded = folded(typed);
    Text::<1, 254>::parse(&folded).map_or(folded, |text| text.to_string())
}
