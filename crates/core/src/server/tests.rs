//! A listener on loopback with a handler of our own, and clients that behave badly.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::StatusCode;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::framing::PREFACE;
use super::*;
use crate::lifecycle::Phase;
use crate::middleware::Unread;

/// Nothing here takes so long: a test that comes to this has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const SHORT: Duration = Duration::from_millis(200);
pub(super) const LONG: Duration = Duration::from_secs(60);
pub(super) const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const GET_GATE: &[u8] = b"GET /gate HTTP/1.1\r\nhost: a\r\n\r\n";
pub(super) const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// What `/stored` is answered with: a file whose owner knows how hyper refuses.
pub(super) const STORED: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

pub(super) struct Fixture {
    pub(super) lifecycle: Lifecycle,
    pub(super) address: SocketAddr,
    /// `/gate` is answered once there is a permit.
    pub(super) gate: Arc<Semaphore>,
    /// Holds a permit for each request that waits at the gate.
    pub(super) waiting: Arc<Semaphore>,
}

pub(super) fn limits(header_timeout: Duration, keep_alive_timeout: Duration) -> ConnectionLimits {
    ConnectionLimits {
        header_timeout,
        keep_alive_timeout,
        max_connections: 100,
        max_connections_per_address: 100,
    }
}

pub(super) async fn serve(limits: ConnectionLimits) -> Fixture {
    serve_as(limits, |server| server).await
}

/// The same, where `dress` says what is spoken before HTTP.
pub(super) async fn serve_as(limits: ConnectionLimits, dress: impl FnOnce(Server) -> Server) -> Fixture {
    let server = dress(Server::bind("PORT", "127.0.0.1", 0).await.unwrap());
    let (address, lifecycle) = (server.address(), Lifecycle::new());
    let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (theirs, arrived) = (Arc::clone(&gate), Arc::clone(&waiting));
    server.start(&lifecycle, limits, move |peer, request| {
        let (gate, waiting) = (Arc::clone(&theirs), Arc::clone(&arrived));
        async move {
            if let Some(Unread(status)) = request.extensions().get() {
                return Response::builder()
                    .status(*status)
                    .header("x-why", "unread")
                    .body(Body::empty())
                    .unwrap();
            }
            if request.uri().path() == "/gate" {
                waiting.add_permits(1);
                gate.acquire().await.unwrap().forget();
            }
            if request.uri().path() == "/stored" {
                let body = futures_util::stream::once(async {
                    sleep(SHORT / 4).await; // the head goes out alone
                    Ok::<_, std::convert::Infallible>(STORED)
                });
                let length = (http::header::CONTENT_LENGTH, STORED.len());
                return Response::builder().header(length.0, length.1).body(Body::from_stream(body)).unwrap();
            }
            if request.uri().path() == "/peer" {
                return Response::new(Body::from(format!("{} tls={} pong", peer.address, peer.tls)));
            }
            if request.uri().path() == "/body" && request.into_body().collect().await.is_err() {
                return Response::builder().status(400).body(Body::empty()).unwrap();
            }
            Response::new(Body::from("pong"))
        }
    });
    lifecycle.enter(Phase::Ready);
    Fixture { lifecycle, address, gate, waiting }
}

impl Fixture {
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(super) async fn arrived(&self) {
        timeout(PATIENCE, self.waiting.acquire()).await.unwrap().unwrap().forget();
    }

    pub(super) async fn stop(&self) -> bool {
        timeout(PATIENCE, self.lifecycle.stop(PATIENCE)).await.unwrap()
    }
}

/// One answer with its body, which ends in `pong`.
pub(super) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"pong") {
        let read = timeout(PATIENCE, stream.read_buf(&mut text)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&text));
    }
    String::from_utf8(text).unwrap()
}

/// How long it takes until the server closes.
pub(super) async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> Duration {
    let begin = Instant::now();
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the server closes");
    begin.elapsed()
}

#[tokio::test]
async fn d_01_no_connection_lives_without_a_request() {
    let fixture = serve(limits(SHORT, LONG)).await;
    let preface = [PREFACE, SETTINGS].concat();
    let begun: [&[u8]; 6] = [b"", b"GET / HTTP/1.1\r\nhos", b"P", b"PRI * HTTP/2.0\r\n", PREFACE, &preface];
    for bytes in begun {
        let mut stream = fixture.connect().await;
        stream.write_all(bytes).await.unwrap();
        let took = closed(&mut stream).await;
        assert!(took > SHORT / 2, "{:?} after {took:?}", String::from_utf8_lossy(bytes));
    }
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_01_dripping_gains_no_time_neither_at_first_nor_later() {
    let fixture = serve(limits(SHORT, LONG)).await;
    for requests in [0, 1] {
        let mut stream = fixture.connect().await;
        for _ in 0..requests {
            stream.write_all(GET).await.unwrap();
            answer(&mut stream).await;
        }
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let drip = async {
            while writer.write_all(b"x").await.is_ok() {
                sleep(SHORT / 10).await;
            }
        };
        let mut byte = [0; 1];
        tokio::select! {
            end = timeout(PATIENCE, reader.read(&mut byte)) => assert!(matches!(end, Ok(Ok(0) | Err(_)))),
            () = drip => {}
        }
    }
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_01_an_idle_connection_lives_by_its_own_longer_clock() {
    let fixture = serve(limits(SHORT, LONG)).await;
    let mut stream = fixture.connect().await;
    for _ in 0..2 {
        stream.write_all(GET).await.unwrap();
        answer(&mut stream).await;
        sleep(SHORT * 3).await; // silence is what is tested
    }
    stream.write_all(GET).await.unwrap();
    answer(&mut stream).await;
    let fixture = serve(limits(SHORT, SHORT * 2)).await;
    let mut stream = fixture.connect().await;
    stream.write_all(GET).await.unwrap();
    answer(&mut stream).await;
    assert!(closed(&mut stream).await > SHORT, "the second clock ends it too");
}

#[tokio::test]
async fn an_answer_may_take_longer_than_both_clocks() {
    let fixture = serve(limits(SHORT / 4, SHORT / 4)).await;
    let mut stream = fixture.connect().await;
    stream.write_all(GET_GATE).await.unwrap();
    fixture.arrived().await;
    sleep(SHORT).await; // slowness is what is tested
    fixture.gate.add_permits(1);
    answer(&mut stream).await;
}

#[tokio::test]
async fn s_02_a_drain_ends_idle_connections_at_once_and_says_so_to_busy_ones() {
    let fixture = serve(limits(LONG, LONG)).await;
    let (mut idle, mut busy, silent) =
        (fixture.connect().await, fixture.connect().await, fixture.connect().await);
    idle.write_all(GET).await.unwrap();
    assert!(!answer(&mut idle).await.contains("connection: close"));
    busy.write_all(GET_GATE).await.unwrap();
    fixture.arrived().await;
    let stop = fixture.stop();
    let watch = async {
        let took = closed(&mut idle).await;
        assert!(took < Duration::from_millis(400), "{took:?}");
        assert!(TcpStream::connect(fixture.address).await.is_err(), "nobody is accepted any more");
        fixture.gate.add_permits(1);
        assert!(answer(&mut busy).await.contains("connection: close"));
    };
    assert!(tokio::join!(stop, watch).0, "the silent one is not waited for");
    drop(silent);
}

#[tokio::test]
async fn s_02_whoever_has_connected_before_the_stop_is_answered() {
    let fixture = serve(limits(LONG, LONG)).await;
    let mut early = Vec::new();
    for _ in 0..20 {
        early.push(fixture.connect().await); // this runtime has one thread: most wait to be accepted
    }
    let stop = fixture.stop();
    let clients = async {
        for stream in &mut early {
            stream.write_all(GET).await.unwrap();
            assert!(answer(stream).await.contains("connection: close"));
        }
    };
    assert!(tokio::join!(stop, clients).0);
}

#[tokio::test]
async fn s_02_while_draining_clients_are_led_elsewhere_and_new_ones_still_served() {
    let fixture = serve(limits(LONG, LONG)).await;
    fixture.lifecycle.enter(Phase::Draining);
    let mut stream = fixture.connect().await;
    stream.write_all(GET).await.unwrap();
    assert!(answer(&mut stream).await.contains("connection: close"));
    closed(&mut stream).await;
}

#[tokio::test]
async fn s_02_the_deadline_drops_what_still_runs() {
    let fixture = serve(limits(LONG, LONG)).await;
    let mut stream = fixture.connect().await;
    stream.write_all(GET_GATE).await.unwrap();
    fixture.arrived().await;
    assert!(!fixture.lifecycle.stop(SHORT).await);
    assert_eq!(Arc::strong_count(&fixture.gate), 1, "the handler and the server are gone");
    closed(&mut stream).await;
}

#[tokio::test]
async fn d_06_too_many_connections_of_one_address_are_refused_and_room_is_made_again() {
    let fixture = serve(ConnectionLimits { max_connections_per_address: 2, ..limits(LONG, LONG) }).await;
    let (mut first, mut second) = (fixture.connect().await, fixture.connect().await);
    for stream in [&mut first, &mut second] {
        stream.write_all(GET).await.unwrap();
        answer(stream).await;
    }
    closed(&mut fixture.connect().await).await;
    drop(first);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut again = fixture.connect().await;
        let mut head = [0; 12];
        if again.write_all(GET).await.is_ok() && matches!(again.read_exact(&mut head).await, Ok(12)) {
            assert_eq!(&head, b"HTTP/1.1 200");
            break;
        }
        assert!(Instant::now() < deadline, "the place was not given back");
    }
}

#[tokio::test]
async fn http2_is_spoken_in_the_clear_and_drains() {
    let fixture = serve(limits(SHORT, LONG)).await;
    let stream = TokioIo::new(fixture.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let (lifecycle, url) = (fixture.lifecycle.clone(), format!("http://{}/gate", fixture.address));
    let client = lifecycle.background().spawn(connection);
    let request = http::Request::get(url).body(Empty::<axum::body::Bytes>::new()).unwrap();
    let sent = sender.send_request(request);
    let (answered, stopped) = tokio::join!(
        async {
            let response = sent.await.unwrap();
            let status = response.status();
            (status, response.into_body().collect().await.unwrap().to_bytes())
        },
        async {
            fixture.arrived().await;
            sleep(SHORT * 2).await; // a request in hand outlives the clock of heads
            let stop = fixture.stop();
            tokio::join!(stop, async { fixture.gate.add_permits(1) }).0
        }
    );
    assert_eq!(answered, (StatusCode::OK, "pong".into()));
    assert!(stopped);
    assert!(timeout(PATIENCE, client).await.unwrap().unwrap().is_ok(), "GOAWAY, not a reset");
}

#[tokio::test]
async fn d_04_more_than_a_hundred_headers_are_431() {
    let fixture = serve(limits(LONG, LONG)).await;
    let mut stream = fixture.connect().await;
    let headers: String = (0..101).map(|index| format!("x-{index}: y\r\n")).collect();
    stream.write_all(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).await.unwrap();
    let mut head = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(&head, b"HTTP/1.1 431");
}

#[tokio::test]
async fn localhost_is_both_loopback_addresses_on_one_port() {
    let server = Server::bind("PORT", "localhost", 0).await.unwrap();
    let (port, lifecycle) = (server.address().port(), Lifecycle::new());
    let limits = limits(LONG, LONG);
    server.start(&lifecycle, limits, |_, _| async { Response::new(Body::from("pong")) });
    lifecycle.enter(Phase::Ready);
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok();
    let addresses = [Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), six.then_some(IpAddr::V6(Ipv6Addr::LOCALHOST))];
    for address in addresses.into_iter().flatten() {
        let mut stream = TcpStream::connect((address, port)).await.unwrap();
        stream.write_all(GET).await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"), "{address}");
    }
    assert!(timeout(PATIENCE, lifecycle.stop(PATIENCE)).await.unwrap());
}
