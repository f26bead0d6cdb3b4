//! HEAD: the answer of GET without its body (RFC 9110, 9.3.2). The server would send the body over HTTP/2.
//!
//! Assumes nothing of the deployment: the body is gone before a proxy sees the answer.

use axum::response::Response;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;

/// Takes the body off an answer to HEAD, and says how long it would have been where that is known.
pub(in crate::middleware) fn leave(method: &Method, response: &mut Response) {
    if *method != Method::HEAD {
        return;
    }
    let body = std::mem::take(response.body_mut());
    let has_none = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let (false, Some(length)) = (has_none, body.size_hint().exact()) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use futures_util::stream;

    use super::*;

    fn answered(method: &[u8], status: StatusCode, body: Body) -> (Option<u64>, Option<HeaderValue>) {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        leave(&Method::from_bytes(method).unwrap(), &mut response);
        (response.body().size_hint().exact(), response.headers().get(CONTENT_LENGTH).cloned())
    }

    #[test]
    fn h_05_the_body_goes_and_its_length_stays() {
        let length = |text| Some(HeaderValue::from_static(text));
        assert_eq!(answered(b"HEAD", StatusCode::OK, "pong".into()), (Some(0), length("4")));
        assert_eq!(answered(b"HEAD", StatusCode::NOT_FOUND, "pong".into()), (Some(0), length("4")));
        assert_eq!(answered(b"HEAD", StatusCode::OK, Body::empty()), (Some(0), length("0")));
        for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
            assert_eq!(answered(b"HEAD", status, "pong".into()), (Some(0), None), "{status}");
        }
        // Methods are told apart by case (RFC 9110, 9.1).
        for method in [b"GET".as_slice(), b"head", b"POST"] {
            assert_eq!(answered(method, StatusCode::OK, "pong".into()), (Some(4), None));
        }
    }

    #[test]
    fn a_length_that_is_not_known_is_not_made_up() {
        let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"pong"))]));
        assert_eq!(answered(b"HEAD", StatusCode::OK, body), (Some(0), None));
    }
}
