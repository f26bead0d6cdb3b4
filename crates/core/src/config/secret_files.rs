use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::file;
use super::trim::trimmed;
use crate::shared::Secret;

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
            files.entry(path.to_owned()).or_insert_with(|| read(path).map_err(|error| error.to_string()));
        text.as_ref().map(|text| text.expose().clone()).map_err(Clone::clone)
    }

    /// The files so far that everybody on this machine may write to.
    pub(super) fn open_to_all(&self) -> Vec<String> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.keys().filter(|path| file::is_open_to_all(Path::new(path))).cloned().collect()
    }
}

fn read(path: &str) -> io::Result<Secret<String>> {
    let text = file::read(Path::new(path))?;
    match trimmed(&text) {
        "" => Err(io::Error::other("the file is empty")),
        text => Ok(Secret::new(text.to_owned())),
    }
}
