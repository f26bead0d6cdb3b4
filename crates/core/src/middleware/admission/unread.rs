//! Refuses what could not be read as a request, as `server` passes it on: with a problem, like all else.
//!
//! It has neither method nor path: the log shows `-` and `/`. It counts for its address.
//!
//! Assumes nothing of the deployment: a proxy in front refuses most of this itself, with an answer of its own.

use axum::extract::Request;
use http::{Method, StatusCode};

use crate::error::{Error, codes};

/// Marks what stands for a request that was none, with the status that hyper gives it.
#[derive(Clone, Copy)]
pub(crate) struct Unread(pub(crate) StatusCode);

impl From<Unread> for Request {
    /// What stands for a request that was none.
    fn from(unread: Unread) -> Self {
        let mut request = Request::default();
        *request.method_mut() = Method::from_bytes(b"-").unwrap_or_default();
        request.extensions_mut().insert(unread);
        request
    }
}

/// # Errors
/// For what stands for a request that was none.
pub(in crate::middleware) fn check(request: &Request) -> Result<(), Error> {
    let Some(Unread(status)) = request.extensions().get() else { return Ok(()) };
    Err(Error::new(match *status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => &codes::HEADERS_TOO_LARGE,
        StatusCode::URI_TOO_LONG => &codes::URI_TOO_LONG,
        _ => &codes::MALFORMED_REQUEST,
    }))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn h_04_what_was_no_request_is_refused_with_the_status_that_it_had() {
        for (status, code) in [
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "core.headers_too_large"),
            (StatusCode::URI_TOO_LONG, "core.uri_too_long"),
            (StatusCode::BAD_REQUEST, "core.malformed_request"),
            (StatusCode::IM_A_TEAPOT, "core.malformed_request"),
        ] {
            let request = Request::from(Unread(status));
            assert_eq!((request.method().as_str(), request.uri().path()), ("-", "/"), "as the log shows it");
            assert_eq!(check(&request).unwrap_err().code().code, code, "{status}");
        }
    }

    #[test]
    fn what_was_read_goes_on_whatever_its_method_is() {
        for method in ["GET", "-"] {
            let request = Request::builder().method(method).body(Body::empty()).unwrap();
            assert!(check(&request).is_ok(), "{method}");
        }
    }
}
