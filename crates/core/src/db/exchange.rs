//! What all transactions share: one connection once there is one, and as few exchanges with the server as can be.

use std::time::Instant;

use futures_util::future::{OptionFuture, join4};
use tokio_postgres::Row;

use super::checkout::Checkout;
use super::statement::Plan;
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
    /// A statement failed: PostgreSQL ignores the rest, and COMMIT would roll back while it answers Ok.
    failed: bool,
}

impl<'db> Tx<'db> {
    pub(super) fn new(db: &'db Db, tenant: Option<TenantId>, read_only: bool, preamble: String) -> Self {
        let (audit, checkout) = (Vec::new(), None);
        Self { db, tenant, read_only, preamble, preamble_sent: false, audit, checkout, failed: false }
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
            let harmless = self.read_only || !last;
            match repeat::pause(error, harmless, attempt) {
                Some(pause) if first => {
                    attempt += 1;
                    tokio::time::sleep(pause).await;
                    self.rewind(error);
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
        db.unless_down(self.send(None, true)).await.map(drop)
    }

    async fn run_once(&mut self, sql: &'static str, params: Params<'_>, last: bool) -> Result<Vec<Row>> {
        let db = self.db;
        let started = Instant::now();
        let outcome = db.unless_down(self.send(Some((sql, params)), last)).await;
        self.failed |= outcome.is_err();
        db.observe(sql, started, outcome.is_ok(), self.tenant);
        outcome
    }

    async fn send(&mut self, statement: Option<(&'static str, Params<'_>)>, last: bool) -> Result<Vec<Row>> {
        if self.failed {
            return Err(Error::internal("a statement of this transaction has failed before"));
        }
        let checkout = match &mut self.checkout {
            Some(checkout) => checkout,
            none => none.insert(self.db.checkout(self.tenant).await?),
        };
        let preamble = if self.preamble_sent { "" } else { self.preamble.as_str() };
        self.preamble_sent = true;
        let (rows, done) = exchange(self.db, checkout, preamble, &self.audit, statement, last).await;
        if done {
            checkout.disarm();
        }
        rows
    }

    /// Back to the start, on another connection.
    fn rewind(&mut self, error: &Error) {
        if repeat::plan_is_stale(error) {
            self.db.forget_statements();
        }
        self.checkout = None; // its guard rolls back what is open
        self.preamble_sent = false;
        self.failed = false;
    }
}

/// One exchange with the server: the preamble, the statement, the audit entries and COMMIT, all sent before the
/// first answer is awaited. Says whether the connection is known to be outside a transaction afterwards.
async fn exchange(
    db: &Db,
    checkout: &mut Checkout,
    preamble: &str,
    audit: &[serde_json::Value],
    statement: Option<(&'static str, Params<'_>)>,
    last: bool,
) -> (Result<Vec<Row>>, bool) {
    // Armed before the first byte, the one of a prepare included.
    checkout.arm();
    let Some(client) = checkout.client() else { return (Err(Error::unavailable()), false) };
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
    // Polled in this order, so sent in this order; each future sends all its bytes when it is first polled.
    let (begun, rows, audited, committed) = join4(
        OptionFuture::from(preamble.map(|preamble| client.batch_execute(preamble))),
        OptionFuture::from(statement.as_ref().map(|plan| plan.run(client))),
        OptionFuture::from(audit.as_ref().map(|plan| plan.run(client))),
        OptionFuture::from(last.then(|| client.batch_execute("commit"))),
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
