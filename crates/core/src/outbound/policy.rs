//! Which calls are made at all, and which URLs of tenants are taken.

use std::net::IpAddr;

use reqwest::Url;

use super::addresses;
use super::destination::TenantUrl;
use crate::config::{AllowedHosts, Config, Environment, UrlFault};
use crate::shared::TenantId;

/// A URL is not longer, in bytes.
const LONGEST: usize = 2048;
/// What names end in that the public DNS does not answer (RFC 6761, 6762, 8375, 9476 and common usage).
const NOT_PUBLIC: [&str; 12] = [
    "alt",
    "arpa",
    "corp",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
];

/// Which calls are made at all, and which URLs of tenants are taken: what `APP_ENV`, `OUTBOUND_ALLOW` and `PUBLIC_URL` say.
#[derive(Debug)]
pub(super) struct OutboundPolicy {
    environment: Environment,
    allow: Option<AllowedHosts>,
    /// Host and port of `PUBLIC_URL`: a tenant's URL may not lead back to ourselves.
    own: Option<(String, u16)>,
}

impl OutboundPolicy {
    pub(super) fn new(config: &Config) -> Self {
        let own = config.http.public_url.as_ref().and_then(|url| Url::parse(url.as_str()).ok());
        let own = own.and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
        Self { environment: config.process.app_env, allow: config.outbound.allow.clone(), own }
    }

    /// Whether calls to this URL are sent, or only recorded: in staging, and wherever else `OUTBOUND_ALLOW` is set but in
    /// development, calls go to the hosts on the list and nowhere else.
    pub(super) fn sends(&self, url: &Url) -> bool {
        match (self.environment, &self.allow) {
            (Environment::Development, _) | (Environment::Production, None) => true,
            (Environment::Staging, None) => false,
            (Environment::Staging | Environment::Production, Some(hosts)) => lists(hosts, url),
        }
    }

    /// Whether a tenant's URL may lead to this machine: in development, if the list names it.
    fn opens_loopback(&self, url: &Url) -> bool {
        self.environment == Environment::Development
            && self.allow.as_ref().is_some_and(|hosts| lists(hosts, url))
    }

    /// Of the addresses of a host in a tenant's URL those that may be connected to.
    pub(super) fn reached(&self, host: &str, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        let development = self.environment == Environment::Development;
        let listed = development && self.allow.as_ref().is_some_and(|hosts| hosts.names(host));
        let may =
            |address: &IpAddr| addresses::refusal(*address).is_none() || (listed && address.is_loopback());
        addresses.into_iter().filter(may).collect()
    }

    /// What a tenant has given as a URL, unless it is seen from its text that it leads where it must not.
    pub(super) fn check(&self, tenant: TenantId, text: &str) -> Result<TenantUrl, UrlFault> {
        let url = plain(text)?;
        if !self.opens_loopback(&url) {
            refuse_private(&url)?;
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if port < 1024 && !matches!(port, 80 | 443) {
            let fix = "Use port 80, 443, or one from 1024 on";
            return Err(UrlFault::new("names a port that is another service's", fix));
        }
        let is_own = |(host, own): &(String, u16)| url.host_str() == Some(host) && port == *own;
        if self.own.as_ref().is_some_and(is_own) {
            return Err(UrlFault::new("leads back to this service", "Name a server of your own"));
        }
        Ok(TenantUrl { tenant, url })
    }
}

fn lists(hosts: &AllowedHosts, url: &Url) -> bool {
    let port = url.port_or_known_default().unwrap_or_default();
    url.host_str().is_some_and(|host| hosts.contains(host, port))
}

/// Reads a URL that says what it seems to say: what one parser would take for one host and the next for another is refused.
/// So the host must stand there as it will be used, and nothing before it.
fn plain(text: &str) -> Result<Url, UrlFault> {
    if text.len() > LONGEST {
        return Err(UrlFault::new("is longer than 2048 bytes", "Shorten it"));
    }
    let odd = |byte: u8| {
        !byte.is_ascii_graphic()
            || matches!(byte, b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    if text.bytes().any(odd) {
        let fix = "Write a host in its ASCII form (xn--…), and percent-encode the rest";
        return Err(UrlFault::new("holds a character that stands in no URL", fix));
    }
    let form =
        || UrlFault::new("is not an https:// or http:// URL", "Write it as https://hooks.example.com/path");
    let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
    if !["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(form());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        let fix = "Take it out, and put a token into the path or the query";
        return Err(UrlFault::new("holds a user or a password before its host", fix));
    }
    if text.contains('#') {
        return Err(UrlFault::new("has a fragment", "Leave out # and what follows: it is never sent"));
    }
    let url = Url::parse(text).map_err(|_| form())?;
    let host = url.host_str().ok_or_else(form)?;
    let port = authority.get(host.len()..).unwrap_or_default();
    let is_same = authority.get(..host.len()).is_some_and(|written| written.eq_ignore_ascii_case(host));
    let has_gap = host.starts_with('.') || host.contains("..");
    if !is_same || has_gap || !(port.is_empty() || port.starts_with(':')) {
        let fix = "Write a name, or an address in its usual form, such as 93.184.215.14";
        return Err(UrlFault::new("has a host in an unusual form", fix));
    }
    Ok(url)
}

/// Refuses a host that is not public, as far as its text tells.
fn refuse_private(url: &Url) -> Result<(), UrlFault> {
    let fix = "Name a server that can be reached from the Internet";
    let not_public = |what: String| Err(UrlFault::new(format!("leads to {what}"), fix));
    let host = url.host_str().unwrap_or_default();
    let address: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
    if let Ok(address) = address {
        return match addresses::refusal(address) {
            Some(what) => not_public(format!("an address that is not public ({what})")),
            None => Ok(()),
        };
    }
    let Some((_, last)) = host.trim_end_matches('.').rsplit_once('.') else {
        return not_public("a name that is not public".to_owned());
    };
    if NOT_PUBLIC.contains(&last) { not_public("a name that is not public".to_owned()) } else { Ok(()) }
}
