//! Whether a request says whom it is for, once and well: hyper does not look (RFC 9112, 3.2; RFC 9113, 8.3.1).
//!
//! A proxy and we must not read two hosts out of one request.

use http::{HeaderValue, Request, Uri, Version, header};

/// HTTP/1.1 wants one `Host`, no less and no more; HTTP/2 an authority, beside which a `Host` says the same.
pub(super) fn is_addressed<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    if second.is_some() || authority.is_some_and(|authority| authority.contains('@')) {
        return false;
    }
    match (request.version(), host) {
        (Version::HTTP_2, None) => authority.is_some(),
        (Version::HTTP_2, Some(host)) => is_host(host.as_bytes()) && is_alike(request.uri(), host),
        (Version::HTTP_11, None) => false,
        (_, host) => host.is_none_or(|host| is_host(host.as_bytes())),
    }
}

fn is_alike(uri: &Uri, host: &HeaderValue) -> bool {
    uri.authority()
        .is_none_or(|authority| authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()))
}

/// A name or an address, and a port if there is one (RFC 3986, 3.2.2). Nothing at all stands for a target without a host.
fn is_host(bytes: &[u8]) -> bool {
    /// What a name may have; every request comes this way.
    const OF_NAME: [bool; 256] = {
        let mut known = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            known[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let marks = b"-._~%!$&'()*+,;=";
        let mut at = 0;
        while at < marks.len() {
            known[marks[at] as usize] = true;
            at += 1;
        }
        known
    };
    let (name, port) = match bytes.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let (address, port) = rest.split_at(end);
            let colons = address.iter().filter(|byte| **byte == b':').count();
            let known = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if colons < 2 || !address.iter().all(known) {
                return false;
            }
            (&[][..], port.get(1..).unwrap_or_default())
        }
        None => bytes.split_at(bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len())),
    };
    let port = match port.split_first() {
        Some((b':', port)) => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        Some(_) => false,
        None => true,
    };
    port && name.iter().all(|byte| OF_NAME[usize::from(*byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, uri: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        is_addressed(&request.body(()).unwrap())
    }

    #[test]
    fn h_07_a_host_is_a_name_or_an_address_and_a_port() {
        for good in
            ["", "a", "a.example", "a_b-c.example:3650", "127.0.0.1:80", "[::1]", "[::ffff:1.2.3.4]:80", "x:"]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b",
            "a/b",
            "[::1",
            "u@evil",
            "a:b",
            "a:1:2",
            "::1",
            "[a]",
            "[::1]x",
            "[::1]:x",
            "a?b",
            "a#b",
            "a\\b",
            "a:999999",
            "[]",
            "ä",
            "a\"",
            "<a>",
            "[::1%eth0]",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn h_07_a_request_has_one_host() {
        let (one, two, zero) = (Version::HTTP_11, Version::HTTP_2, Version::HTTP_10);
        for (version, uri, hosts, addressed) in [
            (one, "/", &["a"][..], true),
            (one, "/", &[], false),
            (one, "/", &["a", "a"], false),
            (one, "/", &["u@evil"], false),
            (one, "http://b/", &["a"], true), // the target counts (RFC 9112, 3.2.2)
            (one, "http://u@b/", &["b"], false),
            (zero, "/", &[], true),
            (zero, "/", &["a b"], false),
            (two, "http://a/", &[], true),
            (two, "http://A:80/", &["a:80"], true),
            (two, "http://a/", &["b"], false),
            (two, "http://a/", &["a", "a"], false),
            (two, "http://u@a/", &[], false),
            (two, "/", &["a"], true),
            (two, "/", &[], false),
        ] {
            assert_eq!(request(version, uri, hosts), addressed, "{version:?} {uri} {hosts:?}");
        }
    }
}
