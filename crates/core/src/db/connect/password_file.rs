//! The password in the file that a URL was read from, which somebody may replace while we run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use erp_postgres::PasswordSource;
use tracing::info;
use zeroize::Zeroizing;

use crate::config::PostgresUrl;

/// The file of a URL, and the password that was in it last.
pub(super) struct PasswordFile {
    path: PathBuf,
    current: Mutex<Zeroizing<Vec<u8>>>,
}

impl PasswordFile {
    pub(super) fn new(path: &Path, password: Vec<u8>) -> Self {
        Self { path: path.to_owned(), current: Mutex::new(Zeroizing::new(password)) }
    }

    /// What stands there now. A pipe would tell nothing twice, and might be waited for.
    fn read(&self) -> Option<Vec<u8>> {
        let is_file = fs::metadata(&self.path).is_ok_and(|file| file.is_file());
        let text = Zeroizing::new(is_file.then(|| fs::read_to_string(&self.path).ok()).flatten()?);
        let url = PostgresUrl::parse(text.trim()).ok()?;
        url.driver.get_password().map(<[u8]>::to_vec)
    }
}

impl PasswordSource for PasswordFile {
    fn current(&self) -> Vec<u8> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).to_vec()
    }

    fn other_than(&self, refused: &[u8]) -> Option<Vec<u8>> {
        let found = self.read().filter(|found| found != refused)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if **current != found {
            info!(file = %self.path.display(), "the database refuses the password of before, and its file has another one");
            *current = Zeroizing::new(found.clone());
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn another_password_is_taken_from_a_file_that_can_be_read() {
        let path = std::env::temp_dir().join(format!("erp-password-{}", process::id()));
        let write = |text: &str| fs::write(&path, text).unwrap();
        let file = PasswordFile::new(&path, b"first".to_vec());
        assert_eq!(file.other_than(b"first"), None, "there is no file");
        for unfit in ["", "postgresql://app:first@db/erp", "postgresql://app@db/erp", "half of a UR"] {
            write(unfit);
            assert_eq!(file.other_than(b"first"), None, "{unfit}");
        }
        write("postgresql://app:second@elsewhere/erp\n");
        assert_eq!(file.other_than(b"first").unwrap(), b"second");
        assert_eq!(file.current(), b"second");
        // Of two sessions that were refused with the first one, both learn of it.
        assert_eq!(file.other_than(b"first").unwrap(), b"second");
        assert_eq!(file.other_than(b"second"), None);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(file.other_than(b"second"), None, "no file");
        fs::remove_dir(&path).unwrap();
        assert_eq!(file.current(), b"second", "what holds is kept");
    }
}
