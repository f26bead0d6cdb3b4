//! Gives every request a correlation id, or takes the client's when it is well-formed (O-03).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::Trace;
use crate::shared::Rng;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Notes the request's trace, and puts it into the request for handlers.
pub(super) fn enter(rng: &dyn Rng, request: &mut Request, client: IpAddr) -> Trace {
    let correlation_id = given(request.headers()).map_or_else(|| generate(rng), Arc::from);
    let trace = Trace { correlation_id, client_ip: Some(client) };
    request.extensions_mut().insert(trace.clone());
    trace
}

/// Echoes the id under both names.
pub(super) fn leave(trace: &Trace, response: &mut Response) {
    if let Ok(value) = HeaderValue::from_str(&trace.correlation_id) {
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID.clone(), value.clone());
        headers.insert(CORRELATION_ID.clone(), value);
    }
}

fn given(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(&REQUEST_ID).or_else(|| headers.get(&CORRELATION_ID))?.to_str().ok()?;
    let well_formed = (1..=128).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    well_formed.then_some(value)
}

fn generate(rng: &dyn Rng) -> Arc<str> {
    let mut random = [0; 16];
    rng.fill(&mut random);
    let mut id = String::with_capacity(36);
    let _ = write!(id, "req_{:032x}", u128::from_be_bytes(random));
    id.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID.clone(), HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn either_name_is_taken_and_the_first_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(CORRELATION_ID.clone(), HeaderValue::from_static("order-9"));
        assert_eq!(given(&headers), Some("order-9"));
        headers.insert(REQUEST_ID.clone(), HeaderValue::from_static("order-8"));
        assert_eq!(given(&headers), Some("order-8"));
    }

    #[test]
    fn o_03_only_well_formed_ids_are_taken() {
        assert_eq!(given(&with(b"order-7_a.b")), Some("order-7_a.b"));
        for bad in [b"".as_slice(), b"a b", b"a'b", b"a\"b", b"a;b", "\u{e9}".as_bytes(), &[b'x'; 129]] {
            assert_eq!(given(&with(bad)), None);
        }
    }
}
