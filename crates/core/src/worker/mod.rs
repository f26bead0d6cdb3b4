//! Workers: they claim jobs, fairly among tenants, and run them.
//!
//! A process has one worker with `JOB_WORKERS` slots. One task claims and hands out ([`JOBS`]); another one keeps the lease,
//! takes over the jobs of workers that have died, and looks for what the doorbell has not told ([`UPKEEP`]). What a job
//! is, and how one is enqueued, stands in `jobs`.

mod bell;
mod claim;
mod lanes;
mod maintenance;
mod probes;
mod relay;
mod run;
mod schedules;
mod threads;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::system::uname;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Trace;
use crate::db::{Doorbell, Lane};
use crate::jobs::{Job, JobFacts, JobId, JobTable};
use crate::lifecycle::{Background, StartError, Stop, StopStage};
use crate::module::{Authentication, Module};
use crate::shared::TenantId;
use claim::{Ack, Claimed, JobQueue};
use lanes::{ClaimRoom, LaneQuota, Lanes, Steering};
pub(crate) use maintenance::MAINTENANCE;
pub(crate) use relay::{EVENTS, RELAY, Relay, WAKE};
use run::Ending;
pub(crate) use schedules::{Firing, SCHEDULES};
use threads::JobThreads;
pub(crate) use upkeep::UPKEEP;

crate::system_work! {
    /// What workers do as the system.
    pub(crate) SYSTEM {
        QUEUE = "jobs": "Claims the jobs of all tenants, and keeps the queue; each job then runs in its own tenant.";
    }
}

/// The core's part in jobs, as a module: its system work. Routes on jobs are the module `jobs`'s.
pub(crate) static WORKER: Module = Module {
    name: "worker",
    about: "Work that is done later.",
    system: SYSTEM,
    system_background: &[
        ("jobs", &QUEUE),
        ("job upkeep", &QUEUE),
        ("job schedules", &QUEUE),
        ("event relay", &QUEUE),
    ],
    errors: crate::jobs::JOB_ERRORS,
    probes: probes::PROBES,
    ..Module::BARE
};

/// Claims jobs and runs them.
pub(crate) static JOBS: Background<Worker> = Background {
    name: "jobs",
    about: "Claims jobs, fairly among tenants, and runs them. At the stop those that run may end, and the others go back.",
    critical: true,
    stops: StopStage::Intake,
    run: |worker, stop| Box::pin(work(worker, stop)),
    observe: |worker| worker.0.observe(),
};

/// How long the jobs that are claimed ahead of a free slot may take, for each slot.
const AHEAD: Duration = Duration::from_millis(25);

/// One process's worker.
#[derive(Clone)]
pub(crate) struct Worker(Arc<WorkerState>);

/// What the tasks of a worker share.
struct WorkerState {
    app: App,
    authentication: Option<&'static Authentication>,
    queue: JobQueue,
    /// The kinds that it knows.
    jobs: JobTable,
    /// How many jobs run at a time.
    slots: usize,
    /// Where kinds run that compute or block.
    threads: Option<JobThreads>,
    /// The jobs that run.
    tasks: TaskTracker,
    running: Mutex<HashMap<JobId, RunningJob>>,
    /// News for the task that claims.
    news: mpsc::UnboundedSender<News>,
    heard: tokio::sync::Mutex<mpsc::UnboundedReceiver<News>>,
    /// Rings for what is to be told to other processes, and the name under which it is.
    untold: Doorbell,
    sender: String,
    /// The name of the machine, for people who look at the table of workers.
    host: String,
    /// This process's lease, which is renewed by the upkeep; none while it has none.
    lease: Mutex<Option<Uuid>>,
}

/// A job that runs.
struct RunningJob {
    token: CancellationToken,
    cancelled: bool,
    job: Option<Weak<Job>>,
}

/// What the task that claims is told.
enum News {
    /// Jobs have come into these lanes, from these ids on.
    Lanes(Vec<(Lane, Uuid)>),
    /// A look has found jobs in these lanes.
    Found(Vec<(Lane, Uuid)>),
    /// What operators have said.
    Steering(Steering),
    /// An attempt is over.
    Finished(Finished),
}

/// An attempt that is over.
struct Finished {
    tenant: TenantId,
    id: JobId,
    kind: &'static str,
    took: Duration,
    /// What was charged for it when it was claimed.
    charged: i64,
    ack: Option<Ack>,
}

impl Worker {
    /// A worker of `app`, which claims nothing before its upkeep has run once.
    ///
    /// # Errors
    /// `Exit::Unavailable` when the threads of `JOB_THREADS` cannot be had.
    pub(crate) fn new(
        app: App,
        jobs: JobTable,
        authentication: Option<&'static Authentication>,
    ) -> Result<Self, StartError> {
        let settings = &app.config.jobs;
        let slots = settings.workers as usize;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = settings.threads.map_or_else(cores, |threads| threads as usize);
        let wanted = slots > 0 && jobs.facts().any(|facts| facts.threads);
        let threads = wanted.then(|| JobThreads::start(count)).transpose()?;
        let queue = JobQueue { system: app.queue(&QUEUE), trace: Trace::new("jobs") };
        let (news, heard) = mpsc::unbounded_channel();
        let sender = JobId::new(app.clock.as_ref(), app.rng.as_ref()).to_string();
        Ok(Self(Arc::new(WorkerState {
            app,
            jobs,
            authentication,
            queue,
            slots,
            threads,
            tasks: TaskTracker::new(),
            running: Mutex::default(),
            news,
            heard: tokio::sync::Mutex::new(heard),
            untold: Doorbell::default(),
            sender,
            host: uname().nodename().to_string_lossy().into_owned(),
            lease: Mutex::default(),
        })))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// The task that claims and hands out, until the stop; then what runs may end.
async fn work(worker: Worker, stop: Stop) {
    let shared = worker.0;
    let mut heard = shared.heard.lock().await;
    let mut desk = Desk::new(Arc::clone(&shared));
    tokio::select! {
        () = desk.run(&mut heard) => {}
        () = stop.requested() => {}
    }
    desk.close(&mut heard).await;
}

/// Where jobs are claimed to, wait for a slot, and are handed out.
struct Desk {
    shared: Arc<WorkerState>,
    lanes: Lanes,
    /// Claimed, and waiting for a slot.
    waiting: VecDeque<(Claimed, i64)>,
    /// How many run.
    running: usize,
    /// Done, and not told to the database yet.
    acks: Vec<Ack>,
    /// Sent, and not answered yet: sent once more where the stop comes first.
    sent: Arc<Vec<Ack>>,
}

impl Desk {
    fn new(shared: Arc<WorkerState>) -> Self {
        Self {
            shared,
            lanes: Lanes::default(),
            waiting: VecDeque::new(),
            running: 0,
            acks: Vec::new(),
            sent: Arc::default(),
        }
    }

    async fn run(&mut self, heard: &mut mpsc::UnboundedReceiver<News>) {
        loop {
            self.hand_out();
            let asks = self.plan();
            if asks.is_empty() && self.acks.is_empty() {
                match heard.recv().await {
                    Some(news) => self.take(news),
                    None => return,
                }
            } else {
                self.exchange(asks, heard).await;
            }
            while let Ok(news) = heard.try_recv() {
                self.take(news);
            }
        }
    }

    /// What to claim: as many as there are free slots, and a few ahead where jobs are short.
    fn plan(&mut self) -> Vec<LaneQuota> {
        let Some(_) = self.shared.lease() else { return Vec::new() };
        let slots = self.shared.slots;
        let ahead = micros(AHEAD).saturating_mul(i64::try_from(slots).unwrap_or(i64::MAX));
        let waiting: i64 = self.waiting.iter().map(|(claimed, _)| self.lanes.run_time(&claimed.kind)).sum();
        // Not one by one, where many are claimed ahead: half of them first.
        if self.running == slots && waiting > ahead / 2 {
            return Vec::new();
        }
        self.lanes.plan(ClaimRoom {
            slots: slots.saturating_sub(self.running + self.waiting.len()),
            ahead: (ahead - waiting).max(0),
            of_a_tenant: (slots * 3).div_ceil(4)
                + self.waiting.len()
                + usize::try_from(ahead / self.lanes.shortest()).unwrap_or(0),
        })
    }

    /// One exchange with the database. Meanwhile jobs end, others begin in their place, and lanes are heard of.
    async fn exchange(&mut self, asks: Vec<LaneQuota>, heard: &mut mpsc::UnboundedReceiver<News>) {
        let Some(lease) = self.shared.lease() else { return };
        let acks = Arc::new(std::mem::take(&mut self.acks));
        self.sent = Arc::clone(&acks);
        let shared = Arc::clone(&self.shared);
        let begun = Instant::now();
        let mut claiming = Box::pin(async { shared.queue.claim(lease, &acks, &asks).await });
        let claimed = loop {
            tokio::select! {
                claimed = &mut claiming => break claimed,
                Some(news) = heard.recv() => {
                    self.take(news);
                    self.hand_out();
                }
            }
        };
        drop(claiming);
        self.sent = Arc::default();
        shared.app.metrics.jobs_claim_duration_seconds.with(&[]).observe(begun.elapsed().as_secs_f64());
        match claimed {
            Ok(claimed) => self.claimed(&asks, claimed),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "No jobs could be claimed");
                asks.iter().for_each(|ask| self.lanes.claimed(ask, 0, None));
                self.acks.extend(Arc::into_inner(acks).unwrap_or_default()); // once more: one that is completed already is not found
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    fn claimed(&mut self, asks: &[LaneQuota], claimed: Vec<Claimed>) {
        let mut counts: HashMap<_, (usize, Option<Uuid>)> = HashMap::new();
        for job in &claimed {
            let key = (job.tenant_id, job.kind.as_str(), job.priority);
            let (count, last) = counts.entry(key).or_default();
            (*count, *last) = (*count + 1, (*last).max(Some(*job.id.as_uuid())));
        }
        let mut charges = HashMap::new();
        for ask in asks {
            let found = counts.get(&(ask.lane.tenant, ask.lane.kind, i16::from(ask.lane.priority)));
            let (count, last) = found.copied().unwrap_or_default();
            self.lanes.claimed(ask, count, last);
            charges.insert((ask.lane.tenant, ask.lane.kind), ask.each);
        }
        let charged = |job: &Claimed| charges.get(&(job.tenant_id, job.kind.as_str())).copied().unwrap_or(0);
        let waiting: Vec<_> = claimed.iter().map(charged).collect();
        self.waiting.extend(claimed.into_iter().zip(waiting));
    }

    /// Begins what waits, as far as there are slots.
    fn hand_out(&mut self) {
        while self.running < self.shared.slots
            && let Some((claimed, charged)) = self.waiting.pop_front()
        {
            let Some(kind) = self.shared.jobs.get(&claimed.kind) else { continue }; // none such was asked for
            let (shared, token) = (Arc::clone(&self.shared), self.shared.begin(claimed.id));
            self.running += 1;
            self.shared.tasks.spawn(async move {
                let finished = run::run(Arc::clone(&shared), (claimed, charged), kind, token).await;
                let _ = shared.news.send(News::Finished(finished));
            });
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Lanes(lanes) => lanes.into_iter().for_each(|(lane, from)| self.lanes.wake(lane, from)),
            News::Found(lanes) => lanes.into_iter().for_each(|(lane, from)| self.lanes.find(lane, from)),
            News::Steering(steering) => self.lanes.steer(steering),
            News::Finished(Finished { tenant, id, kind, took, charged, ack }) => {
                self.running -= 1;
                self.shared.running().remove(&id);
                self.lanes.finished(tenant, kind, took, charged);
                self.acks.extend(ack);
            }
        }
    }

    /// The stop: what waits goes back, and what runs may end; what then still runs goes back, too.
    async fn close(&mut self, heard: &mut mpsc::UnboundedReceiver<News>) {
        let shared = Arc::clone(&self.shared);
        let back: Vec<_> = self.waiting.drain(..).map(|(claimed, _)| claimed.attempt()).collect();
        if let Err(error) = shared.queue.put_back(&back).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Claimed jobs wait for the end of this worker's lease"
            );
        }
        shared.tasks.close();
        let patience = run::patience(shared.app.config.lifecycle.shutdown_timeout);
        if tokio::time::timeout(patience, shared.tasks.wait()).await.is_err() {
            shared.running().values().for_each(|running| running.token.cancel());
            shared.tasks.wait().await;
        }
        while let Ok(news) = heard.try_recv() {
            self.take(news);
        }
        self.acks.extend(Arc::into_inner(std::mem::take(&mut self.sent)).unwrap_or_default());
        if let (Some(lease), false) = (shared.lease(), self.acks.is_empty()) {
            let _ = shared.queue.claim(lease, &self.acks, &[]).await; // else they run again
        }
    }
}

impl WorkerState {
    fn lease(&self) -> Option<Uuid> {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<JobId, RunningJob>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a job that begins, and gives it what it is stopped by.
    fn begin(&self, id: JobId) -> CancellationToken {
        let token = CancellationToken::new();
        self.running().insert(id, RunningJob { token: token.clone(), cancelled: false, job: None });
        token
    }

    /// Whatever the handler tells of its job from here on is written by the upkeep.
    fn watch(&self, job: &Arc<Job>) {
        if let Some(running) = self.running().get_mut(&job.id()) {
            running.job = Some(Arc::downgrade(job));
        }
    }

    fn why_cancelled(&self, id: JobId) -> Ending {
        let cancelled = self.running().get(&id).is_some_and(|running| running.cancelled);
        if cancelled { Ending::Cancelled } else { Ending::Interrupted }
    }

    /// Counts an attempt.
    fn tell(&self, facts: &JobFacts, ending: &Ending, took: Duration) {
        let outcome = match ending {
            Ending::Committed | Ending::Done(_) => "succeeded",
            Ending::Failed(_) => "failed",
            Ending::Cancelled => "cancelled",
            Ending::Interrupted => "interrupted",
        };
        self.app.metrics.jobs_run_duration_seconds.with(&[facts.name, outcome]).observe(took.as_secs_f64());
    }

    fn failed(&self, facts: &JobFacts, died: bool) {
        if died {
            self.app.metrics.jobs_dead_total.with(&[facts.name]).inc();
        }
    }

    fn observe(&self) {
        self.app.metrics.jobs_running.with(&[]).set(self.running().len() as f64);
        self.app.metrics.jobs_slots.with(&[]).set(self.slots as f64);
    }
}
