//! How many jobs of a tenant may wait: `JOB_BACKLOG`.
//!
//! A counter in the database would make all enqueuing transactions of a tenant wait for each other. So each process
//! guesses: it counts what it enqueues itself, and has a tenant counted anew that comes near the limit. Several processes
//! together may exceed the limit by what they enqueue within that second.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::shared::TenantId;

/// How long a count is believed that says the limit is reached.
pub(crate) const BELIEVED: Duration = Duration::from_secs(1);
/// More tenants than this are not watched at a time.
const MOST: usize = 10_000;

/// What this process believes of its tenants' backlogs.
pub struct Backlogs {
    limit: u32,
    tenants: Mutex<HashMap<TenantId, Backlog>>,
}

struct Backlog {
    guess: u32,
    counted: Instant,
}

impl Backlogs {
    /// With `JOB_BACKLOG` as the limit.
    pub fn new(limit: u32) -> Self {
        Self { limit, tenants: Mutex::default() }
    }

    /// Counts one more job; `false` where the tenant has as many as it may have.
    pub(crate) fn admit(&self, tenant: TenantId, now: Instant) -> bool {
        let mut tenants = self.lock();
        if tenants.len() >= MOST && !tenants.contains_key(&tenant) {
            tenants.retain(|_, backlog| backlog.guess >= self.limit / 2);
            if tenants.len() >= MOST {
                return true;
            }
        }
        let backlog = tenants.entry(tenant).or_insert(Backlog { guess: 0, counted: now });
        if backlog.guess >= self.limit {
            return false;
        }
        backlog.guess += 1;
        true
    }

    /// The tenants that are to be counted anew.
    pub(crate) fn doubtful(&self, now: Instant) -> Vec<TenantId> {
        let near = |backlog: &Backlog| {
            backlog.guess >= self.limit / 2 && now.saturating_duration_since(backlog.counted) >= BELIEVED / 2
        };
        self.lock().iter().filter(|(_, backlog)| near(backlog)).map(|(tenant, _)| *tenant).collect()
    }

    /// How many are counted at most: one more than there may be.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// What was counted.
    pub(crate) fn counted(&self, tenant: TenantId, jobs: u32, now: Instant) {
        self.lock().insert(tenant, Backlog { guess: jobs, counted: now });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Backlog>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
