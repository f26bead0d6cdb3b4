//! The data keys of tenants, as this process uses them: read as the system, opened, and kept for twenty seconds.
//!
//! What is kept here outlives what the database says by [`FRESH`] at most. So a key that was destroyed opens nothing after that time, and
//! a version that was added is known everywhere. Only [`ANNOUNCED`] after it was added does it encrypt: a process that did not know it
//! could not find by a blind index what another has written with it. A ciphertext of a version that is not known yet lets the keys be read
//! again at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::auth::Trace;
use crate::crypto::{DataKey, KeyEncryption, Keyring, SealFault, SealPlace, Unopened, WrappedKey};
use crate::db::{AuditEntry, FromRow, System};
use crate::error::{Error, Result, codes};
use crate::from_row;
use crate::logging::Severity;
use crate::shared::{Clock, Rng, TenantId};

/// How long opened keys are kept.
const FRESH: Duration = Duration::from_secs(20);
/// How old a further version is before it encrypts, by the clock of the database: longer than [`FRESH`], since a request has its keys
/// a moment longer. Both together stay below the minute within which a rotation holds everywhere.
const ANNOUNCED: Duration = Duration::from_secs(30);
/// The keys of how many tenants are kept.
const MOST: usize = 10_000;
/// How often it is told that something of one column does not open.
const TOLD: Duration = Duration::from_secs(60);

/// A version is announced while it is young and another one can still encrypt.
const KEYS: &str = "select k.version, k.wrapped, k.wrapped_by, k.retired_at is not null as retired, \
     k.created_at > now() - $2 * interval '1 second' and exists (select from tenant_keys b \
       where b.tenant = $1 and b.version < k.version and b.destroyed_at is null and b.retired_at is null) as announced \
     from tenant_keys k where k.tenant = $1";
/// The first key of a tenant, or a further version. A tenant that is being erased gets none, and one whose keys were destroyed gets
/// another one only where somebody rotates.
const ADD: &str = "insert into tenant_keys (tenant, version, wrapped, wrapped_by) \
     select t.id, $2, $3, $4 from tenants t where t.id = $1 and t.status not in ('erasing', 'erased') \
     and not exists (select from tenant_keys k where k.tenant = $1 and k.version >= $2) on conflict do nothing returning version";

const DESTROY: &str = "update tenant_keys set wrapped = null, wrapped_by = null, destroyed_at = now() \
     where tenant = $1 and destroyed_at is null returning version";

struct TenantKeyRow {
    version: i32,
    wrapped: Option<String>,
    wrapped_by: Option<String>,
    retired: bool,
    announced: bool,
}
from_row!(TenantKeyRow { version, wrapped, wrapped_by, retired, announced });

struct AddedKey {
    version: i32,
}
from_row!(AddedKey { version });

/// Of whom something was told: the tenant, the table, the column, and what.
type ToldOf = (TenantId, &'static str, &'static str, &'static str);

/// The data keys of tenants; cheap to clone.
#[derive(Clone)]
pub struct TenantKeys(Arc<TenantKeysInner>);

struct TenantKeysInner {
    encryption: KeyEncryption,
    system: System,
    rng: Arc<dyn Rng>,
    clock: Arc<dyn Clock>,
    kept: Mutex<HashMap<TenantId, Arc<KeptKeys>>>,
    /// What was told lately of what does not open.
    told: Mutex<HashMap<ToldOf, Instant>>,
    tasks: TaskTracker,
    trace: Trace,
}

/// The keys of one tenant, and since when they are kept. The first that finds none reads them, and the others wait for that.
#[derive(Default)]
struct KeptKeys(tokio::sync::Mutex<Option<(Keyring, Instant)>>);

/// How a key is added.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum NewVersion {
    /// Where there is none yet.
    First,
    /// Whatever there is.
    Next,
}

impl TenantKeys {
    pub(crate) fn new(
        encryption: KeyEncryption,
        system: System,
        (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(TenantKeysInner {
            encryption,
            system,
            rng,
            clock,
            kept: Mutex::default(),
            told: Mutex::default(),
            tasks,
            trace: Trace::new("encryption"),
        }))
    }

    /// What wraps the keys.
    pub(crate) fn encryption(&self) -> &KeyEncryption {
        &self.0.encryption
    }

    /// The keys that open what a tenant has.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn of(&self, tenant: TenantId) -> Result<Keyring> {
        self.kept(tenant, FRESH).await
    }

    /// The keys of a tenant, of which one encrypts: the first is made where there is none.
    ///
    /// # Errors
    /// `core.unreadable` where the tenant's key cannot be used, or as the database answers.
    pub async fn for_sealing(&self, tenant: TenantId) -> Result<Keyring> {
        let ring = self.of(tenant).await?;
        match ring.current() {
            Err(SealFault::UnknownVersion(_)) => {}
            Ok(_) => return Ok(ring),
            Err(fault) => return Err(self.unusable(tenant, fault)),
        }
        self.add(tenant, NewVersion::First).await?;
        let ring = self.kept(tenant, Duration::ZERO).await?;
        ring.current().map_err(|fault| self.unusable(tenant, fault))?;
        Ok(ring)
    }

    /// The keys once more, where a version was not among them: another process may have added it a moment ago. A forged ciphertext costs
    /// one statement so, and its reader gets an error.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn again(&self, tenant: TenantId) -> Result<Keyring> {
        self.kept(tenant, Duration::ZERO).await
    }

    /// Adds a version of a tenant's key, which encrypts from here on: its number. `None` where another process was first, or the tenant
    /// is being erased.
    ///
    /// # Errors
    /// As the database answers.
    pub(crate) async fn add(&self, tenant: TenantId, which: NewVersion) -> Result<Option<u32>> {
        let Inner { encryption, system, rng, trace, .. } = &*self.0;
        let rows = self.rows(tenant).await?;
        let last = rows.iter().map(|row| row.version).max();
        if which == NewVersion::First && last.is_some() {
            return Ok(None);
        }
        let number = last.unwrap_or_default() + 1;
        let version = u32::try_from(number).map_err(Error::internal)?;
        let key = DataKey::random(rng.as_ref());
        let wrapped = encryption.wrap(rng.as_ref(), (tenant, version), &key).await;
        let wrapped = wrapped.map_err(|fault| self.unusable(tenant, fault))?;
        let params: [&(dyn crate::db::ToSql + Sync); 4] = [&tenant, &number, &wrapped.text, &wrapped.by];
        let added: Option<AddedKey> = system.begin(trace).last().optional(ADD, &params).await?;
        Ok(added.and_then(|added| u32::try_from(added.version).ok()))
    }

    /// Forgets what is kept of a tenant: for the process that has changed it.
    pub(crate) fn forget(&self, tenant: TenantId) {
        self.lock().remove(&tenant);
    }

    async fn kept(&self, tenant: TenantId, fresh: Duration) -> Result<Keyring> {
        let place = self.place(tenant);
        let mut kept = place.0.lock().await;
        let now = self.0.clock.instant();
        if let Some((ring, since)) = &*kept
            && now.saturating_duration_since(*since) < fresh
        {
            return Ok(ring.clone());
        }
        // As of before the question: what is destroyed while it is answered must not count as fresh.
        *kept = None;
        let ring = self.read(tenant).await?;
        *kept = Some((ring.clone(), now));
        Ok(ring)
    }

    fn place(&self, tenant: TenantId) -> Arc<KeptKeys> {
        let mut kept = self.lock();
        if kept.len() >= MOST && !kept.contains_key(&tenant) {
            let now = self.0.clock.instant();
            // One that somebody reads just now stays; were all of them in use, what is kept would be bounded by the requests.
            kept.retain(|_, keys| {
                keys.0.try_lock().map_or(true, |keys| {
                    keys.as_ref().is_some_and(|(_, since)| now.saturating_duration_since(*since) < FRESH / 4)
                })
            });
        }
        Arc::clone(kept.entry(tenant).or_default())
    }

    async fn rows(&self, tenant: TenantId) -> Result<Vec<TenantKeyRow>> {
        let Inner { system, trace, .. } = &*self.0;
        system.begin(trace).last().rows(KEYS, &[&tenant, &ANNOUNCED.as_secs_f64()]).await
    }

    async fn read(&self, tenant: TenantId) -> Result<Keyring> {
        let rows = self.rows(tenant).await?;
        let (mut keys, mut faults) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let version = u32::try_from(row.version).map_err(Error::internal)?;
            match opened(&self.0.encryption, (tenant, version), row).await {
                Ok(key) => keys.push(key),
                Err(fault) => faults.push((version, fault)),
            }
        }
        Ok(Keyring::new(tenant, keys, faults))
    }

    /// The error for a key that cannot be used.
    pub fn unusable(&self, tenant: TenantId, fault: SealFault) -> Error {
        tracing::error!(tenant_id = %tenant, "A tenant's key cannot be used: a field {fault}");
        Error::new(&codes::UNREADABLE).because(fault)
    }

    /// The error for something that does not open: a security event, with a line in the tenant's audit log for each column and minute.
    pub fn refused(&self, tenant: TenantId, unopened: Unopened) -> Error {
        let Unopened { table, column, row, fault } = unopened;
        let severity = if fault.is_suspicious() { Severity::High } else { Severity::Medium };
        crate::security_event!(
            severity,
            "Something that is encrypted does not open",
            action = ACTION,
            tenant_id = %tenant,
            table = table,
            column = column,
            row = %row,
            reason = fault.word(),
        );
        if self.is_news(tenant, table, column, fault) {
            let (keys, details) = (self.clone(), json!({ "column": column, "reason": fault.word() }));
            self.0.tasks.spawn(async move {
                if let Err(error) = keys.tell(tenant, table, row, details).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "What does not open could not be written into the audit log");
                }
            });
        }
        Error::new(&codes::UNREADABLE).because(unopened)
    }

    async fn tell(
        &self,
        tenant: TenantId,
        table: &'static str,
        row: Uuid,
        details: serde_json::Value,
    ) -> Result<()> {
        let mut tx = self.0.system.begin(&self.0.trace).within(tenant).await?;
        let resource_id = Some(row.to_string());
        tx.audit(&AuditEntry { action: ACTION, resource: table, resource_id, outcome: "failure", details })?;
        tx.commit().await
    }

    fn is_news(&self, tenant: TenantId, table: &'static str, column: &'static str, fault: SealFault) -> bool {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.0.clock.instant();
        if told.len() >= MOST {
            told.retain(|_, at| now.saturating_duration_since(*at) < TOLD);
        }
        let key = (tenant, table, column, fault.word());
        if told.len() >= MOST || told.get(&key).is_some_and(|at| now.saturating_duration_since(*at) < TOLD) {
            return false;
        }
        told.insert(key, now);
        true
    }

    /// Encrypts a text for its place with a tenant's key.
    ///
    /// # Errors
    /// `core.unreadable` where the tenant's key cannot be used, or as the database answers.
    pub async fn seal(&self, tenant: TenantId, place: &SealPlace<'_>, text: &[u8]) -> Result<String> {
        let ring = self.for_sealing(tenant).await?;
        ring.seal(self.0.rng.as_ref(), place, text).map_err(|fault| self.unusable(tenant, fault))
    }

    /// Opens what was encrypted for a place, with keys that were asked for a moment ago.
    ///
    /// # Errors
    /// `core.unreadable` where it does not open, which is a security event; or as the database answers.
    pub async fn open(
        &self,
        ring: &Keyring,
        place: &SealPlace<'static>,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let tenant = ring.tenant();
        let mut opened = ring.open(place, sealed);
        if let Err(SealFault::UnknownVersion(_)) = opened {
            opened = self.again(tenant).await?.open(place, sealed);
        }
        let SealPlace { table, column, row } = *place;
        opened.map_err(|fault| self.refused(tenant, Unopened { table, column, row, fault }))
    }

    /// Destroys all versions of a tenant's key, for ever: how many. What they have encrypted opens nowhere twenty seconds later.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn destroy(&self, tenant: TenantId) -> Result<usize> {
        let mut tx = self.0.system.begin(&self.0.trace).within(tenant).await?;
        let destroyed: Vec<AddedKey> = tx.rows(DESTROY, &[&tenant]).await?;
        let versions: Vec<_> = destroyed.into_iter().map(|row| row.version).collect();
        if !versions.is_empty() {
            tx.audit(&AuditEntry {
                action: "core.key_destroyed",
                resource: "tenant",
                resource_id: Some(tenant.to_string()),
                outcome: "success",
                details: json!({ "versions": versions }),
            })?;
        }
        tx.commit().await?;
        self.forget(tenant);
        Ok(versions.len())
    }

    /// Opens the encrypted fields of what was read.
    ///
    /// # Errors
    /// `core.unreadable` where one does not open: nothing is answered of the others then.
    pub(in crate::db) async fn open_rows<R: FromRow>(&self, mut ring: Keyring, rows: &mut [R]) -> Result<()> {
        let tenant = ring.tenant();
        for row in rows {
            let Err(unopened) = row.open(&ring) else { continue };
            if let SealFault::UnknownVersion(_) = unopened.fault {
                ring = Box::pin(self.again(tenant)).await?;
                row.open(&ring).map_err(|unopened| self.refused(tenant, unopened))?;
            } else {
                return Err(self.refused(tenant, unopened));
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<KeptKeys>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What audit entries call it.
const ACTION: &str = "core.decryption_failed";

use TenantKeysInner as Inner;

async fn opened(
    encryption: &KeyEncryption,
    place: (TenantId, u32),
    row: TenantKeyRow,
) -> Result<DataKey, SealFault> {
    let (Some(text), Some(by)) = (row.wrapped, row.wrapped_by) else { return Err(SealFault::Destroyed) };
    if row.retired {
        return Err(SealFault::Retired(place.1));
    }
    let key = encryption.unwrap(place, &WrappedKey { by, text }).await?;
    DataKey::new(place.1, &key).map(|key| key.announced(row.announced)).ok_or(SealFault::Altered)
}
