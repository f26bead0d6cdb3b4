//! `Cache-Control` by the route's class (RFC 9111, H-02). Assumes nothing of what stands between: a cache that obeys the
//! RFC keeps nothing that is not declared on the route.

use axum::response::Response;
use http::{HeaderValue, header};

use crate::module::Cache;

/// Adds the header, unless the handler has said it itself. Errors do not come by here: they are `no-store`.
pub(super) fn leave(cache: Cache, response: &mut Response) {
    let value = match cache {
        Cache::NoStore => HeaderValue::from_static("no-store"),
        Cache::Revalidate => HeaderValue::from_static("private, no-cache"),
        Cache::Immutable => HeaderValue::from_static("public, max-age=31536000, immutable"),
    };
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(value);
}
