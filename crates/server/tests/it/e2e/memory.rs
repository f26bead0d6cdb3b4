//! D-01, D-02, D-03: strangers and clients that hold connections or send without end do not make the process grow.

mod untaken;

use std::convert::Infallible;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::database::Database;
use super::http::Client;
use super::process::{Home, PATIENCE, Process};

const MIB: f64 = 1024.0 * 1024.0;
const GIB: u64 = 1 << 30;
/// The most that is taken of an upload over HTTP/1: it is refused, and 32 MiB are dropped so that its sender sees that.
const DROPPED: u64 = 48 << 20;

/// The most memory that the process has had so far, in MiB.
fn peak(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
    kib * 1024.0 / MIB
}

/// Sends a body of 1 GiB, as far as the server takes it; how much it took.
fn upload(address: &str, head: &str) -> u64 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let mut sent = 0;
    while sent < GIB && stream.write_all(&chunk).is_ok() {
        sent += chunk.len() as u64;
    }
    let _ = stream.read(&mut [0; 64]);
    sent
}

type Uploads = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// A connection of HTTP/2 that has been of use.
async fn connect_http2(address: &str) -> SendRequest<Uploads> {
    let stream = TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let nothing = StreamBody::new(futures_util::stream::empty().boxed());
    let ping = http::Request::get(format!("http://{address}/ping")).body(nothing);
    assert_eq!(client.send_request(ping.unwrap()).await.unwrap().status(), 200);
    client
}

/// Sends a body of 1 GiB over HTTP/2, as far as the server takes it; how much it took.
async fn upload_over_http2(mut client: SendRequest<Uploads>, address: String, token: String) -> u64 {
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let chunks = futures_util::stream::iter(0..GIB / 0x4000).map(move |_| {
        count.fetch_add(0x4000, Relaxed);
        Ok(Frame::data(Bytes::from_static(&[b' '; 0x4000])))
    });
    let request = http::Request::post(format!("http://{address}/api/v1/items"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(StreamBody::new(chunks.boxed()));
    let answer = client.send_request(request.unwrap()).await.unwrap();
    assert!([413, 503].contains(&answer.status().as_u16()), "{answer:?}");
    sent.load(Relaxed)
}

#[test]
fn d_03_stress_a_hundred_endless_uploads_over_http2_take_no_memory() {
    let (home, database) = (Home::new(), Database::migrated("uploads2"));
    let server = Process::serve(&home, &database.both());
    let client = Client::signed_in(&server.address(), home.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = server.address();
    let upload = |connection| upload_over_http2(connection, address.clone(), client.token().to_owned());
    runtime.block_on(async { upload(connect_http2(&address).await).await });
    // Each connection of HTTP/2 keeps the frame in hand that it reads, of 16 KiB at the least that the protocol allows.
    // On each, 64 KiB are sent ahead.
    for (connections, most) in [(1, 8.0), (100, 18.0)] {
        let opening = join_all((0..connections).map(|_| connect_http2(&address)));
        let opened = runtime.block_on(opening);
        let before = peak(server.pid()); // D-01 bounds what the connections take
        let uploads = join_all(opened.iter().cycle().take(100).cloned().map(upload));
        let sent: u64 = runtime.block_on(uploads).into_iter().sum();
        let grown = peak(server.pid()) - before;
        println!(
            "deep: D-03: 100 uploads of 1 GiB over {connections} connections of HTTP/2, {:.0} MiB taken: {grown:.1} \
             MiB of memory",
            sent as f64 / MIB
        );
        assert!(sent < GIB, "{sent} bytes were taken");
        assert!(grown < most, "{grown:.1} MiB");
    }
    assert_eq!(client.create_item("after").unwrap().status, 201);
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn d_03_stress_a_hundred_endless_uploads_take_no_memory() {
    let (home, database) = (Home::new(), Database::migrated("uploads"));
    let server = Process::serve(&home, &database.both());
    let address = server.address();
    let client = Client::signed_in(&address, home.path());
    let token = client.token();
    let begin = format!(
        "POST /api/v1/items HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
    );
    let heads = [
        format!("{begin}transfer-encoding: chunked\r\n\r\n"),
        format!("{begin}content-length: {GIB}\r\n\r\n"),
    ];
    for head in &heads {
        upload(&address, head); // what is read from disk for it counts as memory, too
    }
    let before = peak(server.pid());
    let uploads: Vec<_> = (0..100)
        .map(|number| {
            let (address, head) = (address.clone(), heads[number % heads.len()].clone());
            thread::spawn(move || upload(&address, &head))
        })
        .collect();
    let sent: u64 = uploads.into_iter().map(|upload| upload.join().unwrap()).sum();
    let grown = peak(server.pid()) - before;
    println!(
        "deep: D-03: 100 uploads of 1 GiB, {:.0} MiB taken: {grown:.1} MiB of memory",
        sent as f64 / MIB
    );
    assert!(sent < 100 * DROPPED, "{sent} bytes were taken");
    assert_eq!(client.create_item("after").unwrap().status, 201);
    assert!(grown < 8.0, "{grown:.1} MiB");
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn d_01_stress_five_hundred_slow_connections_are_closed_and_take_little_memory() {
    let (home, database) = (Home::new(), Database::migrated("slow"));
    let settings = [("HEADER_TIMEOUT", "3s"), ("LOG_LEVEL", "info")];
    let server = Process::serve(&home, &[&database.both()[..], &settings].concat());
    let address = server.address();
    let client = Client::new(&address);
    let p95 = || {
        let mut took: Vec<_> = (0..200)
            .map(|_| {
                let begin = Instant::now();
                assert_eq!(client.get("/ping").unwrap().status, 200);
                begin.elapsed()
            })
            .collect();
        took.sort();
        took[190]
    };
    p95(); // the first ones warm up
    let alone = p95();
    let before = peak(server.pid());
    let begun: [&[u8]; 6] = [
        b"",
        b"P",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\nx:",
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ];
    let mut slow: Vec<_> = (0..500)
        .map(|number| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(begun[number % begun.len()]).unwrap();
            stream
        })
        .collect();
    let beside = p95();
    let grown = peak(server.pid()) - before;
    println!(
        "deep: D-01: 500 slow connections: {grown:.1} MiB of memory; p95 of /ping {alone:.2?} alone, {beside:.2?} \
         beside them"
    );
    assert!(grown < 16.0, "{grown:.1} MiB");
    // Where other tests run beside this one, a slice of the scheduler's is no delay of the server's.
    let noise = Duration::from_millis(if crate::deep() { 2 } else { 10 });
    assert!(beside < alone * 2 + noise, "{beside:?}, {alone:?} alone");
    for stream in &mut slow {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = stream.read_to_end(&mut Vec::new());
        assert!(
            end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
            "it is closed"
        );
    }
    assert_eq!(server.stop("TERM").code, 0);
}

/// A connection whose own end has room for next to nothing.
fn deaf(address: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let socket = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(address.parse().unwrap()).await.unwrap().into_std().unwrap()
    });
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The 30 s of a client that takes nothing, by the wall's clock: only in script/check-deep.
#[test]
fn d_02_a_client_that_reads_nothing_is_cut() {
    if !crate::deep() {
        return;
    }
    let (home, database) = (Home::new(), Database::migrated("unread"));
    let server = Process::serve(&home, &[&database.both()[..], &[("HOST", "127.0.0.1")]].concat());
    let document = Client::new(&server.address()).get("/openapi.json").unwrap().body.len();
    let request = "GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n";
    // What the kernel holds for its client, and more than that.
    let mut clients = [5, 500].map(|asked| {
        let mut stream = deaf(&server.address());
        stream.write_all(request.repeat(asked).as_bytes()).unwrap();
        (stream, asked)
    });
    thread::sleep(Duration::from_secs(37)); // the clients do something else
    for (stream, asked) in &mut clients {
        let (mut received, all) = (Vec::new(), document * *asked);
        let _ = stream.read_to_end(&mut received); // mostly reset
        println!(
            "deep: D-02: a client that read nothing for 37 s got {} of {} KiB",
            received.len() / 1024,
            all / 1024
        );
        assert!(received.len() < all, "it was served to the end");
    }
    assert_eq!(server.stop("TERM").code, 0);
}

/// Somebody on a bad line is no attacker. The kernel's own clock alone, at 30 s, cut such clients.
#[test]
fn d_02_a_client_that_takes_8_kib_a_second_gets_all() {
    if !crate::deep() {
        return;
    }
    let (home, database) = (Home::new(), Database::migrated("unhurried"));
    let server = Process::serve(&home, &[&database.both()[..], &[("HOST", "127.0.0.1")]].concat());
    let document = Client::new(&server.address()).get("/openapi.json").unwrap().body.len();
    let mut stream = deaf(&server.address());
    stream.write_all("GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(8).as_bytes()).unwrap();
    let (begun, mut received, mut part) = (Instant::now(), 0, [0; 8 * 1024]);
    while received < 8 * document {
        thread::sleep(Duration::from_secs(1)); // the line is slow
        let read = stream.read(&mut part).unwrap();
        assert_ne!(read, 0, "cut after {received} bytes and {:?}", begun.elapsed());
        received += read;
    }
    println!("deep: D-02: a client took {} KiB in {:?}", received / 1024, begun.elapsed());
    drop(stream);
    assert_eq!(server.stop("TERM").code, 0);
}
