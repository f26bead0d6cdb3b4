//! The keys of tenants themselves: how they stand, and how versions end.

use serde::Serialize;

use super::KEEP_KEYS;
use super::rewrap::EVERYWHERE;
use crate::app::App;
use crate::auth::Trace;
use crate::crypto::{KeyEncryption, WrappedKey};
use crate::db::{AuditEntry, System, ToSql};
use crate::error::{Error, Result, codes};
use crate::from_row;
use crate::jobs::{Job, JobKind};
use crate::lifecycle::{Exit, StartError};
use crate::shared::{Rng, TenantId};

/// Wraps data keys anew.
pub(super) static REWRAP_KEYS: JobKind<()> = JobKind::<()>::new(
    "encryption.rewrap_keys",
    "Wraps data keys anew that another ENCRYPTION_KEY has wrapped. What they encrypt is not touched.",
    |job, ()| Box::pin(rewrap_job(job)),
)
.system(&KEEP_KEYS)
.unhurried();

const TENANTS: &str = "select t.id, t.slug from tenants t where ($1::text is null or t.slug = $1) \
     and exists (select from tenant_keys k where k.tenant = t.id) order by t.slug";
const STATUS: &str = "select k.version, k.wrapped_by, k.created_at::text as created_at, k.retired_at is not null as retired, \
     k.destroyed_at is not null as destroyed, \
     coalesce((select sum(c.number) from app.encrypted_counts() c where c.version = k.version), 0)::bigint as rows \
     from tenant_keys k where k.tenant = $1 order by k.version";
const OF_BEFORE: &str =
    "select coalesce(sum(c.number), 0)::bigint as number from app.encrypted_counts() c where c.version = 0";
/// A version ends once none of its ciphertexts is left, and no process can still write one.
const RETIRE: &str = "update tenant_keys k set retired_at = now() where k.tenant = $1 and k.retired_at is null \
     and exists (select from tenant_keys n where n.tenant = $1 and n.version > k.version and n.destroyed_at is null \
       and n.created_at < now() - $2 * interval '1 second') \
     and not exists (select from app.encrypted_counts() c where c.version = k.version) returning k.version";
const WRAPPED: &str = "select tenant, version, wrapped, wrapped_by from tenant_keys where wrapped_by <> $1 order by tenant, version";
const WRAP: &str = "update tenant_keys set wrapped = $4, wrapped_by = $5 where tenant = $1 and version = $2 and wrapped = $3 returning version";

/// A tenant that has keys.
#[derive(Debug, Clone)]
pub struct KeysOfTenant {
    /// Its id.
    pub id: TenantId,
    /// Its slug.
    pub slug: String,
}
from_row!(KeysOfTenant { id, slug });

/// How one version of a tenant's key stands.
#[derive(Debug, Serialize)]
pub struct KeyStatus {
    /// The version.
    pub version: i32,
    /// The name of the key that has wrapped it; none where it is destroyed.
    pub wrapped_by: Option<String>,
    /// Since when there is it.
    pub created_at: String,
    /// Whether it opens nothing any more.
    pub retired: bool,
    /// Whether it is destroyed.
    pub destroyed: bool,
    /// How many ciphertexts name it.
    pub rows: i64,
}
from_row!(KeyStatus { version, wrapped_by, created_at, retired, destroyed, rows });

const WRAPPERS: &str =
    "select wrapped_by, count(*) as number from tenant_keys where wrapped_by is not null group by wrapped_by";

struct WrapperRow {
    wrapped_by: String,
    number: i64,
}
from_row!(WrapperRow { wrapped_by, number });

struct VersionRow {
    version: i32,
}
from_row!(VersionRow { version });

struct NumberRow {
    number: i64,
}
from_row!(NumberRow { number });

struct WrappedRow {
    tenant: TenantId,
    version: i32,
    wrapped: String,
    wrapped_by: String,
}
from_row!(WrappedRow { tenant, version, wrapped, wrapped_by });

/// The tenants that have keys, the platform among them; or the one of a slug.
pub(crate) async fn tenants_with_keys(
    system: &System,
    trace: &Trace,
    slug: Option<&str>,
) -> Result<Vec<KeysOfTenant>> {
    system.begin(trace).last().rows(TENANTS, &[&slug]).await
}

/// The versions of a tenant's key, and how many secrets are in a form from before there were keys of tenants.
pub(crate) async fn status(
    system: &System,
    trace: &Trace,
    tenant: TenantId,
) -> Result<(Vec<KeyStatus>, i64)> {
    let mut tx = system.begin(trace).within(tenant).await?;
    let versions = tx.rows(STATUS, &[&tenant]).await?;
    let NumberRow { number } = tx.last().row(OF_BEFORE, &[]).await?;
    Ok((versions, number))
}

/// Retires the versions of which nothing is left: which. From then on nothing opens that names them (`min_decryption_version`).
pub(crate) async fn retire(system: &System, trace: &Trace, tenant: TenantId) -> Result<Vec<i32>> {
    let mut tx = system.begin(trace).within(tenant).await?;
    let retired: Vec<VersionRow> = tx.rows(RETIRE, &[&tenant, &EVERYWHERE.as_secs_f64()]).await?;
    let versions: Vec<_> = retired.into_iter().map(|row| row.version).collect();
    if !versions.is_empty() {
        tx.audit(&entry("core.key_retired", tenant, &versions))?;
    }
    tx.commit().await.map(|()| versions)
}

/// Refuses to start where none of the keys that this process has opens the tenants': it would give tenants further keys, which the others
/// cannot open.
///
/// # Errors
/// `Exit::Configuration`, with the name of the key that is missing.
pub(crate) async fn refuse_unknown_key(app: &App) -> Result<(), StartError> {
    let asked = app.system(&KEEP_KEYS).begin(&Trace::new("start")).last().rows(WRAPPERS, &[]).await;
    let Ok(wrappers): Result<Vec<WrapperRow>> = asked else { return Ok(()) }; // it is said where the database is asked next
    let encryption = app.keys.encryption();
    let Some(unknown) = wrappers.iter().find(|row| !encryption.knows(&row.wrapped_by)) else { return Ok(()) };
    let current = encryption.current().unwrap_or_default();
    Err(StartError::with_fix(
        Exit::Configuration,
        format!(
            "{} data keys of tenants are wrapped by the key {}, and ENCRYPTION_KEY is {current}",
            unknown.number, unknown.wrapped_by
        ),
        "set ENCRYPTION_KEY_PREVIOUS to what ENCRYPTION_KEY was before",
    ))
}

/// Wraps the data keys anew that another key has wrapped: how many, and how many could not be opened.
pub(crate) async fn rewrap_keys(
    system: &System,
    trace: &Trace,
    encryption: &KeyEncryption,
    rng: &dyn Rng,
) -> Result<(usize, usize)> {
    let current = encryption.current().ok_or_else(|| Error::new(&codes::UNREADABLE))?;
    let rows: Vec<WrappedRow> = system.begin(trace).last().rows(WRAPPED, &[&current]).await?;
    let (mut wrapped, mut unopened) = (0, 0);
    for WrappedRow { tenant: tenant_id, version, wrapped: text, wrapped_by: by } in rows {
        let place = (tenant_id, version.unsigned_abs());
        let was = WrappedKey { by, text };
        let anew = match encryption.unwrap(place, &was).await {
            Ok(key) => encryption.wrap(rng, place, &key).await,
            Err(fault) => Err(fault),
        };
        match anew {
            Ok(anew) => {
                let params: [&(dyn ToSql + Sync); 5] =
                    [&tenant_id, &version, &was.text, &anew.text, &anew.by];
                let _: Vec<VersionRow> = system.begin(trace).last().rows(WRAP, &params).await?;
                wrapped += 1;
            }
            Err(fault) => {
                tracing::error!(tenant_id = %tenant_id, version, reason = fault.word(), "A data key does not open");
                unopened += 1;
            }
        }
    }
    Ok((wrapped, unopened))
}

async fn rewrap_job(job: &Job) -> Result<()> {
    let app = &job.call.app;
    let (system, trace) = (job.system()?, job.call.caller.trace());
    let (wrapped, unopened) = rewrap_keys(system, trace, app.keys.encryption(), app.rng.as_ref()).await?;
    job.result(&serde_json::json!({ "wrapped": wrapped, "unopened": unopened }))
}

fn entry(action: &'static str, tenant: TenantId, versions: &[i32]) -> AuditEntry {
    AuditEntry {
        action,
        resource: "tenant",
        resource_id: Some(tenant.to_string()),
        outcome: "success",
        details: serde_json::json!({ "versions": versions }),
    }
}
