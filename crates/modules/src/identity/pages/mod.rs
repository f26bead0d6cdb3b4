//! The pages that links in mails lead to: an invitation is accepted and a password is set here, without script.
//!
//! GET shows a form and spends nothing, since programs that look for malware follow links. POST does what the API does, and shows
//! what came of it; what it refuses is said above the form, so that nothing has to be typed twice but the password. The secret in
//! the query is in no log line, and the page tells nobody where its visitor came from (`Referrer-Policy`).

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use erp_core::answer::{Answer, Outputs};
use erp_core::app::App;
use erp_core::assets::Asset;
use erp_core::auth::Trace;
use erp_core::db::System;
use erp_core::error::{Error, Result};
use erp_core::extract::{FormBody, Query};
use erp_core::limits::Attempt;
use erp_core::module::{Access, Csp, Operation, Routes, SecurityHeaders};
use erp_core::shared::{Secret, Text};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::invitations::{self, Acceptance};
use super::password_routes::{self, Reset};
use super::{FAILED_SIGN_INS, LINKS, MEMBERS, PASSWORDS, codes};

/// The style of the pages.
pub(super) static STYLE: Asset =
    Asset { name: "pages.css", media_type: "text/css; charset=utf-8", bytes: include_bytes!("pages.css") };

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

/// A page, with the status of what it tells.
pub(super) struct ShownPage(StatusCode, String);

impl IntoResponse for ShownPage {
    fn into_response(self) -> Response {
        (self.0, Html(self.1)).into_response()
    }
}

impl Answer for ShownPage {
    fn describe(outputs: &mut Outputs) {
        Html::<String>::describe(outputs);
    }
}

/// The routes of the pages.
pub(super) fn add(routes: Routes) -> Routes {
    routes
        .get("/invitation", Access::Public, show_invitation)
        .headers(headers())
        .doc(Operation::new("showInvitation", "Show the form that accepts an invitation"))
        .post("/invitation", Access::Public, accept)
        .headers(headers())
        .limit(&FAILED_SIGN_INS)
        .system(&MEMBERS)
        .doc(Operation::new("acceptInvitationByForm", "Accept an invitation by the form").about(FORM))
        .get("/password", Access::Public, show_password)
        .headers(headers())
        .doc(Operation::new("showPassword", "Show the form that sets a password"))
        .post("/password", Access::Public, set_password)
        .headers(headers())
        .limit(&LINKS)
        .system(&PASSWORDS)
        .doc(Operation::new("setPasswordByForm", "Set a password by the form").about(FORM))
}

fn headers() -> SecurityHeaders {
    let policy = Csp::new()
        .default_src(["'none'"])
        .style_src(["'self'"])
        .base_uri(["'none'"])
        .form_action(["'self'"])
        .frame_ancestors(["'none'"]);
    SecurityHeaders::json().csp(policy)
}

async fn show_invitation(State(app): State<App>, Query(link): Query<PageSecret>) -> Result<ShownPage> {
    let css = app.assets.url(STYLE.name)?;
    page(StatusCode::OK, &InvitationPage { css, token: link.token(), name: "", fault: None })
}

async fn accept(
    State(app): State<App>,
    trace: Trace,
    attempt: Attempt,
    system: System,
    FormBody(form): FormBody<InvitationForm>,
) -> Result<ShownPage> {
    let css = app.assets.url(STYLE.name)?;
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
    let css = app.assets.url(STYLE.name)?;
    page(StatusCode::OK, &PasswordPage { css, token: link.token(), fault: None })
}

async fn set_password(
    State(app): State<App>,
    trace: Trace,
    system: System,
    FormBody(form): FormBody<PasswordForm>,
) -> Result<ShownPage> {
    let css = app.assets.url(STYLE.name)?;
    let PasswordForm { token, password } = form;
    match password_routes::set(&app, &trace, &system, Reset { token: token.clone(), password }).await {
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
    Ok(ShownPage(status, html))
}
