//! One connection, until its client, its clocks or the lifecycle end it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Serving;
use super::activity::{Activity, Heard, InFlight, Tracked};
use super::admission::Permit;
use super::host::is_addressed;
use super::patience::{Patience, PatienceVerdict};
use super::taking::watched;
use super::unread::Answered;
use crate::lifecycle::{Lifecycle, Phase};
use crate::middleware::{Peer, Unread};

/// Room for a target of 8 KiB and headers of 16 KiB, which the chain refuses with a problem when they are larger (D-04).
const HEAD_BUFFER: usize = 32 * 1024;
const HTTP2_HEADERS: u32 = 32 * 1024;
const HTTP2_STREAMS: u32 = 200;
/// What a client may send of a body before somebody reads it, on one stream and on all together; what is not read would
/// pass the memory for bodies by (D-03). hyper's own are 1 MiB. A stream's is what the protocol begins with: a smaller one
/// comes to hold only after a fresh connection has sent that much, and clients such as httpx do not survive a window
/// that is then below nothing (RFC 9113, 6.9.2).
const HTTP2_WINDOWS: (u32, u32) = (65_535, 256 * 1024);
/// What waits for the client of one stream, of an answer that is made faster than it is taken. hyper's own is 400 KiB.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client may reset, or that we may, before the connection ends (D-05).
const HTTP2_RESETS: usize = 50;
/// How often a peer of HTTP/2 is asked whether it is still there, and how long it may take to say so.
const HTTP2_PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// `begun` is from when the first head's time counts.
pub(super) async fn hold<S, A, F>(
    stream: S,
    peer: Peer,
    shared: Arc<Serving<A>>,
    _permit: Permit,
    begun: Instant,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Peer, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let mut patience =
        Patience::new(Arc::clone(&activity), shared.limits, shared.lifecycle.stop_serving(), begun);
    let builder = builder(&shared.lifecycle);
    let stream = Heard::new(stream, Arc::clone(&activity));
    let ours = Arc::clone(&shared);
    let refuse = move |status| (ours.answer)(peer, Unread(status).into());
    let stream = TokioIo::new(Answered::new(stream, refuse, Arc::clone(&activity)));
    let service = service_fn(|request: Request<Incoming>| {
        let version = request.version();
        let in_flight = activity.begin(&request);
        let shared = Arc::clone(&shared);
        let addressed = is_addressed(&request);
        let mut request = activity.watch(request, &shared.lifecycle);
        if !addressed {
            request = Unread(StatusCode::BAD_REQUEST).into();
        }
        async move {
            let answer = pin!((shared.answer)(peer, request)); // pinned, since to move it is dear
            Ok::<_, Infallible>(dress(answer.await, version, &shared.lifecycle, in_flight))
        }
    });
    let mut connection = pin!(builder.serve_connection(stream, service));
    poll_fn(|cx| {
        loop {
            // How it ended does not matter: a client that breaks its connection off is no event.
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match patience.poll(cx) {
                Poll::Ready(PatienceVerdict::Leave) => connection.as_mut().graceful_shutdown(),
                Poll::Ready(PatienceVerdict::Cut) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// While the process drains, clients of HTTP/1 are asked to come back over another connection: the load balancer leads
/// them elsewhere, and few are left when the listener closes.
fn dress(
    response: Response,
    version: Version,
    lifecycle: &Lifecycle,
    request: InFlight,
) -> http::Response<Tracked> {
    let mut response = response.map(|body| Tracked::new(body, request));
    // Of a body that was refused, the rest may still come.
    let refused = matches!(response.status(), StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE);
    if version < Version::HTTP_2 && (refused || lifecycle.phase() == Phase::Draining) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn builder(lifecycle: &Lifecycle) -> Builder<Owned> {
    let mut builder = Builder::new(Owned(lifecycle.clone()));
    // No deadline of hyper's: see `patience`. It refuses more than 100 headers by itself.
    builder.http1().header_read_timeout(None).max_buf_size(HEAD_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(HTTP2_HEADERS)
        .initial_stream_window_size(HTTP2_WINDOWS.0)
        .initial_connection_window_size(HTTP2_WINDOWS.1)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .max_pending_accept_reset_streams(HTTP2_RESETS)
        .max_local_error_reset_streams(HTTP2_RESETS)
        .keep_alive_interval(HTTP2_PING.0)
        .keep_alive_timeout(HTTP2_PING.1);
    builder
}

/// Runs the streams of HTTP/2 in tasks that the lifecycle waits for, and that end when their clients take nothing.
#[derive(Clone)]
struct Owned(Lifecycle);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        drop(self.0.serve(watched(Box::new(stream))));
    }
}
