//! The rows that an import has rejected: kept in a table while it runs, and in a file once it is over.

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde::Serialize;
use serde_json::{Value, json};

use super::cells::{OF_REJECTIONS, line_of};
use crate::db::TenantTx;
use crate::error::{Error, Result, Violation};
use crate::files::{FileId, FileKind, Media};
use crate::from_row;
use crate::jobs::Job;
use crate::resource::NewFile;
use crate::stream::CsvLine;

/// So many are read at a time.
const PAGE: i64 = 200;

const ADD: &str = "insert into import_rejections (job, number, line, errors) \
    select $1, number, line, errors from jsonb_to_recordset($2) as r (number bigint, line text, errors jsonb) returning number";
const READ: &str = "select number, line, errors from import_rejections where job = $1 and number > $2 order by number limit $3";
const FORGET: &str = "delete from import_rejections where job = $1 returning number";

/// A row that was rejected.
#[derive(Debug, Serialize)]
pub(super) struct RejectedRow {
    number: i64,
    line: String,
    errors: Value,
}
from_row!(RejectedRow { number, line, errors });

impl RejectedRow {
    /// Each thing that is wrong with it; or the one that the database has refused it for.
    pub(super) fn new(number: u64, line: &str, error: &Error) -> Self {
        let whole = || Violation::new("", error.code().code, error.told());
        let errors = match error.violations() {
            [] => json!([whole()]),
            violations => json!(violations),
        };
        // PostgreSQL takes no NUL in a text.
        Self {
            number: i64::try_from(number).unwrap_or(i64::MAX),
            line: line.replace('\0', "\u{fffd}"),
            errors,
        }
    }

    /// `/sku: An sku has at most 64 characters.; …`
    fn words(&self) -> String {
        let errors = self.errors.as_array().into_iter().flatten();
        let word = |error: &Value| {
            let part = |name| error.get(name).and_then(Value::as_str).unwrap_or_default();
            match part("pointer") {
                "" => part("detail").to_owned(),
                pointer => format!("{pointer}: {}", part("detail")),
            }
        };
        errors.map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Those of one import.
pub(super) struct Rejections<'a> {
    job: &'a Job,
}

impl<'a> Rejections<'a> {
    pub(super) fn of(job: &'a Job) -> Self {
        Self { job }
    }

    /// Adds some, in the transaction that keeps how far the import has come.
    pub(super) async fn add(&self, tx: &mut TenantTx<'_>, rows: &[RejectedRow]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = serde_json::to_value(rows).map_err(Error::internal)?;
        let _: Vec<()> = tx.rows(ADD, &[self.job.id().as_uuid(), &rows]).await?;
        Ok(())
    }

    /// Makes a file of them, which is kept with the job's completion; none where there are none. `header` are the columns of a
    /// file that has some.
    pub(super) async fn into_file(
        self,
        kind: &'static FileKind,
        header: Option<&[String]>,
        rejected: u64,
    ) -> Result<Option<FileId>> {
        if rejected == 0 {
            return Ok(None);
        }
        let call = &self.job.call;
        let (name, media) = match header {
            Some(_) => ("rejections.csv", &Media::CSV),
            None => ("rejections.ndjson", &Media::NDJSON),
        };
        let draft = call.store_file(kind, NewFile::new(name, media), self.bytes(header)).await?;
        let mut tx = call.tenant();
        let file = call.keep_file(&mut tx, draft).await?;
        let _: Vec<()> = tx.rows(FORGET, &[self.job.id().as_uuid()]).await?;
        tx.commit().await?;
        Ok(Some(file.id))
    }

    /// The bytes of the file, page by page.
    fn bytes<'b>(
        &'b self,
        header: Option<&'b [String]>,
    ) -> impl futures_util::Stream<Item = Result<Bytes>> + Send + 'b {
        let first =
            header.map(|names| format!("{},{},{}\r\n", OF_REJECTIONS[0], OF_REJECTIONS[1], line_of(names)));
        let begin = stream::iter(first.map(|line| Ok(Bytes::from(line))));
        let pages = stream::try_unfold(0, move |after| async move {
            let tx = self.job.call.tenant_read();
            let page: Vec<RejectedRow> =
                tx.last().rows(READ, &[self.job.id().as_uuid(), &after, &PAGE]).await?;
            let Some(last) = page.last().map(|row| row.number) else { return Ok(None) };
            let mut out = BytesMut::new();
            page.iter()
                .for_each(|row| if header.is_some() { csv(row, &mut out) } else { ndjson(row, &mut out) });
            Ok(Some((out.freeze(), last)))
        });
        futures_util::StreamExt::chain(begin, pages)
    }
}

/// The row's number and what is wrong with it, before the cells as they were.
fn csv(row: &RejectedRow, out: &mut BytesMut) {
    let mut line = CsvLine::new(out);
    line.value(row.number).text(&row.words());
    out.extend_from_slice(b",");
    out.extend_from_slice(row.line.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The value as it was, where it is JSON.
fn ndjson(row: &RejectedRow, out: &mut BytesMut) {
    let value = serde_json::from_str(&row.line).unwrap_or_else(|_| Value::from(row.line.as_str()));
    let line = json!({"row": row.number, "errors": row.errors, "value": value});
    out.extend_from_slice(line.to_string().as_bytes());
    out.extend_from_slice(b"\n");
}
