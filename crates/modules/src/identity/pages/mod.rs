//! The pages for people, usable without script: those that links in mails lead to, where an invitation is accepted and a password is
//! set, those where they sign in, and that of their account.
//!
//! GET shows a form and spends nothing, since programs that look for malware follow links. POST does what the API does, and shows
//! what came of it; what it refuses is said above the form, so that nothing has to be typed twice but the password. The secret in
//! the query is in no log line, and the page tells nobody where its visitor came from (`Referrer-Policy`).

mod account;
mod address;
mod registration;
mod sign_in;

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use erp_core::answer::{Answer, Outputs};
use erp_core::app::App;
use erp_core::assets::Asset;
use erp_core::auth::{RequiredAction, Trace};
use erp_core::db::System;
use erp_core::error::{Error, Result};
use erp_core::extract::{FormBody, Json, Query};
use erp_core::limits::Attempt;
use erp_core::module::{Access, Csp, Operation, Routes, SecurityHeaders};
use erp_core::shared::{Secret, Text};
use http::header::{LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{HeaderValue, Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::invitations::{self, Acceptance};
use super::password_routes::{self, Forgot, Reset};
use super::{FACTORS, FAILED_SIGN_INS, LINKS, MEMBERS, PASSWORDS, SESSIONS, SIGN_IN, codes};

/// The style of the pages.
pub(super) static STYLE: Asset =
    Asset { name: "pages.css", media_type: "text/css; charset=utf-8", bytes: include_bytes!("pages.css") };

/// What asks the browser for passkeys.
pub(super) static PASSKEYS: Asset = Asset {
    name: "passkeys.js",
    media_type: "text/javascript; charset=utf-8",
    bytes: include_bytes!("passkeys.js"),
};

#[derive(Template)]
#[template(path = "identity/pages/invitation.html")]
struct InvitationPage<'a> {
    css: &'a str,
    token: &'a str,
    name: &'a str,
    fault: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "identity/pages/password.html")]
struct PasswordPage<'a> {
    css: &'a str,
    token: &'a str,
    fault: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "identity/pages/outcome.html")]
struct OutcomePage<'a> {
    css: &'a str,
    title: &'a str,
    text: &'a str,
    failed: bool,
    tenant: Option<&'a str>,
    email: &'a str,
}

#[derive(Template)]
#[template(path = "identity/pages/forgot.html")]
struct ForgotPage<'a> {
    css: &'a str,
}

/// The secret of a link.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PageSecret {
    #[serde(default)]
    token: Option<Text<1, 200>>,
}

impl PageSecret {
    fn token(&self) -> &str {
        self.token.as_ref().map_or("", Text::as_str)
    }
}

/// What the form of an invitation sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InvitationForm {
    token: Secret<String>,
    #[serde(default)]
    name: String,
    password: Secret<String>,
}

/// What the form of a password sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordForm {
    token: Secret<String>,
    password: Secret<String>,
}

const FORM: &str = "As a browser sends it: `application/x-www-form-urlencoded`. What is refused is said on the page, with the status of the API.";

/// What a browser is answered with.
pub(super) enum ShownPage {
    /// A page, with the status of what it tells.
    Page(StatusCode, String),
    /// The path of another page, and the cookies that are others from now on.
    SeeOther(String, Vec<HeaderValue>),
}

impl IntoResponse for ShownPage {
    fn into_response(self) -> Response {
        match self {
            Self::Page(status, html) => (status, Html(html)).into_response(),
            Self::SeeOther(path, cookies) => {
                let mut response = (StatusCode::SEE_OTHER, [(LOCATION, path)]).into_response();
                response.headers_mut().extend(cookies.into_iter().map(|cookie| (SET_COOKIE, cookie)));
                response
            }
        }
    }
}

impl Answer for ShownPage {
    fn describe(outputs: &mut Outputs) {
        Html::<String>::describe(outputs);
        outputs.nothing(303).header(&erp_core::answer::LOCATION);
    }
}

/// The routes of the pages.
pub(super) fn add(routes: Routes) -> Routes {
    registration::add(add_account(add_sign_in(add_links(routes))))
}

fn add_sign_in(routes: Routes) -> Routes {
    routes
        .get("/sign-in", Access::Public, sign_in::show)
        .headers(with_script())
        .refusal(refusal)
        .doc(Operation::new("showSignIn", "Show the form of the sign-in"))
        .post("/sign-in", Access::Public, sign_in::sign_in)
        .headers(with_script())
        .refusal(refusal)
        .limit(&FAILED_SIGN_INS)
        .system(&SIGN_IN)
        .doc(
            Operation::new("signInByForm", "Sign in by the form")
                .about("It leads on with the cookie of a browser's session, or asks for the second factor."),
        )
        .post("/sign-in/passkey", Access::Public, sign_in::sign_in_by_passkey)
        .headers(with_script())
        .refusal(refusal)
        .limit(&FAILED_SIGN_INS)
        .system(&SIGN_IN)
        .doc(Operation::new("signInByPasskeyForm", "Sign in by a passkey alone, by the form").about(FORM))
        .post("/sign-in/code", Access::Public, sign_in::give_code)
        .headers(with_script())
        .refusal(refusal)
        .system(&FACTORS)
        .doc(
            Operation::new("giveCodeByForm", "Finish a sign-in by the form of the second factor").about(FORM),
        )
        .get("/forgot", Access::Public, show_forgot)
        .headers(headers())
        .refusal(refusal)
        .doc(Operation::new("showForgot", "Show the form that asks for a link to set a password"))
        .post("/forgot", Access::Public, forgot)
        .headers(headers())
        .refusal(refusal)
        .limit(&LINKS)
        .system(&PASSWORDS)
        .doc(
            Operation::new("forgotPasswordByForm", "Ask for a link to set a password by the form")
                .about(FORM),
        )
}

/// The account's own pages, each a route for a browser's session.
fn add_account(routes: Routes) -> Routes {
    let routes = routes
        .get("/account", Access::SignedIn, account::show)
        .opens_for(&RequiredAction::ALL)
        .headers(with_script())
        .refusal(refusal)
        .system(&FACTORS)
        .doc(Operation::new("showAccount", "Show one's account"))
        .post("/account/password", Access::SignedIn, account::change_password)
        .opens_for(&[RequiredAction::ChangePassword])
        .limit(&FAILED_SIGN_INS)
        .system(&PASSWORDS);
    let routes = of_account(routes, "changePasswordByForm", "Change one's password by the form")
        .post("/account/factor", Access::SignedIn, account::begin_factor)
        .opens_for(&[RequiredAction::SecondFactor])
        .limit(&FAILED_SIGN_INS)
        .system(&FACTORS);
    let routes = of_account(routes, "enrolTotpByForm", "Begin to set up an authenticator app by the form")
        .post("/account/factor/confirm", Access::SignedIn, account::confirm_factor)
        .opens_for(&[RequiredAction::SecondFactor])
        .system(&FACTORS);
    let routes =
        of_account(routes, "confirmTotpByForm", "Finish setting up an authenticator app by the form")
            .post("/account/prove", Access::SignedIn, account::prove)
            .opens_for(&[RequiredAction::SecondFactor])
            .limit(&FAILED_SIGN_INS)
            .system(&FACTORS);
    let routes = of_account(routes, "stepUpByForm", "Prove again who one is by the form")
        .post("/account/recovery-codes", Access::SignedIn, account::make_recovery_codes)
        .system(&FACTORS);
    let routes = of_account(routes, "makeRecoveryCodesByForm", "Make new recovery codes by the form")
        .post("/account/factor/remove", Access::SignedIn, account::remove_factor)
        .system(&FACTORS);
    let routes = of_account(routes, "removeTotpByForm", "Remove the authenticator app by the form")
        .post("/account/passkeys/{id}/remove", Access::SignedIn, account::remove_passkey)
        .system(&FACTORS);
    let routes = of_account(routes, "removePasskeyByForm", "Remove a passkey by the form")
        .post("/account/sessions/{id}/end", Access::SignedIn, account::end_session)
        .system(&SESSIONS);
    let routes = of_account(routes, "endSessionByForm", "End one of one's own sessions by the form")
        .post("/account/sign-out", Access::SignedIn, account::sign_out)
        .opens_for(&RequiredAction::ALL)
        .system(&SESSIONS);
    let routes = of_account(routes, "signOutByForm", "Sign out by the form")
        .post("/account/switch", Access::SignedIn, account::switch)
        .system(&SESSIONS);
    let routes = of_account(routes, "switchTenantByForm", "Go on in another tenant by the form")
        .post("/account/terms", Access::SignedIn, account::accept_terms)
        .opens_for(&[RequiredAction::AcceptTerms])
        .system(&MEMBERS);
    let routes = of_account(routes, "acceptTermsByForm", "Accept the tenant's terms by the form")
        .post("/account/sign-out-everywhere", Access::SignedIn, account::sign_out_everywhere)
        .opens_for(&RequiredAction::ALL)
        .system(&SESSIONS);
    of_account(routes, "signOutEverywhereByForm", "Sign out of all sessions by the form")
}

/// What the forms of the account have in common.
fn of_account(routes: Routes, id: &'static str, summary: &'static str) -> Routes {
    routes
        .headers(with_script())
        .refusal(refusal)
        .open_to_readers("everybody has an account of their own")
        .doc(Operation::new(id, summary).about(FORM))
}

fn add_links(routes: Routes) -> Routes {
    address::add(routes)
        .get("/invitation", Access::Public, show_invitation)
        .headers(headers())
        .refusal(refusal)
        .doc(Operation::new("showInvitation", "Show the form that accepts an invitation"))
        .post("/invitation", Access::Public, accept)
        .headers(headers())
        .refusal(refusal)
        .limit(&FAILED_SIGN_INS)
        .system(&MEMBERS)
        .doc(Operation::new("acceptInvitationByForm", "Accept an invitation by the form").about(FORM))
        .get("/password", Access::Public, show_password)
        .headers(headers())
        .refusal(refusal)
        .doc(Operation::new("showPassword", "Show the form that sets a password"))
        .post("/password", Access::Public, set_password)
        .headers(headers())
        .refusal(refusal)
        .limit(&LINKS)
        .system(&PASSWORDS)
        .doc(Operation::new("setPasswordByForm", "Set a password by the form").about(FORM))
}

/// Those of the pages that ask the browser for passkeys, by a script of ours and no other.
fn with_script() -> SecurityHeaders {
    SecurityHeaders::json().csp(policy().script_src(["'self'"]).connect_src(["'self'"]))
}

fn headers() -> SecurityHeaders {
    SecurityHeaders::json().csp(policy())
}

fn policy() -> Csp {
    Csp::new()
        .default_src(["'none'"])
        .style_src(["'self'"])
        .img_src(["data:"]) // the QR code of a second factor
        .base_uri(["'none'"])
        .form_action(["'self'"])
        .frame_ancestors(["'none'"])
}

async fn show_invitation(State(app): State<App>, Query(link): Query<PageSecret>) -> Result<ShownPage> {
    let css = css(&app)?;
    page(StatusCode::OK, &InvitationPage { css, token: link.token(), name: "", fault: None })
}

async fn accept(
    State(app): State<App>,
    trace: Trace,
    attempt: Attempt,
    system: System,
    FormBody(form): FormBody<InvitationForm>,
) -> Result<ShownPage> {
    let css = css(&app)?;
    let InvitationForm { token, name, password } = form;
    let acceptance = Acceptance { token: token.clone(), name: Text::parse(&name).ok(), password };
    match invitations::accepted(&app, &trace, &attempt, &system, acceptance).await {
        Ok(joined) => {
            let (title, text) =
                ("Welcome", "You are a member now, and can sign in with these and your password.");
            let (tenant, email) = (Some(joined.tenant.as_str()), joined.email.as_str());
            page(StatusCode::OK, &OutcomePage { css, title, text, failed: false, tenant, email })
        }
        Err(error) if error.code() == &codes::INVITATION_ENDED => ended(css, &error),
        Err(error) => {
            let (status, fault) = told(error)?;
            page(status, &InvitationPage { css, token: token.expose(), name: &name, fault: Some(&fault) })
        }
    }
}

async fn show_password(State(app): State<App>, Query(link): Query<PageSecret>) -> Result<ShownPage> {
    let css = css(&app)?;
    page(StatusCode::OK, &PasswordPage { css, token: link.token(), fault: None })
}

async fn set_password(
    State(app): State<App>,
    trace: Trace,
    system: System,
    FormBody(form): FormBody<PasswordForm>,
) -> Result<ShownPage> {
    let css = css(&app)?;
    let PasswordForm { token, password } = form;
    let reset = Reset { token: token.clone(), password };
    match Box::pin(password_routes::set(&app, &trace, &system, reset)).await {
        Ok(()) => {
            let (title, text) =
                ("Your password is set", "You are signed out everywhere, and can sign in with the new one.");
            page(StatusCode::OK, &OutcomePage { css, title, text, failed: false, tenant: None, email: "" })
        }
        Err(error) if error.code() == &codes::LINK_ENDED => ended(css, &error),
        Err(error) => {
            let (status, fault) = told(error)?;
            page(status, &PasswordPage { css, token: token.expose(), fault: Some(&fault) })
        }
    }
}

async fn show_forgot(State(app): State<App>) -> Result<ShownPage> {
    page(StatusCode::OK, &ForgotPage { css: css(&app)? })
}

async fn forgot(
    State(app): State<App>,
    trace: Trace,
    system: System,
    FormBody(forgotten): FormBody<Forgot>,
) -> Result<ShownPage> {
    let css = css(&app)?;
    password_routes::forgot(State(app.clone()), trace, system, Json(forgotten)).await?;
    let (title, text) = (
        "Look into your mail",
        "If there is such an account, a link is under way to it. It is good for an hour.",
    );
    page(StatusCode::OK, &OutcomePage { css, title, text, failed: false, tenant: None, email: "" })
}

/// A refusal before the page's own work: somebody who is not signed in is led to where they can be.
fn refusal(app: &App, method: &Method, path: &str, error: &Error) -> Response {
    let code = error.code();
    if code.status == 401 {
        return sign_in::wanted(app, if method.is_safe() { path } else { "" }).into_response();
    }
    let status = StatusCode::from_u16(code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = format!("{} {}", error.told(), code.fix);
    let css = css(app).unwrap_or_default();
    let outcome = OutcomePage { css, title: code.title, text: &text, failed: true, tenant: None, email: "" };
    let mut response = page(status, &outcome).into_response();
    if let Some(wait) = error.wait() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

fn css(app: &App) -> Result<&str> {
    app.assets.url(STYLE.name)
}

fn script(app: &App) -> Result<&str> {
    app.assets.url(PASSKEYS.name)
}

/// A link that leads nowhere any more: there is no form to try it with.
fn ended(css: &str, error: &Error) -> Result<ShownPage> {
    let code = error.code();
    let text = format!("{} {}", code.what, code.fix);
    page(
        StatusCode::GONE,
        &OutcomePage { css, title: code.title, text: &text, failed: true, tenant: None, email: "" },
    )
}

/// What is said above the form; a fault of ours, and what tells when to come again, goes the way of all errors.
fn told(error: Error) -> Result<(StatusCode, String)> {
    let code = error.code();
    if code.status >= 500 || code.status == 429 {
        return Err(error);
    }
    let status = StatusCode::from_u16(code.status).map_err(Error::internal)?;
    let violations: Vec<String> =
        error.violations().iter().map(|violation| violation.detail.clone()).collect();
    let said = if violations.is_empty() { error.told().to_owned() } else { violations.join(" ") };
    Ok((status, said))
}

fn page(status: StatusCode, template: &impl Template) -> Result<ShownPage> {
    let html = template.render().map_err(Error::internal)?;
    Ok(ShownPage::Page(status, html))
}
