//! How the process starts, stops and with which code it exits.

mod background;

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

pub use background::{Background, BackgroundFacts, BackgroundHealth, Stop, StopStage};

/// The process's exit codes (contract, "Command line and process"). A forced stop by signal is 128 + n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// A check found something: `doctor`, `verify`, `db check`.
    Finding = 1,
    /// The command line was not understood.
    Usage = 2,
    /// A service, a program or a port is missing or cannot be reached.
    Unavailable = 69,
    /// A migration failed, or a fault of our own.
    Internal = 70,
    /// The data folder cannot be used.
    DataFolder = 73,
    /// The isolation proof found a hole: the port was not bound.
    Isolation = 77,
    /// A setting is missing, invalid or refused.
    Configuration = 78,
}

/// Why the process cannot go on, in one line for a person, with the exit code that belongs to it.
#[derive(Debug)]
pub struct StartError {
    /// The code the process ends with.
    pub exit: Exit,
    /// What happened and what to do, for the terminal. Never holds a secret's value.
    pub message: String,
    /// Where in it what to do begins.
    fix_at: Option<usize>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StartError {
    /// A start that failed for the reason in `message`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), fix_at: None, source: None }
    }

    /// A start that failed for the reason in `what`, and what to do about it.
    pub fn with_fix(exit: Exit, what: impl fmt::Display, fix: impl fmt::Display) -> Self {
        let what = what.to_string();
        Self { fix_at: Some(what.len() + 2), ..Self::new(exit, format!("{what}: {fix}")) }
    }

    /// What happened, without what to do.
    pub fn what(&self) -> &str {
        let end = self.fix_at.map_or(self.message.len(), |fix| fix.saturating_sub(2));
        self.message.get(..end).unwrap_or(&self.message)
    }

    /// What to do, where that is known.
    pub fn fix(&self) -> Option<&str> {
        self.message.get(self.fix_at?..)
    }

    /// The same with its cause, which goes to the log and not to the terminal.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for StartError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// How long tasks may take to end that were dropped, or told so, after the deadline: they look up at once.
const DROPPING: Duration = Duration::from_millis(300);

/// Where the process is between start and stop; what the probes answer follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not ready yet.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// Told to stop: not ready any more, but still serving.
    Draining = 2,
}

/// The owner of every task: what starts is waited for, in the order in which things depend on each other.
///
/// Soft stop: connections end after the request in hand, then background work is told to stop, then what it relies on. The hard stop is
/// the deadline: what still runs is dropped, and open transactions are rolled back by their guards.
#[derive(Clone)]
pub struct Lifecycle(Arc<LifecycleInner>);

struct LifecycleInner {
    phase: AtomicU8,
    stop_serving: CancellationToken,
    abandon: CancellationToken,
    stop_background: CancellationToken,
    stop_foundation: CancellationToken,
    failed: CancellationToken,
    connections: TaskTracker,
    background: TaskTracker,
    foundation: TaskTracker,
    /// The tasks of the table, in the order in which they were started.
    started: Mutex<Vec<Arc<background::Started>>>,
    /// How many tasks ended by a panic, by name.
    panics: Mutex<BTreeMap<&'static str, u64>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A lifecycle in [`Phase::Starting`].
    pub fn new() -> Self {
        Self(Arc::new(LifecycleInner {
            phase: AtomicU8::new(Phase::Starting as u8),
            stop_serving: CancellationToken::new(),
            abandon: CancellationToken::new(),
            stop_background: CancellationToken::new(),
            stop_foundation: CancellationToken::new(),
            failed: CancellationToken::new(),
            connections: TaskTracker::new(),
            background: TaskTracker::new(),
            foundation: TaskTracker::new(),
            started: Mutex::default(),
            panics: Mutex::default(),
        }))
    }

    /// Where the process is.
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Moves on to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Release);
    }

    /// Cancelled when connections should end after the request in hand.
    pub fn stop_serving(&self) -> &CancellationToken {
        &self.0.stop_serving
    }

    /// Cancelled when background work should end, once the last request has.
    pub fn stop_background(&self) -> &CancellationToken {
        &self.0.stop_background
    }

    /// Runs a connection, or a request that may outlive it: the stop waits for it. `None` comes out when the hard stop
    /// dropped it.
    pub fn serve<F>(&self, work: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // A token of its own: waiting on the common one would take its lock at each wake-up.
        self.0.connections.spawn(self.0.abandon.child_token().run_until_cancelled_owned(work))
    }

    /// Tasks of connections and of the requests that outlive them.
    pub fn connections(&self) -> &TaskTracker {
        &self.0.connections
    }

    /// Everything else that runs.
    pub fn background(&self) -> &TaskTracker {
        &self.0.background
    }

    /// Runs `work` in the background, in the log context of the caller and with `task` on its lines.
    ///
    /// A panic ends the task only: it is logged, and counted under `name`.
    pub fn spawn<F>(&self, name: &'static str, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let lifecycle = self.clone();
        let watched = async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            outcome.unwrap_or_else(|panic| lifecycle.panicked(name, panic))
        };
        self.0.background.spawn(watched.instrument(tracing::info_span!("task", task = name)))
    }

    /// The same for work that blocks its thread, such as hashing or reading large files. A stop waits for its end.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let lifecycle = self.clone();
        let span = tracing::info_span!("task", task = name);
        self.0.background.spawn_blocking(move || {
            let _task = span.entered();
            catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| lifecycle.panicked(name, panic))
        })
    }

    /// How many background tasks ended by a panic, by name: for metrics, which know this module and not the reverse.
    pub fn panics(&self) -> Vec<(&'static str, u64)> {
        let panics = self.0.panics.lock().unwrap_or_else(PoisonError::into_inner);
        panics.iter().map(|(task, count)| (*task, *count)).collect()
    }

    /// How often each task of the table was started again, by name, from 0: for metrics.
    pub fn restarts(&self) -> Vec<(&'static str, u64)> {
        let mut restarts = BTreeMap::new();
        for task in self.tasks() {
            *restarts.entry(task.facts.name).or_default() += task.restarts;
        }
        restarts.into_iter().collect()
    }

    /// Notes a panic and lets it go on to the task's awaiter.
    fn panicked(&self, task: &'static str, panic: Box<dyn Any + Send>) -> ! {
        self.count_panic(task);
        tracing::error!(reason = panic_message(panic.as_ref()), "A background task ended by a panic");
        resume_unwind(panic)
    }

    fn count_panic(&self, task: &'static str) {
        *self.0.panics.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default() += 1;
    }

    /// Ends connections, then background work, then what that relies on; each within what is left of `limit`. Says whether all ended in time.
    /// What did not is dropped, so that its transactions are rolled back. May be called again, to hurry.
    pub async fn stop(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        self.enter(Phase::Draining);
        self.0.stop_serving.cancel();
        self.0.connections.close();
        let served = ended(&self.0.connections, deadline).await;
        self.0.abandon.cancel();
        ended(&self.0.connections, Instant::now() + DROPPING).await;
        self.0.stop_background.cancel();
        self.0.background.close();
        let worked = ended(&self.0.background, deadline.max(Instant::now() + DROPPING)).await;
        self.0.stop_foundation.cancel();
        self.0.foundation.close();
        let rested = ended(&self.0.foundation, deadline.max(Instant::now() + DROPPING)).await;
        self.release();
        served && worked && rested
    }
}

async fn ended(tasks: &TaskTracker, deadline: Instant) -> bool {
    tokio::time::timeout_at(deadline.into(), tasks.wait()).await.is_ok()
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
