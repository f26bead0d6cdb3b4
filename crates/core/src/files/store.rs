//! The store of files' bytes: a folder, or a bucket of S3. Every step has a time limit, and is measured.

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::aws::AmazonS3Builder;
use object_store::client::{HttpClient, HttpConnector};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt as _,
    RetryConfig,
};
use tokio::fs;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::OnceCell;
use tokio_util::io::ReaderStream;
use zeroize::Zeroizing;

use super::content_key::{ContentKey, ContentSealer, SealedPart};
use super::link::LinkKeys;
use super::{FileId, FileKinds, ObjectWriter, file_codes};
use crate::config::{Bucket, FileSettings, FilesUrl};
use crate::crypto::SealPlace;
use crate::db::TenantKeys;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::shared::{Rng, Secret, TenantId};
use crate::shares::{MEMBERS, OwnedShare, Party, Shares};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// What is read of a folder's file at a time.
const CHUNK: usize = 64 * KIB;
/// When to try again what the store did not do.
const LATER: Duration = Duration::from_secs(5);
/// The step that makes a file of parts.
pub(super) const COMPLETE: &str = "complete";
/// How long a probe may take: shorter than others, since somebody waits for the answer of all probes.
const PROBE: Duration = Duration::from_secs(3);

/// The bytes of an object, as they come.
pub(crate) type ObjectStream = BoxStream<'static, Result<Bytes>>;

/// Where the store has an object: under its tenant's id and its own, which is nothing that a client chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectKey {
    pub(crate) tenant: TenantId,
    pub(crate) file: FileId,
}

/// What the store is made with.
pub(crate) struct FileStoreOptions {
    pub(crate) settings: FileSettings,
    /// Where files are without `FILES_URL`, in development.
    pub(crate) default_folder: Option<PathBuf>,
    /// The kinds of files that the modules declare.
    pub(crate) kinds: FileKinds,
    /// Signs links: `JWT_SECRET`.
    pub(crate) secret: Secret<String>,
    /// What else opens them: the one before, and the next.
    pub(crate) other_secrets: Vec<Secret<String>>,
    pub(crate) outbound: Outbound,
    pub(crate) metrics: Metrics,
    pub(crate) lifecycle: Lifecycle,
    /// The keys of tenants, which encrypt those of objects.
    pub(crate) keys: TenantKeys,
    pub(crate) rng: Arc<dyn Rng>,
}

/// What the store has of a file, as its row says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredObject<'a> {
    pub(crate) key: ObjectKey,
    /// How long the file is.
    pub(crate) bytes: u64,
    /// The key of its bytes, encrypted; none where they are stored as they are.
    pub(crate) content_key: Option<&'a str>,
}

/// The store of files; cheap to clone. Handlers reach it through [`Call`](crate::resource::Call).
#[derive(Clone)]
pub struct FileStore(Arc<FileStoreInner>);

struct FileStoreInner {
    place: Option<FilesUrl>,
    settings: FileSettings,
    kinds: FileKinds,
    links: LinkKeys,
    outbound: Outbound,
    metrics: Metrics,
    lifecycle: Lifecycle,
    keys: TenantKeys,
    rng: Arc<dyn Rng>,
    uploads: Shares,
    /// Made by the first step, so that a process that has no files makes no folder.
    reached: OnceCell<OpenStore>,
    /// Where the ledger of erasures is.
    ledger: OnceCell<OpenStore>,
    /// When the ledger and the database were last found to agree.
    agreed_at: Mutex<Option<Instant>>,
}

/// The store, once it was reached.
#[derive(Clone)]
pub(super) struct OpenStore {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Where its files are, of a folder.
    pub(super) folder: Option<PathBuf>,
    /// What all keys begin with, of a bucket.
    prefix: String,
}

impl FileStore {
    pub(crate) fn new(options: FileStoreOptions) -> Self {
        let FileStoreOptions {
            settings, default_folder, kinds, outbound, metrics, lifecycle, keys, rng, ..
        } = options;
        let links = LinkKeys::new(&options.secret, &options.other_secrets);
        let place = settings.url.clone().or(default_folder.map(FilesUrl::Folder));
        if place.is_none() && !kinds.is_empty() {
            tracing::warn!(
                "FILES_URL is not set, and no file can be stored: set it to file:///var/lib/erp/files, or to \
                 s3://bucket/prefix?endpoint=https://host&region=name"
            );
        }
        let uploads = Shares::new(settings.max_uploads as usize, MEMBERS);
        let reached = OnceCell::new();
        Self(Arc::new(FileStoreInner {
            place,
            settings,
            kinds,
            links,
            outbound,
            metrics,
            lifecycle,
            keys,
            rng,
            uploads,
            reached,
            ledger: OnceCell::new(),
            agreed_at: Mutex::default(),
        }))
    }

    /// Every kind of file of every module.
    pub fn kinds(&self) -> &FileKinds {
        &self.0.kinds
    }

    pub(crate) fn settings(&self) -> &FileSettings {
        &self.0.settings
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    /// What stands for a file in a link, until `expires`.
    pub(crate) fn sign(&self, key: ObjectKey, expires: Timestamp) -> String {
        self.0.links.sign(key, expires)
    }

    /// The file of a link that was signed here and is not over.
    pub(crate) fn linked(&self, link: &str, now: Timestamp) -> Option<ObjectKey> {
        self.0.links.open(link, now)
    }

    /// How many uploads are under way, and how many may be.
    pub(crate) fn use_of_places(&self) -> (usize, usize) {
        self.0.uploads.in_use()
    }

    /// A place for one more upload of the tenant; `None` when there is none.
    pub(crate) fn place(&self, tenant: TenantId) -> Option<OwnedShare> {
        self.0.uploads.take_owned(Party::Tenant(tenant), 1)
    }

    /// Begins to write an object. Nothing is sent before there is something to send.
    ///
    /// # Errors
    /// `files.store_unavailable`; `core.unreadable` where the tenant's key cannot be used.
    pub(crate) async fn write(&self, key: ObjectKey) -> Result<ObjectWriter> {
        let reached = self.reached().await?;
        let part = if reached.folder.is_some() { MIB } else { 5 * MIB };
        let mut bytes = Zeroizing::new([0; 32]);
        self.0.rng.fill(bytes.as_mut());
        let sealed = self.0.keys.seal(key.tenant, &place_of(key), bytes.as_ref()).await?;
        let of_object =
            ContentKey::new(bytes.as_ref(), key).ok_or_else(|| Error::internal("no key of 32 bytes"))?;
        let path = reached.path(key, true);
        Ok(ObjectWriter::new(
            self.clone(),
            path,
            reached.clone(),
            part,
            (ContentSealer::new(of_object), sealed),
        ))
    }

    /// Reads a part of a file.
    ///
    /// # Errors
    /// `files.damaged` where there is no such object, it is shorter or was changed, `files.store_unavailable`; `core.unreadable` where
    /// its key does not open. The stream ends with the same.
    pub(crate) async fn read(&self, object: StoredObject<'_>, range: Range<u64>) -> Result<ObjectStream> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let StoredObject { key, bytes, content_key } = object;
        let reached = self.reached().await?;
        let Some(sealed) = content_key else {
            return self.stored(reached, reached.path(key, false), range).await;
        };
        let ring = self.0.keys.of(key.tenant).await?;
        let opened = self.0.keys.open(&ring, &place_of(key), sealed).await?;
        let of_object = ContentKey::new(&opened, key).ok_or_else(|| Error::internal("no key of 32 bytes"))?;
        let part = SealedPart::of(bytes, &range);
        let stored = self.stored(reached, reached.path(key, true), part.stored.clone()).await?;
        Ok(part.open(of_object, stored))
    }

    /// A part of an object, as it is stored.
    async fn stored(&self, reached: &OpenStore, path: Path, range: Range<u64>) -> Result<ObjectStream> {
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let found = self.timed("read", reached.objects.get_opts(&path, options)).await?;
        let bytes = match found.payload {
            GetResultPayload::File(file, _) => of_file(fs::File::from_std(file), range).await?,
            GetResultPayload::Stream(bytes) => bytes.map_err(refusal).boxed(),
        };
        Ok(within(bytes, self.0.settings.store_timeout))
    }

    /// Removes an object. One that is not there is removed already.
    ///
    /// # Errors
    /// `files.store_unavailable`.
    pub(crate) async fn remove(&self, key: ObjectKey) -> Result<()> {
        let reached = self.reached().await?;
        // Encrypted or, from before, as it is: nobody has to know which.
        for path in [reached.path(key, true), reached.path(key, false)] {
            if let Some(draft) = reached.draft(&path) {
                let _ = self.timed_io("remove", fs::remove_file(draft)).await; // mostly there is none
            }
            let removing = async {
                match reached.objects.delete(&path).await {
                    Err(object_store::Error::NotFound { .. }) => Ok(()),
                    other => other,
                }
            };
            self.timed("remove", removing).await?;
        }
        Ok(())
    }

    /// The objects of a tenant with their sizes, in no order.
    ///
    /// # Errors
    /// `files.store_unavailable`, out of the stream too.
    pub(crate) async fn list(&self, tenant: TenantId) -> Result<BoxStream<'static, Result<(FileId, u64)>>> {
        let reached = self.reached().await?;
        let [encrypted, plain] =
            [true, false].map(|encrypted| reached.objects.list(Some(&reached.tenant(tenant, encrypted))));
        let all = encrypted.chain(plain).map_err(refusal);
        let places = reached.clone();
        let named = all.try_filter_map(move |object| {
            let id: Option<FileId> = object.location.filename().and_then(|name| name.parse().ok());
            let is_ours = |file: &FileId| {
                let key = ObjectKey { tenant, file: *file };
                [true, false].into_iter().any(|encrypted| places.path(key, encrypted) == object.location)
            };
            std::future::ready(Ok(id.filter(is_ours).map(|id| (id, object.size))))
        });
        Ok(within(named.boxed(), self.0.settings.store_timeout))
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// `files.store_unavailable`, with the cause.
    pub(crate) async fn probe(&self) -> Result<()> {
        if self.0.kinds.is_empty() {
            return Ok(());
        }
        if let (Some(FilesUrl::Folder(folder)), None) = (&self.0.place, self.0.reached.get()) {
            return self.timed_io("probe", can_be_made(folder)).await;
        }
        let reached = self.reached().await?;
        let nobody = reached.tenant(TenantId::NOBODY, true);
        let look = async { reached.objects.list_with_delimiter(Some(&nobody)).await.map(drop) };
        tokio::time::timeout(PROBE, self.timed("probe", look)).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn reached(&self) -> Result<&OpenStore> {
        self.0.reached.get_or_try_init(|| self.reach()).await
    }

    /// Where the ledger of erasures is; `None` where neither it nor the files have a place.
    pub(super) async fn ledger(&self) -> Result<Option<&OpenStore>> {
        let place = self.0.settings.ledger_url.as_ref().or(self.0.place.as_ref());
        match place {
            None => Ok(None),
            place => self.0.ledger.get_or_try_init(|| self.open(place)).await.map(Some),
        }
    }

    /// When the ledger and the database were last found to agree.
    pub(super) fn agreed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.agreed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reach(&self) -> Result<OpenStore> {
        self.open(self.0.place.as_ref()).await
    }

    async fn open(&self, place: Option<&FilesUrl>) -> Result<OpenStore> {
        match place {
            None => Err(unavailable("FILES_URL is not set")),
            Some(FilesUrl::Folder(folder)) => {
                let folder = self.timed_io("open", private_folder(folder)).await?;
                let objects = LocalFileSystem::new_with_prefix(&folder).map_err(refusal)?.with_fsync(true);
                Ok(OpenStore { objects: Arc::new(objects), folder: Some(folder), prefix: String::new() })
            }
            Some(FilesUrl::Bucket(bucket)) => {
                let client = self.0.outbound.client_of_operator().await.map_err(unavailable)?;
                let objects = self.bucket(bucket, client).map_err(refusal)?;
                Ok(OpenStore { objects, folder: None, prefix: bucket.prefix.clone() })
            }
        }
    }

    fn bucket(&self, bucket: &Bucket, client: reqwest::Client) -> object_store::Result<Arc<dyn ObjectStore>> {
        let FileSettings { access_key, secret_key, store_timeout, .. } = &self.0.settings;
        let exposed =
            |key: &Option<Secret<String>>| key.as_ref().map_or(String::new(), |key| key.expose().clone());
        let retry = RetryConfig {
            max_retries: 2,
            retry_timeout: *store_timeout,
            backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() },
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&bucket.region)
            .with_access_key_id(exposed(access_key))
            .with_secret_access_key(exposed(secret_key))
            .with_allow_http(true) // the settings say where
            .with_disable_bulk_delete(true) // not every store has it
            .with_retry(retry)
            .with_http_connector(OperatorsClient(client));
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        Ok(Arc::new(builder.build()?))
    }

    /// Bounds a step of the store, and measures it.
    pub(super) async fn timed<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        self.bounded(operation, async { work.await.map_err(refusal) }).await
    }

    /// The same of what is done in a folder beside the store.
    pub(super) async fn timed_io<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = std::io::Result<T>>,
    ) -> Result<T> {
        self.bounded(operation, async { work.await.map_err(unavailable) }).await
    }

    async fn bounded<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        // A disk that writes all of a large file down, or a bucket that joins its parts, takes longer than over one part.
        let times = if operation == COMPLETE { 4 } else { 1 };
        let outcome = tokio::time::timeout(self.0.settings.store_timeout * times, work).await;
        let (word, outcome) = match outcome {
            Ok(Ok(value)) => ("ok", Ok(value)),
            Ok(Err(error)) => ("failed", Err(error)),
            Err(_) => ("timeout", Err(silent())),
        };
        let durations = self.0.metrics.files_store_duration_seconds.with(&[operation, word]);
        durations.observe(begun.elapsed().as_secs_f64());
        outcome
    }
}

impl OpenStore {
    /// Where a note of the ledger is; of no name, where all are.
    pub(super) fn note(&self, name: &str) -> Path {
        Path::from(format!("{}/erasures/{name}", self.prefix))
    }

    /// Folders of 256 parts, by the last bits of the id, which are random: none gets too long to list.
    fn path(&self, key: ObjectKey, encrypted: bool) -> Path {
        let id = key.file.to_string();
        let shard = id.get(34..).unwrap_or_default().to_owned();
        self.tenant(key.tenant, encrypted).join(shard).join(id)
    }

    /// The version is how objects are written: `v1` as they are, which nothing is any more, `v2` encrypted.
    fn tenant(&self, tenant: TenantId, encrypted: bool) -> Path {
        Path::from(format!("{}/{}/{tenant}", self.prefix, if encrypted { "v2" } else { "v1" }))
    }

    /// Where a folder's file is while it is written, as `object_store` names it. After a crash it stays there.
    fn draft(&self, path: &Path) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{path}#1")))
    }
}

/// Where the key of an object is kept.
fn place_of(key: ObjectKey) -> SealPlace<'static> {
    SealPlace { table: "files", column: "content_key", row: *key.file.as_uuid() }
}

/// Gives the store the product's one HTTP client, in place of one of its own.
struct OperatorsClient(reqwest::Client);

impl fmt::Debug for OperatorsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorsClient")
    }
}

impl HttpConnector for OperatorsClient {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// Makes the folder where there is none, so that nobody but this account reaches into it.
async fn private_folder(folder: &FilePath) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await?;
    let found = fs::metadata(folder).await?;
    if found.permissions().mode() & 0o022 != 0 {
        let why = format!("others may write to {}: chmod 700 it", folder.display());
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why));
    }
    fs::canonicalize(folder).await
}

/// Whether the folder, or the one that it would be made in, can be written to. Makes nothing.
async fn can_be_made(folder: &FilePath) -> std::io::Result<()> {
    let (folder, mut found) = (folder.to_owned(), None);
    for folder in folder.ancestors() {
        if fs::metadata(folder).await.is_ok() {
            found = Some(folder.to_owned());
            break;
        }
    }
    let found = found.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from("."));
    Ok(rustix::fs::access(&found, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?)
}

async fn of_file(mut file: fs::File, range: Range<u64>) -> Result<ObjectStream> {
    file.seek(std::io::SeekFrom::Start(range.start)).await.map_err(unavailable)?;
    let part = file.take(range.end - range.start);
    Ok(ReaderStream::with_capacity(part, CHUNK).map_err(unavailable).boxed())
}

/// Ends a stream that gives nothing for so long.
fn within<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    limit: Duration,
) -> BoxStream<'static, Result<T>> {
    stream::unfold(Some(items), move |items| async move {
        let mut items = items?;
        match tokio::time::timeout(limit, items.next()).await {
            Ok(Some(Ok(item))) => Some((Ok(item), Some(items))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(silent()), None)),
        }
    })
    .boxed()
}

fn refusal(error: object_store::Error) -> Error {
    match error {
        missing @ object_store::Error::NotFound { .. } => Error::new(&file_codes::DAMAGED).because(missing),
        other => unavailable(other),
    }
}

fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(&file_codes::STORE_UNAVAILABLE).retry_after(LATER).because(cause)
}

fn silent() -> Error {
    unavailable("the store did not answer within FILES_STORE_TIMEOUT")
}
