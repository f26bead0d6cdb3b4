//! Mails: what is sent to people.
//!
//! A module brings templates ([`MailTemplate`]), and a handler fills one in: `call.mail(&mut tx, &APPROVED, &recipient, &data)?`.
//! The mail commits or vanishes with the transaction, and the job of the same id sends it (`mailer`). This is what both are
//! made of: addresses and subjects that hold no line break, templates, the bytes of a mail, and the way to the mail server.

mod address;
mod compose;
mod dial;
mod fault;
mod folder;
mod smtp;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

/// What the macro [`mail_template!`](crate::mail_template) is made with.
#[doc(hidden)]
pub use askama;

pub use address::{InvalidAddress, Locale, MailAddress, Recipient, Subject};
pub use compose::OutgoingMail;
pub use fault::{MailFate, SmtpFault, SmtpFaultKind, SmtpReply, SmtpStage};
pub use folder::FiledMail;
pub use template::{AnyMailTemplate, MailFacts, MailPart, MailTemplate, MailVariant, RenderedMail};

use crate::config::{AllowedHosts, Config, Environment};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use folder::MailFolder;
use smtp::{MailServer, NotSent};

/// The sender where `SMTP_FROM` is not set, and no mail leaves.
const NOBODY: &str = "erp@localhost";

/// How this process sends mail.
pub struct Mail {
    way: MailWay,
    from: MailAddress,
    environment: Environment,
    allow: Option<AllowedHosts>,
    /// The names of the templates of all modules.
    pub(crate) templates: BTreeSet<&'static str>,
    /// The statement that tells what the current tenant calls itself.
    pub(crate) sender_name: Option<&'static str>,
}

enum MailWay {
    Server(Box<MailServer>),
    Folder(MailFolder),
    Nowhere,
}

/// What became of a mail that was to be sent.
#[derive(Debug)]
pub enum MailOutcome {
    /// The mail server has taken it, or it is a file now.
    Sent,
    /// It is not to be sent from here: there is no mail server, or the recipient's domain is not on `OUTBOUND_ALLOW`.
    Held(&'static str),
    /// The exchange with the mail server failed; [`SmtpFault::fate`] says what becomes of the mail.
    Failed(SmtpFault),
    /// The mail server is left alone, or busy: so long is to be waited.
    LeftAlone(Duration),
}

impl Mail {
    /// The way that the settings say.
    ///
    /// # Errors
    /// Where `SMTP_FROM` is no address, which the settings have refused before.
    pub(crate) fn new(
        config: &Config,
        outbound: Outbound,
        metrics: Metrics,
        templates: BTreeSet<&'static str>,
        sender_name: Option<&'static str>,
    ) -> Result<Self> {
        let environment = config.process.app_env;
        let way = match MailServer::new(&config.mail, outbound, metrics) {
            Some(server) => MailWay::Server(Box::new(server)),
            None if environment == Environment::Development => {
                MailWay::Folder(MailFolder::new(&config.process.data_dir))
            }
            None => MailWay::Nowhere,
        };
        let from = config.mail.from.as_deref().unwrap_or(NOBODY).parse().map_err(Error::internal)?;
        Ok(Self { way, from, environment, allow: config.outbound.allow.clone(), templates, sender_name })
    }

    /// Says so where modules send mails, and none will leave.
    pub(crate) fn warn_if_held(&self) {
        if matches!(self.way, MailWay::Nowhere) && !self.templates.is_empty() {
            tracing::warn!(
                "SMTP_HOST is not set, so no mail is sent, and mails are recorded as held: set SMTP_HOST and SMTP_FROM"
            );
        }
    }

    /// Whether mails become files.
    pub fn is_filed(&self) -> bool {
        matches!(self.way, MailWay::Folder(_))
    }

    /// The sender's address.
    pub fn from(&self) -> &MailAddress {
        &self.from
    }

    /// Sends a mail.
    ///
    /// # Errors
    /// `core.internal` for a mail that cannot be made into bytes, or written as a file.
    pub async fn send(&self, id: &str, mail: &OutgoingMail) -> Result<MailOutcome> {
        if !self.reaches(&mail.to) {
            return Ok(MailOutcome::Held("not_on_outbound_allow"));
        }
        let bytes = mail.bytes(&self.from).map_err(Error::internal)?;
        match &self.way {
            MailWay::Nowhere => Ok(MailOutcome::Held("no_smtp_host")),
            MailWay::Folder(folder) => {
                folder.write(id, mail, &bytes).await.map_err(Error::internal)?;
                Ok(MailOutcome::Sent)
            }
            MailWay::Server(server) => Ok(match server.send(&self.from, &mail.to, &bytes).await {
                Ok(()) => MailOutcome::Sent,
                Err(NotSent::Failed(fault)) => MailOutcome::Failed(fault),
                Err(NotSent::LeftAlone(wait)) => MailOutcome::LeftAlone(wait),
            }),
        }
    }

    /// Whether mail goes to this address: in staging only to the domains of `OUTBOUND_ALLOW`.
    fn reaches(&self, address: &MailAddress) -> bool {
        self.environment != Environment::Staging
            || self.allow.as_ref().is_some_and(|hosts| hosts.names(address.domain()))
    }

    /// Whether the mail server answers, as it was at most 30 s ago; `Ok` where there is none.
    ///
    /// # Errors
    /// Says at which stage it failed.
    pub async fn probe(&self) -> Result<(), String> {
        match &self.way {
            MailWay::Server(server) => server.probe(&self.from).await,
            MailWay::Folder(_) | MailWay::Nowhere => Ok(()),
        }
    }

    /// The mails that are files, the newest first, with their names.
    ///
    /// # Errors
    /// `core.internal` where the folder cannot be read.
    pub async fn filed(&self) -> Result<Vec<(String, FiledMail)>> {
        match &self.way {
            MailWay::Folder(folder) => folder.list().await.map_err(Error::internal),
            MailWay::Server(_) | MailWay::Nowhere => Ok(Vec::new()),
        }
    }

    /// One of them.
    pub async fn filed_one(&self, name: &str) -> Option<FiledMail> {
        match &self.way {
            MailWay::Folder(folder) => folder.read(name).await,
            MailWay::Server(_) | MailWay::Nowhere => None,
        }
    }
}
