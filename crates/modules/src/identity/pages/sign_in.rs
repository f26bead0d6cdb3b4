//! The page where people sign in, and the one that asks for the second factor.

use askama::Template;
use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Trace;
use erp_core::db::System;
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{FormBody, Json, Query, SelectedTenant};
use erp_core::limits::Attempt;
use erp_core::shared::{Secret, Text};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ShownPage, css, page, script, told};
use crate::identity::browser;
use crate::identity::login::{self, Login, SignInAnswer};
use crate::identity::mfa::{self, VerifyFactor};
use crate::identity::passkey_login::{self, PasskeyLogin};
use crate::identity::passkeys::PasskeyAnswer;
use crate::identity::session::Tokens;

/// Where somebody who has signed in is led who came for nothing else.
pub(super) const HOME: &str = "/account";

#[derive(Template)]
#[template(path = "identity/pages/sign_in.html")]
struct SignInPage<'a> {
    css: &'a str,
    script: &'a str,
    tenant: &'a str,
    email: &'a str,
    next: &'a str,
    fault: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "identity/pages/code.html")]
struct CodePage<'a> {
    css: &'a str,
    script: &'a str,
    /// Whether a passkey can be used in the place of a code.
    passkey: bool,
    token: &'a str,
    next: &'a str,
    fault: Option<&'a str>,
}

/// What a link to the page says already.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInQuery {
    /// The tenant's slug.
    #[serde(default)]
    tenant: Option<Text<1, 63>>,
    /// The path that is shown afterwards.
    #[serde(default)]
    next: Option<Text<1, 500>>,
}

/// What the form sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInForm {
    tenant: String,
    email: String,
    password: Secret<String>,
    #[serde(default)]
    next: String,
}

/// What the form of a passkey that stands alone sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasskeyForm {
    #[serde(default)]
    tenant: String,
    /// What it has answered, as JSON.
    passkey: String,
    #[serde(default)]
    next: String,
}

/// What the form of the second factor sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeForm {
    token: Secret<String>,
    #[serde(default)]
    code: Option<Secret<String>>,
    /// What a passkey has answered, as JSON.
    #[serde(default)]
    passkey: String,
    /// Whether there is one.
    #[serde(default)]
    has_passkey: bool,
    #[serde(default)]
    next: String,
}

pub(super) async fn show(
    State(app): State<App>,
    selected: SelectedTenant,
    Query(link): Query<SignInQuery>,
) -> Result<ShownPage> {
    let (css, script) = (css(&app)?, script(&app)?);
    // What the form says is looked at when it is sent.
    let selected = selected.name().ok().flatten().unwrap_or_default();
    let tenant = link.tenant.as_ref().map_or(selected, Text::as_str);
    let next = link.next.as_ref().map_or("", Text::as_str);
    page(StatusCode::OK, &SignInPage { css, script, tenant, email: "", next, fault: None })
}

/// The form in the place of a page that is for those who have signed in: it leads back there.
pub(super) fn wanted(app: &App, next: &str) -> Result<ShownPage> {
    let (css, script) = (css(app)?, script(app)?);
    page(StatusCode::UNAUTHORIZED, &SignInPage { css, script, tenant: "", email: "", next, fault: None })
}

pub(super) async fn sign_in(
    State(app): State<App>,
    trace: Trace,
    attempt: Attempt,
    system: System,
    headers: HeaderMap,
    selected: SelectedTenant,
    FormBody(form): FormBody<SignInForm>,
) -> Result<ShownPage> {
    let (css, script) = (css(&app)?, script(&app)?);
    let SignInForm { tenant, email, password, next } = form;
    let device_token = browser::device_token(&headers);
    let login = Login { tenant: tenant.clone(), email: email.clone(), password, device_token };
    let (state, own) = (State(app.clone()), system.clone());
    let signing_in = login::login(state, trace.clone(), attempt, own, headers, selected, Json(login));
    let outcome = Box::pin(signing_in).await; // it is large
    match outcome.map_err(Error::from) {
        Ok(Json(SignInAnswer::Begun(tokens))) => begun(&app, &system, &trace, &tokens, &next).await,
        Ok(Json(SignInAnswer::Pending(pending))) => {
            let token = pending.mfa_token.expose();
            let passkey = pending.factors.contains(&"passkey");
            page(StatusCode::OK, &CodePage { css, script, passkey, token, next: &next, fault: None })
        }
        Err(error) => {
            let (status, fault) = told(error)?;
            let (tenant, email, next, fault) = (&*tenant, &*email, &*next, Some(&*fault));
            page(status, &SignInPage { css, script, tenant, email, next, fault })
        }
    }
}

pub(super) async fn sign_in_by_passkey(
    State(app): State<App>,
    trace: Trace,
    attempt: Attempt,
    system: System,
    headers: HeaderMap,
    selected: SelectedTenant,
    FormBody(form): FormBody<PasskeyForm>,
) -> Result<ShownPage> {
    let (css, script) = (css(&app)?, script(&app)?);
    let PasskeyForm { tenant, passkey, next } = form;
    let unreadable = |_| Error::new(&core::INVALID);
    let passkey: PasskeyAnswer = serde_json::from_str(&passkey).map_err(unreadable)?;
    let device_token = browser::device_token(&headers);
    let login = PasskeyLogin { tenant: tenant.clone(), passkey, device_token };
    let (state, own) = (State(app.clone()), system.clone());
    let signing_in = passkey_login::login(state, trace.clone(), attempt, own, headers, selected, Json(login));
    match Box::pin(signing_in).await.map_err(Error::from) {
        Ok(Json(tokens)) => begun(&app, &system, &trace, &tokens, &next).await,
        Err(error) => {
            let (status, fault) = told(error)?;
            let (tenant, next, fault) = (&*tenant, &*next, Some(&*fault));
            page(status, &SignInPage { css, script, tenant, email: "", next, fault })
        }
    }
}

pub(super) async fn give_code(
    State(app): State<App>,
    trace: Trace,
    system: System,
    headers: HeaderMap,
    FormBody(form): FormBody<CodeForm>,
) -> Result<ShownPage> {
    let css = css(&app)?;
    let CodeForm { token, code, passkey, has_passkey, next } = form;
    let answer: Option<PasskeyAnswer> = serde_json::from_str(&passkey).ok();
    let code = code.filter(|_| answer.is_none());
    let body = VerifyFactor { mfa_token: token.clone(), code, passkey: answer };
    let outcome = mfa::verify(State(app.clone()), trace.clone(), system.clone(), headers, Json(body)).await;
    match outcome.map_err(Error::from) {
        Ok(Json(tokens)) => begun(&app, &system, &trace, &tokens, &next).await,
        Err(error) => {
            let (status, fault) = told(error)?;
            let (token, script, fault) = (token.expose(), script(&app)?, Some(&*fault));
            page(status, &CodePage { css, script, passkey: has_passkey, token, next: &next, fault })
        }
    }
}

async fn begun(app: &App, system: &System, trace: &Trace, tokens: &Tokens, next: &str) -> Result<ShownPage> {
    let session = browser::take_over(app, system, trace, tokens).await?;
    let cookies = std::iter::once(session).chain(browser::device_cookie(tokens)?).collect();
    Ok(ShownPage::SeeOther(own_path(next).to_owned(), cookies))
}

/// A path of this server, and nothing that a browser takes for another one: `//evil`, `/\evil`.
pub(super) fn own_path(next: &str) -> &str {
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let own = plain && next.starts_with('/') && !next.starts_with("//") && next.len() <= 500;
    if own { next } else { HOME }
}

#[cfg(test)]
mod tests {
    use super::own_path;

    #[test]
    fn nobody_is_led_to_another_server() {
        for own in ["/", "/account", "/orders?open=true#top", "/a//b"] {
            assert_eq!(own_path(own), own);
        }
        for foreign in [
            "",
            "account",
            "//evil.example",
            "/\\evil.example",
            "\\/evil",
            "https://evil.example",
            "/a\r\nb",
            "/ä",
            " /a",
            "/\t/evil",
        ] {
            assert_eq!(own_path(foreign), "/account", "{foreign:?}");
        }
    }
}
