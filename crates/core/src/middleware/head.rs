//! HEAD: the answer of GET without its body (RFC 9110, 9.3.2). The server would send the body over HTTP/2.

use axum::response::Response;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;

/// Takes the body off an answer to HEAD, and says how long it would have been where that is known.
pub(super) fn leave(method: &Method, response: &mut Response) {
    if *method != Method::HEAD {
        return;
    }
    let body = std::mem::take(response.body_mut());
    let has_none = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let (false, Some(length)) = (has_none, body.size_hint().exact()) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}
