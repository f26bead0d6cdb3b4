//! What an operator does about files from a terminal, as the system's login: see what tenants have, compare it with the store,
//! and let the sweep come at once.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::operator_session::OperatorSession;
use crate::config::{Config, Environment};
use crate::crypto::KeyEncryption;
use crate::db::{AuditEntry, TenantKeys, TenantTx};
use crate::error::Result;
use crate::factory;
use crate::files::{FileId, FileStore, FileStoreOptions, ObjectKey, StoredObject, file_codes, sealed_length};
use crate::from_row;
use crate::lifecycle::StartError;
use crate::metrics::Metrics;
use crate::module::Product;
use crate::outbound::{Outbound, OutboundOptions, SystemResolver};
use crate::shared::{Rng, Secret, SystemClock, TenantId, hex};
use crate::stored_files::KEEP_STORE;

/// How many rows are compared at a time.
const PAGE: i64 = 1000;

const TENANTS: &str = "select id, slug from tenants where status <> 'reserved' and ($1::text is null or slug = $1) order by slug";
const LIST: &str = "select id, kind, name, media_type, bytes, created_at, expires_at, removed_at from files \
     where ($1::text is null or kind = $1) order by id desc limit $2";
const USAGE: &str = "select (select count(*) from files where removed_at is null) as files, u.bytes, u.quota, \
     (select count(*) from unreferenced_objects) as unreferenced, \
     (select extract(epoch from now() - min(since))::float8 from unreferenced_objects) as oldest \
     from (select) as one left join file_usage u on true";
/// What the store ought to have, page by page: whole files, and objects that it may have.
const EXPECTED: &str = "select id, kind, bytes, sha256, content_key, true as wanted from files where id > $1 and removed_at is null \
     union all select id, 'none', bytes, '', null, false from unreferenced_objects where id > $1 order by id limit $2";
const KNOWN: &str = "select id from files where id = $1 and removed_at is null \
     union all select id from unreferenced_objects where id = $1";
const QUOTA: &str = "insert into file_usage as u (quota) values ($1) \
     on conflict on constraint file_usage_pkey do update set quota = excluded.quota returning bytes";
const SWEEP: &str = "update job_schedules set next_at = now() where name = 'files.nightly' returning name";

/// A tenant that has files.
#[derive(Debug, Clone)]
pub struct FileTenant {
    id: TenantId,
    /// Its name in the command line.
    pub slug: String,
}
from_row!(FileTenant { id, slug });

/// A file, as an operator sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // they are the columns
pub struct ListedFile {
    pub id: FileId,
    pub kind: String,
    pub name: String,
    pub media_type: String,
    pub bytes: i64,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub removed_at: Option<Timestamp>,
}
from_row!(ListedFile { id, kind, name, media_type, bytes, created_at, expires_at, removed_at });

/// What a tenant's files take.
#[derive(Debug, Serialize)]
pub struct FileUsage {
    /// How many files have their bytes in the store.
    pub files: i64,
    /// What all objects take, those without a file included.
    pub bytes: Option<i64>,
    /// The tenant's own quota; none where that of `FILES_TENANT_QUOTA` holds.
    pub quota: Option<i64>,
    /// Objects that no file refers to: uploads under way, and what the sweep will remove.
    pub unreferenced: i64,
    /// How many seconds old the oldest of these is.
    pub oldest: Option<f64>,
}
from_row!(FileUsage { files, bytes, quota, unreferenced, oldest });

/// What a comparison with the store has found in one tenant.
#[derive(Debug, Default, Serialize)]
pub struct VerifiedFiles {
    /// How many files were looked at.
    pub files: u64,
    /// Files whose bytes are not in the store, or not all of them.
    pub missing: Vec<FileId>,
    /// Files whose bytes are others than those that were stored, where the bytes were looked at.
    pub damaged: Vec<FileId>,
    /// Objects that neither a file nor an upload knows of: since the database is older than the store, say.
    pub orphans: Vec<FileId>,
    /// How many of these were removed.
    pub removed: u64,
}

impl VerifiedFiles {
    /// Whether the store is as the database says.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.damaged.is_empty() && self.orphans.len() as u64 == self.removed
    }
}

struct ExpectedObject {
    id: FileId,
    kind: String,
    bytes: i64,
    sha256: String,
    content_key: Option<String>,
    wanted: bool,
}
from_row!(ExpectedObject { id, kind, bytes, sha256, content_key, wanted });

struct KnownObject {
    id: FileId,
}
from_row!(KnownObject { id });

struct ChangedQuota {
    bytes: i64,
}
from_row!(ChangedQuota { bytes });

struct SweptSchedule {
    name: String,
}
from_row!(SweptSchedule { name });

/// Tenants' files, as an operator reaches them.
pub struct FileOperator {
    session: OperatorSession,
    store: FileStore,
}

impl FileOperator {
    /// Opens the ways to the database and the store; nothing is sent before the first question.
    ///
    /// # Errors
    /// `Exit::Configuration` where the settings cannot be used.
    pub fn open(product: &Product, config: &Config, rng: Arc<dyn Rng>) -> Result<Self, StartError> {
        let session = OperatorSession::open(config, rng.as_ref(), &KEEP_STORE)?;
        let metrics = Metrics::new(false);
        let outbound = OutboundOptions {
            resolver: Arc::new(SystemResolver::default()),
            user_agent: format!("{}/{}", product.name, product.version),
            metrics: metrics.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::clone(&rng),
        };
        let development = config.process.app_env == Environment::Development;
        let store = FileStore::new(FileStoreOptions {
            settings: config.files.clone(),
            default_folder: development.then(|| config.process.data_dir.join("files")),
            kinds: factory::file_kinds(product),
            secret: Secret::new(String::new()), // it makes no links
            other_secrets: Vec::new(),
            outbound: Outbound::new(config, outbound)?,
            metrics,
            lifecycle: session.lifecycle.clone(),
            keys: TenantKeys::new(
                KeyEncryption::of(config),
                session.system().clone(),
                (Arc::new(SystemClock), Arc::clone(&rng)),
                session.lifecycle.background().clone(),
            ),
            rng,
        });
        Ok(Self { session, store })
    }

    /// Ends what `open` has begun.
    pub async fn close(self) {
        self.session.close().await;
    }

    /// All tenants, or the one of a slug.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenants(&self, slug: Option<&str>) -> Result<Vec<FileTenant>> {
        self.session.begin().last().rows(TENANTS, &[&slug]).await
    }

    /// A tenant's files, the newest first.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn list(&self, tenant: &FileTenant, kind: Option<&str>, most: i64) -> Result<Vec<ListedFile>> {
        self.within(tenant).await?.last().rows(LIST, &[&kind, &most]).await
    }

    /// What a tenant's files take.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn usage(&self, tenant: &FileTenant) -> Result<FileUsage> {
        self.within(tenant).await?.last().row(USAGE, &[]).await
    }

    /// Gives a tenant a quota of its own, in bytes, or the common one again. It stands in the tenant's audit log.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn set_quota(&self, tenant: &FileTenant, quota: Option<i64>) -> Result<()> {
        let mut tx = self.within(tenant).await?;
        let changed: ChangedQuota = tx.row(QUOTA, &[&quota]).await?;
        tx.audit(&AuditEntry {
            action: "files.quota_set",
            resource: "files",
            resource_id: None,
            outcome: "success",
            details: json!({ "quota": quota, "used": changed.bytes }),
        })?;
        tx.commit().await
    }

    /// Lets the sweep come at once, in all tenants; whether there is one to come.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn sweep(&self) -> Result<bool> {
        let swept: Option<SweptSchedule> = self.session.begin().last().optional(SWEEP, &[]).await?;
        Ok(swept.is_some_and(|schedule| !schedule.name.is_empty()))
    }

    /// Compares a tenant's files with the store: what is missing, what nobody knows of and, with `contents`, what is damaged.
    /// With `remove`, what nobody knows of is removed.
    ///
    /// # Errors
    /// As the database answers, or the store.
    pub async fn verify(&self, tenant: &FileTenant, contents: bool, remove: bool) -> Result<VerifiedFiles> {
        let listed: HashMap<FileId, u64> = self.store.list(tenant.id).await?.try_collect().await?;
        let mut unknown = listed.clone();
        let mut found = VerifiedFiles::default();
        let mut after = FileId::from_uuid(uuid::Uuid::nil());
        loop {
            let tx = self.within(tenant).await?.last();
            let page: Vec<ExpectedObject> = tx.rows(EXPECTED, &[&after, &PAGE]).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for object in &page {
                unknown.remove(&object.id);
                if object.wanted {
                    found.files += 1;
                    self.compare(tenant, object, &listed, contents, &mut found).await?;
                }
            }
        }
        for id in unknown.into_keys() {
            // It may have become known meanwhile: everything is written down before it is in the store.
            let known: Vec<KnownObject> = self.within(tenant).await?.last().rows(KNOWN, &[&id]).await?;
            if known.iter().all(|object| object.id != id) {
                found.orphans.push(id);
            }
        }
        if remove {
            for id in &found.orphans {
                self.store.remove(ObjectKey { tenant: tenant.id, file: *id }).await?;
                found.removed += 1;
            }
        }
        Ok(found)
    }

    async fn compare(
        &self,
        tenant: &FileTenant,
        object: &ExpectedObject,
        listed: &HashMap<FileId, u64>,
        contents: bool,
        found: &mut VerifiedFiles,
    ) -> Result<()> {
        let bytes = object.bytes.unsigned_abs();
        let length = if object.content_key.is_some() { sealed_length(bytes) } else { bytes };
        // One that was stored or removed since the store was listed is looked for once more.
        let is_whole = listed.get(&object.id) == Some(&length) || bytes == 0;
        if !is_whole || contents {
            match self.sum(tenant, object).await {
                Ok(sum) if sum == object.sha256 => {}
                Ok(_) => found.damaged.push(object.id),
                // All of it is there, and does not open.
                Err(error)
                    if error.code() == &file_codes::DAMAGED && is_whole && object.content_key.is_some() =>
                {
                    found.damaged.push(object.id);
                }
                Err(error) if error.code() == &file_codes::DAMAGED => {
                    let known: Vec<KnownObject> =
                        self.within(tenant).await?.last().rows(KNOWN, &[&object.id]).await?;
                    if !known.is_empty() {
                        tracing::debug!(file = %object.id, kind = object.kind, "A file is missing");
                        found.missing.push(object.id);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The SHA-256 of what the store has.
    async fn sum(&self, tenant: &FileTenant, object: &ExpectedObject) -> Result<String> {
        let stored = StoredObject {
            key: ObjectKey { tenant: tenant.id, file: object.id },
            bytes: object.bytes.unsigned_abs(),
            content_key: object.content_key.as_deref(),
        };
        let mut bytes = self.store.read(stored, 0..stored.bytes).await?;
        let mut sum = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        while let Some(part) = bytes.try_next().await? {
            sum.update(&part);
        }
        Ok(hex(sum.finish().as_ref()))
    }

    async fn within(&self, tenant: &FileTenant) -> Result<TenantTx<'_>> {
        self.session.within(tenant.id).await
    }
}
