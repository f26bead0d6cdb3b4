//! The private PostgreSQL cluster of development and tests.
//!
//! The real engine, started from the binaries on the machine: a data folder and a unix socket that nobody else can
//! reach, a process group of its own (Ctrl-C reaches the server first), stopped with the server. After a kill -9 of
//! the server PostgreSQL lives on; the next start adopts it.

mod account;
mod answer;
mod binaries;
mod initialise;
mod place;
mod postmaster;
mod roles;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{Background, StartError, StopStage};

use binaries::Binaries;
use place::ClusterPlace;
use postmaster::Postmaster;

pub use roles::{Roles, provision};

/// What a [`Cluster`] is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The cluster's own folder, such as `DATA_DIR/postgres`; it is made where it is missing. Where the account that
    /// PostgreSQL runs as cannot reach it, the data lie below `/tmp`, under a hash of this path.
    pub folder: PathBuf,
    /// Whether a commit survives a power cut. `false` is for tests: faster, and the data may be lost.
    pub durable: bool,
    /// Connections the cluster takes at once.
    pub max_connections: u32,
    /// The `PATH` to look for PostgreSQL's binaries in, before the places where packages put them.
    pub path: OsString,
}

/// Keeps the private PostgreSQL running.
pub(crate) static PRIVATE_POSTGRESQL: Background<Arc<Cluster>> = Background {
    name: "private PostgreSQL",
    about: "Starts the private PostgreSQL of development again when it has died.",
    critical: true,
    stops: StopStage::Foundation,
    run: |cluster, stop| Box::pin(async move { cluster.supervise(stop.token().clone()).await }),
    observe: |_| {},
};

/// How long a stop waits for a PostgreSQL that is just being started again.
const COMING_UP: Duration = Duration::from_secs(5);

/// A running private PostgreSQL.
///
/// Dropping it without [`Cluster::stop`] leaves PostgreSQL running, as a kill -9 would; the next start adopts it.
#[derive(Debug)]
#[must_use = "PostgreSQL goes on running until `stop`"]
pub struct Cluster {
    options: ClusterOptions,
    binaries: Binaries,
    place: ClusterPlace,
    postmaster: Mutex<Postmaster>,
}

impl Cluster {
    /// Starts the cluster, or adopts the one that an earlier server left running, and returns once it answers.
    ///
    /// A new folder is initialised first. Waits at most 30 s.
    ///
    /// # Errors
    /// `Unavailable` when PostgreSQL 14 or later is not installed or does not come up; `DataFolder` when the folder
    /// cannot be written, or another process uses it.
    pub async fn start(options: ClusterOptions) -> Result<Self, StartError> {
        let place = ClusterPlace::claim(&options.folder).await?;
        let binaries = Binaries::find(&options.path, place.made_by()).await?;
        let postmaster = match Postmaster::adopt(&place).await? {
            Some(running) => running,
            None => {
                initialise::unless_done(&place, &binaries).await?;
                Postmaster::launch(&place, &binaries, &options).await?
            }
        };
        Ok(Self { options, binaries, place, postmaster: Mutex::new(postmaster) })
    }

    /// Removes the cluster of `folder` with all its data, and returns where these lay. A PostgreSQL that a killed server
    /// has left is stopped first.
    ///
    /// # Errors
    /// `DataFolder` when a server is using it, or it cannot be removed; `Unavailable` when a PostgreSQL runs on it and
    /// its programs are not there to stop it.
    pub async fn reset(folder: &Path, path: &OsStr) -> Result<PathBuf, StartError> {
        let place = ClusterPlace::claim(folder).await?;
        if let Some(running) = Postmaster::adopt(&place).await? {
            running.stop(&place, &Binaries::find(path, place.made_by()).await?).await?;
        }
        place.remove()
    }

    /// Where the data lie, and why, when that is not in the folder they were meant for.
    pub fn displaced(&self) -> Option<String> {
        self.place.displaced(&self.options.folder)
    }

    /// The URL for `user` and `database` of the cluster that another process runs in `folder`, if one does: for verbs
    /// that look at a running server's data.
    pub fn running_url(folder: &Path, user: &str, database: &str) -> Option<String> {
        place::running_url(folder, user, database)
    }

    /// The superuser's URL for the database `postgres`.
    pub fn admin_url(&self) -> String {
        self.url(place::SUPERUSER, "postgres")
    }

    /// The URL for `user` and `database`, as the driver and psql both take it. No password is asked for.
    pub fn url(&self, user: &str, database: &str) -> String {
        self.place.url(user, database)
    }

    /// The same for people: the socket's folder can be read, and no shell changes it between single quotes.
    pub fn shown(&self, user: &str, database: &str) -> String {
        self.place.shown(user, database)
    }

    /// As [`provision`], here.
    ///
    /// May be called again, and for many databases. A copy made with `CREATE DATABASE … TEMPLATE` does not inherit the
    /// rights on the database itself: provision the copy, too.
    ///
    /// # Errors
    /// `Internal` when the name is not a plain identifier, or PostgreSQL refuses.
    pub async fn provision(&self, database: &str) -> Result<Roles, StartError> {
        roles::provision(&self.admin_url(), database).await
    }

    /// Starts PostgreSQL again whenever it has died, until `stop` is cancelled. Connections must be opened anew then;
    /// the URLs stay.
    pub async fn supervise(&self, stop: CancellationToken) {
        let mut postmaster = self.postmaster.lock().await;
        while stop.run_until_cancelled(postmaster.gone(&self.place)).await.is_some() {
            tracing::warn!(folder = %self.place.data.display(), "the private PostgreSQL died; starting it again");
            let mut launch = pin!(Postmaster::launch(&self.place, &self.binaries, &self.options));
            match stop.run_until_cancelled(launch.as_mut()).await {
                Some(Ok(started)) => *postmaster = started,
                Some(Err(error)) => {
                    tracing::warn!(%error, "the private PostgreSQL could not be started again; trying once more");
                    stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await;
                }
                // It is on its way up: before it listens nobody could tell whether it has stopped. One that takes
                // longer `stop` treats like one that an earlier server left.
                None => {
                    let started = tokio::time::timeout(COMING_UP, launch).await;
                    *postmaster = started.ok().and_then(Result::ok).unwrap_or(Postmaster::Adopted);
                }
            }
        }
    }

    /// Stops PostgreSQL: waits half a second for connections to end, then ends them, and after 10 s does without a
    /// checkpoint. Removes nothing but the socket.
    ///
    /// # Errors
    /// `Internal` when it still runs after all of that.
    pub async fn stop(self) -> Result<(), StartError> {
        self.postmaster.into_inner().stop(&self.place, &self.binaries).await?;
        self.place.remove_socket();
        Ok(())
    }
}
