use std::time::Instant;

/// Runs `work` and logs how long it took, in ms, at level debug; also when it panics or is dropped before its end.
///
/// An error is a value like any other: it is returned, and its time logged.
///
/// ```
/// # async fn find_users() -> Vec<u8> { Vec::new() }
/// # async fn example() {
/// let users = erp_core::logging::profile("find-users", find_users()).await;
/// # }
/// ```
pub async fn profile<T>(name: &str, work: impl Future<Output = T>) -> T {
    let mut stopwatch = Stopwatch { name, started: Instant::now(), outcome: "dropped" };
    let value = work.await;
    stopwatch.outcome = "complete";
    value
}

struct Stopwatch<'a> {
    name: &'a str,
    started: Instant,
    outcome: &'static str,
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        let duration = self.started.elapsed().as_secs_f64() * 1000.0;
        let outcome = if std::thread::panicking() { "panicked" } else { self.outcome };
        tracing::debug!(profile = self.name, duration, outcome, "Profile");
    }
}
