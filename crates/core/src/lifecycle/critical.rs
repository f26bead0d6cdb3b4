//! Background tasks that the process cannot do without.

use std::panic::AssertUnwindSafe;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::Lifecycle;
use crate::shared::panic_message;

/// A task that dies so often within [`WITHIN`] will not live by being started once more.
const MOST_DEATHS: u32 = 5;
const WITHIN: Duration = Duration::from_secs(60);
/// How long the first restart waits; each further one twice as long.
const PAUSE: Duration = Duration::from_millis(100);

impl Lifecycle {
    /// Runs what `make` makes until the stop of background tasks. When it returns or panics before, that is logged as an
    /// error and it is made again; at the fifth time within a minute the process drains and ends with `Exit::Internal`.
    pub fn spawn_critical<F>(&self, name: &'static str, make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.background().spawn(self.clone().keep_running(name, self.stop_background().clone(), make));
    }

    /// The same for a task that takes connections: it runs until the stop of serving, which waits for it.
    pub fn serve_critical<F>(&self, name: &'static str, make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.connections().spawn(self.clone().keep_running(name, self.stop_serving().clone(), make));
    }

    /// How often each critical task was made again, from 0: for metrics.
    pub fn restarts(&self) -> Vec<(&'static str, u64)> {
        let restarts = self.0.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        restarts.iter().map(|(task, count)| (*task, *count)).collect()
    }

    /// Cancelled when a critical task cannot be kept running.
    pub fn failed(&self) -> &CancellationToken {
        &self.0.failed
    }

    fn count_restarts(&self, task: &'static str, more: u64) {
        *self.0.restarts.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default() += more;
    }

    async fn keep_running<F>(self, name: &'static str, stop: CancellationToken, mut make: impl FnMut() -> F)
    where
        F: Future<Output = ()>,
    {
        self.count_restarts(name, 0);
        let mut deaths = 0;
        loop {
            let started = Instant::now();
            let end = AssertUnwindSafe(async { make().await }).catch_unwind().await;
            if stop.is_cancelled() {
                return;
            }
            if end.is_err() {
                self.count_panic(name);
            }
            deaths = if started.elapsed() > WITHIN { 1 } else { deaths + 1 };
            let reason = end.as_ref().map_or_else(|panic| panic_message(panic.as_ref()), |()| "it returned");
            tracing::error!(task = name, deaths, reason, "A background task ended unexpectedly");
            if deaths == MOST_DEATHS {
                return self.failed().cancel();
            }
            let pause = tokio::time::sleep(PAUSE * 2u32.pow(deaths - 1));
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            self.count_restarts(name, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A task that panics or returns so many times, and then lives.
    fn dying(lifecycle: &Lifecycle, times: u32) -> Arc<AtomicU32> {
        let starts = Arc::new(AtomicU32::new(0));
        let (counted, stop) = (Arc::clone(&starts), lifecycle.stop_background().clone());
        lifecycle.spawn_critical("dying", move || {
            let (start, stop) = (counted.fetch_add(1, Ordering::SeqCst), stop.clone());
            async move {
                assert!(start >= times || start % 2 == 0, "odd starts panic");
                if start >= times {
                    stop.cancelled().await;
                }
            }
        });
        starts
    }

    #[tokio::test]
    async fn a_dead_task_is_made_again_until_the_stop() {
        let lifecycle = Lifecycle::new();
        let starts = dying(&lifecycle, 2);
        let deadline = Instant::now() + Duration::from_secs(10);
        while starts.load(Ordering::SeqCst) < 3 {
            assert!(Instant::now() < deadline, "it is made again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(lifecycle.stop(Duration::from_secs(5)).await);
        assert!(!lifecycle.failed().is_cancelled());
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        assert_eq!(lifecycle.restarts(), [("dying", 2)]);
    }

    #[tokio::test]
    async fn one_that_takes_connections_lives_as_long_as_they_are_taken() {
        let lifecycle = Lifecycle::new();
        let starts = Arc::new(AtomicU32::new(0));
        let (counted, stop) = (Arc::clone(&starts), lifecycle.stop_serving().clone());
        lifecycle.serve_critical("dying", move || {
            let (start, stop) = (counted.fetch_add(1, Ordering::SeqCst), stop.clone());
            async move {
                assert!(start > 0, "the first dies");
                stop.cancelled().await;
            }
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        while starts.load(Ordering::SeqCst) < 2 {
            assert!(Instant::now() < deadline, "it is made again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(lifecycle.stop(Duration::from_secs(5)).await);
        assert_eq!(starts.load(Ordering::SeqCst), 2, "at the stop its end is no death");
    }

    #[tokio::test]
    async fn one_that_keeps_dying_takes_the_process_along() {
        let lifecycle = Lifecycle::new();
        let starts = dying(&lifecycle, u32::MAX);
        lifecycle.failed().cancelled().await;
        assert_eq!(starts.load(Ordering::SeqCst), MOST_DEATHS);
        assert_eq!(lifecycle.panics(), [("dying", 2)], "the rest returned");
    }
}
