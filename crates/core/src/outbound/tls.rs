//! TLS towards other services: the machine's authorities, and one file more.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::lifecycle::{Exit, StartError};

/// TLS 1.2 and 1.3 with the authorities that the machine trusts, and `more`. To read the machine's takes 50 ms.
pub(super) fn client_config(more: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(more);
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities in the PEM file of `OUTBOUND_CA_PATH`.
pub(super) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let refused = |why: String| {
        let what = format!("OUTBOUND_CA_PATH names {}, which {why}", path.display());
        StartError::with_fix(Exit::Configuration, what, "name a PEM file with certificates of authorities")
    };
    // Opening a pipe would wait for somebody to write into it.
    if !path.is_file() {
        return Err(refused("is no file".to_owned()));
    }
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| refused(format!("cannot be read: {error}")))?;
    if certificates.is_empty() {
        return Err(refused("holds no certificate".to_owned()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|error| refused(format!("holds one that cannot be used: {error}")))?;
    }
    Ok(certificates)
}
