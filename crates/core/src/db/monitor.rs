//! Watches the server from a connection of its own, so that a database that is down or hung is known within
//! seconds and nobody waits for it in vain.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::Pool;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::Connection;
use super::wire::Connector;
use crate::lifecycle::{Exit, StartError};

/// How often the server is asked while it answers. With PATIENCE, readiness follows a hang within 3 s (S-01).
const INTERVAL: Duration = Duration::from_millis(500);
/// How often while it does not.
const RETRY: Duration = Duration::from_millis(250);
/// An answer that takes longer is none (S-04: requests fail within 5 s).
const PATIENCE: Duration = Duration::from_secs(2);

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
    /// Told when a connection had to be opened anew: behind it may be another server (a failover takes less time than
    /// it takes to be seen as down).
    pub(super) reconnected: Arc<Notify>,
}

/// Asks the server until `stop`, reports each change, and closes connections that nobody uses.
pub(super) async fn watch(watched: Watched, stop: CancellationToken) {
    let Watched { connection, report, doubt, .. } = &watched;
    let (mut probe, mut connected) = (None, false);
    while !stop.is_cancelled() {
        let answer = ask(connection, &mut probe).await;
        if answer == Ok(Session::New) && std::mem::replace(&mut connected, true) {
            watched.reconnected.notify_one();
        }
        let state = if answer.is_ok() { Availability::Up } else { Availability::Down };
        if report.send_replace(state) != state {
            announce(state, &watched.pool);
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

fn announce(state: Availability, pool: &Pool<Connector>) {
    match state {
        Availability::Up => tracing::info!("The database answers again"),
        Availability::Down => {
            // What is idle now may be dead without knowing it.
            pool.retain(|_, _| false);
            tracing::warn!("The database does not answer; requests get 503 until it does");
        }
    }
}

async fn ask(connection: &Connection, probe: &mut Option<Probe>) -> Result<Session, ()> {
    let answer = timeout(PATIENCE, async {
        if let Some(known) = probe
            && known.client.batch_execute("").await.is_ok()
        {
            return Ok(Session::Known);
        }
        // One connection may end for reasons of its own: the server is down when it takes no other.
        let opened = probe.insert(connect(connection).await?);
        opened.client.batch_execute("").await.map(|()| Session::New)
    })
    .await;
    if let Ok(Ok(session)) = answer {
        return Ok(session);
    }
    *probe = None;
    Err(())
}

#[allow(clippy::disallowed_methods)] // the task is owned, and ended, by the Probe
async fn connect(connection: &Connection) -> Result<Probe, tokio_postgres::Error> {
    let (client, session) = connection.open().await?;
    let session = tokio::spawn(async move {
        let _ = session.await; // the client's next call fails, and says why
    });
    Ok(Probe { client, session })
}

/// Why the server could not be reached, for a person, without the password.
pub(super) fn explain(connection: &Connection, error: tokio_postgres::Error) -> StartError {
    let whom = connection.user().unwrap_or("?");
    let database = connection.driver.get_dbname().unwrap_or(whom);
    let place = connection.place();
    let (what, fix) = match error.code().map(tokio_postgres::error::SqlState::code) {
        Some("28P01" | "28000") => {
            (format!("refused user '{whom}'"), "check the user and password in the URL")
        }
        Some("3D000") => (format!("has no database '{database}'"), "create it, or correct the URL"),
        Some("53300") => {
            ("has no connection left".to_owned(), "raise max_connections or lower DATABASE_MAX_CONNECTIONS")
        }
        Some("08P01") => (
            format!("does not take our start-up options ({error})"),
            "behind a pooler set DATABASE_PREPARED_STATEMENTS=off",
        ),
        Some(_) => (format!("refused the connection ({error})"), "see PostgreSQL's log"),
        None => {
            ("cannot be reached".to_owned(), "check that it runs and that the URL's host and port are right")
        }
    };
    StartError::with_fix(Exit::Unavailable, format!("PostgreSQL at {place} {what}"), fix).because(error)
}

/// The same for a server that takes the connection and says nothing.
pub(super) fn silent(connection: &Connection) -> StartError {
    StartError::with_fix(
        Exit::Unavailable,
        format!("PostgreSQL at {} does not answer", connection.place()),
        "check that it is PostgreSQL, and not hung or overloaded",
    )
}
