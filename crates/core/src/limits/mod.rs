//! Rate limits: how many requests, or failed attempts, a client may make in a window of time.
//!
//! Counted by this process alone, or with `REDIS_URL` by all instances together. While Redis does not answer, each
//! instance counts by itself, with its share of the limit.

mod attempt;
mod failures;
mod key;
mod policy;
mod quota;
mod shared;
mod slow_down;
mod table;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use attempt::{AccountName, Attempt, Charged};
pub use key::Whom;
pub(crate) use policy::REFUSALS;
pub use policy::{Counts, DEFAULT, Policy};
pub use quota::Quota;
pub use shared::Shared;
pub(crate) use shared::probe;
pub use slow_down::SlowDown;

use failures::{FailureCount, Failures, Judgement};
use key::{Key, Names};
use quota::micros;
use table::Table;
use uuid::Uuid;

use crate::error::{Error, codes};
use crate::metrics::Metrics;
use crate::shared::{Clock, Secret};

/// Most counters that one request touches.
const MOST_KEYS: usize = 4;

/// What each of a decision's keys had spent before it, in microseconds.
type Spent = [u64; MOST_KEYS];

/// One counter, and by which quota it is charged: see [`Limits::counter`].
#[derive(Clone, Copy)]
pub struct Charge {
    policy: &'static Policy,
    quota: Quota,
    key: Key,
}

impl Charge {
    fn slot(&self) -> u64 {
        self.key.id as u64
    }
}

/// What a store says to a decision.
#[derive(Debug, Clone, Copy, Default)]
struct Charging {
    allowed: bool,
    spent: Spent,
}

/// Where a client stands with the policy that is closest to its end.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The policy.
    pub policy: &'static Policy,
    /// Its quota, as it is for this client.
    pub quota: Quota,
    /// Units that are left.
    pub remaining: u32,
    /// How long until there is one more.
    pub next: Duration,
}

/// Whether a request may go on.
#[derive(Debug)]
pub struct Decision {
    /// Where the client stands now; `None` when nothing was to be counted.
    pub standing: Option<Standing>,
    /// The policies that refuse, each once; empty when it may go on.
    pub violated: Vec<&'static str>,
}

/// How limits are counted.
pub struct LimitOptions {
    /// Names the counters: `JWT_SECRET`, which all instances share.
    pub secret: Secret<String>,
    /// How many instances share the limits when they cannot ask each other: `INSTANCES`.
    pub instances: u32,
    /// The store of all instances.
    pub shared: Option<Shared>,
    /// How much time has passed, for counters of this process. The time of day does not count: it can be set back.
    pub clock: Arc<dyn Clock>,
    /// Where decisions are counted.
    pub metrics: Metrics,
}

/// The counters, and who decides by them. Clones share everything.
#[derive(Clone)]
pub struct Limits(Arc<LimitsInner>);

struct LimitsInner {
    names: Names,
    table: Table,
    failures: Failures,
    instances: u32,
    shared: Option<Shared>,
    clock: Arc<dyn Clock>,
    begun: Instant,
    metrics: Metrics,
}

/// Which store a unit was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountedIn {
    Here,
    Shared,
}

impl Limits {
    /// Counters that all stand at nothing.
    pub fn new(options: LimitOptions) -> Self {
        let LimitOptions { secret, instances, shared, clock, metrics } = options;
        Self(Arc::new(LimitsInner {
            names: Names::new(&secret),
            table: Table::new(),
            failures: Failures::default(),
            instances,
            shared,
            begun: clock.instant(),
            clock,
            metrics,
        }))
    }

    /// The counter of `policy` for `whom`.
    pub fn counter(&self, policy: &'static Policy, quota: Quota, whom: Whom<'_>) -> Charge {
        Charge { policy, quota, key: self.0.names.key(policy.name, whom) }
    }

    /// A name for somebody or something that a module counts by itself: the same on all instances, and nobody finds out of whom.
    pub fn name(&self, whom: Whom<'_>) -> Uuid {
        Uuid::from_u128(self.0.names.key("", whom).id)
    }

    /// What is wrong with the store of all instances; `None` where there is none, by the settings.
    pub(crate) fn store(&self) -> Option<Result<(), &'static str>> {
        self.0.shared.as_ref().map(Shared::standing)
    }

    /// Charges all counters one unit, or none. They are of one tenant or of one address.
    pub async fn charge(&self, charges: &[Charge]) -> Decision {
        self.decide(charges).await.0
    }

    /// As [`charge`](Self::charge), and where the units were taken from.
    pub(crate) async fn decide(&self, charges: &[Charge]) -> (Decision, CountedIn) {
        if let Some(shared) = &self.0.shared {
            // Boxed, since most requests of most deployments do not come this way and would carry its size.
            if let Some(outcome) = Box::pin(shared.charge(charges)).await {
                return (self.decision(charges, outcome), CountedIn::Shared);
            }
        }
        (self.decide_here(charges), CountedIn::Here)
    }

    /// By the counters of this process: while Redis is away, with this instance's share of the limits.
    fn decide_here(&self, charges: &[Charge]) -> Decision {
        let now = self.now();
        if self.0.shared.is_none() {
            return self.decision(charges, self.0.table.charge(now, charges));
        }
        let mut shares = charges.to_vec();
        for charge in &mut shares {
            charge.quota = charge.quota.share(self.0.instances);
        }
        self.decision(&shares, self.0.table.charge(now, &shares))
    }

    /// Gives back what was taken from `place`.
    pub(crate) async fn refund(&self, charges: &[Charge], place: CountedIn) {
        match (place, &self.0.shared) {
            (CountedIn::Shared, Some(shared)) => shared.refund(charges).await,
            _ => self.0.table.refund(self.now(), charges),
        }
    }

    /// Charges all counters one attempt, or none. While Redis is away, by this process's counters with the whole limit: few
    /// guesses are few guesses, and a share of five may be none.
    async fn attempt(&self, counters: &[FailureCount]) -> (Judgement, CountedIn) {
        if let Some(shared) = &self.0.shared
            && let Some(answer) = Box::pin(shared.attempt(counters)).await
        {
            return (answer, CountedIn::Shared);
        }
        (self.0.failures.charge(self.now(), counters), CountedIn::Here)
    }

    /// Takes an attempt back that did not fail.
    async fn forget(&self, counters: &[FailureCount], moment: u64, place: CountedIn) {
        match (place, &self.0.shared) {
            (CountedIn::Shared, Some(shared)) => shared.forget(counters, moment).await,
            _ => self.0.failures.forget(moment, counters),
        }
    }

    /// Counts one unit in this process, whatever the quota says.
    pub(crate) fn note(&self, charge: &Charge) {
        self.0.table.charge(self.now(), std::slice::from_ref(charge));
    }

    /// Units that were noted in this process and are not back yet.
    pub(crate) fn noted(&self, charge: &Charge) -> u32 {
        charge.quota.used(self.0.table.spent(self.now(), charge))
    }

    fn decision(&self, charges: &[Charge], outcome: Charging) -> Decision {
        let Charging { allowed, spent } = outcome;
        let mut violated: Vec<&'static str> = Vec::new();
        let mut standing: Option<Standing> = None;
        for (charge, spent) in charges.iter().zip(spent) {
            let Charge { policy, quota, .. } = *charge;
            let refuses = !quota.admits(spent);
            if refuses && !violated.contains(&policy.name) {
                violated.push(policy.name);
            }
            let spent = if allowed { spent + quota.interval() } else { spent };
            let this = Standing { policy, quota, remaining: quota.remaining(spent), next: quota.next(spent) };
            standing = Some(standing.map_or(this, |other| other.or_closer(this)));
        }
        let decision = Decision { standing, violated };
        self.count(&decision, allowed);
        decision
    }

    fn count(&self, decision: &Decision, allowed: bool) {
        if let Some(standing) = &decision.standing {
            let outcome = if allowed { "allowed" } else { "refused" };
            self.0.metrics.rate_limit_decisions_total.with(&[standing.policy.name, outcome]).inc();
        }
    }

    /// Microseconds since these counters began.
    pub(crate) fn now(&self) -> u64 {
        micros(self.0.clock.instant().saturating_duration_since(self.0.begun))
    }
}

impl Decision {
    /// Refuses a request that the decision refuses.
    ///
    /// # Errors
    /// `core.rate_limited`, with the policies that refuse and the time until the last of them would not.
    pub fn check(self) -> Result<(), Error> {
        if self.violated.is_empty() {
            return Ok(());
        }
        let wait = self.standing.map_or(Duration::ZERO, |standing| standing.next);
        Err(Error::new(&codes::RATE_LIMITED).retry_after(wait).violated(self.violated))
    }
}

impl Standing {
    /// Units that are not back yet.
    pub(crate) fn used(&self) -> u32 {
        self.quota.limit().saturating_sub(self.remaining)
    }

    /// After a unit was given back.
    pub(crate) fn with_one_more(self) -> Self {
        Self { remaining: (self.remaining + 1).min(self.quota.limit()), ..self }
    }

    /// The one with fewer units left; of two that have none, the one that is longer without.
    fn or_closer(self, other: Self) -> Self {
        let closer =
            (other.remaining, std::cmp::Reverse(other.next)) < (self.remaining, std::cmp::Reverse(self.next));
        if closer { other } else { self }
    }
}
