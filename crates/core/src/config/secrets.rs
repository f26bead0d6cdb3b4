//! What makes a secret fit for use, and the secrets that a developer's machine makes for itself.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt};
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use zeroize::Zeroizing;

use super::Config;
use crate::lifecycle::{Exit, StartError};
use crate::shared::{Rng, Secret};

const LEAST_BYTES: usize = 32;

/// In development, fills a missing `JWT_SECRET`, `ENCRYPTION_KEY`, `WEBHOOK_SECRET` and `AUDIT_SIGNING_KEY` from the files `jwt-secret`,
/// `encryption-key`, `webhook-secret` and `audit-signing-key` (mode 600) in `DATA_DIR`, which it makes when there are none, so that sign-ins outlive a restart. Does nothing
/// elsewhere or when they are set.
///
/// # Errors
/// The folder or a file cannot be made, read or understood: [`Exit::DataFolder`].
pub fn dev_secrets(config: &mut Config, rng: &dyn Rng) -> Result<(), StartError> {
    if !config.profile().generates_secrets {
        return Ok(());
    }
    let folder = &config.process.data_dir;
    for (secret, file) in [
        (&mut config.jwt.secret, "jwt-secret"),
        (&mut config.encryption.key, "encryption-key"),
        (&mut config.webhooks.secret, "webhook-secret"),
        (&mut config.audit.signing_key, "audit-signing-key"),
    ] {
        if secret.is_none() {
            let path = folder.join(file);
            *secret = Some(read_or_make(&path, rng).map_err(|error| {
                let message = format!(
                    "{}: {error}. Make DATA_DIR a folder of your own, or set the secret.",
                    path.display()
                );
                StartError::new(Exit::DataFolder, message).because(error)
            })?);
        }
    }
    Ok(())
}

/// A secret that nobody has had before: 32 bytes in base64, good for each of the settings that are secrets of ours.
pub fn new_secret(rng: &dyn Rng) -> Secret<String> {
    let mut bytes = Zeroizing::new([0; LEAST_BYTES]);
    rng.fill(&mut *bytes);
    Secret::new(BASE64_STANDARD.encode(*bytes))
}

fn read_or_make(path: &Path, rng: &dyn Rng) -> io::Result<Secret<String>> {
    match fs::symlink_metadata(path) {
        Ok(file) => return ours(&file).and_then(|()| generated(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?; // open to the private cluster, which runs under another account
    }
    publish(path, new_secret(rng).expose(), rng)?;
    // Another process may have been first: what is in the file counts.
    ours(&fs::symlink_metadata(path)?).and_then(|()| generated(path))
}

/// Refuses a file that somebody else may have put there or may change: a person who knows the key can sign tokens.
fn ours(file: &fs::Metadata) -> io::Result<()> {
    let us = rustix::process::geteuid().as_raw();
    let why = match file {
        file if !file.is_file() => "it is no regular file; remove it".to_owned(),
        file if file.uid() != us => {
            format!(
                "it belongs to user {}, and this is user {us}; remove it, or run as its owner",
                file.uid()
            )
        }
        file if file.mode() & 0o022 != 0 => "others may write to it; remove it, or chmod 600 it".to_owned(),
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Writes the file so that no other process ever sees half of it, and leaves one that is already there.
fn publish(path: &Path, text: &str, rng: &dyn Rng) -> io::Result<()> {
    let mut suffix = [0; 8];
    rng.fill(&mut suffix);
    let draft = path.with_extension(format!("{:016x}", u64::from_le_bytes(suffix)));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?.write_all(text.as_bytes())?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn generated(path: &Path) -> io::Result<Secret<String>> {
    let text = super::file::read(path)?;
    let text = text.trim_end();
    let bytes = BASE64_STANDARD.decode(text).map(Zeroizing::new);
    match bytes {
        Ok(bytes) if bytes.len() == LEAST_BYTES => Ok(Secret::new(text.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a generated secret; remove the file")),
    }
}

/// Texts that hold one of these were copied from an example.
const EXAMPLES_HOLD: &[&str] =
    &["changeme", "changethis", "replaceme", "yourjwtsecret", "example", "placeholder", "insecure"];

/// Why `text` is not fit to be a key; `None` when it is.
pub(super) fn weakness(text: &str) -> Option<&'static str> {
    const EXAMPLES_BEGIN: &[&str] = &["your", "secret", "password", "mysecret", "supersecret"];
    let letters = letters(text);
    if EXAMPLES_BEGIN.iter().any(|begin| letters.starts_with(begin))
        || EXAMPLES_HOLD.iter().any(|part| letters.contains(part))
    {
        return Some("is an example, not a secret");
    }
    if text.len() < LEAST_BYTES {
        return Some("is shorter than 32 bytes");
    }
    repetitive(text.as_bytes()).then_some("repeats itself and can be guessed")
}

/// Why `password` is not fit for an account of another service, `user`; `None` when it is.
pub(super) fn password_weakness(password: &str, user: Option<&str>) -> Option<&'static str> {
    const WELL_KNOWN: &[&str] = &[
        "password",
        "passw0rd",
        "password1",
        "password123",
        "postgres",
        "postgresql",
        "postgrespassword",
        "administrator",
        "12345678",
        "123456789",
        "1234567890",
        "qwertyuiop",
        "letmein1",
        "default1",
        "testtest",
        "mysecretpassword",
        "supersecret",
    ];
    let letters = letters(password);
    if letters.starts_with("your")
        || WELL_KNOWN.contains(&letters.as_str())
        || EXAMPLES_HOLD.iter().any(|part| letters.contains(part))
    {
        return Some("has an example for a password");
    }
    if user.is_some_and(|user| user.eq_ignore_ascii_case(password)) {
        return Some("has the name of its user for a password");
    }
    (password.len() < 8).then_some("has a password shorter than 8 bytes")
}

/// User and password of a Redis URL that has one.
pub(super) fn redis_password(url: &str) -> Option<(&str, &str)> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    authority.rsplit_once('@')?.0.split_once(':')
}

/// The letters and digits, in lower case: `Change-Me!` is `changeme`.
fn letters(text: &str) -> Zeroizing<String> {
    let plain = text.chars().filter(char::is_ascii_alphanumeric);
    Zeroizing::new(plain.map(|letter| letter.to_ascii_lowercase()).collect())
}

/// Why `text` is no key of 32 bytes; `strict` also refuses one that repeats itself.
pub(super) fn encryption_key_fault(text: &str, strict: bool) -> Option<&'static str> {
    match key_bytes(text) {
        Some(key) => (strict && repetitive(&*key)).then_some("repeats itself and can be guessed"),
        None => Some("is not 32 bytes as base64 or hex"),
    }
}

/// The 32 bytes of a key that is written as base64 or hex.
pub(crate) fn key_bytes(text: &str) -> Option<Zeroizing<[u8; LEAST_BYTES]>> {
    let bytes =
        BASE64_STANDARD.decode(text).ok().filter(|key| key.len() == LEAST_BYTES).or_else(|| hex(text));
    bytes
        .map(Zeroizing::new)
        .and_then(|bytes| Some(Zeroizing::new(<[u8; LEAST_BYTES]>::try_from(bytes.as_slice()).ok()?)))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.is_ascii() && text.len().is_multiple_of(2);
    digits.then(|| {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
    })?
}

/// Fewer than 8 different bytes, or one block of at most 8 bytes over and over.
fn repetitive(bytes: &[u8]) -> bool {
    let different = bytes.iter().collect::<std::collections::BTreeSet<_>>().len();
    different < 8 || (1..=8).any(|block| bytes.iter().zip(&bytes[block..]).all(|(one, next)| one == next))
}
