//! What the server has sent, cut into messages.

use std::ops::Range;

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::backend;

use super::Error;

/// What a buffer starts with: the answer to most statements, and one read of the socket.
const ROOM: usize = 8 * 1024;
/// A buffer that has grown beyond this is not kept for the next exchange.
const KEPT: usize = 128 * 1024;
/// The longest message of a kind that has no business being long, as in libpq.
const SHORT: usize = 30_000;
/// All that may arrive before the borrower takes it: more must be read as a stream.
const MOST: usize = 256 * 1024 * 1024;
/// Type and length.
const HEADER: usize = 5;

/// The bytes that have arrived, and how many of them have been looked at.
pub(super) struct Inbox {
    pub(super) bytes: BytesMut,
    at: usize,
}

/// A whole message in the inbox.
#[derive(Debug, Clone)]
pub struct Message {
    pub(super) tag: u8,
    /// Where its type byte stands.
    pub(super) start: usize,
    /// Where the next message begins.
    pub(super) end: usize,
}

impl Message {
    /// What follows the header.
    pub(super) fn body(&self) -> Range<usize> {
        self.start + HEADER..self.end
    }

    /// What the server may send at any time, and what means nothing to us: notices, changed settings, notifications.
    pub(super) fn is_news(&self) -> bool {
        matches!(
            self.tag,
            backend::NOTICE_RESPONSE_TAG | backend::PARAMETER_STATUS_TAG | backend::NOTIFICATION_RESPONSE_TAG
        )
    }
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: BytesMut::with_capacity(ROOM), at: 0 }
    }

    /// The next message, if all of it has arrived.
    ///
    /// # Errors
    /// What cannot be a message of PostgreSQL's.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Error> {
        let Some(header) = self.bytes.get(self.at..self.at + HEADER) else { return Ok(None) };
        let header =
            backend::Header::parse(header).map_err(|_| Error::Protocol("a message without a length"))?;
        let Some(header) = header else { return Ok(None) };
        let length = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
        let most = match header.tag() {
            backend::DATA_ROW_TAG | backend::ROW_DESCRIPTION_TAG => MOST,
            backend::ERROR_RESPONSE_TAG | backend::NOTICE_RESPONSE_TAG => MOST,
            backend::NOTIFICATION_RESPONSE_TAG => MOST,
            _ => SHORT,
        };
        if length > most {
            return Err(Error::Protocol("a message of impossible length"));
        }
        let end = self.at + length;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let message = Message { tag: header.tag(), start: self.at, end };
        self.at = end;
        Ok(Some(message))
    }

    /// The body of a message.
    pub(super) fn body(&self, message: &Message) -> &[u8] {
        self.bytes.get(message.body()).unwrap_or_default()
    }

    /// The message as the crate reads it: for the rare kinds.
    pub(super) fn parse(&self, message: &Message) -> Result<backend::Message, Error> {
        let mut bytes = BytesMut::from(self.bytes.get(message.start..message.end).unwrap_or_default());
        match backend::Message::parse(&mut bytes) {
            Ok(Some(parsed)) => Ok(parsed),
            _ => Err(Error::Protocol("a message that cannot be read")),
        }
    }

    /// Forgets the messages that have been looked at.
    pub(super) fn consume(&mut self) {
        self.bytes.advance(self.at);
        self.at = 0;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        if self.bytes.capacity() > KEPT {
            self.bytes = BytesMut::with_capacity(ROOM);
        }
        self.bytes.clear();
        self.at = 0;
    }

    /// Whether nothing is left that has not been looked at.
    pub(super) fn is_drained(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Makes room for the next read: more than will come, so that one read tells that there is no more.
    ///
    /// # Errors
    /// When more has arrived than anybody should hold in memory.
    pub(super) fn make_room(&mut self) -> Result<(), Error> {
        if self.bytes.len() >= MOST {
            return Err(Error::Protocol("more than fits into memory"));
        }
        if self.bytes.capacity() - self.bytes.len() < ROOM / 2 {
            self.bytes.reserve(self.bytes.len().max(ROOM));
        }
        Ok(())
    }
}
