use uuid::Uuid;

use super::send::{MailJob, SEND};
use super::{mail_codes, unsubscribe};
use crate::app::App;
use crate::auth::Trace;
use crate::db::{NewMail, TenantTx};
use crate::error::{Error, Result};
use crate::jobs::{JobId, job_of_system, system_job};
use crate::mail::{AnyMailTemplate as _, MailTemplate, Recipient};
use crate::resource::Call;
use crate::shared::{Id, IdKind};

/// The most bytes that a mail says, text and HTML together.
const MOST_BYTES: usize = 256 * 1024;

/// The id of a mail, which is that of its job too.
pub type MailId = Id<MailRow>;

/// See [`MailId`].
#[derive(Debug)]
pub enum MailRow {}

impl IdKind for MailRow {
    const NAME: &'static str = "mail";
}

impl Call {
    /// Adds a mail to the transaction: it commits or vanishes with it, costs no round trip of its own, and is sent by a job after
    /// the commit. It is filled in here and now.
    ///
    /// ```no_run
    /// # use erp_core::{error::Result, mail::{MailTemplate, Recipient}, resource::Call};
    /// # pub struct Overdue { invoice: String }
    /// # static OVERDUE: MailTemplate<Overdue> = erp_core::mail_template!("billing.overdue", "Reminds.", Overdue,
    /// #     "en": { subject: "Invoice", text: "mail/example/overdue.en.txt" });
    /// # async fn remind(call: Call, customer: Recipient, invoice: String) -> Result<()> {
    /// let mut tx = call.tenant();
    /// call.mail(&mut tx, &OVERDUE, &customer, &Overdue { invoice })?;
    /// tx.commit().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// `mail.too_large` for one that says more than 256 KiB; `jobs.backlog_full` while the tenant has as many waiting jobs as it
    /// may have.
    pub fn mail<D: 'static>(
        &self,
        tx: &mut TenantTx<'_>,
        template: &'static MailTemplate<D>,
        recipient: &Recipient,
        data: &D,
    ) -> Result<MailId> {
        self.app.mail_to(tx, self.caller.trace(), template, recipient, data)
    }
}

impl App {
    /// The same for work of the system, in a transaction that has gone within a tenant.
    ///
    /// # Errors
    /// As [`Call::mail`].
    pub fn mail_to<D: 'static>(
        &self,
        tx: &mut TenantTx<'_>,
        trace: &Trace,
        template: &'static MailTemplate<D>,
        recipient: &Recipient,
        data: &D,
    ) -> Result<MailId> {
        let facts = template.facts();
        if !self.mail.templates.contains(facts.name) {
            let fix = "add it there, as `mails: &[&TEMPLATE]`";
            return Err(Error::internal(format!("the mail '{}' is in no module's row: {fix}", facts.name)));
        }
        let tenant = tx.tenant().ok_or_else(|| Error::internal("a mail is sent within a tenant"))?;
        let id: JobId = Id::new(self.clock.as_ref(), self.rng.as_ref());
        let mut filled = template.render(&recipient.locale, data).map_err(Error::internal)?;
        if facts.promotional {
            let base = || Error::internal("a promotional mail has a link to unsubscribe by: set PUBLIC_URL");
            let url = unsubscribe::link(self, tenant, id.as_uuid()).ok_or_else(base)?;
            filled.add_unsubscribe(&url);
        }
        let bytes = filled.text.len() + filled.html.as_ref().map_or(0, String::len);
        if bytes > MOST_BYTES {
            let what = format!("'{}' says {bytes} bytes, of at most {MOST_BYTES}", facts.name);
            return Err(Error::new(&mail_codes::TOO_LARGE).because(what));
        }
        let mail = MailJob { mail: Id::from_uuid(*id.as_uuid()) };
        let job = system_job(self, tenant, trace, &SEND, id, &mail)?;
        let new = NewMail {
            id: *id.as_uuid(),
            template: facts.name,
            recipient: recipient.address.to_string(),
            recipient_name: recipient.name.clone(),
            locale: filled.locale,
            subject: filled.subject.as_str().to_owned(),
            text: filled.text,
            html: filled.html,
            promotional: facts.promotional,
            confidential: facts.confidential,
            message_id: message_id(id.as_uuid(), self.mail.from().domain()),
        };
        tx.add_mail(new, job);
        Ok(mail.mail)
    }
}

/// Enqueues the job of a mail once more; one that is dead is the same one.
pub(crate) async fn again(tx: &mut TenantTx<'_>, trace: &Trace, mail: MailId) -> Result<()> {
    let _: Vec<()> = tx.rows("delete from job_dead where id = $1", &[&mail]).await?;
    tx.add_job(job_of_system(trace, &SEND, Id::from_uuid(*mail.as_uuid()), &MailJob { mail })?);
    Ok(())
}

/// The same for each attempt: a mail that is sent again after a crash is known as the same one.
fn message_id(id: &Uuid, domain: &str) -> String {
    format!("{}@{domain}", id.as_simple())
}
