//! What keeps the queue in order while others work on it: the lease of this process, the jobs of workers that have died,
//! those whose time has come, and a look at the lanes for what no doorbell has told. Everything goes by the clock of the
//! database.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use uuid::Uuid;

use super::claim::JobQueue;
use super::lanes::Steering;
use super::{News, Worker, WorkerState, bell};
use crate::db::{Lane, ToSql};
use crate::error::Result;
use crate::from_row;
use crate::jobs::{JobId, JobTable};
use crate::lifecycle::{Background, Stop, StopStage};
use crate::shared::TenantId;

/// Keeps the queue in order.
pub(crate) static UPKEEP: Background<Worker> = Background {
    name: "job upkeep",
    about: "Keeps this worker's lease, takes over the jobs of workers that have died, makes ready what has become due, \
        and looks for jobs that no doorbell has told of.",
    critical: true,
    stops: StopStage::Work,
    run: |worker, stop| Box::pin(keep(worker, stop)),
    observe: |_| {},
};

/// A worker that has not been heard of for so long has died, in seconds.
pub(super) const LEASE: f64 = 10.0;
/// How often this worker is heard of.
const BEAT: Duration = Duration::from_secs(1);
/// Lanes that one look finds at most.
const LOOK: i64 = 2000;
/// Looks take one part in so many of the time: they walk over what is deleted and still held by an old snapshot.
const SHARE: u32 = 20;
/// How often the jobs of each kind are counted, at most.
const COUNT: Duration = Duration::from_secs(10);

const ENROL: &str = "insert into job_workers (id, host, version, slots) values ($1, $2, $3, $4)";
const RENEW: &str = "update job_workers set beat = now() where id = $1 returning id";
const LEAVE: &str = "delete from job_workers where id = $1 returning id";
const LEAVE_JOBS: &str = "with left_over as (
    delete from job_running r where r.worker = $1 returning r.*
)
insert into job_ready (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state, error,
    enqueued_at)
select tenant_id, id, kind, priority, attempt - 1, attempts, principal, system, origin, unique_key, args, state, error,
    enqueued_at from left_over returning id";

/// The workers that have died. Their jobs are taken over by a statement of its own, which sees what they claimed last:
/// a claim holds its worker's row until it is committed.
const BURY: &str = "delete from job_workers where beat < now() - $1 * interval '1 second' returning id";
const TAKE_OVER: &str = "with lost as (
    delete from job_running r where r.worker = any ($1) returning r.*
), again as (
    insert into job_ready (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state,
      error, enqueued_at)
    select tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state,
      'its worker died', enqueued_at from lost where attempt < attempts
), dead as (
    insert into job_dead (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state,
      error, enqueued_at, died_at)
    select tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state,
      'its worker died', enqueued_at, now() from lost where attempt >= attempts
), freed as (
    delete from job_keys k using lost l where l.attempt >= l.attempts and l.unique_key is not null
      and k.tenant_id = l.tenant_id and k.kind = l.kind and k.key = l.unique_key
)
select tenant_id, kind, priority, id, attempt < attempts as again from lost";

const PROMOTE: &str = "with due as materialized (
    select s.ctid, s.id from job_scheduled s where s.run_at <= now() order by s.run_at limit 1000 for update skip locked
), taken as (
    delete from job_scheduled s using due d where s.ctid = d.ctid and s.id = d.id returning s.*
)
insert into job_ready (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state, error,
    enqueued_at)
select tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state, error, enqueued_at
from taken returning tenant_id, kind, priority, id, true as again";

/// The lanes after the one that is given, each with its first job: a jump over the index from lane to lane.
const LANES: &str = "with recursive lane as (
    (select r.tenant_id, r.kind, r.priority, r.id from job_ready r
      where (r.tenant_id, r.kind, r.priority, r.id) > ($1, $2, $3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
      order by r.tenant_id, r.kind, r.priority, r.id limit 1)
    union all
    select n.tenant_id, n.kind, n.priority, n.id from lane l cross join lateral (
      select r.tenant_id, r.kind, r.priority, r.id from job_ready r
      where (r.tenant_id, r.kind, r.priority, r.id) > (l.tenant_id, l.kind, l.priority, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
      order by r.tenant_id, r.kind, r.priority, r.id limit 1) n
)
select tenant_id, kind, priority, id, true as again from lane limit $4";

const CANCELS: &str = "select tenant_id, id from job_cancels";
const CANCELLED: &str = "delete from job_cancels c using unnest($1::uuid[], $2::uuid[]) d (tenant_id, id)
    where c.tenant_id = d.tenant_id and c.id = d.id returning c.id";
/// Of jobs that were over before anybody saw it.
const FORGET_CANCELS: &str =
    "delete from job_cancels where asked_at < now() - interval '1 minute' returning id";
const PROGRESS: &str = "update job_running r set progress = p.progress
    from unnest($1::uuid[], $2::uuid[], $3::jsonb[]) p (tenant_id, id, progress)
    where r.tenant_id = p.tenant_id and r.id = p.id and r.worker = $4 returning r.id";
const PAUSED_KINDS: &str = "select kind from job_kinds where paused";
const STEERED_TENANTS: &str = "select tenant, paused, weight from job_tenants";
const COUNT_TENANT: &str =
    "select count(*) as jobs from (select from job_ready where tenant_id = $1 limit $2) r";
const COUNT_KINDS: &str =
    "select kind, count(*) as jobs, extract(epoch from now() - min(enqueued_at))::float8 as age
    from job_ready group by kind";

/// Where a job is ready.
pub(super) struct Ready {
    tenant_id: TenantId,
    kind: String,
    priority: i16,
    id: Uuid,
    again: bool,
}
from_row!(Ready { tenant_id, kind, priority, id, again });

struct OfTenant {
    tenant_id: TenantId,
    id: JobId,
}
from_row!(OfTenant { tenant_id, id });

struct WorkerRow {
    id: Uuid,
}
from_row!(WorkerRow { id });

struct KindRow {
    kind: String,
}
from_row!(KindRow { kind });

struct SteeredTenant {
    tenant: TenantId,
    paused: bool,
    weight: i32,
}
from_row!(SteeredTenant { tenant, paused, weight });

struct WaitingCount {
    jobs: i64,
}
from_row!(WaitingCount { jobs });

struct KindCount {
    kind: String,
    jobs: i64,
    age: f64,
}
from_row!(KindCount { kind, jobs, age });

/// What the upkeep remembers from beat to beat.
struct Upkeep {
    shared: std::sync::Arc<WorkerState>,
    /// Where the next look begins.
    after: Option<Lane>,
    look_at: Instant,
    count_at: Instant,
}

async fn keep(worker: Worker, stop: Stop) {
    let shared = worker.0;
    let now = Instant::now();
    let mut upkeep =
        Upkeep { shared: std::sync::Arc::clone(&shared), after: None, look_at: now, count_at: now };
    let mut troubled = false;
    let beats = async {
        loop {
            match upkeep.beat().await {
                Ok(()) => troubled = false,
                Err(error) if !troubled => {
                    troubled = true; // said once: the database's monitor tells more of it
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "The queue of jobs cannot be kept at present"
                    );
                }
                Err(_) => {}
            }
            if !stop.sleep(jittered(&shared)).await {
                return;
            }
        }
    };
    tokio::join!(beats, bell::answer(&shared, &stop));
    let lease = shared.lease.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(lease) = lease
        && let Err(error) = leave(&shared.queue, lease).await
    {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "Others take this worker's jobs over once its lease has ended"
        );
    }
}

/// Ends the lease. What a claim has taken that was given up at the stop goes back, uncounted.
async fn leave(queue: &JobQueue, lease: Uuid) -> Result<()> {
    let mut tx = queue.begin();
    let _: Option<WorkerRow> = tx.optional(LEAVE, &[&lease]).await?;
    let _: Vec<()> = tx.last().rows(LEAVE_JOBS, &[&lease]).await?;
    Ok(())
}

/// A second, more or less: the workers of many processes do not come at the same time.
pub(super) fn jittered(shared: &WorkerState) -> Duration {
    let mut random = [0];
    shared.app.rng.fill(&mut random);
    BEAT.mul_f64(0.8 + 0.4 * f64::from(random[0]) / 255.0)
}

impl Upkeep {
    /// What is done about once a second.
    async fn beat(&mut self) -> Result<()> {
        if self.shared.slots == 0 {
            return self.count_backlogs().await; // the rest is for those who work
        }
        self.renew().await?;
        self.steer().await?;
        self.bury().await?;
        self.promote().await?;
        self.cancel().await?;
        self.write_progress().await?;
        self.count_backlogs().await?;
        self.look().await?;
        self.count().await
    }

    fn queue(&self) -> &JobQueue {
        &self.shared.queue
    }

    /// Says that this process lives. Where others have taken it for dead, it begins anew: its jobs are theirs.
    async fn renew(&self) -> Result<()> {
        if let Some(lease) = self.shared.lease() {
            let tx = self.queue().begin();
            if tx.last().optional::<WorkerRow>(RENEW, &[&lease]).await?.is_some() {
                return Ok(());
            }
            tracing::warn!("This worker was silent for too long, and its jobs have gone to others");
            self.shared.running().values().for_each(|running| running.token.cancel());
        }
        let mut random = [0; 16];
        self.shared.app.rng.fill(&mut random);
        let lease = uuid::Builder::from_random_bytes(random).into_uuid();
        let slots = i32::try_from(self.shared.slots).unwrap_or(i32::MAX);
        let params: [&(dyn ToSql + Sync); 4] = [&lease, &self.shared.host, &self.shared.app.version, &slots];
        let _: Vec<()> = self.queue().begin().last().rows(ENROL, &params).await?;
        *self.shared.lease.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(lease);
        Ok(())
    }

    /// What operators have paused and weighed.
    async fn steer(&self) -> Result<()> {
        let mut tx = self.queue().begin();
        let kinds: Vec<KindRow> = tx.rows(PAUSED_KINDS, &[]).await?;
        let tenants: Vec<SteeredTenant> = tx.last().rows(STEERED_TENANTS, &[]).await?;
        let paused: HashSet<String> = kinds.into_iter().map(|row| row.kind).collect();
        let steering = Steering {
            kinds: self
                .shared
                .jobs
                .facts()
                .filter(|facts| !paused.contains(facts.name))
                .map(|facts| (facts.name, facts.at_most))
                .collect(),
            paused: tenants.iter().filter(|row| row.paused).map(|row| row.tenant).collect(),
            weights: tenants.iter().map(|row| (row.tenant, i64::from(row.weight))).collect(),
        };
        let _ = self.shared.news.send(News::Steering(steering));
        Ok(())
    }

    /// Takes over the jobs of workers that have died.
    async fn bury(&self) -> Result<()> {
        let mut tx = self.queue().begin();
        let dead: Vec<WorkerRow> = tx.rows(BURY, &[&LEASE]).await?;
        if dead.is_empty() {
            return Ok(());
        }
        let dead: Vec<Uuid> = dead.into_iter().map(|row| row.id).collect();
        let lost: Vec<Ready> = tx.last().rows(TAKE_OVER, &[&dead]).await?;
        tracing::warn!(
            workers = dead.len(),
            jobs = lost.len(),
            "Workers have died, and their jobs go to others"
        );
        self.shared.tell_ready(lost);
        Ok(())
    }

    /// Makes ready what has become due.
    async fn promote(&self) -> Result<()> {
        loop {
            let due: Vec<Ready> = self.queue().begin().last().rows(PROMOTE, &[]).await?;
            let more = due.len() >= 1000;
            self.shared.tell_ready(due);
            if !more {
                return Ok(());
            }
        }
    }

    /// Ends the running jobs of this process that somebody has cancelled.
    async fn cancel(&self) -> Result<()> {
        let mut tx = self.queue().begin();
        let asked: Vec<OfTenant> = tx.rows(CANCELS, &[]).await?;
        if asked.is_empty() {
            return Ok(());
        }
        let (tenants, ids) = self.end(asked);
        let _: Vec<()> = tx.rows(CANCELLED, &[&tenants, &ids]).await?;
        let _: Vec<()> = tx.last().rows(FORGET_CANCELS, &[]).await?;
        Ok(())
    }

    /// Ends those of `asked` that run here, and says which they are.
    fn end(&self, asked: Vec<OfTenant>) -> (Vec<Uuid>, Vec<Uuid>) {
        let mut running = self.shared.running();
        let ended = asked.into_iter().filter(|row| {
            let found = running.get_mut(&row.id);
            found.is_some_and(|job| {
                job.cancelled = true;
                job.token.cancel();
                true
            })
        });
        ended.map(|row| (*row.tenant_id.as_uuid(), *row.id.as_uuid())).unzip()
    }

    /// Writes how far jobs are that have told.
    async fn write_progress(&self) -> Result<()> {
        let Some(lease) = self.shared.lease() else { return Ok(()) };
        let (mut tenants, mut ids, mut told) = (Vec::new(), Vec::new(), Vec::<Value>::new());
        for running in self.shared.running().values() {
            let Some(job) = running.job.as_ref().and_then(std::sync::Weak::upgrade) else { continue };
            if let Some(progress) =
                job.told().progress.take().and_then(|told| serde_json::to_value(told).ok())
            {
                tenants.push(*job.call.caller.tenant().as_uuid());
                ids.push(*job.id().as_uuid());
                told.push(progress);
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let params: [&(dyn ToSql + Sync); 4] = [&tenants, &ids, &told, &lease];
        let _: Vec<()> = self.queue().begin().last().rows(PROGRESS, &params).await?;
        Ok(())
    }

    /// Counts the jobs of tenants that are near their limit.
    async fn count_backlogs(&self) -> Result<()> {
        let app = &self.shared.app;
        let most = i64::from(app.backlogs.limit()) + 1;
        for tenant in app.backlogs.doubtful(app.clock.instant()) {
            let tx = self.queue().begin();
            let count: WaitingCount = tx.last().row(COUNT_TENANT, &[&tenant, &most]).await?;
            let jobs = u32::try_from(count.jobs).unwrap_or(u32::MAX);
            app.backlogs.counted(tenant, jobs, app.clock.instant());
        }
        Ok(())
    }

    /// Looks at the next lanes. It takes a small part of the time, however long a look takes.
    async fn look(&mut self) -> Result<()> {
        if Instant::now() < self.look_at {
            return Ok(());
        }
        let begun = Instant::now();
        let (tenant, kind, priority) = self
            .after
            .map_or((TenantId::NOBODY, "", -1), |lane| (lane.tenant, lane.kind, i16::from(lane.priority)));
        let params: [&(dyn ToSql + Sync); 4] = [&tenant, &kind, &priority, &LOOK];
        let found: Vec<Ready> = self.queue().begin().last().rows(LANES, &params).await?;
        let full = found.len() >= usize::try_from(LOOK).unwrap_or(usize::MAX);
        let lanes = lanes(found, &self.shared.jobs);
        self.after = lanes.last().map(|(lane, _)| *lane).filter(|_| full);
        let _ = self.shared.news.send(News::Found(lanes));
        self.look_at = Instant::now() + begun.elapsed() * SHARE;
        Ok(())
    }

    /// Counts what waits, by kind, for the metrics.
    async fn count(&mut self) -> Result<()> {
        if Instant::now() < self.count_at {
            return Ok(());
        }
        let begun = Instant::now();
        let counts: Vec<KindCount> = self.queue().begin().last().rows(COUNT_KINDS, &[]).await?;
        let counts: HashMap<&str, &KindCount> = counts.iter().map(|row| (row.kind.as_str(), row)).collect();
        for facts in self.shared.jobs.facts() {
            let row = counts.get(facts.name);
            let metrics = &self.shared.app.metrics;
            metrics.jobs_ready.with(&[facts.name]).set(row.map_or(0.0, |row| row.jobs as f64));
            metrics.jobs_oldest_age_seconds.with(&[facts.name]).set(row.map_or(0.0, |row| row.age));
        }
        self.count_at = Instant::now() + COUNT.max(begun.elapsed() * SHARE);
        Ok(())
    }
}

impl WorkerState {
    /// Wakes this process's worker and the others for jobs that are ready.
    pub(super) fn tell_ready(&self, jobs: Vec<Ready>) {
        let lanes = lanes(jobs, &self.jobs);
        if !lanes.is_empty() {
            let _ = self.news.send(News::Lanes(lanes.clone()));
            self.untold.ring(lanes);
        }
    }
}

/// The lanes of jobs that are ready, of the kinds that this process knows.
fn lanes(jobs: Vec<Ready>, table: &JobTable) -> Vec<(Lane, Uuid)> {
    let ready = jobs.into_iter().filter(|job| job.again);
    ready
        .filter_map(|job| {
            let kind = table.get(&job.kind)?.facts().name;
            Some((Lane { tenant: job.tenant_id, kind, priority: u8::try_from(job.priority).ok()? }, job.id))
        })
        .collect()
}
