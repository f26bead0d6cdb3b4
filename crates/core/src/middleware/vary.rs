//! `Vary`: which of a request's headers another answer could depend on (RFC 9110, 12.5.5).

use http::header::VARY;
use http::{HeaderMap, HeaderValue};

/// Adds `name`, in lower case, to what is there already; once only.
pub(super) fn add(headers: &mut HeaderMap, name: &'static str) {
    let Some(present) = headers.get(VARY) else {
        headers.insert(VARY, HeaderValue::from_static(name));
        return;
    };
    let present = present.to_str().unwrap_or_default();
    let known = |listed: &str| listed.trim() == "*" || listed.trim().eq_ignore_ascii_case(name);
    if present.split(',').any(known) {
        return;
    }
    if let Ok(both) = HeaderValue::try_from(format!("{present}, {name}")) {
        headers.insert(VARY, both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_added_once() {
        let mut headers = HeaderMap::new();
        for name in ["origin", "accept", "origin", "accept-encoding", "accept"] {
            add(&mut headers, name);
        }
        assert_eq!(headers[VARY], "origin, accept, accept-encoding");
        for there in ["*", "Origin, Accept-Encoding"] {
            let mut headers = HeaderMap::from_iter([(VARY, there.parse().unwrap())]);
            add(&mut headers, "accept-encoding");
            assert_eq!(headers[VARY], there);
        }
    }
}
