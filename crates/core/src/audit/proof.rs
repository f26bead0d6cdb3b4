//! Proofs for single rows, and the checkpoint that is in force: what a tenant's auditor asks for.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::store::StoredTree;
use super::tree::ProofPlan;
use crate::db::TenantTx;
use crate::error::{Error, Result};
use crate::from_row;

const LOG_OF: &str = "select log, origin, first_seq, size, note from audit_logs where first_seq <= $1 and note is not null \
     order by log desc limit 1";
const OPEN: &str =
    "select log, origin, first_seq, size, note from audit_logs where is_open and note is not null";
const ENTRY: &str = "select entry from audit_entries where log = $1 and index = $2";

/// A log as it is stored, with its signed checkpoint.
#[derive(Debug, Clone)]
pub struct SealedLog {
    pub(crate) log: i32,
    /// Its name.
    pub origin: String,
    /// The row that its entry 1 is made of.
    pub first_seq: i64,
    /// How many entries are sealed.
    pub size: i64,
    /// The signed note.
    pub note: String,
}
from_row!(SealedLog { log, origin, first_seq, size, note });

struct StoredEntry {
    entry: Option<String>,
}
from_row!(StoredEntry { entry });

/// That a row of the audit log is in the log as it was signed.
#[derive(Debug, Clone)]
pub struct AuditProof {
    /// The number of the row.
    pub seq: i64,
    /// Its place in the log.
    pub index: u64,
    /// The entry, whose bytes are hashed; none where they were removed.
    pub entry: Option<String>,
    /// The proof with the checkpoint, as C2SP tlog-proof has it.
    pub proof: String,
}

/// The proof for a row of the tenant's; none while it is not sealed, or where there is no such row.
///
/// # Errors
/// As the database answers.
pub async fn prove(tx: &mut TenantTx<'_>, seq: i64) -> Result<Option<AuditProof>> {
    let log: Option<SealedLog> = tx.optional(LOG_OF, &[&seq]).await?;
    let Some(log) = log.filter(|log| seq - log.first_seq + 1 < log.size) else { return Ok(None) };
    let index = seq - log.first_seq + 1;
    let entry: StoredEntry = tx.row(ENTRY, &[&log.log, &index]).await?;
    let number = |number: i64| u64::try_from(number).map_err(Error::internal);
    let (index, size) = (number(index)?, number(log.size)?);
    let tree = StoredTree { log: log.log, size };
    let hashes = tree.proof(tx, &ProofPlan::inclusion(index, size)).await?;
    let hashes: String = hashes.iter().map(|hash| format!("{}\n", BASE64_STANDARD.encode(hash))).collect();
    let proof = format!("c2sp.org/tlog-proof@v1\nindex {index}\n{hashes}\n{}", log.note);
    Ok(Some(AuditProof { seq, index, entry: entry.entry, proof }))
}

/// The tenant's log that is open, with its checkpoint; none while nothing is sealed.
///
/// # Errors
/// As the database answers.
pub async fn open_log(tx: &mut TenantTx<'_>) -> Result<Option<SealedLog>> {
    tx.optional(OPEN, &[]).await
}
