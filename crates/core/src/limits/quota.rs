//! The arithmetic of a limit: the generic cell rate algorithm (ITU-T I.371), in whole microseconds.

use std::time::Duration;

/// So many units in a window: they may be spent at once, and come back one by one, evenly over the window.
///
/// What a key has spent is the time until all of it is back. Each unit costs one `interval`, and what is spent never
/// exceeds `limit` intervals. Microseconds, since Redis's clock counts those and its scripts' numbers hold no more: so
/// both stores count alike. An interval that does not come out even is rounded up, so that never more than `limit`
/// units come in a window's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    limit: u32,
    window: Duration,
    /// Microseconds.
    interval: u64,
}

impl Quota {
    /// `limit` units in `window`; at least one, and at most one a microsecond.
    pub fn new(limit: u32, window: Duration) -> Self {
        let limit = limit.max(1);
        let interval = (micros(window)).div_ceil(u64::from(limit)).max(1);
        Self { limit, window, interval }
    }

    /// The same window for another number of units.
    #[must_use]
    pub(crate) fn with_limit(self, limit: u32) -> Self {
        Self::new(limit, self.window)
    }

    /// What one of so many instances may let through when they cannot ask each other.
    #[must_use]
    pub(super) fn share(self, instances: u32) -> Self {
        self.with_limit(self.limit / instances.max(1))
    }

    /// Units in a window.
    pub fn limit(self) -> u32 {
        self.limit
    }

    pub(super) fn window(self) -> Duration {
        self.window
    }

    /// The window in seconds, begun ones included.
    pub fn window_seconds(self) -> u64 {
        self.window.as_micros().div_ceil(1_000_000) as u64
    }

    pub(super) fn interval(self) -> u64 {
        self.interval
    }

    /// The most that can be spent.
    pub(super) fn capacity(self) -> u64 {
        self.interval.saturating_mul(u64::from(self.limit))
    }

    /// What is spent at `now` by a key whose units are all back at `back`.
    pub(super) fn spent(self, back: u64, now: u64) -> u64 {
        back.saturating_sub(now).min(self.capacity())
    }

    /// Whether another unit is left.
    pub(super) fn admits(self, spent: u64) -> bool {
        spent + self.interval <= self.capacity()
    }

    /// Whole units that are left.
    pub(super) fn remaining(self, spent: u64) -> u32 {
        u32::try_from(self.capacity().saturating_sub(spent) / self.interval).unwrap_or(u32::MAX)
    }

    /// Units that are not back yet, begun ones included.
    pub(super) fn used(self, spent: u64) -> u32 {
        self.limit - self.remaining(spent).min(self.limit)
    }

    /// How long until there is one unit more than now.
    pub(super) fn next(self, spent: u64) -> Duration {
        Duration::from_micros(self.interval - self.capacity().saturating_sub(spent) % self.interval)
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One key's bucket of units, counted the plain way: the moments at which each unit comes back.
    #[derive(Default)]
    struct Naive(Vec<u64>);

    impl Naive {
        fn charge(&mut self, quota: Quota, now: u64) -> bool {
            self.0.retain(|back| *back > now);
            let allowed = self.0.len() < quota.limit as usize;
            if allowed {
                self.0.push(self.0.last().copied().unwrap_or(now).max(now) + quota.interval);
            }
            allowed
        }
    }

    fn charge(quota: Quota, back: &mut u64, now: u64) -> bool {
        let spent = quota.spent(*back, now);
        let allowed = quota.admits(spent);
        if allowed {
            *back = now + spent + quota.interval;
        }
        allowed
    }

    /// Numbers that repeat: xorshift64.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn l_01_it_decides_as_a_bucket_of_units_does() {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..200 {
            let limit = u32::try_from(random(&mut state) % 20 + 1).unwrap();
            let quota = Quota::new(limit, Duration::from_micros(random(&mut state) % 5000 + 1));
            let (mut back, mut naive, mut now) = (0, Naive::default(), 1_770_000_000_000_000);
            for step in 0..500 {
                now += random(&mut state) % (2 * quota.interval);
                let (ours, theirs) = (charge(quota, &mut back, now), naive.charge(quota, now));
                assert_eq!(ours, theirs, "{quota:?}, step {step}");
                let spent = quota.spent(back, now);
                naive.0.retain(|unit| *unit > now);
                assert_eq!(quota.used(spent) as usize, naive.0.len(), "{quota:?}, step {step}");
                let next = naive.0.first().map_or(quota.interval, |unit| unit - now);
                assert_eq!(quota.next(spent), Duration::from_micros(next), "{quota:?}, step {step}");
            }
        }
    }

    #[test]
    fn l_01_no_window_lets_more_than_its_units_come_back() {
        for (limit, window) in [(100, 900_000_000), (7, 1_000_000), (3, 10), (1_000_000, 1_000_000), (5, 3)] {
            let quota = Quota::new(limit, Duration::from_micros(window));
            let mut back = 0;
            let at_once = (0..=limit).filter(|_| charge(quota, &mut back, 1000)).count();
            assert_eq!(at_once, limit as usize);
            let later = (0..=limit).filter(|_| charge(quota, &mut back, 1000 + window)).count();
            assert!(later <= limit as usize, "{quota:?}: {later}");
        }
    }

    #[test]
    fn the_header_shows_whole_seconds() {
        assert_eq!(Quota::new(1, Duration::from_millis(1500)).window_seconds(), 2);
        assert_eq!(Quota::new(1, Duration::from_secs(900)).window_seconds(), 900);
    }
}
