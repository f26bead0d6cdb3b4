//! Subjects of personal data: what is held of one is exported, and who was forgotten stays forgotten. The ledger of erasures outlives a
//! restore of the database, and a database that has not carried out all of it is not ready.

mod export;

use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Trace;
use crate::db::{System, TenantTx};
use crate::error::{Error, Result};
use crate::from_row;
use crate::module::{Module, Probe};
pub use export::export_subject;

crate::system_work! {
    /// What is compared as the system.
    SYSTEM {
        COMPARE_LEDGER = "erasure-ledger": "Compares the ledger of erasures with those that this database has carried out: a restored backup lacks some.";
    }
}

/// The core's part in erasures, as a module like any other.
pub(crate) static ERASURES: Module = Module {
    name: "erasures",
    about: "The ledger of erasures.",
    system: SYSTEM,
    system_background: &[("readiness", &COMPARE_LEDGER)],
    probes: &[LEDGER],
    ..Module::BARE
};

/// Who was to be forgotten must not be served again.
const LEDGER: Probe = Probe {
    name: "erasures",
    required: true,
    timeout: Duration::from_secs(10),
    check: |app| Box::pin(compare(app)),
};

/// How long the store may take to list the ledger, before the probe's own time is over.
const PATIENCE: Duration = Duration::from_secs(5);

const MISSING: &str = "select l.id from unnest($1::uuid[]) l (id) where not exists (select from app.known_erasures d where d.id = l.id) order by l.id";
const KNOWN: &str = "insert into app.known_erasures (id) values ($1) on conflict do nothing";

struct MissingErasure {
    id: Uuid,
}
from_row!(MissingErasure { id });

/// The erasures of the ledger that this database does not know of, the earliest first.
///
/// # Errors
/// `files.store_unavailable`, or as the database answers.
pub async fn missing(app: &App, system: &System, trace: &Trace) -> Result<Vec<Uuid>> {
    let all = app.files.ledger_erasures().await?;
    if all.is_empty() {
        return Ok(all);
    }
    let missing: Vec<MissingErasure> = system.begin(trace).last().rows(MISSING, &[&all]).await?;
    Ok(missing.into_iter().map(|row| row.id).collect())
}

/// Notes in a transaction of the system's that this database knows of an erasure: it is begun, or after a restore done again.
///
/// # Errors
/// As the database answers.
pub async fn note_known(tx: &mut TenantTx<'_>, erasure: Uuid) -> Result<()> {
    let _: Vec<()> = tx.rows(KNOWN, &[&erasure]).await?;
    Ok(())
}

/// While the store does not answer, what was found last is believed. A ledger that has no place of its own lies beside the files, whose
/// store is no condition of readiness: it is asked again a minute later.
async fn compare(app: &App) -> Result<()> {
    let now = app.clock.instant();
    if app.files.ledger_agreed(now) {
        return Ok(());
    }
    let (system, trace) = (app.system(&COMPARE_LEDGER), Trace::new("readiness"));
    let asked = timeout(PATIENCE, missing(app, &system, &trace)).await;
    match asked
        .unwrap_or_else(|_| Err(Error::unavailable().because("the ledger of erasures does not answer")))
    {
        Ok(missing) => {
            app.files.note_agreement(missing.is_empty(), now);
            let told =
                |number| format!("{number} erasures of the ledger are not carried out in this database yet");
            if missing.is_empty() { Ok(()) } else { Err(Error::unavailable().because(told(missing.len()))) }
        }
        Err(_) if app.files.ledger_has_agreed() => Ok(()),
        Err(error) if app.config.files.ledger_url.is_none() => {
            let error: &dyn std::error::Error = &error;
            warn!(
                error,
                "The ledger of erasures cannot be read: whether a restored database lacks some is not known"
            );
            app.files.note_agreement(true, now);
            Ok(())
        }
        Err(error) => Err(error),
    }
}
