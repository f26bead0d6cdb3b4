//! Keeps the store as the database says: removes objects of deleted files, and each night what nobody needs any more.

use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::Result;
use crate::files::{FileId, ObjectKey};
use crate::from_row;
use crate::jobs::{Job, JobKind, Schedule};
use crate::resource::{Call, remove_objects};
use crate::shared::TenantId;

crate::system_work! {
    /// What is done about files as the system.
    pub(crate) SYSTEM {
        KEEP_STORE = "files": "Removes the bytes of deleted files from the store, after the commit that deleted them; no caller waits for that.";
        OPEN_LINK = "file-links": "Finds the file of a link in the tenant that its signature names: who has the link has no credential.";
    }
}

/// Objects to be removed: what `app.release_objects` enqueues.
#[derive(Serialize, Deserialize)]
pub(super) struct Removal {
    objects: Vec<FileId>,
}

/// Removes the bytes of deleted files.
pub(super) static REMOVE: JobKind<Removal> = JobKind::<Removal>::new(
    "files.remove",
    "Removes the bytes of deleted files from the store.",
    |job, removal| Box::pin(async move { remove_objects(&job.call, &removal.objects, "deleted").await }),
)
.system(&KEEP_STORE)
.unhurried();

/// See [`NIGHTLY`].
pub(super) static SWEEP: JobKind<()> = JobKind::<()>::new(
    "files.sweep",
    "Deletes files whose time is over, and removes what uploads have left that never ended.",
    |job, ()| Box::pin(sweep_job(job)),
)
.system(&KEEP_STORE)
.unhurried()
.at_most(1);

/// At a time of few requests in most of the world, and not at a full hour.
pub(super) const NIGHTLY: &[&Schedule] = &[&Schedule::for_each_tenant(
    "files.nightly",
    "Deletes files whose time is over, and removes what uploads have left that never ended; `files sweep` does the same.",
    "50 3 * * *",
    &SWEEP,
    &(),
)];

/// How many files or objects one transaction is about.
const BATCH: i32 = 500;
const EXPIRE: &str = "select app.expire_files($1) as ended";
/// Whatever is younger may be an upload under way, or a transaction that is just about to keep it.
const ORPHANS: &str = "select id from unreferenced_objects where since < now() - $1 * interval '1 second' order by since limit $2";

struct Ended {
    ended: i64,
}
from_row!(Ended { ended });

struct Orphan {
    id: FileId,
}
from_row!(Orphan { id });

/// What a sweep has done in one tenant.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Swept {
    /// Files whose time was over.
    pub(crate) expired: u64,
    /// Objects without a file that were removed.
    pub(crate) orphans: u64,
}

async fn sweep_job(job: &Job) -> Result<()> {
    let swept = sweep(&job.call).await?;
    job.result(&swept)
}

/// Sweeps one tenant.
///
/// # Errors
/// `files.store_unavailable`, or as the database answers. What was done before stays done.
pub(crate) async fn sweep(call: &Call) -> Result<Swept> {
    let mut swept = Swept::default();
    loop {
        let Ended { ended } = call.tenant().undeferred().last().row(EXPIRE, &[&BATCH]).await?;
        swept.expired += ended.unsigned_abs();
        if ended < i64::from(BATCH) {
            break;
        }
    }
    let age = call.app.files.settings().sweep_after.as_secs_f64();
    loop {
        let most = i64::from(BATCH);
        let orphans: Vec<Orphan> = call.tenant_read().last().rows(ORPHANS, &[&age, &most]).await?;
        let found: Vec<FileId> = orphans.iter().map(|row| row.id).collect();
        if found.is_empty() {
            return Ok(swept);
        }
        remove_objects(call, &found, "orphaned").await?;
        swept.orphans += found.len() as u64;
    }
}

/// Removes all bytes that the store has of a tenant which is being erased; how many objects. What the database knows of them is not
/// touched.
///
/// # Errors
/// `files.store_unavailable`. What was removed before stays removed.
pub async fn remove_all_files(app: &App, tenant: TenantId) -> Result<u64> {
    let removed = app
        .files
        .list(tenant)
        .await?
        .map_ok(|(file, _)| async move { app.files.remove(ObjectKey { tenant, file }).await });
    removed.try_buffer_unordered(8).try_fold(0, |count, ()| std::future::ready(Ok(count + 1))).await
}
