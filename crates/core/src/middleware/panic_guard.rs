//! A panic ends its request, not the process: the client gets 500, the log the message.

use std::panic::AssertUnwindSafe;

use axum::response::Response;
use futures_util::FutureExt as _;

use crate::error::Error;
use crate::shared::panic_message;

/// Runs `work`, and turns a panic in it into `core.internal`.
///
/// What `work` held is dropped by the unwinding: its transaction is rolled back by its guard. A combinator, as
/// `deadline::around` is and for its reason.
pub(super) fn around(
    work: impl Future<Output = Result<Response, Error>>,
) -> impl Future<Output = Result<Response, Error>> {
    AssertUnwindSafe(work).catch_unwind().map(|outcome| match outcome {
        Ok(outcome) => outcome,
        Err(panic) => Err(Error::internal(format!("panic: {}", panic_message(panic.as_ref())))),
    })
}
