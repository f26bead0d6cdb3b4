//! The server gives no further connection while others of ours are in use: the pool is larger than what the role may
//! have, or other programs take more than their share. Requests that come then wait for one that is given back, in turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::timeout;

use crate::shared::Seldom;

/// How often who is next in turn asks the server for a further connection, while none is given back.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

pub(in crate::db) struct Shortage {
    waiting: AtomicUsize,
    turn: Mutex<()>,
    freed: Notify,
    warning: Seldom,
}

/// A place in the queue, given up on drop.
pub(in crate::db) struct Waiting<'a>(&'a Shortage);

impl Default for Shortage {
    fn default() -> Self {
        let waiting = AtomicUsize::new(0);
        let turn = Mutex::default();
        let freed = Notify::new();
        Self { waiting, turn, freed, warning: Seldom::new(LOG_INTERVAL) }
    }
}

impl Shortage {
    /// How many wait. While there are any, nobody else is to ask the server.
    pub(in crate::db) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A connection was given back, or closed.
    pub(in crate::db) fn freed(&self) {
        if self.waiting() > 0 {
            self.freed.notify_one();
        }
    }

    /// Queues up. `open` connections are there to be waited for.
    pub(in crate::db) fn queue(&self, open: usize) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.warning.is_due() {
            tracing::warn!(
                open,
                "PostgreSQL gives no further connection; requests share the open ones. Lower DATABASE_MAX_CONNECTIONS, \
                 or raise max_connections or the role's connection limit"
            );
        }
        Waiting(self)
    }
}

impl<'a> Waiting<'a> {
    /// Waits until all who came before have been served.
    pub(in crate::db) async fn turn(&self) -> MutexGuard<'a, ()> {
        self.0.turn.lock().await
    }

    /// Waits until one was given back, or it is time to ask the server again.
    pub(in crate::db) async fn freed(&self) {
        let _ = timeout(AGAIN, self.0.freed.notified()).await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
