//! `TenantTx`: pipelined transactions that carry their tenant.
//!
//! Nothing is sent until the first statement. Then the context and the statement go out together, and with [`Last`] the
//! audit entries and the end of the transaction too: a single statement costs one network round trip.

pub(super) mod context;
pub(super) mod deferral;
pub(super) mod emit;
pub(super) mod enqueue;
pub(super) mod exchange;
pub(super) mod repeat;
pub(super) mod row;
pub(super) mod scope;
pub(super) mod sessions;
pub(super) mod stream;
pub(super) mod system;

use std::time::{Duration, Instant};

use crate::auth::{Caller, Entitlements};
use crate::db::{Db, FromRow, HasTag, Params, RowStream, Sql, TenantTag};
use crate::error::{Error, Result};
use crate::shared::TenantId;
use context::TxContext;
use exchange::{Tx, Unfinished};
use serde::Serialize;
use uuid::Uuid;

/// An audit entry for something that no row change shows, such as a failed sign-in.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// What was done: `identity.signed_in`.
    pub action: &'static str,
    /// What it was done to: `user`.
    pub resource: &'static str,
    /// Which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// `success`, `failure` or `denied`.
    pub outcome: &'static str,
    /// Whatever else the auditor should know; no secrets.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

/// A transaction in one tenant: the only way to its data.
///
/// Dropped without commit, it is rolled back.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct TenantTx<'db>(Tx<'db>);

/// The last statement of a transaction: COMMIT goes out with it.
#[must_use = "nothing is sent until a statement is given"]
pub struct Last<'db>(Tx<'db>);

/// The fault of a statement that always returns a row, and did not.
pub(crate) fn no_row() -> Error {
    Error::internal("the statement returned no row")
}

/// The ways to a transaction.
impl Db {
    /// A transaction in the caller's tenant that may change data. Dropped without commit, it is rolled back.
    pub fn tenant(&self, caller: &Caller) -> TenantTx<'_> {
        TenantTx::write(self, caller)
    }

    /// A READ ONLY transaction in the caller's tenant. With one statement, `.last()`, it costs one round trip.
    pub fn tenant_read(&self, caller: &Caller) -> TenantTx<'_> {
        TenantTx::read(self, caller)
    }
}

impl<'db> TenantTx<'db> {
    pub(in crate::db) fn read(db: &'db Db, caller: &Caller) -> Self {
        let context = db.context(TxContext::read(caller.tenant()).seeing(db.row_scope(caller)));
        Self(Tx::new(db, Some(caller.tenant()), true, context).after(caller.deferral()))
    }

    pub(in crate::db) fn write(db: &'db Db, caller: &Caller) -> Self {
        let context = TxContext::change(Some(caller.tenant()), caller.actor(), caller.trace());
        let context = context.limited(caller.entitlements());
        let context = db.context(context.seeing(db.row_scope(caller)));
        let mut tx = Tx::new(db, Some(caller.tenant()), false, context).deferred(caller.deferral());
        tx.unfinished = Unfinished::of(caller);
        Self(tx)
    }

    /// Names what the transaction does, for the audit log: the rows of the table whose word the action begins with are told
    /// under it, and not as `….updated`. `order.approved` names the changes of orders, and leaves those of items alone. Call
    /// it before the first statement.
    pub fn action(mut self, action: &'static str) -> Self {
        self.0.context.action = Some(action);
        self
    }

    /// Lets the transaction keep to what the tenant has, where it is work of the system for somebody who is no caller yet: a
    /// caller's keeps to that by itself. Call it before the first statement within the tenant.
    pub fn limited(mut self, entitlements: &Entitlements) -> Self {
        self.0.context = std::mem::take(&mut self.0.context).limited(entitlements);
        self
    }

    /// Commits by itself, in a request or a job whose changes wait otherwise.
    pub(crate) fn undeferred(mut self) -> Self {
        self.0 = self.0.deferred(None);
        self
    }

    /// Lowers the time that a statement may take in this transaction. Call it before the first statement.
    pub fn statement_timeout(mut self, limit: Duration) -> Self {
        let limit = limit.min(self.0.db.options().statement_timeout);
        self.0.context.statement_timeout = Some(limit);
        self
    }

    /// The next statement is the last: COMMIT goes out with it.
    pub fn last(self) -> Last<'db> {
        Last(self.0)
    }

    /// Adds an entry that is written with the commit, or not at all.
    pub fn audit(&mut self, entry: &AuditEntry) -> Result<()> {
        self.0.audit.push(serde_json::to_value(entry).map_err(Error::internal)?);
        Ok(())
    }

    /// Adds a job, which is sent with the end of the transaction.
    pub(crate) fn add_job(&mut self, job: enqueue::NewJob) {
        self.0.jobs.push(job);
    }

    /// Adds an event, which is sent with the end of the transaction.
    pub(crate) fn add_event(&mut self, event: emit::NewEvent) {
        self.0.events.push(event);
    }

    /// Adds a mail, which is sent with the end of the transaction, and its job.
    pub(crate) fn add_mail(&mut self, mail: enqueue::NewMail, job: enqueue::NewJob) {
        self.0.mails.push(mail);
        self.0.jobs.push(job);
    }

    /// The tenant, unless it is work of the system that has not gone within one.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.0.tenant
    }

    /// Says that the transaction changes the data of a tag: what caches have kept of it, in the caller's tenant, is of no
    /// more use once the transaction is committed, and stays as it is when it is rolled back. Call it before the last
    /// statement.
    pub fn invalidate(&mut self, data: &impl HasTag) {
        let changed = self.0.tenant.map(|tenant| TenantTag::new(tenant, data.tag()));
        self.0.changed.extend(changed);
    }

    /// Rings for a job that a statement of this transaction has made ready, once that is committed: it begins at once, where
    /// a worker would else find it a second later. `kind` is one of `App::job_kinds`.
    pub(crate) fn ring(&mut self, kind: &'static str, priority: u8, id: Uuid) {
        self.0.ring(kind, priority, id);
    }

    /// All rows of a statement in the middle of the transaction.
    ///
    /// # Errors
    /// As the database answers; the transaction is then rolled back.
    pub async fn rows<R: FromRow>(&mut self, sql: impl Sql, params: Params<'_>) -> Result<Vec<R>> {
        let ring = self.0.keys_of::<R>().await?;
        self.0.run(sql.text(), params, false).await?;
        let mut rows = self.0.rows()?;
        self.0.open(ring, &mut rows).await.map(|()| rows)
    }

    /// The row of a statement, if there is one.
    ///
    /// # Errors
    /// As [`TenantTx::rows`].
    pub async fn optional<R: FromRow>(&mut self, sql: impl Sql, params: Params<'_>) -> Result<Option<R>> {
        let ring = self.0.keys_of::<R>().await?;
        self.0.run(sql.text(), params, false).await?;
        let mut row = self.0.row()?;
        self.0.open(ring, row.as_mut_slice()).await.map(|()| row)
    }

    /// The rows of one statement, one by one: for answers that are longer than anybody should hold in memory. Only a
    /// [`tenant_read`](Db::tenant_read) that has sent nothing yet can be streamed; it costs one round trip up to the
    /// first rows, and one more for each thousand of them.
    ///
    /// ```no_run
    /// # use erp_core::{auth::Caller, db::Db, error::Result, from_row};
    /// # struct Item { sku: String }
    /// # from_row!(Item { sku });
    /// # async fn export(db: &Db, caller: &Caller) -> Result<()> {
    /// let mut rows = db.tenant_read(caller).stream::<Item>("select sku from items", &[]).await?;
    /// while let Some(item) = rows.next().await {
    ///     println!("{}", item?.sku);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As the database answers, up to the first row; later ones come out of the stream.
    pub async fn stream<R: FromRow>(self, sql: impl Sql, params: Params<'_>) -> Result<RowStream<R>> {
        let (db, tenant, begun) = (self.0.db, self.0.tenant, Instant::now());
        let ring = self.0.keys_of::<R>().await?;
        let streaming = self.0.stream(sql.text(), params).await?;
        Ok(RowStream::new(db.clone(), tenant, begun, (streaming, ring)))
    }

    /// The row of a statement that always returns one, such as INSERT … RETURNING.
    ///
    /// # Errors
    /// As [`TenantTx::rows`].
    pub async fn row<R: FromRow>(&mut self, sql: impl Sql, params: Params<'_>) -> Result<R> {
        self.optional(sql, params).await?.ok_or_else(no_row)
    }

    /// Drops what was done, on purpose: a change that is dropped otherwise, under an answer of success, is a logged fault.
    pub fn rollback(mut self) {
        self.0.unfinished.forgive();
    }

    /// Lets the database check what it would check at COMMIT, and rolls back.
    pub(crate) async fn try_out(mut self) -> Result<()> {
        let _: Vec<()> = self.rows("select app.check_now()", &[]).await?;
        self.rollback();
        Ok(())
    }

    /// Commits what was done, with its audit entries.
    ///
    /// # Errors
    /// As the database answers; nothing was then committed, unless the connection broke while the answer was
    /// under way (`core.unavailable`).
    pub async fn commit(self) -> Result<()> {
        self.0.commit().await
    }
}

impl Last<'_> {
    /// All rows of the last statement.
    ///
    /// # Errors
    /// As the database answers; nothing is then committed.
    pub async fn rows<R: FromRow>(mut self, sql: impl Sql, params: Params<'_>) -> Result<Vec<R>> {
        let ring = self.0.keys_of::<R>().await?;
        self.0.run(sql.text(), params, true).await?;
        let mut rows = self.0.rows()?;
        self.0.open(ring, &mut rows).await?;
        self.0.park().map(|()| rows)
    }

    /// The row of the last statement, if there is one.
    ///
    /// # Errors
    /// As [`Last::rows`].
    pub async fn optional<R: FromRow>(mut self, sql: impl Sql, params: Params<'_>) -> Result<Option<R>> {
        let ring = self.0.keys_of::<R>().await?;
        self.0.run(sql.text(), params, true).await?;
        let mut row = self.0.row()?;
        self.0.open(ring, row.as_mut_slice()).await?;
        self.0.park().map(|()| row)
    }

    /// The row of a last statement that always returns one, such as INSERT … RETURNING.
    ///
    /// # Errors
    /// As [`Last::rows`].
    pub async fn row<R: FromRow>(self, sql: impl Sql, params: Params<'_>) -> Result<R> {
        self.optional(sql, params).await?.ok_or_else(no_row)
    }
}
