//! The security headers of every answer: the application's, or the route's own (H-01 to H-03).
//!
//! Assumes nothing of the deployment. `Strict-Transport-Security` goes out when the client's own connection is encrypted:
//! see `client`.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::module::SecurityHeaders;

static X_POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");

/// Marks an answer of the chain, which has all that it needs.
#[derive(Clone, Copy)]
pub(in crate::middleware) struct HeadersSet;

/// Sets the headers; an answer that must not be cached says so unless the handler said otherwise.
pub(in crate::middleware) fn leave(headers: &SecurityHeaders, https: bool, response: &mut Response) {
    let map = response.headers_mut();
    headers.apply(https, map);
    conceal(map);
    map.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// What answers is nobody's business (H-02).
fn conceal(map: &mut HeaderMap) {
    map.remove(header::SERVER);
    map.remove(&X_POWERED_BY);
}

/// Adds what is missing to an answer that the chain has not seen.
pub(in crate::middleware) fn complete(headers: &SecurityHeaders, https: bool, response: &mut Response) {
    let map = response.headers_mut();
    headers.complete(https, map);
    conceal(map);
    map.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, SERVER, STRICT_TRANSPORT_SECURITY};

    use super::*;

    /// An answer of a handler that says too much, and too little.
    fn loose() -> Response {
        let headers = [
            ("server", "nginx/1.25"),
            ("x-powered-by", "Express"),
            ("content-security-policy", "default-src *"),
            ("cache-control", "private, no-cache"),
        ];
        let mut response = Response::new(Body::empty());
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    #[test]
    fn h_01_the_chain_replaces_what_a_handler_has_set_and_a_custom_layer_keeps_its_own() {
        let ours = SecurityHeaders::json();
        let (mut chain, mut custom) = (loose(), loose());
        leave(&ours, false, &mut chain);
        complete(&ours, false, &mut custom);
        let policy = |response: &Response| response.headers()[CONTENT_SECURITY_POLICY].clone();
        assert!(policy(&chain).to_str().unwrap().starts_with("default-src 'none'"));
        assert_eq!(policy(&custom), "default-src *");
        for response in [chain, custom] {
            let headers = response.headers();
            assert_eq!(headers[CACHE_CONTROL], "private, no-cache");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert!(!headers.contains_key(SERVER) && !headers.contains_key("x-powered-by"), "H-02");
        }
    }

    #[test]
    fn h_02_h_03_what_says_nothing_is_not_stored_and_hsts_is_for_https_only() {
        for set in [leave, complete] {
            for https in [false, true] {
                let mut response = Response::new(Body::empty());
                set(&SecurityHeaders::json(), https, &mut response);
                assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
                assert_eq!(response.headers().contains_key(STRICT_TRANSPORT_SECURITY), https);
            }
        }
    }
}
