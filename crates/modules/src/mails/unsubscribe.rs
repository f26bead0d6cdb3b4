//! Unsubscribing with one click (RFC 8058): by the link in a promotional mail, for which nobody needs an account.
//!
//! GET shows a button and changes nothing, since programs that look for malware follow links. POST is what the button does, and what
//! mail programs send by themselves; the link is all that it needs.

use axum::extract::State;
use axum::response::Html;
use erp_core::app::App;
use erp_core::auth::Trace;
use erp_core::db::{AuditEntry, System};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::Path;
use erp_core::mailer::unsubscribing;
use erp_core::module::{Access, Csp, Operation, Routes, SecurityHeaders};
use erp_core::shared::Id;
use serde_json::Value;

use super::SuppressionRow;

erp_core::system_work! {
    /// What this module does as the system.
    pub(super) SYSTEM {
        UNSUBSCRIBE = "unsubscribe": "Notes that somebody wants no more promotional mail of a tenant; who has the link needs no account.";
    }
}

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .get("/unsubscribe/{token}", Access::Public, ask)
        .headers(page())
        .doc(Operation::new("askToUnsubscribe", "Show a button to unsubscribe"))
        .post("/unsubscribe/{token}", Access::Public, unsubscribe)
        .headers(page())
        .system(&UNSUBSCRIBE)
        .doc(Operation::new("unsubscribe", "Unsubscribe from promotional mails").about(
            "As mail programs do it (RFC 8058): the link is all that it needs, and the body is not read.",
        ))
}

fn page() -> SecurityHeaders {
    let policy = Csp::new()
        .default_src(["'none'"])
        .base_uri(["'none'"])
        .form_action(["'self'"])
        .frame_ancestors(["'none'"]);
    SecurityHeaders::json().csp(policy)
}

const ASK: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
    content=\"width=device-width\">\n<title>Unsubscribe</title>\n<h1>Unsubscribe</h1>\n<form method=\"post\">\n\
    <button name=\"List-Unsubscribe\" value=\"One-Click\">Send me no more of these mails</button>\n</form>\n</html>\n";
const DONE: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
    content=\"width=device-width\">\n<title>Unsubscribed</title>\n<h1>Unsubscribed</h1>\n<p>You will get no more of these \
    mails.</p>\n</html>\n";

const SUPPRESS: &str = "insert into mail_suppressions (id, address, reason, mail) \
     select $1, lower(recipient), 'unsubscribed', id from mails where id = $2 and promotional on conflict do nothing returning id";

async fn ask(State(app): State<App>, Path(token): Path<String>) -> Result<Html<&'static str>> {
    unsubscribing(&app, &token).map(|_| Html(ASK)).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

async fn unsubscribe(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Path(token): Path<String>,
) -> Result<Html<&'static str>> {
    let (tenant, mail) = unsubscribing(&app, &token).ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let id: Id<SuppressionRow> = Id::new(app.clock.as_ref(), app.rng.as_ref());
    let mut tx = system.begin(&trace).within(tenant).await?;
    let noted: Option<()> = tx.optional(SUPPRESS, &[&id, &mail]).await?;
    if noted.is_some() {
        tx.audit(&AuditEntry {
            action: "mail.unsubscribed",
            resource: "mail",
            resource_id: Some(mail.to_string()),
            outcome: "success",
            details: Value::Null,
        })?;
    }
    tx.commit().await?;
    Ok(Html(DONE))
}
