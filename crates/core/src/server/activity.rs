//! What a connection is doing, as its bytes and its requests show it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use http::header::CONTENT_LENGTH;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::Framing;
use super::linger::{Linger, Remaining};
use super::taking::{Offer, PIECE};
use crate::lifecycle::Lifecycle;

/// Frames of HTTP/2 that ask for nothing (PING, SETTINGS, PRIORITY) which a client may send after a request, and one more
/// for so many bytes that it is sent: clients measure their line with PING while they take an answer (D-05).
const CONTROLS: u64 = 1000;
const PER_CONTROL: u64 = 1024;

/// Noted by the connection's stream and its requests, read by its clocks. All of it is advice, so nothing is ordered.
#[derive(Default)]
pub(super) struct Activity {
    /// Requests whose head was read, since the beginning.
    requests: AtomicU32,
    /// Those of them that are not answered to the last byte.
    in_flight: AtomicU32,
    /// Over HTTP/1: bytes came since the last request, so that the next head has begun.
    heard: AtomicBool,
    /// What came ends within a head or a frame.
    within: AtomicBool,
    /// The client does not take what we write.
    blocked: AtomicBool,
    written: AtomicU64,
    /// Some of an answer's body was handed over, and may not have gone out.
    sending: AtomicBool,
    multiplexed: AtomicBool,
    /// Over HTTP/1: what came last was not read to its end, and the rest may still come.
    unread: AtomicBool,
}

/// What a connection is doing. A change of it starts the clock anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// No request was ever complete.
    FirstHead,
    /// The head of a later request has begun, or over HTTP/2 a frame, which may be part of one.
    NextHead,
    /// Requests are being answered.
    Answering,
    /// An answer is ready, and the client does not take it; with the pieces taken so far.
    Blocked(u64),
    /// Nothing, after so many requests.
    Idle(u32),
}

impl Activity {
    pub(super) fn doing(&self) -> Doing {
        let requests = self.requests.load(Relaxed);
        // HTTP/2 has frames between requests that are no head.
        let begun = if self.multiplexed.load(Relaxed) { &self.within } else { &self.heard };
        if requests == 0 {
            Doing::FirstHead // what is written then is no answer, whether it is taken or not
        } else if self.blocked.load(Relaxed) {
            Doing::Blocked(self.written.load(Relaxed) / PIECE as u64)
        } else if self.in_flight.load(Relaxed) > 0 {
            Doing::Answering
        } else if begun.load(Relaxed) {
            Doing::NextHead
        } else {
            Doing::Idle(requests)
        }
    }

    /// What is written may be a part of an answer's body.
    pub(super) fn is_sending(&self) -> bool {
        self.sending.load(Relaxed)
    }

    /// A request's head is complete; it is in flight until what this returns is dropped.
    pub(super) fn begin<B>(self: &Arc<Self>, request: &http::Request<B>) -> InFlight {
        self.multiplexed.store(request.version() == http::Version::HTTP_2, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.unread.store(false, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        InFlight { activity: Arc::clone(self), sized: request.headers().contains_key(CONTENT_LENGTH) }
    }
}

impl Activity {
    /// The request, whose body is watched where there is one: what nobody reads of it is dropped with the connection over
    /// HTTP/1, and by a task of `lifecycle` over HTTP/2.
    pub(super) fn watch(
        self: &Arc<Self>,
        request: http::Request<Incoming>,
        lifecycle: &Lifecycle,
    ) -> http::Request<Body> {
        if request.body().is_end_stream() {
            return request.map(Body::new);
        }
        if request.version() == http::Version::HTTP_2 {
            return request.map(|body| Body::new(Remaining::new(body, lifecycle.clone())));
        }
        self.leave_unread();
        request.map(|body| Body::new(Incomplete { body, activity: Arc::clone(self) }))
    }

    /// Some of what comes is not going to be read.
    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// What came last was not read to its end.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }
}

/// A request's body over HTTP/1, until all of it was read.
struct Incomplete {
    body: Incoming,
    activity: Arc<Activity>,
}

impl http_body::Body for Incomplete {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.activity.unread.store(false, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// One request that is being answered.
pub(super) struct InFlight {
    activity: Arc<Activity>,
    /// Its body ends anywhere, not with an empty line.
    sized: bool,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // What was heard meanwhile was the request's body, unless it ends within the next head, which came along with it.
        let begun = !self.sized && self.activity.within.load(Relaxed);
        self.activity.heard.store(begun, Relaxed);
        self.activity.in_flight.fetch_sub(1, Relaxed);
    }
}

/// An answer's body: its request is in flight until the last byte is handed over.
pub(super) struct Tracked {
    body: Body,
    /// Over HTTP/2, where it goes out piece by piece.
    offer: Option<Offer>,
    request: InFlight,
}

impl Tracked {
    pub(super) fn new(body: Body, request: InFlight) -> Self {
        Self { body, offer: Offer::new(), request }
    }

    fn left(&self) -> usize {
        self.offer.as_ref().map_or(0, Offer::left)
    }
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.request.activity.sending.store(true, Relaxed);
        let Self { body, offer, .. } = &mut *self;
        let Some(offer) = offer else { return Pin::new(body).poll_frame(cx) };
        if let Some(piece) = offer.next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|data| offer.hand(data)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let left = self.left() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + left);
        }
        hint.set_lower(hint.lower() + left);
        hint
    }
}

/// A stream that notes when bytes come, and when bytes cannot go.
pub(super) struct Heard<S> {
    stream: S,
    activity: Arc<Activity>,
    framing: Framing,
    /// Once there is no more to write, and the client still sends.
    linger: Option<Linger>,
}

impl<S> Heard<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, framing: Framing::new(), linger: None }
    }

    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.blocked.store(outcome.is_pending(), Relaxed);
        if let Poll::Ready(Ok(bytes)) = &outcome {
            self.activity.written.fetch_add(*bytes as u64, Relaxed);
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(came) = buffer.filled().get(before..).filter(|came| !came.is_empty()) {
            self.framing.read(came);
            self.activity.heard.store(true, Relaxed);
            self.activity.within.store(self.framing.is_within(), Relaxed);
            if self.framing.controls() > CONTROLS + self.activity.written.load(Relaxed) / PER_CONTROL {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS takes what it has room for, and leaves it to this to hand it on.
        self.activity.blocked.store(outcome.is_pending(), Relaxed);
        if outcome.is_ready() {
            self.activity.sending.store(false, Relaxed);
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if this.activity.is_unread() {
            let linger = this.linger.get_or_insert_with(Linger::new);
            ready!(linger.poll(&mut this.stream, cx));
        }
        Poll::Ready(Ok(()))
    }
}
