//! The listener that leads to HTTPS (`HTTP_REDIRECT_PORT`, H-03): it answers nothing else.
//!
//! A request with a body has been sent in the clear already, and clients must not repeat it unasked: it is refused, so
//! that whoever has configured `http://` notices. Assumes that the listener has worked out where the request belongs.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};

use crate::error::{Error, codes};

/// Marks a request that came to the listener, with where it belongs; `None` when its host is none of ours.
#[derive(Clone)]
pub(super) struct Elsewhere(pub(super) Option<HeaderValue>);

/// The answer to a request that came to the listener; `None` for all others.
pub(super) fn enter(request: &Request) -> Result<Option<Response>, Error> {
    let Some(Elsewhere(location)) = request.extensions().get() else { return Ok(None) };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Error::new(&codes::HTTPS_REQUIRED));
    }
    let Some(location) = location else {
        let detail = "The host of this request is not one that this server has a certificate for.";
        return Err(Error::new(&codes::HTTPS_REQUIRED).detail(detail));
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location.clone());
    Ok(Some(response))
}
