//! Acts that want somebody who has proven a moment ago who it is, and how that is done again within a session.

use axum::extract::State;
use erp_core::answer::Refusing;
use erp_core::app::App;
use erp_core::auth::{AccessToken, Caller, Method, SignedIn};
use erp_core::db::{AuditEntry, System};
use erp_core::error::{Error, Result, Violation};
use erp_core::extract::Json;
use erp_core::from_row;
use erp_core::limits::Attempt;
use erp_core::shared::Secret;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::factors::{self, FactorClaim};
use super::passkeys::{self, PasskeyAnswer, PasskeyClaim};
use super::{codes, password_routes};

/// For how many seconds a proof counts (ASVS 7.5.1).
const RECENT: i64 = 600;

/// The body of `POST /api/v1/auth/step-up`: one of the three.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepUp {
    /// Of somebody who has no second factor.
    #[schemars(example = &"correct horse battery staple")]
    #[serde(default)]
    pub(super) password: Option<Secret<String>>,
    /// Of the authenticator app, or one of the recovery codes.
    #[schemars(example = &"123456")]
    #[serde(default)]
    pub(super) code: Option<Secret<String>>,
    /// What a passkey has answered to `POST /api/v1/auth/passkeys/challenge`.
    #[serde(default)]
    pub(super) passkey: Option<PasskeyAnswer>,
}

const RENEW: &str = "update sessions set auth_time = now(), amr = $4 where id = $1 and tenant_id = $2 and principal_id = $3 \
     and revoked_at is null and expires_at > now() returning auth_time";

struct Renewed {
    auth_time: Timestamp,
}
from_row!(Renewed { auth_time });

/// Refuses somebody who has not proven within ten minutes who it is, and by the second factor where there is one.
///
/// # Errors
/// `identity.step_up_required`.
pub(super) fn require_recent(app: &App, caller: &Caller, has_factor: bool) -> Result<()> {
    let now = app.clock.now().as_second();
    let recent = caller.signed_in().filter(|signed_in| now.saturating_sub(signed_in.at) <= RECENT);
    let enough = recent.is_some_and(|signed_in| !has_factor || signed_in.methods.has_second_factor());
    if enough {
        return Ok(());
    }
    let what = if has_factor { "the second factor" } else { "the password" };
    let detail = format!("It wants {what}, given within the last ten minutes.");
    Err(Error::new(&codes::STEP_UP_REQUIRED).detail(detail))
}

/// Refuses a person who has not proven within ten minutes who it is, by the second factor where it has one: before keys are made,
/// and before roles are given or changed. A machine cannot do so; its key was made by somebody who had.
///
/// # Errors
/// `identity.step_up_required`, or as the database answers.
pub(super) async fn require(app: &App, caller: &Caller, system: &System) -> Result<()> {
    let Some(person) = caller.actor().person() else { return Ok(()) };
    let has_factor = factors::has_factor(system, caller.trace(), person).await?;
    require_recent(app, caller, has_factor)
}

/// `POST /api/v1/auth/step-up`: proves again who asks, and gives a token that says so.
pub(super) async fn step_up(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    system: System,
    Json(body): Json<StepUp>,
) -> Result<
    Json<AccessToken>,
    Refusing<(
        codes::SIGN_IN_FAILED,
        codes::STEP_UP_REQUIRED,
        codes::CODE_REFUSED,
        codes::TOO_MANY_CODES,
        codes::LOCKED_OUT,
    )>,
> {
    let signed_in = caller.signed_in().ok_or_else(|| {
        Error::new(&codes::STEP_UP_REQUIRED).detail("The token is of no session: sign in again.")
    })?;
    let method = match body {
        StepUp { password: Some(password), code: None, passkey: None } => {
            if factors::has_factor(&system, caller.trace(), caller.user()?).await? {
                let detail = "The account has a second factor: it wants a code of it.";
                return Err(Error::new(&codes::STEP_UP_REQUIRED).detail(detail).into());
            }
            password_routes::own(&app, &caller, &system, &attempt, password).await?;
            Method::Password
        }
        StepUp { password: None, code: Some(code), passkey: None } => {
            let (tenant, person) = (caller.tenant(), caller.user()?);
            let claim = FactorClaim { tenant, person, code: &code, confirmed: true };
            factors::prove(&app, &system, caller.trace(), &claim).await?
        }
        StepUp { password: None, code: None, passkey: Some(answer) } => {
            let (tenant, person, by) = (caller.tenant(), caller.user()?, passkeys::session_of(&caller)?);
            let claim = PasskeyClaim { tenant, person, asked_by: &by, answer: &answer };
            passkeys::prove(&app, &system, caller.trace(), &claim).await?
        }
        _ => return Err(one_of(["password", "code", "passkey"]).into()),
    };
    Ok(Json(renew(&app, &caller, &system, signed_in, method).await?))
}

async fn renew(
    app: &App,
    caller: &Caller,
    system: &System,
    signed_in: SignedIn,
    method: Method,
) -> Result<AccessToken> {
    let (tenant, person, methods) = (caller.tenant(), caller.user()?, signed_in.methods.and(method));
    let mut tx = system.on_behalf(caller).within(tenant).await?;
    let renewed: Option<Renewed> =
        tx.optional(RENEW, &[&signed_in.session, &tenant, &person, &methods.words()]).await?;
    let Renewed { auth_time } = renewed.ok_or_else(|| Error::new(&codes::STEP_UP_REQUIRED))?;
    tx.audit(&AuditEntry {
        action: "identity.stepped_up",
        resource: "session",
        resource_id: Some(signed_in.session.to_string()),
        outcome: "success",
        details: json!({ "method": method.as_str() }),
    })?;
    tx.commit().await?;
    let signed_in = SignedIn { at: auth_time.as_second(), methods, ..signed_in };
    app.authenticator.issue(tenant, person, Some(signed_in))
}

/// Of several fields one is wanted.
pub(super) fn one_of<const N: usize>(fields: [&str; N]) -> Error {
    let fields = fields.map(|field| format!("'{field}'")).join(" or ");
    let violation = Violation::new("", "required", format!("It wants either {fields}."));
    Error::new(&erp_core::error::codes::INVALID).violation(violation)
}
