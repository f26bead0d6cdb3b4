//! Where rows of the audit log are streamed to: `AUDIT_STREAM_URL`, and the setting of a tenant.

use std::fmt;

use reqwest::Url;

use super::Setting;
use super::value::Value;

/// A receiver of audit rows (SIEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamUrl {
    /// What is sent.
    pub format: AuditStreamFormat,
    /// Whether over TLS.
    pub tls: bool,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// In which form rows are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditStreamFormat {
    /// Messages of RFC 5424, each after the number of its bytes (RFC 6587, octet counting).
    Syslog,
    /// JSON with the fields of OCSF, a line each.
    Ocsf,
}

/// The schemes, with the port that each has by default.
const SCHEMES: [(&str, AuditStreamFormat, bool, u16); 4] = [
    ("syslog", AuditStreamFormat::Syslog, false, 601),
    ("syslogs", AuditStreamFormat::Syslog, true, 6514),
    ("ocsf", AuditStreamFormat::Ocsf, false, 5170),
    ("ocsfs", AuditStreamFormat::Ocsf, true, 5171),
];

impl StreamUrl {
    /// What such a URL looks like.
    pub const KIND: &'static str =
        "syslogs://host:port, syslog://host:port, ocsfs://host:port or ocsf://host:port";

    /// Reads one; none for any other text.
    pub fn read(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let (_, format, tls, default) = *SCHEMES.iter().find(|(scheme, ..)| *scheme == url.scheme())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let plain = plain && url.fragment().is_none() && matches!(url.path(), "" | "/");
        let host = url.host_str().filter(|host| !host.is_empty() && plain)?.trim_matches(['[', ']']);
        let port = url.port().unwrap_or(default);
        (port != 0).then(|| Self { format, tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = SCHEMES.iter().find(|(_, format, tls, _)| (*format, *tls) == (self.format, self.tls));
        let scheme = scheme.map_or("", |(scheme, ..)| scheme);
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{scheme}://{host}:{}", self.port)
    }
}

impl Value for StreamUrl {
    const KIND: &'static str = Self::KIND;

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        Self::read(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_kinds_of_streams_are_known() {
        for (text, written) in [
            ("syslogs://logs.example.com", "syslogs://logs.example.com:6514"),
            ("syslog://logs.example.com:1514/", "syslog://logs.example.com:1514"),
            ("ocsfs://[2001:db8::1]:9000", "ocsfs://[2001:db8::1]:9000"),
            ("ocsf://192.0.2.1", "ocsf://192.0.2.1:5170"),
        ] {
            let url = StreamUrl::read(text).unwrap();
            assert_eq!(url.to_string(), written);
            assert_eq!(StreamUrl::read(written), Some(url));
        }
        for wrong in [
            "",
            "logs.example.com",
            "https://logs.example.com",
            "syslog://",
            "syslog://h:0",
            "syslog://u:p@h",
            "ocsf://h/x",
            "ocsf://h?x",
            "syslog:h",
        ] {
            assert_eq!(StreamUrl::read(wrong), None, "{wrong}");
        }
    }
}
