//! The way down: readiness first, then connections, background tasks, the pool, the private cluster, the log.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Context, Running};
use crate::db::cluster::Cluster;
use crate::lifecycle::{Exit, Phase, StartError};

/// The signals that ask for a stop, by number.
const SIGNALS: [(i32, &str); 3] = [(15, "SIGTERM"), (2, "SIGINT"), (3, "SIGQUIT")];

/// Asks for a stop when it comes from a terminal that closes.
const SIGHUP: (i32, &str) = (1, "SIGHUP");

/// The signal for a write beyond `ulimit -f` (signal(7)); it ends a process that does not listen for it.
const SIGXFSZ: i32 = 25;

/// How long a forced stop still asks the private cluster to end; it goes on by itself.
const HURRY: Duration = Duration::from_millis(300);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything ended in time.
    Cleanly,
    /// A second signal, or the deadline, cut it short: the signal's number.
    Forced(u8),
    /// A background task that the process cannot do without could not be kept running.
    Failed,
}

impl Running {
    /// Serves until a signal, then drains and stops. A second signal forces it.
    pub async fn until_signal(self, mut signals: Signals) -> Stopped {
        let lifecycle = self.context.edge.app.lifecycle.clone();
        let number = tokio::select! {
            (number, name) = signals.next() => {
                lifecycle.enter(Phase::Draining); // before the line: a reader of the log finds readiness at 503
                tracing::info!(signal = name, "Stopping");
                Some(number)
            }
            () = lifecycle.failed().cancelled() => {
                tracing::error!("Stopping, since a background task cannot be kept running");
                None
            }
        };
        let hurry = async {
            let (_, name) = signals.asked().await;
            tracing::warn!(signal = name, "A second signal: stopping at once");
        };
        match (self.context.take_down(true, hurry).await, number) {
            (_, None) => Stopped::Failed,
            (true, _) => Stopped::Cleanly,
            (false, Some(number)) => Stopped::Forced(number),
        }
    }

    /// Stops without a signal: for tests, and for programs that embed the server.
    pub async fn stop(self) -> bool {
        self.context.shut_down(false).await
    }
}

impl Context {
    /// Takes everything down in order, and says whether it all ended in time. `drain` waits for load balancers first.
    pub async fn shut_down(self, drain: bool) -> bool {
        self.take_down(drain, std::future::pending()).await
    }

    async fn take_down(self, drain: bool, hurry: impl Future<Output = ()>) -> bool {
        let started = Instant::now();
        let Self { edge, patience, mut cluster, .. } = self;
        let app = &edge.app;
        app.lifecycle.enter(Phase::Draining);
        let orderly = async {
            let Some(patience) = patience else {
                app.lifecycle.stop(Duration::ZERO).await;
                return false;
            };
            if drain {
                tokio::time::sleep(app.config.lifecycle.shutdown_drain_delay).await;
            }
            let clean = app.lifecycle.stop(patience).await;
            if !clean {
                tracing::warn!("Requests were still running at SHUTDOWN_TIMEOUT; they are rolled back");
                return false;
            }
            app.pools.close();
            stop_cluster(cluster.take()).await;
            true
        };
        let clean = tokio::select! {
            clean = orderly => clean,
            () = hurry => {
                app.lifecycle.stop(Duration::ZERO).await;
                false
            }
        };
        if !clean {
            app.pools.close();
            let _ = tokio::time::timeout(HURRY, stop_cluster(cluster.take())).await;
        }
        tracing::info!(clean, duration = started.elapsed().as_secs_f64() * 1000.0, "shutdown complete");
        app.logging.flush();
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
pub struct Signals {
    asking: [(Signal, i32, &'static str); 3],
    hangup: Signal,
    /// Whether SIGHUP says that the terminal is gone, and so asks for a stop; else it asks to read anew.
    on_terminal: bool,
}

/// Why there is no server.
pub enum NotStarted {
    /// It could not be started.
    Failed(StartError),
    /// A signal came first: its number.
    Interrupted(u8),
}

impl Signals {
    /// From now on, signals no longer end the process by themselves, nor does a file that has reached its limit.
    ///
    /// # Errors
    /// `Exit::Internal` when the signals cannot be listened for.
    pub fn listen() -> Result<Self, StartError> {
        let [term, int, quit] = SIGNALS;
        let with_name = |(number, name)| listen(number, name).map(|signal| (signal, number, name));
        drop(listen(SIGXFSZ, "SIGXFSZ")?); // it stays caught: a write then fails, and is counted like one to a full disk
        Ok(Self {
            asking: [with_name(term)?, with_name(int)?, with_name(quit)?],
            hangup: listen(SIGHUP.0, SIGHUP.1)?,
            on_terminal: std::io::stdin().is_terminal()
                || std::io::stdout().is_terminal()
                || std::io::stderr().is_terminal(),
        })
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
            _ = self.asked() => {}
        }
        Err(NotStarted::Interrupted(number))
    }

    /// The next signal that asks for a stop: its number and name. A SIGHUP that does not is answered here.
    pub async fn next(&mut self) -> (u8, &'static str) {
        loop {
            tokio::select! {
                asked = ask(&mut self.asking) => return asked,
                _ = self.hangup.recv() => {}
            }
            if self.on_terminal {
                return (u8::try_from(SIGHUP.0).unwrap_or(1), SIGHUP.1);
            }
            // Writing this line looks for the log file under its name, and the certificate's task listens for itself.
            tracing::info!(
                signal = SIGHUP.1,
                "Reading the TLS certificate and the log file anew; settings are read at the start"
            );
        }
    }

    /// The same without SIGHUP: a terminal that closes can send it twice, once by the shell and once by the kernel, and
    /// that is no hurry.
    async fn asked(&mut self) -> (u8, &'static str) {
        ask(&mut self.asking).await
    }
}

async fn ask([term, int, quit]: &mut [(Signal, i32, &'static str); 3]) -> (u8, &'static str) {
    let (number, name) = tokio::select! {
        _ = term.0.recv() => (term.1, term.2),
        _ = int.0.recv() => (int.1, int.2),
        _ = quit.0.recv() => (quit.1, quit.2),
    };
    (u8::try_from(number).unwrap_or(1), name)
}

fn listen(number: i32, name: &str) -> Result<Signal, StartError> {
    signal(SignalKind::from_raw(number)).map_err(|error| {
        StartError::new(Exit::Internal, format!("{name} cannot be listened for")).because(error)
    })
}
