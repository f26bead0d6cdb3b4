//! Bounds a request in time. What it held is dropped, so its statement is cancelled and rolled back (D-07).
//!
//! Assumes that the load balancer waits longer than `REQUEST_TIMEOUT`: else its clients get an answer of its own, and
//! nothing of ours says when to come back.

use std::time::Duration;

use axum::response::Response;
use futures_util::FutureExt as _;

use crate::error::{Error, codes};

/// Runs `work` for at most `limit`.
///
/// A combinator and no `async fn`, which would hold `work` twice: as its argument and where it is awaited. Two such
/// layers make a request four times as large, and it is moved as a whole.
pub(in crate::middleware) fn around(
    limit: Duration,
    work: impl Future<Output = Result<Response, Error>>,
) -> impl Future<Output = Result<Response, Error>> {
    tokio::time::timeout(limit, work).map(|outcome| match outcome {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(&codes::TIMEOUT)
            .retry_after(Duration::from_secs(1))
            .because("it took longer than REQUEST_TIMEOUT")),
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;

    use axum::body::Body;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn d_07_at_the_limit_the_work_is_dropped_and_the_client_told_when_to_come_back() {
        let held = Arc::new(());
        let work = {
            let held = Arc::clone(&held);
            async move {
                let _held = held;
                pending().await
            }
        };
        let begin = Instant::now();
        let error = around(Duration::from_millis(70), work).await.unwrap_err();
        let took = begin.elapsed();
        assert!((70..90).contains(&took.as_millis()), "{took:?}"); // the clock stands still, and goes in whole milliseconds
        assert_eq!(Arc::strong_count(&held), 1, "what the work held is dropped");
        let answer = error.render("/", "test", false);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_in_time_comes_out_as_it_is() {
        for limit in [Duration::ZERO, Duration::from_millis(1), Duration::MAX] {
            assert!(around(limit, ready(Ok(Response::new(Body::empty())))).await.is_ok(), "{limit:?}");
            let refused = around(limit, ready(Err(Error::new(&codes::STALE)))).await.unwrap_err();
            assert_eq!(refused.code(), &codes::STALE, "{limit:?}");
        }
    }
}
