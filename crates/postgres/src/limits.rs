//! How much of what a server sends is held in memory.

use super::WireError;

/// What a buffer starts with: the answer to most statements, and one read of the socket. While rows are taken one by
/// one, no more than this is read ahead of them, or as much as the longest of them has made the buffer.
pub const READ_AHEAD: usize = 8 * 1024;
/// A buffer that has grown beyond this, in bytes, is not kept for the next exchange.
pub const KEPT: usize = 128 * 1024;
/// All that a server may send before it has let us in, in bytes.
pub const OPENING: usize = 64 * 1024;
/// The longest description of a statement, error or notice, in bytes.
pub const DESCRIPTION: usize = 1024 * 1024;
/// The longest message of a kind that has no business being long, in bytes, as in libpq.
pub const SHORT: usize = 30_000;

/// How much a connection holds of what the server sends. Beyond it, what was asked fails with
/// [`WireError::TooLarge`], and the connection cannot be used any more: what is still to come would have to be read to
/// its end.
///
/// A connection's buffer is never larger than `answer` and [`READ_AHEAD`] together. What it holds besides does not grow
/// with what the server sends, but with the number of statements that the program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// The longest row, in bytes, as it is sent.
    pub row: usize,
    /// All rows of an answer that is read whole, in bytes; a longer one is read as a portal.
    pub answer: usize,
}

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// One row was longer than [`MemoryLimits::row`].
    Row,
    /// A description, error or notice was longer than [`DESCRIPTION`].
    Description,
    /// The answer was longer than [`MemoryLimits::answer`].
    Answer,
}

impl Default for MemoryLimits {
    /// Rows of 32 MiB, answers of 64 MiB.
    fn default() -> Self {
        Self { row: 32 * 1024 * 1024, answer: 64 * 1024 * 1024 }
    }
}

impl MemoryLimits {
    /// Those that hold before the server has let us in.
    pub(super) const BEFORE: Self = Self { row: OPENING, answer: OPENING };

    pub(super) fn exceeded(self, what: Excess) -> WireError {
        let limit = match what {
            Excess::Row => self.row,
            Excess::Description => DESCRIPTION,
            Excess::Answer => self.answer,
        };
        WireError::TooLarge { what, limit }
    }
}
