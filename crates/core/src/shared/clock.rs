use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// The time of day as an argument, so that a test can hold it still.
///
/// [`now`](Clock::now) is for dates that are stored, signed or shown. It can be set back: how much time has passed is
/// told by [`instant`](Clock::instant), which cannot.
pub trait Clock: Send + Sync + 'static {
    /// The present moment, UTC.
    fn now(&self) -> Timestamp;

    /// A moment that never lies before an earlier one, whatever becomes of the time of day.
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that may read the machine's clock
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    /// Microseconds since 1970.
    now: AtomicI64,
    begun: Instant,
    /// Microseconds since then: goes forward only.
    passed: AtomicU64,
}

impl ManualClock {
    /// A clock standing at `start`, with a resolution of a microsecond.
    pub fn new(start: Timestamp) -> Self {
        Self { now: AtomicI64::new(start.as_microsecond()), begun: Instant::now(), passed: AtomicU64::new(0) }
    }

    /// Lets time pass. A negative `by` sets the time of day back, as a machine's clock can be, while no time passes.
    pub fn advance(&self, by: SignedDuration) {
        let microseconds = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.now.fetch_add(microseconds, Ordering::SeqCst);
        self.passed.fetch_add(u64::try_from(microseconds).unwrap_or(0), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.now.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }

    fn instant(&self) -> Instant {
        self.begun + Duration::from_micros(self.passed.load(Ordering::SeqCst))
    }
}
