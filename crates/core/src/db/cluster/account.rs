use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::lifecycle::{Exit, StartError};

/// Whom PostgreSQL runs as: ourselves, or somebody without privileges when we are root, whom it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    Ours,
    Unprivileged { uid: u32, gid: u32 },
}

impl Account {
    /// The account for a process of user `ours`, whose data lie in `data` if there are any yet.
    pub(super) fn choose(ours: u32, data: &Path) -> Result<Self, StartError> {
        if ours != 0 {
            return Ok(Self::Ours);
        }
        // Data of an earlier start stay with their owner: PostgreSQL refuses any other.
        if let Ok(found) = fs::symlink_metadata(data)
            && found.uid() != 0
        {
            return Ok(Self::Unprivileged { uid: found.uid(), gid: found.gid() });
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        in_passwd(&passwd, "postgres").or_else(|| in_passwd(&passwd, "nobody")).ok_or_else(|| {
            StartError::new(
                Exit::Unavailable,
                "PostgreSQL does not run as root, and /etc/passwd has neither postgres nor nobody: start as another user",
            )
        })
    }

    /// A command that runs as this account, in `folder`.
    ///
    /// It gets no environment: a stray PGPORT would mislead it, and it must not see our secrets.
    pub(super) fn command(self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(folder).stdin(Stdio::null());
        if let Self::Unprivileged { uid, gid } = self {
            command.uid(uid).gid(gid); // being root, this drops the supplementary groups as well
        }
        command
    }

    /// Whether this account can get into `folder`. Asked of the kernel, which knows of access lists and mounts.
    pub(super) async fn reaches(self, folder: &Path) -> bool {
        self == Self::Ours
            || self
                .command(Path::new("/bin/sh"), folder)
                .args(["-c", "test -x ."])
                .status()
                .await
                .is_ok_and(|s| s.success())
    }

    /// Makes `folder` where it is missing, for this account alone.
    pub(super) fn own(self, folder: &Path) -> io::Result<()> {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?,
        }
        match self {
            Self::Ours => Ok(()),
            Self::Unprivileged { uid, gid } => std::os::unix::fs::lchown(folder, Some(uid), Some(gid)),
        }
    }
}

fn in_passwd(passwd: &str, name: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2).map(str::parse);
    match (ids.next()?, ids.next()?) {
        (Ok(uid), Ok(gid)) if uid != 0 => Some(Account::Unprivileged { uid, gid }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7::/:/bin/sh\npostgres:x:101:104:,,,:/:/bin/sh\n";
        assert_eq!(in_passwd(passwd, "postgres"), Some(Account::Unprivileged { uid: 101, gid: 104 }));
        assert_eq!(in_passwd(passwd, "nobody"), None);
        assert_eq!(in_passwd(passwd, "root"), None, "dropping to root is no drop");
    }
}
