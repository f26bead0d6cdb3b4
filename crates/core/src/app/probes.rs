//! What modules want to be asked about before the process calls itself ready.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Mutex;

use super::App;
use crate::error::Error;
use crate::lifecycle::panic_message;

/// How long answers are good for: probes come from many sides, and must not add up to load.
const FRESH: Duration = Duration::from_secs(1);

/// Something that a module depends on.
pub struct Probe {
    /// One lower-case word that no other check of `/health/detailed` has, such as `smtp`.
    pub name: &'static str,
    /// Whether the process is unready without it; else `/health/detailed` says `degraded`.
    pub required: bool,
    /// How long the check may take. A failure is shown to operators only.
    pub timeout: Duration,
    /// The check: `|app| Box::pin(reach(app))`.
    pub check: fn(&App) -> BoxFuture<'_, Result<(), Error>>,
}

/// What came out of a probe.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The probe's name.
    pub name: &'static str,
    /// Whether the process is unready without it.
    pub required: bool,
    /// Why it failed; `None` when it passed.
    pub failure: Option<String>,
}

/// The probes of all modules, and their last outcomes.
pub struct Probes {
    required: ProbeGroup,
    optional: ProbeGroup,
}

/// Probes that are asked together.
#[derive(Default)]
struct ProbeGroup {
    probes: Vec<&'static Probe>,
    last: Mutex<Option<(Instant, Arc<[Outcome]>)>>,
}

impl Probes {
    /// None was asked yet.
    pub fn new(probes: impl IntoIterator<Item = &'static Probe>) -> Self {
        let (required, optional) = probes.into_iter().partition(|probe| probe.required);
        let group = |probes| ProbeGroup { probes, last: Mutex::default() };
        Self { required: group(required), optional: group(optional) }
    }
}

impl App {
    /// The outcome of every module's probe, at most a second old. Callers that come meanwhile wait for the same answers.
    pub async fn probe(&self) -> Vec<Outcome> {
        let groups = [&self.probes.required, &self.probes.optional];
        let outcomes = join_all(groups.map(|group| self.ask_group(group))).await;
        outcomes.iter().flat_map(|outcomes| outcomes.iter().cloned()).collect()
    }

    /// The same of those that are required: what readiness depends on must not wait for what it does not.
    pub async fn probe_required(&self) -> Arc<[Outcome]> {
        self.ask_group(&self.probes.required).await
    }

    async fn ask_group(&self, group: &ProbeGroup) -> Arc<[Outcome]> {
        if group.probes.is_empty() {
            return Arc::new([]);
        }
        let mut last = group.last.lock().await;
        if let Some((at, outcomes)) = &*last
            && at.elapsed() < FRESH
        {
            return Arc::clone(outcomes);
        }
        let outcomes: Arc<[Outcome]> =
            join_all(group.probes.iter().map(|probe| self.ask(probe))).await.into();
        *last = Some((Instant::now(), Arc::clone(&outcomes)));
        outcomes
    }

    async fn ask(&self, probe: &Probe) -> Outcome {
        let check = AssertUnwindSafe(async { (probe.check)(self).await }).catch_unwind();
        let failure = match tokio::time::timeout(probe.timeout, check).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => {
                Some(error.cause().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
            }
            Ok(Err(panic)) => Some(format!("panic: {}", panic_message(panic.as_ref()))),
            Err(_) => Some(format!("no answer within {:?}", probe.timeout)),
        };
        Outcome { name: probe.name, required: probe.required, failure }
    }
}
