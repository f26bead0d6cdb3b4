//! Reads and drops the rest of a body that was refused, so that its sender gets to see why.
//!
//! Many clients send all of a body before they look for the answer. Over HTTP/1 a socket that is closed with bytes unread
//! tells them of a broken connection and throws the answer away (RFC 9112, 9.6). So the end of ours is told first, and
//! what comes is dropped for a while. Over HTTP/2 a stream that is reset for want of a reader is an error to curl, and
//! httpx waits for window without looking at the answer. So what comes is dropped there too, stream by stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use crate::lifecycle::Lifecycle;

/// How much is dropped, and for how long: a file that was meant for another place, not a flood.
const MOST: usize = 32 * 1024 * 1024;
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
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

/// A request's body over HTTP/2. What is left of it when its reader drops it is read and dropped by a task of its own,
/// and the client gets its window back for that. Where the client goes on beyond the bounds, its stream is reset.
pub(super) struct Remaining {
    /// `None` once it is dropped.
    body: Option<Incoming>,
    lifecycle: Lifecycle,
}

impl Remaining {
    pub(super) fn new(body: Incoming, lifecycle: Lifecycle) -> Self {
        Self { body: Some(body), lifecycle }
    }
}

impl Drop for Remaining {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            drop(self.lifecycle.serve(timeout(PATIENCE, discard(body))));
        }
    }
}

/// Ends with the body, its stream or its connection, or when enough was dropped.
async fn discard(mut body: Incoming) {
    let mut left = MOST;
    while left > 0
        && let Some(Ok(frame)) = body.frame().await
    {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
    }
}

impl Body for Remaining {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
