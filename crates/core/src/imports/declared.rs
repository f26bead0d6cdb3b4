use std::marker::PhantomData;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::engine;
use super::rows::RowReader;
use crate::auth::Permission;
use crate::error::Result;
use crate::files::{FileId, FileKind, Media};
use crate::jobs::{Job, JobKind};
use crate::resource::{FileContent, Values};
use crate::shared::IdKind;
use crate::stream::{Record, names};

const MIB: u64 = 1024 * 1024;
/// How long the file that was sent and that of the rejected rows are kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a row of a file becomes: the body of a POST, from [`input!`](crate::input).
pub trait ImportRow: Values + DeserializeOwned + JsonSchema + Send + Sync + 'static {}

impl<T: Values + DeserializeOwned + JsonSchema + Send + Sync + 'static> ImportRow for T {}

/// Rows of a file that become records of type `R`, each read as a `T`: a kind of job, and the two kinds of files that it reads
/// and writes. [`import!`](crate::import) declares one.
pub struct Import<T: 'static, R: 'static> {
    /// The job, for its module's table.
    pub job: JobKind<ImportArgs>,
    /// Files to import.
    pub file: FileKind,
    /// Files of rows that were rejected.
    pub rejections: FileKind,
    pub(super) permission: &'static Permission,
    pub(super) upsert: &'static str,
    types: PhantomData<fn(T) -> R>,
}

/// What the job of an import is given.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ImportArgs {
    pub(super) file: FileId,
    pub(super) dry_run: bool,
}

impl<T: ImportRow, R: Record + IdKind> Import<T, R> {
    /// See [`import!`](crate::import); `names` are those of the kinds of files.
    #[doc(hidden)]
    pub const fn new(
        job: JobKind<ImportArgs>,
        names: [&'static str; 2],
        permission: &'static Permission,
        upsert: &'static str,
    ) -> Self {
        const TYPES: &[&Media] = &[&Media::CSV, &Media::NDJSON];
        let [file, rejections] = names;
        let file =
            FileKind::new(file, "A file of rows to import.").types(TYPES).at_most(100 * MIB).kept_for(KEPT);
        let rejections = FileKind::new(rejections, "The rows that an import has rejected, and why.")
            .types(TYPES)
            .at_most(1024 * MIB)
            .kept_for(KEPT)
            .read(permission);
        // Each batch that is kept begins the count of attempts anew.
        let job = job.time_limit(Duration::from_secs(3600)).at_most(1).unhurried();
        Self { job, file, rejections, permission, upsert, types: PhantomData }
    }

    /// What its job does.
    #[doc(hidden)]
    pub async fn run(&'static self, job: &Job, args: ImportArgs) -> Result<()> {
        engine::run(self, job, args).await
    }

    /// Whether a file can be read: of CSV, whether its columns fit.
    pub(super) async fn accepts(&self, content: FileContent, media_type: &str) -> Result<()> {
        RowReader::<T>::open(content, media_type, &Self::passed_over()).await.map(drop)
    }

    /// The columns that a file may have and that are passed over: those of the record that are not the row's, so that an
    /// export can be imported.
    pub(super) fn passed_over() -> Vec<String> {
        names::<R>()
    }
}

/// Declares an import beside the record's list:
///
/// ```text
/// import! {
///     /// Items from a file, by their sku.
///     IMPORT: NewItem as Item = "catalog.import_items", "Creates and changes items from a file, by their sku.", WRITE, UPSERT
/// }
/// ```
///
/// In order: what a row is read as, the record that it becomes, the name of the job's kind, what it does in a sentence, the
/// permission that it needs, and the statement that writes one row: `$1` is the id of a new record, and the row's values
/// follow. It returns `created`, or nothing for a record that is there as the row says ([`input!`](crate::input) makes the
/// parts of it). The module's row has `jobs: &[&IMPORT.job]` and `files: &[&IMPORT.file, &IMPORT.rejections]`.
#[macro_export]
macro_rules! import {
    (
        $(#[$meta:meta])*
        $vis:vis $import:ident: $new:ty as $record:ty = $name:literal, $about:literal, $permission:expr, $upsert:expr $(,)?
    ) => {
        $(#[$meta])*
        $vis static $import: $crate::imports::Import<$new, $record> = $crate::imports::Import::new(
            $crate::jobs::JobKind::new($name, $about, |job, args| ::std::boxed::Box::pin($import.run(job, args))),
            [concat!($name, "_file"), concat!($name, "_rejections")],
            &$permission,
            $upsert,
        );
    };
}
