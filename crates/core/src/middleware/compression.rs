//! Compresses answers for clients that accept it (RFC 9110, 12.5.3). Assumes that no proxy in front does so already:
//! where one does, `COMPRESSION=off` saves the work.
//!
//! Plain functions over three encoders, and no tower-http layer: that is a service around the rest, boxes every body, and
//! knows neither our routes nor that our entity tags are used in `If-Match`.
//!
//! Not compressed: what is small, what is compressed by its nature, and what a route keeps from it. Answers to POST and its
//! kin are, unless declared otherwise, since they hold what the client has sent beside what it may not see: fresh tokens
//! and keys. From the length of both compressed together the one can be guessed by means of the other (BREACH).

use axum::body::Body;
use axum::response::Response;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;

use super::encoder::{self, Coding};
use super::{vary, weights};
use crate::error::{Error, codes};
use crate::extract::in_coding;
use crate::module::Route;

/// Below, the saving is smaller than one network packet.
const LEAST_BYTES: u64 = 1024;
/// Up to here an answer is compressed as a whole, in at most a millisecond, and has a `Content-Length`. Larger ones are
/// compressed piece by piece while they are sent, so that no request keeps a thread from the others.
const AS_A_WHOLE: u64 = 64 * 1024;
/// The names of codings, the one that we like best first: by size of the answer, then by the time it takes.
const CODINGS: [(&str, Coding); 4] =
    [("zstd", Coding::Zstd), ("br", Coding::Brotli), ("gzip", Coding::Gzip), ("x-gzip", Coding::Gzip)];

/// What the client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    coding: Option<Coding>,
    /// Whether the answer may be sent as it is.
    identity: bool,
}

/// Finds out what the client accepts; 406 when it refuses everything that the route can send.
pub(super) fn enter(enabled: bool, route: &Route, headers: &HeaderMap) -> Result<Accepted, Error> {
    if !headers.contains_key(ACCEPT_ENCODING) {
        return Ok(Accepted { coding: None, identity: true });
    }
    let mut accepted = read(headers);
    if !enabled || !route.compress {
        accepted.coding = None;
    }
    if accepted.coding.is_none() && !accepted.identity && !route.produces.is_empty() {
        return Err(Error::new(&codes::NOT_ACCEPTABLE).detail("This is sent without a content coding only."));
    }
    Ok(accepted)
}

/// Compresses the body where that is wanted and worth it.
pub(super) async fn leave(
    accepted: Accepted,
    enabled: bool,
    route: &Route,
    mut response: Response,
) -> Result<Response, Error> {
    let forced = !accepted.identity;
    if enabled && route.compress && response.status() == StatusCode::NOT_MODIFIED {
        vary::add(response.headers_mut(), "Accept-Encoding"); // as the answer that it stands for (RFC 9110, 15.4.5)
    }
    if !enabled || !route.compress || !(forced || is_worth_it(&response)) || response.body().is_end_stream() {
        return Ok(response);
    }
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_ENCODING) || headers.contains_key(CONTENT_RANGE) {
        return Ok(response);
    }
    vary::add(headers, "Accept-Encoding");
    let Some(coding) = accepted.coding else { return Ok(response) };
    if let Some(tag) = headers.get(ETAG).and_then(|tag| in_coding(tag, coding.name())) {
        headers.insert(ETAG, tag);
    }
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    let body = std::mem::take(response.body_mut());
    *response.body_mut() = match body.size_hint().exact() {
        Some(length) if length <= AS_A_WHOLE => {
            let body = axum::body::to_bytes(body, AS_A_WHOLE as usize).await.map_err(Error::internal)?;
            Body::from(encoder::whole(coding, &body).map_err(Error::internal)?)
        }
        _ => Body::new(encoder::Compressed::new(coding, body).map_err(Error::internal)?),
    };
    Ok(response)
}

/// Large enough, and text of some kind: pictures and archives only grow.
fn is_worth_it(response: &Response) -> bool {
    let size = response.body().size_hint();
    let large = size.exact().is_none_or(|bytes| bytes >= LEAST_BYTES);
    large && response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_text)
}

fn is_text(content_type: &str) -> bool {
    const TEXTS: [&str; 5] = [
        "application/json",
        "application/x-ndjson",
        "application/javascript",
        "application/xml",
        "application/wasm",
    ];
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.starts_with("text/")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || TEXTS.contains(&media_type)
}

fn read(headers: &HeaderMap) -> Accepted {
    let weight = |name: &str| {
        let mut choices = weights::choices(headers, &ACCEPT_ENCODING);
        choices.find(|(coding, _)| coding.eq_ignore_ascii_case(name)).map(|(_, weight)| weight)
    };
    let (any, identity) = (weight("*"), weight("identity"));
    let weighed = CODINGS.iter().filter_map(|(name, coding)| {
        let weight = weight(name).or(if *name == "x-gzip" { None } else { any })?;
        // Who prefers the answer as it is gets it so.
        (weight > 0 && weight >= identity.unwrap_or(0)).then_some((*coding, weight))
    });
    let best = weighed.reduce(|best, next| if next.1 > best.1 { next } else { best });
    Accepted { coding: best.map(|(coding, _)| coding), identity: identity.or(any) != Some(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &str) -> (Option<&'static str>, bool) {
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, text.parse().unwrap())]);
        let Accepted { coding, identity } = read(&headers);
        (coding.map(Coding::name), identity)
    }

    #[test]
    fn h_05_the_coding_is_the_heaviest_that_is_accepted() {
        for (text, coding, identity) in [
            ("", None, true),
            ("gzip", Some("gzip"), true),
            ("x-gzip", Some("gzip"), true),
            ("gzip, deflate", Some("gzip"), true),
            ("gzip, deflate, br", Some("br"), true),
            ("gzip, deflate, br, zstd", Some("zstd"), true),
            ("GZIP;q=1.0, br;q=0.5", Some("gzip"), true),
            ("zstd;q=0, br;q=0, gzip", Some("gzip"), true),
            ("*", Some("zstd"), true),
            ("*;q=0.1, zstd;q=0", Some("br"), true),
            ("gzip;q=0", None, true),
            ("gzip;q=0, *;q=0", None, false),
            ("*;q=0", None, false),
            ("identity;q=0", None, false),
            ("identity;q=0, gzip", Some("gzip"), false),
            ("*;q=0, gzip;q=0.1", Some("gzip"), false),
            ("*;q=0, identity", None, true),
            ("identity, gzip;q=0.5", None, true),
            ("identity;q=0.5, gzip;q=0.8", Some("gzip"), true),
            ("deflate, compress", None, true),
            ("gzip;q=nonsense", None, true),
        ] {
            assert_eq!(accepted(text), (coding, identity), "{text}");
        }
    }

    #[test]
    fn pictures_are_not_compressed_and_texts_are() {
        for text in
            ["application/json", "text/csv; charset=utf-8", "image/svg+xml", "application/problem+json"]
        {
            assert!(is_text(text), "{text}");
        }
        for other in ["image/png", "application/octet-stream", "application/gzip", "font/woff2", ""] {
            assert!(!is_text(other), "{other}");
        }
    }
}
