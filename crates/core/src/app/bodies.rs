//! How much memory all request bodies together may take while they are read (D-03).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const KIB: usize = 1024;
/// Most requests fit into this, and take no place.
pub(crate) const SMALL: usize = 4 * KIB;
/// For bodies that say how long they are, in KiB.
const DECLARED: usize = 32 * KIB;
/// For bodies that do not, in KiB. Few clients send such JSON, and each must be given room for the longest.
const UNDECLARED: usize = 2 * KIB;

/// The places of bodies that are not small. Who finds none waits, and sends meanwhile into a full window of TCP.
#[derive(Clone)]
pub struct Bodies {
    declared: Arc<Semaphore>,
    undeclared: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            declared: Arc::new(Semaphore::new(DECLARED)),
            undeclared: Arc::new(Semaphore::new(UNDECLARED)),
        }
    }
}

impl Bodies {
    /// A place for a body of at most `bytes`, a number that its sender may have `declared`. It is taken whole before more is read: bodies
    /// that grow into their places could each hold a part, and wait for one another.
    pub(crate) async fn place(&self, declared: bool, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let places = if declared { &self.declared } else { &self.undeclared };
        let kib = u32::try_from(bytes.div_ceil(KIB)).ok()?;
        Arc::clone(places).acquire_many_owned(kib).await.ok()
    }
}
