//! Clients that take their answers slowly, or not at all (D-02). Time is tokio's and stands still while anybody works.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::admission::Admission;
use super::attacks::{PING, POST_ROOT, frame, next_frame};
use super::conversation::hold;
use super::framing::{DATA, END_HEADERS, HEADERS, PREFACE, RST_STREAM};
use super::linger;
use super::patience::WRITE_STALL;
use super::tests::{GET, SETTINGS, limits};
use super::*;

const HEADER: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// What the kernel would hold for a client.
const SOCKET: usize = 16 * 1024;
const LARGE: usize = 2 << 20;
/// What a slow reader takes in a second.
const PACE: u32 = 8 * 1024;
/// How late a clock may be looked at.
const LATE: Duration = Duration::from_secs(6);

/// A connection that is served: `/endless`, `/large` in one piece, and `pong`. The task ends with it.
fn held<S>(stream: S) -> (Lifecycle, JoinHandle<Option<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (limits, lifecycle) = (limits(HEADER, KEEP_ALIVE), Lifecycle::new());
    let admission = Admission::new(limits, Arc::default());
    let permit = admission.admit(None).unwrap();
    let answer = async |_, request: axum::extract::Request| {
        let piece = || Ok::<_, Infallible>(Bytes::from_static(&[b'.'; 4096]));
        Response::new(match request.uri().path() {
            "/endless" => Body::from_stream(stream::repeat_with(piece)),
            "/large" => Body::from(vec![b'.'; LARGE]),
            _ => Body::from("pong"),
        })
    };
    let answer = move |peer, request| -> Pin<Box<dyn Future<Output = axum::response::Response> + Send>> {
        Box::pin(answer(peer, request))
    };
    let owner = lifecycle.clone();
    let shared = Serving { answer, limits, admission, lifecycle: owner, tls: None, proxies: None };
    let peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };
    let held = lifecycle.serve(hold(stream, peer, Arc::new(shared), permit, Instant::now()));
    (lifecycle, held)
}

/// D-03: nobody reads the body, of which a part comes and then nothing more.
#[tokio::test(start_paused = true)]
async fn d_03_whoever_keeps_back_what_nobody_reads_is_let_go_after_10_s() {
    let is_right = |took: Duration| took >= linger::PATIENCE && took < linger::PATIENCE + LATE;
    let (mut client, stream) = duplex(SOCKET);
    let (begin, (_, held)) = (Instant::now(), held(stream));
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\npart";
    client.write_all(head).await.unwrap();
    held.await.unwrap();
    assert!(is_right(begin.elapsed()), "{:?}", begin.elapsed());

    let (mut client, stream) = duplex(SOCKET);
    let (begin, _held) = (Instant::now(), self::held(stream));
    let (head, part) = (frame(HEADERS, END_HEADERS, 1, POST_ROOT), frame(DATA, 0, 1, b"part"));
    client.write_all(&[PREFACE, SETTINGS, &head, &part].concat()).await.unwrap();
    while !matches!(next_frame(&mut client).await, (RST_STREAM, 1, reason) if reason == [0; 4]) {}
    assert!(is_right(begin.elapsed()), "{:?}", begin.elapsed());
}

async fn ask(path: &str) -> (DuplexStream, JoinHandle<Option<()>>) {
    let (mut client, stream) = duplex(SOCKET);
    let (_, held) = held(stream);
    client.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
    (client, held)
}

#[tokio::test(start_paused = true)]
async fn d_02_a_client_that_takes_nothing_is_cut_after_30_s() {
    for path in ["/endless", "/large"] {
        let (_client, held) = ask(path).await;
        let begin = Instant::now();
        held.await.unwrap();
        let took = begin.elapsed();
        assert!(took >= WRITE_STALL && took < WRITE_STALL + LATE, "{path}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn d_02_a_client_that_takes_little_is_served_and_one_that_takes_next_to_nothing_is_cut() {
    for (pause, served) in [(7, true), (14, false)] {
        let (mut client, held) = ask("/endless").await;
        for _ in 0..60 {
            sleep(Duration::from_secs(pause)).await;
            if client.read_exact(&mut [0; SOCKET / 2]).await.is_err() {
                break;
            }
        }
        assert_eq!(!held.is_finished(), served, "8 KiB each {pause} s");
        drop(client);
        held.await.unwrap();
    }
}

/// TLS takes small answers whole, before the socket has taken any of it.
struct Buffering(DuplexStream);

impl AsyncRead for Buffering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl AsyncWrite for Buffering {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn d_02_what_is_left_in_a_buffer_of_ours_is_not_taken() {
    let (mut client, stream) = duplex(SOCKET);
    let (_lifecycle, held) = held(Buffering(stream));
    client.write_all(GET).await.unwrap();
    let begin = Instant::now();
    held.await.unwrap();
    assert!(begin.elapsed() < WRITE_STALL + LATE, "{:?}", begin.elapsed());
}

/// D-01: what is written before there was a request is no answer, however slowly it is taken.
#[tokio::test(start_paused = true)]
async fn d_01_a_client_that_asks_for_nothing_gains_no_time_by_taking_acknowledgements_slowly() {
    let (client, stream) = duplex(SOCKET);
    let (_lifecycle, held) = held(stream);
    let (mut reader, mut writer) = tokio::io::split(client);
    let (begin, ping) = (Instant::now(), frame(PING, 0, 0, b"whatever"));
    let pings = async {
        writer.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
        while writer.write_all(&ping).await.is_ok() {}
    };
    let takes = async {
        loop {
            sleep(HEADER - Duration::from_secs(1)).await;
            if !matches!(reader.read(&mut [0; SOCKET / 2]).await, Ok(1..)) {
                break;
            }
        }
    };
    let ended = async {
        timeout(HEADER * 6, held).await.expect("it ends").unwrap();
        begin.elapsed()
    };
    let (took, ..) = tokio::join!(ended, pings, takes);
    assert!(took < HEADER + LATE, "{took:?}");
}

/// A client of HTTP/2 that grants each stream so much before it takes anything, and answers every ping.
async fn multiplexed(window: u32) -> (SendRequest<Empty<Bytes>>, JoinHandle<Option<()>>) {
    let (client, stream) = duplex(LARGE);
    let (lifecycle, held) = held(stream);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).initial_stream_window_size(window);
    let (sender, connection) = builder.handshake(TokioIo::new(client)).await.unwrap();
    drop(lifecycle.background().spawn(connection));
    (sender, held)
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://a{path}")).body(Empty::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn d_02_a_stream_that_is_granted_nothing_is_reset_after_30_s_and_the_connection_lives() {
    let (mut sender, held) = multiplexed(0).await;
    for path in ["/endless", "/large", "/"] {
        let begin = Instant::now();
        let mut body = sender.send_request(get(path)).await.unwrap().into_body();
        let error = timeout(WRITE_STALL * 2, body.frame()).await.expect("it ends").unwrap().unwrap_err();
        let took = begin.elapsed();
        assert!(took >= WRITE_STALL && took < WRITE_STALL + LATE, "{path}: {took:?}");
        assert!(format!("{error:?}").contains("Reset"), "{error:?}");
    }
    assert!(!held.is_finished());
}

#[tokio::test(start_paused = true)]
async fn d_02_a_slow_reader_of_http2_gets_all_of_an_answer_however_long_it_takes() {
    let (mut sender, _held) = multiplexed(65_535).await;
    let begin = Instant::now();
    let mut body = sender.send_request(get("/large")).await.unwrap().into_body();
    let mut taken = 0;
    while let Some(frame) = body.frame().await {
        let bytes = frame.unwrap().into_data().unwrap().len();
        taken += bytes;
        sleep(Duration::from_secs(1) * u32::try_from(bytes).unwrap() / PACE).await;
    }
    assert_eq!(taken, LARGE);
    assert!(begin.elapsed() > KEEP_ALIVE * 3, "{:?}", begin.elapsed());
}
