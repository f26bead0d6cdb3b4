//! The mail that tells an account's owner that somebody tries to get in: one for a run of failures, and not one for each of them.
//!
//! It is sent behind the answer, which is as fast for an account that is not there.

use erp_core::app::App;
use erp_core::auth::Trace;
use erp_core::db::System;
use erp_core::error::{Error, Result, codes as core};
use erp_core::mail::{MailAddress, MailTemplate, Recipient};
use erp_core::{from_row, mail_template};
use jiff::Timestamp;

use super::lock_out::{Notice, account_name};
use super::password_routes::{FIND, Forgetful, NAME, ProfileName};

/// What the mail says.
pub(super) struct FailedTriesMail {
    tenant: String,
    failures: i32,
    since: String,
    locked_out: bool,
}

pub(super) static FAILED_TRIES: MailTemplate<FailedTriesMail> = mail_template!(
    "identity.failed_tries", "Tells somebody that sign-ins to the account fail, once for many.", FailedTriesMail,
    "en": { subject: "Failed sign-ins to your account", text: "identity/mails/failed_tries.en.txt" },
    "de": { subject: "Fehlgeschlagene Anmeldungen", text: "identity/mails/failed_tries.de.txt" },
);

/// At most one a day, but for the one that strangers are shut out from now on.
const TELL: &str = "update auth.sign_in_runs set told_at = now() \
     where key = $1 and failures > 0 and ($2 or told_at is null or told_at < now() - interval '1 day') returning failures, since";

struct ToldRun {
    failures: i32,
    since: Timestamp,
}
from_row!(ToldRun { failures, since });

/// Tells the owner of the account that was typed, if there is one, and does not hold the answer up.
pub(super) fn tell(app: &App, system: &System, trace: &Trace, told: (Notice, String, String)) {
    let work = {
        let (app, system, trace) = (app.clone(), system.clone(), trace.clone());
        async move {
            if let Err(error) = send(&app, &system, &trace, told).await {
                tracing::error!(
                    code = error.code().code,
                    cause = error.cause().map(ToString::to_string),
                    "An account's owner was not told of failed sign-ins"
                );
            }
        }
    };
    drop(app.lifecycle.serve(work)); // it goes on, and the stop waits for it
}

async fn send(
    app: &App,
    system: &System,
    trace: &Trace,
    (notice, tenant, email): (Notice, String, String),
) -> Result<()> {
    let mut tx = match system.within(trace, &tenant).await {
        Err(error) if error.code() == &core::NOT_FOUND => return Ok(()),
        found => found?,
    };
    let Some(found): Option<Forgetful> = tx.optional(FIND, &[&email]).await? else { return Ok(()) };
    let locked_out = notice == Notice::LockedOut;
    let run = account_name(app, &tenant, &email);
    let told: Option<ToldRun> = tx.optional(TELL, &[&run, &locked_out]).await?;
    let Some(ToldRun { failures, since }) = told else { return Ok(()) };
    let ProfileName { name } = tx.row(NAME, &[&found.tenant_id]).await?;
    let since = since.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let mail = FailedTriesMail { tenant: name, failures, since, locked_out };
    let address: MailAddress = found.email.parse().map_err(Error::internal)?;
    app.mail_to(&mut tx, trace, &FAILED_TRIES, &Recipient::new(address), &mail)?;
    tx.commit().await
}
