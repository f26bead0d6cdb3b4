//! What the core does each night: partitions, and answers to repeated requests that have expired.

use crate::db::{MAINTAIN, PartitionOutcome};
use crate::error::Result;
use crate::jobs::{Job, JobKind, Schedule};
use crate::module::Module;

crate::system_work! {
    /// What maintenance does as the system.
    SYSTEM {
        MAINTAIN_TABLES = "maintenance": "Makes and drops partitions, and removes what has expired; nobody would ask for it.";
    }
}

/// The core's own jobs by the clock, as a module.
pub(crate) static MAINTENANCE: Module = Module {
    name: "maintenance",
    about: "What is done each night.",
    jobs: &[&PARTITIONS, &KEYS],
    schedules: NIGHTLY,
    system: SYSTEM,
    ..Module::BARE
};

/// When they run: at a time of few requests in most of the world, and not at a full hour.
const NIGHTLY: &[&Schedule] = &[
    &Schedule::for_platform(
        "maintenance.partitions",
        "Makes the partitions of the next months and days, and drops those of jobs that are kept no longer; \
         `db maintain` does the same.",
        "20 3 * * *",
        &PARTITIONS,
        &(),
    ),
    &Schedule::for_each_tenant(
        "maintenance.keys",
        "Removes the answers to repeated requests that have expired.",
        "40 3 * * *",
        &KEYS,
        &(),
    ),
];

static PARTITIONS: JobKind<()> = JobKind::<()>::new(
    "maintenance.partitions",
    "Makes the partitions of the next months and days, and drops those of jobs that are kept no longer.",
    |job, ()| Box::pin(partitions(job)),
)
.system(&MAINTAIN_TABLES);

static KEYS: JobKind<()> = JobKind::<()>::new(
    "maintenance.keys",
    "Removes the answers to requests with an `Idempotency-Key` that have expired, and rows that imports have left over.",
    |job, ()| Box::pin(keys(job)),
)
.system(&MAINTAIN_TABLES)
.unhurried();

/// A request with a key removes a few of its tenant's; this is for the tenants that send none any more.
const EXPIRED: &str = "delete from idempotency_keys where expires_at < now()";

/// Rejected rows of imports that never came to their end.
const LEFT_OVER: &str = "delete from import_rejections where added_at < now() - interval '30 days'";

async fn partitions(job: &Job) -> Result<()> {
    let app = &job.call.app;
    let days = i32::try_from(app.config.jobs.retention_days).unwrap_or(i32::MAX);
    let tx = job.system()?.begin(job.call.caller.trace());
    let outcomes: Vec<PartitionOutcome> = tx.last().rows(MAINTAIN, &[&days]).await?;
    for PartitionOutcome { part, outcome } in outcomes.iter().filter(|outcome| outcome.trouble().is_none()) {
        tracing::info!(partition = part, outcome, "A partition was maintained");
    }
    for (part, trouble) in outcomes.iter().filter_map(|outcome| Some((&outcome.part, outcome.trouble()?))) {
        tracing::warn!(partition = part, "The partition {trouble}");
    }
    job.result(&outcomes)
}

async fn keys(job: &Job) -> Result<()> {
    let mut tx = job.call.tenant();
    tx.rows::<()>(EXPIRED, &[]).await?;
    tx.last().rows::<()>(LEFT_OVER, &[]).await.map(drop)
}
