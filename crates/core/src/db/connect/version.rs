//! Which PostgreSQL servers will do: too old ones are refused, and those with a known leak are warned about (T-14).

use std::fmt;

use serde::Serialize;

/// The oldest major version that will do.
pub(in crate::db) const OLDEST: u32 = 14;

/// The first minor version of each major one whose planner statistics tell nothing of rows that row level security
/// hides (CVE-2025-8713). Later major versions never did.
const MENDED: [(u32, u32); 4] = [(14, 19), (15, 14), (16, 10), (17, 6)];

/// The version of a server: 15.14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct ServerVersion {
    major: u32,
    minor: u32,
}

impl ServerVersion {
    /// Reads `server_version`: `15.14 (Debian 15.14-0+deb12u1)`, `17beta1`. `None` for what is no version.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = match text.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix('.') {
            Some(_) => numbers.next()?.parse().ok()?,
            None => 0, // a beta or release candidate
        };
        Some(Self { major, minor })
    }

    /// Whether it is older than any that will do.
    pub fn is_refused(self) -> bool {
        self.major < OLDEST
    }

    /// The version to upgrade to, where this one leaks past row level security.
    pub fn upgrade(self) -> Option<Self> {
        let (major, minor) = MENDED.into_iter().find(|(major, _)| *major == self.major)?;
        (self.minor < minor).then_some(Self { major, minor })
    }

    /// What to tell an operator about it, if anything.
    pub fn warning(self) -> Option<String> {
        self.upgrade().map(|mended| {
            format!(
                "PostgreSQL {self} leaks statistics past row level security (CVE-2025-8713): upgrade to {mended} or later"
            )
        })
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl From<ServerVersion> for String {
    fn from(version: ServerVersion) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ServerVersion {
        ServerVersion::parse(text).unwrap()
    }

    #[test]
    fn t_14_versions_are_read_as_servers_tell_them() {
        for (text, shown) in [
            ("15.14 (Debian 15.14-0+deb12u1)", "15.14"),
            ("14.19", "14.19"),
            ("17beta1", "17.0"),
            ("9.6.24", "9.6"),
        ] {
            assert_eq!(version(text).to_string(), shown);
        }
        for text in ["", "devel", "x15.1", "15."] {
            assert_eq!(ServerVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn t_14_each_supported_version_has_its_minimum() {
        for (leaks, mended) in [("14.18", "14.19"), ("15.13", "15.14"), ("16.9", "16.10"), ("17.5", "17.6")] {
            assert_eq!(version(leaks).upgrade(), Some(version(mended)), "{leaks}");
            let warning = version(leaks).warning().unwrap();
            assert!(warning.contains(mended) && warning.contains("CVE-2025-8713"), "{warning}");
            assert_eq!(version(mended).upgrade(), None, "{mended}");
        }
        assert_eq!(version("18.0").warning(), None);
        assert_eq!(version("17.10").warning(), None, "numbers, not text");
        let majors: Vec<u32> = MENDED.iter().map(|(major, _)| *major).collect();
        assert_eq!(majors, (OLDEST..=17).collect::<Vec<_>>(), "one row for each that was out");
    }

    #[test]
    fn t_14_below_the_oldest_is_refused() {
        assert!(version("13.22").is_refused() && version("9.6.24").is_refused());
        assert!(!version("14.0").is_refused() && !version("18.1").is_refused());
    }
}
