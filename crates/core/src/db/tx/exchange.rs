//! What all transactions share: one connection once there is one, and as few exchanges with the server as can be.
//!
//! A transaction whose first statement is its last stands before one Sync: PostgreSQL commits it there, or none of it,
//! without BEGIN and COMMIT. Any other begins with BEGIN, and its last exchange ends with COMMIT.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use erp_postgres::{Plan, Reply, TransactionStatus, Wire};
use uuid::Uuid;

use super::context::TxContext;
use super::emit::{EMIT, NewEvent};
use super::enqueue::{self, ADD_MAILS, ENQUEUE, NewJob, NewMail};
use super::stream::Streaming;
use crate::auth::Caller;
use crate::crypto::Keyring;
use crate::db::doorbell::Lane;
use crate::db::generations::TenantTag;
use crate::db::pool::checkout::Checkout;
use crate::db::pool::observed::Observed;
use crate::db::pool::parked::Parked;
use crate::db::{Db, FromRow, Params, statement, tx::repeat};
use crate::error::{Error, Result};
use crate::shared::TenantId;

const BEGIN: &str = "begin";
/// All statements see the database as it was at the first of them.
pub(in crate::db) const BEGIN_SNAPSHOT: &str = "begin isolation level repeatable read";
const COMMIT: &str = "commit";
/// Writes the entries given to `TenantTx::audit`; a row change writes its own (`app.tenant_table`).
const WRITE_AUDIT: &str = "select app.audit(e ->> 'action', e ->> 'resource', e ->> 'resourceId', e -> 'before', e -> 'after', \
     coalesce(e ->> 'outcome', 'success'), e -> 'details') from jsonb_array_elements($1) as e";

/// Writes the audit rows of what was changed so far, and lets those of later changes wait for COMMIT again.
const AUDIT_NOW: &str = "set constraints all immediate";
const AUDIT_LATER: &str = "set constraints all deferred";

/// A transaction that has not been sent yet, is open, or has failed.
pub(in crate::db) struct Tx<'db> {
    pub(in crate::db) db: &'db Db,
    /// Whose share of the pool it takes; `None` for the system, until it goes `within` a tenant.
    pub(in crate::db) tenant: Option<TenantId>,
    pub(in crate::db) read_only: bool,
    /// What begins it, where it has more than one statement.
    pub(in crate::db) begin: &'static str,
    /// What is to be sent before the next statement, unless it has been.
    pub(in crate::db) context: TxContext,
    pub(in crate::db) context_sent: bool,
    pub(in crate::db) audit: Vec<serde_json::Value>,
    /// Jobs that go out with the end of the transaction.
    pub(in crate::db) jobs: Vec<NewJob>,
    /// Events that go out with it, too.
    pub(in crate::db) events: Vec<NewEvent>,
    /// Mails that do, each with a job.
    pub(in crate::db) mails: Vec<NewMail>,
    /// Tags whose data is changed.
    pub(in crate::db) changed: Vec<TenantTag>,
    checkout: Option<Checkout>,
    /// What is known of the statement that was sent last, and what it returned.
    plan: Option<Arc<Plan>>,
    reply: Reply,
    /// BEGIN has been answered, and COMMIT has not.
    open: bool,
    /// A statement failed, or was given up before it was answered: what would be sent now could meet another state than
    /// the one it was meant for.
    failed: bool,
    /// The end of the transaction has been sent: from here on only its answer tells what became of a change.
    commit_sent: bool,
    /// COMMIT is left to the deferral of this number.
    deferral: Option<u64>,
    /// It goes on with what an earlier part of the request has changed.
    joined: bool,
    pub(in crate::db) unfinished: Unfinished,
}

/// Tells its caller when a change is dropped that has run and was neither committed nor refused.
#[derive(Default)]
pub(in crate::db) struct Unfinished {
    caller: Option<Caller>,
    changed: bool,
}

impl Unfinished {
    pub(in crate::db) fn of(caller: &Caller) -> Self {
        Self { caller: Some(caller.clone()), changed: false }
    }

    /// The change is meant to be dropped.
    pub(in crate::db) fn forgive(&mut self) {
        self.changed = false;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let (Some(caller), true) = (&self.caller, self.changed) {
            caller.note_uncommitted();
        }
    }
}

/// What goes out along with a statement, or after it.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// Nothing: there will be more statements.
    More,
    /// The audit entries; COMMIT is somebody else's.
    Wait,
    /// The audit entries and the end of the transaction.
    Commit,
}

impl<'db> Tx<'db> {
    pub(in crate::db) fn new(
        db: &'db Db,
        tenant: Option<TenantId>,
        read_only: bool,
        context: TxContext,
    ) -> Self {
        Self {
            db,
            tenant,
            read_only,
            begin: BEGIN,
            context,
            context_sent: false,
            audit: Vec::new(),
            jobs: Vec::new(),
            events: Vec::new(),
            mails: Vec::new(),
            changed: Vec::new(),
            checkout: None,
            plan: None,
            reply: Reply::default(),
            open: false,
            failed: false,
            commit_sent: false,
            deferral: None,
            joined: false,
            unfinished: Unfinished::default(),
        }
    }

    /// Leaves COMMIT to a deferral, if there is one.
    pub(in crate::db) fn deferred(mut self, deferral: Option<u64>) -> Self {
        self.deferral = deferral;
        self
    }

    /// A read after a change of the same request reads in its transaction, and sees what was changed.
    pub(in crate::db) fn after(mut self, deferral: Option<u64>) -> Self {
        self.deferral = deferral.filter(|number| self.db.deferrals().is_waiting(*number));
        self
    }

    /// Goes on with what an earlier part of the request has changed, if it has.
    fn join(&mut self) -> Result<()> {
        let (Some(number), None) = (self.deferral, &self.checkout) else { return Ok(()) };
        if let Some(Parked { checkout, .. }) = self.db.deferrals().join(number)? {
            (self.checkout, self.open, self.joined) = (Some(checkout), true, true);
            self.context_sent = self.read_only; // a read has no context of its own but the tenant, which is the same
        }
        Ok(())
    }

    /// Goes on with a transaction that has waited.
    pub(in crate::db) fn resume(db: &'db Db, Parked { checkout, tenant }: Parked) -> Self {
        let new = Self::new(db, tenant, false, TxContext::default());
        Self { checkout: Some(checkout), context_sent: true, open: true, ..new }
    }

    /// Goes on in one tenant, out of its share. While it waits for a place there it holds no connection: what was
    /// done so far is committed, and the rest is a transaction of its own.
    pub(in crate::db) async fn within(mut self, tenant: TenantId) -> Result<Self> {
        let shares = self.db.shares();
        if let Some(checkout) = &mut self.checkout {
            match shares.take(tenant) {
                Some(place) => checkout.holds(place),
                None => return self.anew(tenant).await,
            }
        }
        self.tenant = Some(tenant);
        self.context.within(tenant, std::mem::take(&mut self.context_sent));
        Ok(self)
    }

    async fn anew(mut self, tenant: TenantId) -> Result<Self> {
        let (db, mut context) = (self.db, std::mem::take(&mut self.context));
        self.commit().await?;
        context.within(tenant, false);
        Ok(Self::new(db, Some(tenant), false, context))
    }

    /// Hands a finished transaction to its deferral, if it has one.
    pub(in crate::db) fn park(&mut self) -> Result<()> {
        let (Some(number), Some(mut checkout)) = (self.deferral, self.checkout.take()) else { return Ok(()) };
        checkout.returns_to = None; // it does now
        self.db.deferrals().park(number, Parked { checkout, tenant: self.tenant })
    }

    /// Runs one statement; `last` sends the audit entries and the end of the transaction along. The first statement of
    /// a transaction is tried again where that is safe.
    pub(in crate::db) async fn run(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
        last: bool,
    ) -> Result<()> {
        let first = self.checkout.is_none();
        let mut attempt = 0;
        loop {
            let outcome = self.run_once(sql, params, last).await;
            let Err(error) = &outcome else { return outcome };
            match self.pause(error, attempt) {
                Some(pause) if first && !self.joined => {
                    attempt += 1;
                    tokio::time::sleep(pause).await;
                    self.rewind();
                }
                _ => return outcome,
            }
        }
    }

    /// How long to wait before the transaction may be tried again, if it may.
    fn pause(&self, error: &Error, attempt: usize) -> Option<Duration> {
        if repeat::plan_is_stale(error) {
            self.db.forget_statements(); // after a later statement, too: the next transaction finds them mended
        }
        let harmless = self.read_only || !self.commit_sent;
        repeat::pause(error, harmless, attempt)
    }

    /// Rings, once it is committed, for a job that a statement has made ready.
    pub(in crate::db) fn ring(&mut self, kind: &'static str, priority: u8, id: Uuid) {
        if let (Some(checkout), Some(tenant)) = (&mut self.checkout, self.tenant) {
            checkout.enqueued.push((Lane { tenant, kind, priority }, id));
        }
    }

    /// All rows of the statement that ran last.
    pub(in crate::db) fn rows<R: FromRow>(&self) -> Result<Vec<R>> {
        let Some(wire) = self.checkout.as_ref().and_then(Checkout::wire) else { return Ok(Vec::new()) };
        let rows: std::result::Result<_, _> = wire.rows(&self.reply).map(|row| R::from_row(&row?)).collect();
        rows.map_err(Error::from)
    }

    /// Its first row.
    pub(in crate::db) fn row<R: FromRow>(&self) -> Result<Option<R>> {
        let Some(wire) = self.checkout.as_ref().and_then(Checkout::wire) else { return Ok(None) };
        let row = wire.rows(&self.reply).next();
        row.map(|row| R::from_row(&row?)).transpose().map_err(Error::from)
    }

    /// The keys that open what rows of this type have encrypted; none where they have nothing. Asked for before the statement, so that no
    /// connection is held meanwhile.
    pub(in crate::db) async fn keys_of<R: FromRow>(&self) -> Result<Option<Keyring>> {
        let Some(tenant) = self.tenant.filter(|_| R::SEALED) else { return Ok(None) };
        Box::pin(self.db.keys()?.of(tenant)).await.map(Some)
    }

    /// Opens what the rows have encrypted.
    pub(in crate::db) async fn open<R: FromRow>(&self, ring: Option<Keyring>, rows: &mut [R]) -> Result<()> {
        match ring {
            Some(ring) => self.db.keys()?.open_rows(ring, rows).await,
            None => Ok(()),
        }
    }

    /// Commits what was done, with its audit entries.
    pub(in crate::db) async fn commit(mut self) -> Result<()> {
        let nothing = self.audit.is_empty()
            && self.jobs.is_empty()
            && self.events.is_empty()
            && self.changed.is_empty();
        if self.checkout.is_none() && nothing && !self.failed {
            return Ok(()); // nothing was asked for
        }
        let db = self.db;
        let then = self.then(true);
        let outcome = db.unless_down(pin!(self.send(None, then))).await;
        outcome.map_err(|error| self.undecided(error))?;
        self.park()
    }

    async fn run_once(&mut self, sql: &'static str, params: Params<'_>, last: bool) -> Result<()> {
        let db = self.db;
        let observed = Observed::begin(db, sql, self.tenant);
        let then = self.then(last);
        let outcome = db.unless_down(pin!(self.send(Some((sql, params)), then))).await;
        let outcome = outcome.map_err(|error| self.undecided(error));
        observed.end(self.plan.as_deref(), outcome.is_ok());
        outcome
    }

    fn then(&self, last: bool) -> Then {
        match (last, self.deferral) {
            (false, _) => Then::More,
            (true, Some(_)) => Then::Wait,
            (true, None) => Then::Commit,
        }
    }

    /// One exchange with the server: BEGIN and the context unless they were sent before, the statement, and what comes
    /// `then`; all sent before the first answer is awaited.
    async fn send(&mut self, statement: Option<(&'static str, Params<'_>)>, then: Then) -> Result<()> {
        if self.failed {
            return Err(Error::internal("a statement of this transaction has failed before"));
        }
        self.failed = true; // until it is answered: it may be given up at each await
        self.unfinished.changed = false;
        (self.plan, self.reply) = (None, Reply::default());
        self.join()?;
        let checkout = match &mut self.checkout {
            Some(checkout) => checkout,
            none => none.insert(self.db.checkout(self.tenant).await?),
        };
        checkout.returns_to = None; // not while the outcome is open
        // Armed before the first byte, the one of a question about the statement included.
        checkout.arm();
        let Some(wire) = checkout.wire_mut() else { return Err(Error::unavailable()) };
        if let Some((sql, _)) = statement {
            self.plan = Some(plan(self.db, wire, sql, &self.context).await?);
        }
        wire.begin()?;
        let ends = then == Then::Commit;
        if !ends && !self.open {
            wire.own(self.begin, &[])?;
        }
        if self.joined && !self.context_sent {
            // What was changed before is told to the audit log under the action that it had.
            for statement in [AUDIT_NOW, AUDIT_LATER] {
                wire.own(statement, &[])?;
            }
            self.context.replace(wire)?;
        } else if !self.context_sent {
            self.context.add(wire, self.read_only)?;
        }
        if let (Some(plan), Some((_, params))) = (&self.plan, statement) {
            wire.statement(plan, params)?;
        }
        if then != Then::More && !self.audit.is_empty() {
            let entries = serde_json::to_string(&self.audit).map_err(Error::internal)?;
            wire.own(WRITE_AUDIT, &[&entries])?;
        }
        if then != Then::More && !self.mails.is_empty() {
            let mails = serde_json::to_string(&self.mails).map_err(Error::internal)?;
            wire.own(ADD_MAILS, &[&mails])?;
        }
        if then != Then::More && !self.jobs.is_empty() {
            let jobs = serde_json::to_string(&self.jobs).map_err(Error::internal)?;
            wire.own(ENQUEUE, &[&jobs])?;
        }
        if then != Then::More && !self.events.is_empty() {
            let events = serde_json::to_string(&self.events).map_err(Error::internal)?;
            wire.own(EMIT, &[&events])?;
        }
        let commits = ends && self.open;
        if commits {
            wire.own(COMMIT, &[])?;
        }
        self.context_sent = true;
        if then != Then::More {
            checkout.changed.extend_from_slice(&self.changed); // a copy: it may be tried again
        }
        checkout.in_doubt = ends;
        let Some(wire) = checkout.wire_mut() else { return Err(Error::unavailable()) };
        let mut no_matter = false;
        let outcome = wire.exchange(if ends { &mut self.commit_sent } else { &mut no_matter }).await;
        let (status, broken) = (wire.status(), wire.is_broken());
        self.open = broken || status != TransactionStatus::Idle;
        if !self.open {
            checkout.disarm();
        }
        checkout.in_doubt = self.commit_sent && broken;
        let reply = match self.read_only {
            true => outcome.map_err(repeat::in_read)?,
            false => outcome?,
        };
        // PostgreSQL answers COMMIT of a transaction that had failed as if nothing were wrong: with ROLLBACK.
        let expected = if ends { TransactionStatus::Idle } else { TransactionStatus::Open };
        if status != expected || reply.committed != commits {
            return Err(Error::internal("the transaction is not where it should be"));
        }
        (self.reply, self.failed) = (reply, false);
        if then != Then::More && !self.jobs.is_empty() {
            checkout.enqueued.extend(enqueue::due(std::mem::take(&mut self.jobs), self.tenant));
            self.mails.clear();
        }
        if then != Then::More && !self.events.is_empty() {
            self.events.clear();
            checkout.emitted = true;
        }
        if ends
            && std::mem::take(&mut checkout.emitted)
            && let Some(tenant) = self.tenant
        {
            self.db.outbox().tell(tenant);
        }
        if ends && !checkout.enqueued.is_empty() {
            self.db.doorbell().ring(std::mem::take(&mut checkout.enqueued));
        }
        if ends {
            self.db.generations().advance(&std::mem::take(&mut checkout.changed));
        }
        if self.joined && self.read_only {
            checkout.returns_to = self.deferral.map(|number| (number, self.tenant)); // a read is dropped without a word
        }
        self.unfinished.changed = then == Then::More;
        Ok(())
    }

    /// Begins to run one statement whose rows are then read one by one; tries again as [`run`](Self::run) does.
    pub(in crate::db) async fn stream(mut self, sql: &'static str, params: Params<'_>) -> Result<Streaming> {
        if self.checkout.is_some() || !self.read_only {
            return Err(Error::internal("a stream is a read-only transaction of its own"));
        }
        let db = self.db;
        let mut attempt = 0;
        loop {
            let observed = Observed::begin(db, sql, self.tenant);
            let error = match db.unless_down(pin!(self.begin_stream(sql, params))).await {
                Ok(streaming) => {
                    observed.streams(&streaming.plan);
                    return Ok(streaming);
                }
                Err(error) => error,
            };
            observed.end(self.plan.as_deref(), false);
            let Some(pause) = self.pause(&error, attempt) else { return Err(error) };
            attempt += 1;
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends BEGIN, the context and the statement, and waits for its first row.
    async fn begin_stream(&mut self, sql: &'static str, params: Params<'_>) -> Result<Streaming> {
        self.plan = None;
        let mut checkout = self.db.checkout(self.tenant).await?;
        checkout.arm();
        let Some(wire) = checkout.wire_mut() else { return Err(Error::unavailable()) };
        let plan = plan(self.db, wire, sql, &self.context).await?;
        self.plan = Some(Arc::clone(&plan));
        wire.begin()?;
        wire.own(BEGIN, &[])?;
        self.context.add(wire, true)?;
        let mut portal = wire.streamed(&plan, params)?;
        let first = wire.next_row(&mut portal).await.map_err(repeat::in_read)?;
        Ok(Streaming { checkout, plan, portal, first })
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
        (self.context_sent, self.open, self.failed, self.commit_sent) = (false, false, false, false);
    }
}

/// What is known of a statement; asks the server when this process sees it for the first time.
async fn plan(db: &Db, wire: &mut Wire, sql: &'static str, context: &TxContext) -> Result<Arc<Plan>> {
    if let Some(plan) = db.plans().find(sql) {
        return Ok(plan);
    }
    statement::admit(sql)?;
    Ok(Box::pin(wire.plan(sql, context.statement_timeout)).await?)
}
