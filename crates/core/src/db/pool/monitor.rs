//! Watches the server from a connection of its own, so that a database that is down or hung is known within
//! seconds and nobody waits for it in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deadpool::managed::Pool;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::db::connect::connection::Opened;
use crate::db::connect::refusal::Refusal;
use crate::db::pool::Opener;
use crate::db::{Connection, Writes};

/// How often the server is asked while it answers. With PATIENCE, readiness follows a hang within 3 s (S-01).
const INTERVAL: Duration = Duration::from_millis(500);
/// How often while it does not.
const RETRY: Duration = Duration::from_millis(250);
/// An answer that takes longer is none (S-04: requests fail within 5 s).
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a server that takes no changes is asked whether it does again.
const READ_ONLY_INTERVAL: Duration = Duration::from_secs(2);

/// Whether the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Availability {
    Up,
    Down,
}

/// What an answer came over.
#[derive(Debug, PartialEq, Eq)]
enum AskedOver {
    Known,
    New(Writes),
}

/// A connection and the task that drives it; dropping it closes both.
struct WatchSession {
    client: Client,
    session: tokio::task::JoinHandle<()>,
}

impl Drop for WatchSession {
    fn drop(&mut self) {
        self.session.abort();
    }
}

/// What is watched over, and who is told.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(in crate::db) connection: Connection,
    pub(in crate::db) pools: [Pool<Opener>; 2],
    /// How long a pooled connection may go unused.
    pub(in crate::db) idle_timeout: Duration,
    /// Gets each change.
    pub(in crate::db) report: watch::Sender<Availability>,
    /// Gets whether changes are taken.
    pub(in crate::db) writes: watch::Sender<Writes>,
    /// Somebody's connection has broken: look at once.
    pub(in crate::db) doubt: Arc<Notify>,
    /// A change was refused for being read-only: look at a new session.
    pub(in crate::db) distrust: Arc<AtomicBool>,
    /// Told when a connection had to be opened anew: behind it may be another server (a failover takes less time than
    /// it takes to be seen as down).
    pub(in crate::db) reconnected: Arc<Notify>,
}

/// Asks the server until `stop`, reports each change, and closes connections that nobody uses.
pub(in crate::db) async fn watch(watched: Watched, stop: CancellationToken) {
    let Watched { connection, report, doubt, distrust, .. } = &watched;
    let mut probe = None;
    let mut connected = false;
    let begun = Instant::now();
    let mut looked = Instant::now();
    while !stop.is_cancelled() {
        watched.pools.iter().for_each(|pool| pool.manager().0.tell_time(begun.elapsed()));
        let refused = distrust.swap(false, Ordering::Relaxed);
        let takes_none = *watched.writes.borrow() != Writes::Taken;
        if (takes_none || refused) && (!takes_none || looked.elapsed() >= READ_ONLY_INTERVAL) {
            looked = Instant::now();
            watched.look_at_writes().await;
        }
        let up = *report.borrow() == Availability::Up;
        let answer = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            answer = ask(connection, &mut probe, up) => answer,
        };
        if let Ok(AskedOver::New(writes)) = answer {
            watched.note(writes);
            if std::mem::replace(&mut connected, true) {
                watched.reconnected.notify_one();
            }
        }
        let state = if answer.is_ok() { Availability::Up } else { Availability::Down };
        if report.send_replace(state) != state {
            announce(answer.err().as_deref(), &watched.pools);
        }
        for pool in &watched.pools {
            pool.retain(|_, usage| usage.last_used() < watched.idle_timeout);
        }
        let pause = if state == Availability::Up { INTERVAL } else { RETRY };
        tokio::select! {
            () = stop.cancelled() => {}
            () = doubt.notified(), if state == Availability::Up => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Watched {
    /// Asks a new session whether it takes changes: one that was opened before may go by an older default.
    async fn look_at_writes(&self) {
        if let Ok(Ok(opened)) = timeout(PATIENCE, self.connection.open()).await {
            self.note(opened.writes);
        }
    }

    /// Says each change once.
    fn note(&self, writes: Writes) {
        if self.writes.send_replace(writes) == writes {
            return;
        }
        let place = self.connection.place();
        match writes {
            Writes::Taken => {
                // Sessions keep the default that they were opened with.
                self.pools.iter().for_each(|pool| pool.manager().0.forget());
                tracing::info!("PostgreSQL at {place} takes changes again");
            }
            Writes::OffByDefault => {
                let why = Refusal::read_only(&self.connection, place).error;
                tracing::warn!("{why}. Reads are served, and every change gets 503");
            }
            Writes::Standby => {
                tracing::warn!(
                    "PostgreSQL at {place} is a standby. Reads are served, and every change gets 503"
                );
            }
        }
    }
}

fn announce(trouble: Option<&str>, pools: &[Pool<Opener>]) {
    match trouble {
        None => tracing::info!("The database answers again"),
        Some(reason) => {
            // What is idle now may be dead without knowing it.
            pools.iter().for_each(|pool| drop(pool.retain(|_, _| false)));
            tracing::warn!(reason, "The database does not answer; requests get 503 until it does");
        }
    }
}

/// Asks once; `Err` says why there is no answer. While the server is believed to answer, requests wait for this: it takes
/// PATIENCE at most. Later each address has the time that the URL gives it.
async fn ask(
    connection: &Connection,
    probe: &mut Option<WatchSession>,
    up: bool,
) -> Result<AskedOver, String> {
    let asking = async {
        if let Some(known) = &*probe
            && known.client.batch_execute("").await.is_ok()
        {
            return Ok(AskedOver::Known);
        }
        // One connection may end for reasons of its own: the server is down when it takes no other.
        let opened = connect(connection)
            .await
            .map_err(|error| Refusal::new(connection, error).error.what().to_owned())?;
        *probe = Some(opened.0);
        Ok(AskedOver::New(opened.1))
    };
    let answer = match up {
        true => timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err("it takes too long".to_owned())),
        false => asking.await,
    };
    if answer.is_err() {
        *probe = None;
    }
    answer
}

#[allow(clippy::disallowed_methods)] // the task is owned, and ended, by the WatchSession
async fn connect(connection: &Connection) -> Result<(WatchSession, Writes), erp_postgres::WireError> {
    let Opened { client, session, writes, .. } = connection.open().await?;
    let session = tokio::spawn(async move {
        let _ = session.await; // the client's next call fails, and says why
    });
    Ok((WatchSession { client, session }, writes))
}
