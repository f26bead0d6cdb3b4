//! What is remembered of one destination: whether it fails too often to be asked (the circuit breaker), and how many
//! repetitions it may still be sent (the retry budget).

use std::time::Duration;

use tokio::time::Instant;

/// How many outcomes are looked at, and the fewest that tell anything.
const OUTCOMES: u32 = 16;
const FEWEST: u32 = 5;
/// How long a destination is left alone; doubled whenever it fails the trial call after it.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Stops calls to a destination of which half of the last 16 failed. After a pause one call is let through as a trial; when
/// it succeeds, all are again.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// The last outcomes, the newest in the lowest bit: 1 is a failure.
    outcomes: u16,
    known: u32,
    open: Option<Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

/// What an outcome has made of the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerChange {
    Opened,
    Closed,
}

impl Breaker {
    /// Whether a call may be made; else how long none may.
    ///
    /// Of the calls that come after a pause the first is the trial. The next pause begins with it, not with its outcome, so
    /// that a trial that is given up midway holds up nothing.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(pause) = &mut self.open else { return Ok(()) };
        if now < pause.until {
            return Err(pause.until - now);
        }
        pause.length = (pause.length * 2).min(LONGEST_PAUSE);
        pause.until = now + pause.length;
        Ok(())
    }

    /// Notes what became of a call that was admitted.
    pub(crate) fn note(&mut self, failed: bool, now: Instant) -> Option<BreakerChange> {
        if self.open.is_some() {
            if failed {
                return None;
            }
            *self = Self::default();
            return Some(BreakerChange::Closed);
        }
        self.outcomes = self.outcomes << 1 | u16::from(failed);
        self.known = (self.known + 1).min(OUTCOMES);
        if !failed || self.known < FEWEST || self.outcomes.count_ones() * 2 < self.known {
            return None;
        }
        self.open = Some(Pause { until: now + FIRST_PAUSE, length: FIRST_PAUSE });
        Some(BreakerChange::Opened)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// Lets a tenth of the calls be repeated, and ten more that were saved up: an outage is not answered with twice the load.
#[derive(Debug)]
pub(super) struct RetryBudget {
    /// In tenths of a repetition.
    tenths: u32,
}

impl RetryBudget {
    const MOST: u32 = 100;

    pub(super) fn earn(&mut self) {
        self.tenths = (self.tenths + 1).min(Self::MOST);
    }

    /// Whether one more repetition may be sent.
    pub(super) fn spend(&mut self) -> bool {
        let left = self.tenths.checked_sub(10);
        self.tenths = left.unwrap_or(self.tenths);
        left.is_some()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tenths: Self::MOST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_destination_that_fails_is_left_alone_and_tried_again_ever_less_often() {
        let (mut breaker, begun) = (Breaker::default(), Instant::now());
        for _ in 0..4 {
            assert_eq!((breaker.admit(begun), breaker.note(true, begun)), (Ok(()), None));
        }
        assert_eq!(breaker.note(true, begun), Some(BreakerChange::Opened));
        let mut now = begun;
        for pause in [5, 10, 20, 40, 60, 60] {
            assert_eq!(breaker.admit(now), Err(SECOND * pause));
            assert_eq!(breaker.admit(now + SECOND * pause - SECOND), Err(SECOND));
            now += SECOND * pause;
            assert_eq!(breaker.admit(now), Ok(()), "the trial");
            assert!(breaker.admit(now).is_err(), "and no second one");
            assert_eq!(breaker.note(true, now), None);
        }
        now += SECOND * 60;
        assert_eq!(breaker.admit(now), Ok(()));
        assert_eq!(breaker.note(false, now), Some(BreakerChange::Closed));
        assert!(!breaker.is_open() && breaker.admit(now).is_ok());
    }

    #[test]
    fn a_trial_that_is_given_up_midway_blocks_nothing() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert_eq!((0..5).filter_map(|_| breaker.note(true, now)).count(), 1);
        assert_eq!(breaker.admit(now + SECOND * 5), Ok(()), "and it never tells its outcome");
        assert_eq!(breaker.admit(now + SECOND * 15), Ok(()));
    }

    #[test]
    fn one_call_in_four_may_fail() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for call in 0..1000 {
            assert_eq!(breaker.note(call % 4 == 3, now), None);
        }
        let opened = (0..8).filter_map(|_| breaker.note(true, now)).count();
        assert_eq!(opened, 1, "and half of the last sixteen may not");
    }

    #[test]
    fn a_tenth_of_the_calls_may_be_repeated() {
        let mut budget = RetryBudget::default();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10, "what was saved up");
        let mut repeated = 0;
        for _ in 0..1000 {
            budget.earn();
            repeated += usize::from(budget.spend());
        }
        assert_eq!(repeated, 100);
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10, "no more is saved up");
    }
}
