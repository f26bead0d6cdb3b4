//! A panic ends its request, not the process: the client gets 500, the log the message.
//!
//! Assumes a build that unwinds, as the profiles of `Cargo.toml` do. With `panic = "abort"` one request would end the
//! process, and all others with it.

use std::panic::AssertUnwindSafe;

use axum::response::Response;
use futures_util::FutureExt as _;

use crate::error::Error;
use crate::lifecycle::panic_message;

/// Runs `work`, and turns a panic in it into `core.internal`.
///
/// What `work` held is dropped by the unwinding: its transaction is rolled back by its guard. A combinator, as
/// `deadline::around` is and for its reason.
pub(in crate::middleware) fn around(
    work: impl Future<Output = Result<Response, Error>>,
) -> impl Future<Output = Result<Response, Error>> {
    AssertUnwindSafe(work).catch_unwind().map(|outcome| match outcome {
        Ok(outcome) => outcome,
        Err(panic) => Err(Error::internal(format!("panic: {}", panic_message(panic.as_ref())))),
    })
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Arc;

    use axum::body::Body;

    use super::*;
    use crate::error::codes;

    #[tokio::test]
    async fn h_04_a_panic_is_500_with_its_message_for_the_log_and_drops_what_was_held() {
        let held = Arc::new(());
        let work = {
            let held = Arc::clone(&held);
            async move {
                let _held = held;
                tokio::task::yield_now().await; // in a later poll, as after a query
                panic!("row {}", 7)
            }
        };
        let error = around(work).await.unwrap_err();
        assert_eq!(error.code(), &codes::INTERNAL);
        assert!(error.cause().unwrap().to_string().contains("row 7"));
        assert!(!error.to_string().contains("row 7"), "the client is not told");
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn what_does_not_panic_comes_out_as_it_is() {
        assert!(around(ready(Ok(Response::new(Body::empty())))).await.is_ok());
        let refused = around(ready(Err(Error::new(&codes::STALE)))).await.unwrap_err();
        assert_eq!(refused.code(), &codes::STALE);
    }
}
