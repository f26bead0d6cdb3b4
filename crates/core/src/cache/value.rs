//! A value as this process keeps it.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::CacheMeasures;
use crate::error::{Error, Result};

/// What an entry takes beside its value.
const ENTRY: u64 = 512;

/// A value, and what is known of it.
pub(super) struct CacheEntry {
    value: Arc<dyn Any + Send + Sync>,
    /// In bytes, about: that of its JSON, and of the entry.
    pub(super) weight: u64,
    /// That of its data in this process when its load began.
    generation: u64,
    /// The same in Redis, where that was asked.
    pub(super) shared: Option<String>,
    /// How long it is good for, from the beginning of its load.
    pub(super) good_for: Duration,
    since: Instant,
    /// When it was last known that no other instance had changed its data, in milliseconds since the caches began.
    heard: AtomicU64,
    pub(super) measures: Arc<CacheMeasures>,
}

impl CacheEntry {
    pub(super) fn new<V: Send + Sync + 'static>(
        value: V,
        json: usize,
        generation: u64,
        shared: Option<String>,
        (since, good_for): (Instant, Duration),
        heard: Duration,
        measures: Arc<CacheMeasures>,
    ) -> Self {
        let heard = AtomicU64::new(millis(heard));
        let weight = json as u64 + ENTRY;
        Self { value: Arc::new(value), weight, generation, shared, good_for, since, heard, measures }
    }

    /// The value.
    ///
    /// # Errors
    /// None: a key tells the cache, and that the type.
    pub(super) fn value<V: Send + Sync + 'static>(&self) -> Result<Arc<V>> {
        let value = Arc::clone(&self.value).downcast();
        value.map_err(|_| Error::internal("a cache has a value of another type"))
    }

    /// Whether it is of this generation, and not over.
    pub(super) fn is_good(&self, generation: u64, now: Instant) -> bool {
        self.generation == generation && now.saturating_duration_since(self.since) < self.good_for
    }

    pub(super) fn heard_within(&self, trust: Duration, now: Duration) -> bool {
        millis(now).saturating_sub(self.heard.load(Ordering::Relaxed)) < millis(trust)
    }

    /// No other instance had changed its data at this moment.
    pub(super) fn heard_of(&self, now: Duration) {
        self.heard.fetch_max(millis(now), Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
