//! The section "Mail".

use std::time::Duration;

use erp_core::answer::NoContent;
use erp_core::error::Result;
use erp_core::extract::Json;
use erp_core::mail::{MailAddress, MailTemplate, Recipient};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::Call;
use erp_core::{input, mail_template};
use erp_testkit::TestApp;
use serde_json::json;
use tokio::time::{Instant, sleep};

pub(crate) struct Overdue {
    invoice: String,
    days: i64,
}

static OVERDUE: MailTemplate<Overdue> = mail_template!(
    "dunning.overdue", "Reminds a customer of an invoice.", Overdue,
    "en": {
        subject: "Invoice {{ mail.invoice }} is overdue",
        text: "dunning/overdue.en.txt",
        html: "dunning/overdue.en.html",
    },
    "de": { subject: "Rechnung {{ mail.invoice }} ist fällig", text: "dunning/overdue.de.txt" },
);

static DUNNING: Module = Module { name: "dunning", mails: &[&OVERDUE], routes, ..Module::BARE };

async fn remind(call: Call, Json(of): Json<Reminder>) -> Result<NoContent> {
    let customer = Recipient::new(of.to).named("Bob Brown").speaks("de-CH");
    let mut tx = call.tenant();
    call.mail(&mut tx, &OVERDUE, &customer, &Overdue { invoice: of.invoice, days: 14 })?;
    tx.commit().await?;
    Ok(NoContent)
}

input! { Reminder { to: MailAddress, invoice: String } }

fn routes() -> Routes {
    Routes::new()
        .post("/test/reminders", Access::SignedIn, remind)
        .doc(Operation::new("remindCustomer", "Remind a customer"))
}

#[tokio::test]
async fn the_module_of_the_section_on_mail_runs() {
    let folder = std::env::temp_dir().join(format!("erp-guide-mail-{}", std::process::id()));
    let data = folder.to_str().unwrap();
    let app = TestApp::builder()
        .module(&DUNNING)
        .setting("JOB_WORKERS", "1")
        .setting("DATA_DIR", data)
        .start()
        .await;
    let reminder = json!({"to": "bob@example.com", "invoice": "R-7"});
    app.alice().post("/test/reminders", reminder).await.assert(204);
    let deadline = Instant::now() + Duration::from_secs(20);
    let sent = loop {
        let mails = app.alice().get("/api/v1/mails?state=sent").await.assert(200).json();
        if let Some(mail) = mails["items"].get(0) {
            break mail.clone();
        }
        assert!(Instant::now() < deadline, "{mails:#}");
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&sent["locale"], &sent["subject"]), (&json!("de"), &json!("Rechnung R-7 ist fällig")));
    let page = app.anonymous().get("/dev/mail").await.assert(200);
    assert!(page.text().contains("Rechnung R-7 ist fällig"), "{page}");
    app.finish().await;
    std::fs::remove_dir_all(folder).unwrap();
}
