//! The page of one's own account: password, second factor, and where one is signed in.
//!
//! Each form does what the API does. What it has done is said on the page that follows, so that loading it anew does nothing twice.

use askama::Template;
use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::{Caller, RequiredAction};
use erp_core::db::System;
use erp_core::error::{Error, Result};
use erp_core::extract::{FormBody, Json, Path, Query};
use erp_core::limits::Attempt;
use erp_core::shared::{Id, Secret, SessionId};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ShownPage, css, page, script, told};
use crate::identity::browser;
use crate::identity::factors::{self, OwnFactors};
use crate::identity::me::{self, Person};
use crate::identity::mfa::{self, Confirm, Enrol, NewTotp};
use crate::identity::passkeys::{self, OwnPasskey, PasskeyAnswer, PasskeyRow};
use crate::identity::password_routes::{self, Change};
use crate::identity::sessions::{self, OwnSession};
use crate::identity::step_up::{self, StepUp, require_recent};
use crate::identity::tenants::{self, OwnTenant, Switch};
use crate::identity::terms::{self, AcceptTerms};

const PATH: &str = "/account";

#[derive(Template)]
#[template(path = "identity/pages/account.html")]
struct AccountPage<'a> {
    css: &'a str,
    script: &'a str,
    csrf: &'a str,
    tenant: &'a str,
    person: &'a Person,
    notice: Option<&'a str>,
    fault: Option<&'a str>,
    factors: OwnFactors,
    passkeys: &'a [OwnPasskey],
    /// Whether the second factor was proven a moment ago.
    proven: bool,
    sessions: &'a [OwnSession],
    /// The other tenants that the person belongs to.
    tenants: Vec<OwnTenant>,
}

/// What a session shows that is for something else first.
#[derive(Template)]
#[template(path = "identity/pages/required.html")]
struct RequiredPage<'a> {
    css: &'a str,
    script: &'a str,
    csrf: &'a str,
    tenant: &'a str,
    person: &'a Person,
    notice: Option<&'a str>,
    fault: Option<&'a str>,
    change_password: bool,
    second_factor: bool,
    factors: OwnFactors,
    /// The version of the terms that are to be accepted, and where they can be read.
    terms: Option<(&'a str, Option<&'a str>)>,
}

#[derive(Template)]
#[template(path = "identity/pages/factor.html")]
struct FactorPage<'a> {
    css: &'a str,
    csrf: &'a str,
    qr: &'a str,
    secret: &'a str,
}

#[derive(Template)]
#[template(path = "identity/pages/recovery_codes.html")]
struct RecoveryCodesPage<'a> {
    css: &'a str,
    codes: Vec<&'a str>,
}

/// What has just been done.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Done {
    PasswordChanged,
    FactorAdded,
    FactorRemoved,
    Proven,
    SessionEnded,
    TermsAccepted,
    PasskeyAdded,
    PasskeyRemoved,
}

impl Done {
    const fn text(self) -> &'static str {
        match self {
            Self::PasswordChanged => "Your password is changed. Everywhere else you are signed out.",
            Self::FactorAdded => {
                "The second factor is set up. From now on a sign-in asks for a code. Prove it once more, and make recovery codes."
            }
            Self::FactorRemoved => "The second factor is removed, and its recovery codes with it.",
            Self::Proven => "You have proven who you are.",
            Self::SessionEnded => "The session has ended.",
            Self::TermsAccepted => "You have accepted the terms.",
            Self::PasskeyAdded => {
                "The passkey is set up. From now on a sign-in asks for a second factor. Prove it once more."
            }
            Self::PasskeyRemoved => "The passkey is removed.",
        }
    }

    fn page(self) -> ShownPage {
        let word = match self {
            Self::PasswordChanged => "password-changed",
            Self::FactorAdded => "factor-added",
            Self::FactorRemoved => "factor-removed",
            Self::Proven => "proven",
            Self::SessionEnded => "session-ended",
            Self::TermsAccepted => "terms-accepted",
            Self::PasskeyAdded => "passkey-added",
            Self::PasskeyRemoved => "passkey-removed",
        };
        ShownPage::SeeOther(format!("{PATH}?done={word}"), Vec::new())
    }
}

/// What the page that was left has done.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountQuery {
    #[serde(default)]
    done: Option<Done>,
}

/// A form whose button says all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ButtonForm {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeForm {
    current: Secret<String>,
    new: Secret<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnPasswordForm {
    password: Secret<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnCodeForm {
    code: Secret<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofForm {
    #[serde(default)]
    code: Option<Secret<String>>,
    /// What a passkey has answered, as JSON.
    #[serde(default)]
    passkey: String,
}

pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Query(query): Query<AccountQuery>,
) -> Result<ShownPage> {
    account(&app, &caller, &system, query.done.map(Done::text), Ok(StatusCode::OK)).await
}

/// The page, with what has been done or what was refused.
async fn account(
    app: &App,
    caller: &Caller,
    system: &System,
    notice: Option<&str>,
    outcome: Result<StatusCode, (StatusCode, String)>,
) -> Result<ShownPage> {
    let profile = me::profile(app, caller).await?;
    let factors = factors::of(system, caller.trace(), caller.user()?).await?;
    let csrf = browser::form_token(app, caller)?;
    let fault = outcome.as_ref().err().map(|(_, fault)| fault.as_str());
    let status = outcome.as_ref().map_or_else(|(status, _)| *status, |status| *status);
    let required = caller.required();
    if !required.is_empty() {
        let (version, url) = terms::in_force(caller);
        let accepts = version.as_deref().filter(|_| required.has(RequiredAction::AcceptTerms));
        let page_of = RequiredPage {
            css: css(app)?,
            script: script(app)?,
            csrf: &csrf,
            tenant: profile.tenant(),
            person: &profile.person,
            notice,
            fault,
            change_password: required.has(RequiredAction::ChangePassword),
            second_factor: required.has(RequiredAction::SecondFactor),
            factors,
            terms: accepts.map(|version| (version, url.as_deref())),
        };
        return page(status, &page_of);
    }
    let passkeys = passkeys::own(caller, system).await?;
    let sessions = sessions::own(app, caller).await?;
    let tenants = tenants::own(caller, system).await?;
    page(
        status,
        &AccountPage {
            css: css(app)?,
            script: script(app)?,
            csrf: &csrf,
            tenant: profile.tenant(),
            person: &profile.person,
            notice,
            fault,
            factors,
            passkeys: &passkeys,
            proven: factors.any() && require_recent(app, caller, true).is_ok(),
            sessions: &sessions,
            tenants: tenants.into_iter().filter(|tenant| !tenant.current).collect(),
        },
    )
}

/// What follows a form: the page that says that it is done, or the account with what was refused.
async fn follow(
    app: &App,
    caller: &Caller,
    system: &System,
    outcome: Result<Done, Error>,
) -> Result<ShownPage> {
    match outcome {
        Ok(done) => Ok(done.page()),
        Err(error) => account(app, caller, system, None, Err(told(error)?)).await,
    }
}

pub(super) async fn change_password(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    system: System,
    FormBody(form): FormBody<ChangeForm>,
) -> Result<ShownPage> {
    let change = Json(Change { current_password: form.current, new_password: form.new });
    let changing =
        password_routes::change(State(app.clone()), caller.clone(), attempt, system.clone(), change);
    let changed = Box::pin(changing).await; // it is large
    let outcome = changed.map(|_| Done::PasswordChanged).map_err(Error::from);
    follow(&app, &caller, &system, outcome).await
}

pub(super) async fn begin_factor(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    system: System,
    FormBody(form): FormBody<OwnPasswordForm>,
) -> Result<ShownPage> {
    let body = Json(Enrol { password: form.password });
    let begun = mfa::enrol(State(app.clone()), caller.clone(), attempt, system.clone(), body).await;
    match begun.map_err(Error::from) {
        Ok(Json(NewTotp { secret, qr, .. })) => {
            let csrf = browser::form_token(&app, &caller)?;
            let page_of =
                FactorPage { css: css(&app)?, csrf: &csrf, qr: qr.expose(), secret: secret.expose() };
            page(StatusCode::OK, &page_of)
        }
        Err(error) => follow(&app, &caller, &system, Err(error)).await,
    }
}

pub(super) async fn confirm_factor(
    State(app): State<App>,
    caller: Caller,
    system: System,
    FormBody(form): FormBody<OwnCodeForm>,
) -> Result<ShownPage> {
    let body = Json(Confirm { code: form.code });
    let confirmed = mfa::confirm(State(app.clone()), caller.clone(), system.clone(), body).await;
    follow(&app, &caller, &system, confirmed.map(|_| Done::FactorAdded).map_err(Error::from)).await
}

/// Proves a code for what wants one of a moment ago. The session gets another cookie: what is known of the one before does not say
/// that it was proven.
pub(super) async fn prove(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    system: System,
    FormBody(form): FormBody<ProofForm>,
) -> Result<ShownPage> {
    let passkey: Option<PasskeyAnswer> = serde_json::from_str(&form.passkey).ok();
    let code = form.code.filter(|_| passkey.is_none());
    let body = Json(StepUp { password: None, code, passkey });
    let proven = step_up::step_up(State(app.clone()), caller.clone(), attempt, system.clone(), body).await;
    match proven.map_err(Error::from) {
        Ok(_) if caller.by_cookie() => {
            let cookie = browser::replace_cookie(&app, &system, &caller).await?;
            Ok(ShownPage::SeeOther(format!("{PATH}?done=proven"), vec![cookie]))
        }
        outcome => follow(&app, &caller, &system, outcome.map(|_| Done::Proven)).await,
    }
}

pub(super) async fn make_recovery_codes(
    State(app): State<App>,
    caller: Caller,
    system: System,
    FormBody(ButtonForm {}): FormBody<ButtonForm>,
) -> Result<ShownPage> {
    let made = mfa::make_recovery_codes(State(app.clone()), caller.clone(), system.clone()).await;
    match made.map_err(Error::from) {
        Ok(Json(made)) => {
            let codes = made.codes.iter().map(|code| code.expose().as_str()).collect();
            page(StatusCode::OK, &RecoveryCodesPage { css: css(&app)?, codes })
        }
        Err(error) => follow(&app, &caller, &system, Err(error)).await,
    }
}

pub(super) async fn remove_factor(
    State(app): State<App>,
    caller: Caller,
    system: System,
    FormBody(ButtonForm {}): FormBody<ButtonForm>,
) -> Result<ShownPage> {
    let removed = mfa::remove(State(app.clone()), caller.clone(), system.clone()).await;
    follow(&app, &caller, &system, removed.map(|_| Done::FactorRemoved).map_err(Error::from)).await
}

pub(super) async fn remove_passkey(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<Id<PasskeyRow>>,
    FormBody(ButtonForm {}): FormBody<ButtonForm>,
) -> Result<ShownPage> {
    let removed = passkeys::remove(State(app.clone()), caller.clone(), system.clone(), Path(id)).await;
    follow(&app, &caller, &system, removed.map(|_| Done::PasskeyRemoved).map_err(Error::from)).await
}

pub(super) async fn accept_terms(
    State(app): State<App>,
    caller: Caller,
    system: System,
    FormBody(form): FormBody<AcceptTerms>,
) -> Result<ShownPage> {
    let accepted = terms::accept(caller.clone(), system.clone(), Json(form)).await;
    follow(&app, &caller, &system, accepted.map(|_| Done::TermsAccepted).map_err(Error::from)).await
}

pub(super) async fn end_session(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<SessionId>,
    FormBody(ButtonForm {}): FormBody<ButtonForm>,
) -> Result<ShownPage> {
    let ended = sessions::end_own(&app, &caller, &system, id).await;
    follow(&app, &caller, &system, ended.map(|()| Done::SessionEnded)).await
}

/// Goes on in another tenant: the browser has one session, and that of the tenant before ends.
pub(super) async fn switch(
    State(app): State<App>,
    caller: Caller,
    system: System,
    headers: HeaderMap,
    FormBody(form): FormBody<Switch>,
) -> Result<ShownPage> {
    let switched =
        tenants::switch(State(app.clone()), caller.clone(), system.clone(), headers, Json(form)).await;
    match switched.map_err(Error::from) {
        Ok(Json(tokens)) => {
            let cookie = browser::take_over(&app, &system, caller.trace(), &tokens).await?;
            sessions::logout(State(app.clone()), caller, system).await?;
            Ok(ShownPage::SeeOther(PATH.to_owned(), vec![cookie]))
        }
        Err(error) => follow(&app, &caller, &system, Err(error)).await,
    }
}

pub(super) async fn sign_out(
    state: State<App>,
    caller: Caller,
    system: System,
    FormBody(ButtonForm {}): FormBody<ButtonForm>,
) -> Result<ShownPage> {
    sessions::logout(state, caller, system).await?;
    signed_out()
}

pub(super) async fn sign_out_everywhere(
    state: State<App>,
    caller: Caller,
    system: System,
    FormBody(ButtonForm {}): FormBody<ButtonForm>,
) -> Result<ShownPage> {
    sessions::logout_all(state, caller, system).await?;
    signed_out()
}

fn signed_out() -> Result<ShownPage> {
    Ok(ShownPage::SeeOther("/sign-in".to_owned(), vec![browser::no_cookie()?]))
}
