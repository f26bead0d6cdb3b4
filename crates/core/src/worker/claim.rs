//! What workers ask of the database: the statements that move a job from table to table, each atomic and fenced by the
//! attempt.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::lanes::LaneQuota;
use crate::auth::Trace;
use crate::db::{System, SystemTx, ToSql};
use crate::error::{Error, Result};
use crate::from_row;
use crate::jobs::JobId;
use crate::shared::TenantId;

/// Completes the jobs that changed nothing, and claims the next ones. What another worker is just claiming is left out;
/// so are the jobs of tenants that are suspended, and everything while this worker's own row is gone.
const CLAIM: &str = "with acks as (
    select * from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::jsonb[]) a (tenant_id, id, attempt, result)
), gone as (
    delete from job_running r using acks a
    where r.tenant_id = a.tenant_id and r.id = a.id and r.attempt = a.attempt returning r.*, a.result
), done as (
    insert into job_done (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state,
      error, enqueued_at, outcome, began_at, finished_at, result)
    select tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state,
      error, enqueued_at, 'succeeded', began_at, clock_timestamp(), result from gone
), freed as (
    delete from job_keys k using gone g
    where g.unique_key is not null and k.tenant_id = g.tenant_id and k.kind = g.kind and k.key = g.unique_key
), me as materialized (
    select w.id from job_workers w where w.id = $5 for key share
), picked as materialized (
    select r.ctid, r.id
    from unnest($6::uuid[], $7::text[], $8::smallint[], $9::uuid[], $10::bigint[], $11::bigint[])
      l (tenant_id, kind, priority, first, quota, at_most)
    join tenants t on t.id = l.tenant_id and (t.status = 'active' or t.slug = 'erp-platform')
    cross join me
    cross join lateral (
      select q.ctid, q.id from job_ready q
      where q.tenant_id = l.tenant_id and q.kind = l.kind and q.priority = l.priority and q.id >= l.first
      order by q.id limit greatest(0, least(l.quota, l.at_most - case when l.at_most is null then 0 else (
        select count(*) from job_running x where x.tenant_id = l.tenant_id and x.kind = l.kind) end))
      for update skip locked
    ) r
), taken as (
    delete from job_ready r using picked p where r.ctid = p.ctid and r.id = p.id returning r.*
)
insert into job_running (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state,
    error, enqueued_at, worker, began_at)
select tenant_id, id, kind, priority, attempt + 1, attempts, principal, system, origin, unique_key, args, state,
    error, enqueued_at, $5, now() from taken
returning tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, args, state, enqueued_at";

/// Lets one worker at a time count what runs of a kind in a tenant, where there may be so many. What it locks is let go with the
/// claim, whose statement then counts what the one before has claimed.
const LOCK: &str = "select 1 as locked from (select hashtextextended(l.tenant_id || ' ' || l.kind, 12) as number
    from unnest($1::uuid[], $2::text[], $3::bigint[]) l (tenant_id, kind, at_most) where l.at_most is not null order by 1) k,
    lateral (select pg_advisory_xact_lock(k.number)) locked";

/// Ends an attempt that has failed: the job comes again after `$5` seconds, or is dead where that is null. One that
/// somebody has cancelled meanwhile is over instead.
const FAIL: &str = "with gone as (
    delete from job_running r where r.tenant_id = $1 and r.id = $2 and r.attempt = $3 returning r.*
), cancelled as (
    delete from job_cancels c using gone g where c.tenant_id = g.tenant_id and c.id = g.id returning c.id
), fate as (
    select g.*, case when exists (select from cancelled) then 'over' when $5::float8 is null then 'dead' else 'later' end as fate
    from gone g
), later as (
    insert into job_scheduled (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args,
      state, error, enqueued_at, run_at)
    select tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state, $4, enqueued_at,
      now() + $5 * interval '1 second' from fate where fate = 'later'
), dead as (
    insert into job_dead (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state,
      error, enqueued_at, died_at)
    select tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state, $4, enqueued_at,
      now() from fate where fate = 'dead'
), over as (
    insert into job_done (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state,
      error, enqueued_at, outcome, began_at, finished_at)
    select tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state, $4, enqueued_at,
      'cancelled', began_at, now() from fate where fate = 'over'
), freed as (
    delete from job_keys k using fate g where g.fate <> 'later' and g.unique_key is not null
      and k.tenant_id = g.tenant_id and k.kind = g.kind and k.key = g.unique_key
)
select id from gone";

/// Ends a job that somebody has cancelled while it ran.
const CANCEL: &str = "with gone as (
    delete from job_running r where r.tenant_id = $1 and r.id = $2 and r.attempt = $3 returning r.*
), freed as (
    delete from job_keys k using gone g where g.unique_key is not null
      and k.tenant_id = g.tenant_id and k.kind = g.kind and k.key = g.unique_key
)
insert into job_done (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state, error,
    enqueued_at, outcome, began_at, finished_at)
select tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state, error, enqueued_at,
    'cancelled', began_at, now() from gone returning id";

/// Gives jobs back as if they had not been claimed: a deploy is no attempt.
const PUT_BACK: &str = "with gone as (
    delete from job_running r using unnest($1::uuid[], $2::uuid[], $3::smallint[]) a (tenant_id, id, attempt)
    where r.tenant_id = a.tenant_id and r.id = a.id and r.attempt = a.attempt returning r.*
)
insert into job_ready (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state, error,
    enqueued_at)
select tenant_id, id, kind, priority, attempt - 1, attempts, principal, system, origin, unique_key, args, state, error,
    enqueued_at from gone returning id";

/// A job that this worker has claimed.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) tenant_id: TenantId,
    pub(super) id: JobId,
    pub(super) kind: String,
    pub(super) priority: i16,
    pub(super) attempt: i16,
    pub(super) attempts: i16,
    pub(super) principal: Option<Uuid>,
    pub(super) system: Option<String>,
    pub(super) origin: String,
    pub(super) args: Value,
    pub(super) state: Option<Value>,
    pub(super) enqueued_at: Timestamp,
}
from_row!(Claimed {
    tenant_id,
    id,
    kind,
    priority,
    attempt,
    attempts,
    principal,
    system,
    origin,
    args,
    state,
    enqueued_at
});

/// One attempt at a job: what every change of it is fenced by.
#[derive(Debug, Clone, Copy)]
pub(super) struct JobAttempt {
    pub(super) tenant: TenantId,
    pub(super) id: JobId,
    pub(super) number: i16,
}

impl Claimed {
    pub(super) fn attempt(&self) -> JobAttempt {
        JobAttempt { tenant: self.tenant_id, id: self.id, number: self.attempt }
    }
}

/// A job that is done and changed nothing: its completion is sent along with the next claim.
#[derive(Debug)]
pub(super) struct Ack {
    pub(super) attempt: JobAttempt,
    pub(super) result: Option<Value>,
}

/// The queue, as a worker sees it.
#[derive(Clone)]
pub(super) struct JobQueue {
    pub(super) system: System,
    pub(super) trace: Trace,
}

impl JobQueue {
    /// A transaction of the queue's.
    pub(super) fn begin(&self) -> SystemTx<'_> {
        self.system.begin(&self.trace)
    }

    /// Completes `acks`, and claims what is asked for.
    pub(super) async fn claim(&self, worker: Uuid, acks: &[Ack], asks: &[LaneQuota]) -> Result<Vec<Claimed>> {
        let of = AttemptColumns::of(acks.iter().map(|ack| &ack.attempt));
        let results: Vec<_> = acks.iter().map(|ack| &ack.result).collect();
        let asked = QuotaColumns::of(asks);
        let mut tx = self.begin();
        if asks.iter().any(|ask| ask.at_most.is_some()) {
            let _: Vec<()> = tx.rows(LOCK, &[&asked.tenants, &asked.kinds, &asked.at_most]).await?;
        }
        let params: [&(dyn ToSql + Sync); 11] = [
            &of.tenants,
            &of.ids,
            &of.numbers,
            &results,
            &worker,
            &asked.tenants,
            &asked.kinds,
            &asked.priorities,
            &asked.firsts,
            &asked.quotas,
            &asked.at_most,
        ];
        tx.last().rows(CLAIM, &params).await
    }

    /// Ends an attempt that has failed. Says whether it was this worker's still.
    pub(super) async fn fail(&self, attempt: JobAttempt, error: &str, again_in: Option<f64>) -> Result<bool> {
        let (tenant, id) = (attempt.tenant, *attempt.id.as_uuid());
        let params: [&(dyn ToSql + Sync); 5] = [&tenant, &id, &attempt.number, &error, &again_in];
        let gone: Option<()> = self.begin().last().optional(FAIL, &params).await?;
        Ok(gone.is_some())
    }

    /// Ends an attempt that was cancelled.
    pub(super) async fn cancel(&self, attempt: JobAttempt) -> Result<()> {
        let (tenant, id) = (attempt.tenant, *attempt.id.as_uuid());
        let params: [&(dyn ToSql + Sync); 3] = [&tenant, &id, &attempt.number];
        let _: Option<()> = self.begin().last().optional(CANCEL, &params).await?;
        Ok(())
    }

    /// Gives back what was claimed and will not be run here.
    pub(super) async fn put_back(&self, attempts: &[JobAttempt]) -> Result<()> {
        if attempts.is_empty() {
            return Ok(());
        }
        let of = AttemptColumns::of(attempts.iter());
        let params: [&(dyn ToSql + Sync); 3] = [&of.tenants, &of.ids, &of.numbers];
        let _: Vec<()> = self.begin().last().rows(PUT_BACK, &params).await?;
        Ok(())
    }
}

/// Attempts, column by column.
#[derive(Default)]
struct AttemptColumns {
    tenants: Vec<Uuid>,
    ids: Vec<Uuid>,
    numbers: Vec<i16>,
}

impl AttemptColumns {
    fn of<'a>(attempts: impl Iterator<Item = &'a JobAttempt>) -> Self {
        attempts.fold(Self::default(), |mut of, attempt| {
            of.tenants.push(*attempt.tenant.as_uuid());
            of.ids.push(*attempt.id.as_uuid());
            of.numbers.push(attempt.number);
            of
        })
    }
}

/// What is asked for, column by column.
#[derive(Default)]
struct QuotaColumns {
    tenants: Vec<Uuid>,
    kinds: Vec<&'static str>,
    priorities: Vec<i16>,
    firsts: Vec<Uuid>,
    quotas: Vec<i64>,
    at_most: Vec<Option<i64>>,
}

impl QuotaColumns {
    fn of(asks: &[LaneQuota]) -> Self {
        asks.iter().fold(Self::default(), |mut of, LaneQuota { lane, from, quota, at_most, .. }| {
            of.tenants.push(*lane.tenant.as_uuid());
            of.kinds.push(lane.kind);
            of.priorities.push(lane.priority.into());
            of.firsts.push(*from);
            of.quotas.push(i64::try_from(*quota).unwrap_or(i64::MAX));
            of.at_most.push(at_most.map(i64::from));
            of
        })
    }
}

/// A failure in the words that the job keeps: the code and what it says, as a client may know them.
pub(super) fn words(error: &Error) -> String {
    let mut words = error.to_string();
    words.truncate(words.floor_char_boundary(1000));
    words
}
