//! A result that is read row by row, as its reader asks: flat in memory however long it is.

use postgres_protocol::message::{backend, frontend};

use super::exchange::ReplyReading;
use super::inbox::Message;
use super::{Params, Plan, Row, Wire, WireError};

/// The portal's name: one that outlives a Sync, within its transaction.
const NAME: &str = "rows";
/// How many rows the server computes before it waits to be asked again: at first, at most, and else as many as make up
/// so many bytes. Its statement timeout counts from each asking, so that a slow reader is not taken for a slow
/// statement; and what it has computed fits into the socket, where it would else wait within the statement. PostgreSQL
/// sends pieces of 8 KiB, which count twice: a Unix socket of 208 KiB, as Linux makes them, holds about 100 KiB.
const FIRST: i32 = 32;
const MOST: i32 = 1000;
const BYTES: usize = 64 * 1024;

/// A result under way.
#[derive(Default)]
pub struct Portal {
    reading: ReplyReading,
    /// The server waits to be asked for more.
    paused: bool,
    /// What came since it was asked.
    rows: usize,
    bytes: usize,
}

impl Portal {
    /// How many rows to ask for next.
    fn next(&mut self) -> i32 {
        let (rows, bytes) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.bytes));
        let fitting = rows * BYTES / bytes.max(1);
        i32::try_from(fitting).unwrap_or(MOST).clamp(1, MOST)
    }
}

impl Wire {
    /// Adds the statement whose rows are wanted one by one. It is the last of its exchange.
    ///
    /// # Errors
    /// When a value does not fit its parameter: nothing of the exchange is then sent.
    pub fn streamed(&mut self, plan: &Plan, params: Params<'_>) -> Result<Portal, WireError> {
        self.portal(NAME, FIRST, plan, params)?;
        self.sync();
        Ok(Portal::default())
    }

    /// The next row; `None` at the end, with the transaction still open. May be given up at any await, and called again.
    ///
    /// # Errors
    /// As the server says, or as the connection breaks.
    pub async fn next_row(&mut self, portal: &mut Portal) -> Result<Option<Message>, WireError> {
        loop {
            if self.awaited == 0 {
                if let Some(refusal) = portal.reading.refusal.take() {
                    return Err(refusal);
                }
                if !std::mem::take(&mut portal.paused) {
                    return Ok(None);
                }
                frontend::execute(NAME, portal.next(), &mut self.out)?;
                self.sync();
            }
            self.flush().await?;
            self.inbox.consume();
            let message = self.read_one(&mut portal.reading).await?;
            match message.tag {
                backend::DATA_ROW_TAG if self.is_wanted(&portal.reading) => {
                    portal.rows += 1;
                    portal.bytes += message.end - message.start;
                    return Ok(Some(message));
                }
                backend::PORTAL_SUSPENDED_TAG => portal.paused = true,
                _ => {}
            }
        }
    }

    /// Says that the session is still of use, while nobody asks for rows: the server counts the time since it last heard of
    /// an open transaction. What it answers is read with the next row.
    ///
    /// # Errors
    /// As the connection breaks.
    pub async fn keep_alive(&mut self) -> Result<(), WireError> {
        self.sync();
        self.flush().await
    }

    /// What lies in a message of [`Wire::next_row`].
    ///
    /// # Errors
    /// When it is no row of this statement.
    pub fn row(&self, message: &Message) -> Result<Row<'_>, WireError> {
        Row::new(self.columns(), self.inbox.body(message))
    }
}
