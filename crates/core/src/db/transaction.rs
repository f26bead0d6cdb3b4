//! `TenantTx` and `SystemTx`: pipelined transactions that carry their tenant.
//!
//! Nothing is sent until the first statement. Then BEGIN, the context and the statement go out together, and with
//! [`Last`] the audit entries and COMMIT too: a single statement costs one network round trip. Rules that the
//! driver forces on us (each reproduced by a test in `tests/it`):
//! - only prepared statements are pipelined: a text query would prepare first, and a COMMIT polled beside it
//!   would overtake it;
//! - COMMIT of a failed transaction answers Ok (it rolled back): success means that *every* result is Ok.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Row;

use super::exchange::Tx;
use super::{Db, FromRow, Params};
use crate::auth::{Actor, Caller, Trace};
use crate::error::{Error, Result};
use crate::shared::TenantId;

/// Why the system itself needs a transaction: the listed exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemReason {
    /// Find the tenant of a slug, then verify a credential within it.
    SignIn,
    /// Find out whether a caller is a member of the tenant that `X-Tenant-ID` names.
    SelectTenant,
}

impl SystemReason {
    /// The reason's name in logs and audit rows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign-in",
            Self::SelectTenant => "select-tenant",
        }
    }
}

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

/// A transaction without a tenant: it sees shared tables only, until it goes [`within`](SystemTx::within) one.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct SystemTx<'db> {
    tx: Tx<'db>,
}

impl<'db> TenantTx<'db> {
    pub(super) fn read(db: &'db Db, caller: &Caller) -> Self {
        let mut begin = db.begin("begin read only");
        set_tenant(&mut begin, caller.tenant());
        Self(Tx::new(db, Some(caller.tenant()), true, begin))
    }

    pub(super) fn write(db: &'db Db, caller: &Caller) -> Self {
        let mut begin = db.begin("begin");
        set_tenant(&mut begin, caller.tenant());
        set_actor(&mut begin, caller.actor(), caller.trace());
        Self(Tx::new(db, Some(caller.tenant()), false, begin))
    }

    /// Lowers the time that a statement may take in this transaction. Call it before the first statement.
    pub fn statement_timeout(mut self, limit: Duration) -> Self {
        let limit = limit.min(self.0.db.options().statement_timeout);
        let _ = write!(self.0.preamble, ";set local statement_timeout={}", limit.as_millis());
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

    /// All rows of a statement in the middle of the transaction.
    ///
    /// # Errors
    /// As the database answers; the transaction is then rolled back.
    pub async fn rows<R: FromRow>(&mut self, sql: &'static str, params: Params<'_>) -> Result<Vec<R>> {
        read_all(&self.0.run(sql, params, false).await?)
    }

    /// The row of a statement, if there is one.
    ///
    /// # Errors
    /// As [`TenantTx::rows`].
    pub async fn optional<R: FromRow>(&mut self, sql: &'static str, params: Params<'_>) -> Result<Option<R>> {
        read_first(&self.0.run(sql, params, false).await?)
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
    pub async fn rows<R: FromRow>(mut self, sql: &'static str, params: Params<'_>) -> Result<Vec<R>> {
        read_all(&self.0.run(sql, params, true).await?)
    }

    /// The row of the last statement, if there is one.
    ///
    /// # Errors
    /// As [`Last::rows`].
    pub async fn optional<R: FromRow>(mut self, sql: &'static str, params: Params<'_>) -> Result<Option<R>> {
        read_first(&self.0.run(sql, params, true).await?)
    }

    /// The row of a last statement that always returns one, such as INSERT … RETURNING.
    ///
    /// # Errors
    /// As [`Last::rows`].
    pub async fn row<R: FromRow>(self, sql: &'static str, params: Params<'_>) -> Result<R> {
        self.optional(sql, params).await?.ok_or_else(|| Error::internal("the statement returned no row"))
    }
}

impl<'db> SystemTx<'db> {
    pub(super) fn new(db: &'db Db, reason: SystemReason, trace: &Trace) -> Self {
        let mut begin = db.begin("begin");
        set_actor(&mut begin, Actor::System(reason.as_str()), trace);
        Self { tx: Tx::new(db, None, false, begin) }
    }

    /// The row of a statement on shared tables, if there is one.
    ///
    /// # Errors
    /// As [`TenantTx::rows`].
    pub async fn optional<R: FromRow>(&mut self, sql: &'static str, params: Params<'_>) -> Result<Option<R>> {
        read_first(&self.tx.run(sql, params, false).await?)
    }

    /// Goes on in one tenant, in the same transaction, as the system.
    pub fn within(self, tenant: TenantId) -> TenantTx<'db> {
        let mut tx = self.tx;
        if tx.preamble_sent {
            tx.preamble.clear();
            tx.preamble_sent = false;
        }
        set_tenant(&mut tx.preamble, tenant);
        TenantTx(tx)
    }
}

fn set_tenant(sql: &mut String, tenant: TenantId) {
    let separator = if sql.is_empty() { "" } else { ";" };
    let _ = write!(sql, "{separator}set local app.tenant_id='{tenant}'");
}

fn set_actor(sql: &mut String, actor: Actor, trace: &Trace) {
    let _ = write!(sql, ";set local app.actor='{actor}'");
    // The chain lets no other characters through; doubled quotes are the second lock on the door.
    let _ = write!(sql, ";set local app.correlation_id='{}'", trace.correlation_id.replace('\'', "''"));
    if let Some(ip) = trace.client_ip {
        let _ = write!(sql, ";set local app.client_ip='{ip}'");
    }
}

fn read_all<R: FromRow>(rows: &[Row]) -> Result<Vec<R>> {
    rows.iter().map(|row| R::from_row(row).map_err(Error::internal)).collect()
}

fn read_first<R: FromRow>(rows: &[Row]) -> Result<Option<R>> {
    rows.first().map(|row| R::from_row(row).map_err(Error::internal)).transpose()
}
