//! A client of PostgreSQL whose connection belongs to its holder: no task drives it, no channel leads to it.
//!
//! The holder writes one buffer with all messages of an exchange and reads the socket until the server is ready again.
//! Messages that stand before one Sync are one transaction, unless one of them says BEGIN. So a statement with its
//! context costs one round trip and one ReadyForQuery (docs/decisions/0010). The wire format is that of the crates
//! `postgres-protocol` and `postgres-types`; see the PostgreSQL manual, "Frontend/Backend Protocol".
//!
//! # What it does
//!
//! - **Pipelined exchanges.** [`Wire::begin`], then [`Wire::own`] and [`Wire::statement`] as often as needed, then
//!   [`Wire::exchange`]: everything goes out together. Rows are decoded where they lie in the buffer ([`Wire::rows`]).
//! - **Prepared statements.** A statement is a `&'static str`. What the server says about its parameters is kept for
//!   the whole process ([`Plans`]), its name for the session. A name follows from text and types, so that it never
//!   stands for another statement in a session that a pooler has exchanged.
//! - **Portals.** A result of any length is read in pieces, flat in memory ([`Wire::streamed`], [`Wire::next_row`]).
//! - **Cancelling** what runs, over a connection of its own ([`Cancel`]), and **recovering** a connection whose holder
//!   went away in the middle ([`Wire::recover`]).
//! - **Opening**: several hosts and addresses, each with its share of the time; TLS by rustls; SCRAM-SHA-256 with
//!   channel binding, MD5 and clear-text passwords; a look at each session before its first use ([`Inspection`]).
//! - **LISTEN** on a connection of its own, through a bounded queue that tells what it had to drop
//!   ([`Connector::listen`]).
//! - **Silence**: a connection that nobody has used for a while is asked for a sign of life ([`Wire::is_fit`]).
//!
//! # How much memory a connection takes
//!
//! At most [`MemoryLimits::answer`], 64 MiB unless something else is said, and [`READ_AHEAD`]; a portal's rows take as
//! much as the longest of them, which is at most [`MemoryLimits::row`]. A buffer that has grown beyond [`KEPT`] is given
//! back before the next exchange. A server that sends more is left ([`WireError::TooLarge`]).
//!
//! # Example
//!
//! A read that can change nothing, in one round trip once the statement is known:
//!
//! ```no_run
//! # async fn read() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use erp_postgres::tls::{Verify, client_config};
//! use erp_postgres::{Config, Connector};
//!
//! const ITEM: &str = "select name from items where id = $1";
//!
//! let config: Config = "postgresql://app:secret@db.example/shop?sslmode=require".parse()?;
//! let connector = Connector::new(config, Arc::new(client_config(Verify::Host, None)?));
//! let mut wire = connector.connect().await?;
//! let plan = match connector.plans().find(ITEM) {
//!     Some(plan) => plan,
//!     None => wire.plan(ITEM, None).await?,
//! };
//! wire.begin()?;
//! wire.own("select set_config('transaction_read_only', $1, true)", &["on"])?;
//! wire.statement(&plan, &[&7])?;
//! let reply = wire.exchange(&mut false).await?;
//! for row in wire.rows(&reply) {
//!     let name: &str = row?.try_get("name")?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it deliberately does not do
//!
//! No pool, no tasks of its own (a listener runs [`Listening::run`]), no transactions as a type, no statements
//! built at run time, no COPY, no large objects, no replication, no client certificates, no GSSAPI, no protocol version 2.
//! A server that answers with one of them gets an error, and the connection is closed. For more there is `tokio-postgres`,
//! with which this crate shares configuration, SQLSTATEs and value types.

mod attempts;
mod batch;
mod cancel;
mod connect;
mod error;
mod exchange;
mod idleness;
mod inbox;
mod limits;
mod listen;
mod notifications;
mod password;
mod portal;
mod prepare;
mod row;
mod socket;
mod startup;
mod summary;
#[cfg(test)]
mod tests;
pub mod tls;
mod transport;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt as _;

pub use attempts::{Attempts, Fault};
pub use cancel::Cancel;
pub use connect::{CONNECT_TIMEOUT, Connector, Target};
pub use error::{Cause, ServerError, WireError};
pub use exchange::Reply;
use idleness::Idleness;
use inbox::Inbox;
pub use inbox::Message;
pub use limits::{DESCRIPTION, Excess, KEPT, MemoryLimits, OPENING, READ_AHEAD, SHORT};
pub use listen::{Channel, Listening};
pub use notifications::{Event, Notification, Notifications};
pub use password::PasswordSource;
pub use portal::Portal;
pub use postgres_types::{FromSql, ToSql, Type};
pub use prepare::{Plan, Plans};
use prepare::{Prepared, Text};
pub use row::{Column, Row, Rows};
pub use socket::Socket;
pub use startup::Inspection;
pub use summary::describe;
pub use tokio_postgres::Config;
pub use tokio_postgres::error::SqlState;

/// The values of a statement's `$1`, `$2`, ….
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Where a connection stands, as the server last said in ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Outside any transaction.
    Idle,
    /// Inside one.
    Open,
    /// Inside one that failed: only ROLLBACK helps.
    Failed,
}

/// One connection: it belongs to one holder at a time, and does nothing on its own.
pub struct Wire {
    socket: Socket,
    /// What is still to be sent.
    out: BytesMut,
    inbox: Inbox,
    /// How many ReadyForQuery are still to come: one for each Sync and simple query in `out` or sent.
    awaited: u32,
    status: TransactionStatus,
    /// The protocol was left, or the socket failed: good for nothing any more.
    broken: bool,
    /// Statements that the server knows by name in this session.
    prepared: HashMap<Text, Prepared>,
    /// Whether statements are prepared at all, or sent without a name each time.
    naming: bool,
    /// What the process knows of statements.
    plans: Arc<Plans>,
    /// The statements of the exchange that is being put together.
    batch: batch::Batch,
    /// The connector's generation when this was opened.
    generation: u64,
    /// When it was used last, as [`Idleness`] counts.
    used: u64,
    cancel: Arc<Cancel>,
}

impl Wire {
    /// Where the connection stood after the last exchange.
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// True when it cannot be used any more.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// What asks the server to cancel the statement that runs on this connection.
    pub fn cancel(&self) -> Arc<Cancel> {
        Arc::clone(&self.cancel)
    }

    /// Whether it is outside any transaction, has nothing under way, and was not closed by the server in the meantime.
    /// Asks nobody: the runtime knows whether something has arrived.
    fn is_fresh(&mut self, connector: &Connector) -> bool {
        self.generation == connector.generation() && self.is_quiet()
    }

    fn is_quiet(&mut self) -> bool {
        if self.broken || self.awaited > 0 || !self.out.is_empty() || self.status != TransactionStatus::Idle {
            return false;
        }
        self.inbox.clear();
        match self.fill().now_or_never() {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(())) => self.only_news(),
        }
    }

    /// Whether all that has arrived is what the server may tell at any time: a changed setting, a notice.
    fn only_news(&mut self) -> bool {
        loop {
            match self.inbox.next() {
                Ok(Some(message)) if message.is_news() => {}
                Ok(None) => return self.inbox.is_drained(),
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    }

    /// Brings a connection whose borrower has gone back to where the next one may have it: reads what is under way, and
    /// rolls back. It is no use when part of a message has not been sent.
    ///
    /// # Errors
    /// When it cannot be saved: close it.
    pub async fn recover(&mut self) -> Result<(), WireError> {
        if self.broken || !self.out.is_empty() {
            return Err(WireError::Closed);
        }
        self.drain().await?;
        if self.status != TransactionStatus::Idle {
            frontend::query("rollback", &mut self.out)?;
            self.awaited += 1;
            self.flush().await?;
            self.drain().await?;
        }
        if self.status == TransactionStatus::Idle {
            Ok(())
        } else {
            Err(WireError::Protocol("a rollback that ends nothing"))
        }
    }
}

impl Drop for Wire {
    /// Says goodbye, when that can be done at once.
    fn drop(&mut self) {
        if !self.broken && self.out.is_empty() && self.awaited == 0 {
            let _ = self.socket.write_all(b"X\0\0\0\x04").now_or_never();
        }
    }
}
