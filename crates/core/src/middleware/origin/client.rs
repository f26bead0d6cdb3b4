//! Who is at the other end: the peer of the connection, or the client that a trusted proxy names (L-02).
//!
//! Assumes that every proxy between a client and this server is in `TRUSTED_PROXIES` and appends to `X-Forwarded-For` or
//! `Forwarded`. The right-most address that is no such proxy is the client: what stands to the left of it anybody can
//! write. `X-Real-IP` is a single value that proxies pass on as it comes, and is not read.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, header};

use super::Peer;
use super::forwarded::{
    Hop, X_FORWARDED_FOR, X_FORWARDED_PROTO, forwarded, x_forwarded_for, x_forwarded_proto,
};
use crate::config::Cidr;
use crate::shared::Seldom;

/// More proxies in a row are an attempt to make us work.
const MOST_HOPS: usize = 32;
/// How often the log is told of headers that are not believed: anybody can send them.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Who sent a request, as far as that can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::middleware) struct Client {
    /// The address that limits count and that log and audit note.
    pub(in crate::middleware) address: IpAddr,
    /// Whether the client's own connection, to us or to the first proxy, is encrypted.
    pub(in crate::middleware) https: bool,
}

/// The proxies whose headers are believed.
pub(in crate::middleware) struct TrustedProxies {
    trusted: Vec<Cidr>,
    stranger: Seldom,
    disagreement: Seldom,
}

impl TrustedProxies {
    pub(in crate::middleware) fn new(trusted: &[Cidr]) -> Self {
        let seldom = || Seldom::new(LOG_INTERVAL);
        Self { trusted: trusted.to_vec(), stranger: seldom(), disagreement: seldom() }
    }

    /// The client of a request that `peer` has sent.
    pub(in crate::middleware) fn client(&self, peer: Peer, headers: &HeaderMap) -> Client {
        let alone = Client { address: peer.address, https: peer.tls };
        let has_forwarded = headers.contains_key(header::FORWARDED);
        let has_x_forwarded = headers.contains_key(&X_FORWARDED_FOR);
        if !has_forwarded && !has_x_forwarded && !headers.contains_key(&X_FORWARDED_PROTO) {
            return alone;
        }
        if !self.trusts(peer.address) {
            if self.stranger.is_due() {
                tracing::warn!(
                    peer = %peer.address,
                    "Forwarding headers are not believed: if this peer is a proxy of yours, set TRUSTED_PROXIES"
                );
            }
            return alone;
        }
        let nothing = (Hop { address: Some(peer.address), https: None }, 0);
        let (found, depth) = match (has_forwarded, has_x_forwarded) {
            (true, false) => self.walk(peer.address, forwarded(headers)),
            (false, true) => self.walk(peer.address, x_forwarded_for(headers)),
            (false, false) => nothing,
            (true, true) => self.agreed(peer.address, headers).unwrap_or(nothing),
        };
        let https = found.https.or_else(|| x_forwarded_proto(headers, depth)).unwrap_or(peer.tls);
        Client { address: found.address.unwrap_or(peer.address), https }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// From proxy to proxy, for as long as each is trusted and names an address; and how many proxies follow the one that
    /// named the last.
    fn walk(&self, peer: IpAddr, hops: impl Iterator<Item = Hop>) -> (Hop, usize) {
        let mut found = Hop { address: Some(peer), https: None };
        let mut depth = 0;
        for (number, hop) in hops.take(MOST_HOPS).enumerate() {
            (found.https, depth) = (hop.https, number);
            let Some(address) = hop.address else { break };
            found.address = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        (found, depth)
    }

    /// A proxy writes one of the two headers and passes the other on as the client has sent it: what only one of them
    /// says may be forged.
    fn agreed(&self, peer: IpAddr, headers: &HeaderMap) -> Option<(Hop, usize)> {
        let one = self.walk(peer, forwarded(headers));
        if one.0.address == self.walk(peer, x_forwarded_for(headers)).0.address {
            return Some(one);
        }
        if self.disagreement.is_due() {
            tracing::warn!(
                %peer,
                "Forwarded and X-Forwarded-For disagree and are not believed: have the proxy remove the one that it does \
                 not write itself"
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    /// What is found behind `peer` when 10.0.0.0/8 and one network of IPv6 are trusted.
    fn find(peer: &str, headers: &[(&'static str, &str)]) -> (String, bool) {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|network| network.parse().unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let peer = Peer { address: peer.parse().unwrap(), tls: false };
        let client = TrustedProxies::new(&trusted).client(peer, &map);
        (client.address.to_string(), client.https)
    }

    fn address(peer: &str, headers: &[(&'static str, &str)]) -> String {
        find(peer, headers).0
    }

    #[test]
    fn l_02_a_stranger_is_not_believed() {
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1;proto=https"),
            ("x-real-ip", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
        ] {
            assert_eq!(find("198.51.100.9", &[(name, value)]), ("198.51.100.9".to_owned(), false), "{name}");
        }
    }

    #[test]
    fn l_02_the_right_most_untrusted_address_is_the_client() {
        for (chain, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
            ("6.6.6.6, 192.0.2.1, 10.0.0.7,10.9.9.9", "192.0.2.1"),
            ("10.1.1.1, 192.0.2.1", "192.0.2.1"),
            ("2001:db8::5, [2001:db8:ffff::1]:80", "2001:db8::5"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ] {
            assert_eq!(address(PROXY, &[("x-forwarded-for", chain)]), client, "{chain}");
            let quoted = chain.split(',').map(|node| format!("for=\"{}\"", node.trim()));
            let forwarded = quoted.collect::<Vec<_>>().join(", ");
            assert_eq!(address(PROXY, &[("forwarded", &forwarded)]), client, "{forwarded}");
        }
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1, 10.0.0.2")];
        assert_eq!(address(PROXY, &lines), "192.0.2.1", "all lines count as one");
    }

    #[test]
    fn l_02_what_cannot_be_read_ends_the_walk_at_the_last_good_address() {
        for (chain, client) in [
            ("192.0.2.1, unknown", PROXY),
            ("192.0.2.1, 10.0.0.2:x", PROXY),
            ("192.0.2.1, , 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, <script>, 10.0.0.2", "10.0.0.2"),
            ("", PROXY),
        ] {
            assert_eq!(address(PROXY, &[("x-forwarded-for", chain)]), client, "{chain}");
        }
        assert_eq!(address(PROXY, &[("forwarded", "for=192.0.2.1, for=_hidden, for=10.0.0.2")]), "10.0.0.2");
    }

    #[test]
    fn l_02_the_work_is_bounded() {
        let chain = |proxies: usize| "192.0.2.1".to_owned() + &",10.0.0.2".repeat(proxies);
        assert_eq!(address(PROXY, &[("x-forwarded-for", &chain(MOST_HOPS - 1))]), "192.0.2.1");
        assert_eq!(address(PROXY, &[("x-forwarded-for", &chain(MOST_HOPS))]), "10.0.0.2");
        let commas = ",".repeat(16 * 1024);
        assert_eq!(address(PROXY, &[("x-forwarded-for", &commas), ("forwarded", &commas)]), PROXY);
    }

    #[test]
    fn l_02_a_header_that_the_proxy_only_passes_on_forges_nothing() {
        let appended = ("x-forwarded-for", "192.0.2.1");
        assert_eq!(address(PROXY, &[("forwarded", "for=6.6.6.6"), appended]), PROXY);
        assert_eq!(address(PROXY, &[("forwarded", "for=192.0.2.1"), appended]), "192.0.2.1");
        assert_eq!(address(PROXY, &[("x-real-ip", "6.6.6.6"), appended]), "192.0.2.1");
    }

    #[test]
    fn h_03_how_the_client_came_is_what_the_first_proxy_says() {
        for (headers, https) in [
            (&[("forwarded", "for=192.0.2.1;proto=https")][..], true),
            (&[("forwarded", "for=192.0.2.1;proto=https, for=10.0.0.2;proto=http")], true),
            (&[("forwarded", "proto=https;for=6.6.6.6, for=192.0.2.1;proto=http")], false),
            (&[("forwarded", "for=unknown;proto=https")], true),
            (&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")], true),
            (&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "http")], false),
            (&[("x-forwarded-proto", "HTTPS")], true),
            (&[("x-forwarded-proto", "https, http")], false), // the left one is the client's own word
            (&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https, http")], false),
            (&[("x-forwarded-for", "192.0.2.1, 10.0.0.2"), ("x-forwarded-proto", "https, http")], true),
            (&[("x-forwarded-for", "192.0.2.1, 10.0.0.2"), ("x-forwarded-proto", "https")], true),
            (
                &[("x-forwarded-for", "192.0.2.1, 10.0.0.2"), ("x-forwarded-proto", "https, http, http")],
                false,
            ),
            (&[("x-forwarded-for", "192.0.2.1")], false),
            (&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "ftp")], false),
        ] {
            assert_eq!(find(PROXY, headers).1, https, "{headers:?}");
        }
        let (trusted, tls) = (["10.0.0.0/8".parse().unwrap()], true);
        let (peer, mut headers) = (Peer { address: PROXY.parse().unwrap(), tls }, HeaderMap::new());
        assert!(TrustedProxies::new(&trusted).client(peer, &headers).https);
        headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        assert!(
            !TrustedProxies::new(&trusted).client(peer, &headers).https,
            "the proxy knows better than the connection"
        );
    }
}
