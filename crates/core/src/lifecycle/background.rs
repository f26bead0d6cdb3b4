//! Work that runs beside requests: one row of a table each, from its start to its stage of the stop.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::{Lifecycle, panic_message};

/// A task that dies so often within [`WITHIN`] will not live by being started once more.
const MOST_DEATHS: u32 = 5;
const WITHIN: Duration = Duration::from_secs(60);
/// How long the first restart waits; each further one twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the next restart waits after [`MOST_DEATHS`], where the process can do without the task.
const REST: Duration = Duration::from_secs(60);

/// One kind of work that runs beside requests, on the state `S`: a module's on the `App`.
///
/// Its name is the label `task` in metrics and the field `task` of its log lines. When it returns or panics before its stop,
/// that is logged as an error and counted, and it is started again.
///
/// ```
/// use std::time::Duration;
/// use erp_core::app::App;
/// use erp_core::lifecycle::{Background, StopStage, Stop};
/// use erp_core::module::Module;
///
/// static REMINDERS: Background<App> = Background {
///     name: "reminders",
///     about: "Sends reminders of invoices that are due.",
///     critical: false,
///     stops: StopStage::Work,
///     run: |app, stop| Box::pin(remind(app, stop)),
///     observe: |_app| {}, // brings gauges up to date, where it has some
/// };
///
/// static BILLING: Module = Module { name: "billing", background: &[&REMINDERS], ..Module::BARE };
///
/// async fn remind(app: App, stop: Stop) {
///     while stop.sleep(Duration::from_secs(60)).await {
///         // send what is due
///     }
/// }
/// ```
pub struct Background<S: 'static> {
    /// What it is called, in lower case: `isolation proof`.
    pub name: &'static str,
    /// A sentence on what it does, for the reference.
    pub about: &'static str,
    /// Whether the process cannot do without it: one that dies five times within a minute then drains the process, which
    /// ends with `Exit::Internal`. Else it is started again after a minute, and `/health/detailed` says `degraded` meanwhile.
    pub critical: bool,
    /// When it is told to stop.
    pub stops: StopStage,
    /// The work. It runs until the stop is asked for, and then ends by itself.
    pub run: fn(S, Stop) -> BoxFuture<'static, ()>,
    /// Brings its metrics up to date, each time that somebody reads them. It must neither block nor panic.
    pub observe: fn(&S),
}

/// What the tables show of a row.
#[derive(Debug, Clone, Copy)]
pub struct BackgroundFacts {
    /// See [`Background::name`].
    pub name: &'static str,
    /// See [`Background::about`].
    pub about: &'static str,
    /// See [`Background::critical`].
    pub critical: bool,
    /// See [`Background::stops`].
    pub stops: StopStage,
}

impl<S> Background<S> {
    /// What the tables show of it.
    pub const fn facts(&self) -> BackgroundFacts {
        BackgroundFacts { name: self.name, about: self.about, critical: self.critical, stops: self.stops }
    }
}

/// When work is told to stop. The stages follow each other; each is waited for before the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopStage {
    /// First: what lets new work in. Requests under way are waited for along with it.
    Intake,
    /// When the last request has ended: most work. The database is there, so that what is left can be written.
    Work,
    /// When all other work has ended, and before the pool closes: what the others rely on.
    Foundation,
}

impl StopStage {
    /// In words, for the reference.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Intake => "first, with the listeners",
            Self::Work => "after the last request",
            Self::Foundation => "last, before the pool closes",
        }
    }
}

/// Tells a task when it is to stop.
#[derive(Clone)]
pub struct Stop(CancellationToken);

impl Stop {
    /// Waits until the stop is asked for.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Sleeps for `time`; `false` when the stop came first.
    pub async fn sleep(&self, time: Duration) -> bool {
        self.0.run_until_cancelled(tokio::time::sleep(time)).await.is_some()
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.0
    }
}

/// A task that was started from a row.
pub(super) struct Started {
    facts: BackgroundFacts,
    running: AtomicBool,
    restarts: AtomicU64,
    /// Let go when the task has stopped, along with the state that it holds, such as a listener.
    observe: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Started {
    fn release(&self) {
        *self.observe.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// How a task is doing.
#[derive(Debug, Clone, Copy)]
pub struct BackgroundHealth {
    /// Its row.
    pub facts: BackgroundFacts,
    /// Whether it runs; not while it waits to be started again.
    pub running: bool,
    /// How often it was started again.
    pub restarts: u64,
}

impl Lifecycle {
    /// Starts the work of `row` on `state`, and keeps it running until its stage of the stop.
    pub fn start<S: Clone + Send + 'static>(&self, row: &'static Background<S>, state: S) {
        let observed = state.clone();
        let started = Arc::new(Started {
            facts: row.facts(),
            running: AtomicBool::new(true),
            restarts: AtomicU64::new(0),
            observe: Mutex::new(Some(Box::new(move || (row.observe)(&observed)))),
        });
        self.0.started.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&started));
        let (tasks, stop) = self.stage(row.stops);
        let stop = Stop(stop.clone());
        let make = {
            let stop = stop.clone();
            move || (row.run)(state.clone(), stop.clone())
        };
        let kept = self.clone().keep_running(Arc::clone(&started), stop, make);
        let kept = async move {
            kept.await;
            started.release();
        };
        tasks.spawn(kept.instrument(tracing::info_span!("task", task = row.name)));
    }

    /// Every task that was started, in that order.
    pub fn tasks(&self) -> Vec<BackgroundHealth> {
        let started = self.0.started.lock().unwrap_or_else(PoisonError::into_inner);
        let health = |task: &Arc<Started>| BackgroundHealth {
            facts: task.facts,
            running: task.running.load(Ordering::Relaxed),
            restarts: task.restarts.load(Ordering::Relaxed),
        };
        started.iter().map(health).collect()
    }

    /// Lets every task bring its metrics up to date.
    pub fn observe(&self) {
        let started = self.0.started.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for task in started {
            if let Some(observe) = &*task.observe.lock().unwrap_or_else(PoisonError::into_inner) {
                observe();
            }
        }
    }

    /// Cancelled when a critical task cannot be kept running.
    pub fn failed(&self) -> &CancellationToken {
        &self.0.failed
    }

    /// Lets go of what the rows of tasks hold that were dropped: their state may hold this lifecycle.
    pub(super) fn release(&self) {
        for task in self.0.started.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            task.release();
        }
    }

    fn stage(&self, stage: StopStage) -> (&TaskTracker, &CancellationToken) {
        match stage {
            StopStage::Intake => (&self.0.connections, &self.0.stop_serving),
            StopStage::Work => (&self.0.background, &self.0.stop_background),
            StopStage::Foundation => (&self.0.foundation, &self.0.stop_foundation),
        }
    }

    async fn keep_running<F>(self, task: Arc<Started>, stop: Stop, mut make: impl FnMut() -> F)
    where
        F: Future<Output = ()>,
    {
        let name = task.facts.name;
        let mut deaths = 0;
        loop {
            let began = Instant::now();
            let end = AssertUnwindSafe(async { make().await }).catch_unwind().await;
            if stop.token().is_cancelled() {
                return;
            }
            task.running.store(false, Ordering::Relaxed);
            if end.is_err() {
                self.count_panic(name);
            }
            deaths = if began.elapsed() > WITHIN { 1 } else { deaths + 1 };
            let reason = end.as_ref().map_or_else(|panic| panic_message(panic.as_ref()), |()| "it returned");
            tracing::error!(deaths, reason, "A background task ended unexpectedly");
            if deaths >= MOST_DEATHS && task.facts.critical {
                return self.failed().cancel();
            }
            let pause = if deaths < MOST_DEATHS { PAUSE * 2u32.pow(deaths - 1) } else { REST };
            if !stop.sleep(pause).await {
                return;
            }
            task.restarts.fetch_add(1, Ordering::Relaxed);
            task.running.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// A task that panics or returns so many times, and then lives. It counts its starts, and how often it is observed.
    #[derive(Clone)]
    struct Dying {
        times: u32,
        starts: Arc<AtomicU32>,
        observed: Arc<AtomicU32>,
    }

    impl Dying {
        fn new(times: u32) -> Self {
            Self { times, starts: Arc::default(), observed: Arc::default() }
        }

        fn starts(&self) -> u32 {
            self.starts.load(Ordering::SeqCst)
        }

        async fn live(self, stop: Stop) {
            let start = self.starts.fetch_add(1, Ordering::SeqCst);
            assert!(start >= self.times || start.is_multiple_of(2), "odd starts panic");
            if start >= self.times {
                stop.requested().await;
            }
        }

        /// Waits until it was started so often.
        async fn started(&self, times: u32) {
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.starts() < times {
                assert!(Instant::now() < deadline, "it is started again");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    const DYING: Background<Dying> = Background {
        name: "dying",
        about: "Dies, for tests.",
        critical: true,
        stops: StopStage::Work,
        run: |dying, stop| Box::pin(dying.live(stop)),
        observe: |dying| {
            dying.observed.fetch_add(1, Ordering::SeqCst);
        },
    };
    static CRITICAL: Background<Dying> = DYING;
    static SPARE: Background<Dying> = Background { critical: false, ..DYING };
    static INTAKE: Background<Dying> = Background { stops: StopStage::Intake, ..DYING };

    fn restarts(lifecycle: &Lifecycle) -> Vec<(&'static str, u64)> {
        lifecycle.restarts()
    }

    #[tokio::test]
    async fn a_dead_task_is_made_again_until_the_stop() {
        let (lifecycle, dying) = (Lifecycle::new(), Dying::new(2));
        lifecycle.start(&CRITICAL, dying.clone());
        dying.started(3).await;
        lifecycle.observe();
        assert!(lifecycle.tasks()[0].running);
        assert!(lifecycle.stop(Duration::from_secs(5)).await);
        assert!(!lifecycle.failed().is_cancelled());
        assert_eq!((dying.starts(), dying.observed.load(Ordering::SeqCst)), (3, 1));
        assert_eq!(restarts(&lifecycle), [("dying", 2)]);
        assert_eq!(Arc::strong_count(&dying.starts), 1, "the stop lets go of its state");
    }

    #[tokio::test]
    async fn one_that_takes_connections_lives_as_long_as_they_are_taken() {
        let (lifecycle, dying) = (Lifecycle::new(), Dying::new(1));
        lifecycle.start(&INTAKE, dying.clone());
        dying.started(2).await;
        assert!(lifecycle.stop(Duration::from_secs(5)).await);
        assert_eq!(dying.starts(), 2, "at the stop its end is no death");
    }

    #[tokio::test]
    async fn one_that_keeps_dying_takes_the_process_along() {
        let (lifecycle, dying) = (Lifecycle::new(), Dying::new(u32::MAX));
        lifecycle.start(&CRITICAL, dying.clone());
        lifecycle.failed().cancelled().await;
        assert_eq!(dying.starts(), MOST_DEATHS);
        assert_eq!(lifecycle.panics(), [("dying", 2)], "the rest returned");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_the_process_can_do_without_rests_and_is_started_again() {
        let (lifecycle, dying) = (Lifecycle::new(), Dying::new(MOST_DEATHS));
        lifecycle.start(&SPARE, dying.clone());
        tokio::time::sleep(REST / 2).await;
        assert_eq!(dying.starts(), MOST_DEATHS);
        assert!(!lifecycle.tasks()[0].running && !lifecycle.failed().is_cancelled());
        tokio::time::sleep(REST).await;
        assert_eq!(dying.starts(), MOST_DEATHS + 1);
        assert!(lifecycle.tasks()[0].running);
    }

    #[tokio::test]
    async fn stages_follow_each_other_at_the_stop() {
        #[derive(Clone)]
        struct Noted(Arc<Mutex<Vec<&'static str>>>);
        const fn row(
            name: &'static str,
            stops: StopStage,
            run: fn(Noted, Stop) -> BoxFuture<'static, ()>,
        ) -> Background<Noted> {
            Background { name, about: "", critical: true, stops, run, observe: |_| {} }
        }
        async fn note(noted: Noted, stop: Stop, stage: &'static str) {
            stop.requested().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            noted.0.lock().unwrap().push(stage);
        }
        static FOUNDATION: Background<Noted> =
            row("foundation", StopStage::Foundation, |noted, stop| Box::pin(note(noted, stop, "foundation")));
        static WORK: Background<Noted> =
            row("work", StopStage::Work, |noted, stop| Box::pin(note(noted, stop, "work")));
        static INTAKE: Background<Noted> =
            row("intake", StopStage::Intake, |noted, stop| Box::pin(note(noted, stop, "intake")));
        let (lifecycle, noted) = (Lifecycle::new(), Noted(Arc::default()));
        for row in [&FOUNDATION, &WORK, &INTAKE] {
            lifecycle.start(row, noted.clone());
        }
        assert!(lifecycle.stop(Duration::from_secs(5)).await);
        assert_eq!(*noted.0.lock().unwrap(), ["intake", "work", "foundation"]);
    }
}
