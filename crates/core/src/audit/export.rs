//! What an auditor takes along: a folder with the entries, the signed checkpoint, the public key, and a program of one page that
//! verifies it with nothing else.
//!
//! It is written beside its final name and moved there when it is whole: where the disk is full, or the process killed, no half of an
//! export looks like one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::note::{public_pem, verifier_key};
use super::proof::SealedLog;
use super::tree::TreeHash;
use crate::shared::hex;

/// The program that verifies an export.
pub const VERIFIER: &str = include_str!("verify.py");

/// An export that is being written.
pub struct AuditExport {
    target: PathBuf,
    draft: PathBuf,
    open: Option<BufWriter<File>>,
    is_whole: bool,
}

impl AuditExport {
    /// Begins an export into a folder that does not exist yet.
    ///
    /// # Errors
    /// Where there is something of that name, or nothing can be written beside it.
    pub fn begin(target: &Path, suffix: u64) -> io::Result<Self> {
        if fs::symlink_metadata(target).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something of that name is there already",
            ));
        }
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))?;
        let draft = target.with_file_name(format!(".{}.{suffix:016x}.part", name.to_string_lossy()));
        fs::create_dir(&draft)?;
        Ok(Self { target: target.to_owned(), draft, open: None, is_whole: false })
    }

    /// Begins a log: what comes next are its entries, in order.
    ///
    /// # Errors
    /// As the file system answers.
    pub fn log(&mut self, log: &SealedLog, removals: &[String], keys: &[TreeHash]) -> io::Result<()> {
        self.close()?;
        let folder = self.draft.join(format!("log-{}", log.log));
        fs::create_dir(&folder)?;
        put(&folder.join("checkpoint"), &log.note)?;
        put(&folder.join("removals"), &removals.join("\n\n"))?;
        let names: Vec<String> = keys.iter().map(|key| verifier_key(&log.origin, key)).collect();
        put(&folder.join("verifier-keys"), &format!("{}\n", names.join("\n")))?;
        self.open = Some(BufWriter::new(File::create(folder.join("entries"))?));
        Ok(())
    }

    /// Adds an entry, or what is left of one that was removed.
    ///
    /// # Errors
    /// As the file system answers.
    pub fn entry(&mut self, leaf: &[u8], entry: Option<&str>) -> io::Result<()> {
        let Some(file) = &mut self.open else { return Err(io::Error::other("no log was begun")) };
        match entry {
            Some(entry) => writeln!(file, "{entry}"),
            None => writeln!(file, "removed {}", hex(leaf)),
        }
    }

    fn close(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some(file) => file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Adds the keys and the program, and gives the export its name.
    ///
    /// # Errors
    /// As the file system answers.
    pub fn finish(mut self, keys: &[TreeHash]) -> io::Result<()> {
        self.close()?;
        for (nth, key) in keys.iter().enumerate() {
            let name = if nth == 0 { "public-key.pem".to_owned() } else { format!("public-key-{nth}.pem") };
            put(&self.draft.join(name), &public_pem(key))?;
        }
        put(&self.draft.join("verify.py"), VERIFIER)?;
        File::open(&self.draft)?.sync_all()?;
        fs::rename(&self.draft, &self.target)?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for AuditExport {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_dir_all(&self.draft);
        }
    }
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
