//! What is remembered of each destination, in bounds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Breaker, BreakerChange, RetryBudget};
use super::destination::{Aim, origin};
use crate::shared::TenantId;

/// Most destinations that are remembered, and for how long one is that is not used. Of tenants' URLs there can be any number;
/// a thousand active ones take 200 KiB.
const MOST: usize = 10_000;
const KEPT: Duration = Duration::from_secs(600);

/// A destination: what the operator calls it, or the tenant whose URL it is; and its origin. One tenant's failures at a
/// host that many use say nothing about another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DestinationKey {
    name: &'static str,
    tenant: Option<TenantId>,
    origin: String,
}

impl DestinationKey {
    pub(super) fn of(aim: &Aim, url: &reqwest::Url) -> Self {
        Self { name: aim.name(), tenant: aim.tenant(), origin: origin(url) }
    }
}

#[derive(Debug)]
struct DestinationState {
    breaker: Breaker,
    budget: RetryBudget,
    used: Instant,
}

/// The destinations that are remembered.
#[derive(Debug, Default)]
pub(super) struct KnownDestinations(Mutex<HashMap<DestinationKey, DestinationState>>);

impl KnownDestinations {
    /// Whether a call may be made; else how long none may. One that may earns a part of a repetition.
    pub(super) fn admit(&self, key: &DestinationKey) -> Result<(), Duration> {
        self.with(key, |state, now| {
            state.breaker.admit(now)?;
            state.budget.earn();
            Ok(())
        })
    }

    /// Notes what became of an attempt.
    pub(super) fn note(&self, key: &DestinationKey, failed: bool) -> Option<BreakerChange> {
        self.with(key, |state, now| state.breaker.note(failed, now))
    }

    /// Whether one more repetition may be sent: the budget has one left, and the breaker has not opened meanwhile.
    pub(super) fn repeats(&self, key: &DestinationKey) -> bool {
        self.with(key, |state, _| !state.breaker.is_open() && state.budget.spend())
    }

    /// How many breakers of destinations of this name are open.
    pub(super) fn open(&self, name: &str) -> usize {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter(|(key, state)| key.name == name && state.breaker.is_open()).count()
    }

    fn with<T>(&self, key: &DestinationKey, act: impl FnOnce(&mut DestinationState, Instant) -> T) -> T {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(key) && known.len() >= MOST {
            forget(&mut known, now);
        }
        let fresh =
            || DestinationState { breaker: Breaker::default(), budget: RetryBudget::default(), used: now };
        let state = known.entry(key.clone()).or_insert_with(fresh);
        state.used = now;
        act(state, now)
    }
}

/// Makes room: forgets what was not used for a while, and if that is not a tenth, the tenth that was used longest ago.
fn forget(known: &mut HashMap<DestinationKey, DestinationState>, now: Instant) {
    known.retain(|_, state| now - state.used < KEPT);
    if known.len() > MOST - MOST / 10 {
        let mut used: Vec<_> = known.values().map(|state| state.used).collect();
        used.sort_unstable();
        let bound = used.get(MOST / 10).copied().unwrap_or(now);
        known.retain(|_, state| state.used > bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> DestinationKey {
        DestinationKey { name: "tenants", tenant: None, origin: format!("https://{number}.example") }
    }

    #[tokio::test(start_paused = true)]
    async fn destinations_are_remembered_in_bounds_and_the_latest_longest() {
        let known = KnownDestinations::default();
        for number in 0..3 * MOST {
            assert!(known.admit(&key(number)).is_ok());
            tokio::time::advance(Duration::from_micros(1)).await;
        }
        let held = || known.0.lock().unwrap();
        let count = held().len();
        assert!((MOST - MOST / 10..=MOST).contains(&count), "{count}");
        assert!(held().contains_key(&key(3 * MOST - 1)) && held().contains_key(&key(3 * MOST - MOST / 2)));
        tokio::time::advance(KEPT).await;
        assert!((0..MOST / 5).all(|number| known.admit(&key(number)).is_ok()));
        assert!(held().len() <= MOST / 5 + 1);
    }
}
