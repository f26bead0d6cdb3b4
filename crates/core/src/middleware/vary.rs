//! `Vary`: which of a request's headers another answer could depend on (RFC 9110, 12.5.5).

use http::header::VARY;
use http::{HeaderMap, HeaderValue};

/// Adds `name` to what is there already; once only.
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
    fn r_08_a_name_is_added_once_to_what_is_there() {
        for (before, after) in [
            (None, "Origin"),
            (Some("Accept-Encoding"), "Accept-Encoding, Origin"),
            (Some("Accept, origin"), "Accept, origin"),
            (Some("*"), "*"),
            (Some("X-Original"), "X-Original, Origin"),
        ] {
            let mut headers = HeaderMap::new();
            before.map(|before| headers.insert(VARY, HeaderValue::from_static(before)));
            add(&mut headers, "Origin");
            add(&mut headers, "Origin");
            assert_eq!(headers[VARY], after);
        }
    }
}
