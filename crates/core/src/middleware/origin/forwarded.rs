//! What the two headers say about the way of a request: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Each proxy appends to what it was sent, so only the right end can be believed, and everything here reads from right
//! to left: what a client has put before it, an open quotation mark say, cannot change how it is read.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName, header};

pub(in crate::middleware) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(in crate::middleware) static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What one proxy says of the client that sent it the request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::middleware) struct Hop {
    /// Its address; `None` when that is hidden, unknown or malformed.
    pub(in crate::middleware) address: Option<IpAddr>,
    /// Whether it came over TLS, where the proxy says so.
    pub(in crate::middleware) https: Option<bool>,
}

/// The elements of all `Forwarded` lines, the last one first.
pub(in crate::middleware) fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = Hop> {
    let lines = headers.get_all(header::FORWARDED).iter().rev();
    lines.flat_map(|line| split(line.as_bytes(), b',')).map(|element| hop(element).unwrap_or_default())
}

/// The entries of all `X-Forwarded-For` lines, the last one first.
pub(in crate::middleware) fn x_forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Hop> {
    let lines = headers.get_all(&X_FORWARDED_FOR).iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    entries.map(|entry| Hop { address: std::str::from_utf8(entry).ok().and_then(node), https: None })
}

/// How the client came to its proxy, which `depth` further proxies follow, as `X-Forwarded-Proto` has it. Where those only
/// passed it on, there are fewer entries, and it is the left-most.
pub(in crate::middleware) fn x_forwarded_proto(headers: &HeaderMap, depth: usize) -> Option<bool> {
    let lines = headers.get_all(&X_FORWARDED_PROTO).iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let entry = entries.take(depth + 1).last()?;
    is_https(std::str::from_utf8(entry).ok()?.trim())
}

/// The parts of a list, the last one first; a separator within quotation marks is none.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    text.rsplit(move |byte| {
        quoted ^= *byte == b'"';
        *byte == separator && !quoted
    })
}

/// One element of `Forwarded`: `for=192.0.2.60;proto=https;by=203.0.113.43`. `None` when it is malformed.
fn hop(element: &[u8]) -> Option<Hop> {
    // No address needs an escape, and without them the right end of a quotation is certain.
    if element.contains(&b'\\') {
        return None;
    }
    let mut seen_for = false;
    let mut hop = Hop::default();
    for pair in split(element, b';') {
        let (name, value) = std::str::from_utf8(pair).ok()?.trim().split_once('=')?;
        let value = match value.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => value,
        };
        if name.eq_ignore_ascii_case("for") {
            if std::mem::replace(&mut seen_for, true) {
                return None; // which of the two would it be?
            }
            hop.address = node(value);
        } else if name.eq_ignore_ascii_case("proto") {
            if hop.https.is_some() {
                return None;
            }
            hop.https = is_https(value);
        }
    }
    Some(hop)
}

fn is_https(scheme: &str) -> Option<bool> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    if is("https") || is("wss") { Some(true) } else { (is("http") || is("ws")).then_some(false) }
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
/// `unknown` and `_hidden` are none.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let sound = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return sound.then(|| address.to_canonical());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    is_port(port).then(|| address.parse().ok().map(IpAddr::V4)).flatten()
}

/// A number, or the name that a proxy hides it behind.
fn is_port(text: &str) -> bool {
    let hidden = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let number = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    number || text.strip_prefix('_').is_some_and(hidden)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    fn addresses(hops: impl Iterator<Item = Hop>) -> Vec<Option<String>> {
        hops.map(|hop| hop.address.map(|address| address.to_string())).collect()
    }

    #[test]
    fn l_02_every_form_of_forwarded_is_read() {
        for (element, address, https) in [
            ("for=192.0.2.60", Some("192.0.2.60"), None),
            ("For=192.0.2.60;Proto=HTTPS;by=203.0.113.43", Some("192.0.2.60"), Some(true)),
            ("for=\"192.0.2.43:47011\" ; proto=http", Some("192.0.2.43"), Some(false)),
            ("proto=\"https\";for=\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe::17"), Some(true)),
            ("for=\"[2001:db8::17]\";host=\"a,b;c\"", Some("2001:db8::17"), None),
            ("for=\"[2001:db8::17]:_port.1-2\"", Some("2001:db8::17"), None),
            ("for=\"[::ffff:192.0.2.1]\"", Some("192.0.2.1"), None),
            ("for=unknown;proto=https", None, Some(true)),
            ("for=_hidden", None, None),
            ("for=\"_SEVKISEK\";proto=http", None, Some(false)),
            ("proto=https", None, Some(true)),
        ] {
            let hop = hop(element.as_bytes()).unwrap();
            assert_eq!(hop.address.map(|found| found.to_string()).as_deref(), address, "{element}");
            assert_eq!(hop.https, https, "{element}");
        }
        for bad in [
            "",
            "192.0.2.1",
            "for=192.0.2.1;for=192.0.2.2",
            "proto=http;proto=https",
            "for=\"192.0.2.1",
            "for=\"192.0.2.\\1\"",
            "for=192.0.2.1;",
        ] {
            assert_eq!(hop(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn l_02_an_address_is_read_strictly() {
        for bad in [
            "",
            "unknown",
            "_x",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.4:",
            "1.2.3.4:x",
            "1.2.3.4:123456",
            "1.2.3.4:80:80",
            "[1.2.3.4]",
            "[::1",
            "[::1]x",
            "fe80::1%eth0",
            "0x7f.1",
            "localhost",
        ] {
            assert_eq!(node(bad), None, "{bad}");
        }
        assert_eq!(node(" [2001:db8::1]:80 "), "2001:db8::1".parse().ok());
        assert_eq!(node("192.0.2.1:80"), "192.0.2.1".parse().ok());
    }

    #[test]
    fn l_02_lines_are_joined_and_read_from_the_right() {
        let sent = headers("x-forwarded-for", &[b"192.0.2.1, 192.0.2.2", b"x,192.0.2.3"]);
        let read = addresses(x_forwarded_for(&sent));
        let texts: Vec<_> = read.iter().map(|address| address.as_deref().unwrap_or("-")).collect();
        assert_eq!(texts, ["192.0.2.3", "-", "192.0.2.2", "192.0.2.1"]);
        let sent = headers("forwarded", &[b"for=192.0.2.1", b"for=\"_a,b\", for=\"[2001:db8::1]\""]);
        let read = addresses(forwarded(&sent));
        assert_eq!(read, [Some("2001:db8::1".into()), None, Some("192.0.2.1".into())]);
    }

    #[test]
    fn l_02_what_a_client_sends_first_does_not_change_what_a_proxy_appends() {
        for garbage in [b"for=\"".as_slice(), b"\xff\xfe", b"\"\\\"", b"for=\"a", b",,;;==\"\"\""] {
            let line = [garbage, b", for=192.0.2.7;proto=https"].concat();
            let sent = headers("forwarded", &[&line]);
            let first = forwarded(&sent).next().unwrap();
            assert_eq!((first.address, first.https), ("192.0.2.7".parse().ok(), Some(true)));
            let line = [garbage, b", 192.0.2.7"].concat();
            let sent = headers("x-forwarded-for", &[&line]);
            assert_eq!(x_forwarded_for(&sent).next().unwrap().address, "192.0.2.7".parse().ok());
        }
    }
}
