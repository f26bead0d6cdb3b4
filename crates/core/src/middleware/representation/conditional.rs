//! `If-None-Match`: 304 instead of what the client has already (RFC 9110, 13.1.2). The handler's work is done all the
//! same; what is saved is the transfer.
//!
//! Assumes nothing of the deployment: a proxy that weakens a tag (`W/"7"`, as nginx does) or marks its coding (`"7-gzip"`,
//! as Apache does) leaves one that matches.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, StatusCode};

use crate::extract::{HeaderField, opaque};

/// `If-None-Match`, as the contract tells of it. What is no tag matches nothing: it costs a transfer, no correctness.
pub(crate) static FIELD: HeaderField = HeaderField {
    name: "If-None-Match",
    what: "Entity tags as ETag gave them: 304 without a body if the resource still has one of them.",
    pattern: None,
    example: "\"1\"",
    always: false,
};

/// The tags that the client has; none where it asks without a condition.
pub(in crate::middleware) struct KnownTags(Vec<HeaderValue>);

/// Keeps the condition of a read. `If-Match` is the handler's: only its statement can tell.
pub(in crate::middleware) fn enter(request: &Request) -> KnownTags {
    if !request.method().is_safe() || !request.headers().contains_key(IF_NONE_MATCH) {
        return KnownTags(Vec::new());
    }
    KnownTags(request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect())
}

/// Makes a 304 of an answer that the client has. Its `ETag` is the client's own, which may be of a compressed
/// representation: that is the one its cache is to keep.
pub(in crate::middleware) fn leave(known: &KnownTags, response: &mut Response) {
    if known.0.is_empty() || response.status() != StatusCode::OK {
        return;
    }
    let Some(tag) = response.headers().get(ETAG).and_then(|current| matching(known, current)) else { return };
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.body_mut() = Body::empty();
    let headers = response.headers_mut();
    for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
        headers.remove(name);
    }
    headers.insert(ETAG, tag);
}

/// The client's tag for `current`, by weak comparison; `current` itself for `*`.
fn matching(known: &KnownTags, current: &HeaderValue) -> Option<HeaderValue> {
    let ours = opaque(current.to_str().ok()?)?;
    let lines = known.0.iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    let tag = tags.find(|tag| *tag == "*" || opaque(tag) == Some(ours))?;
    if tag == "*" { Some(current.clone()) } else { HeaderValue::from_str(tag).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_read_that_would_be_answered_has_a_condition() {
        for (method, kept) in [("GET", 2), ("HEAD", 2), ("PUT", 0), ("DELETE", 0), ("POST", 0)] {
            let request = Request::builder().method(method);
            let request = request.header(IF_NONE_MATCH, "\"6\"").header(IF_NONE_MATCH, "*");
            let known = enter(&request.body(Body::empty()).unwrap());
            assert_eq!(known.0.len(), kept, "{method}");
        }
        let known = KnownTags(vec![HeaderValue::from_static("\"7\"")]);
        for (status, expected) in [(200, 304), (201, 201), (206, 206), (404, 404), (500, 500)] {
            let builder =
                Response::builder().status(status).header(ETAG, "\"7\"").header(CONTENT_TYPE, "text/csv");
            let mut response = builder.body(Body::from("a,b")).unwrap();
            leave(&known, &mut response);
            assert_eq!(response.status().as_u16(), expected);
            let has_body = !http_body::Body::is_end_stream(response.body());
            assert_eq!(
                (has_body, response.headers().contains_key(CONTENT_TYPE)),
                (expected != 304, expected != 304)
            );
        }
    }

    fn answered(asked: &[&'static str], tag: &'static str) -> (u16, String) {
        let known = KnownTags(asked.iter().map(|line| HeaderValue::from_static(line)).collect());
        let mut response = Response::new(Body::from("{}"));
        response.headers_mut().insert(ETAG, HeaderValue::from_static(tag));
        leave(&known, &mut response);
        (response.status().as_u16(), response.headers()[ETAG].to_str().unwrap().to_owned())
    }

    #[test]
    fn tags_are_compared_weakly_and_without_their_coding() {
        for (asked, tag, shown) in [
            (&["\"7\""][..], "\"7\"", "\"7\""),
            (&["W/\"7\""], "\"7\"", "W/\"7\""),
            (&["\"7-gzip\""], "\"7\"", "\"7-gzip\""),
            (&["\"6\", \"7-br\""], "\"7\"", "\"7-br\""),
            (&["\"6\"", "\"7\""], "\"7\"", "\"7\""),
            (&["*"], "\"7\"", "\"7\""),
            (&["\"7\""], "W/\"7\"", "\"7\""),
        ] {
            assert_eq!(answered(asked, tag), (304, shown.to_owned()), "{asked:?} of {tag}");
        }
        for asked in [&["\"6\""][..], &["7"], &["\"7"], &["\"\""], &[""], &["\"7-lzma\""], &[]] {
            assert_eq!(answered(asked, "\"7\"").0, 200, "{asked:?}");
        }
    }
}
