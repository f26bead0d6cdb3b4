//! Encrypts anew what an older version of a tenant's key has encrypted. What is encrypted is asked of the database, and not of the code:
//! no column can be forgotten that holds ciphertexts.

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::KEEP_KEYS;
use crate::crypto::{Keyring, SealFault, SealPlace};
use crate::db::ToSql;
use crate::error::Result;
use crate::from_row;
use crate::jobs::{Job, JobKind};
use crate::shared::TenantId;

/// How many rows one transaction changes: short enough that nobody waits for its locks.
const PAGE: i32 = 200;
/// How long after a rotation another process may still encrypt with the version before: it is announced first, and what is kept of keys
/// is younger.
pub(super) const EVERYWHERE: Duration = Duration::from_secs(60);

const COLUMNS: &str = "select relation, col, known_as, indexed from app.encrypted_columns where tenants = $1 order by relation, col";
const OLD: &str = "select coalesce(sum(number), 0)::bigint as number from app.encrypted_counts() where version > 0 and version < $1";
const ROWS: &str = "select row_id, sealed from app.encrypted_page($1, $2, $3, $4, $5)";
const RESEAL: &str = "select app.reseal($1, $2, $3, $4, $5, $6) as changed";
const AGE: &str = "select extract(epoch from now() - created_at)::float8 as seconds from tenant_keys where tenant = $1 and version = $2";

/// See the module.
pub(crate) static REWRAP: JobKind<()> = JobKind::<()>::new(
    "encryption.rewrap",
    "Encrypts anew what an older version of the tenant's key has encrypted.",
    |job, ()| Box::pin(rewrap(job)),
)
.system(&KEEP_KEYS)
.time_limit(Duration::from_secs(6 * 3600))
.attempts(50)
.at_most(2)
.unhurried();

struct EncryptedColumn {
    relation: String,
    col: String,
    known_as: String,
    indexed: bool,
}
from_row!(EncryptedColumn { relation, col, known_as, indexed });

struct SealedRow {
    row_id: Uuid,
    sealed: String,
}
from_row!(SealedRow { row_id, sealed });

struct Resealed {
    changed: bool,
}
from_row!(Resealed { changed });

struct OldRows {
    number: i64,
}
from_row!(OldRows { number });

struct KeyAge {
    seconds: f64,
}
from_row!(KeyAge { seconds });

/// What has come of it.
#[derive(Debug, Default, Serialize)]
struct RewrapReport {
    /// The version that encrypts.
    version: u32,
    /// How many ciphertexts of an older one were replaced.
    rewrapped: u64,
    /// How many do not open: they stay, and keep the version that they name from being retired.
    unreadable: u64,
}

/// It changes rows a page at a time, each page in a transaction of its own, and finds after a crash what is left. Rows that others
/// change meanwhile are left alone: they are written with the new version.
async fn rewrap(job: &Job) -> Result<()> {
    let (app, tenant) = (&job.call.app, job.call.caller.tenant());
    app.keys.forget(tenant);
    let ring = app.keys.of(tenant).await?;
    let Ok(version) = ring.current() else {
        return job.result(&RewrapReport::default()); // nothing is encrypted there, or nothing can be
    };
    if ring.awaits() {
        // Not every process looks for what the next version would write.
        job.put_off(EVERYWHERE);
        return job.result(&RewrapReport { version, ..RewrapReport::default() });
    }
    let (system, trace) = (job.system()?, job.call.caller.trace());
    let number = i32::try_from(version).unwrap_or(i32::MAX);
    let mut tx = system.begin(trace).within(tenant).await?;
    let columns: Vec<EncryptedColumn> = tx.rows(COLUMNS, &[&(tenant != TenantId::PLATFORM)]).await?;
    let OldRows { number: old } = tx.last().row(OLD, &[&number]).await?;
    let mut report = RewrapReport { version, ..RewrapReport::default() };
    for column in &columns {
        let mut after = Uuid::nil();
        loop {
            let mut tx = system.begin(trace).within(tenant).await?;
            let params: [&(dyn ToSql + Sync); 5] = [&column.relation, &column.col, &number, &after, &PAGE];
            let page: Vec<SealedRow> = tx.rows(ROWS, &params).await?;
            let Some(last) = page.last() else { break };
            after = last.row_id;
            for row in &page {
                let Ok((anew, index)) = anew(job, &ring, column, row) else {
                    report.unreadable += 1;
                    continue;
                };
                let params: [&(dyn ToSql + Sync); 6] =
                    [&column.relation, &column.col, &row.row_id, &row.sealed, &anew, &index];
                let Resealed { changed } = tx.row(RESEAL, &params).await?;
                report.rewrapped += u64::from(changed);
            }
            tx.commit().await?;
            job.progress(report.rewrapped + report.unreadable, Some(old.unsigned_abs()));
        }
    }
    let mut tx = system.begin(trace).within(tenant).await?;
    let OldRows { number: left } = tx.row(OLD, &[&number]).await?;
    let KeyAge { seconds } = tx.last().row(AGE, &[&tenant, &number]).await?;
    if version > 1 && seconds < EVERYWHERE.as_secs_f64() {
        // Others may still write with the version before: it is looked for once more when none does.
        job.put_off(EVERYWHERE);
    }
    tracing::info!(tenant_id = %tenant, version, rewrapped = report.rewrapped, left, "Encrypted anew");
    job.result(&report)
}

/// The same value under the version that encrypts, and its blind index, if the column has one.
fn anew(
    job: &Job,
    ring: &Keyring,
    column: &EncryptedColumn,
    row: &SealedRow,
) -> std::result::Result<(String, Option<String>), SealFault> {
    let table = column.relation.strip_prefix("public.").unwrap_or(&column.relation);
    let place = SealPlace { table, column: &column.known_as, row: row.row_id };
    let anew = ring.open(&place, &row.sealed).and_then(|text| {
        let index = column.indexed.then(|| ring.index([table, &column.known_as], &text)).transpose()?;
        Ok((ring.seal(job.call.app.rng.as_ref(), &place, &text)?, index))
    });
    anew.inspect_err(|fault| {
        tracing::error!(
            table,
            column = column.col,
            row = %row.row_id,
            reason = fault.word(),
            "A ciphertext does not open, and stays with the version of the key that it names"
        );
    })
}
