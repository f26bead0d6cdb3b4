//! Settings that name places of the web: other pages' origins (RFC 6454), and our own.

use std::fmt;

use super::Setting;
use super::value::Value;

/// Origins as browsers send them (RFC 6454): scheme, host and port, nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Whether `origin`, as it stands in a request's `Origin`, is on the list.
    pub fn contains(&self, origin: &str) -> bool {
        self.0.iter().any(|known| known == origin)
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl Value for Origins {
    const KIND: &'static str = "origins such as https://app.example.com, separated by commas";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        let origins: Vec<&str> = text.split(',').map(str::trim).collect();
        origins
            .iter()
            .all(|origin| is_origin(origin))
            .then(|| Self(origins.into_iter().map(str::to_owned).collect()))
    }

    fn unset() -> Option<Self> {
        Some(Self::default())
    }
}

/// Where clients reach this API over TLS: `https://api.example.com`, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Scheme, host and port; no slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for PublicUrl {
    const KIND: &'static str = "URL such as https://api.example.com, without a path";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        let text = text.strip_suffix('/').unwrap_or(text);
        (text.starts_with("https://") && is_origin(text)).then(|| Self(text.to_owned()))
    }
}

/// The domain below which each tenant has a name of its own: `erp.example.com`, for `acme.erp.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantDomain(String);

impl TenantDomain {
    /// In small letters, without a dot at either end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for TenantDomain {
    const KIND: &'static str = "domain such as erp.example.com, in small letters";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(plain)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        // With a label of a tenant it is still a name; a last label of digits only would be an address.
        let fits = text.len() <= 253 - 64
            && text.split('.').all(is_label)
            && !text.rsplit('.').next().is_some_and(is_number)
            && (text.contains('.') || text == "localhost");
        fits.then(|| Self(text.to_owned()))
    }
}

/// The host of an origin.
pub(crate) fn host_of(origin: &str) -> Option<&str> {
    let authority = origin.split_once("://")?.1.trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    Some(if port.ends_with(']') { authority } else { host })
}

/// Whether a browser lets a page of `host` use passkeys for `name`: it is the host, or what the host is a part of, and neither an
/// address nor a name that many have.
pub(crate) fn is_site_of(name: &str, host: &str) -> bool {
    let is_address = host.parse::<std::net::IpAddr>().is_ok() || host.starts_with('[');
    let above = host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')) && name.contains('.');
    !name.is_empty() && !is_address && (name == host || above)
}

/// Whether a browser could send this as `Origin`: in small letters, and without a scheme's own port, since browsers leave
/// that out.
fn is_origin(text: &str) -> bool {
    let (authority, own_port) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(authority), _) => (authority, "443"),
        (_, Some(authority)) => (authority, "80"),
        _ => return false,
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte);
    let Ok(parsed) = authority.parse::<http::uri::Authority>() else { return false };
    let port = parsed.port().map(|port| port.as_str().to_owned());
    let host = parsed.host();
    let ends_with_port = authority.len() > host.len();
    authority.bytes().all(plain)
        && !host.is_empty()
        && !host.starts_with('.')
        && (!ends_with_port || port.is_some_and(|port| port != own_port && port.parse::<u16>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_of_tenants_is_a_name_and_nothing_else() {
        let parse = |text: &str| TenantDomain::parse(&Setting::named("TENANT_DOMAIN"), text).is_some();
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(61)].join(".");
        for good in ["erp.example.com", "localhost", "xn--bcher-kva.example", "a.b", &longest] {
            assert!(parse(good), "{good}");
        }
        for bad in [
            "",
            "com",
            "ERP.example.com",
            "*.example.com",
            ".example.com",
            "example.com.",
            "example..com",
            "https://example.com",
            "example.com:443",
            "example.com/x",
            "x@example.com",
            "127.0.0.1",
            "[::1]",
            "bücher.example",
            "-a.example",
            &format!("{longest}d"),
        ] {
            assert!(!parse(bad), "{bad}");
        }
    }

    #[test]
    fn an_origin_has_no_path_and_no_wildcard() {
        let setting = Setting::named("CORS_ORIGINS");
        let parse = |text: &str| Origins::parse(&setting, text);
        let origins = parse("https://a.example, http://localhost:3000, https://[2001:db8::1]:8443").unwrap();
        assert!(origins.contains("http://localhost:3000") && !origins.contains("http://a.example"));
        for bad in [
            "*",
            "https://a.example/",
            "https://*.example",
            "a.example",
            "null",
            "https://A.example",
            "https://",
            "https://:8080",
            "https://a.example:443",
            "http://a.example:80",
            "http://a.example:",
            "http://a.example:99999",
            "https://u@a.example",
            "https://[2001:db8::1",
            "https://a.example,",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn passkeys_are_for_the_host_or_what_stands_above_it() {
        for (name, url) in [
            ("erp.example.com", "https://erp.example.com"),
            ("example.com", "https://erp.example.com:8443"),
            ("localhost", "https://localhost:8443"),
        ] {
            assert!(is_site_of(name, host_of(url).unwrap()), "{name} for {url}");
        }
        for (name, url) in [
            ("", "https://erp.example.com"),
            ("com", "https://erp.example.com"),
            ("xample.com", "https://erp.example.com"),
            ("erp.example.com", "https://example.com"),
            ("192.0.2.1", "https://192.0.2.1"),
            ("[2001:db8::1]", "https://[2001:db8::1]:8443"),
            ("[2001:db8::1]", "https://[2001:db8::1]"),
        ] {
            assert!(!is_site_of(name, host_of(url).unwrap()), "{name} for {url}");
        }
    }

    #[test]
    fn a_public_url_is_an_origin_over_tls() {
        let setting = Setting::named("PUBLIC_URL");
        let parse = |text: &str| PublicUrl::parse(&setting, text).map(|url| url.to_string());
        assert_eq!(parse("https://api.example.com/").as_deref(), Some("https://api.example.com"));
        assert_eq!(parse("https://localhost:8443").as_deref(), Some("https://localhost:8443"));
        for bad in
            ["http://api.example.com", "https://api.example.com/v1", "api.example.com", "https://a\r\nb"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
