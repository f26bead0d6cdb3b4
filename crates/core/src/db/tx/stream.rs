//! A read whose rows are taken one by one, for answers that are longer than anybody should hold in memory.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use erp_postgres::{Message, Plan, Portal, TransactionStatus};
use futures_util::Stream;
use tokio::time::{Instant, interval_at};

use crate::crypto::Keyring;
use crate::db::pool::checkout::Checkout;
use crate::db::{Db, FromRow, tx::repeat};
use crate::error::{Error, Result};
use crate::shared::TenantId;

const COMMIT: &str = "commit";

/// The rows of one statement, in a READ ONLY transaction of the caller's tenant that ends with them.
///
/// The server is asked for rows as they are taken: a slow reader slows it down, and a few kilobytes are all that is held
/// of a million rows. It owns all it needs and borrows nothing, so it may live in the body of an answer. It holds one
/// connection of the pool, and the tenant's place in its share, until its end; dropped before, it is cancelled like any
/// transaction. A statement's time limit holds for each 64 KiB of rows or thousand of them, so that it bounds the server's
/// work and not the reader's patience. PostgreSQL ends a transaction that it has not heard of for a minute
/// (`idle_in_transaction_session_timeout`): a reader that waits longer between two rows awaits [`RowStream::keep_alive`].
#[must_use = "dropping a stream cancels it"]
pub struct RowStream<R> {
    db: Db,
    tenant: Option<TenantId>,
    begun: std::time::Instant,
    /// `None` once the last row was taken or an error was met.
    streaming: Option<Streaming>,
    /// Opens what rows have encrypted.
    ring: Option<Keyring>,
    /// A row that was read and is not handed out yet.
    held: Option<R>,
}

/// A statement under way.
pub(in crate::db) struct Streaming {
    pub(in crate::db) checkout: Checkout,
    pub(in crate::db) plan: Arc<Plan>,
    pub(in crate::db) portal: Portal,
    /// The next row: it was waited for already, so that a statement that fails at once fails before an answer begins.
    pub(in crate::db) first: Option<Message>,
}

impl<R: FromRow> RowStream<R> {
    pub(in crate::db) fn new(
        db: Db,
        tenant: Option<TenantId>,
        begun: std::time::Instant,
        (streaming, ring): (Streaming, Option<Keyring>),
    ) -> Self {
        Self { db, tenant, begun, streaming: Some(streaming), ring, held: None }
    }

    /// The next row; `None` after the last. May be given up at any await, and called again.
    ///
    /// # Errors
    /// As the database answers, also in the middle: then what was read is not all there is. Nothing comes after it.
    pub async fn next(&mut self) -> Option<Result<R>> {
        if self.held.is_none() {
            let streaming = self.streaming.as_mut()?;
            let next = self.db.unless_down(pin!(streaming.next())).await.transpose();
            match next {
                Some(Ok(row)) => self.held = Some(row),
                end => {
                    self.end(end.is_none());
                    return end;
                }
            }
        }
        if let Err(error) = self.open().await {
            self.end(false);
            return Some(Err(error));
        }
        self.held.take().map(Ok)
    }

    /// Opens the row that is held.
    async fn open(&mut self) -> Result<()> {
        match &self.ring {
            Some(ring) => self.db.keys()?.open_rows(ring.clone(), self.held.as_mut_slice()).await,
            None => Ok(()),
        }
    }

    fn end(&mut self, success: bool) {
        self.held = None;
        if let Some(streaming) = self.streaming.take() {
            self.db.count(&streaming.plan, self.begun.elapsed(), success, self.tenant);
        }
    }

    /// Keeps the transaction while its rows are not asked for, with a word to the server in each such time. It goes on for
    /// ever: to be awaited beside what is waited for, and given up with it.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn keep_alive(&mut self, every: Duration) -> Result<Infallible> {
        let mut ticks = interval_at(Instant::now() + every, every);
        loop {
            ticks.tick().await;
            let wire = self.streaming.as_mut().and_then(|streaming| streaming.checkout.wire_mut());
            let Some(wire) = wire else { return Err(Error::unavailable()) };
            wire.keep_alive().await?;
        }
    }

    /// The rows as a [`Stream`], for the body of an answer.
    pub fn into_stream(self) -> impl Stream<Item = Result<R>> + Send + 'static
    where
        R: Send + 'static,
    {
        futures_util::stream::unfold(self, |mut rows| async move { rows.next().await.map(|row| (row, rows)) })
    }
}

/// A reader that has left, or was cut off, has not had all there is.
impl<R> Drop for RowStream<R> {
    fn drop(&mut self) {
        if let Some(streaming) = &self.streaming {
            self.db.count(&streaming.plan, self.begun.elapsed(), false, self.tenant);
        }
    }
}

impl Streaming {
    async fn next<R: FromRow>(&mut self) -> Result<Option<R>> {
        let Some(wire) = self.checkout.wire_mut() else { return Err(Error::unavailable()) };
        let message = match self.first.take() {
            Some(message) => Some(message),
            None => wire.next_row(&mut self.portal).await.map_err(repeat::in_read)?,
        };
        if let Some(message) = message {
            return Ok(Some(R::from_row(&wire.row(&message)?)?));
        }
        wire.begin()?;
        wire.own(COMMIT, &[])?;
        wire.exchange(&mut false).await?;
        if wire.status() == TransactionStatus::Idle {
            self.checkout.disarm();
        }
        Ok(None)
    }
}
