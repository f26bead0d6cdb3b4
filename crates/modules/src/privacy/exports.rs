//! Export of a subject (GDPR, articles 15 and 20): a job writes what is held of it into a file, row by row, so that its memory does not
//! grow with the rows.

use std::time::Duration;

use erp_core::answer::{Acknowledged, Refusing};
use erp_core::db::{AuditEntry, System};
use erp_core::error::{Result, codes as core};
use erp_core::extract::Json;
use erp_core::files::{FileKind, Media};
use erp_core::jobs::{Job, JobId, JobKind};
use erp_core::resource::{Call, NewFile};
use erp_core::shared::Id;
use erp_core::subjects::export_subject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::erasures::refuse_strangers;
use super::{DataSubject, EXPORT, FORGET, codes};

/// What a subject gets.
pub(super) static FILE: FileKind =
    FileKind::new("privacy.export", "What is held of a subject, as JSON lines with a manifest.")
        .types(&[&Media::NDJSON])
        .at_most(1 << 30)
        .kept_for(Duration::from_secs(30 * 24 * 3600))
        .read(&EXPORT);

/// The body of POST.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSubjectExport {
    /// Of whom: the id of a supplier, say.
    subject: Id<DataSubject>,
}

/// An export under way.
#[derive(Serialize, JsonSchema)]
pub(super) struct BegunSubjectExport {
    /// The job that writes it. Its result names the file.
    id: JobId,
}

/// Of whom a job exports.
#[derive(Serialize, Deserialize)]
pub(super) struct ExportedSubject {
    subject: Uuid,
}

pub(super) static WRITE: JobKind<ExportedSubject> = JobKind::<ExportedSubject>::new(
    "privacy.export",
    "Writes what is held of a subject into a file.",
    |job, of| Box::pin(write(job, of.subject)),
)
.system(&FORGET)
.time_limit(Duration::from_secs(3600));

/// `POST /api/v1/privacy/exports`.
pub(super) async fn begin(
    call: Call,
    system: System,
    Json(new): Json<NewSubjectExport>,
) -> Result<Acknowledged<BegunSubjectExport>, Refusing<(codes::NO_SUBJECT_OF_TENANT, core::NOT_FOUND)>> {
    let subject = *new.subject.as_uuid();
    let mut tx = system.on_behalf(&call.caller).within(call.caller.tenant()).await?;
    refuse_strangers(&mut tx, subject).await?;
    tx.rollback();
    let mut tx = call.tenant();
    let id = call.enqueue(&mut tx, &WRITE, &ExportedSubject { subject })?;
    tx.audit(&told("subject.export_begun", subject, json!({ "job": id })))?;
    tx.commit().await?;
    Ok(Acknowledged(BegunSubjectExport { id }))
}

async fn write(job: &Job, subject: Uuid) -> Result<()> {
    let (system, call) = (job.system()?, &job.call);
    let lines =
        export_subject(&call.app, system, call.caller.trace(), (call.caller.tenant(), subject)).await?;
    let draft =
        call.store_file(&FILE, NewFile::new(&format!("{subject}.jsonl"), &Media::NDJSON), lines).await?;
    let mut tx = call.tenant();
    let file = call.keep_file(&mut tx, draft).await?;
    tx.audit(&told("subject.exported", subject, json!({ "file": file.id, "sha256": file.sha256 })))?;
    tx.commit().await?;
    job.result(&json!({ "file": file.id }))
}

fn told(action: &'static str, subject: Uuid, details: serde_json::Value) -> AuditEntry {
    AuditEntry {
        action,
        resource: "subject",
        resource_id: Some(subject.to_string()),
        outcome: "success",
        details,
    }
}
