//! The bytes of a file as an answer: all of them, or a range.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::files::FileContent;
use super::{Call, StoredFile};
use crate::answer::{Answer, Outputs};
use crate::app::{App, Flowing};
use crate::error::{Error, Result, codes};
use crate::extract::{ETag, HeaderField, Input, Inputs};
use crate::files::{attachment, file_codes};
use crate::shared::TenantId;

/// What is in memory of a download at most, between the store and its client.
const IN_MEMORY: u64 = 256 * 1024;

static REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// `Range`, as the contract tells of it.
static RANGE_FIELD: HeaderField = HeaderField {
    name: "Range",
    what: "One range of bytes (RFC 9110, 14.2): `bytes=0-99`, `bytes=100-`, `bytes=-100`. With others the whole file is answered.",
    pattern: None,
    example: "bytes=0-99",
    always: false,
};

/// The range that a client asks for, if it asks for one.
#[derive(Debug, Clone, Default)]
pub struct ByteRange {
    range: Option<String>,
    only_of: Option<HeaderValue>,
}

impl FromRequestParts<App> for ByteRange {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self> {
        let one = |name: &HeaderName| {
            let mut values = parts.headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).cloned()
        };
        let range = one(&RANGE).and_then(|value| value.to_str().ok().map(str::to_owned));
        Ok(Self { range, only_of: one(&IF_RANGE) })
    }
}

impl Input for ByteRange {
    fn describe(inputs: &mut Inputs) {
        inputs.headers.push(&RANGE_FIELD);
        inputs.refusals.push(&file_codes::RANGE_NOT_SATISFIABLE);
    }
}

impl ByteRange {
    /// The range of a file of so many bytes; `None` for all of it.
    ///
    /// # Errors
    /// `files.range_not_satisfiable` for one that begins behind the end.
    fn of(&self, bytes: u64, tag: &str) -> Result<Option<Range<u64>>> {
        let is_of_another = self.only_of.as_ref().is_some_and(|only| only.as_bytes() != tag.as_bytes());
        let spec = self.range.as_deref().and_then(|range| range.trim().strip_prefix("bytes="));
        let Some((first, last)) = spec.filter(|_| !is_of_another).and_then(|spec| spec.split_once('-'))
        else {
            return Ok(None);
        };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
        };
        let (first, last) = (first.trim(), last.trim());
        let range = match (number(first), number(last)) {
            (Some(first), None) if last.is_empty() => first..bytes,
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(bytes),
            (None, Some(length)) if first.is_empty() => bytes.saturating_sub(length)..bytes,
            _ => return Ok(None), // several, or malformed: as if it were not there
        };
        if range.start >= range.end {
            let detail = format!("The file has {bytes} bytes.");
            return Err(Error::new(&file_codes::RANGE_NOT_SATISFIABLE).detail(detail));
        }
        Ok(Some(range))
    }
}

/// 200 with the bytes of a file, or 206 with a range of them: [`Call::download`].
pub struct Download(Response);

impl IntoResponse for Download {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answer for Download {
    fn describe(outputs: &mut Outputs) {
        outputs.text(200, "*/*").header(&ETag::FIELD).text(206, "*/*").header(&ETag::FIELD);
        outputs.refuses(&file_codes::STORE_UNAVAILABLE).refuses(&file_codes::DAMAGED);
        outputs.produces(&[]).about(
            "The answer is an attachment. A file that turns out to be damaged, or that cannot be read to its end, is broken off \
             before its last bytes.",
        );
    }
}

impl Call {
    /// Answers with the bytes of a file, as they come from the store.
    ///
    /// # Errors
    /// As [`Call::file_content`]; `files.range_not_satisfiable`.
    pub async fn download(&self, file: &StoredFile, range: &ByteRange) -> Result<Download> {
        Download::open(&self.app, self.caller.tenant(), file, range).await
    }
}

impl Download {
    pub(crate) async fn open(
        app: &App,
        tenant: TenantId,
        file: &StoredFile,
        range: &ByteRange,
    ) -> Result<Self> {
        let bytes = u64::try_from(file.bytes).unwrap_or_default();
        let tag = format!("\"{}\"", file.sha256);
        let range = range.of(bytes, &tag)?;
        let source = match &range {
            // A part cannot be compared with the digest of the whole.
            Some(range) => app.files.read(file.object(tenant), range.clone()).await,
            None => FileContent::open(app, tenant, file).await.map(|content| content.boxed()),
        };
        let source = source.inspect_err(|error| count(app, &file.kind, outcome(error)))?;
        let length = range.as_ref().map_or(bytes, |range| range.end - range.start);
        let mut response = Response::new(Body::from_stream(Sending::new(app, file, length, source)));
        response.extensions_mut().insert(Flowing(length.min(IN_MEMORY)));
        let headers = response.headers_mut();
        describe(headers, file, &tag)?;
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if let Some(range) = range {
            let said = format!("bytes {}-{}/{bytes}", range.start, range.end - 1);
            headers.insert(CONTENT_RANGE, HeaderValue::try_from(said).map_err(Error::internal)?);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(Self(response))
    }
}

fn describe(headers: &mut HeaderMap, file: &StoredFile, tag: &str) -> Result<()> {
    let digest: Vec<u8> = (0..file.sha256.len() / 2)
        .filter_map(|at| u8::from_str_radix(file.sha256.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    let digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(digest));
    let attachment = attachment(&file.name);
    for (name, value) in [
        (CONTENT_TYPE, file.media_type.as_str()),
        (CONTENT_DISPOSITION, &attachment),
        (ETAG, tag),
        (ACCEPT_RANGES, "bytes"),
        (REPR_DIGEST.clone(), &digest),
    ] {
        headers.insert(name, HeaderValue::try_from(value).map_err(Error::internal)?);
    }
    Ok(())
}

/// A download under way. It ends at `FILES_TRANSFER_TIMEOUT`, and is counted when it is over, whatever its end was.
struct Sending {
    app: App,
    kind: String,
    left: u64,
    deadline: Instant,
    source: BoxStream<'static, Result<Bytes>>,
    outcome: &'static str,
}

impl Sending {
    fn new(app: &App, file: &StoredFile, left: u64, source: BoxStream<'static, Result<Bytes>>) -> Self {
        let deadline = Instant::now() + app.config.files.transfer_timeout;
        let outcome = if left == 0 { "complete" } else { "left" };
        Self { app: app.clone(), kind: file.kind.clone(), left, deadline, source, outcome }
    }
}

impl Stream for Sending {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if Instant::now() > self.deadline && self.left > 0 {
            self.outcome = "failed";
            let late = Error::new(&codes::TIMEOUT).because("FILES_TRANSFER_TIMEOUT");
            return Poll::Ready(Some(Err(late)));
        }
        let part = std::task::ready!(self.source.poll_next_unpin(cx));
        match &part {
            Some(Ok(part)) => {
                let length = part.len() as u64;
                self.left = self.left.saturating_sub(length);
                self.app.metrics.files_sent_bytes_total.with(&[&self.kind]).add(length);
                if self.left == 0 {
                    self.outcome = "complete";
                }
            }
            Some(Err(error)) => {
                self.outcome = outcome(error);
                tracing::warn!(error = error as &dyn std::error::Error, "A download was broken off");
            }
            None => {}
        }
        Poll::Ready(part)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        count(&self.app, &self.kind, self.outcome);
    }
}

fn outcome(error: &Error) -> &'static str {
    if error.code() == &file_codes::DAMAGED { "damaged" } else { "failed" }
}

fn count(app: &App, kind: &str, outcome: &'static str) {
    app.metrics.files_downloads_total.with(&[kind, outcome]).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str, bytes: u64) -> Option<Option<Range<u64>>> {
        let asked = ByteRange { range: Some(text.to_owned()), only_of: None };
        asked.of(bytes, "\"tag\"").ok()
    }

    #[test]
    fn one_range_is_answered_and_others_are_as_if_they_were_not_there() {
        for (text, expected) in [
            ("bytes=0-0", Some(Some(0..1))),
            ("bytes=0-99", Some(Some(0..10))),
            ("bytes=4-", Some(Some(4..10))),
            ("bytes=-3", Some(Some(7..10))),
            ("bytes=-99", Some(Some(0..10))),
            ("bytes=9-18446744073709551616", Some(Some(9..10))),
            ("bytes=10-", None),
            ("bytes=99-100", None),
            ("bytes=-0", None),
            ("bytes=5-4", Some(None)),
            ("bytes=0-1,3-4", Some(None)),
            ("bytes=a-b", Some(None)),
            ("bytes=-", Some(None)),
            ("bytes=+1-2", Some(None)),
            ("lines=1-2", Some(None)),
        ] {
            assert_eq!(range(text, 10), expected, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), None);
    }

    #[test]
    fn a_range_of_another_version_is_not_meant() {
        for (only, expected) in [("\"tag\"", Some(2..3)), ("\"other\"", None), ("W/\"tag\"", None)] {
            let asked = ByteRange {
                range: Some("bytes=2-2".to_owned()),
                only_of: Some(HeaderValue::from_static(only)),
            };
            assert_eq!(asked.of(10, "\"tag\"").unwrap(), expected, "{only}");
        }
    }
}
