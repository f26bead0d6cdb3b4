//! The log in a file: appended to, and found again under its name after a rotation.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file that lines are appended to. When it is renamed or removed, as log rotation does, the next lines go into a new
/// one of the same name: no signal is needed.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    /// Opens the file, and makes it when there is none: readable by its owner and group.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: append(path)?, path: path.to_owned() })
    }

    fn was_rotated(&self) -> bool {
        let identity = |file: fs::Metadata| (file.dev(), file.ino());
        let (here, there) = (self.file.metadata().map(identity), fs::metadata(&self.path).map(identity));
        !matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }
}

impl Write for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // A name that cannot be opened again must not cost the lines: the file in hand still takes them.
        if self.was_rotated()
            && let Ok(fresh) = append(&self.path)
        {
            self.file = fresh;
        }
        self.file.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
