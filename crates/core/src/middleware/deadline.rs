//! Bounds a request in time. What it held is dropped, so its statement is cancelled and rolled back (D-07).

use std::time::Duration;

use axum::response::Response;

use crate::error::{Error, codes};

/// Runs `work` for at most `limit`.
pub(super) async fn around(
    limit: Duration,
    work: impl Future<Output = Result<Response, Error>>,
) -> Result<Response, Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(&codes::TIMEOUT).retry_after(Duration::from_secs(1))),
    }
}
