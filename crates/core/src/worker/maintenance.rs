//! What the core does each night: partitions, and answers to repeated requests that have expired.

use crate::db::{MAINTAIN, PartitionOutcome};
use crate::error::Result;
use crate::from_row;
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
    jobs: &[&PARTITIONS, &KEYS, &OLD_EVENTS],
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
    &Schedule::for_each_tenant(
        "maintenance.events",
        "Removes events that are kept no longer.",
        "45 3 * * *",
        &OLD_EVENTS,
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

static OLD_EVENTS: JobKind<()> = JobKind::<()>::new(
    "maintenance.events",
    "Removes events that are older than EVENT_RETENTION_DAYS; those at which a subscriber has stopped stay.",
    |job, ()| Box::pin(old_events(job)),
)
.system(&MAINTAIN_TABLES)
.unhurried();

/// Webhooks that other services have sent are told from repetitions for far longer than their time holds.
const RECEIPTS: &str = "delete from webhook_receipts where received_at < now() - interval '1 day'";

/// A subscriber that is well is not so far behind. The tenant is named, since the system's login sees the events of all.
const OLD: &str = "delete from events e where e.tenant_id = $2 and e.emitted_at < now() - $1::int * interval '1 day' \
     and e.id in (select f.id from events f where f.tenant_id = $2 and f.number is not null order by f.number limit 10000) \
     and not exists (select from event_cursors c where c.tenant_id = $2 and c.number < e.number \
       and (c.failures > 0 or c.stopped_at is not null)) \
     returning e.number";

struct OldEvent {
    #[allow(dead_code, reason = "they are counted")]
    number: i64,
}
from_row!(OldEvent { number });

async fn old_events(job: &Job) -> Result<()> {
    let days = i32::try_from(job.call.app.config.jobs.event_retention_days).unwrap_or(i32::MAX);
    let tenant = job.call.caller.tenant();
    let mut removed = 0;
    loop {
        let tx = job.system()?.begin(job.call.caller.trace()).within(tenant).await?;
        let gone: Vec<OldEvent> = tx.last().rows(OLD, &[&days, &tenant]).await?;
        removed += gone.len();
        if gone.len() < 10_000 {
            return job.result(&removed);
        }
    }
}

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
    tx.rows::<()>(RECEIPTS, &[]).await?;
    tx.rows::<()>(EXPIRED, &[]).await?;
    tx.last().rows::<()>(LEFT_OVER, &[]).await.map(drop)
}
