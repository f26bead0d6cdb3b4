//! What a destination has answered.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::OutboundError;

/// An answer with its whole body, whatever its status.
#[derive(Debug)]
pub struct OutboundResponse {
    /// The status: of any class, also a redirection, which is not followed.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, which is not larger than the caller allows.
    pub body: Bytes,
}

impl OutboundResponse {
    /// Reads the whole answer, and no more of it than `most` bytes.
    pub(super) async fn read(mut response: reqwest::Response, most: usize) -> Result<Self, OutboundError> {
        let status = response.status();
        let declared = response.content_length().unwrap_or_default();
        if usize::try_from(declared).map_or(true, |declared| declared > most) {
            return Err(OutboundError::TooLarge(status));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(OutboundError::of)? {
            if body.len() + chunk.len() > most {
                return Err(OutboundError::TooLarge(status));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status, headers: std::mem::take(response.headers_mut()), body: body.freeze() })
    }

    /// The answer, if its status is one of success: 200 to 299.
    ///
    /// # Errors
    /// [`OutboundError::Status`].
    pub fn success(self) -> Result<Self, OutboundError> {
        if self.status.is_success() { Ok(self) } else { Err(OutboundError::Status(self.status)) }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`OutboundError::Status`] unless the status is one of success, [`OutboundError::Unreadable`].
    pub fn json<T: DeserializeOwned>(self) -> Result<T, OutboundError> {
        let body = self.success()?.body;
        serde_json::from_slice(&body).map_err(|error| OutboundError::Unreadable(error.into()))
    }

    /// How long the destination asks to be left alone (RFC 9110, 10.2.3); `now` is for a date.
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(date.duration_since(now).try_into().unwrap_or_default())
    }
}

/// The word for a status in metrics and in the log.
pub(super) fn outcome(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        2 => "success",
        3 => "redirected",
        4 => "client_error",
        5 => "server_error",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-02-03T04:05:06Z".parse().unwrap();
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            OutboundResponse { status: StatusCode::OK, headers, body: Bytes::new() }.retry_after(now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Tue, 03 Feb 2026 04:06:06 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Tue, 03 Feb 2026 04:00:00 GMT"), Some(Duration::ZERO), "it is over");
        for bad in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
