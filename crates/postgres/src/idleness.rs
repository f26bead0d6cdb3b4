//! Connections that nobody has used for a while: what stands between may have forgotten them, and swallow what is sent.
//!
//! The holder of such a connection first asks the server for a sign of life. Time is what the monitor last said, so
//! that a request reads no clock for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::connect::Connector;
use super::{Wire, WireError};

/// A connection that was silent for longer is asked before it is used.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Milliseconds since the pool was opened, as the monitor last counted them; and up to when a silent connection was
/// found dead: those that have been silent for as long are dead too.
#[derive(Default)]
pub(super) struct Idleness {
    now: AtomicU64,
    dead: AtomicU64,
}

impl Idleness {
    /// So much time has passed since the pool was opened.
    pub(super) fn tell(&self, elapsed: Duration) {
        self.now.store(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
}

impl Wire {
    /// Whether the next borrower can have it: outside any transaction, nothing under way, not closed by the server in
    /// the meantime, and not forgotten on the way to it.
    pub async fn is_fit(&mut self, connector: &Connector) -> bool {
        let now = connector.idleness.now();
        let silent = Duration::from_millis(now.saturating_sub(self.used)) >= SILENCE;
        let fit = self.is_fresh(connector)
            && (!silent
                || self.cancel.target.is_socket()
                || Box::pin(self.answers(&connector.idleness)).await);
        if fit {
            self.used = now;
        }
        fit
    }

    /// Asks for a sign of life, unless one that was silent for as long has given none.
    async fn answers(&mut self, idleness: &Idleness) -> bool {
        if self.used < idleness.dead.load(Ordering::Relaxed) {
            return false;
        }
        let asking = async {
            self.begin()?;
            self.sync();
            self.flush().await?;
            self.drain().await
        };
        let answer: Result<Result<(), WireError>, _> = timeout(PATIENCE, asking).await;
        let answered = matches!(answer, Ok(Ok(())));
        if !answered {
            self.broken = true;
            idleness.dead.fetch_max(self.used + 1, Ordering::Relaxed);
        }
        answered
    }
}
