//! Where a call goes. What the operator has configured and what a tenant has given are two types: neither can be used where
//! the other is meant, and only the second is kept to public addresses.

use std::fmt;

use reqwest::Url;

use crate::config::{Setting, UrlFault, Value};
use crate::shared::TenantId;

/// A service that the operator has configured, such as `https://rates.example.com/api`. It may be private, such as a
/// collector inside the cluster. Its URL never comes from a request.
#[derive(Debug, Clone)]
pub struct Destination {
    name: &'static str,
    base: Url,
}

impl Destination {
    /// A service under the name that it has in metrics and in the log, such as `rates`; `url` is a setting's.
    ///
    /// # Errors
    /// Says what is wrong with the URL, to go on after the name of its setting, and what to do. Shows no part of it.
    pub fn new(name: &'static str, url: &str) -> Result<Self, UrlFault> {
        let base = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let form = "Set it to a URL such as https://service.example.com/api";
        let base = base.ok_or_else(|| UrlFault::new("is not an http:// or https:// URL", form))?;
        if !base.username().is_empty() || base.password().is_some() {
            let fix = "Take it out of the URL, and let the code send it in a header";
            return Err(UrlFault::new("holds a user or a password", fix));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(UrlFault::new("has a query or a fragment", "Leave out ? and #, and what follows"));
        }
        Ok(Self { name, base })
    }

    /// A place below the URL: `/latest?base=EUR`. Put what comes from outside through
    /// [`percent_encode`](percent_encoding) first; a path that leads elsewhere is refused when it is sent.
    pub fn at(&self, path: &str) -> OutboundTarget {
        let url = self.below(path).ok_or("the path does not stay below the URL of its destination");
        OutboundTarget(Aim::Operator { name: self.name, url })
    }

    /// The URL of `path`, if it says nothing but that: no other host, and no way up by dots, however they are written.
    fn below(&self, path: &str) -> Option<Url> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        if !path.is_empty() && !path.starts_with('/') {
            return None;
        }
        let mut url = self.base.clone();
        let whole = format!("{}{path}", self.base.path().trim_end_matches('/'));
        url.set_path(&whole);
        url.set_query(query);
        let is_kept = url.path() == whole || (whole.is_empty() && url.path() == "/");
        is_kept.then_some(url)
    }
}

/// As a setting its name is the setting's: what a module calls is configured, checked at the start, and called by one field.
impl Value for Destination {
    const KIND: &'static str =
        "URL such as https://service.example.com/api, without user, query and fragment";

    fn parse(setting: &Setting, text: &str) -> Option<Self> {
        Self::new(setting.name, text).ok()
    }
}

/// A URL that a tenant has given, such as that of a webhook: [`Outbound::tenant_url`](super::Outbound::tenant_url) has
/// checked it. It leads to public addresses only, which is looked at again whenever a connection is opened.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantUrl {
    pub(super) tenant: TenantId,
    pub(super) url: Url,
}

impl TenantUrl {
    /// The whole URL, for storing. It may hold a secret of the tenant's, and does not belong into a log.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }
}

impl fmt::Debug for TenantUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantUrl({}/…)", origin(&self.url))
    }
}

/// Where one call goes: made by [`Destination::at`], or of a [`TenantUrl`].
#[derive(Debug, Clone)]
pub struct OutboundTarget(pub(super) Aim);

#[derive(Debug, Clone)]
pub(super) enum Aim {
    Operator { name: &'static str, url: Result<Url, &'static str> },
    Tenant(TenantUrl),
}

impl From<&TenantUrl> for OutboundTarget {
    fn from(url: &TenantUrl) -> Self {
        Self(Aim::Tenant(url.clone()))
    }
}

/// What metrics and the log call all URLs of tenants together.
const TENANTS: &str = "tenants";

impl Aim {
    /// The name in metrics and in the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Operator { name, .. } => name,
            Self::Tenant(_) => TENANTS,
        }
    }

    pub(super) fn url(&self) -> Result<&Url, &'static str> {
        match self {
            Self::Operator { url, .. } => url.as_ref().map_err(|fault| *fault),
            Self::Tenant(given) => Ok(&given.url),
        }
    }

    pub(super) fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::Operator { .. } => None,
            Self::Tenant(given) => Some(given.tenant),
        }
    }
}

/// Scheme, host and port: all of a URL that may be logged.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_url_without_credentials_query_or_fragment() {
        for good in ["http://collector:4318", "https://api.example.com/v2/", "http://10.0.0.7:8080/x"] {
            assert!(Destination::new("it", good).is_ok(), "{good}");
        }
        for (bad, what) in [
            ("collector:4318", "is not an http"),
            ("ftp://a.example", "is not an http"),
            ("", "is not an http"),
            ("https://user:hunter2@a.example", "a user or a password"),
            ("https://a.example/?key=hunter2", "a query"),
            ("https://a.example/#x", "a query or a fragment"),
        ] {
            let fault = Destination::new("it", bad).unwrap_err();
            assert!(fault.what.contains(what), "{bad}: {fault:?}");
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        }
    }

    #[test]
    fn a_setting_can_be_a_destination() {
        let setting = Setting::named("RATES_URL");
        let destination = Destination::parse(&setting, "https://rates.example.com/v1").unwrap();
        assert_eq!(destination.at("/x").0.name(), "RATES_URL");
        assert!(Destination::parse(&setting, "rates.example.com").is_none());
    }

    #[test]
    fn a_path_stays_below_its_destination() {
        let at = |base: &str, path: &str| {
            let destination = Destination::new("it", base).unwrap();
            destination.at(path).0.url().map(|url| url.to_string()).ok()
        };
        let full = Some("https://a.example/v2/rates?base=EUR".to_owned());
        assert_eq!(at("https://a.example/v2/", "/rates?base=EUR"), full);
        assert_eq!(at("https://a.example/v2", "/rates?base=EUR"), full);
        assert_eq!(at("https://a.example", "").as_deref(), Some("https://a.example/"));
        assert_eq!(at("https://a.example", "/a%2Fb").as_deref(), Some("https://a.example/a%2Fb"));
        for leads_away in [
            "rates",
            "@evil.example/",
            ".evil.example/",
            "/../admin",
            "/x/../../admin",
            "/x/%2e%2e/admin",
            "/x/.%2E/admin",
            "/./x",
            "/x\\..\\admin",
            "/a b",
            "/a\r\nHost: evil.example",
            "/a\tb",
            "/ä",
            "/x#y",
        ] {
            assert_eq!(at("https://a.example/v2", leads_away), None, "{leads_away}");
        }
        // Two slashes begin no other host: they are part of the path.
        assert_eq!(
            at("https://a.example", "//evil.example/x").as_deref(),
            Some("https://a.example//evil.example/x")
        );
    }
}
