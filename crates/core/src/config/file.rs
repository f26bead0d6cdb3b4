//! Files that settings come from: `.env` files and those that hold a secret.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use zeroize::Zeroizing;

use super::trim::trimmed;
use crate::shared::Secret;

/// Settings and secrets are short: what is longer is another file, or a device that never ends.
const LARGEST: u64 = 1024 * 1024;
/// How long the writer of a pipe may take, such as the command of a `<(…)`.
const PATIENCE: Duration = Duration::from_secs(30);

/// The files that `NAME_FILE` names: each is read once, however often its setting is looked at. A pipe tells its text once
/// only, and a file that is just being replaced must not tell two.
#[derive(Default)]
pub(super) struct SecretFiles(Mutex<BTreeMap<String, Read>>);

/// The text, or why there is none.
type Read = Result<Secret<String>, String>;

impl SecretFiles {
    /// The trimmed text of the file at `path`; the error says why there is none.
    pub(super) fn read(&self, path: &str) -> Result<String, String> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text =
            files.entry(path.to_owned()).or_insert_with(|| secret(path).map_err(|error| error.to_string()));
        text.as_ref().map(|text| text.expose().clone()).map_err(Clone::clone)
    }

    /// The files so far that everybody on this machine may write to.
    pub(super) fn open_to_all(&self) -> Vec<String> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.keys().filter(|path| is_open_to_all(Path::new(path))).cloned().collect()
    }
}

fn secret(path: &str) -> io::Result<Secret<String>> {
    let text = read(Path::new(path))?;
    match trimmed(&text) {
        "" => Err(io::Error::other("the file is empty")),
        text => Ok(Secret::new(text.to_owned())),
    }
}

/// The text of the file at `path`, which may be a pipe or standard input.
pub(super) fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    text(&read_within(path, PATIENCE)?)
}

/// Whether everybody on this machine may write to the file, and so choose what it holds.
pub(super) fn is_open_to_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o002 != 0)
}

fn read_within(path: &Path, patience: Duration) -> io::Result<Zeroizing<Vec<u8>>> {
    if fs::metadata(path)?.is_file() {
        return whole(path);
    }
    // Somebody has to write into a pipe, and perhaps nobody will: the thread then ends with the process.
    let (sender, received) = mpsc::sync_channel(1);
    let path = path.to_owned();
    std::thread::Builder::new().spawn(move || drop(sender.send(whole(&path))))?;
    received.recv_timeout(patience).unwrap_or_else(|_| {
        let late = format!("it is no regular file, and nobody has written into it within {patience:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, late))
    })
}

fn whole(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let length = File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if length as u64 > LARGEST { Err(io::Error::other("it is larger than 1 MiB")) } else { Ok(bytes) }
}

fn text(bytes: &[u8]) -> io::Result<Zeroizing<String>> {
    let marked = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    if marked || bytes.contains(&0) {
        return Err(io::Error::other(
            "it is UTF-16, as some editors and shells of Windows write: save it as UTF-8",
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_writes_into_and_a_device_without_end_are_given_up() {
        let pipe = std::env::temp_dir().join(format!("erp-config-pipe-{}", std::process::id()));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = read_within(&pipe, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        fs::remove_file(&pipe).unwrap();
        assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("larger than 1 MiB"));
        assert!(read(Path::new("/")).is_err());
        assert_eq!(*read(Path::new("/dev/null")).unwrap(), "");
    }

    #[test]
    fn other_encodings_are_named() {
        let why = |bytes: &[u8]| text(bytes).unwrap_err().to_string();
        for utf_16 in [&b"\xff\xfeA\0"[..], b"\xfe\xff\0A", b"A\0=\0"] {
            assert!(why(utf_16).contains("UTF-16"));
        }
        assert!(why(b"A=\xe4").contains("not UTF-8"));
    }
}
