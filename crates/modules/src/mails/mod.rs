//! A tenant's mails, for its people: what was sent to whom, what became of it, and which addresses get none any more.
//!
//! Mails are sent by the core (`erp_core::mailer`); this module has routes only.

mod unsubscribe;

use erp_core::answer::NoContent;
use erp_core::db::AuditEntry;
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::mailer::{MailId, MailRow, MailState};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::{Call, Listable, Listed, Page};
use erp_core::shared::{Id, IdKind, Text};
use erp_core::{choice, from_row, input, list, record, sql};
use jiff::Timestamp;
use serde_json::Value;

/// The mails module.
pub static MODULE: Module = Module {
    name: "mails",
    about: "Mails that were sent to people: what became of them, and which addresses get none any more.",
    permissions: PERMISSIONS,
    system: unsubscribe::SYSTEM,
    routes,
    ..Module::BARE
};

erp_core::permissions! {
    /// The permissions of the mails module.
    pub PERMISSIONS {
        READ = "mails.mail.read" to [Owner]: "List and read the mails that were sent, and the addresses that get none.";
        MANAGE = "mails.suppression.manage" to [Owner]: "Let an address get mail again.";
    }
}

fn routes() -> Routes {
    let may = Access::Permission;
    let routes = Routes::new()
        .get("/api/v1/mails", may(&READ), list)
        .doc(Operation::new("listMails", "List mails").about("The newest first. Each is sent by the job of the same id."))
        .get("/api/v1/mails/{id}", may(&READ), read)
        .doc(Operation::new("readMail", "Read a mail").about(
            "With what it says, until that is removed some while after it was sent. What a confidential mail says, such as a \
             link to set a password, is shown to nobody.",
        ))
        .get("/api/v1/mail-suppressions", may(&READ), list_suppressions)
        .doc(Operation::new("listMailSuppressions", "List the addresses that get no more mail"))
        .delete("/api/v1/mail-suppressions/{id}", may(&MANAGE), remove_suppression)
        .doc(Operation::new("removeMailSuppression", "Let an address get mail again"));
    unsubscribe::add(routes)
}

// The mail of the examples.
const TEMPLATE: &str = "purchasing.approved";
const RECIPIENT: &str = "alice@example.com";

record! {
    /// A mail, without what it says.
    pub MailStatus in "mails" {
        id: MailId,
        #[schemars(example = TEMPLATE)]
        template: String,
        #[schemars(example = RECIPIENT)]
        recipient: String,
        recipient_name: Option<String>,
        /// The language of the mail.
        locale: String,
        subject: String,
        state: MailState,
        /// How often it was tried to send it.
        attempts: i16,
        /// Why it was not sent, or not yet: where the exchange with the mail server failed, and what the server said.
        error: Option<String>,
        message_id: String,
        queued_at: Timestamp,
        /// When it was sent, or was not to be sent any more.
        ended_at: Option<Timestamp>,
    }
}

impl Listable for MailStatus {
    type Kind = MailRow;

    fn id(&self) -> MailId {
        self.id
    }
}

record! {
    /// A mail, with what it says.
    pub WholeMail in "mails" {
        id: MailId,
        #[schemars(example = TEMPLATE)]
        template: String,
        #[schemars(example = RECIPIENT)]
        recipient: String,
        recipient_name: Option<String>,
        /// The language of the mail.
        locale: String,
        subject: String,
        state: MailState,
        /// How often it was tried to send it.
        attempts: i16,
        /// Why it was not sent, or not yet: where the exchange with the mail server failed, and what the server said.
        error: Option<String>,
        message_id: String,
        queued_at: Timestamp,
        /// When it was sent, or was not to be sent any more.
        ended_at: Option<Timestamp>,
        /// What it says, as plain text; none where it is confidential, or was removed.
        text: Option<String>,
        /// The same as HTML, where it has any.
        html: Option<String>,
    }
}

input! {
    /// What a list of mails can be narrowed to.
    Search {
        state: Option<MailState>,
        template: Option<Text<1, 200>>,
    }
}

list! {
    /// Mails in the order in which they were enqueued, the newest first.
    Mails of MailStatus by Search from "mails" sorted [-id]
}

choice! {
    /// Why an address gets no more mail.
    pub SuppressionReason {
        /// The mail server has said that nobody is there: it gets none at all.
        Bounced = "bounced",
        /// Somebody has unsubscribed: it gets none that is promotional.
        Unsubscribed = "unsubscribed",
    }
}

/// An address that gets no more mail.
#[derive(Debug)]
pub enum SuppressionRow {}

impl IdKind for SuppressionRow {
    const NAME: &'static str = "suppression";
}

record! {
    /// An address that gets no more mail.
    pub MailSuppression in "mail_suppressions" {
        id: Id<SuppressionRow>,
        #[schemars(example = RECIPIENT)]
        address: String,
        reason: SuppressionReason,
        /// The mail that has bounced, or by whose link somebody has unsubscribed.
        mail: MailId,
        created_at: Timestamp,
    }
}

impl Listable for MailSuppression {
    type Kind = SuppressionRow;

    fn id(&self) -> Id<SuppressionRow> {
        self.id
    }
}

input! {
    /// What a list of addresses can be narrowed to.
    SuppressionSearch {
        reason: Option<SuppressionReason>,
    }
}

list! {
    /// Addresses that get no more mail, the latest first.
    MailSuppressions of MailSuppression by SuppressionSearch from "mail_suppressions" sorted [-id]
}

/// What is confidential is not read at all.
const READ_ONE: &str = sql![
    "select ",
    WholeMail::COLUMNS,
    " from (select id, template, recipient, recipient_name, locale, subject, state, attempts, error, message_id, queued_at, \
     ended_at, case when not confidential then text end as text, case when not confidential then html end as html \
     from mails) mail where id = $1"
];
const REMOVE: &str = "delete from mail_suppressions where id = $1 returning reason";

struct Removed {
    reason: SuppressionReason,
}
from_row!(Removed { reason });

async fn list(call: Call, page: Page<Mails>) -> Result<Listed<Mails>> {
    call.list(page).await
}

async fn read(call: Call, Path(id): Path<MailId>) -> Result<Json<WholeMail>> {
    let found = call.tenant_read().last().optional(READ_ONE, &[&id]).await?;
    found.map(Json).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

async fn list_suppressions(call: Call, page: Page<MailSuppressions>) -> Result<Listed<MailSuppressions>> {
    call.list(page).await
}

async fn remove_suppression(call: Call, Path(id): Path<Id<SuppressionRow>>) -> Result<NoContent> {
    let mut tx = call.tenant();
    let removed: Option<Removed> = tx.optional(REMOVE, &[&id]).await?;
    let Some(removed) = removed else {
        tx.rollback();
        return Err(Error::new(&core::NOT_FOUND));
    };
    tx.audit(&AuditEntry {
        action: "mail_suppression.removed",
        resource: "mail_suppression",
        resource_id: Some(id.to_string()),
        outcome: "success",
        details: Value::from_iter([("reason", removed.reason.as_str())]),
    })?;
    tx.commit().await?;
    Ok(NoContent)
}
