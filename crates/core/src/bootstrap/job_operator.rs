//! What an operator does about jobs from a terminal, as the system's login: look across tenants, and end, repeat, pause and
//! weigh. Each thing that is done in a tenant stands in that tenant's audit log.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::operator_session::OperatorSession;
use crate::config::Config;
use crate::db::{AuditEntry, TenantTx};
use crate::error::Result;
use crate::jobs::{self, ALL_JOBS, JobId, JobState};
use crate::lifecycle::StartError;
use crate::shared::{PrincipalId, Rng, TenantId};
use crate::worker::QUEUE;
use crate::{from_row, sql};

/// The jobs that one transaction moves.
const BATCH: usize = 1000;

/// Which jobs are meant; what is not given does not narrow.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobFilter {
    /// These, whatever else is said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<JobId>,
    /// Of this tenant.
    #[serde(skip)]
    pub tenant: Option<TenantId>,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// In this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Enqueued longer ago than so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<f64>,
    /// At most so many.
    #[serde(skip)]
    pub limit: i64,
}

impl JobFilter {
    /// Whether it narrows at all.
    pub fn narrows(&self) -> bool {
        let Self { ids, tenant, kind, state, older_than, .. } = self;
        !ids.is_empty() || tenant.is_some() || kind.is_some() || state.is_some() || older_than.is_some()
    }
}

/// A job, as an operator sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // they are those of the API, and the columns
pub struct ListedJob {
    pub id: JobId,
    /// The tenant's slug.
    pub tenant: String,
    pub kind: String,
    pub state: JobState,
    pub attempt: i16,
    pub attempts: i16,
    pub priority: i16,
    pub principal: Option<PrincipalId>,
    pub system: Option<String>,
    /// The correlation id of the request that enqueued it.
    pub origin: String,
    pub unique_key: Option<String>,
    pub enqueued_at: Timestamp,
    pub run_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub progress: Option<Value>,
    pub error: Option<String>,
    /// Only where they were asked for: they are the tenant's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Value>,
    /// As the arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}
from_row!(ListedJob {
    id,
    tenant,
    kind,
    state,
    attempt,
    attempts,
    priority,
    principal,
    system,
    origin,
    unique_key,
    enqueued_at,
    run_at,
    started_at,
    finished_at,
    progress,
    error,
    args,
    result,
});

/// Where a job that matches is.
#[derive(Debug)]
pub struct FoundJob {
    tenant_id: TenantId,
    id: JobId,
}
from_row!(FoundJob { tenant_id, id });

/// A schedule, as the database has noted it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedSchedule {
    /// Its name.
    pub name: String,
    /// Its expression, and the zone.
    pub spec: String,
    /// The run that comes next.
    pub next_at: Timestamp,
    /// The last run that has fired, if one has.
    pub last_at: Option<Timestamp>,
}
from_row!(ListedSchedule { name, spec, next_at, last_at });

/// What an operator does with jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAction {
    /// Ends those that wait or run.
    Cancel,
    /// Makes those ready again that are dead.
    Retry,
    /// Puts those away that are dead.
    Discard,
}

impl JobAction {
    /// The states of the jobs that it is about.
    const fn states(self) -> &'static [JobState] {
        match self {
            Self::Cancel => &[JobState::Scheduled, JobState::Ready, JobState::Running],
            Self::Retry | Self::Discard => &[JobState::Dead],
        }
    }

    const fn audited(self) -> &'static str {
        match self {
            Self::Cancel => "job.cancelled",
            Self::Retry => "job.retried",
            Self::Discard => "job.discarded",
        }
    }

    /// What was done: `cancelled`.
    pub const fn done(self) -> &'static str {
        match self {
            Self::Cancel => "cancelled",
            Self::Retry => "retried",
            Self::Discard => "discarded",
        }
    }
}

/// What became of jobs.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct JobsMoved {
    /// Of so many all is done.
    pub done: usize,
    /// So many still run, and their workers were asked to end them.
    pub running: usize,
}

/// What is paused, or goes on.
#[derive(Debug, Clone)]
pub enum PauseOf {
    /// A kind of job, in all tenants.
    Kind(String),
    /// A tenant's jobs of all kinds.
    Tenant(TenantId),
}

const MATCHES: &str = "($1::uuid is null or tenant_id = $1) and ($2::text is null or kind = $2) \
     and ($3::text[] is null or state = any ($3)) \
     and ($4::float8 is null or enqueued_at < now() - $4 * interval '1 second') \
     and (cardinality($5::uuid[]) = 0 or job.id = any ($5))";
const FIND: &str =
    sql!["select tenant_id, id from ", ALL_JOBS, " where ", MATCHES, " order by tenant_id, id limit $6"];
const LIST: &str = sql![
    "select job.id, t.slug as tenant, kind, state, attempt, attempts, priority, principal, system, origin, unique_key, \
     enqueued_at, run_at, started_at, finished_at, progress, error, case when $7 then args end as args, \
     case when $7 then result end as result from ",
    ALL_JOBS,
    " join tenants t on t.id = job.tenant_id where ",
    MATCHES,
    " order by job.id desc limit $6"
];
const SCHEDULES: &str = "select name, spec, next_at, last_at from job_schedules order by next_at, name";
const PAUSE_KIND: &str = "insert into job_kinds (kind, paused) values ($1, $2) \
     on conflict (kind) do update set paused = excluded.paused returning kind";
const PAUSE_TENANT: &str = "insert into job_tenants (tenant, paused) values ($1, $2) \
     on conflict (tenant) do update set paused = excluded.paused returning tenant";
const WEIGH: &str = "insert into job_tenants (tenant, weight) values ($1, $2) \
     on conflict (tenant) do update set weight = excluded.weight returning tenant";

/// The queue of jobs, as an operator reaches it.
pub struct JobOperator {
    session: OperatorSession,
}

impl JobOperator {
    /// Opens the way to the database; nothing is sent before the first question.
    ///
    /// # Errors
    /// `Exit::Configuration` where the URLs cannot be used.
    pub fn open(config: &Config, rng: &dyn Rng) -> Result<Self, StartError> {
        OperatorSession::open(config, rng, &QUEUE).map(|session| Self { session })
    }

    /// Ends what `open` has begun.
    pub async fn close(self) {
        self.session.close().await;
    }

    /// The tenant of a slug, if there is one.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenant(&self, slug: &str) -> Result<Option<TenantId>> {
        self.session.tenant(slug).await
    }

    /// The jobs that match, the newest first. `contents` says whether with their arguments and results.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn list(&self, filter: &JobFilter, contents: bool) -> Result<Vec<ListedJob>> {
        let JobFilter { ids, tenant, kind, state, older_than, limit } = filter;
        let states = state.map(|state| vec![state.as_str()]);
        let tx = self.session.begin().last();
        tx.rows(LIST, &[tenant, kind, &states, older_than, ids, limit, &contents]).await
    }

    /// The schedules that a worker has noted, those that come next first.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn schedules(&self) -> Result<Vec<ListedSchedule>> {
        self.session.begin().last().rows(SCHEDULES, &[]).await
    }

    /// The jobs that match and that `action` is about.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn find(&self, action: JobAction, filter: &JobFilter) -> Result<Vec<FoundJob>> {
        let JobFilter { ids, tenant, kind, state, older_than, limit } = filter;
        let about = action.states().iter().filter(|known| state.is_none_or(|state| state == **known));
        let states: Vec<&str> = about.map(|state| state.as_str()).collect();
        let tx = self.session.begin().last();
        tx.rows(FIND, &[tenant, kind, &states, older_than, ids, limit]).await
    }

    /// Does it, a thousand jobs at a time, each lot with an entry in its tenant's audit log. What has moved on since it was
    /// found is left alone.
    ///
    /// # Errors
    /// As the database answers; what was done before stays done.
    pub async fn steer(
        &self,
        action: JobAction,
        found: &[FoundJob],
        filter: &JobFilter,
    ) -> Result<JobsMoved> {
        let mut moved = JobsMoved::default();
        for of_tenant in found.chunk_by(|one, next| one.tenant_id == next.tenant_id) {
            for batch in of_tenant.chunks(BATCH) {
                let batch = self.batch(action, batch, filter).await?;
                moved.done += batch.done;
                moved.running += batch.running;
            }
        }
        Ok(moved)
    }

    async fn batch(&self, action: JobAction, batch: &[FoundJob], filter: &JobFilter) -> Result<JobsMoved> {
        let Some(tenant) = batch.first().map(|job| job.tenant_id) else { return Ok(JobsMoved::default()) };
        let ids: Vec<JobId> = batch.iter().map(|job| job.id).collect();
        let mut tx = self.within(tenant).await?;
        let steered = match action {
            JobAction::Cancel => jobs::cancel(&mut tx, tenant, &ids).await?,
            // No worker listens in this process; those of others look within about a second.
            JobAction::Retry => jobs::retry(&mut tx, tenant, &ids, &BTreeSet::new()).await?,
            JobAction::Discard => jobs::discard(&mut tx, tenant, &ids).await?,
        };
        let running = steered.iter().filter(|job| job.running).count();
        let moved = JobsMoved { done: steered.len() - running, running };
        if !steered.is_empty() {
            let details = json!({ "jobs": moved.done, "running": moved.running, "filter": filter });
            tx.audit(&entry(action.audited(), details))?;
        }
        tx.commit().await.map(|()| moved)
    }

    /// Pauses a kind or a tenant, or lets it go on. Workers see it within about a second; what runs, runs to its end.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn pause(&self, of: &PauseOf, paused: bool) -> Result<()> {
        match of {
            PauseOf::Kind(kind) => self.session.begin().last().row(PAUSE_KIND, &[kind, &paused]).await,
            PauseOf::Tenant(tenant) => {
                let mut tx = self.within(*tenant).await?;
                let _: Option<()> = tx.optional(PAUSE_TENANT, &[tenant, &paused]).await?;
                let action = if paused { "jobs.paused" } else { "jobs.resumed" };
                tx.audit(&entry(action, Value::Null))?;
                tx.commit().await
            }
        }
    }

    /// Gives a tenant's jobs so many times the share of others', from 1 to 100.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn weigh(&self, tenant: TenantId, weight: i32) -> Result<()> {
        let mut tx = self.within(tenant).await?;
        let _: Option<()> = tx.optional(WEIGH, &[&tenant, &weight]).await?;
        tx.audit(&entry("jobs.weighed", json!({ "weight": weight })))?;
        tx.commit().await
    }

    async fn within(&self, tenant: TenantId) -> Result<TenantTx<'_>> {
        self.session.within(tenant).await
    }
}

fn entry(action: &'static str, details: Value) -> AuditEntry {
    AuditEntry { action, resource: "job", resource_id: None, outcome: "success", details }
}
