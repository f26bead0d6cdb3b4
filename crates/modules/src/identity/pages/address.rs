//! The pages of a changed address: the new one confirms it, and the old one takes it back, each by a button.

use askama::Template;
use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Trace;
use erp_core::db::System;
use erp_core::error::Result;
use erp_core::extract::{FormBody, Query};
use erp_core::module::{Access, Operation, Routes};
use erp_core::shared::Secret;
use http::StatusCode;
use serde::Deserialize;

use super::super::{ADDRESSES, LINKS, address_change, codes};
use super::{FORM, OutcomePage, PageSecret, ShownPage, css, ended, headers, page, refusal, told};

#[derive(Template)]
#[template(path = "identity/pages/address.html")]
struct AddressPage<'a> {
    css: &'a str,
    title: &'a str,
    text: &'a str,
    action: &'a str,
    token: &'a str,
    fault: Option<&'a str>,
}

/// What the forms send.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddressForm {
    token: Secret<String>,
}

const CONFIRM: [&str; 3] =
    ["Use this address", "From then on you sign in with it. The address before is told.", "/address"];
const UNDO: [&str; 3] = [
    "Take the address back",
    "The account is signed out everywhere, and its password is taken away: set a new one by a link to this address.",
    "/address/undo",
];

/// The routes of the pages.
pub(super) fn add(routes: Routes) -> Routes {
    routes
        .get("/address", Access::Public, show_confirm)
        .headers(headers())
        .refusal(refusal)
        .doc(Operation::new("showAddress", "Show the form that confirms a new address"))
        .post("/address", Access::Public, confirm)
        .headers(headers())
        .refusal(refusal)
        .limit(&LINKS)
        .system(&ADDRESSES)
        .doc(Operation::new("confirmAddressByForm", "Confirm a new address by the form").about(FORM))
        .get("/address/undo", Access::Public, show_undo)
        .headers(headers())
        .refusal(refusal)
        .doc(Operation::new("showAddressUndo", "Show the form that takes an address back"))
        .post("/address/undo", Access::Public, undo)
        .headers(headers())
        .refusal(refusal)
        .limit(&LINKS)
        .system(&ADDRESSES)
        .doc(Operation::new("undoAddressByForm", "Take an address back by the form").about(FORM))
}

async fn show_confirm(State(app): State<App>, Query(link): Query<PageSecret>) -> Result<ShownPage> {
    show(&app, CONFIRM, link.token(), StatusCode::OK, None)
}

async fn show_undo(State(app): State<App>, Query(link): Query<PageSecret>) -> Result<ShownPage> {
    show(&app, UNDO, link.token(), StatusCode::OK, None)
}

async fn confirm(
    State(app): State<App>,
    trace: Trace,
    system: System,
    FormBody(form): FormBody<AddressForm>,
) -> Result<ShownPage> {
    let done = address_change::confirmed(&app, &trace, &system, &form.token).await;
    outcome(&app, CONFIRM, &form.token, done)
}

async fn undo(
    State(app): State<App>,
    trace: Trace,
    system: System,
    FormBody(form): FormBody<AddressForm>,
) -> Result<ShownPage> {
    let done = address_change::undone(&app, &trace, &system, &form.token).await;
    outcome(&app, UNDO, &form.token, done)
}

fn outcome(app: &App, of: [&str; 3], token: &Secret<String>, done: Result<()>) -> Result<ShownPage> {
    let css = css(app)?;
    match done {
        Ok(()) => {
            let text = "It is done.";
            page(
                StatusCode::OK,
                &OutcomePage { css, title: of[0], text, failed: false, tenant: None, email: "" },
            )
        }
        Err(error) if error.code() == &codes::LINK_ENDED => ended(css, &error),
        Err(error) => {
            let (status, fault) = told(error)?;
            show(app, of, token.expose(), status, Some(&fault))
        }
    }
}

fn show(
    app: &App,
    [title, text, action]: [&str; 3],
    token: &str,
    status: StatusCode,
    fault: Option<&str>,
) -> Result<ShownPage> {
    let css = css(app)?;
    page(status, &AddressPage { css, title, text, action, token, fault })
}
