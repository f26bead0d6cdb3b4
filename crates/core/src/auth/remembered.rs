//! What was read from the database a moment ago: it holds for five seconds, by the process's own monotonic clock.
//!
//! One request reads, while others that want the same wait for what it finds; a failure is theirs too, so that a database that is
//! away is not asked by one after the other. Later requests do not hear of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use crate::error::{Error, ErrorCode};

/// How long what was read holds: a right that is taken away, or a plan that is changed, counts no longer than this.
pub(super) const FRESH: Duration = Duration::from_secs(5);
/// When those who waited for a failure may come again.
const SOON: Duration = Duration::from_secs(1);
/// How much is remembered: some 2 MiB of what a principal may do.
pub(super) const MOST: usize = 10_000;

/// Values that were read at most five seconds ago, by what they are of.
pub(super) struct Remembered<K, V>(RwLock<HashMap<K, RememberedValue<V>>>);

struct RememberedValue<V> {
    reading: ValueReading<V>,
    /// When it was begun; `None` after a failure, of which only what was known before is kept.
    since: Option<Instant>,
    /// What was known before.
    last: Option<V>,
}

/// What is read, or was: the value, or the code of the failure.
type ValueReading<V> = Arc<OnceCell<Result<V, &'static ErrorCode>>>;

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Remembered<K, V> {
    /// The value of `key`; by `read` where that is not known at `now`.
    ///
    /// # Errors
    /// As `read`.
    pub(super) async fn get<F>(&self, key: K, now: Instant, read: impl FnOnce() -> F) -> Result<V, Error>
    where
        F: Future<Output = Result<V, Error>>,
    {
        if let Some(value) = self.find(key, now) {
            return Ok(value);
        }
        let reading = self.begin(key, now);
        let mut failure = None;
        let found = reading.get_or_init(async || {
            read().await.map_err(|error| {
                self.give_up(key, &reading);
                failure.insert(error).code()
            })
        });
        match found.await {
            Ok(value) => Ok(value.clone()),
            Err(code) => Err(failure.unwrap_or_else(|| Error::new(code).retry_after(SOON))),
        }
    }

    /// What was known last, however long ago.
    pub(super) fn last(&self, key: K) -> Option<V> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&key)?;
        known.reading.get().and_then(|read| read.as_ref().ok()).or(known.last.as_ref()).cloned()
    }

    /// Forgets what `which` names: the next request reads it anew.
    pub(super) fn forget(&self, which: impl Fn(&K) -> bool) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, _| !which(key));
    }

    /// How much is remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Forgets a reading that has failed, once those who wait for it are told.
    fn give_up(&self, key: K, reading: &ValueReading<V>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = known.get_mut(&key).filter(|entry| Arc::ptr_eq(&entry.reading, reading)) else {
            return;
        };
        if entry.last.is_none() {
            known.remove(&key);
        } else {
            (entry.reading, entry.since) = (Arc::default(), None);
        }
    }

    fn find(&self, key: K, now: Instant) -> Option<V> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&key).filter(|known| known.is_fresh(now))?.reading.get()?.clone().ok()
    }

    /// What others wait for already, or else begins to be read now.
    fn begin(&self, key: K, now: Instant) -> ValueReading<V> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(&key) {
            known.retain(|_, known| known.is_fresh(now));
            if known.len() >= MOST {
                known.clear(); // all asked within five seconds: the price is reading each once more
            }
        }
        let anew = |last| RememberedValue { reading: Arc::default(), since: Some(now), last };
        let entry = known.entry(key).or_insert_with(|| anew(None));
        if !entry.is_fresh(now) {
            let read = entry.reading.get().and_then(|read| read.as_ref().ok()).cloned();
            *entry = anew(read.or_else(|| entry.last.take()));
        }
        Arc::clone(&entry.reading)
    }
}

impl<V> RememberedValue<V> {
    fn is_fresh(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) < FRESH)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::codes;

    #[tokio::test]
    async fn one_reads_and_others_wait_and_a_failure_is_not_kept() {
        let (known, now) = (Remembered::default(), Instant::now());
        assert!(known.get(1, now, async || Err(Error::unavailable())).await.is_err());
        let reads = AtomicU32::new(0);
        let read = async || {
            reads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok("read")
        };
        let all = (0..50).map(|_| known.get(1, now, read));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn s_06_a_failure_is_everybodys_who_waits_for_it_and_nobody_elses() {
        let (known, now) = (Remembered::default(), Instant::now());
        let reads = AtomicU32::new(0);
        let fail = async || {
            reads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err(Error::unavailable())
        };
        let all = (0..50).map(|_| known.get(1, now, fail));
        let refused = futures_util::future::join_all(all).await;
        assert!(refused.into_iter().all(|outcome| outcome.unwrap_err().code() == &codes::UNAVAILABLE));
        assert_eq!(reads.load(Ordering::Relaxed), 1, "not one after the other");
        assert!(known.get(1, now, async || Ok("read")).await.is_ok());
    }

    #[tokio::test]
    async fn what_was_known_last_is_told_while_the_database_is_away() {
        let (known, now) = (Remembered::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        let away = async || Err(Error::unavailable());
        assert_eq!(known.last(1), None);
        assert_eq!(known.get(1, now, async || Ok(7)).await.unwrap(), 7);
        for seconds in [5, 6, 60] {
            assert!(known.get(1, later(seconds), away).await.is_err(), "what is old is not passed for new");
            assert_eq!(known.last(1), Some(7));
        }
        assert_eq!(known.get(1, later(61), async || Ok(8)).await.unwrap(), 8);
        assert_eq!((known.last(1), known.last(2)), (Some(8), None));
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let (known, now) = (Remembered::default(), Instant::now());
        for number in 0..(2 * MOST + 5) {
            known.get(number, now, async || Ok(())).await.unwrap();
        }
        assert!(known.len() <= MOST);
    }
}
