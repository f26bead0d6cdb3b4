use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::db::connect::version::OLDEST;
use crate::lifecycle::{Exit, StartError};

const INSTALL: &str = "install it (apt-get install postgresql | dnf install postgresql-server | apk add postgresql | \
    brew install postgresql), or set DATABASE_URL";

/// Where packages put the server's binaries, which are often not in PATH: (folder, beginning of the version's folder,
/// rest). `script/bootstrap` looks in the same places.
const PACKAGES: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/usr/local", "pgsql", "bin"),
];

/// PostgreSQL's server programs, all of one version.
#[derive(Debug)]
pub(super) struct Binaries(PathBuf);

impl Binaries {
    /// The first fitting ones in `path`, else the newest that a package put somewhere. Where a cluster was `made_by` a
    /// major version already, only that version can run it.
    pub(super) async fn find(path: &OsStr, made_by: Option<u32>) -> Result<Self, StartError> {
        let in_path = std::env::split_paths(path).filter(|folder| folder.is_absolute());
        Self::choose(in_path.chain(packages()), made_by).await
    }

    async fn choose(
        candidates: impl Iterator<Item = PathBuf>,
        made_by: Option<u32>,
    ) -> Result<Self, StartError> {
        let mut unfit = Vec::new();
        for folder in candidates.filter_map(|folder| complete(&folder)) {
            match version(&folder).await {
                Some(found) if found >= OLDEST && made_by.is_none_or(|made_by| made_by == found) => {
                    return Ok(Self(folder));
                }
                Some(found) if !unfit.contains(&found) => unfit.push(found),
                _ => {}
            }
        }
        Err(missing(made_by, &unfit))
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.0.join("initdb")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.0.join("postgres")
    }

    pub(super) fn pg_ctl(&self) -> PathBuf {
        self.0.join("pg_ctl")
    }

    /// Whether `pg_stat_statements` is installed beside them, where Debian's packages put it.
    pub(super) fn count_statements(&self) -> bool {
        self.0.parent().is_some_and(|version| version.join("lib/pg_stat_statements.so").is_file())
    }
}

/// The real folder of the programs, if all are there. What stands in PATH is often a link to initdb alone.
fn complete(folder: &Path) -> Option<PathBuf> {
    let real = folder.join("initdb").canonicalize().ok()?.parent()?.to_owned();
    ["postgres", "pg_ctl"].iter().all(|name| real.join(name).is_file()).then_some(real)
}

fn packages() -> impl Iterator<Item = PathBuf> {
    PACKAGES.into_iter().flat_map(|(folder, prefix, rest)| {
        let mut found: Vec<(u32, PathBuf)> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let version = name.strip_prefix(prefix)?.trim_start_matches(['-', '@']).parse().unwrap_or(0);
                Some((version, Path::new(folder).join(name).join(rest)))
            })
            .collect();
        found.sort();
        found.into_iter().rev().map(|(_, folder)| folder)
    })
}

async fn version(folder: &Path) -> Option<u32> {
    let said = Command::new(folder.join("postgres")).arg("--version").output().await.ok()?.stdout;
    major(&String::from_utf8_lossy(&said))
}

/// `postgres (PostgreSQL) 15.14 (Debian …)` → 15; also `17beta1`.
fn major(said: &str) -> Option<u32> {
    let number = said.split_whitespace().nth(2)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn missing(made_by: Option<u32>, unfit: &[u32]) -> StartError {
    let found = unfit.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let message = match (made_by, unfit) {
        (_, []) => format!("PostgreSQL's server binaries were not found: {INSTALL}"),
        (None, _) => format!("PostgreSQL {OLDEST} or later is needed, found only {found}: {INSTALL}"),
        (Some(made_by), _) => format!(
            "the data folder was made by PostgreSQL {made_by}, found only {found}: install that version, or remove the folder"
        ),
    };
    StartError::new(Exit::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 17beta1"), Some(17));
        assert_eq!(major("postgres"), None);
    }

    #[tokio::test]
    async fn missing_binaries_are_said_in_one_line_with_the_cure() {
        let error = Binaries::choose(std::iter::empty(), None).await.unwrap_err();
        assert_eq!(error.exit, Exit::Unavailable);
        assert!(!error.message.contains('\n'));
        for cure in ["apt-get install postgresql", "dnf", "apk", "brew", "DATABASE_URL"] {
            assert!(error.message.contains(cure), "{cure}: {}", error.message);
        }
    }

    #[tokio::test]
    async fn data_of_another_version_are_left_alone() {
        let error = Binaries::find(OsStr::new(""), Some(13)).await.unwrap_err();
        assert_eq!(error.exit, Exit::Unavailable);
        assert!(error.message.contains("made by PostgreSQL 13"), "{}", error.message);
    }
}
