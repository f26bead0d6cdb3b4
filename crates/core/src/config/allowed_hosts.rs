//! Hosts that calls may go to: `OUTBOUND_ALLOW`.

use std::fmt;
use std::net::IpAddr;

use super::Setting;
use super::value::Value;
use crate::shared::authority;

/// Hosts that calls may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts(Vec<AllowedHost>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct AllowedHost {
    /// In small letters; an address of IPv6 without brackets.
    host: String,
    /// Whether names below it are meant, and not itself: it was written with `*.`.
    below: bool,
    /// `None` for any.
    port: Option<u16>,
}

impl AllowedHosts {
    /// Whether a call may go to this host, as it stands in a URL, and this port.
    pub fn contains(&self, host: &str, port: u16) -> bool {
        self.0.iter().any(|one| one.is(host) && one.port.is_none_or(|own| own == port))
    }

    /// Whether a call may go to some port of this host.
    pub fn names(&self, host: &str) -> bool {
        self.0.iter().any(|one| one.is(host))
    }
}

impl AllowedHost {
    fn is(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if !self.below {
            return host.eq_ignore_ascii_case(&self.host);
        }
        let Some(start) = host.len().checked_sub(self.host.len()) else { return false };
        let (first, last) = host.split_at_checked(start).unwrap_or_default();
        last.eq_ignore_ascii_case(&self.host) && first.len() > 1 && first.ends_with('.')
    }

    fn parse(text: &str) -> Option<Self> {
        let (below, text) = text.strip_prefix("*.").map_or((false, text), |host| (true, host));
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None if text.parse::<IpAddr>().is_ok() => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = port
            .map(|port| port.parse().ok().filter(|port| *port != 0))
            .map_or(Some(None), |port| port.map(Some))?;
        let host = host.to_ascii_lowercase();
        let is_address = host.parse::<IpAddr>().is_ok();
        let fits = is_address || (is_name(&host) && !text.starts_with('['));
        (fits && !(below && is_address)).then_some(Self { host, below, port })
    }
}

/// Whether it is a name of the DNS, and none that a URL would take for an address.
fn is_name(host: &str) -> bool {
    let labels = || host.split('.');
    let fits = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
    };
    let ends_in_letters =
        labels().next_back().is_some_and(|last| !last.starts_with(|c: char| c.is_ascii_digit()));
    host.len() <= 253 && labels().all(fits) && ends_in_letters
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.below { "*." } else { "" })?;
        match self.port {
            Some(port) => f.write_str(&authority(&self.host, port)),
            None => f.write_str(&self.host),
        }
    }
}

impl fmt::Display for AllowedHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&hosts.join(","))
    }
}

impl Value for AllowedHosts {
    const KIND: &'static str =
        "hosts such as hooks.example.com, *.example.com or 127.0.0.1:4000, separated by commas";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        text.split(',').map(|host| AllowedHost::parse(host.trim())).collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<AllowedHosts> {
        AllowedHosts::parse(&Setting::named("OUTBOUND_ALLOW"), text)
    }

    #[test]
    fn a_host_is_allowed_with_its_port_and_names_below_it_where_the_list_says_so() {
        let hosts =
            read("hooks.example.com, *.Partner.example, 127.0.0.1:4000, ::1, [2001:db8::1]:8443").unwrap();
        for (host, port) in [
            ("hooks.example.com", 443),
            ("HOOKS.example.com", 8080),
            ("a.partner.example", 443),
            ("a.b.partner.example", 443),
            ("127.0.0.1", 4000),
            ("[::1]", 80),
            ("[2001:db8::1]", 8443),
        ] {
            assert!(hosts.contains(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("example.com", 443),
            ("evil-hooks.example.com", 443),
            ("hooks.example.com.evil.example", 443),
            ("partner.example", 443),
            ("evilpartner.example", 443),
            (".partner.example", 443),
            ("127.0.0.1", 4001),
            ("[2001:db8::1]", 443),
        ] {
            assert!(!hosts.contains(host, port), "{host}:{port}");
        }
        assert!(hosts.names("127.0.0.1") && !hosts.names("127.0.0.2"));
        assert_eq!(
            hosts.to_string(),
            "hooks.example.com,*.partner.example,127.0.0.1:4000,::1,[2001:db8::1]:8443"
        );
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in [
            "",
            "a,,b",
            "*",
            "*.",
            "https://a.example",
            "a.example/",
            "a b",
            "a.example:0",
            "a.example:99999",
            "a.example:",
            "u@a.example",
            "[::1",
            "::1]",
            "[a.example]",
            "*.127.0.0.1",
            "0x7f.1",
            "2130706433",
            "10.0.0.0/8",
            "a..b",
            "ä.example",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
