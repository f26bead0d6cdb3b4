//! Files of the caller's tenant: storing, keeping, finding, reading and removing one.

use std::pin::pin;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::Call;
use crate::app::{App, FILE_BYTES};
use crate::auth::Caller;
use crate::db::{TenantTx, ToSql};
use crate::error::{Error, Result, codes};
use crate::extract::Upload;
use crate::files::{
    FileId, FileKind, HEAD, LONGEST_LINK, Media, NewFile, ObjectKey, ObjectStream, StoredObject, TextCheck,
    file_codes, too_large, type_not_allowed,
};
use crate::shared::{LARGEST_EXACT, PrincipalId, TenantId, hex};
use crate::shares::OwnedShare;
use crate::{from_row, record, sql};

/// For the example.
const SHA256_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// How many objects are removed at a time.
const AT_ONCE: usize = 8;

record! {
    /// What is known of a file.
    pub StoredFile in "files" {
        /// Its id, and that of its object in the store.
        pub id: FileId,
        /// What it is, by the table of its module.
        #[schemars(example = &"billing.receipt")]
        pub kind: String,
        /// What it is called, made safe.
        #[schemars(example = &"receipt.pdf")]
        pub name: String,
        /// Its type, as the answer with its bytes has it.
        #[schemars(example = &"application/pdf")]
        pub media_type: String,
        /// How long it is.
        #[schemars(range(min = 0, max = LARGEST_EXACT))]
        pub bytes: i64,
        /// Its SHA-256, as hexadecimal digits.
        #[schemars(regex(pattern = "^[0-9a-f]{64}$"), example = &SHA256_OF_NOTHING)]
        pub sha256: String,
        /// Who has stored it; nobody where it was work of the system.
        pub created_by: Option<PrincipalId>,
        /// When it was stored.
        pub created_at: Timestamp,
        /// When it will be removed, if it will.
        pub expires_at: Option<Timestamp>,
        /// The key of its bytes, encrypted with the tenant's; none where they were stored before there were such keys.
        #[serde(skip)]
        pub(crate) content_key: Option<String>,
    }
}

/// A file whose bytes are stored, and that is to be kept: [`Call::keep_file`]. Dropped, its bytes are removed again.
#[must_use = "dropped, the bytes are removed again"]
pub struct FileDraft {
    object: ReservedObject,
    kind: &'static FileKind,
    new: NewFile,
    bytes: u64,
    sha256: String,
    content_key: String,
}

/// An object that counts in the quota and that no file refers to.
struct ReservedObject {
    call: Call,
    key: ObjectKey,
    /// What it counts for.
    bytes: u64,
    /// What becomes of it when this is dropped.
    left: LeftObject,
}

/// What becomes of an object when nobody looks after it any more.
#[derive(Clone, Copy, PartialEq)]
enum LeftObject {
    /// There is nothing yet.
    Nothing,
    /// It is removed at once.
    Removed,
    /// The store may still complete it: the sweep removes it.
    InDoubt,
    /// It is a file's.
    Kept,
}

/// The bytes of a file, as they come from the store. Read to its end, it ends with an error unless they are those that were
/// stored; the last part comes only once that is certain.
pub struct FileContent(BoxStream<'static, Result<Bytes>>);

const RESERVE: &str = "select reserved, used from app.reserve_object($1, $2, $3)";
const KEEP: &str = sql![
    "with taken as (delete from unreferenced_objects where id = $1 and not removing returning id) \
     insert into files (id, kind, name, media_type, bytes, sha256, created_by, expires_at, content_key) \
     select id, $2, $3, $4, $5, $6, $7, now() + $8::float8 * interval '1 second', $9 from taken returning ",
    StoredFile::COLUMNS
];
/// Of a kind, so that a file of one module is never taken for one of another.
const FIND: &str = sql![
    "select ",
    StoredFile::COLUMNS,
    " from files where id = $1 and kind = $2 and removed_at is null and (expires_at is null or expires_at > now())"
];
const DELETE: &str = "delete from files where id = $1 and kind = $2 returning id";
const REMOVING: &str = "update unreferenced_objects set removing = true where id = any ($1) returning id";
const FORGET: &str = "select app.forget_objects($1) as used";

struct Reservation {
    reserved: bool,
    used: Option<i64>,
}
from_row!(Reservation { reserved, used });

struct ObjectRow {
    id: FileId,
}
from_row!(ObjectRow { id });

struct UsageRow {
    used: Option<i64>,
}
from_row!(UsageRow { used });

impl Call {
    /// Stores the bytes of a file, part by part as they come. No transaction of the caller's is needed for it, and none should be
    /// open: bytes may come slowly. What is stored becomes a file by [`Call::keep_file`], in the transaction that it belongs to.
    ///
    /// ```no_run
    /// # use bytes::Bytes;
    /// # use erp_core::error::Result;
    /// # use erp_core::files::{FileKind, Media};
    /// # use erp_core::resource::{Call, NewFile, StoredFile};
    /// # static REPORT: FileKind = FileKind::new("billing.report", "A report.").types(&[&Media::CSV]);
    /// async fn report(call: &Call, lines: Vec<Bytes>) -> Result<StoredFile> {
    ///     let lines = futures_util::stream::iter(lines.into_iter().map(Ok));
    ///     let draft = call.store_file(&REPORT, NewFile::new("report.csv", &Media::CSV), lines).await?;
    ///     let mut tx = call.tenant();
    ///     let file = call.keep_file(&mut tx, draft).await?;
    ///     tx.commit().await?;
    ///     Ok(file)
    /// }
    /// ```
    ///
    /// # Errors
    /// `files.too_large`, `files.type_not_allowed`, `files.not_what_it_says`, `files.digest_mismatch`, `files.quota_exceeded`,
    /// `files.store_unavailable`, `core.overloaded` while the process takes as many uploads as it may, as `bytes`, or as the
    /// database answers. Nothing is stored then.
    pub async fn store_file(
        &self,
        kind: &'static FileKind,
        new: NewFile,
        bytes: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<FileDraft> {
        let outcome = Box::pin(self.storing(kind, new, bytes)).await;
        let metrics = &self.app.metrics;
        let word = outcome.as_ref().map_or_else(upload_outcome, |_| "stored");
        metrics.files_uploads_total.with(&[kind.name, word]).inc();
        if outcome.as_ref().is_err_and(|error| error.code() == &file_codes::QUOTA_EXCEEDED) {
            let tenant = metrics.tenant_label(Some(self.caller.tenant()));
            metrics.files_quota_refusals_total.with(&[tenant.as_str()]).inc();
        }
        if let Ok(draft) = &outcome {
            metrics.files_stored_bytes_total.with(&[kind.name]).add(draft.bytes);
        }
        outcome
    }

    /// Stores what a client uploads: as [`Call::store_file`], what and what kind the route and the request say.
    ///
    /// # Errors
    /// As [`Call::store_file`]; `core.request_timeout` and `core.malformed_body` for bytes that do not come.
    pub async fn store_upload(&self, upload: Upload) -> Result<FileDraft> {
        let (kind, new, bytes) = upload.into_parts();
        self.store_file(kind, new, bytes).await
    }

    async fn storing(
        &self,
        kind: &'static FileKind,
        new: NewFile,
        bytes: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<FileDraft> {
        let _place = self.begin_storing(kind, &new)?;
        let mut bytes = pin!(bytes.fuse()); // the head may have been all
        let head = head_of(&mut bytes).await?;
        new.media.check(&head)?;
        let key = ObjectKey { tenant: self.caller.tenant(), file: self.new_id() };
        let mut object = ReservedObject::new(self, key);
        object.count(new.length.unwrap_or(head.len() as u64)).await?;
        let mut writer = self.app.files.write(key).await?;
        let mut sum = Sum::new(kind, new.media);
        let mut part = head;
        loop {
            sum.add(&part)?;
            if sum.bytes > object.bytes {
                object.grow(sum.bytes, kind.at_most).await?;
            }
            writer.write(&part).await?;
            part = match bytes.try_next().await? {
                Some(part) => part,
                None => break,
            };
        }
        let (bytes, sha256) = sum.end(new.sha256)?;
        let content_key = writer.content_key().to_owned();
        object.left = LeftObject::InDoubt;
        writer.finish().await?;
        object.left = LeftObject::Removed;
        object.count(bytes).await?;
        Ok(FileDraft { object, kind, new, bytes, sha256, content_key })
    }

    /// What can be told before a byte has come; and a place among the uploads.
    fn begin_storing(&self, kind: &'static FileKind, new: &NewFile) -> Result<OwnedShare> {
        declared(&self.app, kind)?;
        if !kind.types.contains(&new.media) {
            return Err(type_not_allowed(kind));
        }
        if new.length.is_some_and(|bytes| bytes > kind.at_most) {
            return Err(too_large(kind));
        }
        if self.app.db.has_change_waiting(&self.caller) {
            let what = "a file is stored before the first change of a request or of a job's step: what has been changed waits for \
                its COMMIT, and holds a connection until the last byte has come";
            return Err(Error::internal(what));
        }
        let overloaded = || Error::new(&codes::OVERLOADED).retry_after(Duration::from_secs(1));
        self.app.files.place(self.caller.tenant()).ok_or_else(overloaded)
    }

    /// Makes a file of what was stored: it commits or vanishes with the transaction.
    ///
    /// # Errors
    /// `core.unavailable` where it was stored so long ago that it has been swept away, or as the database answers.
    pub async fn keep_file(&self, tx: &mut TenantTx<'_>, draft: FileDraft) -> Result<StoredFile> {
        let FileDraft { mut object, kind, new, bytes, sha256, content_key } = draft;
        let bytes = i64::try_from(bytes).map_err(Error::internal)?;
        let by = self.caller.actor().principal();
        let kept_for = kind.kept_for.map(|time| time.as_secs_f64());
        let params: [&(dyn ToSql + Sync); 9] = [
            &object.key.file,
            &kind.name,
            &new.name.as_str(),
            &new.media.name,
            &bytes,
            &sha256,
            &by,
            &kept_for,
            &content_key,
        ];
        let kept: Option<StoredFile> = tx.optional(KEEP, &params).await?;
        let file =
            kept.ok_or_else(|| Error::unavailable().because("the sweep has removed what was stored"))?;
        object.left = LeftObject::Kept;
        Ok(file)
    }

    /// A file of the caller's tenant and of this kind.
    ///
    /// # Errors
    /// `core.not_found` where there is none or its time is over, or as the database answers.
    pub async fn file(&self, kind: &'static FileKind, id: FileId) -> Result<StoredFile> {
        let found = self.tenant_read().last().optional(FIND, &[&id, &kind.name]).await?;
        found.ok_or_else(|| Error::new(&codes::NOT_FOUND))
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// `files.damaged` where the store does not have them, `files.store_unavailable`.
    pub async fn file_content(&self, file: &StoredFile) -> Result<FileContent> {
        FileContent::open(&self.app, self.caller.tenant(), file).await
    }

    /// A path under which a file can be read without a credential, for so long and at most a day; to be sent to one who is no
    /// member, or to open in a browser. Everybody who has it can read the file, until then or until it is deleted.
    pub fn file_link(&self, file: &StoredFile, valid_for: Duration) -> String {
        let key = ObjectKey { tenant: self.caller.tenant(), file: file.id };
        let expires = self.now() + valid_for.clamp(Duration::from_secs(1), LONGEST_LINK);
        format!("/api/v1/files/linked?link={}", self.app.files.sign(key, expires))
    }

    /// Deletes a file of this kind in a transaction; its bytes are removed after the commit. A file that a row owns
    /// (`app.owns_file`) is deleted with that row instead.
    ///
    /// # Errors
    /// `core.not_found`, or as the database answers.
    pub async fn remove_file(
        &self,
        tx: &mut TenantTx<'_>,
        kind: &'static FileKind,
        id: FileId,
    ) -> Result<()> {
        let deleted: Option<ObjectRow> = tx.optional(DELETE, &[&id, &kind.name]).await?;
        deleted.map(drop).ok_or_else(|| Error::new(&codes::NOT_FOUND))
    }
}

/// Removes objects that no file refers to from the store, and gives their part of the quota back. It may be done again and again.
///
/// # Errors
/// `files.store_unavailable`, or as the database answers. What was removed before stays removed.
pub(crate) async fn remove_objects(call: &Call, objects: &[FileId], reason: &'static str) -> Result<()> {
    let known: Vec<ObjectRow> = call.tenant().undeferred().last().rows(REMOVING, &[&objects]).await?;
    let (tenant, store) = (call.caller.tenant(), &call.app.files);
    let removals = stream::iter(known).map(|ObjectRow { id }| async move {
        store.remove(ObjectKey { tenant, file: id }).await.map(|()| id)
    });
    let outcomes: Vec<Result<FileId>> = removals.buffer_unordered(AT_ONCE).collect().await;
    let removed: Vec<FileId> = outcomes.iter().flatten().copied().collect();
    if !removed.is_empty() {
        let usage: Option<UsageRow> = call.tenant().undeferred().last().optional(FORGET, &[&removed]).await?;
        call.app.metrics.files_removed_total.with(&[reason]).add(removed.len() as u64);
        tell_usage(&call.app, &call.caller, usage.and_then(|usage| usage.used));
    }
    outcomes.into_iter().try_for_each(|outcome| outcome.map(drop))
}

impl ReservedObject {
    fn new(call: &Call, key: ObjectKey) -> Self {
        let call = Call::of(call.app.clone(), call.caller.clone());
        Self { call, key, bytes: 0, left: LeftObject::Nothing }
    }

    /// Lets it count for so many bytes, in a transaction of its own: others of the tenant do not wait for the caller's.
    async fn count(&mut self, bytes: u64) -> Result<()> {
        if bytes == self.bytes && self.left != LeftObject::Nothing {
            return Ok(());
        }
        let Call { app, caller, .. } = &self.call;
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let quota = caller.entitlements().quota(&FILE_BYTES);
        let quota = quota.unwrap_or_else(|| number(app.files.settings().tenant_quota.0));
        let tx = self.call.tenant().undeferred();
        let answer: Reservation = tx.last().row(RESERVE, &[&self.key.file, &number(bytes), &quota]).await?;
        tell_usage(app, caller, answer.used);
        if !answer.reserved {
            return Err(Error::new(&file_codes::QUOTA_EXCEEDED));
        }
        self.bytes = bytes;
        if self.left == LeftObject::Nothing {
            self.left = LeftObject::Removed;
        }
        Ok(())
    }
}

impl ReservedObject {
    /// Lets it count for `bytes`, and for half as much again where there is room: a long upload of unknown length does not ask
    /// for each part.
    async fn grow(&mut self, bytes: u64, most: u64) -> Result<()> {
        match self.count((bytes + bytes / 2).min(most)).await {
            Err(error) if error.code() == &file_codes::QUOTA_EXCEEDED => self.count(bytes).await,
            other => other,
        }
    }
}

impl Drop for ReservedObject {
    fn drop(&mut self) {
        if self.left != LeftObject::Removed {
            return;
        }
        let (call, file) = (Call::of(self.call.app.clone(), self.call.caller.clone()), self.key.file);
        let release = async move {
            if let Err(error) = remove_objects(&call, &[file], "orphaned").await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "What is left of an upload stays until the next sweep");
            }
        };
        drop(self.call.app.lifecycle.spawn("file release", release));
    }
}

/// What an upload comes to so far.
struct Sum {
    kind: &'static FileKind,
    text: TextCheck,
    bytes: u64,
    hash: digest::Context,
}

impl Sum {
    fn new(kind: &'static FileKind, media: &Media) -> Self {
        let hash = digest::Context::new(&digest::SHA256);
        Self { kind, text: TextCheck::of(media), bytes: 0, hash }
    }

    fn add(&mut self, part: &[u8]) -> Result<()> {
        self.bytes += part.len() as u64;
        if self.bytes > self.kind.at_most {
            return Err(too_large(self.kind));
        }
        self.text.check(part)?;
        self.hash.update(part);
        Ok(())
    }

    /// How many bytes there were, and their SHA-256.
    fn end(self, expected: Option<[u8; 32]>) -> Result<(u64, String)> {
        let found = self.hash.finish();
        if expected.is_some_and(|expected| expected != found.as_ref()) {
            return Err(Error::new(&file_codes::DIGEST_MISMATCH));
        }
        Ok((self.bytes, hex(found.as_ref())))
    }
}

impl StoredFile {
    /// What the store has of it.
    pub(crate) fn object(&self, tenant: TenantId) -> StoredObject<'_> {
        StoredObject {
            key: ObjectKey { tenant, file: self.id },
            bytes: u64::try_from(self.bytes).unwrap_or_default(),
            content_key: self.content_key.as_deref(),
        }
    }
}

impl FileContent {
    pub(crate) async fn open(app: &App, tenant: TenantId, file: &StoredFile) -> Result<Self> {
        let object = file.object(tenant);
        let bytes = object.bytes;
        let opened = app.files.read(object, 0..bytes).await;
        let source = opened.inspect_err(|error| damage_of(app, file.id, &file.kind, error))?;
        Ok(Self(Verifying::new(app, file, bytes, source).stream()))
    }

    /// As something that can be read from.
    pub fn reader(self) -> impl AsyncRead + Unpin + Send {
        StreamReader::new(self.0.map_err(std::io::Error::other))
    }
}

impl Stream for FileContent {
    type Item = Result<Bytes>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

/// A whole file on its way, which is compared with what was stored. Its last part is held back until that is certain.
struct Verifying {
    app: App,
    id: FileId,
    kind: String,
    sha256: String,
    missing: u64,
    source: Option<ObjectStream>,
    held: Option<Bytes>,
    hash: digest::Context,
}

impl Verifying {
    fn new(app: &App, file: &StoredFile, bytes: u64, source: ObjectStream) -> Self {
        Self {
            app: app.clone(),
            id: file.id,
            kind: file.kind.clone(),
            sha256: file.sha256.clone(),
            missing: bytes,
            source: Some(source),
            held: None,
            hash: digest::Context::new(&digest::SHA256),
        }
    }

    fn stream(self) -> BoxStream<'static, Result<Bytes>> {
        stream::unfold(self, |mut verifying| async move {
            let next = verifying.next().await.inspect_err(|error| {
                verifying.source = None;
                damage_of(&verifying.app, verifying.id, &verifying.kind, error);
            });
            next.transpose().map(|part| (part, verifying))
        })
        .fuse()
        .boxed()
    }

    /// The next part; after the last one the one that is held back.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(source) = &mut self.source {
            let Some(part) = source.try_next().await? else {
                self.source = None;
                let found = digest::Context::clone(&self.hash).finish();
                if self.missing != 0 || hex(found.as_ref()) != self.sha256 {
                    let what = "its bytes are not those that were stored";
                    return Err(Error::new(&file_codes::DAMAGED).because(what));
                }
                return Ok(self.held.take());
            };
            self.hash.update(&part);
            self.missing = self.missing.wrapping_sub(part.len() as u64);
            if let Some(before) = self.held.replace(part) {
                return Ok(Some(before));
            }
        }
        Ok(None)
    }
}

/// Says that a file is damaged: its reader may only see that it breaks off.
fn damage_of(app: &App, id: FileId, kind: &str, error: &Error) {
    if error.code() == &file_codes::DAMAGED {
        app.metrics.files_damaged_total.with(&[kind]).inc();
        tracing::error!(file = %id, kind, error = error as &dyn std::error::Error, "A file is damaged");
    }
}

fn tell_usage(app: &App, caller: &Caller, used: Option<i64>) {
    if let Some(used) = used {
        let tenant = app.metrics.tenant_label(Some(caller.tenant()));
        app.metrics.files_used_bytes.with(&[tenant.as_str()]).set(used as f64);
    }
}

/// The first bytes of a file, enough to tell its type by; all of a small one.
async fn head_of(bytes: &mut (impl Stream<Item = Result<Bytes>> + Unpin)) -> Result<Bytes> {
    let mut head = BytesMut::new();
    while head.len() < HEAD
        && let Some(part) = bytes.try_next().await?
    {
        head.extend_from_slice(&part);
    }
    Ok(head.freeze())
}

/// What became of an upload that failed, for the metrics.
fn upload_outcome(error: &Error) -> &'static str {
    match error.code().status {
        400 | 408 => "broken_off",
        413 | 415 | 422 => "refused",
        _ => "failed",
    }
}

fn declared(app: &App, kind: &'static FileKind) -> Result<()> {
    if app.files.kinds().get(kind.name).is_some_and(|known| std::ptr::eq(known, kind)) {
        return Ok(());
    }
    let fix = "add it there, as `files: &[&KIND]`";
    Err(Error::internal(format!("the kind of file '{}' is in no module's row: {fix}", kind.name)))
}
