use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};

use crate::lifecycle::{Exit, StartError};
use crate::shared::hex;

use super::account::Account;

/// The cluster's superuser, made by initdb.
pub(super) const SUPERUSER: &str = "postgres";

/// Where folders go that cannot lie in the data folder. Not `TMPDIR`: two shells that differ in it must meet here.
const TEMPORARY: &str = "/tmp";

/// The most that the path of a socket may have, in bytes, on every system (104 on macOS, with the closing NUL).
const SOCKET_PATH: usize = 100;

/// The file PostgreSQL makes in its socket folder. The port is only a name there.
const SOCKET: &str = ".s.PGSQL.5432";

/// The cluster's folders, ours for as long as this value lives.
///
/// The folder itself, the lock and the log belong to us; the data and the socket to the account PostgreSQL runs as,
/// so that it can write nowhere else.
#[derive(Debug)]
pub(super) struct ClusterPlace {
    pub(super) account: Account,
    pub(super) home: PathBuf,
    pub(super) data: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
    _lock: File,
}

impl ClusterPlace {
    /// Makes the folders and takes the lock.
    pub(super) async fn claim(folder: &Path) -> Result<Self, StartError> {
        let unusable = |error: io::Error| unusable(folder, error);
        fs::create_dir_all(folder).map_err(unusable)?;
        let folder = folder.canonicalize().map_err(unusable)?;
        let lock = lock(&folder)?;
        let ours = our_uid(&folder).map_err(unusable)?;
        let account = Account::choose(ours, &folder.join("data"))?;
        open_to(account, &folder).map_err(unusable)?;

        let home =
            if account.reaches(&folder).await { folder.clone() } else { temporary(&folder, account, ours)? };
        let mut socket = home.join("socket");
        let too_long = socket.as_os_str().len() + 1 + SOCKET.len() > SOCKET_PATH;
        if too_long || socket.as_os_str().as_bytes().contains(&b'"') {
            // The setting is a list of quoted paths, and the kernel's limit is short.
            socket = temporary(&folder, account, ours)?.join("socket");
        }
        Ok(Self {
            account,
            data: home.join("data"),
            log: home.join("postgres.log"),
            home,
            socket,
            _lock: lock,
        })
    }

    /// Where the data lie, and why, when that is not in `folder`.
    pub(super) fn displaced(&self, folder: &Path) -> Option<String> {
        let folder = folder.canonicalize().ok()?;
        (self.home != folder).then(|| {
            format!(
                "The private database lies in {}: PostgreSQL does not run as root, and the account that it runs as \
                 cannot reach {}",
                self.data.display(),
                folder.display()
            )
        })
    }

    /// Removes data, socket and log, and the folder below the temporary one; returns where the data lay.
    pub(super) fn remove(self) -> Result<PathBuf, StartError> {
        self.remove_socket();
        let gone = |path: &Path, removed: io::Result<()>| match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(path, error)),
            _ => Ok(()),
        };
        gone(&self.data, fs::remove_dir_all(&self.data))?;
        gone(&self.log, fs::remove_file(&self.log))?;
        if self.home.starts_with(TEMPORARY) {
            let _ = fs::remove_dir(&self.home); // fails, as it should, when it is not empty
        }
        Ok(self.data)
    }

    /// The major version of PostgreSQL that made the data, or `None` where there are none yet.
    pub(super) fn made_by(&self) -> Option<u32> {
        fs::read_to_string(self.data.join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// The URL of `database` for `user`, the socket folder percent-encoded as host.
    pub(super) fn url(&self, user: &str, database: &str) -> String {
        url(&self.socket, user, database)
    }

    /// The same with the folder as people write it, which psql takes as well.
    pub(super) fn shown(&self, user: &str, database: &str) -> String {
        let (user, database) = (percent(OsStr::new(user)), percent(OsStr::new(database)));
        format!("postgresql://{user}@/{database}?host={}&port=5432", readable(&self.socket))
    }

    /// The file that PostgreSQL listens on.
    pub(super) fn socket_file(&self) -> PathBuf {
        self.socket.join(SOCKET)
    }

    /// Removes the socket's folder, and the one below the temporary folder where it held nothing else.
    pub(super) fn remove_socket(&self) {
        let _ = fs::remove_dir_all(&self.socket);
        if let Some(parent) = self.socket.parent().filter(|parent| *parent != self.home) {
            let _ = fs::remove_dir(parent); // fails, as it should, when it is not empty
        }
    }
}

/// As [`ClusterPlace::url`], for the cluster that another process runs in `folder`; takes no lock and makes nothing.
pub(super) fn running_url(folder: &Path, user: &str, database: &str) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let ours = fs::metadata(&folder).ok()?.uid();
    let socket = [folder.clone(), temporary_path(&folder, ours)].map(|home| home.join("socket"));
    socket.iter().find(|socket| socket.join(SOCKET).exists()).map(|socket| url(socket, user, database))
}

fn url(socket: &Path, user: &str, database: &str) -> String {
    let host = percent(socket.as_os_str());
    format!("postgresql://{}@{host}:5432/{}", percent(OsStr::new(user)), percent(OsStr::new(database)))
}

/// The error of a folder that cannot be used.
pub(super) fn unusable(folder: &Path, error: io::Error) -> StartError {
    StartError::new(Exit::DataFolder, format!("the data folder {} cannot be used: {error}", folder.display()))
        .because(error)
}

/// Locks the folder for this process. The kernel lets go of the lock when we end, however we end.
fn lock(folder: &Path) -> Result<File, StartError> {
    let unusable = |error: io::Error| unusable(folder, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false) // it holds the owner's process id
        .mode(0o600)
        .open(folder.join("lock"))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(unusable)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let owner = if pid.is_empty() { "just starting".to_owned() } else { format!("pid {pid}") };
            Err(StartError::new(
                Exit::DataFolder,
                format!(
                    "another erp-backend ({owner}) is using {}: stop it, or set another DATA_DIR",
                    folder.display()
                ),
            ))
        }
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// Who we are, seen from the owner of a file we make: the standard library does not tell.
fn our_uid(folder: &Path) -> io::Result<u32> {
    let probe = folder.join(format!("probe-{}", std::process::id()));
    let uid = File::create(&probe)?.metadata()?.uid();
    fs::remove_file(&probe)?;
    Ok(uid)
}

/// Closes `folder` to everybody else, but lets an account without privileges pass through to what it owns below.
fn open_to(account: Account, folder: &Path) -> io::Result<()> {
    let mode = if account == Account::Ours { 0o700 } else { 0o711 };
    fs::set_permissions(folder, Permissions::from_mode(mode))
}

/// A private folder below the temporary one, named by a hash of `folder`'s path: always the same for the same folder.
fn temporary(folder: &Path, account: Account, ours: u32) -> Result<PathBuf, StartError> {
    let path = temporary_path(folder, ours);
    let failed = |error: io::Error| unusable(&path, error);
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    // Anybody may make files there: one that is not ours, or a link, would hand our data to somebody else.
    let found = fs::symlink_metadata(&path).map_err(failed)?;
    if !found.is_dir() || found.uid() != ours {
        return Err(StartError::new(
            Exit::DataFolder,
            format!("{} is not a folder of ours: remove it, or set another DATA_DIR", path.display()),
        ));
    }
    open_to(account, &path).map_err(failed)?;
    Ok(path)
}

fn temporary_path(folder: &Path, ours: u32) -> PathBuf {
    let name = hex(&digest(&SHA256, folder.as_os_str().as_bytes()).as_ref()[..8]);
    Path::new(TEMPORARY).join(format!("erp-backend-{name}-{ours}"))
}

fn percent(text: &OsStr) -> String {
    text.as_bytes().iter().fold(String::new(), |mut out, byte| {
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
                write!(out, "{}", char::from(*byte))
            }
            _ => write!(out, "%{byte:02X}"),
        };
        out
    })
}

/// A folder as the value of a URL's parameter: only what means something there, or to a shell, is encoded.
fn readable(folder: &Path) -> String {
    let mut shown = String::new();
    for chunk in folder.as_os_str().as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '/' | '_' | '-' | '.' | ',' | '~' => shown.push(letter),
                letter if letter.is_alphanumeric() => shown.push(letter),
                letter => shown.push_str(&percent(OsStr::new(letter.encode_utf8(&mut [0; 4])))),
            }
        }
        shown.push_str(&percent(OsStr::from_bytes(chunk.invalid())));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_place_of_our_temporary_folder_is_refused() {
        let folder = PathBuf::from(format!("/nowhere/{}", std::process::id()));
        let probe = std::env::temp_dir();
        let ours = our_uid(&probe).unwrap();
        let path = temporary(&folder, Account::Ours, ours).unwrap();
        assert_eq!(temporary(&folder, Account::Ours, ours).unwrap(), path, "the same each time");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/tmp", &path).unwrap();
        let error = temporary(&folder, Account::Ours, ours).unwrap_err();
        fs::remove_file(&path).unwrap();
        assert_eq!(error.exit, Exit::DataFolder);
    }

    #[test]
    fn any_path_and_name_fits_into_a_url() {
        assert_eq!(percent(OsStr::new("/a b@c/:ä")), "%2Fa%20b%40c%2F%3A%C3%A4");
        assert_eq!(readable(Path::new("/a b@c/ä'&")), "/a%20b%40c/ä%27%26");
    }
}
