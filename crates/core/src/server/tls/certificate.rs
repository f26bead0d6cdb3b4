//! The certificate, its chain and its key: read from two files, and shown only when they belong together.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use x509_cert::der::Decode as _;

use crate::config::SettingProblem;

/// A chain with its key has a few kilobytes; what is larger is another file.
const LARGEST_FILE: u64 = 1024 * 1024;
const CERTIFICATE: &str = "TLS_CERT_PATH";
const KEY: &str = "TLS_KEY_PATH";

/// Where the certificate and its key are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What tells that a file was changed or replaced: modification, size, inode.
pub(super) type Stamp = [Option<(SystemTime, u64, u64)>; 2];

/// A certificate that belongs to its key.
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// `None` when the dates are in no known form.
    pub(super) expires: Option<Timestamp>,
    /// Whether others than the owner and its group may read the key's file.
    pub(super) exposed: bool,
    /// How the files looked before they were read.
    pub(super) stamp: Stamp,
}

impl Files {
    /// Reads both, and refuses what no client could use.
    pub(super) async fn read(&self, provider: &CryptoProvider) -> Result<Pair, SettingProblem> {
        let stamp = self.stamp().await;
        let chain = certificates(CERTIFICATE, &self.certificate).await?;
        let (bytes, exposed) = read(KEY, &self.key).await?;
        let key = private_key(&self.key, &bytes)?;
        let expires = chain.first().and_then(|certificate| expiry(certificate));
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| self.mismatch(&error))?;
        Ok(Pair { key: Arc::new(key), expires, exposed, stamp })
    }

    /// How both files look now.
    pub(super) async fn stamp(&self) -> Stamp {
        [stamp(&self.certificate).await, stamp(&self.key).await]
    }

    fn mismatch(&self, error: &TlsError) -> SettingProblem {
        match error {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let message = format!(
                    "{} is not the key of the first certificate in {}",
                    shown(&self.key),
                    shown(&self.certificate)
                );
                problem(
                    KEY,
                    message,
                    "Name the key and the certificate of one pair, the server's certificate first",
                )
            }
            TlsError::InvalidCertificate(_) => {
                let message =
                    format!("{} does not begin with an X.509 certificate: {error}", shown(&self.certificate));
                problem(CERTIFICATE, message, "Name a PEM file with the certificate and its chain")
            }
            _ => {
                let message = format!("the key in {} cannot be used: {error}", shown(&self.key));
                problem(KEY, message, "Use a key of RSA from 2048 bits, ECDSA P-256 or P-384, or Ed25519")
            }
        }
    }
}

/// The certificates of a PEM file; `setting` is what names it.
pub(super) async fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, SettingProblem> {
    let (bytes, _) = read(setting, path).await?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let why = match certificates {
        Ok(certificates) if !certificates.is_empty() => return Ok(certificates),
        Ok(_) => "holds no certificate".to_owned(),
        Err(error) => format!("is no PEM file: {}", described(&error)),
    };
    Err(problem(setting, format!("{} {why}", shown(path)), "Name a PEM file: -----BEGIN CERTIFICATE-----"))
}

fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, SettingProblem> {
    let encrypted = bytes.windows(9).any(|window| window == b"ENCRYPTED");
    let (why, fix) = match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) if !encrypted => return Ok(key),
        _ if encrypted => {
            ("holds an encrypted key".to_owned(), "Decrypt it with: openssl pkey -in key.pem -out plain.pem")
        }
        Err(pem::Error::NoItemsFound) => {
            ("holds no key".to_owned(), "Name a PEM file: -----BEGIN PRIVATE KEY-----")
        }
        // What the parser found is part of the file, and the file may be a key: only its kind is told.
        _ => ("is no PEM file".to_owned(), "Name a PEM file: -----BEGIN PRIVATE KEY-----"),
    };
    Err(problem(KEY, format!("{} {why}", shown(path)), fix))
}

async fn read(setting: &'static str, path: &Path) -> Result<(Vec<u8>, bool), SettingProblem> {
    let (bytes, mode) = contents(path).await.map_err(|error| {
        let why = match error.kind() {
            ErrorKind::NotFound => "does not exist".to_owned(),
            ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        problem(setting, format!("{} {why}", shown(path)), "Name a readable PEM file")
    })?;
    Ok((bytes, mode & 0o007 != 0))
}

/// The bytes of a file and its mode.
async fn contents(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    use std::os::unix::fs::PermissionsExt as _;
    // Looked at first: opening a pipe would wait for somebody to write into it.
    let metadata = tokio::fs::metadata(path).await?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok((tokio::fs::read(path).await?, metadata.permissions().mode()))
}

async fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// `notAfter` (RFC 5280, 4.1.2.5).
fn expiry(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate.validity.not_after.to_unix_duration();
    Timestamp::from_second(i64::try_from(end.as_secs()).ok()?).ok()
}

fn described(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::Base64Decode(_) => "it is no base64",
        _ => "it cannot be understood",
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn problem(name: &str, message: String, fix: &str) -> SettingProblem {
    SettingProblem { name: name.to_owned(), message, fix: fix.to_owned() }
}
