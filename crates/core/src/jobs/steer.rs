//! What people do with jobs that are there: look, cancel, retry, discard. Each is one statement, which moves jobs of one
//! tenant from table to table, and leaves alone what a worker holds.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{AnyJobKind, JobId, JobKind};
use crate::db::{Sql, TenantTx};
use crate::error::Result;
use crate::shared::TenantId;
use crate::{choice, from_row, sql};

choice! {
    /// Where a job is.
    pub JobState {
        /// Its time has not come yet, or it rests before its next attempt.
        Scheduled = "scheduled",
        /// It waits for a worker.
        Ready = "ready",
        /// A worker runs it.
        Running = "running",
        /// It has succeeded.
        Done = "done",
        /// Somebody has cancelled it.
        Cancelled = "cancelled",
        /// It was dead, and somebody has put it away.
        Discarded = "discarded",
        /// It has failed for the last time, and waits for somebody who retries or discards it.
        Dead = "dead",
    }
}

/// Every job, whatever its state.
pub(crate) const ALL_JOBS: &str = "(select tenant_id, id, kind, 'scheduled'::text as state, attempt, attempts, priority, \
     principal, system, origin, unique_key, enqueued_at, run_at, null::timestamptz as started_at, \
     null::timestamptz as finished_at, null::jsonb as progress, error, args, null::jsonb as result from job_scheduled \
     union all select tenant_id, id, kind, 'ready'::text, attempt, attempts, priority, principal, system, origin, \
     unique_key, enqueued_at, null::timestamptz, null::timestamptz, null::timestamptz, null::jsonb, error, args, null::jsonb \
     from job_ready \
     union all select tenant_id, id, kind, 'running'::text, attempt, attempts, priority, principal, system, origin, \
     unique_key, enqueued_at, null::timestamptz, began_at, null::timestamptz, progress, error, args, null::jsonb \
     from job_running \
     union all select tenant_id, id, kind, 'dead'::text, attempt, attempts, priority, principal, system, origin, \
     unique_key, enqueued_at, null::timestamptz, null::timestamptz, died_at, null::jsonb, error, args, null::jsonb \
     from job_dead \
     union all select tenant_id, id, kind, case outcome when 'succeeded' then 'done'::text else outcome end, attempt, \
     attempts, priority, principal, system, origin, unique_key, enqueued_at, null::timestamptz, began_at, finished_at, \
     null::jsonb, error, args, result from job_done) job";

/// The jobs of the transaction's tenant, whatever their state, for `from`. By `id`, the order in which they were enqueued, each
/// table is read from the end of its primary key. For that the tenant is named here once more: PostgreSQL does not take the
/// order of the key from what row level security says of each table of a union. The cast stands inside, so that what is
/// compared outside is leakproof, and counts before the policies.
pub const JOBS: &str = sql![
    "(select * from ",
    ALL_JOBS,
    " where tenant_id = (select nullif(current_setting('app.tenant_id', true), '')::uuid)) job"
];

/// The columns that every table of jobs has.
const JOB: &str = "tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state, error, \
     enqueued_at";

/// Ends what waits, and asks the worker to end what runs. A job that moves on while the statement runs is not found.
const CANCEL: &str = sql![
    "with later as (delete from job_scheduled where tenant_id = $1 and id = any ($2) returning ",
    JOB,
    "), next as (delete from job_ready where tenant_id = $1 and id = any ($2) returning ",
    JOB,
    "), gone as (select * from later union all select * from next), \
     freed as (delete from job_keys k using gone g where g.unique_key is not null \
       and k.tenant_id = g.tenant_id and k.kind = g.kind and k.key = g.unique_key), \
     over as (insert into job_done (",
    JOB,
    ", outcome, finished_at) select ",
    JOB,
    ", 'cancelled', clock_timestamp() from gone), \
     held as (select tenant_id, id, kind, priority from job_running where tenant_id = $1 and id = any ($2)), \
     asked as (insert into job_cancels (tenant_id, id) select tenant_id, id from held on conflict do nothing) \
     select id, kind, priority, false as running from gone union all select id, kind, priority, true from held"
];

/// Makes what is dead ready again, with one attempt more where it had none left. The number of the attempt goes on: the one
/// before, if it still runs somewhere, must not pass for this one. A job whose key another one has taken is left out.
const RETRY: &str = sql![
    "with dead as materialized (select * from job_dead where tenant_id = $1 and id = any ($2) order by id desc for update), \
     keyed as (insert into job_keys (tenant_id, kind, key, job) select tenant_id, kind, unique_key, id from dead \
       where unique_key is not null on conflict do nothing returning job), \
     gone as (delete from job_dead d using dead w where d.tenant_id = w.tenant_id and d.id = w.id \
       and (w.unique_key is null or w.id in (select job from keyed)) returning d.*) \
     insert into job_ready (",
    JOB,
    ") select tenant_id, id, kind, priority, attempt, greatest(attempts, attempt + 1), principal, system, origin, \
     unique_key, args, state, error, enqueued_at from gone returning id, kind, priority, false as running"
];

/// Puts away what is dead.
const DISCARD: &str = sql![
    "with gone as (delete from job_dead where tenant_id = $1 and id = any ($2) returning *), \
     over as (insert into job_done (",
    JOB,
    ", outcome, finished_at) select ",
    JOB,
    ", 'discarded', clock_timestamp() from gone) \
     select id, kind, priority, false as running from gone"
];

const HASTEN: &str = "update job_scheduled set run_at = now() where tenant_id = $1 and kind = $2 and unique_key = any ($3) \
     and run_at > now()";

/// A job that was moved, or whose worker was asked to end it.
#[derive(Debug)]
pub struct SteeredJob {
    /// Its id.
    pub id: JobId,
    /// Its kind, which this process may not know.
    pub kind: String,
    /// Its priority.
    pub priority: i16,
    /// Whether it still runs: its worker ends it within about a second, unless it has ended before.
    pub running: bool,
}
from_row!(SteeredJob { id, kind, priority, running });

/// Cancels those of `ids` that wait, and lets the workers end those that run. Others are not among those that are returned;
/// neither is one that a worker has just claimed or given back: ask again for it.
///
/// # Errors
/// As the database answers.
pub async fn cancel(tx: &mut TenantTx<'_>, tenant: TenantId, ids: &[JobId]) -> Result<Vec<SteeredJob>> {
    steer(tx, CANCEL, tenant, ids).await
}

/// Makes those of `ids` ready again that are dead; they begin at once when the transaction is committed. One whose unique
/// key another job has taken meanwhile stays dead. `known` are the kinds of this process, `App::job_kinds`.
///
/// # Errors
/// As the database answers.
pub async fn retry(
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    ids: &[JobId],
    known: &BTreeSet<&'static str>,
) -> Result<Vec<SteeredJob>> {
    let ready = steer(tx, RETRY, tenant, ids).await?;
    for job in &ready {
        if let (Some(kind), Ok(priority)) = (known.get(job.kind.as_str()), u8::try_from(job.priority)) {
            tx.ring(kind, priority, *job.id.as_uuid());
        }
    }
    Ok(ready)
}

/// Puts those of `ids` away that are dead.
///
/// # Errors
/// As the database answers.
pub async fn discard(tx: &mut TenantTx<'_>, tenant: TenantId, ids: &[JobId]) -> Result<Vec<SteeredJob>> {
    steer(tx, DISCARD, tenant, ids).await
}

/// Lets the jobs of a kind that rest until their time begin now: those of these unique keys. Others are let be.
///
/// # Errors
/// As the database answers.
pub async fn hasten<A>(
    tx: &mut TenantTx<'_>,
    kind: &'static JobKind<A>,
    tenant: TenantId,
    keys: &[String],
) -> Result<()>
where
    JobKind<A>: AnyJobKind,
{
    tx.rows::<()>(HASTEN, &[&tenant, &kind.facts().name, &keys]).await.map(drop)
}

async fn steer(
    tx: &mut TenantTx<'_>,
    sql: impl Sql,
    tenant: TenantId,
    ids: &[JobId],
) -> Result<Vec<SteeredJob>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| *id.as_uuid()).collect();
    tx.rows(sql, &[&tenant, &ids]).await
}
