//! Where checkpoints of the audit log leave the machine to: `AUDIT_WITNESS_URL`.

use std::path::PathBuf;

use reqwest::Url;

use super::Setting;
use super::value::Value;

/// Where the platform's checkpoints go, as `AUDIT_WITNESS_URL` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessUrl {
    /// A file that they are appended to.
    File(PathBuf),
    /// Host and port of a syslog server over TCP.
    Syslog(String, u16),
    /// What is posted to, without a slash at the end.
    Http(String),
}

impl Value for WitnessUrl {
    const KIND: &'static str = "file:///absolute/path, syslog://host:port or https://host/path";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let plain = url.username().is_empty() && url.password().is_none();
        let plain = plain && url.fragment().is_none() && url.query().is_none();
        match url.scheme() {
            "file" if plain && text.starts_with("file:///") => {
                url.to_file_path().ok().filter(|path| path.file_name().is_some()).map(Self::File)
            }
            "syslog" if plain && matches!(url.path(), "" | "/") => Some(Self::Syslog(
                url.host_str().filter(|host| !host.is_empty())?.to_owned(),
                url.port().unwrap_or(601),
            )),
            "http" | "https" if plain && url.has_host() => {
                Some(Self::Http(url.as_str().trim_end_matches('/').to_owned()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<WitnessUrl> {
        WitnessUrl::parse(&Setting::named("AUDIT_WITNESS_URL"), text)
    }

    #[test]
    fn three_kinds_of_witnesses_are_known() {
        assert_eq!(read("file:///mnt/worm/notes"), Some(WitnessUrl::File("/mnt/worm/notes".into())));
        assert_eq!(
            read("syslog://logs.example.com"),
            Some(WitnessUrl::Syslog("logs.example.com".to_owned(), 601))
        );
        assert_eq!(
            read("https://witness.example/w/"),
            Some(WitnessUrl::Http("https://witness.example/w".to_owned()))
        );
        for wrong in [
            "",
            "notes",
            "file://mnt/worm",
            "file:///",
            "syslog:",
            "syslog://h/x",
            "https://u:p@h",
            "https://h?x=1",
            "ftp://h",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
