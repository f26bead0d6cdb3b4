//! Attempts that count when they fail: charged before the work, so that parallel guesses do not all pass, and given
//! back when it went well.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use uuid::Uuid;

use super::failures::{Count, FailureCount, Judgement, Rule};
use super::key::{Key, Scope};
use super::{CountedIn, Decision, Limits, MOST_KEYS, Policy, Quota, Standing, Whom};
use crate::error::Error;
use crate::shared::site;

/// The right to try, on a route whose policy counts failures. A handler takes it as an argument.
#[derive(Clone)]
pub struct Attempt(Arc<AttemptInner>);

struct AttemptInner {
    limits: Limits,
    policy: &'static Policy,
    quota: Quota,
    from: IpAddr,
    /// Where the client stands with the policy, if the attempt has counted.
    standing: Mutex<Option<Standing>>,
}

/// An attempt that counts as failed unless it is given back.
#[must_use = "it counts as failed unless it is given back"]
pub struct Charged {
    attempt: Attempt,
    counters: Counters,
    moment: u64,
    last: bool,
    place: CountedIn,
}

type Counters = SmallVec<[FailureCount; MOST_KEYS]>;

/// An account that somebody tries to get at, as logs may name it: the same name for the same account, from which nobody
/// finds out whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccountName(u64);

impl std::fmt::Display for AccountName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Attempt {
    pub(crate) fn new(limits: Limits, policy: &'static Policy, quota: Quota, from: IpAddr) -> Self {
        Self(Arc::new(AttemptInner { limits, policy, quota, from, standing: Mutex::default() }))
    }

    /// Begins an attempt at an account, which is named by its tenant and its name in there.
    ///
    /// # Errors
    /// `core.rate_limited` when the address has failed too often, with this account or with others, or when its /48 of IPv6
    /// has.
    pub async fn at(&self, tenant: &str, account: &str) -> Result<Charged, Error> {
        self.charge(self.counters(tenant, account)).await
    }

    /// Begins an attempt from a device that has proven before whose it is: what others do at its address does not count.
    ///
    /// # Errors
    /// `core.rate_limited` when the device has failed too often.
    pub async fn by_device(&self, device: Uuid) -> Result<Charged, Error> {
        let rule = Rule::window(self.0.quota);
        self.charge(Counters::from_iter([FailureCount { key: self.key(Whom::Device(device)), rule }])).await
    }

    async fn charge(&self, counters: Counters) -> Result<Charged, Error> {
        let (answer, place) = self.0.limits.attempt(&counters).await;
        let decision = self.decision(&counters, &answer);
        self.0.limits.count(&decision, answer.allowed);
        self.stand(decision.standing);
        decision.check()?;
        let last =
            counters.iter().zip(answer.counts).any(|(counter, count)| count.failures >= counter.rule.most);
        Ok(Charged { attempt: self.clone(), counters, moment: answer.moment, last, place })
    }

    /// The account as logs may name it.
    pub fn name(&self, tenant: &str, account: &str) -> AccountName {
        AccountName(self.key(Whom::Account(tenant, account)).id as u64)
    }

    fn counters(&self, tenant: &str, account: &str) -> Counters {
        let AttemptInner { quota, from, .. } = *self.0;
        let counter = |whom, rule| FailureCount { key: self.key(whom), rule };
        let site = site(from).map(|site| counter(Whom::Site(site), Rule::site(quota)));
        let own = [
            counter(Whom::Stranger(from), Rule::window(quota)),
            counter(Whom::AccountFrom(from, tenant, account), Rule::window(quota)),
        ];
        own.into_iter().chain(site).collect()
    }

    /// Failures of all kinds lie together: those of a site's are counted from all its networks.
    fn key(&self, whom: Whom<'_>) -> Key {
        Key { scope: Scope::Failures, ..self.0.limits.0.names.key(self.0.policy.name, whom) }
    }

    /// What a client is told.
    fn decision(&self, counters: &[FailureCount], answer: &Judgement) -> Decision {
        let AttemptInner { policy, quota, .. } = *self.0;
        let standings = counters.iter().zip(answer.counts).map(
            |(FailureCount { rule, .. }, Count { failures, wait, next })| {
                let remaining =
                    if wait > 0 { 0 } else { rule.most.saturating_sub(failures).min(quota.limit()) };
                let next = Duration::from_micros(if wait > 0 { wait } else { next });
                Standing { policy, quota, remaining, next }
            },
        );
        let violated = if answer.allowed { Vec::new() } else { vec![policy.name] };
        Decision { standing: standings.reduce(Standing::or_closer), violated }
    }

    /// Where the client stands with the policy, if the attempt has counted.
    pub(crate) fn standing(&self) -> Option<Standing> {
        *self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand(&self, standing: Option<Standing>) {
        *self.0.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}

impl Charged {
    /// Whether it was the last for now: when it fails, the next one is refused.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// It went well, or nobody could decide whether it fails: it does not count.
    pub async fn give_back(self) {
        self.attempt.0.limits.forget(&self.counters, self.moment, self.place).await;
        self.attempt.stand(None);
    }
}
