//! Fires schedules: about once a second each process looks whose time has come, by the clock of the database, and exactly one
//! of them moves the schedule on and enqueues its jobs, in one statement.

use std::sync::Arc;

use jiff::Timestamp;

use super::upkeep::{Ready, jittered};
use super::{Worker, WorkerState};
use crate::db::ToSql;
use crate::error::Result;
use crate::from_row;
use crate::jobs::{JobFacts, Planned, ScheduleScope, ScheduleTable};
use crate::lifecycle::{Background, Stop, StopStage};

/// Fires schedules.
pub(crate) static SCHEDULES: Background<Firing> = Background {
    name: "job schedules",
    about: "Enqueues the jobs of schedules whose time has come; of all processes one does it for each run.",
    critical: true,
    stops: StopStage::Intake,
    run: |firing, stop| Box::pin(keep(firing, stop)),
    observe: |_| {},
};

const NOW: &str = "select now() as now";
const LOOK: &str = "select name, spec, next_at from job_schedules where name = any ($1)";

/// Notes when a schedule fires first: one that is new, or whose expression is another one now. Processes of two versions
/// may run side by side, so that each says it once, at its start.
const BEGIN: &str = "insert into job_schedules (name, spec, next_at) select * from unnest($1::text[], $2::text[], $3::timestamptz[])
    on conflict (name) do update set spec = excluded.spec, next_at = excluded.next_at where job_schedules.spec <> excluded.spec";

/// Moves a schedule on and enqueues the jobs of its run. Of several processes the first one does it: the others find that
/// `next_at` has moved, and enqueue nothing. Their ids are in the order of time (version 7), by the clock of the database.
/// What is ready wakes this process's worker, up to a thousand lanes; the next looks find the others.
const FIRE: &str = "with due as (
    select name from job_schedules where name = $1 and spec = $2 and next_at = $3 and next_at <= now() for update skip locked
), fired as (
    update job_schedules s set next_at = $4, last_at = coalesce($5, s.last_at) from due where s.name = due.name
    returning s.name
), wanted as materialized (
    select t.id as tenant_id, (lpad(to_hex(floor(extract(epoch from now()) * 1000)::bigint), 12, '0')
      || overlay(substr(replace(gen_random_uuid()::text, '-', ''), 13) placing '7' from 1 for 1))::uuid as id
    from fired cross join tenants t
    where $5::timestamptz is not null and case when $6 then t.status = 'active' else t.slug = 'erp-platform' end
), keyed as (
    insert into job_keys (tenant_id, kind, key, job) select tenant_id, $7, $8, id from wanted
    on conflict do nothing returning tenant_id, job
), ready as (
    insert into job_ready (tenant_id, id, kind, priority, attempt, attempts, system, origin, unique_key, args, enqueued_at)
    select tenant_id, job, $7, $9, 0, $10, $11, $12, $8, $13, now() from keyed
    returning tenant_id, kind, priority, id
)
select tenant_id, kind, priority, id, true as again from ready limit 1000";

struct DatabaseNow {
    now: Timestamp,
}
from_row!(DatabaseNow { now });

struct ScheduleRow {
    name: String,
    spec: String,
    next_at: Timestamp,
}
from_row!(ScheduleRow { name, spec, next_at });

/// What fires schedules: the worker whose queue it is, and the table.
#[derive(Clone)]
pub(crate) struct Firing {
    shared: Arc<WorkerState>,
    table: Arc<ScheduleTable>,
}

impl Firing {
    pub(crate) fn new(worker: &Worker, table: ScheduleTable) -> Self {
        Self { shared: Arc::clone(&worker.0), table: Arc::new(table) }
    }

    /// The time, as the database has it.
    async fn now(&self) -> Result<Timestamp> {
        let clock: DatabaseNow = self.shared.queue.begin().last().row(NOW, &[]).await?;
        Ok(clock.now)
    }

    /// Notes the schedules that are new, and those whose expression is another one now: they begin with their next run.
    async fn begin(&self) -> Result<()> {
        let now = self.now().await?;
        let names: Vec<&str> = self.table.iter().map(|planned| planned.schedule.name).collect();
        let specs: Vec<&str> = self.table.iter().map(|planned| planned.spec.as_str()).collect();
        let firsts: Vec<Timestamp> = self.table.iter().map(|planned| planned.next(now)).collect();
        let tx = self.shared.queue.begin();
        tx.last().rows::<()>(BEGIN, &[&names, &specs, &firsts]).await.map(drop)
    }

    /// Fires what is due, and what of it has become due again, until nothing is.
    async fn fire_due(&self) -> Result<()> {
        let names: Vec<&str> = self.table.iter().map(|planned| planned.schedule.name).collect();
        let mut tx = self.shared.queue.begin();
        let clock: Vec<DatabaseNow> = tx.rows(NOW, &[]).await?;
        let rows: Vec<ScheduleRow> = tx.last().rows(LOOK, &[&names]).await?;
        let Some(DatabaseNow { now }) = clock.into_iter().next() else { return Ok(()) };
        for row in rows {
            let Some(planned) = self.table.get(&row.name).filter(|planned| planned.spec == row.spec) else {
                continue; // the processes of another version fire it
            };
            let mut next_at = row.next_at;
            while next_at <= now {
                next_at = self.fire(planned, next_at, now).await?;
            }
            let gauge = self.shared.app.metrics.jobs_schedule_next_seconds.with(&[planned.schedule.name]);
            gauge.set(next_at.duration_since(now).as_secs_f64());
        }
        Ok(())
    }

    /// Fires one run, unless another process has. Says when the next one is due.
    async fn fire(&self, planned: &Planned, next_at: Timestamp, now: Timestamp) -> Result<Timestamp> {
        let due = planned.due(next_at, now);
        let schedule = planned.schedule;
        let kind: &JobFacts = schedule.kind();
        let each_tenant = schedule.scope == ScheduleScope::EachTenant;
        let key = due.run.map(|run| planned.run_name(run));
        let origin = due.run.map(|run| planned.origin(run));
        let priority = i16::from(kind.priority);
        let attempts = i16::try_from(kind.attempts).unwrap_or(i16::MAX);
        let system = kind.system.map(|work| work.name);
        let params: [&(dyn ToSql + Sync); 13] = [
            &schedule.name,
            &planned.spec,
            &next_at,
            &due.next,
            &due.run,
            &each_tenant,
            &kind.name,
            &key,
            &priority,
            &attempts,
            &system,
            &origin,
            &planned.args,
        ];
        let tx = self.shared.queue.begin();
        let ready: Vec<Ready> = tx.last().rows(FIRE, &params).await?;
        if !ready.is_empty() {
            tracing::info!(schedule = schedule.name, run = key, "A schedule has fired");
        }
        self.shared.tell_ready(ready);
        Ok(due.next)
    }
}

/// Looks about once a second, until the stop.
async fn keep(firing: Firing, stop: Stop) {
    let mut begun = false;
    let mut troubled = false;
    loop {
        let beat = async {
            if !begun {
                firing.begin().await?;
                begun = true;
            }
            firing.fire_due().await
        };
        match beat.await {
            Ok(()) => troubled = false,
            Err(error) if !troubled => {
                troubled = true; // said once: the database's monitor tells more of it
                tracing::warn!(error = &error as &dyn std::error::Error, "Schedules cannot fire at present");
            }
            Err(_) => {}
        }
        if !stop.sleep(jittered(&firing.shared)).await {
            return;
        }
    }
}
