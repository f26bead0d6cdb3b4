//! One exchange: messages up to a Sync go out together, and what comes back is read until the server is ready again.

use std::ops::Range;
use std::sync::Arc;

use postgres_protocol::message::backend;

use super::error::ServerError;
use super::inbox::Message;
use super::prepare::fields;
use super::{Column, Rows, TransactionStatus, Wire, WireError};

/// What came back of an exchange that succeeded. The rows lie in the connection until its next exchange begins.
#[derive(Debug, Default)]
pub struct Reply {
    rows: Range<usize>,
    columns: Option<Arc<[Column]>>,
    /// The last command was COMMIT, and did not turn out a rollback.
    pub committed: bool,
}

impl Reply {
    /// What the statement whose rows are wanted returns.
    pub fn columns(&self) -> &[Column] {
        self.columns.as_deref().unwrap_or_default()
    }
}

/// What has been read of an answer so far.
#[derive(Default)]
pub(super) struct ReplyReading {
    pub(super) step: usize,
    pub(super) refusal: Option<WireError>,
    first_row: Option<usize>,
    rows: Range<usize>,
    committed: bool,
}

impl Wire {
    /// Sends what was put together and reads the answer. `sent` is set once the server may have got all of it, the last
    /// message included; until then it commits nothing.
    ///
    /// # Errors
    /// What the server refused, or how the connection broke.
    pub async fn exchange(&mut self, sent: &mut bool) -> Result<Reply, WireError> {
        self.sync();
        *sent = true;
        if let Err(error) = self.flush().await {
            *sent = self.out.is_empty();
            return Err(error);
        }
        let mut reading = ReplyReading::default();
        while self.awaited > 0 {
            self.read_one(&mut reading).await?;
        }
        if let Some(refusal) = reading.refusal {
            return Err(refusal);
        }
        if reading.step != self.batch.steps {
            self.broken = true;
            return Err(WireError::Protocol("fewer answers than it was asked for"));
        }
        let columns = self.batch.columns.take();
        Ok(Reply { rows: reading.rows, columns, committed: reading.committed })
    }

    /// The rows of a reply.
    pub fn rows<'a>(&'a self, reply: &'a Reply) -> Rows<'a> {
        let messages = self.inbox.bytes.get(reply.rows.clone()).unwrap_or_default();
        Rows { columns: reply.columns.as_deref().unwrap_or_default(), messages }
    }

    /// Reads one message of an answer.
    ///
    /// # Errors
    /// When the connection is of no more use; then with what the server had said before, if it had.
    pub(super) async fn read_one(&mut self, reading: &mut ReplyReading) -> Result<Message, WireError> {
        let outcome = match self.message().await {
            Ok(message) => self.take_in(&message, reading).map(|()| message),
            Err(error) => Err(error),
        };
        outcome.map_err(|error| {
            self.broken = true;
            reading.refusal.take().unwrap_or(error)
        })
    }

    fn take_in(&mut self, message: &Message, reading: &mut ReplyReading) -> Result<(), WireError> {
        let wanted = self.is_wanted(reading);
        match message.tag {
            backend::DATA_ROW_TAG if wanted => drop(reading.first_row.get_or_insert(message.start)),
            backend::DATA_ROW_TAG | backend::BIND_COMPLETE_TAG | backend::NO_DATA_TAG => {}
            backend::PORTAL_SUSPENDED_TAG | backend::PARAMETER_DESCRIPTION_TAG => {}
            backend::PARSE_COMPLETE_TAG => self.confirm_prepared(),
            backend::ROW_DESCRIPTION_TAG => self.describe_rows(message)?,
            backend::COMMAND_COMPLETE_TAG | backend::EMPTY_QUERY_RESPONSE_TAG => {
                if wanted {
                    reading.rows = reading.first_row.unwrap_or(message.start)..message.start;
                }
                reading.committed = self.inbox.body(message) == b"COMMIT\0";
                reading.step += 1;
            }
            _ => return self.end_or_refusal(message, &mut reading.refusal),
        }
        Ok(())
    }

    /// Whether what is read now belongs to the statement whose rows are wanted.
    pub(super) fn is_wanted(&self, reading: &ReplyReading) -> bool {
        self.batch.wanted == Some(reading.step)
    }

    /// What the statement of the present exchange returns.
    pub(super) fn columns(&self) -> &[Column] {
        self.batch.columns.as_deref().unwrap_or_default()
    }

    /// Keeps what the statement returns, for its next use in this session too.
    fn describe_rows(&mut self, message: &Message) -> Result<(), WireError> {
        let fields = fields(&self.inbox.parse(message)?)?;
        let column = |(name, oid): (String, _)| Column { name: name.into(), kind: self.plans.kind(oid) };
        let columns: Arc<[Column]> = fields.into_iter().map(column).collect();
        if let Some(prepared) = self.batch.described.take().and_then(|text| self.prepared.get_mut(&text)) {
            prepared.columns = Some(Arc::clone(&columns));
        }
        self.batch.columns = Some(columns);
        Ok(())
    }

    /// What an answer may hold besides results: its end, or a refusal, after which the server skips to the Sync.
    pub(super) fn end_or_refusal(
        &mut self,
        message: &Message,
        refusal: &mut Option<WireError>,
    ) -> Result<(), WireError> {
        match self.inbox.parse(message)? {
            backend::Message::ReadyForQuery(ready) => {
                self.status = match ready.status() {
                    b'I' => TransactionStatus::Idle,
                    b'T' => TransactionStatus::Open,
                    b'E' => TransactionStatus::Failed,
                    _ => return Err(WireError::Protocol("a state that does not exist")),
                };
                // A listener reads without having asked.
                self.awaited = self.awaited.checked_sub(1).ok_or(WireError::Protocol("an end of nothing"))?;
                Ok(())
            }
            backend::Message::ErrorResponse(body) => {
                let error = ServerError::from_fields(body.fields())?;
                let fatal = error.fatal;
                let error = WireError::Server(Box::new(error));
                self.broken |= error.is_foreign() || error.is_lost(); // read to its end, and not used again
                refusal.get_or_insert(error);
                if fatal { Err(WireError::Closed) } else { Ok(()) } // it hangs up after a fatal one
            }
            _ => Err(WireError::Protocol("a message out of turn")),
        }
    }
}
