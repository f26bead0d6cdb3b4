//! Mails as files, where there is no mail server: a developer reads them at `/dev/mail`.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::fs;

use super::compose::OutgoingMail;

/// The most that are kept: a developer's folder does not grow for ever.
const MOST: usize = 200;

/// The folder that mails are written to, each as `….eml`, and beside it as `….json` what the page shows.
pub(super) struct MailFolder(PathBuf);

/// A mail of the folder, as the page shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FiledMail {
    /// Who it was for.
    pub to: String,
    /// What the tenant calls itself.
    pub from_name: Option<String>,
    /// What it is about.
    pub subject: String,
    /// As plain text.
    pub text: String,
    /// As HTML.
    pub html: Option<String>,
    /// When it was enqueued.
    pub date: Timestamp,
}

impl MailFolder {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self(data_dir.join("mails"))
    }

    /// Writes the mail under `name`, and removes the oldest where there are too many.
    pub(super) async fn write(&self, name: &str, mail: &OutgoingMail, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.0).await?;
        let filed = FiledMail {
            to: mail.to.to_string(),
            from_name: mail.from_name.clone(),
            subject: mail.subject.as_str().to_owned(),
            text: mail.text.clone(),
            html: mail.html.clone(),
            date: mail.date,
        };
        fs::write(self.path(name, "eml"), bytes).await?;
        fs::write(self.path(name, "json"), serde_json::to_vec(&filed)?).await?;
        for old in self.names().await?.into_iter().skip(MOST) {
            for extension in ["eml", "json"] {
                let _ = fs::remove_file(self.path(&old, extension)).await; // another process may have been first
            }
        }
        Ok(())
    }

    /// The names of what is there, the newest first: they are ids, in the order of time.
    async fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut entries = match fs::read_dir(&self.0).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            entries => entries?,
        };
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            names.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(names)
    }

    /// What is there, the newest first.
    pub(super) async fn list(&self) -> io::Result<Vec<(String, FiledMail)>> {
        let mut mails = Vec::new();
        for name in self.names().await? {
            mails.extend(self.read(&name).await.map(|mail| (name, mail)));
        }
        Ok(mails)
    }

    /// The mail of this name, if it is there.
    pub(super) async fn read(&self, name: &str) -> Option<FiledMail> {
        let bytes = fs::read(self.path(name, "json")).await.ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.0.join(format!("{name}.{extension}"))
    }
}
