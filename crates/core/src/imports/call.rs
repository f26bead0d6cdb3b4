use axum::response::{IntoResponse, Response};
use http::StatusCode;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;

use super::codes::import_codes;
use super::declared::{Import, ImportArgs, ImportRow};
use crate::answer::{Answer, Outputs};
use crate::error::Result;
use crate::extract::{Json, Upload};
use crate::input;
use crate::jobs::{JobId, job_codes};
use crate::module::permissions_of;
use crate::resource::Call;
use crate::shared::IdKind;
use crate::stream::Record;

input! {
    /// How rows are imported.
    pub ImportOptions {
        /// Whether nothing is written: it is only tried, and what is wrong is told.
        #[serde(default)]
        pub dry_run: bool,
    }
}

/// 202: the rows are imported by a job.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportBegun {
    /// The job, at `/api/v1/jobs/{id}`: how far it is, and in the end what it results in.
    pub job_id: JobId,
}

impl IntoResponse for ImportBegun {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self)).into_response()
    }
}

impl Answer for ImportBegun {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<Self>(202).about(
            "The file is CSV or NDJSON, and its rows are what the body of the POST of one record is; CSV has the names of the \
             fields in its first row. A row whose record is there already changes it. Rows that cannot be written are \
             rejected, and the others are written; the job's result counts them, and names the file of those rejected.",
        );
        outputs.refuses(&import_codes::COLUMNS).refuses(&job_codes::BACKLOG_FULL);
    }
}

impl Call {
    /// Begins to import the rows of a file that is sent. It is stored, and its columns are looked at, before the job is enqueued.
    ///
    /// # Errors
    /// `imports.columns` for columns that a row does not have, `jobs.backlog_full`, and as [`Call::store_upload`]. Nothing is
    /// imported then.
    pub async fn import<T: ImportRow, R: Record + IdKind>(
        &self,
        import: &'static Import<T, R>,
        upload: Upload,
        ImportOptions { dry_run }: ImportOptions,
    ) -> Result<ImportBegun> {
        self.may_import::<T>()?;
        let draft = self.store_upload(upload).await?;
        let mut tx = self.tenant();
        let file = self.keep_file(&mut tx, draft).await?;
        tx.commit().await?;
        let content = self.file_content(&file).await?;
        let mut tx = self.tenant();
        if let Err(error) = import.accepts(content, &file.media_type).await {
            self.remove_file(&mut tx, &import.file, file.id).await?;
            tx.commit().await?;
            return Err(error);
        }
        let job_id = self.enqueue(&mut tx, &import.job, &ImportArgs { file: file.id, dry_run })?;
        tx.commit().await?;
        Ok(ImportBegun { job_id })
    }

    /// A row replaces a whole record, fields that want a permission of their own among them: without it nobody imports any.
    pub(super) fn may_import<T: ImportRow>(&self) -> Result<()> {
        let wanted = permissions_of(SchemaGenerator::subschema_for::<T>, &self.app.permissions)?;
        wanted.into_iter().try_for_each(|permission| self.caller.require(permission))
    }
}
