//! Where a database is and how it is reached: a URL, and TLS as its `sslmode` asks for.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::wire::Connector;
use crate::config::{PostgresUrl, SslMode};

/// The session of one connection: drives it until it ends.
pub(super) type Session = tokio_postgres::Connection<
    tokio_postgres::Socket,
    <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>>::Stream,
>;

/// How long opening a connection may take, unless told otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A database and the role it is reached as. Cheap to clone; shows no password.
#[derive(Clone)]
pub struct Connection {
    pub(super) driver: Config,
    /// For the driver's own sessions, which migrate, watch and prove.
    tls: MakeRustlsConnect,
    /// For those that serve requests.
    tls_client: Arc<ClientConfig>,
}

impl Connection {
    /// Opens a connection. Whoever drives the session owns it.
    pub(super) async fn open(&self) -> Result<(Client, Session), tokio_postgres::Error> {
        self.driver.connect(self.tls.clone()).await
    }

    /// What opens the connections that serve requests; each of its own takes `limit` at most.
    pub(super) fn connector(&self, limit: Duration, prepared_statements: bool) -> Connector {
        let mut config = self.driver.clone();
        config.connect_timeout(limit);
        Connector::new(config, Arc::clone(&self.tls_client), prepared_statements)
    }

    /// Gives the session bounds that hold even when our own side forgets. Not behind a pooler, which shares sessions
    /// and takes no start-up options.
    #[must_use]
    pub fn bounded(mut self, statement_timeout: Duration) -> Self {
        // The URL's own `options` stay; where both set the same, the later counts: ours.
        let given = self.driver.get_options().map(|given| format!("{given} ")).unwrap_or_default();
        self.driver.options(format!(
            "{given}-c statement_timeout={} -c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
            statement_timeout.as_millis()
        ));
        self
    }

    /// The role's name.
    pub fn user(&self) -> Option<&str> {
        self.driver.get_user()
    }

    /// `host:port`, for messages.
    pub fn place(&self) -> String {
        let host = match self.driver.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        let port = self.driver.get_ports().first().copied().unwrap_or(5432);
        format!("{host}:{port}")
    }
}

impl FromStr for Connection {
    type Err = String;

    /// Reads a URL as [`PostgresUrl`] describes it, and the certificates that it names.
    fn from_str(url: &str) -> Result<Self, String> {
        let url = PostgresUrl::parse(url).map_err(|fault| fault.what)?;
        let tls_client = client_config(&url)?;
        let tls = MakeRustlsConnect::new(tls_client.clone());
        let mut driver = url.driver;
        driver.connect_timeout(CONNECT_TIMEOUT);
        if driver.get_user().is_none() {
            driver.user(account()?);
        }
        Ok(Self { driver, tls, tls_client: Arc::new(tls_client) })
    }
}

/// Who a URL without a user means, as libpq has it. In a container the account may have a number only.
fn account() -> Result<String, String> {
    whoami::username().map_err(|_| {
        "names no user, and the account of this process has no name in /etc/passwd: write the user into the URL".to_owned()
    })
}

fn client_config(url: &PostgresUrl) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let authorities = match url.ssl {
        SslMode::VerifyCa | SslMode::VerifyFull => {
            let roots = Arc::new(roots(url)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            Some(verifier.map_err(|error| format!("has no usable sslrootcert: {error}"))?)
        }
        SslMode::Disable | SslMode::Prefer | SslMode::Require => None,
    };
    let verifier =
        Verifier { authorities, any_name: url.ssl != SslMode::VerifyFull, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("cannot use TLS: {error}"))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

fn roots(url: &PostgresUrl) -> Result<RootCertStore, String> {
    let certificates: Vec<CertificateDer<'static>> = match &url.root_certificates {
        // Opening a pipe would wait for somebody to write into it.
        Some(path) if path.exists() && !path.is_file() => {
            return Err(format!("names an sslrootcert, {}, that is no file", path.display()));
        }
        Some(path) => CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| {
            format!("names an sslrootcert, {}, that cannot be read: {error}", path.display())
        })?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(
            "asks to verify the server's certificate, but no trusted authority was found: set sslrootcert"
                .to_owned(),
        );
    }
    Ok(roots)
}

/// Verifies as much of the server's certificate as libpq does for the `sslmode`.
#[derive(Debug)]
struct Verifier {
    /// The trusted authorities; without any, whatever the server shows is taken.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Whether the certificate may name another host (`verify-ca`).
    any_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
