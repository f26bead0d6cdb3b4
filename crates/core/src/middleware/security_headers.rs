//! The security headers of every answer: the application's, or the route's own (H-01 to H-03).
//!
//! Assumes nothing of the deployment. `Strict-Transport-Security` goes out when the client's own connection is encrypted:
//! see `client`.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::module::SecurityHeaders;

/// What else is set after this: the standing, CORS, two ids, the trace, and what the connection adds. One growth instead
/// of three.
const ROOM: usize = 12;
static X_POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");

/// Marks an answer of the chain, which has all that it needs.
#[derive(Clone, Copy)]
pub(super) struct Dressed;

/// Sets the headers; an answer that must not be cached says so unless the handler said otherwise.
pub(super) fn leave(headers: &SecurityHeaders, https: bool, response: &mut Response) {
    let map = response.headers_mut();
    map.reserve(headers.len() + ROOM);
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
pub(super) fn complete(headers: &SecurityHeaders, https: bool, response: &mut Response) {
    let map = response.headers_mut();
    headers.complete(https, map);
    conceal(map);
    map.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
