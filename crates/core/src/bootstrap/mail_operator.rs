//! What an operator does about mails from a terminal: try the settings out, and as the system's login look across tenants and let
//! mails be sent again. What is done in a tenant stands in that tenant's audit log.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::operator_session::OperatorSession;
use crate::config::Config;
use crate::db::{AuditEntry, TenantTx};
use crate::error::Result;
use crate::from_row;
use crate::lifecycle::{Exit, StartError};
use crate::mail::{Mail, MailAddress, MailOutcome, OutgoingMail, Subject};
use crate::mailer::{MailId, MailState, SEND_MAILS, again};
use crate::metrics::Metrics;
use crate::outbound::{Outbound, OutboundOptions, SystemResolver};
use crate::shared::{Clock, Id, Rng, SystemClock, SystemRng, TenantId};

/// Which mails are meant; what is not given does not narrow.
#[derive(Debug, Clone, Default)]
pub struct MailFilter {
    /// These, whatever else is said.
    pub ids: Vec<MailId>,
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// In this state.
    pub state: Option<MailState>,
    /// Of this template.
    pub template: Option<String>,
    /// At most so many.
    pub limit: i64,
}

impl MailFilter {
    /// Whether it narrows at all.
    pub fn narrows(&self) -> bool {
        !self.ids.is_empty() || self.tenant.is_some() || self.state.is_some() || self.template.is_some()
    }
}

/// A mail, as an operator sees it: not what it says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // they are those of the API, and the columns
pub struct ListedMail {
    pub id: MailId,
    /// The tenant's slug.
    pub tenant: String,
    pub template: String,
    pub recipient: String,
    pub state: MailState,
    pub attempts: i16,
    pub error: Option<String>,
    pub message_id: String,
    pub queued_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}
from_row!(ListedMail {
    id,
    tenant,
    template,
    recipient,
    state,
    attempts,
    error,
    message_id,
    queued_at,
    ended_at
});

/// An address that gets no more mail.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct ListedSuppression {
    /// The tenant's slug.
    pub tenant: String,
    pub address: String,
    pub reason: String,
    pub mail: MailId,
    pub created_at: Timestamp,
}
from_row!(ListedSuppression { tenant, address, reason, mail, created_at });

const LIST: &str = "select m.id, t.slug as tenant, template, recipient, state, attempts, error, message_id, queued_at, ended_at \
     from mails m join tenants t on t.id = m.tenant_id \
     where ($1::uuid is null or m.tenant_id = $1) and ($2::text is null or state = $2) \
     and ($3::text is null or template = $3) and (cardinality($4::uuid[]) = 0 or m.id = any ($4)) \
     order by m.id desc limit $5";
const FIND: &str = "select m.tenant_id, m.id from mails m \
     where ($1::uuid is null or m.tenant_id = $1) and ($2::text is null or state = $2) \
     and ($3::text is null or template = $3) and (cardinality($4::uuid[]) = 0 or m.id = any ($4)) \
     and state in ('held', 'failed', 'suppressed') and text is not null \
     order by m.tenant_id, m.id limit $5";
const AGAIN: &str = "update mails set state = 'queued', ended_at = null, error = null, queued_at = now() \
     where id = any ($1) and state in ('held', 'failed', 'suppressed') and text is not null returning id";
const SUPPRESSED: &str = "select t.slug as tenant, s.address, s.reason, s.mail, s.created_at \
     from mail_suppressions s join tenants t on t.id = s.tenant_id \
     where ($1::uuid is null or s.tenant_id = $1) order by s.id desc limit $2";

struct FoundMail {
    tenant_id: TenantId,
    id: MailId,
}
from_row!(FoundMail { tenant_id, id });

struct MailIdRow {
    id: MailId,
}
from_row!(MailIdRow { id });

/// The mails of all tenants, as an operator reaches them.
pub struct MailOperator {
    session: OperatorSession,
}

impl MailOperator {
    /// Opens the way to the database; nothing is sent before the first question.
    ///
    /// # Errors
    /// `Exit::Configuration` where the URLs cannot be used.
    pub fn open(config: &Config, rng: &dyn Rng) -> Result<Self, StartError> {
        OperatorSession::open(config, rng, &SEND_MAILS).map(|session| Self { session })
    }

    /// Ends what `open` has begun.
    pub async fn close(self) {
        self.session.close().await;
    }

    /// The tenant of a slug, if there is one.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenant(&self, slug: &str) -> Result<Option<TenantId>> {
        self.session.tenant(slug).await
    }

    /// The mails that match, the newest first.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn list(&self, filter: &MailFilter) -> Result<Vec<ListedMail>> {
        let MailFilter { ids, tenant, state, template, limit } = filter;
        self.session.begin().last().rows(LIST, &[tenant, state, template, ids, limit]).await
    }

    /// The addresses that get no more mail, the latest first.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn suppressions(&self, tenant: Option<TenantId>, limit: i64) -> Result<Vec<ListedSuppression>> {
        self.session.begin().last().rows(SUPPRESSED, &[&tenant, &limit]).await
    }

    /// Lets mails that match and were not sent be sent, if what they say is still there; how many. One whose address is suppressed
    /// is suppressed again.
    ///
    /// # Errors
    /// As the database answers; what was done before stays done.
    pub async fn retry(&self, filter: &MailFilter) -> Result<usize> {
        let MailFilter { ids, tenant, state, template, limit } = filter;
        let found: Vec<FoundMail> =
            self.session.begin().last().rows(FIND, &[tenant, state, template, ids, limit]).await?;
        let mut done = 0;
        for of_tenant in found.chunk_by(|one, next| one.tenant_id == next.tenant_id) {
            for batch in of_tenant.chunks(1000) {
                done += self.batch(batch).await?;
            }
        }
        Ok(done)
    }

    async fn batch(&self, batch: &[FoundMail]) -> Result<usize> {
        let Some(tenant) = batch.first().map(|mail| mail.tenant_id) else { return Ok(0) };
        let ids: Vec<MailId> = batch.iter().map(|mail| mail.id).collect();
        let mut tx: TenantTx<'_> = self.session.within(tenant).await?;
        let queued: Vec<MailIdRow> = tx.rows(AGAIN, &[&ids]).await?;
        for mail in &queued {
            again(&mut tx, &self.session.trace, mail.id).await?;
        }
        if !queued.is_empty() {
            tx.audit(&AuditEntry {
                action: "mail.retried",
                resource: "mail",
                resource_id: None,
                outcome: "success",
                details: json!({ "mails": queued.len() }),
            })?;
        }
        tx.commit().await.map(|()| queued.len())
    }
}

/// Sends one mail with these settings, and says what became of it.
///
/// # Errors
/// `Exit::Configuration` where the settings say nothing of a mail server; `Exit::Unavailable` with the stage at which the exchange
/// with it failed, and what to do.
pub async fn try_mail(config: &Config, product: &'static str, to: &MailAddress) -> Result<(), StartError> {
    let metrics = Metrics::new(false);
    let (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>) = (Arc::new(SystemClock), Arc::new(SystemRng::new()));
    let options = OutboundOptions {
        resolver: Arc::new(SystemResolver::default()),
        user_agent: product.to_owned(),
        metrics: metrics.clone(),
        clock: Arc::clone(&clock),
        rng: Arc::clone(&rng),
    };
    let outbound = Outbound::new(config, options)?;
    let refused = |error| StartError::new(Exit::Configuration, "SMTP_FROM is no address").because(error);
    let mail = Mail::new(config, outbound, metrics, BTreeSet::new(), None).map_err(refused)?;
    if config.mail.host.is_none() {
        let message = "SMTP_HOST is not set, so there is no mail server to try";
        return Err(StartError::with_fix(Exit::Configuration, message, "set SMTP_HOST and SMTP_FROM"));
    }
    let id: MailId = Id::new(clock.as_ref(), rng.as_ref());
    let trial = OutgoingMail {
        to: to.clone(),
        to_name: None,
        from_name: Some(product.to_owned()),
        locale: "en".to_owned(),
        subject: Subject::of(&format!("Trial of {product}")),
        text: format!("This mail was sent by '{product} mail test'. Its settings work.\n"),
        html: None,
        unsubscribe: None,
        message_id: format!("{}@{}", id.as_uuid().as_simple(), mail.from().domain()),
        date: clock.now(),
    };
    let outcome = mail
        .send(&id.to_string(), &trial)
        .await
        .map_err(|error| StartError::new(Exit::Internal, "The mail could not be made").because(error))?;
    match outcome {
        MailOutcome::Sent => Ok(()),
        MailOutcome::Held(_) => Err(StartError::with_fix(
            Exit::Configuration,
            format!("In staging no mail is sent to {}", to.domain()),
            "name that domain in OUTBOUND_ALLOW, or try another address",
        )),
        MailOutcome::LeftAlone(_) => Err(StartError::new(Exit::Unavailable, "The mail server is busy")),
        MailOutcome::Failed(fault) => {
            let what = format!("The mail was not sent: {fault}");
            Err(StartError::with_fix(Exit::Unavailable, what, fault.stage.advice()))
        }
    }
}

/// What `mail test --json` prints.
pub fn tried(to: &MailAddress, outcome: &Result<(), StartError>) -> Value {
    json!({ "to": to, "sent": outcome.is_ok(), "failure": outcome.as_ref().err().map(|error| &error.message) })
}
