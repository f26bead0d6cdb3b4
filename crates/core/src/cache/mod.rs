//! What was read, kept for a while: each value of one tenant, in this process and, with `REDIS_URL`, in Redis.
//!
//! A module declares a [`ResultCache`] and reads it with [`Call::cached`](crate::resource::Call::cached). A value that is not
//! kept is loaded once for all who ask for it at a time, in a task of its own. It is kept if none of the data that it
//! depends on has changed since the load began ([`TenantTx::invalidate`](crate::db::TenantTx::invalidate)), and as long as
//! none does.
//!
//! What a change on another instance means here is told in `docs/decisions/0021-what-a-cache-promises.md`: with Redis it is
//! seen within a second, without it after five.

mod declared;
mod flight;
mod key;
mod second_tier;
mod value;

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use quick_cache::{OptionsBuilder, Weighter};
use tracing::Instrument as _;

pub use declared::{CacheFacts, Cacheable, DeclaredCache, ResultCache, caches_markdown};
pub(crate) use key::CacheQuestion;

use crate::auth::Caller;
use crate::db::Db;
use crate::error::{Error, Result, codes};
use crate::lifecycle::{Background, Exit, Lifecycle, StartError, Stop, StopStage, panic_message};
use crate::metrics::{Counter, Gauge, Histogram, Metrics};
use crate::redis::Redis;
use crate::shared::{Clock, Rng, Secret, Seldom};
use declared::LONGEST;
use flight::{Boarding, Flights, Takeoff};
use key::{CacheKey, CacheKeys, SharedNames};
use second_tier::{SecondTier, SharedLook, SharedPlace};
use value::CacheEntry;

/// With Redis: how long a value is trusted before Redis is asked whether its data has changed.
const RECHECK: Duration = Duration::from_secs(1);
/// How long a value is trusted while nobody can tell whether another instance has changed its data.
const UNHEARD: Duration = Duration::from_secs(5);
/// The largest value that is kept, as JSON; and no more than an eighth of all memory.
const LARGEST: u64 = 1024 * 1024;
/// How many changed tags Redis is told of at a time.
const TELL_AT_ONCE: usize = 500;
/// When Redis is told again what it did not take.
const TELL_AGAIN: Duration = Duration::from_millis(200);
/// How often it is said that a value is too large.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What caches are made with.
pub(crate) struct CacheOptions {
    /// Those that the product's modules declare.
    pub(crate) declared: Vec<CacheFacts>,
    /// `CACHE_MEMORY` in bytes; 0: nothing is kept.
    pub(crate) memory: u64,
    /// How many processes like this one there are: `INSTANCES`.
    pub(crate) instances: u32,
    /// The Redis of all instances, if there is one.
    pub(crate) redis: Option<Redis>,
    /// Names and seals values there: `JWT_SECRET`, which all instances share.
    pub(crate) secret: Secret<String>,
    /// The longest that a load may take.
    pub(crate) longest_load: Duration,
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) metrics: Metrics,
    pub(crate) lifecycle: Lifecycle,
}

/// All caches of a process. Clones share everything.
#[derive(Clone)]
pub struct Caches(Arc<CachesInner>);

struct CachesInner {
    /// `None` where nothing is kept.
    kept: Option<KeptValues>,
    largest: u64,
    flights: Arc<Flights>,
    keys: CacheKeys,
    names: SharedNames,
    tier: Option<SecondTier>,
    /// Whether there is no other instance.
    alone: bool,
    measures: HashMap<&'static str, Arc<CacheMeasures>>,
    longest_load: Duration,
    complaint: Seldom,
    db: Db,
    clock: Arc<dyn Clock>,
    begun: Instant,
    rng: Arc<dyn Rng>,
    lifecycle: Lifecycle,
}

/// The values in this process: at most so many bytes of them.
type KeptValues =
    quick_cache::sync::Cache<CacheKey, Arc<CacheEntry>, ByBytes, BuildHasherDefault<Hashed>, CountsEvictions>;

/// What is counted of one cache.
struct CacheMeasures {
    hits: Counter,
    shared_hits: Counter,
    misses: Counter,
    evictions: Counter,
    changed: Counter,
    too_large: Counter,
    unreadable: Counter,
    loads: Histogram,
    bytes: Gauge,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy)]
enum ValueSource {
    Process,
    Redis,
    Load,
}

/// What one load needs to know.
struct FlightPlan<V: 'static> {
    cache: &'static ResultCache<V>,
    measures: Arc<CacheMeasures>,
    question: CacheQuestion,
    key: CacheKey,
    generation: u64,
}

/// A value that is to be told to the other instances.
struct Sharing {
    place: SharedPlace,
    generation: String,
    good_for: Duration,
    json: Vec<u8>,
}

/// Tells Redis which data has changed.
pub(crate) static CACHE_INVALIDATIONS: Background<Caches> = Background {
    name: "cache invalidations",
    about: "Tells Redis which data has changed, so that no instance goes on with values that depend on it.",
    critical: true,
    stops: StopStage::Foundation,
    run: |caches, stop| Box::pin(caches.tell_others(stop)),
    observe: |_| {},
};

impl Caches {
    /// Caches that keep nothing yet.
    pub(crate) fn new(options: CacheOptions) -> Result<Self, StartError> {
        let CacheOptions { declared, memory, instances, redis, secret, longest_load, .. } = options;
        let CacheOptions { db, clock, rng, metrics, lifecycle, .. } = options;
        metrics.cache_max_bytes.with(&[]).set(memory as f64);
        let errors = metrics.cache_store_errors_total.with(&[]);
        let tier = redis.filter(|_| memory > 0).map(|redis| SecondTier::new(redis, &secret, errors));
        let of = |facts: CacheFacts| (facts.name, Arc::new(CacheMeasures::new(&metrics, facts.name)));
        let shared = tier.is_some();
        if !shared && instances > 1 && memory > 0 && !declared.is_empty() {
            tracing::warn!(
                instances,
                "Without REDIS_URL no instance hears what another one changes: values are kept for 5 s at most. Set REDIS_URL"
            );
        }
        if shared {
            db.generations().tell_others();
        }
        let caches = Self(Arc::new(CachesInner {
            kept: (memory > 0).then(|| kept_values(memory)).transpose()?,
            largest: LARGEST.min(memory / 8),
            flights: Arc::default(),
            keys: CacheKeys::new(rng.as_ref()),
            names: SharedNames::new(&secret),
            alone: !shared && instances == 1,
            tier,
            measures: declared.into_iter().map(of).collect(),
            longest_load,
            complaint: Seldom::new(LOG_INTERVAL),
            db,
            begun: clock.instant(),
            clock,
            rng,
            lifecycle: lifecycle.clone(),
        }));
        if shared {
            lifecycle.start(&CACHE_INVALIDATIONS, caches.clone());
        }
        Ok(caches)
    }

    /// The value of a cache that answers a question of the caller's tenant; by `load` where it is not kept.
    ///
    /// Within a request that has an `Idempotency-Key`, whose changes are not committed yet, it is loaded: it must show them
    /// to this request, and to no other.
    ///
    /// # Errors
    /// As `load`, for all who wait for it. `core.internal` for a cache that no module of the product lists, or a load that
    /// panics; `core.timeout` for one that takes longer than `REQUEST_TIMEOUT`.
    pub(crate) async fn get<V, F>(
        &self,
        cache: &'static ResultCache<V>,
        caller: &Caller,
        question: CacheQuestion,
        load: impl FnOnce(Db, Caller) -> F + Send + 'static,
    ) -> Result<Arc<V>>
    where
        V: Cacheable,
        F: Future<Output = Result<V>> + Send + 'static,
    {
        if caller.deferral().is_none() && self.0.kept.is_some() {
            let key = self.0.keys.key(cache, &question);
            let generation = self.0.db.generations().of(question.tenant(), cache.depends_on());
            if let Some(entry) = self.trusted(&key, generation) {
                entry.measures.hits.inc();
                return entry.value();
            }
            let measures = self.measures(cache)?;
            let plan = FlightPlan { cache, measures, question, key, generation };
            return Box::pin(self.fly(plan, caller, load)).await;
        }
        self.measures(cache)?.misses.inc();
        load(self.0.db.clone(), caller.nobody()).await.map(Arc::new)
    }

    /// Whether values are shared with other instances at the moment.
    pub(crate) fn are_shared(&self) -> bool {
        self.0.tier.as_ref().is_some_and(|tier| tier.is_up(self.0.clock.instant()))
    }

    /// The value that is kept, if it is of this generation, not over, and heard of recently enough.
    fn trusted(&self, key: &CacheKey, generation: u64) -> Option<Arc<CacheEntry>> {
        let entry = self.0.kept.as_ref()?.get(key)?;
        let now = self.0.clock.instant();
        let heard = || {
            let trust = match &self.0.tier {
                None if self.0.alone => return true,
                Some(tier) if tier.is_up(now) => RECHECK,
                _ => UNHEARD,
            };
            entry.heard_within(trust, self.since_begun(now))
        };
        (entry.is_good(generation, now) && heard()).then_some(entry)
    }

    /// Waits for the load that is under way, or begins it.
    async fn fly<V, F>(
        &self,
        plan: FlightPlan<V>,
        caller: &Caller,
        load: impl FnOnce(Db, Caller) -> F + Send + 'static,
    ) -> Result<Arc<V>>
    where
        V: Cacheable,
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let FlightPlan { key, generation, .. } = plan;
        let measures = Arc::clone(&plan.measures);
        let ticket = match self.0.flights.board(key, generation, || self.trusted(&key, generation)) {
            Boarding::Landed(entry) => {
                measures.hits.inc();
                return entry.value();
            }
            Boarding::Joined(ticket) => ticket,
            Boarding::Began(takeoff, ticket) => {
                let load = load(self.0.db.clone(), caller.nobody());
                let flight = self.clone().load(plan, takeoff, load).in_current_span();
                drop(self.0.lifecycle.spawn("cache load", flight));
                ticket
            }
        };
        let outcome = ticket.wait().await;
        match &outcome {
            Ok((_, ValueSource::Process)) => measures.hits.inc(),
            Ok((_, ValueSource::Redis)) => measures.shared_hits.inc(),
            Ok((_, ValueSource::Load)) | Err(_) => measures.misses.inc(),
        }
        outcome?.0.value()
    }

    /// Loads a value, for as long as somebody waits for it.
    async fn load<V: Cacheable>(
        self,
        plan: FlightPlan<V>,
        takeoff: Takeoff,
        load: impl Future<Output = Result<V>> + Send,
    ) {
        let filling = AssertUnwindSafe(self.fill(&plan, load)).catch_unwind();
        let landed = tokio::select! {
            biased;
            landed = filling => landed,
            () = takeoff.deserted() => return,
        };
        let panicked = |panic: Box<dyn std::any::Any + Send>| {
            let name = plan.cache.facts().name;
            Err(Error::internal(format!("loading '{name}' panicked: {}", panic_message(panic.as_ref()))))
        };
        match landed.unwrap_or_else(panicked) {
            Ok((entry, source, sharing)) => {
                takeoff.land(Ok((entry, source)));
                if let (Some(tier), Some(sharing)) = (&self.0.tier, sharing) {
                    let Sharing { place, generation, good_for, json } = sharing;
                    tier.keep(&place, &generation, good_for, &json, self.0.clock.instant()).await;
                }
            }
            Err(error) => takeoff.land(Err(error)),
        }
    }

    /// Finds the value in Redis, or loads it, and keeps it here.
    async fn fill<V: Cacheable>(
        &self,
        plan: &FlightPlan<V>,
        load: impl Future<Output = Result<V>>,
    ) -> Result<(Arc<CacheEntry>, ValueSource, Option<Sharing>)> {
        let now = self.0.clock.instant();
        let own = self.0.kept.as_ref().and_then(|kept| kept.get(&plan.key));
        let own = own.filter(|entry| entry.is_good(plan.generation, now));
        let place = self.shared_place(plan, now);
        let mut shared = None;
        if let (Some(tier), Some(place)) = (&self.0.tier, place) {
            let known = own.as_ref().and_then(|entry| entry.shared.as_deref());
            match tier.look(&place, known, self.0.rng.as_ref(), now).await {
                Some(SharedLook::Same) => {
                    if let Some(own) = own {
                        own.heard_of(self.since_begun(now));
                        return Ok((own, ValueSource::Process, None));
                    }
                }
                Some(SharedLook::Value { generation, json, left }) => match serde_json::from_slice(&json) {
                    Ok(value) => {
                        let entry = self.entry(plan, value, json.len(), left, Some(generation), now);
                        return Ok((self.keep(plan, entry), ValueSource::Redis, None));
                    }
                    Err(_) => {
                        plan.measures.unreadable.inc(); // of another version of the product: it is loaded
                        shared = Some((place, generation));
                    }
                },
                Some(SharedLook::Nothing { generation }) => shared = Some((place, generation)),
                // It has just stopped answering: then the own copy is good for a while longer.
                None if let Some(entry) = self.trusted(&plan.key, plan.generation) => {
                    return Ok((entry, ValueSource::Process, None));
                }
                None => {}
            }
        }
        let value = self.timed(plan, load).await?;
        Ok(self.loaded(plan, value, shared, now))
    }

    async fn timed<V>(&self, plan: &FlightPlan<V>, load: impl Future<Output = Result<V>>) -> Result<V> {
        let begun = self.0.clock.instant();
        let outcome = tokio::time::timeout(self.0.longest_load, load).await;
        let took = self.0.clock.instant().saturating_duration_since(begun);
        plan.measures.loads.observe(took.as_secs_f64());
        outcome.map_err(|late| Error::new(&codes::TIMEOUT).because(late))?
    }

    /// A value that was loaded from a moment on: kept here, and to be kept in Redis where that has told its generation.
    fn loaded<V: Cacheable>(
        &self,
        plan: &FlightPlan<V>,
        value: V,
        shared: Option<(SharedPlace, String)>,
        since: Instant,
    ) -> (Arc<CacheEntry>, ValueSource, Option<Sharing>) {
        let name = plan.cache.facts().name;
        let good_for = self.varied(plan.cache.facts().ttl);
        let json = match serde_json::to_vec(&value) {
            Ok(json) => json,
            Err(error) => {
                tracing::error!(
                    cache = name,
                    error = &error as &dyn std::error::Error,
                    "A value is not kept, since it cannot be written as JSON"
                );
                return (self.entry(plan, value, 0, good_for, None, since), ValueSource::Load, None);
            }
        };
        if cfg!(debug_assertions)
            && let Err(error) = serde_json::from_slice::<V>(&json)
        {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                cache = name,
                error,
                "A value cannot be read back from its JSON: Redis would keep it in vain"
            );
        }
        let generation = shared.as_ref().map(|(_, generation)| generation.clone());
        let entry = self.entry(plan, value, json.len(), good_for, generation, since);
        if entry.weight > self.0.largest {
            plan.measures.too_large.inc();
            if self.0.complaint.is_due() {
                let (bytes, most) = (json.len(), self.0.largest);
                tracing::warn!(
                    cache = name,
                    bytes,
                    most,
                    "A value is too large to be kept: select less of it"
                );
            }
            return (entry, ValueSource::Load, None);
        }
        let sharing = shared.map(|(place, generation)| Sharing { place, generation, good_for, json });
        (self.keep(plan, entry), ValueSource::Load, sharing)
    }

    fn entry<V: Cacheable>(
        &self,
        plan: &FlightPlan<V>,
        value: V,
        json: usize,
        good_for: Duration,
        shared: Option<String>,
        since: Instant,
    ) -> Arc<CacheEntry> {
        let measures = Arc::clone(&plan.measures);
        let heard = self.since_begun(since);
        Arc::new(CacheEntry::new(value, json, plan.generation, shared, (since, good_for), heard, measures))
    }

    /// Keeps a value, unless its data has changed since its load began.
    fn keep<V>(&self, plan: &FlightPlan<V>, entry: Arc<CacheEntry>) -> Arc<CacheEntry> {
        let generation = self.0.db.generations().of(plan.question.tenant(), plan.cache.depends_on());
        match &self.0.kept {
            Some(kept) if generation == plan.generation => {
                put(kept, plan.key, Arc::clone(&entry));
            }
            _ => plan.measures.changed.inc(),
        }
        entry
    }

    /// Where the value is in Redis; `None` where that is not asked, or does not know yet what has changed here.
    fn shared_place<V>(&self, plan: &FlightPlan<V>, now: Instant) -> Option<SharedPlace> {
        let tenant = plan.question.tenant();
        let tags = plan.cache.depends_on();
        let up = self.0.tier.as_ref().is_some_and(|tier| tier.is_up(now));
        if !up || self.0.db.generations().is_untold(tenant, tags.clone()) {
            return None;
        }
        let name = self.0.names.value(plan.cache, &plan.question);
        Some(SharedPlace::new(name, tenant, tags.map(crate::db::Tag::name)))
    }

    /// A tenth more or less.
    fn varied(&self, ttl: Duration) -> Duration {
        let mut random = [0; 2];
        self.0.rng.fill(&mut random);
        ttl.mul_f64(0.9 + 0.2 * f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX))
    }

    fn since_begun(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.0.begun)
    }

    fn measures<V>(&self, cache: &'static ResultCache<V>) -> Result<Arc<CacheMeasures>> {
        let name = cache.facts().name;
        let undeclared = || {
            Error::internal(format!(
                "the cache '{name}' stands in no module's `caches`: add it to its module's row"
            ))
        };
        self.0.measures.get(name).cloned().ok_or_else(undeclared)
    }

    /// Tells Redis what has changed, until the stop; then what is left, once.
    async fn tell_others(self, stop: Stop) {
        let Some(tier) = &self.0.tier else { return stop.requested().await };
        let generations = self.0.db.generations();
        loop {
            let stopping = stop.token().is_cancelled();
            let telling = tokio::select! {
                biased;
                telling = generations.to_tell(TELL_AT_ONCE) => telling,
                () = stop.requested() => return,
            };
            if tier.tell(&telling, self.0.clock.instant()).await {
                generations.was_told(&telling);
            } else if stopping {
                return;
            } else if stop.sleep(TELL_AGAIN).await {
                stop.token().run_until_cancelled(tier.up()).await;
            }
        }
    }
}

/// Values are found by four locks rather than one. Each part has a fourth of the memory, twice what the largest value takes.
const PARTS: usize = 4;
/// What a value may take on average: by it tables are sized at the start.
const USUAL: u64 = 4 * 1024;

fn kept_values(memory: u64) -> Result<KeptValues, StartError> {
    let options = OptionsBuilder::new()
        .weight_capacity(memory)
        .estimated_items_capacity(usize::try_from(memory / USUAL).unwrap_or(usize::MAX))
        .shards(PARTS)
        .build()
        .map_err(|error| StartError::new(Exit::Internal, "The caches cannot be made").because(error))?;
    Ok(KeptValues::with_options(options, ByBytes, BuildHasherDefault::default(), CountsEvictions))
}

/// What a value takes of the memory of all.
#[derive(Clone)]
struct ByBytes;

impl Weighter<CacheKey, Arc<CacheEntry>> for ByBytes {
    fn weight(&self, _: &CacheKey, entry: &Arc<CacheEntry>) -> u64 {
        entry.weight
    }
}

/// Counts what makes room for others, and drops it when no lock is held any more.
#[derive(Clone)]
struct CountsEvictions;

impl quick_cache::Lifecycle<CacheKey, Arc<CacheEntry>> for CountsEvictions {
    type RequestState = Vec<Arc<CacheEntry>>;

    fn begin_request(&self) -> Self::RequestState {
        Vec::new()
    }

    fn on_evict(&self, evicted: &mut Self::RequestState, _: CacheKey, entry: Arc<CacheEntry>) {
        evicted.push(entry);
    }

    fn end_request(&self, evicted: Self::RequestState) {
        for entry in evicted {
            entry.measures.bytes.add(-(entry.weight as f64));
            entry.measures.evictions.inc();
        }
    }
}

/// Keeps a value in the place of the one that was kept before.
fn put(kept: &KeptValues, key: CacheKey, entry: Arc<CacheEntry>) {
    if let Some((_, before)) = kept.remove(&key) {
        before.measures.bytes.add(-(before.weight as f64));
    }
    entry.measures.bytes.add(entry.weight as f64);
    kept.insert(key, entry);
}

impl CacheMeasures {
    fn new(metrics: &Metrics, cache: &str) -> Self {
        let refused = |reason| metrics.cache_values_refused_total.with(&[cache, reason]);
        Self {
            hits: metrics.cache_hits_total.with(&[cache, "process"]),
            shared_hits: metrics.cache_hits_total.with(&[cache, "redis"]),
            misses: metrics.cache_misses_total.with(&[cache]),
            evictions: metrics.cache_evictions_total.with(&[cache]),
            changed: refused("changed"),
            too_large: refused("too_large"),
            unreadable: refused("unreadable"),
            loads: metrics.cache_load_duration_seconds.with(&[cache]),
            bytes: metrics.cache_bytes.with(&[cache]),
        }
    }
}

/// For keys that are hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: u64 = 64 * 1024;

    fn entry(measures: &Arc<CacheMeasures>, size: usize) -> Arc<CacheEntry> {
        let good = (Instant::now(), Duration::from_secs(60));
        Arc::new(CacheEntry::new(0_i64, size, 0, None, good, Duration::ZERO, Arc::clone(measures)))
    }

    /// After moka's reports 590, an eviction that stalls where keys are used again at the same time, and 600, a crash under
    /// concurrent eviction, and mini-moka's 53, one with little room. By moka's own count, what it kept was a third more or
    /// less than it was after a while of this.
    #[test]
    fn memory_is_bounded_and_counted_whoever_writes_at_the_same_time() {
        let metrics = Metrics::new(true);
        let measures = Arc::new(CacheMeasures::new(&metrics, "kept.numbers"));
        let keys = CacheKeys::new(&crate::shared::SystemRng::new());
        let keys: Vec<CacheKey> = (0..64_u64).map(|number| keys.plain(number)).collect();
        for bound in [BOUND, 3 * 1024, 600] {
            let kept = kept_values(bound).unwrap();
            std::thread::scope(|threads| {
                for thread in 0..4 {
                    let (kept, measures, keys) = (&kept, &measures, &keys);
                    threads.spawn(move || {
                        for step in 0..20_000_usize {
                            let key = keys[step.wrapping_mul(7 + thread) % keys.len()];
                            if kept.get(&key).is_none() || step % 3 == 0 {
                                put(kept, key, entry(measures, step % 5000));
                            }
                        }
                    });
                }
            });
            let there: u64 = kept.iter().map(|(_, entry)| entry.weight).sum();
            let counted = measures.bytes.get();
            assert!(there <= bound, "{there} of {bound} are kept, and {} by its own count", kept.weight());
            assert!((counted - there as f64).abs() < 1.0, "{counted} for {there}, and {}", kept.weight());
            drop(kept);
            measures.bytes.set(0.0);
        }
    }
}
