//! Tells workers of jobs that have just been committed, so that they need not look all the time.
//!
//! A ring is a hint: workers also look by themselves. It is rung after the COMMIT and never in a transaction of a request:
//! NOTIFY takes a lock of the whole cluster at COMMIT, behind which all that notify would queue, and a full queue would
//! fail the request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::shared::TenantId;

/// More lanes than this are not remembered between two looks: workers find the rest by themselves.
const MOST: usize = 10_000;

/// Jobs of one tenant, kind and priority: they are claimed in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Whose jobs.
    pub tenant: TenantId,
    /// Their kind, as the database has it.
    pub kind: &'static str,
    /// 0 before 1 before 2.
    pub priority: u8,
}

/// The lanes that jobs came into since somebody looked, each with the lowest id that came.
#[derive(Default)]
pub struct Doorbell {
    rung: Mutex<HashMap<Lane, Uuid>>,
    notify: Notify,
}

impl Doorbell {
    /// Rings for jobs that are committed.
    pub(crate) fn ring(&self, jobs: impl IntoIterator<Item = (Lane, Uuid)>) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        for (lane, id) in jobs {
            if rung.len() < MOST || rung.contains_key(&lane) {
                rung.entry(lane).and_modify(|lowest| *lowest = id.min(*lowest)).or_insert(id);
            }
        }
        drop(rung);
        self.notify.notify_one();
    }

    /// Waits for a ring, and takes what has been rung for so far. For one listener.
    pub(crate) async fn rung(&self) -> HashMap<Lane, Uuid> {
        loop {
            let taken = std::mem::take(&mut *self.rung.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.notify.notified().await;
        }
    }
}
