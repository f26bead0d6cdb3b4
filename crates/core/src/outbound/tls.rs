//! TLS towards other services: the machine's authorities, and one file more.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::lifecycle::{Exit, StartError};

/// TLS 1.2 and 1.3 with the authorities that the machine trusts and those in the PEM file of `OUTBOUND_CA_PATH`.
pub(super) fn client_config(more: Option<&Path>) -> Result<ClientConfig, StartError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = more {
        add(&mut roots, path)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| {
        StartError::new(Exit::Internal, "TLS cannot be spoken to other services").because(error)
    })?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), StartError> {
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
    for certificate in certificates {
        roots.add(certificate).map_err(|error| refused(format!("holds one that cannot be used: {error}")))?;
    }
    Ok(())
}
