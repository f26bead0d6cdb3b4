//! Refuses what is too large before any of it is worked on (D-03, D-04).

use axum::extract::Request;
use http::header::CONTENT_LENGTH;

use crate::error::{Error, codes};
use crate::extract::MAX_BODY_BYTES;

const MAX_TARGET_BYTES: usize = 8 * 1024;
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Looks at the lengths that the head declares; a body without a declared length is bounded while it is read.
pub(super) fn check(request: &Request) -> Result<(), Error> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        return Err(Error::new(&codes::URI_TOO_LONG));
    }
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > MAX_HEADER_BYTES {
        return Err(Error::new(&codes::HEADERS_TOO_LARGE));
    }
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared = declared.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if declared > MAX_BODY_BYTES as u64 {
        return Err(Error::new(&codes::TOO_LARGE));
    }
    Ok(())
}
