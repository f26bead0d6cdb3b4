//! What several layers do to the headers of an answer.

use std::fmt;
use std::io::{Cursor, Write as _};

use http::header::VARY;
use http::{HeaderMap, HeaderValue};

/// The value that `text` gives, in one allocation: each answer of a limited route has two of them. `None` for more than
/// 128 bytes.
pub(super) fn value(text: fmt::Arguments<'_>) -> Option<HeaderValue> {
    let mut room = Cursor::new([0; 128]);
    room.write_fmt(text).ok()?;
    let written = usize::try_from(room.position()).ok()?;
    HeaderValue::from_bytes(room.get_ref().get(..written)?).ok()
}

/// Adds `name` to `Vary`, once only: another answer could depend on that header of the request (RFC 9110, 12.5.5).
pub(super) fn vary(headers: &mut HeaderMap, name: &'static str) {
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
            vary(&mut headers, "Origin");
            vary(&mut headers, "Origin");
            assert_eq!(headers[VARY], after);
        }
    }
}
