//! How the process asks its own listener: for `healthcheck` and `serve --rehearse`.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::proxy;
use crate::config::Config;

/// A connection over which requests may be sent.
pub trait Loopback: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Loopback for S {}

/// Says first what the listener of these settings expects: the load balancer's header, then a TLS handshake.
///
/// The certificate is not verified: it names the host that clients know, and nothing secret is sent.
///
/// # Errors
/// When the connection breaks, or the handshake fails.
pub async fn introduce(mut stream: TcpStream, config: &Config) -> io::Result<Box<dyn Loopback>> {
    if config.transport.proxy_protocol {
        stream.write_all(&proxy::local()).await?;
    }
    if config.transport.certificate().is_none() {
        return Ok(Box::new(stream));
    }
    let name = ServerName::from(stream.peer_addr()?.ip());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = client.map_err(io::Error::other)?.dangerous();
    let client = client.with_custom_certificate_verifier(Arc::new(AnyCertificate)).with_no_client_auth();
    Ok(Box::new(TlsConnector::from(Arc::new(client)).connect(name, stream).await?))
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
