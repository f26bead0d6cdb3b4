//! Real handshakes on loopback, with rustls as the client and certificates made on the spot.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;
use crate::config::{Layers, MapSource};
use crate::metrics::Format;
use crate::server::ConnectionLimits;
use crate::server::tests::{Fixture, GET, LONG, PATIENCE, SHORT, answer, closed, limits, serve_as};

/// An authority, and a folder of the test's own with what it has signed.
pub(in crate::server) struct Scene {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Scene {
    pub(in crate::server) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("erp-tls-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let scene = Self { authority: authority(), folder };
        scene.write("ca.pem", &scene.authority.pem());
        scene.renew("127.0.0.1", 4000);
        scene
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.folder.join(name), text).unwrap();
        std::fs::set_permissions(self.folder.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A new certificate with its key.
    fn pair(&self, name: &str, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(in crate::server) fn renew(&self, name: &str, until: i32) {
        let (certificate, key) = self.pair(name, until);
        self.write("cert.pem", &certificate);
        self.write("key.pem", &key);
    }

    pub(in crate::server) async fn load(&self, more: &[(&str, &str)]) -> Result<Tls, String> {
        let (certificate, key) = (self.path("cert.pem"), self.path("key.pem"));
        let mut settings = vec![("TLS_CERT_PATH", certificate.as_str()), ("TLS_KEY_PATH", key.as_str())];
        settings.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        settings.extend(more);
        let config = Config::load(&Layers::from(MapSource::environment(settings))).unwrap();
        let tls = Tls::load(&config, Metrics::new(true)).await;
        tls.map(Option::unwrap).map_err(|problems| problems.to_string())
    }

    async fn serve(&self, limits: ConnectionLimits, more: &[(&str, &str)]) -> (Fixture, Tls) {
        let tls = self.load(more).await.unwrap();
        let theirs = tls.clone();
        (serve_as(limits, |server| server.secured(Some(theirs))).await, tls)
    }

    /// A client that trusts the authority; `identity` signs its own certificate.
    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
        identity: Option<&Self>,
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(scene) => {
                let (certificate, key) = scene.pair("somebody", 4000);
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    fn plain_client(&self) -> TlsConnector {
        self.client(&[&version::TLS13, &version::TLS12], &[], None)
    }
}

async fn connect(fixture: &Fixture, client: &TlsConnector) -> io::Result<ClientStream<TcpStream>> {
    let name = ServerName::from(fixture.address.ip());
    timeout(PATIENCE, client.connect(name, fixture.connect().await)).await.unwrap()
}

/// A whole exchange: with TLS 1.3 a refused client learns it only when it reads.
async fn exchange(fixture: &Fixture, client: &TlsConnector) -> io::Result<ClientStream<TcpStream>> {
    let mut stream = connect(fixture, client).await?;
    stream.write_all(GET).await?;
    let mut head = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap()?;
    assert_eq!(&head, b"HTTP/1.1 200");
    Ok(stream)
}

/// Waits until a handshake has failed for this reason: the client may know before it is counted.
async fn failed(tls: &Tls, reason: &str) {
    let row = format!("tls_handshake_failures_total{{reason=\"{reason}\"}}");
    let begin = std::time::Instant::now();
    while !tls.0.metrics.render(Format::Text004).contains(&row) {
        assert!(begin.elapsed() < PATIENCE, "no failure for {reason}");
        tokio::time::sleep(SHORT / 20).await;
    }
}

fn serial(stream: &ClientStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn d_08_version_1_2_is_spoken_only_where_a_setting_allows_it() {
    let scene = Scene::new();
    let (old, new) =
        (scene.client(&[&version::TLS12], &[], None), scene.client(&[&version::TLS13], &[], None));
    let (fixture, tls) = scene.serve(limits(LONG, LONG), &[]).await;
    exchange(&fixture, &new).await.unwrap();
    assert!(exchange(&fixture, &old).await.is_err());
    failed(&tls, "incompatible").await;
    assert!(fixture.stop().await);
    let (fixture, _) = scene.serve(limits(LONG, LONG), &[("TLS_MIN_VERSION", "1.2")]).await;
    for client in [old, new] {
        exchange(&fixture, &client).await.unwrap();
    }
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_every_cipher_is_authenticated_and_has_forward_secrecy() {
    let scene = Scene::new();
    let tls = scene.load(&[("TLS_MIN_VERSION", "1.2")]).await.unwrap();
    for suite in &tls.0.acceptor.config().crypto_provider().cipher_suites {
        let name = format!("{:?}", suite.suite());
        assert!(name.contains("GCM") || name.contains("CHACHA20_POLY1305"), "{name}");
        assert!(name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_"), "{name}");
    }
    // CBC, 3DES, RC4 and plain RSA, as a client of 2005 would offer them.
    let suites = [0xC0, 0x13, 0xC0, 0x14, 0x00, 0x2F, 0x00, 0x0A, 0x00, 0x05, 0x00, 0x9C];
    let groups = [0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3];
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 12], &suites, &[1, 0, 0, 16], &groups].concat();
    let message = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    let hello = [&[22, 3, 1, 0, u8::try_from(message.len()).unwrap()][..], &message].concat();
    let (fixture, tls) = scene.serve(limits(LONG, LONG), &[("TLS_MIN_VERSION", "1.2")]).await;
    let mut stream = fixture.connect().await;
    stream.write_all(&hello).await.unwrap();
    let mut alert = [0; 7];
    timeout(PATIENCE, stream.read_exact(&mut alert)).await.unwrap().unwrap();
    assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 40), "a fatal handshake_failure");
    closed(&mut stream).await;
    failed(&tls, "incompatible").await;
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_the_protocol_is_negotiated() {
    let scene = Scene::new();
    let (fixture, tls) = scene.serve(limits(LONG, LONG), &[]).await;
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let stream = connect(&fixture, &scene.client(&[&version::TLS13], offered, None)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}");
    }
    exchange(&fixture, &scene.plain_client()).await.unwrap();
    assert!(connect(&fixture, &scene.client(&[&version::TLS13], &["spdy/3"], None)).await.is_err());
    failed(&tls, "incompatible").await;
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_the_application_knows_that_the_connection_is_encrypted() {
    let scene = Scene::new();
    let (fixture, _) = scene.serve(limits(LONG, LONG), &[]).await;
    let mut stream = connect(&fixture, &scene.plain_client()).await.unwrap();
    stream.write_all(b"GET /peer HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(answer(&mut stream).await.ends_with("127.0.0.1 tls=true pong"));
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_a_handshake_has_a_deadline() {
    let scene = Scene::new();
    let (fixture, tls) = scene.serve(limits(LONG, LONG), &[("TLS_HANDSHAKE_TIMEOUT", "200ms")]).await;
    for begun in [&[][..], &[22], &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]] {
        let mut stream = fixture.connect().await;
        stream.write_all(begun).await.unwrap();
        let took = closed(&mut stream).await;
        assert!(took > SHORT / 2 && took < SHORT * 20, "{begun:?} after {took:?}");
    }
    failed(&tls, "timeout").await;
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_01_after_the_handshake_a_request_has_its_deadline_too() {
    let scene = Scene::new();
    let (fixture, _) = scene.serve(limits(SHORT, LONG), &[]).await;
    for begun in [&b""[..], b"GET / HTTP/1.1\r\nhos", b"PRI * HTTP/2.0\r\n"] {
        let mut stream = connect(&fixture, &scene.plain_client()).await.unwrap();
        stream.write_all(begun).await.unwrap();
        stream.flush().await.unwrap();
        assert!(closed(&mut stream).await > SHORT / 2);
    }
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_06_silent_handshakes_take_their_addresss_share() {
    let scene = Scene::new();
    let most = ConnectionLimits { max_connections_per_address: 2, ..limits(LONG, LONG) };
    let (fixture, _) = scene.serve(most, &[]).await;
    let silent = (fixture.connect().await, fixture.connect().await);
    let mut third = fixture.connect().await;
    assert!(closed(&mut third).await < LONG / 10);
    drop(silent);
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_plain_http_is_told_what_this_port_speaks() {
    let scene = Scene::new();
    let (fixture, tls) = scene.serve(limits(LONG, LONG), &[]).await;
    let mut stream = fixture.connect().await;
    stream.write_all(GET).await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 400 ") && head.contains(&format!("content-length: {}", body.len())),
        "{text}"
    );
    assert!(body.contains("HTTPS"), "{text}");
    failed(&tls, "plain_http").await;
    let mut stream = fixture.connect().await;
    stream.write_all(b"\x80\x2e\x01\0\x02 SSL 2, or anything").await.unwrap();
    closed(&mut stream).await;
    failed(&tls, "other").await;
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_bytes_of_chance_harm_nobody() {
    let scene = Scene::new();
    let (fixture, _) = scene.serve(limits(LONG, LONG), &[]).await;
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..64)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect();
        let mut stream = fixture.connect().await;
        let _ = stream.write_all(&[&[22, 3, 1, 1, 0][..], &bytes].concat()).await;
        closed(&mut stream).await;
    }
    exchange(&fixture, &scene.plain_client()).await.unwrap();
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on() {
    let scene = Scene::new();
    let (fixture, tls) = scene.serve(limits(LONG, LONG), &[]).await;
    let mut kept = connect(&fixture, &scene.plain_client()).await.unwrap();
    kept.write_all(GET).await.unwrap();
    answer(&mut kept).await;
    scene.renew("127.0.0.1", 3000);
    tls.reload("2026-02-03T04:05:06Z".parse().unwrap()).await;
    let fresh = exchange(&fixture, &scene.plain_client()).await.unwrap();
    assert_ne!(serial(&kept), serial(&fresh));
    kept.write_all(GET).await.unwrap();
    answer(&mut kept).await;
    let metrics = tls.0.metrics.render(Format::Text004);
    assert!(metrics.contains("tls_certificate_reloads_total{outcome=\"loaded\"} 1"), "{metrics}");
    assert!(
        metrics.contains("tls_certificate_expiry_timestamp_seconds 32503680000"),
        "1 January 3000: {metrics}"
    );
    let without = Metrics::new(true).render(Format::Text004);
    assert!(
        !without.contains("\ntls_certificate_expiry"),
        "nobody is told that no certificate expires: {without}"
    );
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_a_broken_pair_is_kept_out() {
    let scene = Scene::new();
    let (fixture, tls) = scene.serve(limits(LONG, LONG), &[]).await;
    let first = serial(&exchange(&fixture, &scene.plain_client()).await.unwrap());
    let (_, other_key) = scene.pair("127.0.0.1", 4000);
    let now = "2026-02-03T04:05:06Z".parse().unwrap();
    scene.write("key.pem", &other_key);
    tls.reload(now).await;
    scene.write("cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
    tls.reload(now).await;
    std::fs::remove_file(scene.folder.join("cert.pem")).unwrap();
    tls.reload(now).await;
    scene.renew("127.0.0.1", 2026);
    tls.reload(now).await; // it has expired
    assert_eq!(serial(&exchange(&fixture, &scene.plain_client()).await.unwrap()), first);
    let metrics = tls.0.metrics.render(Format::Text004);
    assert!(metrics.contains("tls_certificate_reloads_total{outcome=\"refused\"} 4"), "{metrics}");
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_changed_files_are_noticed() {
    let scene = Scene::new();
    let (fixture, tls) = scene.serve(limits(LONG, LONG), &[]).await;
    let first = serial(&exchange(&fixture, &scene.plain_client()).await.unwrap());
    let clock = Arc::new(crate::shared::SystemClock);
    let stop = fixture.lifecycle.stop_background().clone();
    drop(fixture.lifecycle.spawn("watch", tls.watch(clock, stop)));
    scene.renew("127.0.0.1", 3000);
    let deadline = std::time::Instant::now() + PATIENCE;
    while serial(&exchange(&fixture, &scene.plain_client()).await.unwrap()) == first {
        assert!(std::time::Instant::now() < deadline, "it is not noticed");
        tokio::time::sleep(SHORT).await;
    }
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_the_end_is_warned_of_once_a_day() {
    let scene = Scene::new();
    scene.renew("127.0.0.1", 2026);
    let tls = scene.load(&[]).await.unwrap();
    let mut warned = None;
    for (now, expected) in [
        ("2025-12-01T00:00:00Z", None),
        ("2025-12-20T00:00:00Z", Some("2025-12-20T00:00:00Z")),
        ("2025-12-20T23:00:00Z", Some("2025-12-20T00:00:00Z")),
        ("2025-12-21T00:00:00Z", Some("2025-12-21T00:00:00Z")),
        ("2026-01-05T00:00:00Z", Some("2026-01-05T00:00:00Z")),
        ("2025-12-25T00:00:00Z", Some("2025-12-25T00:00:00Z")), // the clock was set back
    ] {
        tls.warn_before_end(now.parse().unwrap(), &mut warned);
        assert_eq!(warned, expected.map(|at| at.parse().unwrap()), "{now}");
    }
}

#[tokio::test]
async fn d_08_client_certificates_are_optional_or_required_and_always_verified() {
    let (scene, stranger) = (Scene::new(), Scene::new());
    let ca = scene.path("ca.pem");
    let both: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    let (nobody, ours, theirs) = (
        scene.plain_client(),
        scene.client(both, &[], Some(&scene)),
        scene.client(both, &[], Some(&stranger)),
    );
    for (mode, without) in [("optional", true), ("required", false)] {
        let settings = [("TLS_CLIENT_AUTH", mode), ("TLS_CLIENT_CA_PATH", ca.as_str())];
        let (fixture, tls) = scene.serve(limits(LONG, LONG), &settings).await;
        assert_eq!(exchange(&fixture, &nobody).await.is_ok(), without, "{mode}");
        exchange(&fixture, &ours).await.unwrap();
        exchange(&fixture, &ours).await.unwrap();
        assert!(exchange(&fixture, &theirs).await.is_err(), "{mode}: a stranger's");
        failed(&tls, "certificate").await;
        assert!(fixture.stop().await);
    }
}

#[tokio::test]
async fn d_08_sessions_are_resumed_but_not_past_a_client_certificate() {
    let scene = Scene::new();
    let ca = scene.path("ca.pem");
    let asked = [("TLS_CLIENT_AUTH", "optional"), ("TLS_CLIENT_CA_PATH", ca.as_str())];
    for (settings, kind) in [(&[][..], rustls::HandshakeKind::Resumed), (&asked, rustls::HandshakeKind::Full)]
    {
        let (fixture, _) = scene.serve(limits(LONG, LONG), settings).await;
        let client = scene.plain_client();
        exchange(&fixture, &client).await.unwrap();
        let again = exchange(&fixture, &client).await.unwrap();
        assert_eq!(again.get_ref().1.handshake_kind(), Some(kind));
        assert!(fixture.stop().await);
    }
}

#[tokio::test]
async fn s_02_a_drain_ends_connections_over_tls_too() {
    let scene = Scene::new();
    let (fixture, _) = scene.serve(limits(LONG, LONG), &[]).await;
    let mut idle = exchange(&fixture, &scene.plain_client()).await.unwrap();
    let silent = fixture.connect().await; // its handshake is not waited for
    let mut busy = connect(&fixture, &scene.plain_client()).await.unwrap();
    busy.write_all(b"GET /gate HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    fixture.arrived().await;
    let stopped = tokio::join!(fixture.stop(), async {
        assert!(closed(&mut idle).await < Duration::from_secs(2));
        fixture.gate.add_permits(1);
        assert!(answer(&mut busy).await.contains("connection: close"));
    });
    assert!(stopped.0);
    drop(silent);
}

#[tokio::test]
async fn s_02_http2_over_tls_says_goaway() {
    let scene = Scene::new();
    let (fixture, _) = scene.serve(limits(LONG, LONG), &[]).await;
    let stream = connect(&fixture, &scene.client(&[&version::TLS13], &["h2"], None)).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let client = fixture.lifecycle.background().spawn(connection);
    let url = format!("https://{}/gate", fixture.address);
    let sent = sender.send_request(http::Request::get(url).body(Empty::<Bytes>::new()).unwrap());
    let (body, stopped) =
        tokio::join!(async { sent.await.unwrap().into_body().collect().await.unwrap().to_bytes() }, async {
            fixture.arrived().await;
            tokio::join!(fixture.stop(), async { fixture.gate.add_permits(1) }).0
        });
    assert_eq!((&body[..], stopped), (&b"pong"[..], true));
    assert!(timeout(PATIENCE, client).await.unwrap().unwrap().is_ok(), "GOAWAY, not a reset");
}

#[tokio::test]
async fn the_load_balancers_header_comes_before_the_handshake() {
    let scene = Scene::new();
    let tls = scene.load(&[]).await.unwrap();
    let config = Config::load(&Layers::from(MapSource::environment([("PROXY_PROTOCOL", "on")]))).unwrap();
    let proxies = crate::server::Proxies::new(&config);
    let fixture = serve_as(limits(LONG, LONG), |server| server.secured(Some(tls)).behind(proxies)).await;
    let mut stream = fixture.connect().await;
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x04\xd2\x01\xbb";
    stream.write_all(header).await.unwrap();
    let name = ServerName::from(fixture.address.ip());
    let mut stream = scene.plain_client().connect(name, stream).await.unwrap();
    stream.write_all(b"GET /peer HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(answer(&mut stream).await.ends_with("192.0.2.7 tls=true pong"));
    assert!(fixture.stop().await);
}

#[tokio::test]
async fn d_08_what_cannot_be_shown_is_refused_at_the_start_by_name() {
    let scene = Scene::new();
    let (_, other_key) = scene.pair("127.0.0.1", 4000);
    scene.write("other.pem", &other_key);
    scene.write("empty.pem", "");
    scene.write("broken.pem", "-----BEGIN PRIVATE KEY-----\nTOPSECRET");
    scene.write(
        "encrypted.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    scene.write("no-der.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (setting, file, parts) in [
        ("TLS_CERT_PATH", "missing.pem", ["TLS_CERT_PATH: ", "missing.pem does not exist"]),
        ("TLS_CERT_PATH", "empty.pem", ["TLS_CERT_PATH: ", "holds no certificate"]),
        ("TLS_CERT_PATH", "key.pem", ["TLS_CERT_PATH: ", "holds no certificate"]),
        ("TLS_CERT_PATH", "no-der.pem", ["TLS_CERT_PATH: ", "does not begin with an X.509 certificate"]),
        ("TLS_CERT_PATH", "", ["TLS_CERT_PATH: ", "cannot be read"]),
        ("TLS_KEY_PATH", "missing.pem", ["TLS_KEY_PATH: ", "missing.pem does not exist"]),
        ("TLS_KEY_PATH", "cert.pem", ["TLS_KEY_PATH: ", "holds no key"]),
        ("TLS_KEY_PATH", "broken.pem", ["TLS_KEY_PATH: ", "is no PEM file"]),
        ("TLS_KEY_PATH", "encrypted.pem", ["TLS_KEY_PATH: ", "openssl pkey"]),
        ("TLS_KEY_PATH", "other.pem", ["TLS_KEY_PATH: ", "is not the key of the first certificate"]),
    ] {
        let error = scene.load(&[(setting, &scene.path(file))]).await.err().unwrap();
        assert!(parts.iter().all(|part| error.contains(part)), "{setting} {file}: {error}");
        assert!(!error.contains("TOPSECRET") && error.lines().count() == 1, "{error}");
    }
    let ca = scene.path("empty.pem");
    let error =
        scene.load(&[("TLS_CLIENT_AUTH", "required"), ("TLS_CLIENT_CA_PATH", &ca)]).await.err().unwrap();
    assert!(error.contains("TLS_CLIENT_CA_PATH: ") && error.contains("holds no certificate"), "{error}");
}
