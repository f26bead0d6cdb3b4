//! Compresses answers for clients that accept it (RFC 9110, 12.5.3). Assumes that no proxy in front does so already:
//! where one does, `COMPRESSION=off` saves the work.
//!
//! Plain functions over three encoders, and no tower-http layer: that is a service around the rest, boxes every body, and
//! knows neither our routes nor that our entity tags are used in `If-Match`.
//!
//! What a handler has packed itself, such as a file that lies so, goes out as gzip to those who take it so, and to others as
//! any answer does. Its tag is that of the plain file.
//!
//! Not compressed: what is small, what is compressed by its nature, and what a route keeps from it. Answers to POST and its
//! kin are, unless declared otherwise, since they hold what the client has sent beside what it may not see: fresh tokens
//! and keys. From the length of both compressed together the one can be guessed by means of the other (BREACH).

use std::io;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use tokio::sync::Semaphore;

use super::encoder::{self, Coding};
use crate::assets::{Resident, Unpacked};
use crate::error::{Error, codes};
use crate::extract::in_coding;
use crate::middleware::headers::vary;
use crate::module::Route;
use crate::shared::choices;

/// Below, the saving is smaller than one network packet.
const LEAST_BYTES: u64 = 1024;
/// Up to here an answer is compressed in at most a millisecond, and takes no turn.
const AT_ONCE: usize = 64 * 1024;
/// Up to here an answer of known length is compressed before it is sent: it then has a `Content-Length`, and its encoder,
/// which is many times larger than the answer, waits for nobody who takes it slowly (D-02). Others are compressed while
/// they are sent.
const AS_A_WHOLE: u64 = 4 * 1024 * 1024;
/// How many answers are being compressed at a time, at a MiB each. More would not be done sooner.
const TURNS: usize = 8;
/// The names of codings, the one that we like best first: by size of the answer, then by the time it takes.
const CODINGS: [(&str, Coding); 4] =
    [("zstd", Coding::Zstd), ("br", Coding::Brotli), ("gzip", Coding::Gzip), ("x-gzip", Coding::Gzip)];

/// The turns of large answers at being compressed.
pub(in crate::middleware) struct Encoders(Semaphore);

impl Default for Encoders {
    fn default() -> Self {
        Self(Semaphore::new(TURNS))
    }
}

impl Encoders {
    /// Compresses a body; a large one when its turn has come.
    async fn whole(&self, coding: Coding, body: &[u8]) -> io::Result<Bytes> {
        let _turn = if body.len() > AT_ONCE { self.0.acquire().await.ok() } else { None };
        encoder::whole(coding, body).await
    }
}

/// What the client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::middleware) struct Accepted {
    coding: Option<Coding>,
    /// Whether the answer may be sent as it is.
    identity: bool,
    /// Whether what lies as gzip may be sent so.
    gzip: bool,
}

/// Finds out what the client accepts; 406 when it refuses everything that the route can send.
pub(in crate::middleware) fn enter(
    enabled: bool,
    route: &Route,
    headers: &HeaderMap,
) -> Result<Accepted, Error> {
    if !headers.contains_key(ACCEPT_ENCODING) {
        return Ok(Accepted { coding: None, identity: true, gzip: false });
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
pub(in crate::middleware) async fn leave(
    encoders: &Encoders,
    accepted: Accepted,
    enabled: bool,
    route: &Route,
    response: &mut Response,
) -> Result<(), Error> {
    if is_packed(response) {
        vary(response.headers_mut(), "Accept-Encoding");
        if accepted.gzip {
            mark(response, Coding::Gzip);
            return Ok(());
        }
        // Boxed, since few answers come this way and all would carry its size.
        Box::pin(unpack(response)).await?;
    }
    let forced = !accepted.identity;
    if enabled && route.compress && response.status() == StatusCode::NOT_MODIFIED {
        vary(response.headers_mut(), "Accept-Encoding"); // as the answer that it stands for (RFC 9110, 15.4.5)
    }
    if !enabled || !route.compress || !(forced || is_worth_it(response)) || response.body().is_end_stream() {
        return Ok(());
    }
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_ENCODING) || headers.contains_key(CONTENT_RANGE) {
        return Ok(());
    }
    vary(headers, "Accept-Encoding");
    let Some(coding) = accepted.coding else { return Ok(()) };
    headers.remove(CONTENT_LENGTH);
    mark(response, coding);
    let body = std::mem::take(response.body_mut());
    *response.body_mut() = match body.size_hint().exact() {
        Some(length) if length <= AS_A_WHOLE => {
            let body = axum::body::to_bytes(body, AS_A_WHOLE as usize).await.map_err(Error::internal)?;
            // Boxed, since few answers come this way and all would carry its size.
            Body::from(Box::pin(encoders.whole(coding, &body)).await.map_err(Error::internal)?)
        }
        _ => Body::new(encoder::Compressed::new(coding, body)),
    };
    response.extensions_mut().remove::<Resident>(); // what it has become is its own
    Ok(())
}

/// Says that the answer is in this coding; its tag says so too.
fn mark(response: &mut Response, coding: Coding) {
    let headers = response.headers_mut();
    if let Some(tag) = headers.get(ETAG).and_then(|tag| in_coding(tag, coding.name())) {
        headers.insert(ETAG, tag);
    }
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
}

/// Whether the handler has packed it. A part of such a file cannot be unpacked.
fn is_packed(response: &Response) -> bool {
    let headers = response.headers();
    headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == Coding::Gzip.name())
        && !headers.contains_key(CONTENT_RANGE)
}

/// Unpacks an answer that the handler has packed, for the few clients that take no gzip: a few milliseconds for a
/// megabyte.
async fn unpack(response: &mut Response) -> Result<(), Error> {
    let packed = std::mem::take(response.body_mut());
    let plain = async {
        let packed = axum::body::to_bytes(packed, usize::MAX).await.map_err(Error::internal)?;
        encoder::unpacked(&packed).map(Bytes::from).map_err(Error::internal)
    };
    let plain = match response.extensions_mut().remove::<Unpacked>() {
        Some(kept) => kept.get_or(plain).await?,
        None => plain.await?,
    };
    *response.body_mut() = plain.into();
    for name in [CONTENT_ENCODING, CONTENT_LENGTH] {
        response.headers_mut().remove(name);
    }
    Ok(())
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
        choices(headers, &ACCEPT_ENCODING)
            .find(|(coding, _)| coding.eq_ignore_ascii_case(name))
            .map(|(_, weight)| weight)
    };
    let (any, identity) = (weight("*"), weight("identity"));
    let mut gzip = false;
    let weighed = CODINGS.iter().filter_map(|(name, coding)| {
        let weight = weight(name).or(if *name == "x-gzip" { None } else { any })?;
        // Who prefers the answer as it is gets it so.
        (weight > 0 && weight >= identity.unwrap_or(0)).then_some((*coding, weight))
    });
    let weighed = weighed.inspect(|(coding, _)| gzip |= *coding == Coding::Gzip);
    let best = weighed.reduce(|best, next| if next.1 > best.1 { next } else { best });
    Accepted { coding: best.map(|(coding, _)| coding), identity: identity.or(any) != Some(0), gzip }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use http::header::VARY;

    use super::*;
    use crate::module::{Access, Routes};

    fn asked(text: &str) -> Accepted {
        read(&HeaderMap::from_iter([(ACCEPT_ENCODING, text.parse().unwrap())]))
    }

    fn accepted(text: &str) -> (Option<&'static str>, bool) {
        let Accepted { coding, identity, .. } = asked(text);
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

    #[tokio::test]
    async fn h_05_what_lies_packed_goes_out_so_to_those_who_take_it_so() {
        let text = "bolt ".repeat(1000);
        let routes = Routes::new().get("/file", Access::Public, async || "").produces(&[]);
        let route = routes.of("test").next().unwrap();
        for (accepts, coding, tag) in [
            ("gzip", "gzip", "\"7-gzip\""),
            ("gzip, br, zstd", "gzip", "\"7-gzip\""),
            ("*", "gzip", "\"7-gzip\""),
            ("gzip;q=0.5, br;q=0.9", "gzip", "\"7-gzip\""),
            ("gzip;q=0, br", "br", "\"7-br\""),
            ("identity, gzip;q=0.5", "", "\"7\""),
            ("identity", "", "\"7\""),
            ("*;q=0", "", "\"7\""),
        ] {
            let packed = encoder::whole(Coding::Gzip, text.as_bytes()).await.unwrap();
            let headers = [
                (CONTENT_ENCODING, "gzip"),
                (CONTENT_LENGTH, &packed.len().to_string()),
                (CONTENT_TYPE, "text/plain"),
                (ETAG, "\"7\""),
            ];
            let mut response = (headers, packed).into_response();
            leave(&Encoders::default(), asked(accepts), true, &route, &mut response).await.unwrap();
            let said = |name| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
            assert_eq!((said(CONTENT_ENCODING), said(ETAG), said(VARY)), (coding, tag, "Accept-Encoding"));
            let length = said(CONTENT_LENGTH).to_owned();
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert!(length.is_empty() || length == body.len().to_string(), "{accepts}: {length}");
            match coding {
                "" => assert_eq!(body, text, "{accepts}"),
                "gzip" => assert_eq!(encoder::unpacked(&body).unwrap(), text.as_bytes(), "{accepts}"),
                _ => assert!(body.len() < text.len() / 10, "{accepts}"),
            }
        }
    }

    #[tokio::test]
    async fn what_is_packed_badly_or_in_part_is_not_taken_for_the_whole() {
        let route = Routes::new().get("/file", Access::Public, async || "").of("test").next().unwrap();
        let answer = || ([(CONTENT_ENCODING, "gzip")], "no gzip").into_response();
        let failed =
            leave(&Encoders::default(), asked("identity"), true, &route, &mut answer()).await.unwrap_err();
        assert_eq!(failed.code().status, 500);
        let mut part = answer();
        part.headers_mut().insert(CONTENT_RANGE, HeaderValue::from_static("bytes 0-6/100"));
        leave(&Encoders::default(), asked("identity"), true, &route, &mut part).await.unwrap();
        assert_eq!(part.headers()[CONTENT_ENCODING], "gzip");
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
