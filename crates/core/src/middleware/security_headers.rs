//! Headers on every answer, for a JSON API: nothing may frame it, sniff it or run anything of it (H-02).

use axum::response::Response;
use http::{HeaderName, HeaderValue, header};

const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

/// Adds the headers; an answer that must not be cached says so unless the handler said otherwise.
pub(super) fn leave(response: &mut Response) {
    let headers = response.headers_mut();
    headers.reserve(HEADERS.len() + 6); // these, the two ids, and what the connection adds: one growth instead of three
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
