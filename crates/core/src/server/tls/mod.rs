//! TLS of the listener (D-08): versions 1.3, and 1.2 where a setting asks for it, from rustls on aws-lc-rs. Its cipher
//! suites all have forward secrecy and authenticated encryption.
//!
//! - `certificate`: the two files, and whether they belong together;
//! - `watch`: reads them again when they change, while connections live on.
//!
//! Deployment: clients reach this port themselves, or through something that passes TCP on. Behind a proxy that ends TLS
//! leave it off.

mod certificate;
#[cfg(test)]
pub(super) mod tests;
mod watch;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::{
    ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::{ClientAuth, Config, Problems, SettingProblem, TlsVersion};
use crate::lifecycle::{Background, StopStage};
use crate::metrics::Metrics;
use crate::shared::Clock;
use certificate::{Files, Pair, Stamp};

/// The first byte of every TLS connection: a record that holds a part of the handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// What somebody reads who has typed `http://` where `https://` belongs.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 32\r\n\
    connection: close\r\n\r\nThis port speaks HTTPS, not HTTP";
/// How long, and for how many bytes, that answer is held open: closing on unread bytes would take it back.
const LINGER: (Duration, u64) = (Duration::from_millis(500), 16 * 1024);

/// TLS as the settings ask for it; cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<TlsInner>);

struct TlsInner {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    files: Files,
    handshake_timeout: Duration,
    metrics: Metrics,
}

/// Reads the certificate anew.
pub(crate) static CERTIFICATE: Background<(Tls, Arc<dyn Clock>)> = Background {
    name: "TLS certificate",
    about: "Reads the certificate and its key anew when their files change or on SIGHUP, and warns before it expires.",
    critical: true,
    stops: StopStage::Foundation,
    run: |(tls, clock), stop| Box::pin(tls.watch(clock, stop.token().clone())),
    observe: |_| {},
};

/// The certificate that new connections are shown.
#[derive(Debug)]
struct Shown(RwLock<Current>);

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    expires: Option<Timestamp>,
    stamp: Stamp,
}

impl Tls {
    /// Reads the certificate and its key; `None` when no setting names any.
    ///
    /// # Errors
    /// One problem: a file is missing or no PEM, the key is encrypted or another certificate's.
    pub async fn load(config: &Config, metrics: Metrics) -> Result<Option<Self>, Problems> {
        let Some((certificate, key)) = config.transport.certificate() else { return Ok(None) };
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pair = files.read(&provider).await?;
        let shown = Arc::new(Shown(RwLock::new(Current::from(&pair))));
        let server = server_config(config, &provider, Arc::clone(&shown)).await?;
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let handshake_timeout = config.transport.tls_handshake_timeout;
        let tls = Self(Arc::new(TlsInner { acceptor, shown, files, handshake_timeout, metrics }));
        tls.note(&pair);
        Ok(Some(tls))
    }

    /// Shakes hands, until `latest` and within the handshake's own time. An error is the client's, and counted.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        latest: Instant,
    ) -> io::Result<TlsStream<TcpStream>> {
        let end = latest.min(Instant::now() + self.0.handshake_timeout);
        let outcome = match timeout_at(end, self.shake_hands(stream)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        let reason = reason(&outcome);
        tracing::debug!(reason, error = &outcome as &dyn std::error::Error, "A TLS handshake failed");
        self.0.metrics.tls_handshake_failures_total.with(&[reason]).inc();
        Err(outcome)
    }

    async fn shake_hands(&self, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        let peeked = stream.peek(&mut first).await?;
        if peeked == 1 && first[0] != HANDSHAKE && first[0].is_ascii_uppercase() {
            answer_plain_http(&mut stream).await;
            return Err(io::Error::new(io::ErrorKind::Unsupported, "plain HTTP"));
        }
        self.0.acceptor.accept(stream).await
    }

    /// Whether the certificate names `host`: nobody is sent elsewhere.
    pub(super) fn names(&self, host: &str) -> bool {
        let key = Arc::clone(&self.0.shown.current().key);
        let certificate = key.end_entity_cert().and_then(ParsedCertificate::try_from);
        let name = ServerName::try_from(host);
        matches!((certificate, name), (Ok(certificate), Ok(name)) if verify_server_name(&certificate, &name).is_ok())
    }

    /// Tells metrics and log about a pair that is shown from now on.
    fn note(&self, pair: &Pair) {
        if let Some(expires) = pair.expires {
            self.0.metrics.tls_certificate_expiry_timestamp_seconds.with(&[]).set(expires.as_second() as f64);
        }
        if pair.exposed {
            let path = self.0.files.key.display();
            tracing::warn!(%path, "Others may read the file of TLS_KEY_PATH: chmod o-rwx");
        }
    }
}

impl Shown {
    fn current(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, pair: &Pair) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pair.into();
    }
}

impl From<&Pair> for Current {
    fn from(pair: &Pair) -> Self {
        Self { key: Arc::clone(&pair.key), expires: pair.expires, stamp: pair.stamp }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current().key))
    }
}

async fn server_config(
    config: &Config,
    provider: &Arc<CryptoProvider>,
    shown: Arc<Shown>,
) -> Result<ServerConfig, SettingProblem> {
    let versions: &[&SupportedProtocolVersion] = match config.transport.tls_min_version {
        TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::Tls13 => &[&version::TLS13],
    };
    let unusable = |error: rustls::Error| SettingProblem {
        name: "TLS_CERT_PATH".to_owned(),
        message: format!("TLS cannot be spoken on this machine: {error}"),
        fix: "Leave it out, and let a proxy end TLS".to_owned(),
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder.with_protocol_versions(versions).map_err(unusable)?;
    let mut server = match client_verifier(config, provider).await? {
        None => builder.with_no_client_auth().with_cert_resolver(shown),
        Some(verifier) => builder.with_client_cert_verifier(verifier).with_cert_resolver(shown),
    };
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if config.transport.tls_client_auth == ClientAuth::Off {
        server.ticketer = aws_lc_rs::Ticketer::new().map_err(unusable)?;
    } else {
        // A resumed session would not show its certificate again, which may have expired meanwhile.
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
    }
    Ok(server)
}

async fn client_verifier(
    config: &Config,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, SettingProblem> {
    let Some(path) = config
        .transport
        .tls_client_ca_path
        .as_deref()
        .filter(|_| config.transport.tls_client_auth != ClientAuth::Off)
    else {
        return Ok(None);
    };
    let setting = "TLS_CLIENT_CA_PATH";
    let mut roots = RootCertStore::empty();
    let refused = |why: String| SettingProblem {
        name: setting.to_owned(),
        message: format!("{} holds an authority that cannot be used: {why}", path.display()),
        fix: "Name a PEM file with certificates of authorities".to_owned(),
    };
    for authority in certificate::certificates(setting, path).await? {
        roots.add(authority).map_err(|error| refused(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match config.transport.tls_client_auth {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::Off | ClientAuth::Required => builder,
    };
    builder.build().map(Some).map_err(|error| refused(error.to_string()))
}

async fn answer_plain_http(stream: &mut TcpStream) {
    let (patience, most) = LINGER;
    let farewell = async {
        stream.write_all(PLAIN_HTTP).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(most), &mut tokio::io::sink()).await
    };
    let _ = timeout(patience, farewell).await;
}

/// The label of a failed handshake.
fn reason(error: &io::Error) -> &'static str {
    use rustls::Error;
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match (error.kind(), cause) {
        (io::ErrorKind::TimedOut, _) => "timeout",
        (io::ErrorKind::Unsupported, _) => "plain_http",
        (_, Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol)) => "incompatible",
        (_, Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_))) => "certificate",
        (_, Some(Error::AlertReceived(_))) => "alert",
        _ => "other",
    }
}
