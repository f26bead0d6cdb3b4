//! Attempts that count when they fail: charged before the work, so that parallel guesses do not all pass, and given
//! back when it went well.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Charge, Limits, Place, Policy, Quota, Standing, Whom};
use crate::error::Error;

/// The right to try, on a route whose policy counts failures. A handler takes it as an argument.
#[derive(Clone)]
pub struct Attempt(Arc<Inner>);

struct Inner {
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
    charges: [Charge; 2],
    place: Place,
}

impl Attempt {
    pub(crate) fn new(limits: Limits, policy: &'static Policy, quota: Quota, from: IpAddr) -> Self {
        Self(Arc::new(Inner { limits, policy, quota, from, standing: Mutex::default() }))
    }

    /// Begins an attempt at an account, which is named by its tenant and its name in there.
    ///
    /// # Errors
    /// `core.rate_limited` when the address has failed too often, with this account or with others.
    pub async fn at(&self, tenant: &str, account: &str) -> Result<Charged, Error> {
        let Inner { limits, policy, quota, from, .. } = &*self.0;
        let whom = [Whom::Stranger(*from), Whom::Account(*from, tenant, account)];
        let charges = whom.map(|whom| limits.counter(policy, *quota, whom));
        let (decision, place) = limits.decide(&charges).await;
        self.stand(decision.standing);
        decision.check()?;
        Ok(Charged { attempt: self.clone(), charges, place })
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
    /// It did not fail: it does not count.
    pub async fn give_back(self) {
        self.attempt.0.limits.refund(&self.charges, self.place).await;
        self.attempt.stand(None);
    }
}
