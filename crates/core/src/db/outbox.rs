//! Tells this process of tenants that have just emitted events, so that these are given their numbers at once.
//!
//! A hint, as the doorbell is: it is rung after the COMMIT, and what nobody has told of is found by a look at the events
//! that have no number.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::shared::TenantId;

/// More tenants than this are not remembered between two looks.
const MOST: usize = 10_000;

/// The tenants that have emitted something since somebody looked.
#[derive(Default)]
pub(crate) struct Outbox {
    emitted: Mutex<BTreeSet<TenantId>>,
    notify: Notify,
}

impl Outbox {
    /// Tells of events that are committed.
    pub(crate) fn tell(&self, tenant: TenantId) {
        let mut emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
        if emitted.len() < MOST {
            emitted.insert(tenant);
        }
        drop(emitted);
        self.notify.notify_one();
    }

    /// Waits until somebody has told of something. For one listener.
    pub(crate) async fn told(&self) {
        while self.emitted.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.notify.notified().await;
        }
    }

    /// Takes what has been told of so far.
    pub(crate) fn take(&self) -> BTreeSet<TenantId> {
        std::mem::take(&mut *self.emitted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
