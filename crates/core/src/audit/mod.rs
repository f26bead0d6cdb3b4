//! The audit log as a transparency log, one for each tenant: evidence that others verify with tools that are not ours.
//!
//! Transactions write rows of `audit_log`, with a number without gaps. What comes after the row is here: [`entry`] makes it the bytes
//! that are hashed, [`tree`] is the Merkle tree over them, [`note`] the signed checkpoint of the tree. `sealer` does that about once a
//! second; `witness` notes the checkpoints of all tenants in the log of the platform, and takes that log's away from the machine.
//! [`search`] finds rows by who did what to what. `verify` finds what was changed; `export` writes what an auditor takes along
//! ([decision 0049](../../../../../docs/decisions/0049-transparency-log.md)).

pub mod anomaly;
pub mod entry;
pub mod note;
pub mod tree;

mod blocks;
mod erasure;
mod export;
mod proof;
mod report;
mod retention;
mod sealer;
mod search;
mod store;
mod stream;
mod verify;
mod witness;

pub use export::{AuditExport, VERIFIER};
pub use proof::{AuditProof, SealedLog, open_log, prove};
pub use report::{AuditReport, MadeReport, REPORTS, ReportScope, ReportedCount, report};
pub use retention::{AuditCategory, AuditRetention, prune};
pub(crate) use sealer::{AUDIT, AUDIT_OPERATOR, origin};
pub use sealer::{SealOutcome, Sealer};
pub use search::{AuditEvent, AuditEvents, AuditPlace, AuditSearch, search};
pub use stream::stream_own;
pub use verify::{AuditFinding, LogCheck, VerifiedLog};
pub(crate) use witness::last_note;
