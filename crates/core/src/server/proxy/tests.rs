//! Headers as load balancers send them, as nobody should, and over real connections.

use std::collections::BTreeSet;
use std::time::Instant;

use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use super::*;
use crate::config::{Layers, MapSource};
use crate::server::ConnectionLimits;
use crate::server::tests::{Fixture, GET, LONG, SHORT, answer, closed, limits, serve_as};

const GET_PEER: &[u8] = b"GET /peer HTTP/1.1\r\nhost: a\r\n\r\n";

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// Source and destination addresses, then their ports.
fn addresses(source: &str) -> (u8, Vec<u8>) {
    match source.parse().unwrap() {
        IpAddr::V4(ip) => (0x11, [&ip.octets()[..], &[10, 0, 0, 1, 4, 210, 1, 187]].concat()),
        IpAddr::V6(ip) => (0x21, [&ip.octets()[..], &[0; 16], &[4, 210, 1, 187]].concat()),
    }
}

fn of(source: &str, extensions: &[u8]) -> Vec<u8> {
    let (family, addresses) = addresses(source);
    header(0x21, family, &[&addresses, extensions].concat())
}

async fn outcome(mut bytes: &[u8]) -> Result<Option<IpAddr>, HeaderRefusal> {
    read(&mut bytes).await
}

#[tokio::test]
async fn a_header_names_its_client_and_takes_no_byte_of_the_request() {
    let extensions = [&[0x04, 0, 2, 7, 7][..], &[0x20, 0, 0]].concat();
    for source in ["192.0.2.7", "2001:db8::7"] {
        for extensions in [&[][..], &extensions] {
            let bytes = [of(source, extensions), GET.to_vec()].concat();
            let mut rest = &bytes[..];
            assert_eq!(read(&mut rest).await, Ok(Some(source.parse().unwrap())));
            assert_eq!(rest, GET);
        }
    }
    assert_eq!(outcome(&of("::ffff:192.0.2.7", &[])).await, Ok(Some("192.0.2.7".parse().unwrap())));
}

#[tokio::test]
async fn local_unknown_and_unix_leave_the_peers_own_address() {
    let (_, v4) = addresses("192.0.2.7");
    for bytes in [
        local().to_vec(),
        header(0x20, 0x11, &v4),
        header(0x20, 0xff, b"whatever"),
        header(0x21, 0x00, &[]),
        header(0x21, 0x31, &[0; 216]),
    ] {
        assert_eq!(outcome(&bytes).await, Ok(None), "{bytes:?}");
    }
}

#[tokio::test]
async fn what_is_no_header_is_refused_with_its_reason() {
    let (_, v4) = addresses("192.0.2.7");
    let huge = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    let short_extension = of("192.0.2.7", &[4, 0, 9, 1]);
    let cases: [(&[u8], HeaderRefusal); 11] = [
        (b"", HeaderRefusal::Cut),
        (b"\r\n\r\n\0", HeaderRefusal::Cut),
        (b"G", HeaderRefusal::None),
        (GET, HeaderRefusal::None),
        (&[22, 3, 1, 2, 0, 1, 0], HeaderRefusal::None),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 1234 443\r\n", HeaderRefusal::Version1),
        (&huge, HeaderRefusal::TooLarge),
        (&header(0x11, 0x11, &v4), HeaderRefusal::Malformed),
        (&header(0x21, 0x12, &v4), HeaderRefusal::Malformed),
        (&header(0x21, 0x11, &v4[..11]), HeaderRefusal::Malformed),
        (&short_extension, HeaderRefusal::Malformed),
    ];
    for (bytes, refusal) in cases {
        assert_eq!(outcome(bytes).await, Err(refusal), "{bytes:?}");
    }
}

#[tokio::test]
async fn no_bytes_whatever_panic_or_name_a_client_without_a_signature() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut seen = BTreeSet::new();
    for round in 0..20_000 {
        let mut bytes: Vec<u8> = (0..random() % 80).map(|_| random() as u8).collect();
        if round % 4 > 0 {
            // Nearly a header: the rest is chance.
            let mut head = of(if round % 2 == 0 { "192.0.2.7" } else { "2001:db8::7" }, &bytes);
            for _ in 0..random() % 3 {
                let at = if random() % 2 == 0 { 12 } else { random() as usize % head.len() };
                head[at] = [0x20, 0x00, 0x31, random() as u8][random() as usize % 4];
            }
            head.truncate(random() as usize % 90 + 1);
            bytes = head;
        }
        let outcome = outcome(&bytes).await;
        assert!(bytes.starts_with(SIGNATURE) || outcome.is_err(), "{bytes:?}");
        seen.insert(format!("{:?}", outcome.map(|client| client.is_some())));
    }
    assert!(seen.len() > 5, "chance finds every way out: {seen:?}");
}

fn proxies(trusted: &str) -> Option<Proxies> {
    let settings = [("PROXY_PROTOCOL", "on"), ("TRUSTED_PROXIES", trusted)];
    Proxies::new(&Config::load(&Layers::from(MapSource::environment(settings))).unwrap())
}

async fn behind(limits: ConnectionLimits, trusted: &str) -> Fixture {
    serve_as(limits, |server| server.behind(proxies(trusted))).await
}

/// What the application sees as the client of a connection that begins so.
async fn seen(fixture: &Fixture, header: &[u8]) -> String {
    let mut stream = fixture.connect().await;
    stream.write_all(&[header, GET_PEER].concat()).await.unwrap();
    let text = answer(&mut stream).await;
    text.rsplit("\r\n").next().unwrap().to_owned()
}

#[tokio::test]
async fn the_application_sees_the_client_of_a_trusted_proxy_only() {
    for (trusted, client) in [("", "192.0.2.7"), ("127.0.0.0/8", "192.0.2.7"), ("10.0.0.0/8", "127.0.0.1")] {
        let fixture = behind(limits(LONG, LONG), trusted).await;
        assert_eq!(seen(&fixture, &of("192.0.2.7", &[])).await, format!("{client} tls=false pong"));
        assert_eq!(seen(&fixture, &local()).await, "127.0.0.1 tls=false pong");
        assert!(fixture.stop().await);
    }
}

#[tokio::test]
async fn a_header_has_a_deadline_however_it_is_dribbled() {
    let fixture = behind(limits(SHORT, LONG), "").await;
    assert!(closed(&mut fixture.connect().await).await > SHORT / 2, "silence");
    let (mut reader, mut writer) = fixture.connect().await.into_split();
    let drip = async move {
        for byte in of("192.0.2.7", &[]) {
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(SHORT / 4).await; // slowness is what is tested
        }
    };
    let (took, ()) = tokio::join!(closed(&mut reader), drip);
    assert!(took < SHORT * 4, "{took:?}");
    // The head of the request shares the header's time: two deadlines in a row are one too many.
    let mut stream = fixture.connect().await;
    stream.write_all(&of("192.0.2.7", &[])).await.unwrap();
    assert!(closed(&mut stream).await > SHORT / 2);
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn garbage_and_oversize_are_closed_at_once() {
    let fixture = behind(limits(LONG, LONG), "").await;
    let oversize = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff], &[0; 100]].concat();
    for bytes in [GET, b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n", &oversize] {
        let mut stream = fixture.connect().await;
        stream.write_all(bytes).await.unwrap();
        assert!(closed(&mut stream).await < LONG / 10);
    }
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_06_connections_are_counted_by_client_and_not_by_proxy() {
    let fixture = behind(ConnectionLimits { max_connections_per_address: 1, ..limits(LONG, LONG) }, "").await;
    let mut held = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        let mut stream = fixture.connect().await;
        stream.write_all(&[of(client, &[]), GET.to_vec()].concat()).await.unwrap();
        answer(&mut stream).await;
        held.push(stream);
    }
    let mut second = fixture.connect().await;
    second.write_all(&[of("192.0.2.1", &[]), GET.to_vec()].concat()).await.unwrap();
    assert!(closed(&mut second).await < LONG / 10);
    drop(held);
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_06_who_is_not_believed_is_counted_once_and_given_back() {
    let fixture =
        behind(ConnectionLimits { max_connections_per_address: 2, ..limits(LONG, LONG) }, "10.0.0.0/8").await;
    for _ in 0..10 {
        assert_eq!(seen(&fixture, &of("192.0.2.7", &[])).await, "127.0.0.1 tls=false pong");
    }
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn s_02_a_stop_does_not_wait_for_a_header() {
    let fixture = behind(limits(LONG, LONG), "").await;
    let silent = fixture.connect().await;
    assert_eq!(seen(&fixture, &local()).await, "127.0.0.1 tls=false pong");
    let begin = Instant::now();
    assert!(fixture.stop().await);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop(silent);
}
