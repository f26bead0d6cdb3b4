//! Seals rows of audit logs: each becomes an entry, the entries leaves of the tenant's tree, and the tree's root is signed.
//!
//! **Nothing smaller and no other past is ever signed.** Before it signs, the sealer opens the last checkpoint with its own keys, finds
//! it to be that of the tree that is stored, and the tree to continue what it has signed before and what the platform's log says of it.
//! What does not is refused, and goes on being refused until an operator opens a new log (`erp-backend audit reopen`), whose first entry
//! holds the last checkpoint of the old one.
//!
//! Any number of processes seal: each takes the lock of a tenant's log, and passes over one that another has.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use super::entry::{self, AuditRow};
use super::note::{AuditKeys, Checkpoint};
use super::store::{NewTile, StoredTree, number};
use super::tree::{TreeEdge, TreeHash, hashes, leaf_hash};
use crate::app::App;
use crate::auth::Trace;
use crate::config::Config;
use crate::db::{System, SystemTx, TenantTx, ToSql};
use crate::error::{Error, Result};
use crate::lifecycle::{Background, Stop, StopStage};
use crate::logging::Severity;
use crate::module::Module;
use crate::shared::TenantId;
use crate::{from_row, security_event, sql};

crate::system_work! {
    /// What is done about audit logs as the system.
    pub(crate) SYSTEM {
        SEAL = "audit-seal": "Seals the audit logs of all tenants: their rows are hashed, and signed with a key that no tenant has.";
        STREAM = "audit-stream": "Streams rows of tenants' audit logs to the receiver of AUDIT_STREAM_URL.";
        AUDIT_OPERATOR = "audit-logs": "Verifies and exports tenants' audit logs, and opens new ones after a restore, as operators ask for it.";
    }
}

/// The core's part in audit logs, as a module.
pub(crate) static AUDIT: Module = Module {
    name: "audit",
    about: "The audit log, sealed.",
    system: SYSTEM,
    system_background: &[("audit seal", &SEAL), ("audit stream", &STREAM)],
    background: &[&SEALED, &super::stream::STREAMED],
    ..Module::BARE
};

/// Seals what is new.
static SEALED: Background<App> = Background {
    name: "audit seal",
    about: "Seals new rows of all tenants' audit logs each `AUDIT_SEAL_INTERVAL`, and tells the witness of it.",
    critical: true,
    stops: StopStage::Work,
    run: |app, stop| Box::pin(keep_sealing(app, stop)),
    observe: |_| {},
};

/// How many rows are sealed by one transaction.
const BATCH: i64 = 2048;

/// Tenants that have rows which are not sealed, or whose checkpoint another key has signed; with what the platform's log says of each.
const LOOK: &str = "select h.tenant_id, l.log, p.entry as noted \
     from audit_heads h left join audit_logs l on l.tenant_id = h.tenant_id and l.is_open \
     left join lateral (select e.entry from audit_entries e where e.head_of = h.tenant_id \
       order by e.log desc, e.index desc limit 1) p on true \
     where h.seq > coalesce(l.first_seq + l.size - 2, 0) or l.signed_by <> $1";
const OPEN: &str = "select log, origin, first_seq, size, edge, note, last_at, clock_timestamp() as now, \
     (select h.seq from audit_heads h) as head from audit_logs where is_open for update skip locked";
const BEGIN: &str = "insert into audit_logs (log, origin, first_seq) values (0, $1, 1) on conflict do nothing \
     returning log, origin, first_seq, size, edge, note, last_at, clock_timestamp() as now, \
       (select h.seq from audit_heads h) as head";
/// Rows in the order of the key: `at` does not decrease within a tenant, unless the clock was set back.
const FRESH: &str = sql![
    "select ",
    AuditRow::COLUMNS,
    " from audit_log where at >= $3 and seq > $1 and seq <= $2 order by at, seq limit $2 - $1"
];
/// The same, wherever they are.
const WHEREVER: &str = sql![
    "select ",
    AuditRow::COLUMNS,
    " from audit_log where seq > $1 and seq <= $2 order by seq, at limit 2 * ($2 - $1)"
];
const WRITE: &str = "with entries as ( \
       insert into audit_entries (log, index, leaf, entry, head_of) \
       select $1, $2 + e.nth - 1, e.leaf, e.entry, e.head_of \
       from unnest($3::bytea[], $4::text[], $5::uuid[]) with ordinality e (leaf, entry, head_of, nth) \
     ), tiles as ( \
       insert into audit_tiles (log, level, index, root, hashes) \
       select $1, t.level, t.index, t.root, t.hashes \
       from unnest($6::smallint[], $7::bigint[], $8::bytea[], $9::bytea[]) t (level, index, root, hashes) \
     ) \
     update audit_logs set size = $10, edge = $11, note = $12, signed_by = $13, last_at = $14, sealed_at = clock_timestamp() \
     where log = $1 and size = $2 and is_open returning size";
const IS_BEFORE: &str = "select log from audit_logs where origin = $1 and log < $2";

struct Behind {
    tenant_id: TenantId,
    log: Option<i32>,
    noted: Option<String>,
}
from_row!(Behind { tenant_id, log, noted });

/// A log that is sealed, as it is stored.
struct OpenLog {
    log: i32,
    origin: String,
    first_seq: i64,
    size: i64,
    edge: Vec<u8>,
    note: Option<String>,
    last_at: Option<Timestamp>,
    now: Timestamp,
    head: i64,
}
from_row!(OpenLog { log, origin, first_seq, size, edge, note, last_at, now, head });

struct SealedSize {
    size: i64,
}
from_row!(SealedSize { size });

struct EarlierLog {
    #[allow(dead_code, reason = "that there is one is enough")]
    log: i32,
}
from_row!(EarlierLog { log });

/// What one look at all tenants has come to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SealOutcome {
    /// Entries that were added.
    pub sealed: u64,
    /// Tenants that have more than was sealed, or that another process was sealing.
    pub unfinished: u64,
    /// Tenants of which nothing was sealed: it is in the log why.
    pub failed: u64,
}

/// Why a log was not sealed.
enum SealingFault {
    /// It is no continuation of what was signed.
    Refused(&'static str),
    /// It can be tried again.
    Failed(Error),
}

impl From<Error> for SealingFault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a sealer has signed last of a log.
#[derive(Clone, Copy)]
struct SignedSize {
    log: i32,
    size: u64,
    root: TreeHash,
}

/// One process's sealer.
pub struct Sealer {
    pub(super) app: App,
    pub(super) keys: AuditKeys,
    pub(super) trace: Trace,
    system: System,
    signed: HashMap<TenantId, SignedSize>,
    /// Why nothing is sealed, in any tenant.
    halted: Option<&'static str>,
    /// Whether the witness has been asked what it knows.
    asked: bool,
}

/// The name of a tenant's log; those after a restore have a number.
pub(crate) fn origin(config: &Config, tenant: TenantId, log: i32) -> String {
    let host = config.http.public_url.as_ref().and_then(|url| crate::config::host_of(url.as_str()));
    let base = config.audit.origin.as_deref().or(host).unwrap_or("erp-backend").to_owned();
    match log {
        0 => format!("{base}/audit/{tenant}"),
        again => format!("{base}/audit/{tenant}/{again}"),
    }
}

impl Sealer {
    /// A sealer with the keys of the settings; none where there is no key.
    ///
    /// # Errors
    /// Where a key cannot be used.
    pub fn new(app: &App) -> Result<Option<Self>> {
        let keys = AuditKeys::of(&app.config).map_err(Error::internal)?;
        let trace = Trace::new("audit");
        let system = app.queue(&SEAL);
        Ok(keys.map(|keys| Self {
            app: app.clone(),
            keys,
            trace,
            system,
            signed: HashMap::new(),
            halted: None,
            asked: false,
        }))
    }

    /// A transaction without a tenant, of the queue's pool: its statements are counted, and not logged one by one.
    pub(super) fn begin(&self) -> SystemTx<'_> {
        self.system.begin(&self.trace)
    }

    /// Seals nothing any more, until the witness has taken a checkpoint again.
    pub(super) fn halt(&mut self, why: Option<&'static str>) {
        self.halted = why;
    }

    /// Looks once at all tenants, and seals a batch of each that has something new.
    ///
    /// # Errors
    /// As the database answers to the look.
    pub async fn seal(&mut self) -> Result<SealOutcome> {
        if !self.asked {
            self.asked = self.ask_witness().await?;
        }
        let key = self.keys.fingerprint();
        let behind: Vec<Behind> = self.begin().last().rows(LOOK, &[&key]).await?;
        let (mut outcome, mut oldest) = (SealOutcome::default(), Duration::ZERO);
        for tenant in behind {
            match self.seal_tenant(&tenant).await {
                Ok(Some(batch)) => {
                    outcome.sealed += batch.sealed;
                    outcome.unfinished += u64::from(batch.unfinished);
                    oldest = oldest.max(batch.age);
                }
                Ok(None) => outcome.unfinished += 1,
                Err(fault) => {
                    outcome.failed += 1;
                    self.tell(tenant.tenant_id, fault);
                }
            }
        }
        self.app.metrics.audit_sealed_entries_total.with(&[]).add(outcome.sealed);
        self.app.metrics.audit_unsealed_age_seconds.with(&[]).set(oldest.as_secs_f64());
        Ok(outcome)
    }

    /// Seals until nothing is left, but for what is refused or belongs to another process; and makes it searchable.
    ///
    /// # Errors
    /// As the database answers to a look.
    pub async fn seal_all(&mut self) -> Result<SealOutcome> {
        let mut all = SealOutcome::default();
        loop {
            let SealOutcome { sealed, unfinished, failed } = self.seal().await?;
            all = SealOutcome { sealed: all.sealed + sealed, unfinished, failed };
            if sealed == 0 {
                break;
            }
        }
        self.make_searchable().await.map(|()| all)
    }

    /// Seals a batch of one tenant; none where another process has its lock.
    async fn seal_tenant(&mut self, behind: &Behind) -> Result<Option<SealedBatch>, SealingFault> {
        let tenant = behind.tenant_id;
        if let Some(why) = self.halted {
            return Err(SealingFault::Refused(why));
        }
        let mut tx = self.begin().within(tenant).await?;
        let open: Option<OpenLog> = match behind.log {
            Some(_) => tx.optional(OPEN, &[]).await?,
            None => tx.optional(BEGIN, &[&origin(&self.app.config, tenant, 0)]).await?,
        };
        let Some(open) = open else { return Ok(None) };
        let mut edge = self.judge(&mut tx, behind, &open).await?;
        let next = open.first_seq + (open.size - 1).max(0);
        let rows = rows(&mut tx, &open, next - 1).await?;
        let batch = EntryBatch::new(tenant, &open, next, &rows);
        self.app.metrics.audit_missing_rows_total.with(&[]).add(batch.missing);
        let tree = StoredTree { log: open.log, size: edge.size() };
        let tiles = tree.grown(&mut tx, &batch.leaves).await?;
        batch.leaves.iter().for_each(|leaf| edge.push(*leaf));
        let signed = self.write(tx, &open, &edge, &batch, &tiles).await?;
        self.signed.insert(tenant, signed);
        let age = rows.first().map_or(0.0, |row| open.now.duration_since(row.at).as_secs_f64());
        Ok(Some(SealedBatch {
            sealed: batch.leaves.len() as u64,
            unfinished: next + batch.rows < open.head + 1,
            age: Duration::try_from_secs_f64(age).unwrap_or_default(),
        }))
    }

    /// Whether what is stored is what was signed last, and the edge of its tree.
    async fn judge(
        &self,
        tx: &mut TenantTx<'_>,
        behind: &Behind,
        open: &OpenLog,
    ) -> Result<TreeEdge, SealingFault> {
        let before = self.signed.get(&behind.tenant_id);
        let noted = behind.noted.as_deref().map(entry::head);
        let size = u64::try_from(open.size).unwrap_or_default();
        let edge = hashes(&open.edge).and_then(|roots| TreeEdge::new(size, roots));
        let edge = edge.ok_or(SealingFault::Refused("the edge of its tree is not of its size"))?;
        if let Some(note) = &open.note {
            let signed = self
                .keys
                .open(note)
                .map_err(|_| SealingFault::Refused("its checkpoint is not signed by a known key"))?;
            let expected = Checkpoint { origin: open.origin.clone(), size, root: edge.root() };
            if signed != expected {
                return Err(SealingFault::Refused("its checkpoint is not that of its tree"));
            }
        } else if size > 0 || open.log > 0 || before.is_some() || noted.is_some() {
            return Err(SealingFault::Refused("its checkpoint is gone"));
        }
        match before {
            Some(before) if before.log > open.log => {
                return Err(SealingFault::Refused("a later log of the tenant is gone"));
            }
            Some(before) if before.log == open.log && before.size > size => {
                return Err(SealingFault::Refused("it is shorter than what was signed before"));
            }
            Some(before) if before.log == open.log && before.size == size && before.root != edge.root() => {
                return Err(SealingFault::Refused("it is another one than what was signed before"));
            }
            Some(before) if before.log == open.log => return Ok(edge),
            _ => {}
        }
        if let Some(noted) = noted {
            let noted =
                noted.ok_or(SealingFault::Refused("what the platform's log says of it cannot be read"))?;
            self.judge_noted(tx, open, &edge, &noted).await?;
        }
        Ok(edge)
    }

    /// Whether the tree continues the checkpoint that the platform's log has of it: asked once by each process.
    async fn judge_noted(
        &self,
        tx: &mut TenantTx<'_>,
        open: &OpenLog,
        edge: &TreeEdge,
        noted: &Checkpoint,
    ) -> Result<(), SealingFault> {
        if noted.origin != open.origin {
            let earlier: Option<EarlierLog> = tx.optional(IS_BEFORE, &[&noted.origin, &open.log]).await?;
            return earlier
                .map(|_| ())
                .ok_or(SealingFault::Refused("the platform's log knows a log of the tenant that is gone"));
        }
        if noted.size > edge.size() {
            return Err(SealingFault::Refused("it is shorter than the platform's log says"));
        }
        let tree = StoredTree { log: open.log, size: noted.size };
        match tree.root(tx).await? == noted.root {
            true => Ok(()),
            false => Err(SealingFault::Refused("it is another one than the platform's log says")),
        }
    }

    /// Stores a batch with the checkpoint over it.
    async fn write(
        &self,
        tx: TenantTx<'_>,
        open: &OpenLog,
        edge: &TreeEdge,
        batch: &EntryBatch,
        tiles: &[NewTile],
    ) -> Result<SignedSize, SealingFault> {
        let root = edge.root();
        let note = self.keys.sign(&Checkpoint { origin: open.origin.clone(), size: edge.size(), root });
        let leaves: Vec<&[u8]> = batch.leaves.iter().map(<[u8; 32]>::as_slice).collect();
        let levels: Vec<i16> = tiles.iter().map(|tile| i16::from(tile.place.level)).collect();
        let indexes: Vec<i64> = tiles.iter().map(|tile| number(tile.place.index)).collect();
        let roots: Vec<&[u8]> = tiles.iter().map(|tile| tile.root.as_slice()).collect();
        let hashes: Vec<&[u8]> = tiles.iter().map(|tile| tile.hashes.as_slice()).collect();
        let (size, key) = (number(edge.size()), self.keys.fingerprint());
        let edge_bytes = edge.to_bytes();
        let params: [&(dyn ToSql + Sync); 14] = [
            &open.log,
            &open.size,
            &leaves,
            &batch.entries,
            &batch.heads,
            &levels,
            &indexes,
            &roots,
            &hashes,
            &size,
            &edge_bytes,
            &note,
            &key,
            &batch.last_at,
        ];
        let written: Option<SealedSize> = tx.last().optional(WRITE, &params).await?;
        match written {
            Some(written) if written.size == size => {
                Ok(SignedSize { log: open.log, size: edge.size(), root })
            }
            _ => Err(SealingFault::Failed(Error::internal("a log that was locked has changed"))),
        }
    }

    fn tell(&self, tenant: TenantId, fault: SealingFault) {
        let tenant = tenant.to_string();
        let reason = match fault {
            SealingFault::Refused(why) => {
                security_event!(
                    Severity::Critical,
                    "An audit log is not sealed, since its past has changed",
                    tenant,
                    why
                );
                "refused"
            }
            SealingFault::Failed(error) => {
                tracing::warn!(
                    tenant,
                    error = &error as &dyn std::error::Error,
                    "An audit log cannot be sealed at present"
                );
                "failed"
            }
        };
        self.app.metrics.audit_seal_failures_total.with(&[reason]).add(1);
    }
}

/// What one batch of a tenant has come to.
struct SealedBatch {
    sealed: u64,
    unfinished: bool,
    age: Duration,
}

/// Rows after a number, in order. Where not all are found from the time of the last one on, they are looked for everywhere.
async fn rows(tx: &mut TenantTx<'_>, open: &OpenLog, last: i64) -> Result<Vec<AuditRow>> {
    let to = open.head.min(last + BATCH);
    if to <= last {
        return Ok(Vec::new());
    }
    let since = open.last_at.unwrap_or(Timestamp::UNIX_EPOCH);
    let mut rows: Vec<AuditRow> = tx.rows(FRESH, &[&last, &to, &since]).await?;
    rows.sort_by_key(|row| row.seq);
    rows.dedup_by_key(|row| row.seq);
    if rows.len() as i64 != to - last {
        rows = tx.rows(WHEREVER, &[&last, &to]).await?;
        rows.dedup_by_key(|row| row.seq);
    }
    Ok(rows)
}

/// The entries that a log gets.
struct EntryBatch {
    entries: Vec<String>,
    leaves: Vec<TreeHash>,
    heads: Vec<Option<Uuid>>,
    last_at: Option<Timestamp>,
    /// How many rows it takes, those that are missing included.
    rows: i64,
    missing: u64,
}

impl EntryBatch {
    fn new(tenant: TenantId, open: &OpenLog, next: i64, rows: &[AuditRow]) -> Self {
        let mut batch = Self {
            entries: Vec::with_capacity(rows.len() + 1),
            leaves: Vec::with_capacity(rows.len() + 1),
            heads: Vec::with_capacity(rows.len() + 1),
            last_at: rows.last().map(|row| row.at).or(open.last_at),
            rows: open.head.min(next - 1 + BATCH) - (next - 1),
            missing: 0,
        };
        if open.size == 0 {
            batch.push(entry::opening(tenant, &open.origin, open.first_seq, None), None);
        }
        let mut found = rows.iter().peekable();
        for seq in next..next + batch.rows {
            match found.next_if(|row| row.seq == seq) {
                Some(row) => {
                    let head = row.head_of().filter(|_| tenant == TenantId::PLATFORM);
                    batch.push(row.entry(tenant), head.map(|tenant| *tenant.as_uuid()));
                }
                None => {
                    batch.missing += 1;
                    let told = tenant.to_string();
                    security_event!(
                        Severity::Critical,
                        "A row of the audit log has vanished before it was sealed",
                        tenant = told,
                        seq
                    );
                    batch.push(entry::missing(tenant, seq), None);
                }
            }
        }
        batch
    }

    fn push(&mut self, entry: String, head: Option<Uuid>) {
        self.leaves.push(leaf_hash(entry.as_bytes()));
        self.entries.push(entry);
        self.heads.push(head);
    }
}

/// Seals each interval until the stop, and once more then.
async fn keep_sealing(app: App, stop: Stop) {
    let mut sealer = match Sealer::new(&app) {
        Ok(Some(sealer)) => sealer,
        Ok(None) => return stop.requested().await,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "No audit log is sealed: AUDIT_SIGNING_KEY"
            );
            return stop.requested().await;
        }
    };
    let (every, anchors) = (app.config.audit.seal_interval, app.config.audit.witness_interval);
    let (mut troubled, mut anchor_at) = (false, Instant::now() + anchors);
    while stop.sleep(every).await {
        let round = async {
            sealer.seal_all().await?;
            if Instant::now() >= anchor_at {
                anchor_at = Instant::now() + anchors;
                sealer.anchor().await?;
            }
            Ok::<(), Error>(())
        };
        match round.await {
            Ok(()) => troubled = false,
            Err(error) if !troubled => {
                troubled = true; // said once: the database's monitor tells more of it
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Audit logs cannot be sealed at present"
                );
            }
            Err(_) => {}
        }
    }
    if every < Duration::from_secs(60) {
        let _ = sealer.seal_all().await;
    }
}
