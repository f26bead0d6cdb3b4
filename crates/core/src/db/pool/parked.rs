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
    waiting: Mutex<HashMap<u64, Option<Parked>>>,
}

/// A transaction that is finished but for COMMIT.
pub(in crate::db) struct Parked {
    pub(in crate::db) checkout: Checkout,
    pub(in crate::db) tenant: Option<TenantId>,
}

impl Deferrals {
    /// Refuses a second change: it would wait for rows that the first has locked, and they could not be committed as one.
    pub(in crate::db) fn admit(&self, number: u64) -> Result<()> {
        match self.lock().get(&number) {
            Some(None) => Ok(()),
            Some(Some(_)) => {
                Err(Error::internal("an idempotent request makes its changes in one transaction"))
            }
            None => Err(Error::internal("the request that this change belongs to is over")),
        }
    }

    pub(in crate::db) fn park(&self, number: u64, parked: Parked) -> Result<()> {
        self.admit(number)?;
        self.lock().insert(number, Some(parked));
        Ok(())
    }

    pub(in crate::db) fn lock(&self) -> MutexGuard<'_, HashMap<u64, Option<Parked>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
