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

use super::connection::Opened;
use super::refusal::Refusal;
use super::wire::Connector;
use super::{Connection, Deviation, Writes};

/// How often the server is asked while it answers. With PATIENCE, readiness follows a hang within 3 s (S-01).
const INTERVAL: Duration = Duration::from_millis(500);
/// How often while it does not.
const RETRY: Duration = Duration::from_millis(250);
/// An answer that takes longer is none (S-04: requests fail within 5 s).
const PATIENCE: Duration = Duration::from_secs(2);

/// How long until the same is said again.
const AGAIN: Duration = Duration::from_secs(60);

/// Whether the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Availability {
    Up,
    Down,
}

/// What an answer came over.
#[derive(Debug, PartialEq, Eq)]
enum Session {
    Known,
    New,
}

/// A connection and the task that drives it; dropping it closes both.
struct Probe {
    client: Client,
    session: tokio::task::JoinHandle<()>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.session.abort();
    }
}

/// What is watched over, and who is told.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) connection: Connection,
    pub(super) pool: Pool<Connector>,
    /// How long a pooled connection may go unused.
    pub(super) idle_timeout: Duration,
    /// Gets each change.
    pub(super) report: watch::Sender<Availability>,
    /// Somebody's connection has broken: look at once.
    pub(super) doubt: Arc<Notify>,
    /// A change was refused for being read-only: look at a new session.
    pub(super) distrust: Arc<AtomicBool>,
    /// Told when a connection had to be opened anew: behind it may be another server (a failover takes less time than
    /// it takes to be seen as down).
    pub(super) reconnected: Arc<Notify>,
}

/// Asks the server until `stop`, reports each change, and closes connections that nobody uses.
pub(super) async fn watch(watched: Watched, stop: CancellationToken) {
    let Watched { connection, report, doubt, distrust, .. } = &watched;
    let (mut probe, mut connected, begun, mut warned) = (None, false, Instant::now(), None);
    while !stop.is_cancelled() {
        watched.pool.manager().idleness.tell(begun.elapsed());
        if distrust.swap(false, Ordering::Relaxed) {
            warn_of_read_only(connection, &mut warned).await;
        }
        let up = *report.borrow() == Availability::Up;
        let answer = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            answer = ask(connection, &mut probe, up) => answer,
        };
        if answer.as_ref().is_ok_and(|session| *session == Session::New)
            && std::mem::replace(&mut connected, true)
        {
            watched.reconnected.notify_one();
        }
        let state = if answer.is_ok() { Availability::Up } else { Availability::Down };
        if report.send_replace(state) != state {
            announce(answer.err().as_deref(), &watched.pool);
        }
        watched.pool.retain(|_, usage| usage.last_used() < watched.idle_timeout);
        let pause = if state == Availability::Up { INTERVAL } else { RETRY };
        tokio::select! {
            () = stop.cancelled() => {}
            () = doubt.notified(), if state == Availability::Up => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Says why changes are refused, once a minute: what the monitor's own session says may be out of date.
async fn warn_of_read_only(connection: &Connection, warned: &mut Option<Instant>) {
    if warned.is_some_and(|at| at.elapsed() < AGAIN) {
        return;
    }
    if let Ok(Ok(opened)) = timeout(PATIENCE, connection.open()).await
        && opened.writes != Writes::Taken
    {
        *warned = Some(Instant::now());
        let why = match opened.writes {
            Writes::OffByDefault => Deviation::ReadOnly.to_string(),
            _ => "is a standby".to_owned(),
        };
        tracing::warn!("PostgreSQL at {} {why}: every change gets 503", opened.place);
    }
}

fn announce(trouble: Option<&str>, pool: &Pool<Connector>) {
    match trouble {
        None => tracing::info!("The database answers again"),
        Some(reason) => {
            // What is idle now may be dead without knowing it.
            pool.retain(|_, _| false);
            tracing::warn!(reason, "The database does not answer; requests get 503 until it does");
        }
    }
}

/// Asks once; `Err` says why there is no answer. While the server is believed to answer, requests wait for this: it takes
/// PATIENCE at most. Later each address has the time that the URL gives it.
async fn ask(connection: &Connection, probe: &mut Option<Probe>, up: bool) -> Result<Session, String> {
    let asking = async {
        if let Some(known) = &*probe
            && known.client.batch_execute("").await.is_ok()
        {
            return Ok(Session::Known);
        }
        // One connection may end for reasons of its own: the server is down when it takes no other.
        let opened = connect(connection)
            .await
            .map_err(|error| Refusal::new(connection, error).error.what().to_owned())?;
        *probe = Some(opened);
        Ok(Session::New)
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

#[allow(clippy::disallowed_methods)] // the task is owned, and ended, by the Probe
async fn connect(connection: &Connection) -> Result<Probe, super::wire::Error> {
    let Opened { client, session, .. } = connection.open().await?;
    let session = tokio::spawn(async move {
        let _ = session.await; // the client's next call fails, and says why
    });
    Ok(Probe { client, session })
}
