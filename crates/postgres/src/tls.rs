//! TLS towards PostgreSQL: as much of the server's certificate is verified as libpq does for the `sslmode`.
//!
//! Two things that libpq takes are not taken: a certificate that has only a common name, and one of version 1 or 2,
//! unless it stands in `sslrootcert` itself (docs/decisions/0007).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::{Certificate, Version};

/// How much of the server's certificate is verified, where TLS is spoken (libpq, "SSL Support").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Nothing: `sslmode=prefer` and `require`.
    Nothing,
    /// That it is of a known authority: `sslmode=verify-ca`.
    Authority,
    /// The same, and that it names the host: `sslmode=verify-full`.
    Host,
}

/// How TLS is spoken. `root_certificates` is a PEM file of trusted authorities; `None` takes those of the system.
///
/// # Errors
/// When the authorities cannot be read. Goes on after the name of the URL.
pub fn client_config(verify: Verify, root_certificates: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (authorities, named) = match verify {
        Verify::Authority | Verify::Host => {
            let (roots, named) = roots(root_certificates)?;
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
            (Some(verifier.map_err(|error| format!("has no usable sslrootcert: {error}"))?), named)
        }
        Verify::Nothing => (None, Vec::new()),
    };
    let any_name = verify != Verify::Host;
    let verifier = Verifier { authorities, named, any_name, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("cannot use TLS: {error}"))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// The trusted authorities; and those that `path` names.
fn roots(path: Option<&Path>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let (certificates, named) = match path {
        // Opening a pipe would wait for somebody to write into it.
        Some(path) if path.exists() && !path.is_file() => {
            return Err(format!("names an sslrootcert, {}, that is no file", path.display()));
        }
        Some(path) => {
            let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let read = read.map_err(|error| {
                format!("names an sslrootcert, {}, that cannot be read: {error}", path.display())
            })?;
            (read.clone(), read)
        }
        None => (rustls_native_certs::load_native_certs().certs, Vec::new()),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(
            "asks to verify the server's certificate, but no trusted authority was found: set sslrootcert"
                .to_owned(),
        );
    }
    Ok((roots, named))
}

/// Why a certificate cannot be verified, where libpq could.
#[derive(Debug)]
pub struct Unreadable(&'static str);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Unreadable {}

/// Verifies as much of the server's certificate as libpq does for the `sslmode`.
#[derive(Debug)]
struct Verifier {
    /// The trusted authorities; without any, whatever the server shows is taken.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates of `sslrootcert`: a server may show one of them, which then needs no other.
    named: Vec<CertificateDer<'static>>,
    /// Whether the certificate may name another host (`verify-ca`).
    any_name: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// A certificate that is its own authority, as libpq takes it: known byte for byte, and neither too old nor too new.
    fn verify_named(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refused = |fault| Err(rustls::Error::InvalidCertificate(fault));
        let Ok(parsed) = Certificate::from_der(certificate) else {
            return refused(CertificateError::BadEncoding);
        };
        let validity = &parsed.tbs_certificate.validity;
        if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
            return refused(CertificateError::NotValidYet);
        }
        if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
            return refused(CertificateError::Expired);
        }
        if !self.any_name {
            if is_old(certificate) {
                return refused(unreadable("a certificate without a subjectAltName (version 1)"));
            }
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }
}

/// Whether it is of a version that has no extensions, and that the verifier cannot read.
fn is_old(certificate: &CertificateDer<'_>) -> bool {
    Certificate::from_der(certificate).is_ok_and(|parsed| parsed.tbs_certificate.version != Version::V3)
}

fn unreadable(what: &'static str) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(Unreadable(what))))
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
        if self.named.iter().any(|named| named == certificate) {
            return self.verify_named(certificate, name, now);
        }
        if is_old(certificate) {
            return Err(rustls::Error::InvalidCertificate(unreadable("a certificate of version 1")));
        }
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
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let old = Certificate::from_der(certificate).ok().filter(|_| is_old(certificate));
        match old.and_then(|old| old.tbs_certificate.subject_public_key_info.to_der().ok()) {
            // Of such a certificate only its key can be read.
            Some(key) => verify_tls13_signature_with_raw_key(
                message,
                &SubjectPublicKeyInfoDer::from(key),
                signature,
                algorithms,
            ),
            None => verify_tls13_signature(message, certificate, signature, algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
