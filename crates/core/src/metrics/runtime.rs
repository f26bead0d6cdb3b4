//! How the runtime that runs requests and tasks is doing.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::lifecycle::{Background, StopStage};

/// How often the event loop's lag is measured.
const INTERVAL: Duration = Duration::from_millis(100);

impl Metrics {
    /// Brings the `tokio_*` metrics up to date; outside a runtime, does nothing.
    pub fn observe_runtime(&self) {
        let Some(runtime) = Handle::try_current().ok().filter(|_| self.is_enabled()) else { return };
        let runtime = runtime.metrics();
        let workers = runtime.num_workers();
        let busy: Duration = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        self.tokio_workers.with(&[]).set(workers as f64);
        self.tokio_busy_seconds_total.with(&[]).catch_up(busy.as_secs_f64());
        self.tokio_alive_tasks.with(&[]).set(runtime.num_alive_tasks() as f64);
        self.tokio_global_queue_depth.with(&[]).set(runtime.global_queue_depth() as f64);
    }
}

/// Measures how late timers fire.
pub(crate) static LAG: Background<Metrics> = Background {
    name: "event loop lag",
    about: "Measures how late timers fire.",
    critical: false,
    stops: StopStage::Work,
    run: |metrics, stop| Box::pin(watch_lag(metrics, stop.token().clone())),
    observe: Metrics::observe_runtime,
};

/// Measures how late a timer fires, ten times a second, until `stop`.
pub async fn watch_lag(metrics: Metrics, stop: CancellationToken) {
    let lag = metrics.event_loop_lag_seconds.with(&[]);
    loop {
        let due = Instant::now() + INTERVAL;
        if stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none() {
            return;
        }
        lag.observe(due.elapsed().as_secs_f64());
    }
}
