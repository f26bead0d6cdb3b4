//! What hyper cannot read as a request it answers by itself: bare, and unknown to everybody. Here the chain answers it
//! instead, so that it too is logged, counted and limited, and has what all answers have (H-01, H-04).
//!
//! hyper has no place to say so, but what it writes then is unlike any answer of the chain, which always names its
//! request. An answer before it that is still on its way hides it: then it goes out as it is, and nothing is lost. A body
//! may look like anything, so nothing of one is replaced: a proxy would take what is too long for a second answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::response::Response;
use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// The only headers of hyper's own refusals.
const HYPERS: [&str; 3] = ["connection: ", "content-length: ", "date: "];

/// A stream on which hyper's refusals are replaced by those that `answer` gives.
pub(super) struct Answered<S, A> {
    stream: S,
    answer: A,
    activity: Arc<Activity>,
    stage: UnreadStage,
}

enum UnreadStage {
    /// What is written goes out as it is.
    Passing,
    /// A refusal was written, and its replacement is being made.
    Asking(BoxFuture<'static, Bytes>),
    /// What is left of the replacement.
    Sending(Bytes),
}

impl<S, A, F> Answered<S, A>
where
    S: AsyncWrite + Unpin,
    A: Fn(StatusCode) -> F + Unpin,
    F: Future<Output = Response> + Send + 'static,
{
    pub(super) fn new(stream: S, answer: A, activity: Arc<Activity>) -> Self {
        Self { stream, answer, activity, stage: UnreadStage::Passing }
    }

    /// Whether `bytes` are not to go out as they are.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if let (UnreadStage::Passing, Some((status, theirs))) = (&self.stage, refusal(bytes))
            && !self.activity.is_sending()
        {
            self.activity.leave_unread(); // what was not understood may go on
            self.stage = UnreadStage::Asking(written((self.answer)(status), theirs).boxed());
        }
        !matches!(self.stage, UnreadStage::Passing)
    }

    fn poll_replacement(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let UnreadStage::Asking(replacement) = &mut self.stage {
            self.stage = UnreadStage::Sending(ready!(replacement.poll_unpin(cx)));
        }
        while let UnreadStage::Sending(rest) = &mut self.stage
            && !rest.is_empty()
        {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => rest.advance(sent),
            }
        }
        self.stage = UnreadStage::Passing;
        Poll::Ready(Ok(()))
    }
}

/// The status of a refusal of hyper's, and what of its head is kept; `None` for everything else.
fn refusal(bytes: &[u8]) -> Option<(StatusCode, String)> {
    // Most answers differ in the first digit of their status.
    let head = bytes.strip_prefix(b"HTTP/1.1 ").filter(|rest| rest.first() == Some(&b'4'))?;
    let mut lines = str::from_utf8(head).ok()?.strip_suffix("\r\n\r\n")?.split("\r\n");
    let status = StatusCode::from_bytes(lines.next()?.get(..3)?.as_bytes()).ok()?;
    let mut kept = String::new();
    for line in lines {
        let name = HYPERS.iter().find(|name| line.starts_with(**name))?;
        if !name.starts_with("content-length") {
            kept += line;
            kept += "\r\n";
        }
    }
    Some((status, kept))
}

/// The whole answer as bytes, with `theirs` among its headers.
async fn written(answer: impl Future<Output = Response> + Send, theirs: String) -> Bytes {
    let (parts, body) = answer.await.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut bytes =
        format!("HTTP/1.1 {}\r\n{theirs}content-length: {}\r\n", parts.status, body.len()).into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes.into()
}

impl<S: AsyncRead + Unpin, A: Unpin> AsyncRead for Answered<S, A> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S, A, F> AsyncWrite for Answered<S, A>
where
    S: AsyncWrite + Unpin,
    A: Fn(StatusCode) -> F + Unpin,
    F: Future<Output = Response> + Send + 'static,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.replaces(bytes) {
            return self.poll_replacement(cx).map_ok(|()| bytes.len());
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [head] = slices
            && self.replaces(head)
        {
            return self.poll_replacement(cx).map_ok(|()| head.len());
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const BARE: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";

    async fn ours(status: StatusCode) -> Response {
        tokio::task::yield_now().await;
        Response::builder().status(status).header("x-request-id", "7").body(Body::from("why")).unwrap()
    }

    #[tokio::test]
    async fn h_04_a_refusal_is_replaced_however_slowly_the_client_takes_it() {
        let (mut client, server) = tokio::io::duplex(7);
        let mut stream = Answered::new(server, ours, Arc::default());
        let written = async move {
            stream.write_all(b"before").await.unwrap();
            stream.write_all(BARE).await.unwrap();
            stream.write_all(b"after").await.unwrap();
        };
        let mut read = String::new();
        let ((), sent) = tokio::join!(written, client.read_to_string(&mut read));
        sent.unwrap();
        let expected = "beforeHTTP/1.1 400 Bad Request\r\nconnection: close\r\ndate: now\r\ncontent-length: 3\r\n\
                        x-request-id: 7\r\n\r\nwhyafter";
        assert_eq!(read, expected);
    }

    #[test]
    fn only_what_no_answer_of_ours_looks_like_is_a_refusal() {
        assert_eq!(refusal(BARE).map(|(status, _)| status), Some(StatusCode::BAD_REQUEST));
        for other in [
            &b"HTTP/1.1 400 Bad Request\r\nx-request-id: 7\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 1\r\n\r\nx",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert!(refusal(other).is_none(), "{}", String::from_utf8_lossy(other));
        }
    }
}
