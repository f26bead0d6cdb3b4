//! The end of a tenant: once it has been closed for a while, an operator lets it be erased, and a job does so. People who belong to no
//! other tenant are erased with it, once its key is destroyed, then the files, then the rows of every table that modules have. What stays is the tenant's id, and what
//! its audit log tells of the tenant itself ([decision 0042](../../../../docs/decisions/0042-erased-tenants.md)).

use std::collections::BTreeMap;
use std::time::Duration;

use erp_core::audit::Sealer;
use erp_core::auth::Trace;
use erp_core::db::{AuditEntry, System, SystemTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::from_row;
use erp_core::jobs::{Job, JobKind, enqueue_once};
use erp_core::shared::{Clock, Rng, TenantId, UserId};
use erp_core::stored_files::remove_all_files;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::TENANTS;
use super::people::{self, PersonMove};

/// Which tenant is to be erased.
#[derive(Serialize, Deserialize)]
pub(super) struct ErasedTenant {
    tenant: TenantId,
}

/// How an erasure is begun.
pub struct ErasureTerms<'a> {
    /// For how long the tenant must have been closed.
    pub grace: Duration,
    /// The time, for ids.
    pub clock: &'a dyn Clock,
    /// Randomness, for ids.
    pub rng: &'a dyn Rng,
}

/// What an erasure has done.
#[derive(Default, Serialize)]
struct ErasureReport {
    /// Versions of the tenant's key that were destroyed.
    keys: usize,
    people: u64,
    files: u64,
    /// How many, by table.
    rows: BTreeMap<String, i64>,
}

pub(super) static ERASE: JobKind<ErasedTenant> = JobKind::<ErasedTenant>::new(
    "identity.erase_tenant",
    "Erases a tenant that has been closed for a while: its people who belong to no other, its files and its rows.",
    |job, erased| Box::pin(erase(job, erased.tenant)),
)
.system(&TENANTS)
.time_limit(Duration::from_secs(6 * 3600))
.attempts(50)
.at_most(2)
.unhurried();

/// How many rows one transaction deletes: short enough that nobody waits for its locks.
const BATCH: i32 = 5000;

const BEGIN: &str = "select app.begin_erasure($1, $2::bigint * interval '1 second') as begun";
/// A person who belonged to another tenant at some time stays what it is there.
const PEOPLE: &str = "select m.user_id as id from memberships m where m.tenant_id = $1 and ($2::uuid is null or m.user_id > $2) \
     and not exists (select from memberships o where o.user_id = m.user_id and o.tenant_id <> $1) \
     and not exists (select from auth.people p where p.id = m.user_id and p.erased_at is not null) order by m.user_id limit 100";
const ROWS: &str = "select relation, erased from app.erase_rows($1)";
const END: &str = "select app.end_erasure()";

struct BegunErasure {
    begun: bool,
}
from_row!(BegunErasure { begun });

struct PersonOfTenant {
    id: UserId,
}
from_row!(PersonOfTenant { id });

struct ErasedRows {
    relation: String,
    erased: i64,
}
from_row!(ErasedRows { relation, erased });

/// Lets a tenant be erased; from then on there is no way back. Said again, it changes nothing, and goes on at once with what was
/// interrupted.
///
/// # Errors
/// `core.wrong_state` for one that has not been closed for long enough.
pub async fn begin<'db>(
    system: impl Fn() -> SystemTx<'db>,
    trace: &Trace,
    (tenant, why): (TenantId, &str),
    terms: &ErasureTerms<'_>,
) -> Result<()> {
    let grace = i64::try_from(terms.grace.as_secs()).unwrap_or(i64::MAX);
    let mut tx = system().within(tenant).await?;
    let BegunErasure { begun } = tx.row(BEGIN, &[&tenant, &grace]).await?;
    if !begun {
        let days = terms.grace.as_secs() / 86_400;
        let what = format!("The tenant has not been closed for {days} days (IDENTITY_CLOSED_FOR).");
        return Err(Error::new(&core::WRONG_STATE).detail(what));
    }
    tx.audit(&entry("identity.tenant_erasure_begun", tenant, json!({ "why": why })))?;
    tx.commit().await?;
    let mut tx = system().within(TenantId::PLATFORM).await?;
    let once = (TenantId::PLATFORM, tenant.to_string());
    enqueue_once(&mut tx, trace, &ERASE, once, &ErasedTenant { tenant }, (terms.clock, terms.rng)).await?;
    tx.commit().await
}

/// What was done stays done: after a crash it goes on where it was.
async fn erase(job: &Job, tenant: TenantId) -> Result<()> {
    let system = job.system()?;
    let trace = job.call.caller.trace();
    // First of all: what is encrypted is gone at once, in the database, the store and every copy of them.
    let keys = job.call.app.keys.destroy(tenant).await?;
    let mut report = ErasureReport {
        keys,
        people: erase_people(system, trace, tenant).await?,
        files: remove_all_files(&job.call.app, tenant).await?,
        ..ErasureReport::default()
    };
    if let Some(mut sealer) = Sealer::new(&job.call.app)? {
        sealer.seal_for_erasure(tenant).await?;
    }
    loop {
        let tx = system.begin(trace).within(tenant).await?.last();
        let erased: Option<ErasedRows> = tx.optional(ROWS, &[&BATCH]).await?;
        let Some(ErasedRows { relation, erased }) = erased else { break };
        *report.rows.entry(relation).or_default() += erased;
        job.progress(report.rows.values().sum::<i64>().unsigned_abs(), None);
    }
    let mut tx = system.begin(trace).within(tenant).await?;
    let _: Vec<()> = tx.rows(END, &[]).await?;
    let details = serde_json::to_value(&report).map_err(Error::internal)?;
    tx.audit(&entry("identity.tenant_erased", tenant, details))?;
    tx.commit().await?;
    job.result(&report)
}

async fn erase_people(system: &System, trace: &Trace, tenant: TenantId) -> Result<u64> {
    let mut last: Option<UserId> = None;
    let mut erased = 0;
    loop {
        let tx = system.begin(trace).last();
        let page: Vec<PersonOfTenant> = tx.rows(PEOPLE, &[&tenant, &last]).await?;
        for PersonOfTenant { id } in &page {
            let why = (PersonMove::Erase, "The tenant is erased.");
            people::steer(|| system.begin(trace), *id, why).await?;
            erased += 1;
            last = Some(*id);
        }
        if page.is_empty() {
            return Ok(erased);
        }
    }
}

fn entry(action: &'static str, tenant: TenantId, details: Value) -> AuditEntry {
    let resource_id = Some(tenant.to_string());
    AuditEntry { action, resource: "tenant", resource_id, outcome: "success", details }
}
