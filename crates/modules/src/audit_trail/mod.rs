//! A tenant's audit log, for its auditors: who did what, and that a row is in it as it was signed.
//!
//! The log itself is the core's (`erp_core::audit`); this module has routes only.

mod search;

use erp_core::answer::Refusing;
use erp_core::audit;
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::Call;
use erp_core::shared::{Int, LARGEST_EXACT};
use schemars::JsonSchema;
use serde::Serialize;

/// The audit trail module.
pub static MODULE: Module = Module {
    name: "audit_trail",
    about: "The audit log for a tenant's auditors: search, and proofs that others verify.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    ..Module::BARE
};

erp_core::permissions! {
    /// The permissions of the module.
    pub PERMISSIONS {
        READ = "audit_trail.entry.read" to [Owner, Auditor]: "Search the audit log.";
        PROVE = "audit_trail.entry.prove" to [Owner, Auditor]: "Get proofs of the audit log's entries, and its checkpoint.";
    }
}

erp_core::error_codes! {
    /// The codes of the module.
    pub ERRORS in codes {
        NOT_SEALED = "audit_trail.not_sealed", 409, "Not sealed yet";
            "Nothing of the audit log is sealed yet: that is done about once a second.";
            "Ask again in a few seconds.";
    }
}

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/audit", Access::Permission(&READ), search::list)
        .doc(Operation::new("searchAuditLog", "Search the audit log").about(
            "By who did it, what was done, to what, and when; the newest first. What is searched for by one of these is found at once \
             among millions of rows. A text is looked for row by row, some 16,000 for a page: where a page ends before the rows do, it \
             can hold fewer than `limit`, and `nextCursor` goes on.",
        ))
        .get("/api/v1/audit/checkpoint", Access::Permission(&PROVE), checkpoint)
        .doc(Operation::new("readAuditCheckpoint", "Read the checkpoint of the audit log").about(
            "The name of the log, how many entries it has, and the root of the Merkle tree over them, signed (C2SP tlog-checkpoint). \
             Who keeps it can tell later that nothing before it was changed.",
        ))
        .get("/api/v1/audit/{seq}/proof", Access::Permission(&PROVE), proof)
        .doc(Operation::new("proveAuditEntry", "Prove that an entry is in the audit log").about(
            "The bytes that were hashed, and the proof that leads from their hash to the signed checkpoint (C2SP tlog-proof). 404 also \
             for a row that is not sealed yet, which takes about a second.",
        ))
}

/// What is signed of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditCheckpoint {
    /// The name of the log.
    origin: String,
    /// How many entries it has.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    size: i64,
    /// The signed note.
    checkpoint: String,
}

/// That an entry is in the audit log.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProvenAuditEntry {
    /// The number of the row.
    #[schemars(range(min = 1, max = LARGEST_EXACT))]
    seq: i64,
    /// Its place in the log.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    index: i64,
    /// The entry: SHA-256 of a zero byte and these bytes is the leaf. None where they were removed.
    entry: Option<String>,
    /// The proof, with the checkpoint.
    proof: String,
}

async fn checkpoint(call: Call) -> Result<Json<AuditCheckpoint>, Refusing<codes::NOT_SEALED>> {
    let log = audit::open_log(&mut call.tenant_read()).await?;
    let log = log.ok_or_else(|| Error::new(&codes::NOT_SEALED))?;
    Ok(Json(AuditCheckpoint { origin: log.origin, size: log.size, checkpoint: log.note }))
}

async fn proof(call: Call, Path(seq): Path<Int<1, LARGEST_EXACT>>) -> Result<Json<ProvenAuditEntry>> {
    let seq = seq.get();
    let proof = audit::prove(&mut call.tenant_read(), seq).await?;
    let proof = proof.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let index = i64::try_from(proof.index).map_err(Error::internal)?;
    Ok(Json(ProvenAuditEntry { seq, index, entry: proof.entry, proof: proof.proof }))
}
