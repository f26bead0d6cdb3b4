//! What all transactions share: one connection once there is one, and as few exchanges with the server as can be.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use deadpool_postgres::ClientWrapper;
use futures_util::future::{OptionFuture, join4};
use tokio_postgres::Row;

use super::checkout::Checkout;
use super::statement::{self, Plan};
use super::{Db, Params, ToSql, repeat};
use crate::error::{Error, Result};
use crate::shared::TenantId;

/// Writes the entries given to `TenantTx::audit`; a row change writes its own (`app.tenant_table`).
const WRITE_AUDIT: &str = "select app.audit(e ->> 'action', e ->> 'resource', e ->> 'resourceId', e -> 'before', e -> 'after', \
     coalesce(e ->> 'outcome', 'success'), e -> 'details') from jsonb_array_elements($1) as e";

/// A transaction that has not been sent yet, is open, or has failed.
pub(super) struct Tx<'db> {
    pub(super) db: &'db Db,
    /// Whose share of the pool it takes; `None` for the system.
    pub(super) tenant: Option<TenantId>,
    pub(super) read_only: bool,
    /// BEGIN and the context; what is still to be sent of it before the next statement.
    pub(super) preamble: String,
    pub(super) preamble_sent: bool,
    pub(super) audit: Vec<serde_json::Value>,
    checkout: Option<Checkout>,
    /// A statement failed, or was given up before it was answered: PostgreSQL ignores the rest, or never got BEGIN, and
    /// would answer COMMIT with Ok all the same.
    failed: bool,
    /// COMMIT has been sent: from here on only its answer tells what became of a change.
    commit_sent: bool,
}

impl<'db> Tx<'db> {
    pub(super) fn new(db: &'db Db, tenant: Option<TenantId>, read_only: bool, preamble: String) -> Self {
        let (audit, checkout) = (Vec::new(), None);
        let (preamble_sent, failed, commit_sent) = (false, false, false);
        Self { db, tenant, read_only, preamble, preamble_sent, audit, checkout, failed, commit_sent }
    }

    /// Runs one statement; `last` sends the audit entries and COMMIT along. The first statement of a transaction is
    /// tried again where that is safe.
    pub(super) async fn run(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
        last: bool,
    ) -> Result<Vec<Row>> {
        let first = self.checkout.is_none();
        let mut attempt = 0;
        loop {
            let outcome = self.run_once(sql, params, last).await;
            let Err(error) = &outcome else { return outcome };
            if repeat::plan_is_stale(error) {
                self.db.forget_statements(); // after a later statement, too: the next transaction finds them mended
            }
            let harmless = self.read_only || !self.commit_sent;
            match repeat::pause(error, harmless, attempt) {
                Some(pause) if first => {
                    attempt += 1;
                    tokio::time::sleep(pause).await;
                    self.rewind();
                }
                _ => return outcome,
            }
        }
    }

    /// Commits what was done, with its audit entries.
    pub(super) async fn commit(mut self) -> Result<()> {
        if self.checkout.is_none() && self.audit.is_empty() && !self.failed {
            return Ok(()); // nothing was asked for
        }
        let db = self.db;
        let outcome = db.unless_down(pin!(self.send(None, true))).await;
        outcome.map(drop).map_err(|error| self.undecided(error))
    }

    async fn run_once(&mut self, sql: &'static str, params: Params<'_>, last: bool) -> Result<Vec<Row>> {
        let db = self.db;
        let started = Instant::now();
        let outcome = db.unless_down(pin!(self.send(Some((sql, params)), last))).await;
        let outcome = outcome.map_err(|error| self.undecided(error));
        db.observe(sql, started, outcome.is_ok(), self.tenant);
        outcome
    }

    async fn send(&mut self, statement: Option<(&'static str, Params<'_>)>, last: bool) -> Result<Vec<Row>> {
        if self.failed {
            return Err(Error::internal("a statement of this transaction has failed before"));
        }
        self.failed = true; // until it is answered: it may be given up at each await
        if let Some((sql, _)) = statement {
            statement::admit(sql)?;
        }
        let checkout = match &mut self.checkout {
            Some(checkout) => checkout,
            none => none.insert(self.db.checkout(self.tenant).await?),
        };
        let preamble = if self.preamble_sent { "" } else { self.preamble.as_str() };
        self.preamble_sent = true;
        let commit_sent = last.then_some(&mut self.commit_sent);
        let (rows, done) = exchange(self.db, checkout, preamble, &self.audit, statement, commit_sent).await;
        if done {
            checkout.disarm();
        }
        self.failed = rows.is_err();
        rows
    }

    /// The error of a change whose COMMIT may have been carried out without our hearing of it.
    fn undecided(&self, error: Error) -> Error {
        if self.commit_sent && !self.read_only && repeat::is_broken_off(&error) {
            return Error::outcome_unknown().because(error);
        }
        error
    }

    /// Back to the start, on another connection.
    fn rewind(&mut self) {
        self.checkout = None; // its guard rolls back what is open
        (self.preamble_sent, self.failed, self.commit_sent) = (false, false, false);
    }
}

/// One exchange with the server: the preamble, the statement, and with `commit_sent`, which is then set, the audit entries
/// and COMMIT; all sent before the first answer is awaited. Says whether the connection is known to be outside a
/// transaction afterwards.
async fn exchange(
    db: &Db,
    checkout: &mut Checkout,
    preamble: &str,
    audit: &[serde_json::Value],
    statement: Option<(&'static str, Params<'_>)>,
    commit_sent: Option<&mut bool>,
) -> (Result<Vec<Row>>, bool) {
    // Armed before the first byte, the one of a prepare included.
    checkout.arm();
    let Some(client) = checkout.client() else { return (Err(Error::unavailable()), false) };
    let last = commit_sent.is_some();
    let entries = (last && !audit.is_empty()).then(|| serde_json::Value::from(audit.to_vec()));
    let entries: Option<[&(dyn ToSql + Sync); 1]> = entries.as_ref().map(|entries| [entries as _]);
    let audit = entries.as_ref().map(|params| (WRITE_AUDIT, params.as_slice()));
    let mut preamble = Some(preamble).filter(|preamble| !preamble.is_empty());
    let plans = async {
        let statement = Plan::of(db, client, &mut preamble, statement).await?;
        Ok::<_, tokio_postgres::Error>((statement, Plan::of(db, client, &mut preamble, audit).await?))
    };
    let (statement, audit) = match plans.await {
        Ok(plans) => plans,
        Err(error) => return (Err(error.into()), false),
    };
    if let Some(commit_sent) = commit_sent {
        *commit_sent = !client.is_closed();
    }
    let refused = AtomicBool::new(false);
    // Polled in this order, so sent in this order; each future sends all its bytes when it is first polled.
    let (begun, rows, audited, committed) = join4(
        OptionFuture::from(preamble.map(|preamble| client.batch_execute(preamble))),
        OptionFuture::from(statement.as_ref().map(|plan| plan.run(client, &refused))),
        OptionFuture::from(audit.as_ref().map(|plan| plan.run(client, &refused))),
        OptionFuture::from(last.then(|| end(client, &refused))),
    )
    .await;
    let done = matches!(committed, Some(Ok(())));
    let outcome = match (begun, rows, audited, committed) {
        (Some(Err(error)), ..) | (_, Some(Err(error)), ..) => Err(error.into()),
        (_, _, Some(Err(error)), _) | (.., Some(Err(error))) => Err(error.into()),
        (_, rows, ..) => Ok(rows.and_then(std::result::Result::ok).unwrap_or_default()),
    };
    (outcome, done)
}

/// COMMIT; or ROLLBACK when the driver would not even send a statement, of which the server knows nothing.
async fn end(client: &ClientWrapper, refused: &AtomicBool) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(if refused.load(Ordering::Relaxed) { "rollback" } else { "commit" }).await
}
