//! The counters of all instances together, in Redis: one script call a decision, and none while Redis does not answer.

use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join_all};
use redis::{Cmd, FromRedisValue, RedisResult};

use super::failures::{Count, FailureCount, Judgement, Rule};
use super::key::Key;
use super::{Charge, Charging};
use crate::metrics::Metrics;
use crate::redis::{Redis, RedisLink, RedisScript};

const CHARGE: &str = include_str!("charge.lua");
const REFUND: &str = include_str!("refund.lua");
const ATTEMPT: &str = include_str!("attempt.lua");
const FORGET: &str = include_str!("forget.lua");
/// Counters of nobody's, which are charged to see whether Redis takes writes. There are many, since one node of a cluster
/// would take some of them and not the others.
const PROBES: u32 = 16;

/// Redis, as the store of counters. Clones share everything.
#[derive(Clone)]
pub struct Shared(Arc<SharedInner>);

struct SharedInner {
    redis: Redis,
    charge: RedisScript,
    refund: RedisScript,
    attempt: RedisScript,
    forget: RedisScript,
    metrics: Metrics,
}

impl Shared {
    /// The counters in this Redis.
    pub fn new(redis: Redis, metrics: Metrics) -> Self {
        let [charge, refund, attempt, forget] = [CHARGE, REFUND, ATTEMPT, FORGET].map(RedisScript::new);
        Self(Arc::new(SharedInner { redis, charge, refund, attempt, forget, metrics }))
    }

    /// Charges all keys one unit, or none; `None` when Redis does not say.
    pub(super) async fn charge(&self, charges: &[Charge]) -> Option<Charging> {
        let answer: Vec<u64> = self.run(&self.0.charge, |command| units(command, charges)).await?;
        let mut outcome = Charging { allowed: answer.first() == Some(&1), ..Charging::default() };
        outcome.spent.iter_mut().zip(answer.iter().skip(1)).for_each(|(spent, told)| *spent = *told);
        Some(outcome)
    }

    /// Gives each key its unit back. When Redis does not answer, the unit is lost.
    pub(super) async fn refund(&self, charges: &[Charge]) {
        let _: Option<u64> = self.run(&self.0.refund, |command| units(command, charges)).await;
    }

    /// Charges all counters one attempt, or none; `None` when Redis does not say.
    pub(super) async fn attempt(&self, counters: &[FailureCount]) -> Option<Judgement> {
        let arguments = |command: &mut Cmd| {
            keys(command, counters.iter().map(|counter| counter.key));
            for FailureCount { rule: Rule { most, window }, .. } in counters {
                command.arg(most).arg(window);
            }
        };
        let told: Vec<u64> = self.run(&self.0.attempt, arguments).await?;
        let [allowed, moment, told @ ..] = &told[..] else { return None };
        let mut answer = Judgement { allowed: *allowed == 1, moment: *moment, ..Judgement::default() };
        for (count, told) in answer.counts.iter_mut().zip(told.chunks_exact(3)) {
            let [failures, wait, next] = *told else { continue };
            *count = Count { failures: u32::try_from(failures).unwrap_or(u32::MAX), wait, next };
        }
        Some(answer)
    }

    /// Takes an attempt back. When Redis does not answer, it counts.
    pub(super) async fn forget(&self, counters: &[FailureCount], moment: u64) {
        let arguments = |command: &mut Cmd| {
            keys(command, counters.iter().map(|counter| counter.key));
            command.arg(moment);
        };
        let _: Option<u64> = self.run(&self.0.forget, arguments).await;
    }

    /// Whether it is in use, and if not, why.
    pub(super) fn standing(&self) -> Result<(), &'static str> {
        self.0.redis.standing()
    }

    async fn run<T: FromRedisValue>(&self, script: &RedisScript, arguments: impl Fn(&mut Cmd)) -> Option<T> {
        match self.0.redis.run(script, arguments).await? {
            Ok(answer) => Some(answer),
            Err(failure) => {
                self.0.metrics.rate_limit_store_errors_total.with(&[]).inc();
                self.0.redis.leave(&failure); // whatever it is: the next requests do not wait for it
                None
            }
        }
    }
}

/// A replica and a full Redis take a connection, and no writes; and a node of a cluster takes some keys.
pub(crate) fn probe(link: &RedisLink) -> BoxFuture<'_, RedisResult<()>> {
    Box::pin(async {
        let script = RedisScript::new(CHARGE);
        let charge = |number: u32| {
            link.run::<Vec<u64>>(&script, move |command: &mut Cmd| {
                command.arg(1).arg(format!("erp:rl:{{probe-{number}}}")).arg(1).arg(1_000_000);
            })
        };
        try_join_all((0..PROBES).map(charge)).await.map(drop)
    })
}

/// What the scripts take that count units.
fn units(command: &mut Cmd, charges: &[Charge]) {
    keys(command, charges.iter().map(|charge| charge.key));
    for charge in charges {
        command.arg(charge.quota.interval()).arg(charge.quota.capacity());
    }
}

fn keys(command: &mut Cmd, keys: impl ExactSizeIterator<Item = Key>) {
    command.arg(keys.len());
    for key in keys {
        command.arg(key.to_string());
    }
}
