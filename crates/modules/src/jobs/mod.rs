//! A tenant's own jobs, for its people: what waits, runs and has failed, and what to do about it.
//!
//! The queue itself is the core's (`erp_core::jobs`); this module has routes only. A job's arguments are its module's own
//! business and are not shown; its result is for the one who enqueued it, and for those who may manage jobs.

use axum::response::{IntoResponse, Response};
use erp_core::answer::{Answer, Outputs, Refusing};
use erp_core::db::{AuditEntry, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::jobs::{self as queue, JOBS, JobId, JobProgress, JobRow, JobState, SteeredJob};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::{Call, Listable, Listed, Page};
use erp_core::shared::{PrincipalId, Text};
use erp_core::{from_row, input, list, record, sql};
use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

/// The jobs module.
pub static MODULE: Module = Module {
    name: "jobs",
    about: "Work that is done later: where it is, what it resulted in, and a way to end or repeat it.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    ..Module::BARE
};

erp_core::permissions! {
    /// The permissions of the jobs module.
    pub PERMISSIONS {
        READ = "jobs.job.read" to [Owner, Member, ReadOnly]: "List and read jobs, and the results of one's own.";
        MANAGE = "jobs.job.manage" to [Owner]: "Cancel and retry jobs, and read the results of all.";
    }
}

erp_core::error_codes! {
    /// The codes of the jobs module.
    pub ERRORS in codes {
        NOT_DONE = "jobs.not_done", 409, "No result yet";
            "The job has not succeeded, so there is no result.";
            "Look at the job's state: ask again when it is 'done'.";
        KEY_TAKEN = "jobs.key_taken", 409, "Another job has taken its place";
            "The job is meant to exist once, and another one of its kind and key waits or runs.";
            "Wait for the other one; retry this one only if that has failed too.";
    }
}

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/jobs", Access::Permission(&READ), list)
        .doc(Operation::new("listJobs", "List jobs").about(
            "The newest first. Jobs that are over are kept for some days. One that has failed for the last time stays \
             until somebody retries or discards it.",
        ))
        .get("/api/v1/jobs/{id}", Access::Permission(&READ), read)
        .doc(Operation::new("readJob", "Read a job"))
        .get("/api/v1/jobs/{id}/result", Access::Permission(&READ), result)
        .doc(Operation::new("readJobResult", "Read what a job resulted in").about(
            "For the one who enqueued it, and for those who may manage jobs.",
        ))
        .post("/api/v1/jobs/{id}/cancel", Access::Permission(&MANAGE), cancel)
        .doc(Operation::new("cancelJob", "Cancel a job").about(
            "One that waits is cancelled at once: 200. One that runs is asked to end, which takes about a second: 202. What it \
             has changed is then rolled back, unless it has ended before.",
        ))
        .post("/api/v1/jobs/{id}/retry", Access::Permission(&MANAGE), retry)
        .doc(Operation::new("retryJob", "Let a dead job run again"))
}

// The kind of the examples.
const KIND: &str = "catalog.import";

record! {
    /// A job, as far as it is shown.
    pub JobStatus in "jobs" {
        id: JobId,
        #[schemars(example = KIND)]
        kind: String,
        state: JobState,
        /// How often it has been begun.
        attempt: i16,
        /// How often it may be.
        attempts: i16,
        /// 0 before 1 before 2, among the jobs of the tenant.
        priority: i16,
        /// Whose permissions it has, as they are when it runs; none where it is work of the system.
        principal: Option<PrincipalId>,
        /// The work of the system that it does, where that is so.
        system: Option<String>,
        /// What it is meant to exist once by.
        unique_key: Option<String>,
        enqueued_at: Timestamp,
        /// When it is to run, for one that is scheduled.
        run_at: Option<Timestamp>,
        /// When its last attempt began, for one that runs or has ended.
        started_at: Option<Timestamp>,
        finished_at: Option<Timestamp>,
        /// How far it is, while it runs and has told.
        progress: Option<JobProgress>,
        /// Why its last attempt failed.
        error: Option<String>,
    }
}

impl Listable for JobStatus {
    type Kind = JobRow;

    fn id(&self) -> JobId {
        self.id
    }
}

input! {
    /// What a list of jobs can be narrowed to.
    Search {
        state: Option<JobState>,
        kind: Option<Text<1, 200>>,
    }
}

list! {
    /// Jobs in the order in which they were enqueued, the newest first.
    Jobs of JobStatus by Search from JOBS sorted [-id]
}

/// What a job resulted in.
#[derive(Debug, Serialize, JsonSchema)]
struct JobResult {
    /// Whatever its kind says of it; `null` where that is nothing.
    result: Value,
}

/// A job, its result, and whose it is.
struct JobEnd {
    state: JobState,
    principal: Option<PrincipalId>,
    result: Option<Value>,
}
from_row!(JobEnd { state, principal, result });

/// 200 with a job that was cancelled, or 202 with one whose worker was asked to end it.
struct Cancellation {
    status: StatusCode,
    job: JobStatus,
}

impl IntoResponse for Cancellation {
    fn into_response(self) -> Response {
        (self.status, Json(self.job)).into_response()
    }
}

impl Answer for Cancellation {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<JobStatus>(200).json::<JobStatus>(202);
    }
}

const READ_ONE: &str = sql!["select ", JobStatus::COLUMNS, " from ", JOBS, " where id = $1"];
const READ_END: &str = sql!["select state, principal, result from ", JOBS, " where id = $1"];

/// How often a job that moves on while it is looked for is looked for again.
const LOOKS: usize = 3;

async fn list(call: Call, page: Page<Jobs>) -> Result<Listed<Jobs>> {
    call.list(page).await
}

async fn read(call: Call, Path(id): Path<JobId>) -> Result<Json<JobStatus>> {
    let found = call.tenant_read().last().optional(READ_ONE, &[&id]).await?;
    found.map(Json).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

async fn result(call: Call, Path(id): Path<JobId>) -> Result<Json<JobResult>, Refusing<codes::NOT_DONE>> {
    let found: Option<JobEnd> = call.tenant_read().last().optional(READ_END, &[&id]).await?;
    let job = found.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    if job.principal.is_none() || job.principal != call.caller.actor().principal() {
        call.caller.require(&MANAGE)?;
    }
    match job.state {
        JobState::Done => Ok(Json(JobResult { result: job.result.unwrap_or(Value::Null) })),
        state => Err(Error::new(&codes::NOT_DONE).detail(format!("The job is '{state}'.")).into()),
    }
}

async fn cancel(call: Call, Path(id): Path<JobId>) -> Result<Cancellation, Refusing<core::WRONG_STATE>> {
    let mut tx = call.tenant();
    for _ in 0..LOOKS {
        if let Some(job) = queue::cancel(&mut tx, call.caller.tenant(), &[id]).await?.pop() {
            let (action, status) = match job.running {
                true => ("job.cancel_requested", StatusCode::ACCEPTED),
                false => ("job.cancelled", StatusCode::OK),
            };
            let job = told(tx, action, &job).await?;
            return Ok(Cancellation { status, job });
        }
        let state = state(&mut tx, id).await?;
        if !matches!(state, JobState::Scheduled | JobState::Ready | JobState::Running) {
            return Err(wrong(state).into());
        }
    }
    Err(Error::unavailable().into())
}

async fn retry(
    call: Call,
    Path(id): Path<JobId>,
) -> Result<Json<JobStatus>, Refusing<(core::WRONG_STATE, codes::KEY_TAKEN)>> {
    let mut tx = call.tenant();
    let known = &call.app.job_kinds;
    match queue::retry(&mut tx, call.caller.tenant(), &[id], known).await?.pop() {
        Some(job) => Ok(Json(told(tx, "job.retried", &job).await?)),
        None => match state(&mut tx, id).await? {
            JobState::Dead => Err(Error::new(&codes::KEY_TAKEN).into()),
            state => Err(wrong(state).into()),
        },
    }
}

/// Commits what was done to a job, with the audit entry of it, and reads what it is now.
async fn told(mut tx: TenantTx<'_>, action: &'static str, job: &SteeredJob) -> Result<JobStatus> {
    tx.audit(&AuditEntry {
        action,
        resource: "job",
        resource_id: Some(job.id.to_string()),
        outcome: "success",
        details: json!({ "kind": job.kind }),
    })?;
    tx.last().row(READ_ONE, &[&job.id]).await
}

async fn state(tx: &mut TenantTx<'_>, id: JobId) -> Result<JobState> {
    let found: Option<JobEnd> = tx.optional(READ_END, &[&id]).await?;
    found.map(|job| job.state).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

fn wrong(state: JobState) -> Error {
    Error::new(&core::WRONG_STATE).detail(format!("The job is '{state}'."))
}
