//! Transactions that are finished but for COMMIT, which waits for the answer of their request (see `tx/deferral.rs`).

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::checkout::Checkout;
use crate::error::{Error, Result};
use crate::shared::TenantId;

/// The transactions that wait, by the number of their deferral.
#[derive(Default)]
pub(in crate::db) struct Deferrals {
    pub(in crate::db) last_number: AtomicU64,
    slots: Mutex<HashMap<u64, Slot>>,
}

/// What a request under a key has changed so far.
#[derive(Default)]
pub(in crate::db) enum Slot {
    /// Nothing.
    #[default]
    Empty,
    /// What waits for COMMIT.
    Waiting(Box<Parked>),
    /// A later part of the request goes on with it. Where that part is dropped, all of it is rolled back.
    Joined,
}

/// A transaction that is finished but for COMMIT.
pub(in crate::db) struct Parked {
    pub(in crate::db) checkout: Checkout,
    pub(in crate::db) tenant: Option<TenantId>,
}

impl Deferrals {
    /// Begins a request that has changed nothing yet.
    pub(in crate::db) fn begin(&self, number: u64) {
        self.lock().insert(number, Slot::Empty);
    }

    /// What an earlier part of the request has changed, for a later part to go on with.
    ///
    /// # Errors
    /// `core.internal` when the request is over, or two parts of it change something at a time.
    pub(in crate::db) fn join(&self, number: u64) -> Result<Option<Parked>> {
        let mut slots = self.lock();
        let over = || Error::internal("the request that this change belongs to is over");
        let slot = slots.get_mut(&number).ok_or_else(over)?;
        match std::mem::take(slot) {
            Slot::Empty => Ok(None),
            Slot::Waiting(parked) => {
                *slot = Slot::Joined;
                Ok(Some(*parked))
            }
            Slot::Joined => {
                *slot = Slot::Joined;
                Err(Error::internal("an idempotent request makes its changes one after the other"))
            }
        }
    }

    /// Whether an earlier part of the request has changed something.
    pub(in crate::db) fn is_waiting(&self, number: u64) -> bool {
        matches!(self.lock().get(&number), Some(Slot::Waiting(_)))
    }

    /// Lets a transaction wait for COMMIT.
    pub(in crate::db) fn park(&self, number: u64, parked: Parked) -> Result<()> {
        let mut slots = self.lock();
        match slots.get_mut(&number) {
            Some(Slot::Waiting(_)) => {
                Err(Error::internal("an idempotent request makes its changes one after the other"))
            }
            Some(slot) => {
                *slot = Slot::Waiting(Box::new(parked));
                Ok(())
            }
            None => Err(Error::internal("the request that this change belongs to is over")),
        }
    }

    /// Takes what waits, for COMMIT.
    ///
    /// # Errors
    /// `core.internal` when a later part of the request has been dropped, and what was changed before went with it.
    pub(in crate::db) fn take(&self, number: u64) -> Result<Option<Parked>> {
        match self.lock().insert(number, Slot::Empty) {
            Some(Slot::Waiting(parked)) => Ok(Some(*parked)),
            Some(Slot::Joined) => Err(Error::internal(
                "a later change of an idempotent request was not committed, and the earlier ones went with it",
            )),
            Some(Slot::Empty) | None => Ok(None),
        }
    }

    /// Ends a request; what still waits is to be dropped, which rolls it back.
    pub(in crate::db) fn end(&self, number: u64) -> Option<Slot> {
        self.lock().remove(&number)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
