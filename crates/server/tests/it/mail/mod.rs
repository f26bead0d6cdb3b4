//! Mails, from the request that enqueues one to what a real mail server has of it.

mod dev;
mod secure;
mod sending;

use axum::extract::State;
use erp_core::answer::NoContent;
use erp_core::app::App;
use erp_core::auth::Trace;
use erp_core::db::System;
use erp_core::error::{Error, Result};
use erp_core::extract::{Json, Path};
use erp_core::input;
use erp_core::jobs::{Job, JobKind};
use erp_core::mail::{AnyMailTemplate, MailAddress, MailTemplate, Recipient};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::Call;
use erp_core::shared::TenantId;
use erp_testkit::{Builder, MailServer, TestApp};

static LETTERS: Module =
    Module { name: "letters", routes, mails: TEMPLATES, jobs: &[&WRITE], system: SYSTEM, ..Module::BARE };

erp_core::system_work! {
    /// What the test's module does as the system.
    SYSTEM {
        INVITING = "letters-invite": "Invites somebody who has no account yet, and so is no caller.";
    }
}

/// A job that sends a letter.
static WRITE: JobKind<String> =
    JobKind::<String>::new("letters.write", "Writes to somebody.", |job, to| Box::pin(write(job, to)));

async fn write(job: &Job, to: String) -> Result<()> {
    let mut tx = job.call.tenant();
    let letter = Letter { subject: "From a job".to_owned(), what: "x".to_owned() };
    job.call.mail(&mut tx, &PLAIN, &Recipient::new(to.parse().map_err(Error::internal)?), &letter)?;
    tx.commit().await
}

const TEMPLATES: &[&dyn AnyMailTemplate] = &[&PLAIN, &FULL, &NEWS, &SECRET];

pub(crate) struct Letter {
    subject: String,
    what: String,
}

static PLAIN: MailTemplate<Letter> = erp_core::mail_template!(
    "letters.plain", "Says something as text.", Letter,
    "en": { subject: "{{ mail.subject }}", text: "mail/letters/letter.en.txt" },
);
static FULL: MailTemplate<Letter> = erp_core::mail_template!(
    "letters.full", "Says something as text and HTML.", Letter,
    "en": { subject: "{{ mail.subject }}", text: "mail/letters/letter.en.txt", html: "mail/letters/letter.en.html" },
    "de": { subject: "Zu: {{ mail.subject }}", text: "mail/letters/letter.de.txt" },
);
static NEWS: MailTemplate<Letter> = erp_core::mail_template!(
    "letters.news", "Says something new.", Letter,
    "en": { subject: "{{ mail.subject }}", text: "mail/letters/letter.en.txt", html: "mail/letters/letter.en.html" },
)
.promotional();
static SECRET: MailTemplate<Letter> = erp_core::mail_template!(
    "letters.secret", "Says something to the recipient only.", Letter,
    "en": { subject: "{{ mail.subject }}", text: "mail/letters/letter.en.txt" },
)
.confidential();

input! {
    NewLetter {
        template: String,
        to: MailAddress,
        name: Option<String>,
        locale: Option<String>,
        subject: String,
        what: String,
        dropped: Option<bool>,
    }
}

fn routes() -> Routes {
    Routes::new()
        .post("/test/letters", Access::SignedIn, post)
        .doc(Operation::new("postLetter", "Send a letter"))
        .open_to_readers("it is a test's")
        .post("/test/letters/by-a-job", Access::SignedIn, enqueue)
        .doc(Operation::new("postLetterByJob", "Send a letter by a job"))
        .open_to_readers("it is a test's")
        .post("/test/letters/invitations/{tenant}", Access::Public, invite)
        .system(&INVITING)
        .doc(Operation::new("invite", "Invite somebody"))
}

async fn enqueue(call: Call) -> Result<NoContent> {
    let mut tx = call.tenant();
    call.enqueue(&mut tx, &WRITE, &"job@example.com".to_owned())?;
    tx.commit().await?;
    Ok(NoContent)
}

async fn invite(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Path(tenant): Path<TenantId>,
) -> Result<NoContent> {
    let mut tx = system.begin(&trace).within(tenant).await?;
    let letter = Letter { subject: "Invitation".to_owned(), what: "x".to_owned() };
    let guest = Recipient::new("guest@example.com".parse().map_err(Error::internal)?);
    app.mail_to(&mut tx, &trace, &SECRET, &guest, &letter)?;
    tx.commit().await?;
    Ok(NoContent)
}

async fn post(call: Call, Json(new): Json<NewLetter>) -> Result<NoContent> {
    let mut recipient = Recipient::new(new.to.clone());
    if let Some(name) = &new.name {
        recipient = recipient.named(name);
    }
    if let Some(locale) = &new.locale {
        recipient = recipient.speaks(locale);
    }
    let letter = Letter { subject: new.subject, what: new.what };
    let template = match &*new.template {
        "plain" => &PLAIN,
        "full" => &FULL,
        "news" => &NEWS,
        _ => &SECRET,
    };
    let mut tx = call.tenant();
    call.mail(&mut tx, template, &recipient, &letter)?;
    if new.dropped == Some(true) {
        tx.rollback();
    } else {
        tx.commit().await?;
    }
    Ok(NoContent)
}

/// The product with the test's module and a worker with four slots, whose mails go to this port.
fn working(port: u16) -> Builder {
    TestApp::builder()
        .module(&LETTERS)
        .setting("JOB_WORKERS", "4")
        .setting("SMTP_HOST", "127.0.0.1")
        .setting("SMTP_PORT", &port.to_string())
        .setting("SMTP_TLS", "none")
        .setting("SMTP_FROM", "erp@product.example")
        .setting("SMTP_TIMEOUT", "2s")
}

/// A mail server, and the product that sends through it.
async fn with_server() -> Option<(MailServer, TestApp)> {
    if !MailServer::is_installed("mails to a real server") {
        return None;
    }
    let server = MailServer::start();
    let app = working(server.port()).start().await;
    Some((server, app))
}

/// Waits until `sql` answers true.
async fn until(app: &TestApp, sql: &str) {
    const PICTURE: &str = "select jsonb_build_object('mails', (select jsonb_agg(to_jsonb(m)) from mails m), 'dead',
                (select jsonb_agg(to_jsonb(j)) from job_dead j), 'later', (select jsonb_agg(to_jsonb(j)) from job_scheduled j))";
    app.until(sql, PICTURE).await;
}
