//! How long things take: histograms called `<name>_duration_seconds`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Labels, Metrics};

/// Most timers that may be open; a further one drops the oldest, which somebody forgot to stop.
const MOST_OPEN: usize = 10_000;

/// A timer that was started by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerId(u64);

/// Records the time since it was made when it is dropped.
#[must_use = "the time is recorded when this is dropped"]
pub struct Timing<'a> {
    metrics: &'a Metrics,
    name: &'a str,
    labels: Labels<'a>,
    started: Instant,
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        self.metrics.record_duration(self.name, self.started.elapsed(), self.labels);
    }
}

impl Metrics {
    /// Records the time until the answer is dropped, in the histogram `<name>_duration_seconds`.
    pub fn time<'a>(&'a self, name: &'a str, labels: Labels<'a>) -> Timing<'a> {
        Timing { metrics: self, name, labels, started: Instant::now() }
    }

    /// Runs `work` and records how long it took; also when it fails, panics or is dropped before its end.
    pub async fn measure<T>(&self, name: &str, labels: Labels<'_>, work: impl Future<Output = T>) -> T {
        let _timing = self.time(name, labels);
        work.await
    }

    /// Starts a timer whose end is elsewhere; where it is not, [`Metrics::time`] cannot be forgotten.
    pub fn start_timer(&self, name: &str, labels: Labels<'_>) -> TimerId {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let timer = Timer { name: name.to_owned(), labels, started: Instant::now() };
        let mut timers = self.0.timers.0.lock().unwrap_or_else(PoisonError::into_inner);
        timers.next += 1;
        let id = timers.next;
        timers.open.insert(id, timer);
        if timers.open.len() > MOST_OPEN {
            timers.open.pop_first();
            self.metrics_timers_dropped_total.with(&[]).inc();
        }
        TimerId(id)
    }

    /// Stops a timer, records its time and returns it; `None` when it was stopped before, or dropped as the oldest of
    /// 10,000.
    pub fn stop_timer(&self, id: TimerId) -> Option<Duration> {
        let timer = self.0.timers.0.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&id.0)?;
        let duration = timer.started.elapsed();
        let labels: Vec<_> = timer.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.record_duration(&timer.name, duration, &labels);
        Some(duration)
    }

    fn record_duration(&self, name: &str, duration: Duration, labels: Labels<'_>) {
        self.histogram(&format!("{name}_duration_seconds"), duration.as_secs_f64(), &[], labels);
    }
}

/// The timers that were started by name and not stopped.
#[derive(Default)]
pub(super) struct Timers(Mutex<Open>);

#[derive(Default)]
struct Open {
    next: u64,
    /// Oldest first.
    open: BTreeMap<u64, Timer>,
}

struct Timer {
    name: String,
    labels: Vec<(String, String)>,
    started: Instant,
}
