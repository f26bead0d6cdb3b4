//! The job that sends one mail, and the one that removes what old ones have said.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::enqueue::{MailId, MailRow};
use super::{SEND_MAILS, unsubscribe};
use crate::app::MAILS_SENT;
use crate::error::{Error, Result};
use crate::jobs::{Job, JobKind, backoff, give_up, jittered};
use crate::mail::{MailFate, MailOutcome, OutgoingMail, SmtpFault, Subject};
use crate::shared::Id;
use crate::{choice, from_row};

/// What the job is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct MailJob {
    pub(super) mail: MailId,
}

/// Sends one mail. Where the mail server cannot take it now, the job is put off, for four days in all: as long as mail servers
/// themselves try (RFC 5321, 4.5.4.1).
pub(super) static SEND: JobKind<MailJob> =
    JobKind::<MailJob>::new("mail.send", "Sends a mail to its recipient.", |job, MailJob { mail }| {
        Box::pin(send(job, mail))
    })
    .system(&SEND_MAILS)
    .time_limit(std::time::Duration::from_secs(600));

/// Removes what mails have said, some while after.
pub(super) static FORGET: JobKind<()> = JobKind::<()>::new(
    "mail.forget",
    "Removes what mails have said that were sent `MAIL_RETENTION_DAYS` ago.",
    |job, ()| Box::pin(forget(job)),
)
.system(&SEND_MAILS)
.unhurried();

choice! {
    /// What has become of a mail.
    pub MailState {
        /// It is to be sent.
        Queued = "queued",
        /// The mail server has taken it.
        Sent = "sent",
        /// It is not to be sent from here: there is no mail server, or in staging the recipient is not on `OUTBOUND_ALLOW`.
        Held = "held",
        /// The mail server has refused it for good, or it was tried for days.
        Failed = "failed",
        /// Nobody is there, or does not want it.
        Suppressed = "suppressed",
    }
}

/// What the job has resulted in.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailResult {
    /// What has become of the mail.
    pub outcome: MailState,
    /// Why, where it was not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A mail, as it is read to be sent.
struct StoredMail {
    template: String,
    recipient: String,
    recipient_name: Option<String>,
    locale: String,
    subject: String,
    text: Option<String>,
    html: Option<String>,
    promotional: bool,
    message_id: String,
    state: MailState,
    queued_at: Timestamp,
    attempts: i16,
    is_old: bool,
    suppressed: Option<String>,
}
from_row!(StoredMail {
    template,
    recipient,
    recipient_name,
    locale,
    subject,
    text,
    html,
    promotional,
    message_id,
    state,
    queued_at,
    attempts,
    is_old,
    suppressed,
});

const READ: &str = "select template, recipient, recipient_name, locale, subject, text, html, promotional, message_id, state, \
     queued_at, attempts, now() - queued_at > interval '4 days' as is_old, \
     (select min(s.reason) from mail_suppressions s where s.address = lower(m.recipient) \
        and (s.reason = 'bounced' or m.promotional)) as suppressed \
     from mails m where id = $1";
/// Says what has become of a mail. What is confidential is removed with that.
const END: &str = "update mails set state = $2, attempts = $3, error = $4, ended_at = now(), \
     text = case when confidential and $2 <> 'held' then null else text end, \
     html = case when confidential and $2 <> 'held' then null else html end \
     where id = $1";
const TRIED: &str = "update mails set attempts = $2, error = $3 where id = $1";
const SUPPRESS: &str = "insert into mail_suppressions (id, address, reason, mail) values ($1, lower($2), 'bounced', $3) \
     on conflict do nothing";
const FORGET_SOME: &str = "update mails set text = null, html = null where id in (select id from mails \
     where text is not null and ended_at < now() - $1 * interval '1 day' limit 1000) returning id";
/// A mail whose job is gone: somebody has cancelled or discarded it.
const GIVE_UP_LOST: &str = "update mails m set state = 'failed', error = 'job gone', ended_at = now() \
     where state = 'queued' and queued_at < now() - interval '1 hour' \
     and not exists (select from job_ready j where j.id = m.id) and not exists (select from job_scheduled j where j.id = m.id) \
     and not exists (select from job_running j where j.id = m.id) and not exists (select from job_dead j where j.id = m.id)";

/// What a tenant calls itself.
struct TenantName {
    name: String,
}
from_row!(TenantName { name });

async fn send(job: &Job, id: MailId) -> Result<()> {
    let found: Option<StoredMail> = job.call.tenant_read().last().optional(READ, &[&id]).await?;
    let mail = found.ok_or_else(|| give_up("The mail is not there any more."))?;
    if mail.state == MailState::Sent {
        return job.result(&MailResult { outcome: MailState::Sent, reason: None });
    }
    if let Some(reason) = &mail.suppressed {
        return end(job, id, &mail, 0, MailState::Suppressed, Some(reason.clone())).await;
    }
    let outgoing = outgoing(job, id, &mail).await?;
    match job.call.app.mail.send(&id.to_string(), &outgoing).await? {
        MailOutcome::Sent => {
            let delay = job.call.now().duration_since(mail.queued_at).as_secs_f64();
            job.call.app.count_usage(job.call.caller.tenant(), &MAILS_SENT);
            job.call.app.metrics.mail_delay_seconds.with(&[]).observe(delay.max(0.0));
            end(job, id, &mail, 1, MailState::Sent, None).await
        }
        MailOutcome::Held(why) => end(job, id, &mail, 0, MailState::Held, Some(why.to_owned())).await,
        MailOutcome::LeftAlone(wait) => {
            job.put_off(jittered(wait, job.call.app.rng.as_ref())); // it was not tried
            Ok(())
        }
        MailOutcome::Failed(fault) => failed(job, id, &mail, &outgoing, fault).await,
    }
}

async fn outgoing(job: &Job, id: MailId, mail: &StoredMail) -> Result<OutgoingMail> {
    let gone = || give_up("What the mail says was removed, since it is so old.");
    let from_name = match job.call.app.mail.sender_name {
        Some(sql) => {
            job.call.tenant_read().last().optional::<TenantName>(sql, &[]).await?.map(|tenant| tenant.name)
        }
        None => None,
    };
    let link = unsubscribe::link(&job.call.app, job.call.caller.tenant(), id.as_uuid());
    Ok(OutgoingMail {
        to: mail.recipient.parse().map_err(Error::internal)?,
        to_name: mail.recipient_name.clone(),
        from_name,
        locale: mail.locale.clone(),
        subject: Subject::of(&mail.subject),
        text: mail.text.clone().ok_or_else(gone)?,
        html: mail.html.clone(),
        unsubscribe: if mail.promotional { link } else { None },
        message_id: mail.message_id.clone(),
        date: mail.queued_at,
    })
}

/// The exchange has failed: what the server said decides whether it is tried again.
async fn failed(
    job: &Job,
    id: MailId,
    mail: &StoredMail,
    outgoing: &OutgoingMail,
    fault: SmtpFault,
) -> Result<()> {
    let class = fault.class();
    if let MailFate::Refused { suppress } = fault.fate() {
        tracing::info!(mail = %id, failure = class, "The mail server has refused a mail for good");
        if suppress {
            let row: Id<MailRow> = job.call.new_id();
            let address = outgoing.to.to_string();
            let mut tx = job.call.tenant();
            let _: Vec<()> = tx.rows(SUPPRESS, &[&row, &address, &id]).await?;
            tx.commit().await?;
        }
        return end(job, id, mail, 1, MailState::Failed, Some(class)).await;
    }
    if fault.is_configuration() {
        let advice = fault.stage.advice();
        tracing::error!(failure = class, advice, "No mail can be sent with these settings, or this server");
    } else {
        tracing::warn!(mail = %id, failure = class, "A mail could not be sent, and is tried again");
    }
    if mail.is_old {
        return end(job, id, mail, 1, MailState::Failed, Some(class)).await;
    }
    let _: Vec<()> = job.call.tenant().last().rows(TRIED, &[&id, &(mail.attempts + 1), &class]).await?;
    job.call.app.metrics.mails_sent_total.with(&[&mail.template, "retried"]).inc();
    job.put_off(backoff(u32::from(mail.attempts.unsigned_abs()), job.call.app.rng.as_ref()));
    Ok(())
}

/// Writes what has become of the mail after so many more attempts, in the transaction that completes the job.
async fn end(
    job: &Job,
    id: MailId,
    mail: &StoredMail,
    more: i16,
    state: MailState,
    reason: Option<String>,
) -> Result<()> {
    let attempts = mail.attempts + more;
    let _: Vec<()> = job.call.tenant().last().rows(END, &[&id, &state, &attempts, &reason]).await?;
    let outcome = match state {
        MailState::Failed if mail.is_old => "given_up",
        MailState::Failed => "refused",
        _ => state.as_str(),
    };
    job.call.app.metrics.mails_sent_total.with(&[&mail.template, outcome]).inc();
    job.result(&MailResult { outcome: state, reason })
}

async fn forget(job: &Job) -> Result<()> {
    let days = f64::from(job.call.app.config.mail.retention_days);
    let mut total = 0;
    let _: Vec<()> = job.call.tenant().last().rows(GIVE_UP_LOST, &[]).await?;
    loop {
        let gone: Vec<()> = job.call.tenant().last().rows(FORGET_SOME, &[&days]).await?;
        total += gone.len() as u64;
        job.keep(&total).await?;
        if gone.is_empty() {
            return job.result(&total);
        }
    }
}
