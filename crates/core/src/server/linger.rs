//! Reads and drops the rest of a body that was refused, so that its sender gets to see why.
//!
//! Many clients send all of a body before they look for the answer, and a socket that is closed with bytes unread tells
//! them of a broken connection and throws the answer away (RFC 9112, 9.6). So the end of ours is told first, and what
//! comes is dropped for a while.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How much is dropped, and for how long: a file that was meant for another place, not a flood.
const MOST: usize = 32 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
/// What is dropped at a time.
const PIECE: usize = 16 * 1024;

/// What is still borne with.
pub(super) struct Linger {
    left: usize,
    until: Pin<Box<Sleep>>,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self { left: MOST, until: Box::pin(sleep(PATIENCE)) }
    }

    /// Ready when the client has ended or enough was dropped.
    pub(super) fn poll<S: AsyncRead + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        let mut piece = [0; PIECE];
        while self.left > 0 {
            let mut buffer = ReadBuf::new(&mut piece);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.left = self.left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    ready!(self.until.as_mut().poll(cx));
                    return Poll::Ready(());
                }
            }
        }
        Poll::Ready(())
    }
}
