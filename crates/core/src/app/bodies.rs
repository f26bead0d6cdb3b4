//! How much memory all request bodies together may take while they are read (D-03).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const KIB: usize = 1024;
/// Most requests fit into this, and take no place.
pub(crate) const SMALL: usize = 4 * KIB;
/// In KiB, for bodies that say how long they are, and for those that do not: few clients send such JSON, and each must be
/// given room for the longest.
const OF_MEMBERS: [usize; 2] = [32 * KIB, 2 * KIB];
const OF_STRANGERS: [usize; 2] = [4 * KIB, KIB];

/// The memory for bodies that are not small. Strangers have their own, which is all that they can keep from others.
#[derive(Clone)]
pub struct Bodies {
    members: Places,
    strangers: Places,
}

/// Who finds no place waits, and sends meanwhile into a full window of TCP.
#[derive(Clone)]
pub(crate) struct Places {
    declared: Arc<Semaphore>,
    undeclared: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { members: Places::new(OF_MEMBERS), strangers: Places::new(OF_STRANGERS) }
    }
}

impl Bodies {
    /// The places for whoever has shown who they are, or for the rest.
    pub(crate) fn places(&self, known: bool) -> &Places {
        if known { &self.members } else { &self.strangers }
    }
}

impl Places {
    fn new(kib: [usize; 2]) -> Self {
        let [declared, undeclared] = kib.map(|kib| Arc::new(Semaphore::new(kib)));
        Self { declared, undeclared }
    }

    /// A place for a body of at most `bytes`, a number that its sender may have `declared`. It is taken whole before more is read: bodies
    /// that grow into their places could each hold a part, and wait for one another.
    pub(crate) async fn take(&self, declared: bool, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let places = if declared { &self.declared } else { &self.undeclared };
        let kib = u32::try_from(bytes.div_ceil(KIB)).ok()?;
        Arc::clone(places).acquire_many_owned(kib).await.ok()
    }
}
