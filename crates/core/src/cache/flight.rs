//! Loads under way: one for all who ask for the same at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::ValueSource;
use super::key::CacheKey;
use super::value::CacheEntry;
use crate::error::{Error, ErrorCode, Result};

/// When those who waited for a failure may come again.
const SOON: Duration = Duration::from_secs(1);

/// The loads under way, by the key of what they load.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<CacheKey, Flight>>);

struct Flight {
    /// That of the data which it loads: who comes after a change must not be told what was before.
    generation: u64,
    outcome: Landing,
}

/// Where a load tells its outcome.
type Landing = watch::Sender<Option<FlightOutcome>>;

/// What came of a load.
pub(super) type FlightOutcome = Result<(Arc<CacheEntry>, ValueSource), Arc<FlightFailure>>;

/// Why a load has failed: everybody's who waited for it, and not kept.
pub(super) struct FlightFailure {
    code: &'static ErrorCode,
    /// With its cause, for the first who asks: the log has it once.
    first: Mutex<Option<Error>>,
}

/// How a caller comes to a value that is not kept.
pub(super) enum Boarding {
    /// It is there after all.
    Landed(Arc<CacheEntry>),
    /// Somebody else's load is under way.
    Joined(Ticket),
    /// The load is for the caller to begin.
    Began(Takeoff, Ticket),
}

/// Waits for a load.
pub(super) struct Ticket(watch::Receiver<Option<FlightOutcome>>);

/// The load itself. Dropped, it has come to nothing, and nobody waits for it any more.
pub(super) struct Takeoff {
    flights: Arc<Flights>,
    key: CacheKey,
    outcome: Landing,
}

impl Flights {
    /// Joins the load of `key` in this generation, or begins it, unless a look under the lock finds that it is `kept`.
    pub(super) fn board(
        self: &Arc<Self>,
        key: CacheKey,
        generation: u64,
        kept: impl FnOnce() -> Option<Arc<CacheEntry>>,
    ) -> Boarding {
        let mut flights = self.lock();
        if let Some(flight) = flights.get(&key)
            && flight.generation == generation
        {
            return Boarding::Joined(Ticket(flight.outcome.subscribe()));
        }
        if let Some(entry) = kept() {
            return Boarding::Landed(entry); // a load has ended between the first look and this one
        }
        let (outcome, ticket) = watch::channel(None);
        flights.insert(key, Flight { generation, outcome: outcome.clone() });
        Boarding::Began(Takeoff { flights: Arc::clone(self), key, outcome }, Ticket(ticket))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Takeoff {
    /// Tells the outcome to all who wait. What is to be kept was kept before.
    pub(super) fn land(self, outcome: Result<(Arc<CacheEntry>, ValueSource)>) {
        let failed =
            |error: Error| Arc::new(FlightFailure { code: error.code(), first: Mutex::new(Some(error)) });
        self.clear(&mut self.flights.lock());
        self.outcome.send_replace(Some(outcome.map_err(failed)));
    }

    /// Waits until nobody waits for the load any more: it may then be given up.
    pub(super) async fn deserted(&self) {
        loop {
            self.outcome.closed().await;
            let mut flights = self.flights.lock();
            // Under the lock, so that nobody joins in between.
            if self.outcome.receiver_count() == 0 {
                return self.clear(&mut flights);
            }
        }
    }

    /// Makes room for another load, unless that has taken it already.
    fn clear(&self, flights: &mut HashMap<CacheKey, Flight>) {
        if let Entry::Occupied(flight) = flights.entry(self.key)
            && flight.get().outcome.same_channel(&self.outcome)
        {
            flight.remove();
        }
    }
}

impl Drop for Takeoff {
    fn drop(&mut self) {
        self.clear(&mut self.flights.lock());
    }
}

impl Ticket {
    /// What came of the load.
    ///
    /// # Errors
    /// As the load; `core.unavailable` where it was dropped, since the process stops.
    pub(super) async fn wait(mut self) -> Result<(Arc<CacheEntry>, ValueSource)> {
        let outcome = self.0.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        match outcome {
            Some(Ok(landed)) => Ok(landed),
            Some(Err(failure)) => Err(failure.error()),
            None => Err(Error::unavailable()),
        }
    }
}

impl FlightFailure {
    fn error(&self) -> Error {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| {
            let shared = Error::new(self.code).because("the load that others waited for too has failed");
            if self.code.status == 503 { shared.retry_after(SOON) } else { shared }
        })
    }
}
