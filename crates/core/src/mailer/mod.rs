//! Sends the mails that requests, jobs and the system have enqueued, each by a job of its own.
//!
//! What a mail says is filled in where it is enqueued, so that what is wrong with it is the request's error, and that it says what
//! was true then. Whether it is still wanted is looked at when it is sent.

mod dev;
mod enqueue;
mod send;
mod unsubscribe;

use std::time::Duration;

use crate::error_codes;
use crate::jobs::Schedule;
use crate::module::{Module, Probe};

pub(crate) use enqueue::again;
pub use enqueue::{MailId, MailRow};
pub use send::{MailResult, MailState};
pub use unsubscribe::base as link_base;
pub use unsubscribe::unsubscribing;

error_codes! {
    /// What enqueuing mails is refused with.
    pub MAIL_ERRORS in mail_codes {
        TOO_LARGE = "mail.too_large", 500, "Mail too large";
            "A mail says more than 256 KiB.";
            "A fault of the module: it sends a link to what is large.";
    }
}

crate::system_work! {
    /// What is done about mails as the system.
    pub(crate) SYSTEM {
        SEND_MAILS = "mail": "Sends mails, and removes what they have said; they are sent whatever becomes of those who gave rise to them.";
    }
}

/// The core's part in mails, as a module: what sends them. Routes on mails are the module `mails`'s.
pub(crate) static MAIL: Module = Module {
    name: "mail",
    about: "Mails to people.",
    errors: MAIL_ERRORS,
    routes: dev::routes,
    jobs: &[&send::SEND, &send::FORGET],
    schedules: NIGHTLY,
    system: SYSTEM,
    probes: &[SMTP],
    ..Module::BARE
};

const NIGHTLY: &[&Schedule] = &[&Schedule::for_each_tenant(
    "mail.forget",
    "Removes what mails have said that were sent `MAIL_RETENTION_DAYS` ago.",
    "50 3 * * *",
    &send::FORGET,
    &(),
)];

/// The mail server. Requests are served without it.
const SMTP: Probe = Probe {
    name: "smtp",
    required: false,
    timeout: Duration::from_secs(10),
    check: |app| Box::pin(async { app.mail.probe().await.map_err(crate::error::Error::internal) }),
};
