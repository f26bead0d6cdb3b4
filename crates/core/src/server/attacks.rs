//! What a stranger may try on the bytes of HTTP itself: smuggled requests, and floods of frames.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::framing::{CONTINUATION, DATA, END_HEADERS, HEADERS, PREFACE, RST_STREAM, WINDOW_UPDATE};
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

/// What a connection and each of its streams have to send before more is granted (RFC 9113, 6.9.2).
const WINDOW: usize = 65_535;
pub(super) const PING: u8 = 6;
/// `GET /` over http, from HPACK's static table, and an authority.
const GET_ROOT: &[u8] = &[0x82, 0x84, 0x86, 0x41, 0x01, b'a'];
pub(super) const POST_ROOT: &[u8] = &[0x83, 0x84, 0x86, 0x41, 0x01, b'a'];
const POST_BODY: &[u8] = &[0x83, 0x44, 0x05, b'/', b'b', b'o', b'd', b'y', 0x86, 0x41, 0x01, b'a'];

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The next frame that comes: its kind, its stream and its payload.
pub(super) async fn next_frame(stream: &mut (impl AsyncRead + Unpin)) -> (u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("a frame").unwrap();
    let [high, middle, low, kind, _flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    timeout(PATIENCE, stream.read_exact(&mut payload)).await.expect("a payload").unwrap();
    (kind, u32::from_be_bytes(id), payload)
}

/// Sends a body of so many bytes on the first stream, as the windows allow, and takes the answer. How many were sent, and
/// whether the stream was reset meanwhile, with the reason.
async fn upload(stream: &mut TcpStream, bytes: usize) -> (usize, Option<Vec<u8>>) {
    stream.set_nodelay(true).unwrap(); // as common clients do
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, POST_ROOT)).await.unwrap();
    let (mut of_connection, mut of_stream, mut left, mut is_answered) = (WINDOW, WINDOW, bytes, false);
    while left > 0 || !is_answered {
        let piece = left.min(of_connection).min(of_stream).min(0x4000);
        if piece > 0 {
            (left, of_connection, of_stream) = (left - piece, of_connection - piece, of_stream - piece);
            let data = frame(DATA, u8::from(left == 0), 1, &vec![b' '; piece]);
            stream.write_all(&data).await.unwrap();
            continue;
        }
        match next_frame(stream).await {
            (WINDOW_UPDATE, id, granted) => {
                let window = if id == 0 { &mut of_connection } else { &mut of_stream };
                *window += u32::from_be_bytes(granted.try_into().unwrap()) as usize;
            }
            (DATA, 1, data) => is_answered |= data.ends_with(b"pong"),
            (RST_STREAM, 1, reason) => return (bytes - left, Some(reason)),
            _ => {}
        }
    }
    (bytes, None)
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

/// A fresh connection has sent so much of a body before it knows of our settings. A window that is smaller from then on
/// is below nothing, which common clients do not survive (RFC 9113, 6.9.2).
#[tokio::test]
async fn a_client_of_http2_has_the_window_that_the_protocol_begins_with() {
    let fixture = serve(limits(LONG, LONG)).await;
    let mut stream = fixture.connect().await;
    let body = [0; 0x4000];
    let mut frames = [PREFACE, SETTINGS, &frame(HEADERS, END_HEADERS, 1, POST_BODY)].concat();
    for _ in 0..WINDOW / body.len() {
        frames.extend(frame(DATA, 0, 1, &body));
    }
    frames.extend(frame(DATA, 1, 1, &body[..WINDOW % body.len()]));
    stream.write_all(&frames).await.unwrap();
    let mut came = Vec::new();
    while !came.windows(4).any(|bytes| bytes == b"pong") {
        let read = timeout(PATIENCE, stream.read_buf(&mut came)).await.expect("an answer").unwrap();
        assert_ne!(read, 0);
    }
    const INITIAL_WINDOW_SIZE: &[u8] = &[0, 4];
    let settings = came.get(9..9 + usize::from(came[2])).unwrap();
    let window = settings.chunks(6).find_map(|setting| setting.strip_prefix(INITIAL_WINDOW_SIZE));
    let window = window.map_or(WINDOW, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()) as usize);
    assert!(window >= WINDOW, "{window}");
    drop(stream);
    assert!(fixture.stop().await);
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

/// D-05: frames that ask for nothing, and are answered. A request now and then does not buy a flood of them.
#[tokio::test]
async fn d_05_a_flood_of_pings_ends_the_connection_whatever_is_asked_meanwhile() {
    let begin = frame(HEADERS, END_HEADERS | 1, 1, GET_ROOT);
    for control in [frame(PING, 0, 0, b"whatever"), SETTINGS.to_vec(), frame(2, 0, 1, &[0, 0, 0, 0, 9])] {
        let frames = |number: u32| match number {
            50 => frame(HEADERS, END_HEADERS | 1, 3, GET_ROOT),
            _ => control.repeat(10),
        };
        survives(frames, &begin, 10_000).await;
    }
}

/// What clients send beside their requests, and to measure their line while they take an answer.
#[tokio::test]
async fn d_05_pings_of_a_client_that_is_served_do_no_harm() {
    let fixture = serve(limits(LONG, LONG)).await;
    let mut stream = fixture.connect().await;
    stream.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    for number in 0..20 {
        let request = frame(HEADERS, END_HEADERS | 1, 2 * number + 1, GET_ROOT);
        stream.write_all(&[request, frame(PING, 0, 0, b"whatever").repeat(100)].concat()).await.unwrap();
        let mut came = Vec::new();
        while !came.windows(4).any(|bytes| bytes == b"pong") {
            let read = timeout(PATIENCE, stream.read_buf(&mut came)).await.expect("an answer").unwrap();
            assert_ne!(read, 0, "it is cut after {number} requests");
        }
    }
    drop(stream);
    assert!(fixture.stop().await);
}

/// Many clients send all of a body before they look for the answer (RFC 9112, 9.6).
#[tokio::test]
async fn d_03_whoever_sends_what_nobody_reads_gets_the_answer() {
    let fixture = serve(limits(LONG, LONG)).await;
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for (head, piece) in
        [("content-length: 20971520", &[b' '; 0x10000][..]), ("transfer-encoding: chunked", &chunk)]
    {
        let mut stream = fixture.connect().await;
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for number in 0..20 * 16 {
            let sent = stream.write_all(piece).await;
            assert!(sent.is_ok(), "{head}: {sent:?} after {} KiB", number * 64);
        }
        answer(&mut stream).await;
        drop(stream);
    }
    // A client that goes on for ever is let go, and takes no memory.
    let before = resident_mib();
    let mut stream = fixture.connect().await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let mut sent = 0;
    while stream.write_all(&chunk).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 64 << 20, "{sent}");
    }
    assert!(resident_mib() - before < 8.0);
    assert!(fixture.stop().await);
}

/// Nor do they look whether the stream that they send on was reset: for curl that is an error, and httpx waits for window.
#[tokio::test]
async fn d_03_whoever_sends_what_nobody_reads_over_http2_gets_the_answer_and_window() {
    const NO_ERROR: [u8; 4] = [0; 4];
    let fixture = serve(limits(LONG, LONG)).await;
    let begin = [PREFACE, SETTINGS].concat();
    let mut stream = fixture.connect().await;
    stream.write_all(&begin).await.unwrap();
    assert_eq!(upload(&mut stream, 20 << 20).await, (20 << 20, None));
    drop(stream);
    // A client that goes on for ever is told to stop, and takes no memory; the connection serves others.
    let before = resident_mib();
    let mut stream = fixture.connect().await;
    stream.write_all(&begin).await.unwrap();
    let (sent, reset) = upload(&mut stream, 64 << 20).await;
    assert!(sent < 33 << 20 && reset.as_deref() == Some(&NO_ERROR), "{sent}: {reset:?}");
    assert!(resident_mib() - before < 8.0);
    stream.write_all(&frame(HEADERS, END_HEADERS | 1, 3, GET_ROOT)).await.unwrap();
    while !matches!(next_frame(&mut stream).await, (DATA, 3, data) if data.ends_with(b"pong")) {}
    drop(stream);
    assert!(fixture.stop().await);
}

/// One that ends its body short of the length that it has declared has sent a malformed request: its stream is reset, though
/// the head of the answer was out, and its connection serves others (RFC 9113, 8.1.1). curl did so until 8.11.
#[tokio::test]
async fn d_03_a_body_that_ends_short_of_its_length_costs_its_stream_alone() {
    const POST_STORED: &[u8] = b"\x83\x44\x07/stored\x86\x41\x01a\x0f\x0d\x03999"; // content-length: 999
    const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];
    let fixture = serve(limits(LONG, LONG)).await;
    let mut stream = fixture.connect().await;
    let begin =
        [PREFACE, SETTINGS, &frame(HEADERS, END_HEADERS, 1, POST_STORED), &frame(DATA, 0, 1, b"some")];
    stream.write_all(&begin.concat()).await.unwrap();
    while !matches!(next_frame(&mut stream).await, (HEADERS, 1, _)) {}
    stream.write_all(&frame(DATA, 1, 1, &[])).await.unwrap();
    let reason = loop {
        if let (RST_STREAM, 1, reason) = next_frame(&mut stream).await {
            break reason;
        }
    };
    assert_eq!(reason, PROTOCOL_ERROR);
    stream.write_all(&frame(HEADERS, END_HEADERS | 1, 3, GET_ROOT)).await.unwrap();
    while !matches!(next_frame(&mut stream).await, (DATA, 3, data) if data.ends_with(b"pong")) {}
    drop(stream);
    assert!(fixture.stop().await);
}

/// H-07: two parsers must not see two hosts.
#[tokio::test]
async fn h_07_a_host_that_is_none_is_refused() {
    let fixture = serve(limits(LONG, LONG)).await;
    for (host, status) in [
        ("a", "200"),
        ("[::1]:80", "200"),
        ("a b", "400"),
        ("a/b", "400"),
        ("[::1", "400"),
        ("u@evil", "400"),
    ] {
        let mut stream = fixture.connect().await;
        let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("the server closes").unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {text}");
    }
    assert!(fixture.stop().await);
}
