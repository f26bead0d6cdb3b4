//! A result that is read row by row, as its reader asks: flat in memory however long it is.

use postgres_protocol::message::{backend, frontend};

use super::exchange::Reading;
use super::inbox::Message;
use super::{Error, Plan, Row, Wire};
use crate::db::Params;

/// The portal's name: one that outlives a Sync, within its transaction.
const NAME: &str = "rows";
/// How many rows the server computes before it waits to be asked again. Its statement timeout counts from each asking,
/// so that a slow reader is not taken for a slow statement.
const ROWS: i32 = 1000;

/// A result under way.
#[derive(Default)]
pub(in crate::db) struct Portal {
    reading: Reading,
    /// The server waits to be asked for more.
    paused: bool,
}

impl Wire {
    /// Adds the statement whose rows are wanted one by one. It is the last of its exchange.
    ///
    /// # Errors
    /// When a value does not fit its parameter: nothing of the exchange is then sent.
    pub(in crate::db) fn streamed(&mut self, plan: &Plan, params: Params<'_>) -> Result<Portal, Error> {
        self.portal(NAME, ROWS, plan, params)?;
        self.sync();
        Ok(Portal::default())
    }

    /// The next row; `None` at the end, with the transaction still open. May be given up at any await, and called again.
    ///
    /// # Errors
    /// As the server says, or as the connection breaks.
    pub(in crate::db) async fn next_row(&mut self, portal: &mut Portal) -> Result<Option<Message>, Error> {
        loop {
            if self.awaited == 0 {
                if let Some(refusal) = portal.reading.refusal.take() {
                    return Err(refusal);
                }
                if !std::mem::take(&mut portal.paused) {
                    return Ok(None);
                }
                frontend::execute(NAME, ROWS, &mut self.out)?;
                self.sync();
            }
            self.flush().await?;
            self.inbox.consume();
            let message = self.read_one(&mut portal.reading).await?;
            match message.tag {
                backend::DATA_ROW_TAG if self.is_wanted(&portal.reading) => return Ok(Some(message)),
                backend::PORTAL_SUSPENDED_TAG => portal.paused = true,
                _ => {}
            }
        }
    }

    /// What lies in a message of [`Wire::next_row`].
    ///
    /// # Errors
    /// When it is no row of this statement.
    pub(in crate::db) fn row(&self, message: &Message) -> Result<Row<'_>, Error> {
        Row::new(self.columns(), self.inbox.body(message))
    }
}
