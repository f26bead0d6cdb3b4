//! Redis, as what instances share of their caches: values, and the generations of the data that these depend on.
//!
//! A generation is a random text. One that is not there, since it was removed, has expired or was evicted, is made anew, and
//! no value is of it: whatever Redis forgets is a miss, and never a wrong answer. Data that changes loses its generation,
//! which Redis does also when it is out of memory.
//!
//! A value is sealed with a key of the deployment, together with its name and its generations: one that somebody put there,
//! under another tenant's name for one, is a miss. It says when it is over by Redis's clock: were that set back, values would
//! not live longer.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use redis::Cmd;

use super::LONGEST;
use crate::db::{Telling, TenantTag};
use crate::metrics::Counter;
use crate::redis::{Redis, RedisFailure, RedisScript, Trouble};
use crate::shared::{Rng, Secret, Seldom, TenantId, derived_key, hex};

const LOOK: &str = include_str!("look.lua");
const KEEP: &str = include_str!("keep.lua");
/// What all values depend on. Without it all that Redis has is worthless: `DEL erp:cache:generation` empties it.
const ALL: &str = "erp:cache:generation";
/// How long after a refusal Redis is not asked for values: somebody must do something before it takes them.
const PAUSE: Duration = Duration::from_secs(10);
/// How often it is said that Redis refuses.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes of a seal.
const SEAL: usize = 16;

/// The cache in Redis.
pub(super) struct SecondTier {
    redis: Redis,
    look: RedisScript,
    keep: RedisScript,
    seal: hmac::Key,
    /// Until when it is not asked.
    paused: Mutex<Option<Instant>>,
    complaint: Seldom,
    errors: Counter,
}

/// Where a value is in Redis, and what it depends on.
pub(super) struct SharedPlace {
    keys: Vec<String>,
}

/// What Redis has.
pub(super) enum SharedLook {
    /// The caller's own copy is still good.
    Same,
    /// No value; one that is loaded now is of this generation.
    Nothing { generation: String },
    /// A value, as JSON, and how long it is still good for.
    Value { generation: String, json: Vec<u8>, left: Duration },
}

impl SharedPlace {
    pub(super) fn new(value: String, tenant: TenantId, tags: impl Iterator<Item = &'static str>) -> Self {
        let generations = tags.map(|name| generation_key(tenant, name));
        Self { keys: [value, ALL.to_owned()].into_iter().chain(generations).collect() }
    }

    fn value(&self) -> &str {
        self.keys.first().map_or("", String::as_str)
    }
}

fn generation_key(tenant: TenantId, tag: &str) -> String {
    format!("erp:cache:{{{tenant}}}:generation:{tag}")
}

impl SecondTier {
    pub(super) fn new(redis: Redis, secret: &Secret<String>, errors: Counter) -> Self {
        let seal = derived_key(secret, "erp-backend cache seals");
        let [look, keep] = [LOOK, KEEP].map(RedisScript::new);
        let complaint = Seldom::new(LOG_INTERVAL);
        Self { redis, look, keep, seal, paused: Mutex::new(None), complaint, errors }
    }

    /// Whether it is asked at `now`.
    pub(super) fn is_up(&self, now: Instant) -> bool {
        self.redis.is_up() && self.pause().is_none_or(|until| until <= now)
    }

    /// What Redis has at `place`, whose value the caller may have a copy of, in the generation `known`; `None` when it does
    /// not say.
    pub(super) async fn look(
        &self,
        place: &SharedPlace,
        known: Option<&str>,
        rng: &dyn Rng,
        now: Instant,
    ) -> Option<SharedLook> {
        let arguments = |command: &mut Cmd| {
            command.arg(place.keys.len()).arg(&place.keys);
            command.arg(new_generation(rng)).arg(2 * millis(LONGEST)).arg(known.unwrap_or_default());
        };
        let told: Vec<Vec<u8>> = self.judge(self.redis.run(&self.look, arguments).await?, now)?;
        let (generation, moment) = (text(told.first()?)?, text(told.get(1)?)?.parse().ok()?);
        let Some(stored) = told.get(2) else { return Some(SharedLook::Same) };
        match self.open(place, &generation, moment, stored) {
            Some((json, left)) => Some(SharedLook::Value { generation, json, left }),
            None => Some(SharedLook::Nothing { generation }),
        }
    }

    /// Keeps a value that was loaded in `generation`, unless its data has changed since.
    pub(super) async fn keep(
        &self,
        place: &SharedPlace,
        generation: &str,
        good_for: Duration,
        json: &[u8],
        now: Instant,
    ) {
        let sealed = [hex(&self.seal_of(place, generation, json)).as_bytes(), b"\n", json].concat();
        let arguments = |command: &mut Cmd| {
            command.arg(place.keys.len()).arg(&place.keys);
            command.arg(generation).arg(millis(good_for)).arg(&sealed);
        };
        if let Some(answer) = self.redis.run::<u64>(&self.keep, arguments).await {
            self.judge(answer, now);
        }
    }

    /// Tells the other instances what has changed; whether Redis has taken it.
    pub(super) async fn tell(&self, telling: &Telling, now: Instant) -> bool {
        let mut command = redis::cmd("DEL");
        for TenantTag { tenant, name, .. } in &telling.tags {
            command.arg(generation_key(*tenant, name));
        }
        if telling.all {
            command.arg(ALL);
        }
        match self.redis.ask::<u64>(&command).await {
            Some(answer) => self.judge(answer, now).is_some(),
            None => false,
        }
    }

    /// Waits until Redis is in use.
    pub(super) async fn up(&self) {
        self.redis.up().await;
    }

    /// The value, if it is of this generation, is not over, and was put there by an instance of this deployment.
    fn open(
        &self,
        place: &SharedPlace,
        generation: &str,
        moment: u64,
        stored: &[u8],
    ) -> Option<(Vec<u8>, Duration)> {
        let mut parts = stored.splitn(4, |byte| *byte == b'\n');
        let (of, expires, seal, json) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let left = text(expires)?.parse::<u64>().ok()?.checked_sub(moment).filter(|left| *left > 0)?;
        let is_ours = || seal == hex(&self.seal_of(place, generation, json)).as_bytes();
        let good = of == generation.as_bytes() && left <= 2 * millis(LONGEST) && is_ours();
        good.then(|| (json.to_vec(), Duration::from_millis(left)))
    }

    fn seal_of(&self, place: &SharedPlace, generation: &str, json: &[u8]) -> [u8; SEAL] {
        let mut context = hmac::Context::with_key(&self.seal);
        for part in [place.value().as_bytes(), generation.as_bytes(), json] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut seal = [0; SEAL];
        seal.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        seal
    }

    /// What was answered. After a refusal Redis is left alone with values for a while; its connection is good.
    fn judge<T>(&self, answer: Result<T, RedisFailure>, now: Instant) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(RedisFailure { trouble, error }) => {
                self.errors.inc();
                if trouble != Trouble::Silent {
                    *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + PAUSE);
                    if self.complaint.is_due() {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "Redis refuses what the cache asks of it: each instance keeps its own values, for 5 s each. Its \
                             user needs ~erp:cache:* +eval +evalsha +time +get +set +del"
                        );
                    }
                }
                None
            }
        }
    }

    fn pause(&self) -> Option<Instant> {
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_generation(rng: &dyn Rng) -> String {
    let mut random = [0; 12];
    rng.fill(&mut random);
    hex(&random)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
