use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::steer::hasten;
use super::{AnyJobKind as _, JobFacts, JobId, JobKind, job_codes};
use crate::app::{App, BELIEVED};
use crate::auth::{Actor, Caller, Trace};
use crate::db::{NewJob, TenantTx};
use crate::error::{Error, Result};
use crate::resource::Call;
use crate::shared::{Clock, Id, Rng, TenantId};

/// Longer arguments, results and states are refused: a queue is no store.
const MOST_BYTES: usize = 16 * 1024;

/// When a job is to run, and whether it may be there twice. By default at once, and as often as it is enqueued.
#[derive(Debug, Clone, Default)]
pub struct JobOptions {
    delay: Option<Duration>,
    run_at: Option<Timestamp>,
    unique_key: Option<String>,
}

impl JobOptions {
    /// So long after the commit.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// At this time, by the clock of the database.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Self {
        self.run_at = Some(time);
        self
    }

    /// Not where the tenant has a job of this kind and key that is not over yet. At most 255 characters.
    #[must_use]
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.unique_key = Some(key.into());
        self
    }
}

impl Call {
    /// Adds a job to the transaction: it commits or vanishes with it, and costs no round trip of its own. The id is the
    /// job's; for one with a unique key that is taken there is no such job.
    ///
    /// ```no_run
    /// # use erp_core::{error::Result, jobs::JobKind, resource::Call};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Reminder { invoice: String }
    /// # static REMIND: JobKind<Reminder> = JobKind::new("billing.remind", "Reminds.", |_, _| Box::pin(async { Ok(()) }));
    /// # async fn send(call: Call, invoice: String) -> Result<()> {
    /// let mut tx = call.tenant();
    /// call.enqueue(&mut tx, &REMIND, &Reminder { invoice })?;
    /// tx.commit().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// `jobs.backlog_full` while the tenant has as many waiting jobs as it may have.
    pub fn enqueue<A: Serialize + DeserializeOwned>(
        &self,
        tx: &mut TenantTx<'_>,
        kind: &'static JobKind<A>,
        args: &A,
    ) -> Result<JobId> {
        self.enqueue_with(tx, kind, args, JobOptions::default())
    }

    /// The same at another time, or once only.
    ///
    /// # Errors
    /// As [`Call::enqueue`].
    pub fn enqueue_with<A: Serialize + DeserializeOwned>(
        &self,
        tx: &mut TenantTx<'_>,
        kind: &'static JobKind<A>,
        args: &A,
        options: JobOptions,
    ) -> Result<JobId> {
        let args = serde_json::to_value(args).map_err(Error::internal)?;
        let job = new_job(&self.app, &self.caller, kind.facts(), args, options)?;
        let id = Id::from_uuid(job.id);
        tx.add_job(job);
        Ok(id)
    }
}

/// A job as the database takes it.
fn new_job(
    app: &App,
    caller: &Caller,
    kind: &'static JobFacts,
    args: serde_json::Value,
    JobOptions { delay, run_at, unique_key }: JobOptions,
) -> Result<NewJob> {
    if !app.job_kinds.contains(kind.name) {
        let fix = "add it there, as `jobs: &[&KIND]`";
        return Err(Error::internal(format!("the job kind '{}' is in no module's row: {fix}", kind.name)));
    }
    bounded(&args)?;
    if !app.backlogs.admit(caller.tenant(), app.clock.instant()) {
        return Err(Error::new(&job_codes::BACKLOG_FULL).retry_after(BELIEVED));
    }
    let (principal, system) = on_behalf(caller, kind)?;
    let origin = caller.trace().correlation_id.to_string();
    Ok(NewJob {
        id: *JobId::new(app.clock.as_ref(), app.rng.as_ref()).as_uuid(),
        kind: kind.name,
        priority: kind.priority,
        attempts: kind.attempts,
        principal,
        system,
        origin,
        unique_key,
        args,
        delay: delay.map(|delay| delay.as_secs_f64()),
        run_at,
    })
}

/// A job of a kind that does work of the system, to be run at once: it does not matter who enqueues it.
pub(crate) fn system_job<A: Serialize + DeserializeOwned>(
    app: &App,
    tenant: TenantId,
    trace: &Trace,
    kind: &'static JobKind<A>,
    id: JobId,
    args: &A,
) -> Result<NewJob> {
    if !app.backlogs.admit(tenant, app.clock.instant()) {
        return Err(Error::new(&job_codes::BACKLOG_FULL).retry_after(BELIEVED));
    }
    job_of_system(trace, kind, id, args)
}

/// The same where there is no app, and whatever else waits.
pub(crate) fn job_of_system<A: Serialize + DeserializeOwned>(
    trace: &Trace,
    kind: &'static JobKind<A>,
    id: JobId,
    args: &A,
) -> Result<NewJob> {
    let args = serde_json::to_value(args).map_err(Error::internal)?;
    let facts = kind.facts();
    bounded(&args)?;
    let work = facts.system.ok_or_else(|| Error::internal("the kind does no work of the system"))?;
    Ok(NewJob {
        id: *id.as_uuid(),
        kind: facts.name,
        priority: facts.priority,
        attempts: facts.attempts,
        principal: None,
        system: Some(work.name),
        origin: trace.correlation_id.to_string(),
        unique_key: None,
        args,
        delay: None,
        run_at: None,
    })
}

/// Adds a job that does work of the system to a transaction of the system's, once for a key of the tenant's; one of that key that rests
/// begins now.
///
/// # Errors
/// As the database answers.
pub async fn enqueue_once<A: Serialize + DeserializeOwned>(
    tx: &mut TenantTx<'_>,
    trace: &Trace,
    kind: &'static JobKind<A>,
    (tenant, key): (TenantId, String),
    args: &A,
    (clock, rng): (&dyn Clock, &dyn Rng),
) -> Result<()> {
    hasten(tx, kind, tenant, std::slice::from_ref(&key)).await?;
    let job = job_of_system(trace, kind, JobId::new(clock, rng), args)?;
    tx.add_job(NewJob { unique_key: Some(key), ..job });
    Ok(())
}

/// Whose permissions the job will have, or which work of the system it is: one of the two (T-20).
fn on_behalf(caller: &Caller, kind: &JobFacts) -> Result<(Option<Uuid>, Option<&'static str>)> {
    if let Some(work) = kind.system {
        return Ok((None, Some(work.name)));
    }
    let principal = caller.actor().principal().map(|principal| *principal.as_uuid());
    match (principal, caller.actor()) {
        (Some(principal), _) => Ok((Some(principal), None)),
        (None, Actor::System(work)) => Err(Error::internal(format!(
            "'{}' would run with nobody's permissions: enqueued by the work '{work}' of the system, it has to declare \
             its own with `JobKind::system`",
            kind.name
        ))),
        (None, _) => Err(Error::internal("a job is enqueued by a principal or by work of the system")),
    }
}

/// Refuses what is too long for a queue.
pub(super) fn bounded(value: &serde_json::Value) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(Error::internal)?.len();
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    let what =
        format!("{bytes} bytes of at most {MOST_BYTES}: store what is large, and let the job refer to it");
    Err(Error::new(&job_codes::ARGUMENTS_TOO_LARGE).because(what))
}
