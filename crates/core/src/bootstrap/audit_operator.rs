//! What an operator does with audit logs from a terminal, as the system's login: verify them, prove a row, export what an auditor
//! takes along, and open a new log after a restore.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::operator_session::OperatorSession;
use crate::audit::anomaly::{AnomalyRules, AnomalyWatch, ReplayReport, WatchedEvent};
use crate::audit::entry::{self, AuditRow};
use crate::audit::note::{AuditKeys, Checkpoint, open_removal, verifier_key};
use crate::audit::tree::{TilePlace, leaf_hash};
use crate::audit::{
    AUDIT_OPERATOR, AuditExport, AuditProof, LogCheck, MadeReport, ReportScope, SealedLog, VerifiedLog,
    last_note, open_log, origin, prove, report,
};
use crate::config::{Config, WitnessUrl, dev_secrets};
use crate::db::{AuditEntry, TenantTx, ToSql};
use crate::error::{Error, Result, codes};
use crate::from_row;
use crate::lifecycle::{Exit, StartError};
use crate::shared::{Rng, TenantId};
use crate::sql;

/// How many entries and rows are looked at with one statement.
const PAGE: i64 = 8192;
/// Before every row.
const START: Timestamp = Timestamp::constant(-62_135_596_800, 0);

const TENANTS: &str = "select id, slug from tenants where (status <> 'reserved' or slug = 'erp-platform') \
     and ($1::text is null or slug = $1) order by slug";
const LOGS: &str =
    "select log, origin, first_seq, size, note from audit_logs where note is not null order by log";
const ENTRIES: &str =
    "select index, leaf, entry from audit_entries where log = $1 and index >= $2 order by index limit $3";
const ROWS: &str = sql![
    "select ",
    AuditRow::COLUMNS,
    " from audit_log where (at, seq) > ($1, $2) order by at, seq limit $3"
];
const WATCHED: &str = sql![
    "select ",
    WatchedEvent::COLUMNS,
    " from audit_log where (at, seq) > ($1, $2) order by at, seq limit $3"
];
const CHECKPOINTS: &str = "select size, note from audit_checkpoints where log = $1 order by size";
const REMOVALS: &str = "select first as size, note from audit_prunings where log = $1 order by first";
const TILES: &str = "select level, index, root, sha256(hashes) as sum from audit_tiles \
     where log = $1 and (level, index) > ($2, $3) order by level, index limit $4";
const HEAD: &str = "select seq from audit_heads";
const NOTED: &str =
    "select entry from audit_entries where head_of = $1 and entry is not null order by log, index";
const OPENING: &str = "select entry from audit_entries where log = $1 and index = 0 and entry is not null";
const CLOSE: &str = "with closed as (update audit_logs set is_open = false where log = $1 and is_open returning log) \
     update audit_checkpoints set witness = 'dropped' from closed where witness = 'waits' returning size";
const REOPEN: &str = "with entry as (insert into audit_entries (log, index, leaf, entry) values ($1, 0, $4, $5)) \
     insert into audit_logs (log, origin, first_seq, size, edge, note, signed_by, sealed_at, searchable) \
     select $1, $2, $3, 1, $4, $6, $7, clock_timestamp(), coalesce(max(searchable), 0) from audit_logs returning log";
const LAST: &str =
    "select log, origin, first_seq, size, note from audit_logs where is_open and note is not null for update";

/// A tenant that has an audit log.
#[derive(Debug, Clone)]
pub struct AuditedTenant {
    id: TenantId,
    /// Its name in the command line.
    pub slug: String,
}
from_row!(AuditedTenant { id, slug });

struct SealedEntry {
    index: i64,
    leaf: Vec<u8>,
    entry: Option<String>,
}
from_row!(SealedEntry { index, leaf, entry });

struct SizedNote {
    size: i64,
    note: String,
}
from_row!(SizedNote { size, note });

struct TileSum {
    level: i16,
    index: i64,
    root: Vec<u8>,
    sum: Vec<u8>,
}
from_row!(TileSum { level, index, root, sum });

struct LastSeq {
    seq: i64,
}
from_row!(LastSeq { seq });

struct NotedHead {
    entry: String,
}
from_row!(NotedHead { entry });

struct OpenedLog {
    #[allow(dead_code, reason = "that there is one is enough")]
    log: i32,
}
from_row!(OpenedLog { log });

/// A tenant's checkpoint, with the key that verifies it.
#[derive(Debug, Clone)]
pub struct SignedCheckpoint {
    /// The signed note.
    pub note: String,
    /// The key, as verifiers of notes take it.
    pub key: String,
}

/// Audit logs, as an operator reaches them.
pub struct AuditOperator {
    session: OperatorSession,
    keys: AuditKeys,
    config: Config,
}

impl AuditOperator {
    /// Opens the way to the database; nothing is sent before the first question.
    ///
    /// # Errors
    /// `Exit::Configuration` where the settings cannot be used, or there is no `AUDIT_SIGNING_KEY`.
    pub fn open(mut config: Config, rng: &Arc<dyn Rng>) -> Result<Self, StartError> {
        dev_secrets(&mut config, rng.as_ref())?;
        let session = OperatorSession::open(&config, rng.as_ref(), &AUDIT_OPERATOR)?;
        let keys = AuditKeys::of(&config)?.ok_or_else(|| {
            let what = "AUDIT_SIGNING_KEY is not set, and without it no audit log is signed or verified";
            StartError::with_fix(Exit::Configuration, what, "set it as the server has it")
        })?;
        Ok(Self { session, keys, config })
    }

    /// Ends what `open` has begun.
    pub async fn close(self) {
        self.session.close().await;
    }

    /// All tenants and the platform, or the one of a slug.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenants(&self, slug: Option<&str>) -> Result<Vec<AuditedTenant>> {
        self.session.begin().last().rows(TENANTS, &[&slug]).await
    }

    /// Reads a checkpoint that somebody has kept.
    ///
    /// # Errors
    /// `Exit::Usage` where it is none, or none of ours.
    pub fn read_checkpoint(&self, note: &str) -> Result<Checkpoint, StartError> {
        self.keys.open(note).map_err(|fault| {
            StartError::new(Exit::Usage, format!("The checkpoint cannot be believed: {fault}"))
        })
    }

    /// The checkpoint that is in force; none while nothing is sealed.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn checkpoint(&self, tenant: &AuditedTenant) -> Result<Option<SignedCheckpoint>> {
        let log = open_log(&mut self.within(tenant).await?).await?;
        Ok(log.map(|log| SignedCheckpoint {
            key: verifier_key(&log.origin, &self.keys.public()[0]),
            note: log.note,
        }))
    }

    /// The proof for a row; none while it is not sealed.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn prove(&self, tenant: &AuditedTenant, seq: i64) -> Result<Option<AuditProof>> {
        prove(&mut self.within(tenant).await?, seq).await
    }

    /// Verifies all logs of a tenant, also by checkpoints that somebody has kept.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn verify(&self, tenant: &AuditedTenant, kept: &[Checkpoint]) -> Result<Vec<VerifiedLog>> {
        // As of one moment: while people work, rows are written and sealed between any two statements.
        let mut tx = self.session.begin().snapshot();
        let noted: Vec<NotedHead> = tx.rows(NOTED, &[&tenant.id]).await?;
        let mut tx = tx.within(tenant.id).await?;
        let logs: Vec<SealedLog> = tx.rows(LOGS, &[]).await?;
        let noted: Vec<Checkpoint> = noted.iter().filter_map(|noted| entry::head(&noted.entry)).collect();
        let mut verified = Vec::new();
        for (nth, log) in logs.iter().enumerate() {
            let next = logs.get(nth + 1);
            let mut check = Box::pin(self.begin_check(&mut tx, (tenant.id, log), next.is_none())).await?;
            noted
                .iter()
                .filter(|noted| noted.origin == log.origin)
                .for_each(|noted| check.knows(noted, "the platform's log"));
            kept.iter()
                .filter(|kept| kept.origin == log.origin)
                .for_each(|kept| check.knows(kept, "a checkpoint that was kept"));
            if let Some(WitnessUrl::File(path)) = &self.config.audit.witness_url
                && tenant.id == TenantId::PLATFORM
            {
                last_note(path, &self.keys, Some(log))
                    .iter()
                    .for_each(|told| check.knows(told, "the witness"));
            }
            Box::pin(read_all(&mut tx, log, &mut check)).await?;
            let head: LastSeq = tx.row(HEAD, &[]).await?;
            verified.push(check.finish(next.is_none().then_some(head.seq)));
        }
        // A log that others know of and that is not there at all.
        let is_lost = |known: &&Checkpoint| {
            known.origin.contains(&tenant.id.to_string()) && logs.iter().all(|log| log.origin != known.origin)
        };
        verified
            .extend(noted.iter().chain(kept).find(is_lost).map(|known| VerifiedLog::lost(tenant.id, known)));
        Ok(verified)
    }

    async fn begin_check(
        &self,
        tx: &mut TenantTx<'_>,
        (tenant, log): (TenantId, &SealedLog),
        is_open: bool,
    ) -> Result<LogCheck> {
        let mut check = LogCheck::new(tenant, log, self.keys.open(&log.note), is_open);
        let next: Option<NotedHead> = tx.optional(OPENING, &[&(log.log + 1)]).await?;
        next.iter().for_each(|next| check.continued_by(&next.entry));
        let removals: Vec<SizedNote> = tx.rows(REMOVALS, &[&log.log]).await?;
        let checkpoints: Vec<SizedNote> = tx.rows(CHECKPOINTS, &[&log.log]).await?;
        for SizedNote { size, note } in &removals {
            check.knows_removal(unsigned(*size), open_removal(note, self.keys.public()).ok());
        }
        for SizedNote { size, note } in &checkpoints {
            check.knows_note(unsigned(*size), self.keys.open(note));
        }
        Ok(check)
    }

    /// Writes what an auditor takes along into a folder that does not exist yet; how many entries.
    ///
    /// # Errors
    /// `Exit::Unavailable` where it cannot be written, or the database does not answer.
    pub async fn export(
        &self,
        tenant: &AuditedTenant,
        folder: &Path,
        rng: &dyn Rng,
    ) -> Result<u64, StartError> {
        let unwritten = |error: std::io::Error| {
            StartError::new(Exit::Unavailable, format!("{}: {error}", folder.display())).because(error)
        };
        let unread =
            |error: Error| StartError::new(Exit::Unavailable, "The audit log cannot be read").because(error);
        let mut random = [0; 8];
        rng.fill(&mut random);
        let mut export = AuditExport::begin(folder, u64::from_le_bytes(random)).map_err(unwritten)?;
        let mut written = 0;
        let mut tx = self.session.begin().snapshot().within(tenant.id).await.map_err(unread)?;
        let logs: Vec<SealedLog> = tx.rows(LOGS, &[]).await.map_err(unread)?;
        for log in &logs {
            let removals: Vec<SizedNote> = tx.rows(REMOVALS, &[&log.log]).await.map_err(unread)?;
            let removals: Vec<String> = removals.into_iter().map(|removal| removal.note).collect();
            export.log(log, &removals, self.keys.public()).map_err(unwritten)?;
            let mut index = 0;
            while index < log.size {
                let page = entries(&mut tx, log, index).await.map_err(unread)?;
                if page.is_empty() {
                    break; // what is missing is found by who verifies
                }
                for found in page.iter().filter(|found| found.index < log.size) {
                    export.entry(&found.leaf, found.entry.as_deref()).map_err(unwritten)?;
                    written += 1;
                }
                index = page.last().map_or(log.size, |last| last.index + 1);
            }
        }
        export.finish(self.keys.public()).map_err(unwritten)?;
        Ok(written)
    }

    /// Opens a new log for a tenant, whose first entry holds the last checkpoint of the one before: that which is stored, or one that
    /// somebody has kept, where the database is an older one. Its name.
    ///
    /// # Errors
    /// As the database answers; `core.wrong_state` where there is no log yet.
    pub async fn reopen(
        &self,
        tenant: &AuditedTenant,
        why: &str,
        kept: Option<&Checkpoint>,
    ) -> Result<String> {
        let mut tx = self.within(tenant).await?;
        let last: Option<SealedLog> = tx.optional(LAST, &[]).await?;
        let last = last
            .ok_or_else(|| Error::new(&codes::WRONG_STATE).detail("Nothing of the tenant is sealed yet."))?;
        let stored = self.keys.open(&last.note).map_err(Error::internal)?;
        let previous = kept.unwrap_or(&stored);
        let (log, first) = (last.log + 1, last.first_seq + last.size - 1);
        let name = origin(&self.config, tenant.id, log);
        let entry = entry::opening(tenant.id, &name, first, Some((previous, why)));
        let leaf = leaf_hash(entry.as_bytes());
        let note = self.keys.sign(&Checkpoint { origin: name.clone(), size: 1, root: leaf });
        let leaf = leaf.as_slice();
        let _: Vec<()> = tx.rows(CLOSE, &[&last.log]).await?;
        let params: [&(dyn ToSql + Sync); 7] =
            [&log, &name, &first, &leaf, &entry, &note, &self.keys.fingerprint()];
        let _: Vec<OpenedLog> = tx.rows(REOPEN, &params).await?;
        tx.audit(&AuditEntry {
            action: "audit.log_reopened",
            resource: "audit_log",
            resource_id: Some(name.clone()),
            outcome: "success",
            details: json!({ "why": why, "previous": previous.origin, "size": previous.size }),
        })?;
        tx.commit().await?;
        Ok(name)
    }

    /// A report on a tenant; none where there is none of that name.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn report(
        &self,
        tenant: &AuditedTenant,
        name: &str,
        scope: &ReportScope,
    ) -> Result<Option<MadeReport>> {
        let Some(report) = report(name) else { return Ok(None) };
        let mut tx = self.within(tenant).await?;
        report.make(&mut tx, scope).await.map(Some)
    }

    /// What rules find in the whole log of a tenant.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn replay(&self, tenant: &AuditedTenant, rules: &AnomalyRules) -> Result<ReplayReport> {
        let mut watch = AnomalyWatch::new(rules, None).map_err(Error::internal)?;
        let (mut place, mut events) = ((START, 0_i64), 0);
        loop {
            let tx = self.within(tenant).await?.last();
            let page: Vec<WatchedEvent> = tx.rows(WATCHED, &[&place.0, &place.1, &PAGE]).await?;
            let Some(last) = page.last() else { break };
            place = (last.at, last.seq);
            events += page.len() as u64;
            page.iter().for_each(|event| watch.push(event));
        }
        Ok(ReplayReport { events, alerts: watch.take_alerts(), score: None, labels: BTreeMap::new() })
    }

    async fn within(&self, tenant: &AuditedTenant) -> Result<TenantTx<'_>> {
        self.session.within(tenant.id).await
    }
}

/// Reads entries and rows side by side, so that the memory that it takes does not grow with their number.
async fn read_all(tx: &mut TenantTx<'_>, log: &SealedLog, check: &mut LogCheck) -> Result<()> {
    let (mut index, mut after) = (Some(0_i64), Some((START, 0_i64)));
    while index.is_some() || after.is_some() {
        if let Some(from) = index {
            let page = entries(tx, log, from).await?;
            index = page.last().filter(|_| page.len() as i64 == PAGE).map(|last| last.index + 1);
            page.into_iter().for_each(|found| check.entry(unsigned(found.index), &found.leaf, found.entry));
        }
        if let Some((at, seq)) = after {
            let page: Vec<AuditRow> = tx.rows(ROWS, &[&at, &seq, &PAGE]).await?;
            after = page.last().filter(|_| page.len() as i64 == PAGE).map(|last| (last.at, last.seq));
            page.into_iter().for_each(|row| check.row(row));
        }
    }
    let (mut level, mut index) = (-1_i16, 0_i64);
    loop {
        let page: Vec<TileSum> = tx.rows(TILES, &[&log.log, &level, &index, &PAGE]).await?;
        let Some(last) = page.last() else { return Ok(()) };
        (level, index) = (last.level, last.index);
        for tile in &page {
            let place =
                TilePlace { level: u8::try_from(tile.level).unwrap_or(u8::MAX), index: unsigned(tile.index) };
            check.tile(place, &tile.root, &tile.sum);
        }
    }
}

async fn entries(tx: &mut TenantTx<'_>, log: &SealedLog, from: i64) -> Result<Vec<SealedEntry>> {
    tx.rows(ENTRIES, &[&log.log, &from, &PAGE]).await
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
