//! `/dev/mail`: the mails that are files, for a developer. It is there in development only, and only without `SMTP_HOST`.

use askama::Template;
use axum::extract::State;
use axum::response::Html;

use super::MailId;
use crate::app::App;
use crate::error::{Error, Result, codes};
use crate::extract::Path;
use crate::mail::FiledMail;
use crate::module::{Access, Csp, Operation, Routes, SecurityHeaders};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/dev/mail", Access::Management, list)
        .headers(SecurityHeaders::json().csp(policy().style_src(["'self'"])))
        .doc(Operation::new("devMails", "Show the mails that are files"))
        .get("/dev/mail/{id}", Access::Management, one)
        .headers(SecurityHeaders::json().csp(policy().frame_src(["'self'"])))
        .doc(Operation::new("devMail", "Show one of them"))
        .get("/dev/mail/{id}/html", Access::Management, html)
        .headers(framed())
        .doc(Operation::new("devMailHtml", "Show what it says as HTML, for a frame"))
}

/// Nothing but the page itself: no script, and nothing from elsewhere.
fn policy() -> Csp {
    Csp::new()
        .default_src(["'none'"])
        .base_uri(["'none'"])
        .form_action(["'none'"])
        .frame_ancestors(["'none'"])
}

/// A mail has styles within it, and pictures of its own. It is shown in a frame of our page, and nowhere else.
fn framed() -> SecurityHeaders {
    let policy = Csp::new()
        .default_src(["'none'"])
        .style_src(["'unsafe-inline'"])
        .img_src(["data:"])
        .base_uri(["'none'"])
        .form_action(["'none'"])
        .frame_ancestors(["'self'"])
        .directive::<&str>("sandbox", []);
    SecurityHeaders::json()
        .csp(policy)
        .set(http::header::X_FRAME_OPTIONS, http::HeaderValue::from_static("SAMEORIGIN"))
}

#[derive(Template)]
#[template(path = "mailer/dev/list.html")]
struct MailsPage {
    mails: Vec<(String, FiledMail)>,
}

#[derive(Template)]
#[template(path = "mailer/dev/one.html")]
struct MailPage {
    id: MailId,
    mail: FiledMail,
}

async fn list(State(app): State<App>) -> Result<Html<String>> {
    if !app.mail.is_filed() {
        return Err(Error::new(&codes::NOT_FOUND));
    }
    page(&MailsPage { mails: app.mail.filed().await? })
}

async fn one(State(app): State<App>, Path(id): Path<MailId>) -> Result<Html<String>> {
    let mail = filed(&app, id).await?;
    page(&MailPage { id, mail })
}

async fn html(State(app): State<App>, Path(id): Path<MailId>) -> Result<Html<String>> {
    let mail = filed(&app, id).await?;
    mail.html.map(Html).ok_or_else(|| Error::new(&codes::NOT_FOUND))
}

async fn filed(app: &App, id: MailId) -> Result<FiledMail> {
    app.mail.filed_one(&id.to_string()).await.ok_or_else(|| Error::new(&codes::NOT_FOUND))
}

fn page(template: &impl Template) -> Result<Html<String>> {
    template.render().map(Html).map_err(Error::internal)
}
