//! What a stranger may try on the bytes of HTTP itself: smuggled requests, and floods of frames.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::framing::{CONTINUATION, END_HEADERS, HEADERS, PREFACE};
use super::tests::{LONG, PATIENCE, SETTINGS, SHORT, STORED, answer, closed, limits, serve};

/// The lot of a request whose length two parsers could see differently.
#[tokio::test]
async fn h_07_no_smuggled_request_reaches_a_handler() {
    let fixture = serve(limits(LONG, LONG)).await;
    let probes: [&[u8]; 14] = [
        b"POST /gate HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\nx: y\r\n transfer-encoding: chunked\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\nx\0y: z\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\nx: y\0z\r\n\r\n",
        b"POST /gate HTTP/1.1\r\nhost: a\r\n: nameless\r\n\r\n",
        b"POST /ga te HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /gate HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
    ];
    for probe in probes {
        let mut stream = fixture.connect().await;
        stream.write_all(probe).await.unwrap();
        let mut text = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the server closes").unwrap();
        let (sent, text) = (String::from_utf8_lossy(probe), String::from_utf8_lossy(&text));
        assert!(text.starts_with("HTTP/1.1 400") || text.starts_with("HTTP/1.0 400"), "{sent:?}: {text:?}");
    }
    assert_eq!(fixture.waiting.available_permits(), 0, "none of them was a request");
    assert!(fixture.stop().await);
}

/// RFC 9112, 6.1: with both, the length is void and the connection ends after the answer.
#[tokio::test]
async fn h_07_of_two_lengths_the_chunked_one_counts_and_the_connection_ends() {
    let fixture = serve(limits(LONG, LONG)).await;
    let mut stream = fixture.connect().await;
    let smuggled = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 60\r\ntransfer-encoding: chunked\r\n\r\n\
                     0\r\n\r\nGET /gate HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(smuggled).await.unwrap();
    let mut text = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the server closes").unwrap();
    assert!(
        text.starts_with(b"HTTP/1.1 400") || text.ends_with(b"pong"),
        "{}",
        String::from_utf8_lossy(&text)
    );
    assert_eq!(fixture.waiting.available_permits(), 0, "what follows is no second request");
    assert!(fixture.stop().await);
}

/// An answer that is longer than its `Content-Length` is read as two by a proxy.
#[tokio::test]
async fn h_07_a_body_that_looks_like_a_refusal_goes_out_as_it_is() {
    let fixture = serve(limits(LONG, LONG)).await;
    let mut stream = fixture.connect().await;
    stream.write_all(b"GET /stored HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let head = format!("content-length: {}\r\n", STORED.len());
    let mut text = Vec::new();
    while !text.ends_with(STORED) {
        let read = timeout(PATIENCE, stream.read_buf(&mut text)).await.expect("a body").unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&text));
    }
    assert!(String::from_utf8_lossy(&text).contains(&head));
    // What follows it on the connection, and is one, is replaced all the same.
    stream.write_all(b"GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("the server closes").unwrap();
    assert!(text.contains("x-why: unread"), "{text}");
    assert!(fixture.stop().await);
}

/// A chunk whose size does not fit into 64 bits.
#[tokio::test]
async fn h_07_an_endless_chunk_size_ends_the_connection() {
    let fixture = serve(limits(LONG, LONG)).await;
    let mut stream = fixture.connect().await;
    let head = b"POST /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nx";
    stream.write_all(head).await.unwrap();
    let mut text = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the server closes").unwrap();
    assert!(!text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&text));
    assert!(fixture.stop().await);
}

const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
pub(super) const PING: u8 = 6;
/// `GET /` over http, from HPACK's static table, and an authority.
const GET_ROOT: &[u8] = &[0x82, 0x84, 0x86, 0x41, 0x01, b'a'];
const POST_BODY: &[u8] = &[0x83, 0x44, 0x05, b'/', b'b', b'o', b'd', b'y', 0x86, 0x41, 0x01, b'a'];

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Sends what `frames` makes of each number until the server has enough; how many it took.
async fn flood(stream: &mut TcpStream, most: u32, frames: impl Fn(u32) -> Vec<u8>) -> u32 {
    let (mut reader, mut writer) = stream.split();
    let drain = async {
        let mut sink = [0; 4096];
        while !matches!(reader.read(&mut sink).await, Ok(0) | Err(_)) {}
    };
    let send = async {
        for number in 0..most {
            if writer.write_all(&frames(number)).await.is_err() {
                return number;
            }
        }
        // All was taken: the server must have closed by now, or never does.
        std::future::pending().await
    };
    let race = async {
        tokio::select! {
            () = drain => 0,
            sent = send => sent,
        }
    };
    timeout(PATIENCE, race).await.expect("the server ends the connection")
}

/// The connection is over, and the server answers others.
async fn survives(frames: impl Fn(u32) -> Vec<u8>, begin: &[u8], most: u32) {
    let fixture = serve(limits(LONG, LONG)).await;
    let before = resident_mib();
    let mut stream = fixture.connect().await;
    stream.write_all(&[PREFACE, SETTINGS, begin].concat()).await.unwrap();
    flood(&mut stream, most, frames).await;
    let grown = resident_mib() - before;
    assert!(grown < 32.0, "{grown} MiB"); // of the client and the server, which are one process
    let mut other = fixture.connect().await;
    other.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    answer(&mut other).await;
    drop(other);
    assert!(fixture.stop().await);
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// D-05: what a client may do at a time is said in the server's own settings.
#[tokio::test]
async fn d_05_at_most_200_streams_are_granted_at_a_time() {
    const MAX_CONCURRENT_STREAMS: &[u8] = &[0, 3];
    let fixture = serve(limits(LONG, LONG)).await;
    let mut stream = fixture.connect().await;
    stream.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let mut head = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(head[3], SETTINGS[3], "the first frame is that of the settings");
    let mut settings = vec![0; usize::from(head[2])];
    timeout(PATIENCE, stream.read_exact(&mut settings)).await.unwrap().unwrap();
    let most = settings.chunks(6).find_map(|setting| setting.strip_prefix(MAX_CONCURRENT_STREAMS));
    let most = u32::from_be_bytes(most.expect("it is bounded").try_into().unwrap());
    assert!(most <= 200, "{most}");
}

/// D-01: what is no request gains no time, neither before the first one nor between two. A head that is never complete has
/// the time of heads, also after a request; frames that are complete have that of an idle connection.
#[tokio::test]
async fn d_01_pings_and_an_endless_head_of_http2_gain_no_time() {
    let request = frame(HEADERS, END_HEADERS | 1, 1, GET_ROOT);
    let ping = frame(PING, 0, 0, b"whatever");
    let begun = |stream| [frame(HEADERS, 0, stream, GET_ROOT), frame(CONTINUATION, 0, stream, &[])].concat();
    let piece = |stream| frame(CONTINUATION, 0, stream, &[0, 1, b'x', 1, b'y']);
    let later = [request.clone(), begun(3)].concat();
    let halves = ping.chunks(8).map(<[u8]>::to_vec).collect::<Vec<_>>();
    for (begin, drips, head, idle) in [
        (vec![], vec![ping.clone()], SHORT, LONG),
        (begun(1), vec![piece(1)], SHORT, LONG),
        (request.clone(), vec![ping], LONG, SHORT),
        (request.clone(), halves, LONG, SHORT),
        (later.clone(), vec![piece(3)], SHORT, LONG),
        (later, vec![], SHORT, LONG),
        ([&request[..], &request[..8]].concat(), vec![], SHORT, LONG),
    ] {
        let fixture = serve(limits(head, idle)).await;
        let mut stream = fixture.connect().await;
        stream.write_all(&[PREFACE, SETTINGS, &begin].concat()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let dripping = async {
            for drip in drips.iter().cycle() {
                if writer.write_all(drip).await.is_err() {
                    break;
                }
                sleep(SHORT / 10).await;
            }
            std::future::pending::<()>().await; // it is the reader that sees the end
        };
        tokio::select! {
            took = closed(&mut reader) => assert!(took < PATIENCE / 4, "{begin:?} {drips:?}: {took:?}"),
            () = dripping => {}
        }
    }
}

/// D-01: the beginning of a head that comes with the request before it is a head that has begun.
#[tokio::test]
async fn d_01_a_head_begun_in_the_packet_of_another_request_has_the_time_of_heads() {
    for first in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let fixture = serve(limits(SHORT, LONG)).await;
        let mut stream = fixture.connect().await;
        stream.write_all(format!("{first}GET / HT").as_bytes()).await.unwrap();
        answer(&mut stream).await;
        let took = closed(&mut stream).await;
        assert!(took < PATIENCE / 4, "{first}: {took:?}");
    }
}

/// CVE-2023-44487.
#[tokio::test]
async fn d_05_ten_thousand_rapid_resets_end_the_connection() {
    let reset = |number: u32| {
        let stream = 2 * number + 1;
        let headers = frame(HEADERS, END_HEADERS | 1, stream, GET_ROOT);
        [headers, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    };
    survives(reset, b"", 10_000).await;
}

/// RUSTSEC-2024-0332: a head that never ends.
#[tokio::test]
async fn d_05_a_flood_of_continuations_ends_the_connection() {
    let begin = frame(HEADERS, 0, 1, GET_ROOT);
    // A literal header without indexing, x: y…y.
    let mut header = vec![0, 1, b'x', 0x7f, 0x81, 0x06];
    header.resize(6 + 896, b'y');
    survives(|_| frame(CONTINUATION, 0, 1, &header), &begin, 100_000).await;
}

/// Frames that cost their sender nine bytes, and bring nothing.
#[tokio::test]
async fn d_05_a_flood_of_empty_data_ends_the_connection() {
    let begin = frame(HEADERS, END_HEADERS, 1, POST_BODY);
    survives(|_| frame(DATA, 0, 1, &[]).repeat(100), &begin, 50_000).await;
}
