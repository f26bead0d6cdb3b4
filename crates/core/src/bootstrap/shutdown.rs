//! The way down: readiness first, then connections, background tasks, the pool, the private cluster, the log.

use std::sync::Arc;
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Context, Running};
use crate::db::cluster::Cluster;
use crate::lifecycle::{Exit, Phase, StartError};

/// The signals that ask for a stop, by number.
const SIGNALS: [(i32, &str); 3] = [(15, "SIGTERM"), (2, "SIGINT"), (3, "SIGQUIT")];

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything ended in time.
    Cleanly,
    /// A second signal, or the deadline, cut it short: the signal's number.
    Forced(u8),
}

impl Running {
    /// Serves until a signal, then drains and stops. A second signal forces it.
    pub async fn until_signal(self, mut signals: Signals) -> Stopped {
        let (number, name) = signals.next().await;
        tracing::info!(signal = name, "Stopping");
        let app = self.context.edge.app.clone();
        let stopped = tokio::select! {
            clean = self.context.shut_down(true) => if clean { Stopped::Cleanly } else { Stopped::Forced(number) },
            (number, name) = signals.next() => {
                tracing::warn!(signal = name, "A second signal: stopping at once");
                Stopped::Forced(number)
            }
        };
        app.logging.flush();
        stopped
    }

    /// Stops without a signal: for tests, and for programs that embed the server.
    pub async fn stop(self) -> bool {
        self.context.shut_down(false).await
    }
}

impl Context {
    /// Takes everything down in order, and says whether it all ended in time. `drain` waits for load balancers first.
    pub async fn shut_down(self, drain: bool) -> bool {
        let started = Instant::now();
        let app = self.edge.app.clone();
        app.lifecycle.enter(Phase::Draining);
        if drain {
            tokio::time::sleep(app.config.shutdown_drain_delay).await;
        }
        let clean = app.lifecycle.stop(app.config.shutdown_timeout).await;
        if !clean {
            tracing::warn!("Requests were still running at SHUTDOWN_TIMEOUT; they are rolled back");
        }
        app.db.close();
        stop_cluster(self.cluster).await;
        tracing::info!(duration = started.elapsed().as_secs_f64() * 1000.0, "shutdown complete");
        clean
    }
}

/// Stops the private cluster, if it is this process's.
pub(super) async fn stop_cluster(cluster: Option<Arc<Cluster>>) {
    // The supervising task has ended with the background tasks, so this is the last holder.
    let Some(cluster) = cluster.and_then(Arc::into_inner) else { return };
    if let Err(error) = cluster.stop().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "The private PostgreSQL did not stop");
    }
}

/// The signals that ask for a stop. They are listened to from before the start: one that comes meanwhile must not
/// leave a PostgreSQL behind.
pub struct Signals([(Signal, i32, &'static str); 3]);

/// Why there is no server.
pub enum NotStarted {
    /// It could not be started.
    Failed(StartError),
    /// A signal came first: its number.
    Interrupted(u8),
}

impl Signals {
    /// From now on, signals no longer end the process by themselves.
    ///
    /// # Errors
    /// `Exit::Internal` when the signals cannot be listened for.
    pub fn listen() -> Result<Self, StartError> {
        let listen = |(number, name)| {
            signal(SignalKind::from_raw(number)).map(|signal| (signal, number, name)).map_err(|error| {
                StartError::new(Exit::Internal, format!("{name} cannot be listened for")).because(error)
            })
        };
        let [term, int, quit] = SIGNALS;
        Ok(Self([listen(term)?, listen(int)?, listen(quit)?]))
    }

    /// Waits for `start`, which a signal gives up by way of `interrupt`: what had been started is then taken down. A
    /// second signal does not wait for that.
    ///
    /// # Errors
    /// Says why there is no server.
    pub async fn or_started(
        &mut self,
        start: impl Future<Output = Result<Running, StartError>>,
        interrupt: CancellationToken,
    ) -> Result<Running, NotStarted> {
        tokio::pin!(start);
        let (number, name) = tokio::select! {
            outcome = start.as_mut() => return outcome.map_err(NotStarted::Failed),
            signal = self.next() => signal,
        };
        tracing::info!(signal = name, "Stopping before the start is complete");
        interrupt.cancel();
        let given_up = async {
            if let Ok(running) = start.await {
                running.stop().await;
            }
        };
        tokio::select! {
            () = given_up => {}
            _ = self.next() => {}
        }
        Err(NotStarted::Interrupted(number))
    }

    async fn next(&mut self) -> (u8, &'static str) {
        let [term, int, quit] = &mut self.0;
        let (number, name) = tokio::select! {
            _ = term.0.recv() => (term.1, term.2),
            _ = int.0.recv() => (int.1, int.2),
            _ = quit.0.recv() => (quit.1, quit.2),
        };
        (u8::try_from(number).unwrap_or(1), name)
    }
}
