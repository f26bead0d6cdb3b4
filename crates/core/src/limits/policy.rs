//! What is limited: a policy stands beside the route that it is for.

use std::fmt;

use super::Quota;
use crate::config::Config;

/// One limit: its name, how much it allows, and what it counts.
///
/// ```
/// use std::time::Duration;
/// use erp_core::limits::{Policy, Quota};
///
/// /// Twenty exports an hour, of one person or, without a credential, of one address.
/// static EXPORT: Policy = Policy::requests("export", |_| Quota::new(20, Duration::from_secs(3600)));
/// ```
pub struct Policy {
    /// A lower-case name, as in the header `RateLimit` and in metrics.
    pub name: &'static str,
    /// How much it allows.
    pub quota: fn(&Config) -> Quota,
    /// What it counts.
    pub counts: Counts,
}

/// What a policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// Every request of one client: of an address, and with a credential of a person in a tenant.
    Requests,
    /// Attempts that fail: of one address and at one account from there, so many in any window, and four times as many of a
    /// /48 of IPv6; or as many of one known device. The handler takes an [`Attempt`](super::Attempt) and says which account is
    /// meant and how it ended.
    Failures,
}

/// The general limit, of every route but those of operators and probes: `RATE_LIMIT_MAX` in `RATE_LIMIT_WINDOW`.
pub static DEFAULT: Policy =
    Policy::requests("default", |config| Quota::new(config.rate_limit.max, config.rate_limit.window));

/// Answers of 400 to 499 that one address was given, counted by each instance for itself. They limit nothing; who has
/// had many is answered more slowly.
pub(crate) static REFUSALS: Policy = Policy::requests("refusals", |config| {
    Quota::new((config.rate_limit.max / REFUSALS_SHARE).max(2), config.rate_limit.window)
});

/// So many times fewer refusals than requests are too many.
const REFUSALS_SHARE: u32 = 2;

impl Policy {
    /// Counts every request.
    pub const fn requests(name: &'static str, quota: fn(&Config) -> Quota) -> Self {
        Self { name, quota, counts: Counts::Requests }
    }

    /// Counts attempts that fail.
    pub const fn failures(name: &'static str, quota: fn(&Config) -> Quota) -> Self {
        Self { name, quota, counts: Counts::Failures }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
