//! The listener that leads to HTTPS (`HTTP_REDIRECT_PORT`, H-03): it answers nothing else.
//!
//! A request with a body has been sent in the clear already, and clients must not repeat it unasked: it is refused, so
//! that a person who has configured `http://` notices. Assumes that the listener has worked out where the request belongs.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};

use crate::error::{Error, codes};

/// Marks a request that came to the listener, with where it belongs; `None` when its host is not one of this server.
#[derive(Clone)]
pub(in crate::middleware) struct Elsewhere(pub(in crate::middleware) Option<HeaderValue>);

/// The answer to a request that came to the listener; `None` for all others.
pub(in crate::middleware) fn enter(request: &Request) -> Result<Option<Response>, Error> {
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

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    const HOME: HeaderValue = HeaderValue::from_static("https://api.example.com/x?y=1");

    fn answered(method: &str, elsewhere: Option<Elsewhere>) -> Result<Option<Response>, &'static str> {
        let mut request = Request::builder().method(method).body(Body::empty()).unwrap();
        elsewhere.map(|elsewhere| request.extensions_mut().insert(elsewhere));
        enter(&request).map_err(|error| error.code().code)
    }

    #[test]
    fn h_03_reads_are_led_to_https_and_writes_refused() {
        for method in ["GET", "HEAD"] {
            let response = answered(method, Some(Elsewhere(Some(HOME)))).unwrap().unwrap();
            assert_eq!((response.status().as_u16(), &response.headers()[header::LOCATION]), (308, &HOME));
            assert!(response.body().is_end_stream());
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"] {
            let refused = answered(method, Some(Elsewhere(Some(HOME)))).unwrap_err();
            assert_eq!(refused, "core.https_required", "{method}");
        }
    }

    #[test]
    fn h_03_a_host_of_others_is_led_nowhere() {
        assert_eq!(answered("GET", Some(Elsewhere(None))).unwrap_err(), "core.https_required");
    }

    #[test]
    fn what_came_elsewhere_is_not_answered_here() {
        for method in ["GET", "POST"] {
            assert!(answered(method, None).unwrap().is_none(), "{method}");
        }
    }
}
