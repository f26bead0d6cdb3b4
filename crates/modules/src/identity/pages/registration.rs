//! The page where people register, if their tenant lets them; what came of it stands in their mail.

use askama::Template;
use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Trace;
use erp_core::db::System;
use erp_core::error::Result;
use erp_core::extract::{FormBody, Json, Query};
use erp_core::module::{Access, Operation, Routes};
use erp_core::shared::Text;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::registration::{self, Registration};
use super::super::{LINKS, MEMBERS};
use super::{FORM, OutcomePage, ShownPage, css, headers, page, refusal};

#[derive(Template)]
#[template(path = "identity/pages/registration.html")]
struct RegistrationPage<'a> {
    css: &'a str,
    tenant: &'a str,
}

/// What a link to the page says already.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegistrationQuery {
    /// The tenant's slug.
    #[serde(default)]
    tenant: Option<Text<1, 63>>,
}

/// The routes of the page.
pub(super) fn add(routes: Routes) -> Routes {
    routes
        .get("/register", Access::Public, show)
        .headers(headers())
        .refusal(refusal)
        .doc(Operation::new("showRegistration", "Show the form of those who have no invitation"))
        .post("/register", Access::Public, register)
        .headers(headers())
        .refusal(refusal)
        .limit(&LINKS)
        .system(&MEMBERS)
        .doc(Operation::new("registerByForm", "Register by the form").about(FORM))
}

async fn show(State(app): State<App>, Query(link): Query<RegistrationQuery>) -> Result<ShownPage> {
    let tenant = link.tenant.as_ref().map_or("", Text::as_str);
    page(StatusCode::OK, &RegistrationPage { css: css(&app)?, tenant })
}

async fn register(
    State(app): State<App>,
    trace: Trace,
    system: System,
    FormBody(form): FormBody<Registration>,
) -> Result<ShownPage> {
    let css = css(&app)?;
    registration::register(State(app.clone()), trace, system, Json(form)).await?;
    let (title, text) = (
        "Look into your mail",
        "If the company lets you register with this address, a link is under way to it. Otherwise you need an invitation.",
    );
    page(StatusCode::OK, &OutcomePage { css, title, text, failed: false, tenant: None, email: "" })
}
