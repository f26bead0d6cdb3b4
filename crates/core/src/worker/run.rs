//! One attempt at one job: on whose behalf, the handler, and what becomes of it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::claim::{Ack, Claimed, words};
use super::threads::JobThreads;
use super::{Finished, WorkerState};
use crate::app::JOBS_RUN;
use crate::auth::{Actor, Caller, Identity, Permissions, Trace};
use crate::error::{Error, Result, codes};
use crate::jobs::{AnyJobKind, Job, JobTold, backoff, give_up, jittered, job_codes};
use crate::lifecycle::panic_message;
use crate::resource::Call;
use crate::shared::PrincipalId;

/// Completes a job in the transaction that has its effects.
const COMPLETE: &str = "select app.complete_job($1, $2, $3)";

/// How an attempt ended.
pub(super) enum Ending {
    /// Its effects are committed, and its completion with them.
    Committed,
    /// It changed nothing in the database; its completion is to be sent.
    Done(Ack),
    /// It failed.
    Failed(Error),
    /// Somebody cancelled it.
    Cancelled,
    /// The process stops: it goes back.
    Interrupted,
}

/// Runs a job that was claimed, with what it was charged, to its end, whatever that is.
pub(super) async fn run(
    shared: Arc<WorkerState>,
    (claimed, charged): (Claimed, i64),
    kind: &'static dyn AnyJobKind,
    token: CancellationToken,
) -> Finished {
    let facts = kind.facts();
    let span = tracing::info_span!(
        "job",
        correlation_id = %format_args!("job_{}", claimed.id),
        tenant_id = %claimed.tenant_id,
        job = facts.name,
        origin = claimed.origin,
    );
    let begun = Instant::now();
    let attempt = claimed.attempt();
    let (number, most) = (claimed.attempt, claimed.attempts);
    let ending = async {
        let ending = attempt_once(&shared, claimed, kind, &token).await;
        let took = begun.elapsed();
        shared.tell(facts, &ending, took);
        match &ending {
            Ending::Failed(error) => {
                let again = again_in(&shared, error, number, most);
                let kept = shared.queue.fail(attempt, &words(error), again).await;
                note_failure(error, again, kept.as_ref().is_ok_and(|held| !held));
                shared.failed(facts, again.is_none());
                unless_heard(kept.map(drop));
            }
            Ending::Cancelled => unless_heard(shared.queue.cancel(attempt).await),
            Ending::Interrupted => unless_heard(shared.queue.put_back(&[attempt]).await),
            Ending::Committed | Ending::Done(_) => {}
        }
        if matches!(ending, Ending::Committed | Ending::Done(_)) {
            shared.app.count_usage(attempt.tenant, &JOBS_RUN);
        }
        ending
    };
    let ending = ending.instrument(span).await;
    let ack = if let Ending::Done(ack) = ending { Some(ack) } else { None };
    Finished { tenant: attempt.tenant, id: attempt.id, kind: facts.name, took: begun.elapsed(), charged, ack }
}

async fn attempt_once(
    shared: &Arc<WorkerState>,
    claimed: Claimed,
    kind: &'static dyn AnyJobKind,
    token: &CancellationToken,
) -> Ending {
    let attempt = claimed.attempt();
    let limit = kind.facts().time_limit;
    let work = async {
        let caller = on_behalf(shared, &claimed, kind).await?;
        let deferral = shared.app.db.defer();
        let job = Arc::new(Job {
            call: Call::of(shared.app.clone(), deferral.of(&caller)),
            id: claimed.id,
            attempt: claimed.attempt,
            most: i16::try_from(kind.facts().attempts).unwrap_or(i16::MAX),
            enqueued_at: claimed.enqueued_at,
            origin: claimed.origin,
            system: kind.facts().system.map(|work| shared.app.system(work)),
            deferral,
            told: Mutex::new(JobTold { state: claimed.state, ..JobTold::default() }),
        });
        shared.watch(&job);
        handle(shared, Arc::clone(&job), kind, claimed.args).await?;
        if job.call.caller.left_uncommitted() {
            return Err(Error::internal(
                "the handler ended without `commit()`; where a change is meant to be dropped, it says `rollback()`",
            ));
        }
        let put_off = job.told().put_off.take();
        if let Some(time) = put_off {
            return job.comes_again(time).await.map(|()| Ending::Committed);
        }
        let result = job.told().result.take();
        let (id, number) = (*attempt.id.as_uuid(), attempt.number);
        match job.deferral.commit_part(COMPLETE, &[&id, &number, &result]).await? {
            true => Ok(Ending::Committed),
            false => Ok(Ending::Done(Ack { attempt, result })),
        }
    };
    let outcome = tokio::select! {
        biased;
        () = token.cancelled() => return shared.why_cancelled(attempt.id),
        outcome = tokio::time::timeout(limit, work) => outcome,
    };
    let late = || {
        let what = format!("It took longer than {limit:?}, and was cut off.");
        Err(Error::new(&codes::UNAVAILABLE).detail(what))
    };
    outcome.unwrap_or_else(|_| late()).unwrap_or_else(Ending::Failed)
}

/// Runs the handler: on threads of its own where its kind says so. A panic is one job's failure.
async fn handle(
    shared: &WorkerState,
    job: Arc<Job>,
    kind: &'static dyn AnyJobKind,
    args: Value,
) -> Result<()> {
    let work = async move {
        let handling = AssertUnwindSafe(async { kind.run(&job, args)?.await }).catch_unwind().await;
        handling.unwrap_or_else(|panic| {
            Err(Error::internal(format!("the handler panicked: {}", panic_message(panic.as_ref()))))
        })
    };
    let threads = shared.threads.as_ref().filter(|_| kind.facts().threads).and_then(JobThreads::handle);
    let Some(threads) = threads else { return work.await };
    // What blocks its thread goes on when it is dropped, until it looks up. It can change nothing any more.
    let task = AbortOnDropHandle::new(shared.tasks.spawn_on(work.in_current_span(), threads));
    task.await.unwrap_or_else(|error| Err(Error::internal(error)))
}

/// The one whose permissions the job has, as they are now; or the work of the system that its kind declares. Without
/// either it fails, and is not tried again (T-20).
async fn on_behalf(shared: &WorkerState, claimed: &Claimed, kind: &'static dyn AnyJobKind) -> Result<Caller> {
    let trace = Trace::new(format!("job_{}", claimed.id));
    let tenant = claimed.tenant_id;
    match (claimed.principal, &claimed.system, kind.facts().system) {
        (None, Some(named), Some(work)) if named == work.name => {
            let entitlements = shared.app.entitlements_of(tenant, &trace).await?;
            let caller = Caller::new(tenant, Actor::System(work.name), Permissions::none(), trace);
            Ok(caller.entitled(entitlements))
        }
        (Some(principal), None, None) => {
            let no_module = || Error::internal("no module tells what a principal may do");
            let authentication = shared.authentication.ok_or_else(no_module)?;
            let actor = Actor::Job { of: PrincipalId::from_uuid(principal) };
            let found = authentication.caller(&shared.app, Identity::new(tenant, actor), trace).await;
            found.map_err(|error| match error.code() == &codes::UNAUTHENTICATED {
                true => give_up("The one who enqueued it is no member of the tenant any more."),
                false => error,
            })
        }
        _ => Err(give_up("It is on behalf of nobody whom its kind knows.")),
    }
}

/// In how many seconds a job that has failed comes again; `None` when it does not.
fn again_in(shared: &WorkerState, error: &Error, attempt: i16, attempts: i16) -> Option<f64> {
    if error.code() == &job_codes::GIVEN_UP || attempt >= attempts {
        return None;
    }
    let rng = shared.app.rng.as_ref();
    let own = backoff(u32::try_from(attempt - 1).unwrap_or_default(), rng);
    let asked = error.wait().map_or(Duration::ZERO, |wait| jittered(wait, rng));
    Some(own.max(asked).as_secs_f64())
}

/// Failures that are tried again are warnings; a job that dies is an error.
fn note_failure(error: &Error, again_in: Option<f64>, lost: bool) {
    let error = error as &dyn std::error::Error;
    match again_in {
        _ if lost => tracing::info!(error, "An attempt ended whose job had gone to another one"),
        Some(seconds) => tracing::warn!(error, again_in = seconds, "A job has failed, and is tried again"),
        None => tracing::error!(error, "A job has failed for the last time"),
    }
}

/// What could not be written now is found by the lease: the job runs again.
fn unless_heard(outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(error = &error as &dyn std::error::Error, "The end of a job could not be written");
    }
}

/// How long running jobs may go on at a stop, of the time that it may take.
pub(super) fn patience(timeout: Duration) -> Duration {
    timeout.mul_f64(0.8)
}
