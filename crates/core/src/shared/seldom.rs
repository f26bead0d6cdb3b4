use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// Says yes at most once in an interval, however often it is asked: for log lines that a stranger can cause.
pub struct Seldom {
    every: Duration,
    begun: Instant,
    /// Milliseconds after `begun` from which on the next yes may be said.
    next: AtomicU64,
}

impl Seldom {
    /// The first question is answered with yes, the next `every` later.
    pub fn new(every: Duration) -> Self {
        Self { every, begun: Instant::now(), next: AtomicU64::new(0) }
    }

    /// Whether it is time again; of several who ask at once, one is told so.
    pub fn is_due(&self) -> bool {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.begun.elapsed());
        let next = self.next.load(Relaxed);
        let after = now.saturating_add(millis(self.every));
        now >= next && self.next.compare_exchange(next, after, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_is_said_once_an_interval() {
        let minute = Seldom::new(Duration::from_secs(60));
        assert_eq!((0..1000).filter(|_| minute.is_due()).count(), 1);
        let always = Seldom::new(Duration::ZERO);
        assert!(always.is_due() && always.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn l_04_and_again_when_the_interval_is_over() {
        let seldom = Seldom::new(Duration::from_secs(10));
        assert!(seldom.is_due() && !seldom.is_due());
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert!(!seldom.is_due());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(seldom.is_due() && !seldom.is_due());
    }
}
