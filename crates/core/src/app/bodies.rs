//! How much memory all request bodies together may take while they are read (D-03).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::shared::{Shares, TenantId, most_of};

const KIB: usize = 1024;
/// Most requests fit into this, and take no room.
pub(crate) const SMALL: usize = 4 * KIB;
/// In KiB, for bodies that say how long they are, and for those that do not: few clients send such JSON, and each must be
/// given room for the longest.
const OF_MEMBERS: [usize; 2] = [32 * KIB, 3 * KIB];
const OF_STRANGERS: [usize; 2] = [4 * KIB, KIB];

/// The memory for bodies that are not small. Strangers have their own, which is all that they can keep from others, and
/// one tenant's members have at most three quarters of the members'.
pub struct Bodies {
    members: [Places; 2],
    strangers: [Places; 2],
}

/// Who finds no place waits, and sends meanwhile into a full window of TCP.
struct Places {
    all: Arc<Semaphore>,
    /// Of members' places.
    of_tenant: Option<Shares>,
}

/// Memory that a body may take; given back on drop.
pub(crate) struct Room {
    _share: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            members: OF_MEMBERS.map(|kib| Places::new(kib, Some(Shares::new(most_of(kib))))),
            strangers: OF_STRANGERS.map(|kib| Places::new(kib, None)),
        }
    }
}

impl Bodies {
    /// Room for a body of at most `bytes`, a number that its sender may have `declared`. It is taken whole before more
    /// is read: bodies that grow into their places could each hold a part, and wait for one another.
    pub(crate) async fn take(&self, sender: Option<TenantId>, declared: bool, bytes: usize) -> Option<Room> {
        let kib = u32::try_from(bytes.div_ceil(KIB)).ok()?;
        let [of_declared, of_others] = if sender.is_some() { &self.members } else { &self.strangers };
        let places = if declared { of_declared } else { of_others };
        let share = match (sender, &places.of_tenant) {
            (Some(tenant), Some(shares)) => Some(acquire(shares.of(tenant)?, kib).await?),
            _ => None,
        };
        Some(Room { _share: share, _of_all: acquire(&places.all, kib).await? })
    }
}

impl Bodies {
    /// How many KiB are taken, of those whose senders are known, and how many there are.
    pub(crate) fn use_of_members(&self) -> (usize, usize) {
        let free: usize = self.members.iter().map(|places| places.all.available_permits()).sum();
        let all: usize = OF_MEMBERS.iter().sum();
        (all.saturating_sub(free), all)
    }
}

impl Places {
    fn new(kib: usize, of_tenant: Option<Shares>) -> Self {
        Self { all: Arc::new(Semaphore::new(kib)), of_tenant }
    }
}

async fn acquire(places: &Arc<Semaphore>, kib: u32) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).acquire_many_owned(kib).await.ok()
}
