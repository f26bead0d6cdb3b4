//! What the server has sent, cut into messages.

use std::ops::Range;

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::backend;

use super::WireError;
use super::limits::{DESCRIPTION, Excess, KEPT, MemoryLimits, READ_AHEAD, SHORT};

/// Type and length.
pub(super) const HEADER: usize = 5;

/// The bytes that have arrived, and how many of them have been looked at.
pub(super) struct Inbox {
    pub(super) bytes: BytesMut,
    at: usize,
    pub(super) limits: MemoryLimits,
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
        Self { bytes: BytesMut::with_capacity(READ_AHEAD), at: 0, limits: MemoryLimits::BEFORE }
    }

    /// The next message, if all of it has arrived.
    ///
    /// # Errors
    /// What cannot be a message of PostgreSQL's.
    pub(super) fn next(&mut self) -> Result<Option<Message>, WireError> {
        let Some(header) = self.bytes.get(self.at..self.at + HEADER) else { return Ok(None) };
        let header =
            backend::Header::parse(header).map_err(|_| WireError::Protocol("a message without a length"))?;
        let Some(header) = header else { return Ok(None) };
        let length = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
        match header.tag() {
            backend::DATA_ROW_TAG => self.admit(length, self.limits.row, Excess::Row)?,
            backend::ROW_DESCRIPTION_TAG | backend::ERROR_RESPONSE_TAG | backend::NOTICE_RESPONSE_TAG => {
                self.admit(length, DESCRIPTION, Excess::Description)?;
            }
            _ if length > SHORT => return Err(WireError::Protocol("a message of impossible length")),
            _ => {}
        }
        let end = self.at + length;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let message = Message { tag: header.tag(), start: self.at, end };
        self.at = end;
        Ok(Some(message))
    }

    /// Refuses a message that is too long before it is read.
    fn admit(&self, length: usize, most: usize, what: Excess) -> Result<(), WireError> {
        if length <= most { Ok(()) } else { Err(self.limits.exceeded(what)) }
    }

    /// The body of a message.
    pub(super) fn body(&self, message: &Message) -> &[u8] {
        self.bytes.get(message.body()).unwrap_or_default()
    }

    /// The message as the crate reads it: for the rare kinds.
    pub(super) fn parse(&self, message: &Message) -> Result<backend::Message, WireError> {
        let mut bytes = BytesMut::from(self.bytes.get(message.start..message.end).unwrap_or_default());
        match backend::Message::parse(&mut bytes) {
            Ok(Some(parsed)) => Ok(parsed),
            _ => Err(WireError::Protocol("a message that cannot be read")),
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
            self.bytes = BytesMut::with_capacity(READ_AHEAD);
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
    pub(super) fn make_room(&mut self) -> Result<(), WireError> {
        let length = self.bytes.len();
        if length >= self.limits.answer {
            return Err(self.limits.exceeded(Excess::Answer));
        }
        if self.bytes.capacity() - length < READ_AHEAD / 2 {
            self.grow(length.min(self.limits.answer - length).max(READ_AHEAD));
        }
        Ok(())
    }

    /// Makes room for so many bytes more. The buffer's own growth would double it, also past the limit.
    #[cold]
    fn grow(&mut self, more: usize) {
        if self.bytes.capacity() < KEPT {
            self.bytes.reserve(more);
            return;
        }
        let mut larger = BytesMut::with_capacity(self.bytes.len() + more);
        larger.extend_from_slice(&self.bytes);
        self.bytes = larger;
    }
}
