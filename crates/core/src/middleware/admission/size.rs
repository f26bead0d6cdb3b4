//! Refuses what is too large before any of it is worked on (D-03, D-04).
//!
//! Assumes nothing of the deployment: a proxy with smaller limits refuses by itself, and larger ones change nothing here.

use axum::extract::Request;
use http::header::CONTENT_LENGTH;

use crate::error::{Error, codes};
use crate::extract::MAX_BODY_BYTES;
use crate::files::too_large;
use crate::module::Route;

const MAX_TARGET_BYTES: usize = 8 * 1024;
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;

/// Looks at the lengths that the head declares; a body without a declared length is bounded while it is read.
pub(in crate::middleware) fn check(request: &Request) -> Result<(), Error> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        return Err(Error::new(&codes::URI_TOO_LONG));
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return Err(Error::new(&codes::HEADERS_TOO_LARGE));
    }
    Ok(())
}

/// Looks at the length of the body that the head declares, where the route is known.
pub(in crate::middleware) fn check_body(request: &Request, route: Option<&Route>) -> Result<(), Error> {
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared = declared.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    match route.and_then(|route| route.upload) {
        Some(kind) if declared > kind.at_most => Err(too_large(kind)),
        None if declared > MAX_BODY_BYTES as u64 => Err(Error::new(&codes::TOO_LARGE)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn outcome(target: &str, headers: impl IntoIterator<Item = (HeaderName, String)>) -> &'static str {
        let mut request = Request::builder().uri(target).body(Body::empty()).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(name, HeaderValue::try_from(value).unwrap());
        }
        check(&request)
            .and_then(|()| check_body(&request, None))
            .map_or_else(|error| error.code().code, |()| "ok")
    }

    fn named(name: &'static str, value: impl Into<String>) -> (HeaderName, String) {
        (HeaderName::from_static(name), value.into())
    }

    #[test]
    fn d_04_a_target_of_8_kib_is_read_and_not_a_byte_more() {
        for start in ["/", "/?q=", "http://host.example/"] {
            let counted = start.strip_prefix("http://host.example").unwrap_or(start).len();
            let target = |bytes: usize| format!("{start}{}", "a".repeat(bytes - counted));
            assert_eq!(outcome(&target(MAX_TARGET_BYTES), []), "ok", "{start}");
            assert_eq!(outcome(&target(MAX_TARGET_BYTES + 1), []), "core.uri_too_long", "{start}");
        }
    }

    #[test]
    fn d_04_a_hundred_headers_of_16_kib_are_read_and_no_more() {
        // Also under one name: each line is one.
        let many = |count| std::iter::repeat_n(named("x-a", ""), count);
        assert_eq!(outcome("/", many(MAX_HEADERS)), "ok");
        assert_eq!(outcome("/", many(MAX_HEADERS + 1)), "core.headers_too_large");
        let large = |bytes: usize| [named("x-a", "a".repeat(bytes - 3))];
        assert_eq!(outcome("/", large(MAX_HEADER_BYTES)), "ok");
        assert_eq!(outcome("/", large(MAX_HEADER_BYTES + 1)), "core.headers_too_large");
        let halves =
            |bytes: usize| [named("x-a", "a".repeat(bytes / 2 - 3)), named("x-b", "b".repeat(bytes / 2 - 3))];
        assert_eq!(outcome("/", halves(MAX_HEADER_BYTES)), "ok");
        assert_eq!(outcome("/", halves(MAX_HEADER_BYTES + 2)), "core.headers_too_large");
    }

    #[test]
    fn d_03_a_body_of_1_mib_may_be_declared_and_not_a_byte_more() {
        let declared = |length: String| outcome("/", [named("content-length", length)]);
        for length in [0, MAX_BODY_BYTES] {
            assert_eq!(declared(length.to_string()), "ok");
        }
        for length in [MAX_BODY_BYTES as u64 + 1, u64::MAX] {
            assert_eq!(declared(length.to_string()), "core.too_large");
        }
    }
}
