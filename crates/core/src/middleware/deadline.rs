//! Bounds a request in time. What it held is dropped, so its statement is cancelled and rolled back (D-07).

use std::time::Duration;

use axum::response::Response;
use futures_util::FutureExt as _;

use crate::error::{Error, codes};

/// Runs `work` for at most `limit`.
///
/// A combinator and no `async fn`, which would hold `work` twice: as its argument and where it is awaited. Two such
/// layers make a request four times as large, and it is moved as a whole.
pub(super) fn around(
    limit: Duration,
    work: impl Future<Output = Result<Response, Error>>,
) -> impl Future<Output = Result<Response, Error>> {
    tokio::time::timeout(limit, work).map(|outcome| match outcome {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(&codes::TIMEOUT).retry_after(Duration::from_secs(1))),
    })
}
