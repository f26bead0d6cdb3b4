//! The log in a file: appended to, and found again under its name after a rotation.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// A file that lines are appended to. When it is renamed or removed, as log rotation does, the next lines go into a new
/// one of the same name: no signal is needed.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Whether the last byte that got out ends no line.
    torn: bool,
    /// Whether a write has failed since a batch was whole: what comes next is no continuation.
    failed: bool,
}

impl LogFile {
    /// Opens the file, and makes it when there is none: readable by its owner and group. A line that a full disk or a
    /// kill has torn is ended first.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = append(path)?;
        Ok(Self { torn: is_torn(&file, path), failed: true, file, path: path.to_owned() })
    }

    /// Whether [`LogFile::open`] works here; leaves no file that was not there.
    pub(super) fn try_open(path: &Path) -> io::Result<()> {
        let new = fs::symlink_metadata(path).is_err();
        append(path)?;
        if new { fs::remove_file(path) } else { Ok(()) }
    }

    fn was_rotated(&self) -> bool {
        let identity = |file: fs::Metadata| (file.dev(), file.ino());
        let (here, there) = (self.file.metadata().map(identity), fs::metadata(&self.path).map(identity));
        !matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }

    fn end_torn_line(&mut self) -> io::Result<()> {
        if self.torn && self.failed {
            self.file.write_all(b"\n")?;
        }
        self.failed = false;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // A name that cannot be opened again must not cost the lines: the file in hand still takes them.
        if self.was_rotated()
            && let Ok(fresh) = Self::open(&self.path)
        {
            *self = fresh;
        }
        let written = self.end_torn_line().and_then(|()| self.file.write(lines));
        match &written {
            Ok(length) => {
                let last = lines.get(..*length).and_then(<[u8]>::last);
                self.torn = last.map_or(self.torn, |last| *last != b'\n');
            }
            Err(error) => self.failed |= error.kind() != io::ErrorKind::Interrupted,
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    // Without waiting: opening a pipe would last until somebody reads it, and no signal would end that.
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(at_once).open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::other("it is a pipe or socket that nobody reads"),
        _ => error,
    })?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?; // what is written may wait: a thread of its own does it
    Ok(file)
}

/// Whether `file`, which lies at `path`, ends within a line.
fn is_torn(file: &File, path: &Path) -> bool {
    let last = || {
        let mut last = [0];
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last).map(|()| last)
    };
    let has_text = file.metadata().is_ok_and(|file| file.is_file() && file.len() > 0);
    has_text && last().is_ok_and(|last: [u8; 1]| last != *b"\n")
}
