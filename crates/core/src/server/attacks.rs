//! What a stranger may try on the bytes of HTTP itself: smuggled requests, and floods of frames.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tests::{LONG, PATIENCE, PREFACE, SETTINGS, answer, limits, serve};

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
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// `GET /` over http, from HPACK's static table, and an authority.
const GET_ROOT: &[u8] = &[0x82, 0x84, 0x86, 0x41, 0x01, b'a'];
const POST_BODY: &[u8] = &[0x83, 0x44, 0x05, b'/', b'b', b'o', b'd', b'y', 0x86, 0x41, 0x01, b'a'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
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
    let mut stream = fixture.connect().await;
    stream.write_all(&[PREFACE, SETTINGS, begin].concat()).await.unwrap();
    flood(&mut stream, most, frames).await;
    let mut other = fixture.connect().await;
    other.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    answer(&mut other).await;
    drop(other);
    assert!(fixture.stop().await);
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
