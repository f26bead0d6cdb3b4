//! `Cache-Control` by the route's class (RFC 9111, H-02). Assumes nothing of what stands between: a cache that obeys the
//! RFC keeps nothing that is not declared on the route.

use axum::response::Response;
use http::{HeaderValue, header};

use crate::module::Cache;

/// Adds the header, unless the handler has said it itself. Errors do not come by here: they are `no-store`.
pub(in crate::middleware) fn leave(cache: Cache, response: &mut Response) {
    let value = match cache {
        Cache::NoStore => HeaderValue::from_static("no-store"),
        Cache::Revalidate => HeaderValue::from_static("private, no-cache"),
        Cache::Immutable => HeaderValue::from_static("public, max-age=31536000, immutable"),
    };
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(value);
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn h_02_the_class_decides_unless_the_handler_has_said_it_itself() {
        for (class, expected) in [
            (Cache::NoStore, "no-store"),
            (Cache::Revalidate, "private, no-cache"),
            (Cache::Immutable, "public, max-age=31536000, immutable"),
        ] {
            let mut response = Response::new(Body::empty());
            leave(class, &mut response);
            assert_eq!(response.headers()[header::CACHE_CONTROL], expected);

            let own = HeaderValue::from_static("private, max-age=60");
            response.headers_mut().insert(header::CACHE_CONTROL, own.clone());
            leave(class, &mut response);
            let said: Vec<_> = response.headers().get_all(header::CACHE_CONTROL).iter().collect();
            assert_eq!(said, [&own], "{class:?}");
        }
    }
}
