//! Refuses what could not be read as a request, as `server` passes it on: with a problem, like all else.
//!
//! It has neither method nor path: the log shows `-` and `/`. It counts for its address.

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
pub(super) fn check(request: &Request) -> Result<(), Error> {
    let Some(Unread(status)) = request.extensions().get() else { return Ok(()) };
    Err(Error::new(match *status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => &codes::HEADERS_TOO_LARGE,
        StatusCode::URI_TOO_LONG => &codes::URI_TOO_LONG,
        _ => &codes::MALFORMED_REQUEST,
    }))
}
