//! Whether the client of a stream of HTTP/2 takes its answer (D-02).
//!
//! A client of HTTP/1 that takes nothing leaves bytes in the socket, which `patience` sees. One of HTTP/2 can go on
//! talking while it grants a stream no window, and hyper then waits for it without a limit. So the task of each stream
//! looks whether a piece of the answer that was handed over is still the last one.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;

use axum::body::Bytes;
use tokio::time::sleep;

use super::patience::WRITE_STALL;

/// What a client must take within [`WRITE_STALL`], about 1 KiB/s, and what an answer is cut into for that.
pub(super) const PIECE: usize = 32 * 1024;
/// Nobody waits for the client: there is no answer yet, or no more of it.
const OURS: u64 = 0;

tokio::task_local! {
    /// Which piece of the answer the client has before it.
    static OFFERED: Arc<AtomicU64>;
}

/// Runs a stream until its end, or until its client has not taken a piece in time: dropped, it is reset.
pub(super) async fn watched<F: Future>(stream: Box<F>) {
    let offered = Arc::new(AtomicU64::new(OURS));
    let mut stream = Box::into_pin(stream);
    let mut last = OURS;
    let mut alarm = None;
    poll_fn(|cx| {
        if OFFERED.sync_scope(Arc::clone(&offered), || stream.as_mut().poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        let piece = offered.load(Relaxed);
        if piece != last {
            last = piece;
            alarm = (piece != OURS).then(|| Box::pin(sleep(WRITE_STALL)));
        }
        alarm.as_mut().map_or(Poll::Pending, |alarm| alarm.as_mut().poll(cx))
    })
    .await;
}

/// An answer's data on its way to the client of a stream.
pub(super) struct Offer {
    task: Arc<AtomicU64>,
    pieces: u64,
    rest: Bytes,
}

impl Offer {
    /// `None` outside of a stream's task: HTTP/1 has none.
    pub(super) fn new() -> Option<Self> {
        let task = OFFERED.try_with(Arc::clone).ok()?;
        Some(Self { task, pieces: OURS, rest: Bytes::new() })
    }

    /// How much of the last frame is still to come.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next piece of the last frame. The client has taken what it had.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.task.store(OURS, Relaxed);
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| self.hand(rest))
    }

    /// The first piece of a new frame.
    pub(super) fn hand(&mut self, mut data: Bytes) -> Bytes {
        self.pieces += 1;
        self.task.store(self.pieces, Relaxed);
        self.rest = data.split_off(data.len().min(PIECE));
        data
    }
}
