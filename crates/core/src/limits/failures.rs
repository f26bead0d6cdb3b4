//! Failed attempts at something that is guarded. They are few and each of them matters, so that the moment of each is kept:
//! no window of time, wherever it begins, holds more of them than the limit.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::quota::micros;
use super::{MOST_KEYS, Quota, key::Key};

/// Counters of one process. Each attempt costs tens of milliseconds of hashing, so that a window seldom sees as many.
const MOST: usize = 128 * 1024;
/// A /48 of IPv6 may fail so many times as often as one network in it.
const SITE: u32 = 4;
/// No window is longer (`RATE_LIMIT_AUTH_WINDOW`).
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// When a counter refuses. Times are in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Failures that are free.
    pub(super) most: u32,
    /// How long one is remembered. After `most` there is no further attempt until the oldest is forgotten.
    pub(super) window: u64,
}

/// One counter of failures.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailureCount {
    pub(super) key: Key,
    pub(super) rule: Rule,
}

/// Where one counter stands, the attempt that was asked for included if it was let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) failures: u32,
    /// Microseconds until an attempt is let in; 0 for one that was.
    pub(super) wait: u64,
    /// Microseconds until the oldest failure is forgotten.
    pub(super) next: u64,
}

/// What a store says to an attempt.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Judgement {
    pub(super) allowed: bool,
    /// The attempt's own moment, by which it is given back.
    pub(super) moment: u64,
    pub(super) counts: [Count; MOST_KEYS],
}

impl Rule {
    /// Of an address, of an account from there, and of a known device: so many in any window.
    pub(super) fn window(quota: Quota) -> Self {
        Self { most: quota.limit(), window: micros(quota.window()) }
    }

    /// Of a /48 of IPv6, which one attacker may have.
    pub(super) fn site(quota: Quota) -> Self {
        Self { most: quota.limit().saturating_mul(SITE), ..Self::window(quota) }
    }

    /// How long until an attempt is let in, after these failures, the oldest first.
    fn wait(self, failures: &[u64], now: u64) -> u64 {
        let over = failures.len().checked_sub(self.most as usize);
        let free_at = over.and_then(|over| failures.get(over)).map_or(0, |oldest| oldest + self.window);
        free_at.saturating_sub(now)
    }

    fn count(self, failures: &[u64], now: u64) -> Count {
        let next = failures.first().map_or(self.window, |oldest| (oldest + self.window).saturating_sub(now));
        Count { failures: failures.len() as u32, wait: self.wait(failures, now), next }
    }
}

/// The failures that this process knows of. Times go forward, so that each list is in order.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<u128, Vec<u64>>>);

impl Failures {
    /// Charges all counters one attempt, or none.
    pub(super) fn charge(&self, now: u64, counters: &[FailureCount]) -> Judgement {
        let mut known = self.lock();
        let mut answer = Judgement { allowed: true, moment: now, ..Judgement::default() };
        for (FailureCount { key, rule }, count) in counters.iter().zip(&mut answer.counts) {
            let failures = known.get(&key.id).map_or(&[][..], |failures| live(failures, *rule, now));
            *count = rule.count(failures, now);
            answer.allowed &= count.wait == 0;
        }
        if answer.allowed {
            make_room(&mut known, counters.len(), now);
            for (FailureCount { key, rule }, count) in counters.iter().zip(&mut answer.counts) {
                let failures = known.entry(key.id).or_default();
                let forgotten = failures.len() - live(failures, *rule, now).len();
                failures.drain(..forgotten);
                failures.push(now);
                *count = Count { wait: 0, ..rule.count(failures, now) };
            }
        }
        answer
    }

    /// Takes an attempt back that did not fail.
    pub(super) fn forget(&self, moment: u64, counters: &[FailureCount]) {
        let mut known = self.lock();
        for FailureCount { key, .. } in counters {
            if let Some(failures) = known.get_mut(&key.id)
                && let Some(own) = failures.iter().rposition(|failure| *failure == moment)
            {
                failures.remove(own);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Vec<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failures that are still remembered.
fn live(failures: &[u64], rule: Rule, now: u64) -> &[u64] {
    let forgotten = failures.partition_point(|failure| failure + rule.window <= now);
    failures.get(forgotten..).unwrap_or_default()
}

/// Forgets what is older than any window, and when that is not enough, those who have failed least: those at the limit stay.
fn make_room(known: &mut HashMap<u128, Vec<u64>>, wanted: usize, now: u64) {
    if known.len() + wanted <= MOST {
        return;
    }
    known.retain(|_, failures| failures.last().is_some_and(|last| last + micros(LONGEST) > now));
    let mut least = 1;
    while known.len() + wanted > MOST {
        known.retain(|_, failures| failures.len() > least);
        least *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::key::Scope;

    const SECOND: u64 = 1_000_000;
    const WINDOW: u64 = 900 * SECOND;

    fn quota() -> Quota {
        Quota::new(5, Duration::from_secs(900))
    }

    fn counter(id: u128, rule: Rule) -> [FailureCount; 1] {
        [FailureCount { key: Key { scope: Scope::Failures, policy: "p", id }, rule }]
    }

    #[test]
    fn a_07_no_window_wherever_it_begins_holds_more_than_the_limit() {
        for step in [1, 7, 60, 179, 180, 181, 299, 450] {
            let (failures, counter) = (Failures::default(), counter(1, Rule::window(quota())));
            let mut let_in: Vec<u64> = Vec::new();
            for moment in (0..10 * 900).step_by(step).map(|second| second * SECOND) {
                let lately = let_in.iter().filter(|at| **at + WINDOW > moment).count();
                assert_eq!(
                    failures.charge(moment, &counter).allowed,
                    lately < 5,
                    "every {step} s: {let_in:?}"
                );
                if lately < 5 {
                    let_in.push(moment);
                }
            }
        }
    }

    #[test]
    fn what_is_given_back_is_the_attempts_own() {
        let (failures, counter) = (Failures::default(), counter(1, Rule::window(quota())));
        for second in 0..5 {
            assert!(failures.charge(second * SECOND, &counter).allowed);
        }
        failures.forget(2 * SECOND, &counter);
        assert!(failures.charge(5 * SECOND, &counter).allowed);
        assert_eq!(
            failures.charge(5 * SECOND, &counter).counts[0].wait,
            WINDOW - 5 * SECOND,
            "the first one counts"
        );
        failures.forget(77, &counter);
        assert!(!failures.charge(6 * SECOND, &counter).allowed);
    }

    #[test]
    fn l_05_memory_is_bounded_and_whoever_is_at_the_limit_is_forgotten_last() {
        let failures = Failures::default();
        let rule = Rule::window(quota());
        (0..5).for_each(|_| assert!(failures.charge(0, &counter(0, rule)).allowed));
        for id in 1..3 * MOST as u128 {
            assert!(failures.charge(1, &counter(id, rule)).allowed);
        }
        assert!(failures.lock().len() <= MOST);
        assert!(!failures.charge(2, &counter(0, rule)).allowed);
    }
}
