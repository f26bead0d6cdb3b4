//! The job of an import.

use serde::{Deserialize, Serialize};

use super::declared::{Import, ImportArgs, ImportRow};
use super::rejections::{RejectedRow, Rejections};
use super::rows::{RowRead, RowReader};
use crate::db::{TenantTx, ToSql};
use crate::error::{Error, Result, codes};
use crate::files::FileId;
use crate::from_row;
use crate::jobs::Job;
use crate::shared::{Id, IdKind};
use crate::stream::Record;

/// Rows that are written in one transaction.
const BATCH: usize = 100;
/// With more rejected rows than this, an import stops: the file is another one than was meant.
const MOST_REJECTED: u64 = 10_000;

/// How far an import has come: the state of its job, and in the end what it results in.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportCount {
    /// Rows that were read.
    pub rows: u64,
    /// Records that are new.
    pub created: u64,
    /// Records that were there, and were changed.
    pub changed: u64,
    /// Records that were there as the row says.
    pub unchanged: u64,
    /// Rows that were not written.
    pub rejected: u64,
}

/// What an import results in, as `GET /api/v1/jobs/{id}` shows it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// What became of the rows.
    #[serde(flatten)]
    pub count: ImportCount,
    /// Whether nothing was written: it was only tried.
    pub dry_run: bool,
    /// Whether it stopped before the end of the file, since too many rows were rejected.
    pub stopped: bool,
    /// The file of the rejected rows.
    pub rejections: Option<FileId>,
}

/// What became of one row: nothing is returned for one that is there already as it is said.
struct Written {
    created: bool,
}
from_row!(Written { created });

/// Runs one import to its end.
pub(super) async fn run<T: ImportRow, R: Record + IdKind>(
    import: &'static Import<T, R>,
    job: &Job,
    args: ImportArgs,
) -> Result<()> {
    job.call.caller.require(import.permission)?;
    job.call.may_import::<T>()?;
    let file = job.call.file(&import.file, args.file).await?;
    let content = job.call.file_content(&file).await?;
    let mut rows = RowReader::<T>::open(content, &file.media_type, &Import::<T, R>::passed_over()).await?;
    let mut count: ImportCount = job.kept()?.unwrap_or_default();
    rows.pass(count.rows).await?;
    let mut stopped = false;
    loop {
        let batch = rows.next(BATCH).await?;
        if batch.is_empty() {
            break;
        }
        RowBatch { import, job, dry_run: args.dry_run }.write(&mut count, batch).await?;
        job.progress(count.rows, None);
        stopped = count.rejected > MOST_REJECTED;
        if stopped {
            break;
        }
    }
    let rejections = Rejections::of(job).into_file(&import.rejections, rows.header(), count.rejected).await?;
    job.result(&Imported { count, dry_run: args.dry_run, stopped, rejections })
}

/// What the batches of one import have in common.
struct RowBatch<'a, T: ImportRow, R: IdKind> {
    import: &'static Import<T, R>,
    job: &'a Job,
    dry_run: bool,
}

impl<T: ImportRow, R: Record + IdKind> RowBatch<'_, T, R> {
    /// Writes all rows at once; where one cannot be written, each for itself.
    async fn write(&self, count: &mut ImportCount, rows: Vec<RowRead<T>>) -> Result<()> {
        let mut after = count.clone();
        match self.write_at_once(&mut after, &rows).await {
            Ok(()) => *count = after,
            Err(error) if is_of_rows(&error) => {
                for row in rows {
                    self.write_alone(count, row).await?;
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// One row, whose refusal by the database is its own.
    async fn write_alone(&self, count: &mut ImportCount, mut row: RowRead<T>) -> Result<()> {
        let mut after = count.clone();
        let written = self.write_at_once(&mut after, std::slice::from_ref(&row)).await;
        let Err(error) = written else {
            *count = after;
            return Ok(());
        };
        if !is_of_rows(&error) {
            return Err(error);
        }
        row.parsed = Err(self.job.call.app.constraints.name(error));
        self.write_at_once(count, std::slice::from_ref(&row)).await
    }

    /// The rows, those that are rejected already, and how far the import has come then: in one transaction. In a dry run the
    /// rows are written too, and rolled back.
    async fn write_at_once(&self, count: &mut ImportCount, rows: &[RowRead<T>]) -> Result<()> {
        let call = &self.job.call;
        let mut tx = call.tenant().undeferred();
        let mut rejected = Vec::new();
        for row in rows {
            count.rows += 1;
            match &row.parsed {
                Ok(new) => match self.upsert(&mut tx, new).await? {
                    Some(Written { created: true }) => count.created += 1,
                    Some(Written { created: false }) => count.changed += 1,
                    None => count.unchanged += 1,
                },
                Err(error) => {
                    count.rejected += 1;
                    rejected.push(RejectedRow::new(row.number, &row.text, error));
                }
            }
        }
        if self.dry_run {
            tx.try_out().await?;
            tx = call.tenant().undeferred();
        }
        Rejections::of(self.job).add(&mut tx, &rejected).await?;
        self.job.keep_in(tx, count).await
    }

    async fn upsert(&self, tx: &mut TenantTx<'_>, new: &T) -> Result<Option<Written>> {
        let id: Id<R> = self.job.call.new_id();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&id];
        params.extend(new.values());
        tx.optional(self.import.upsert, &params).await
    }
}

/// Whether the database has refused a row for what is in it, and not for a reason of its own. Two who change the same rows in
/// another order are told apart by trying each row for itself, too.
fn is_of_rows(error: &Error) -> bool {
    let code = error.code();
    code.status < 500 || code == &codes::OVERLOADED
}
