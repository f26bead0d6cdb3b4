//! What takes checkpoints out of reach: those of all tenants are noted in the log of the platform, and that log's checkpoints leave
//! the machine.
//!
//! A tenant's checkpoint is a row of the platform's audit log, so that it is sealed as any other row. The platform's checkpoints wait
//! in `audit_checkpoints` until the witness has taken them, a day's at most. What the witness knows is compared with what is stored
//! before anything is signed: after a restore it knows more, and nothing is sealed until an operator opens new logs.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::entry::HEAD_ACTION;
use super::note::{AuditKeys, Checkpoint};
use super::proof::{SealedLog, open_log};
use super::sealer::Sealer;
use super::store::StoredTree;
use super::tree::ProofPlan;
use crate::config::WitnessUrl;
use crate::error::{Error, Result};
use crate::logging::Severity;
use crate::outbound::Destination;
use crate::shared::TenantId;
use crate::{from_row, security_event};

/// Most checkpoints that wait for the witness: a day's, one a minute.
const MOST_WAITING: i64 = 1440;
/// Most of them that are told at a time.
const AT_ONCE: i64 = 100;
/// How long the witness may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A file of notes is read from so far before its end.
const TAIL: u64 = 64 * 1024;

/// Why nothing is sealed.
const ANOTHER_PAST: &str = "the witness knows another past";

/// Logs whose checkpoint is not in the platform's log yet.
const NEW_HEADS: &str = "select tenant_id, log, origin, size, note from audit_logs \
     where is_open and size > noted_size and tenant_id <> $1 order by tenant_id limit 1000";
/// One row for each, in one order on all instances.
const NOTE_HEADS: &str = "select app.audit($1, 'audit_log', t.tenant, details => \
       jsonb_build_object('origin', t.origin, 'size', t.size, 'root', t.root)) as seq \
     from unnest($2::text[], $3::text[], $4::text[], $5::text[]) t (tenant, origin, size, root)";
const NOTED: &str = "with noted as ( \
       insert into audit_checkpoints (tenant_id, log, size, note) \
       select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[]) on conflict do nothing \
     ) \
     update audit_logs l set noted_size = n.size from unnest($1::uuid[], $2::int[], $3::bigint[]) n (tenant_id, log, size) \
     where l.tenant_id = n.tenant_id and l.log = n.log and l.noted_size < n.size returning l.size";
/// The platform's checkpoint waits, unless it does already; and of too many the oldest are dropped.
const WAIT: &str = "with mine as ( \
       insert into audit_checkpoints (log, size, note, witness) select log, size, note, 'waits' from audit_logs \
       where is_open and note is not null and size > noted_size on conflict do nothing \
     ) \
     update audit_checkpoints c set witness = 'dropped' where c.witness = 'waits' and (c.log, c.size) in ( \
       select w.log, w.size from audit_checkpoints w where w.witness = 'waits' order by w.log desc, w.size desc offset $1) \
     returning c.size";
const WAITING: &str = "select c.log, c.size, c.note, l.noted_size, extract(epoch from clock_timestamp() - c.noted_at)::float8 as age \
     from audit_checkpoints c join audit_logs l on l.log = c.log \
     where c.witness = 'waits' order by c.log, c.size limit $1 for update of l skip locked";
const TOLD: &str = "with told as (update audit_checkpoints set witness = 'told' where log = $1 and size = any ($2)) \
     update audit_logs set noted_size = greatest(noted_size, $3) where log = $1 returning size";

struct NewHead {
    tenant_id: TenantId,
    log: i32,
    size: i64,
    note: String,
}
from_row!(NewHead { tenant_id, log, size, note });

struct NotedSeq {
    #[allow(dead_code, reason = "they are counted")]
    seq: i64,
}
from_row!(NotedSeq { seq });

struct NotedSize {
    #[allow(dead_code, reason = "they are counted")]
    size: i64,
}
from_row!(NotedSize { size });

struct WaitingNote {
    log: i32,
    size: i64,
    note: String,
    noted_size: i64,
    age: f64,
}
from_row!(WaitingNote { log, size, note, noted_size, age });

/// What came of telling the witness.
enum WitnessAnswer {
    Told,
    /// It knows a log of this size, which is not the one that it was said to know.
    Knows(u64),
    /// It knows another past.
    Refused,
}

impl Sealer {
    /// Notes the checkpoints of tenants in the platform's log, seals that, and tells the witness.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn anchor(&mut self) -> Result<()> {
        while self.note_heads().await? > 0 {}
        self.seal_all().await?;
        let Some(witness) = self.app.config.audit.witness_url.clone() else { return Ok(()) };
        let mut tx = self.begin().within(TenantId::PLATFORM).await?;
        let dropped: Vec<NotedSize> = tx.rows(WAIT, &[&MOST_WAITING]).await?;
        self.count("dropped", dropped.len());
        tx.commit().await?;
        self.tell_waiting(&witness).await
    }

    /// Notes up to a thousand checkpoints; how many.
    async fn note_heads(&self) -> Result<usize> {
        let heads: Vec<NewHead> = self.begin().last().rows(NEW_HEADS, &[&TenantId::PLATFORM]).await?;
        let read = |head: &NewHead| self.keys.open(&head.note).ok();
        let heads: Vec<(NewHead, Checkpoint)> =
            heads.into_iter().filter_map(|head| read(&head).map(|read| (head, read))).collect();
        if heads.is_empty() {
            return Ok(0);
        }
        let texts = |of: fn(&(NewHead, Checkpoint)) -> String| heads.iter().map(of).collect::<Vec<String>>();
        let tenants = texts(|(head, _)| head.tenant_id.to_string());
        let origins = texts(|(_, read)| read.origin.clone());
        let sizes = texts(|(_, read)| read.size.to_string());
        let roots = texts(|(_, read)| BASE64_STANDARD.encode(read.root));
        let tx = self.begin().within(TenantId::PLATFORM).await?.last();
        let _: Vec<NotedSeq> =
            tx.rows(NOTE_HEADS, &[&HEAD_ACTION, &tenants, &origins, &sizes, &roots]).await?;
        let ids: Vec<Uuid> = heads.iter().map(|(head, _)| *head.tenant_id.as_uuid()).collect();
        let logs: Vec<i32> = heads.iter().map(|(head, _)| head.log).collect();
        let sizes: Vec<i64> = heads.iter().map(|(head, _)| head.size).collect();
        let notes: Vec<&str> = heads.iter().map(|(head, _)| head.note.as_str()).collect();
        let noted: Vec<NotedSize> = self.begin().last().rows(NOTED, &[&ids, &logs, &sizes, &notes]).await?;
        Ok(noted.len())
    }

    async fn tell_waiting(&mut self, witness: &WitnessUrl) -> Result<()> {
        let mut tx = self.begin().within(TenantId::PLATFORM).await?;
        let waiting: Vec<WaitingNote> = tx.rows(WAITING, &[&AT_ONCE]).await?;
        let (mut told, mut age, mut known, mut halt) = (Vec::new(), 0.0, None, None);
        for note in &waiting {
            let old = known.unwrap_or(number_of(note.noted_size));
            let answer = self.tell_one(witness, note, old).await;
            match answer {
                Ok(WitnessAnswer::Told) => {
                    known = Some(number_of(note.size));
                    halt = Some(None);
                    told.push((note.log, note.size));
                }
                Ok(WitnessAnswer::Knows(_) | WitnessAnswer::Refused) => {
                    self.count("refused", 1);
                    security_event!(
                        Severity::Critical,
                        "The witness knows another past of the audit log: nothing is sealed"
                    );
                    halt = Some(Some(ANOTHER_PAST));
                    age = note.age;
                    break;
                }
                Err(error) => {
                    self.count("failed", 1);
                    tracing::warn!(error, "The witness of the audit log cannot be told");
                    age = note.age;
                    break;
                }
            }
        }
        self.app.metrics.audit_anchor_age_seconds.with(&[]).set(age);
        self.count("told", told.len());
        let logs: std::collections::BTreeSet<i32> = told.iter().map(|(log, _)| *log).collect();
        for log in logs {
            let sizes: Vec<i64> = told.iter().filter(|(of, _)| *of == log).map(|(_, size)| *size).collect();
            let last = sizes.iter().max().copied().unwrap_or_default();
            let _: Vec<NotedSize> = tx.rows(TOLD, &[&log, &sizes, &last]).await?;
        }
        tx.commit().await?;
        if let Some(halt) = halt {
            self.halt(halt);
        }
        Ok(())
    }

    async fn tell_one(
        &self,
        witness: &WitnessUrl,
        note: &WaitingNote,
        old: u64,
    ) -> Result<WitnessAnswer, String> {
        match witness {
            WitnessUrl::File(path) => append(path, &note.note).map(|()| WitnessAnswer::Told),
            WitnessUrl::Syslog(host, port) => {
                syslog(host, *port, &note.note).await.map(|()| WitnessAnswer::Told)
            }
            WitnessUrl::Http(url) => {
                let answer = self.post(url, note, old).await?;
                match answer {
                    // It knows less, or nothing: what it was told was lost.
                    WitnessAnswer::Knows(size) if size <= number_of(note.size) && size != old => {
                        self.post(url, note, size).await
                    }
                    answer => Ok(answer),
                }
            }
        }
    }

    /// Posts a checkpoint as C2SP tlog-witness has it.
    async fn post(&self, url: &str, note: &WaitingNote, old: u64) -> Result<WitnessAnswer, String> {
        let size = number_of(note.size);
        let proof =
            if old == 0 || old >= size { Vec::new() } else { self.consistency(note.log, old, size).await? };
        let proof: String = proof.iter().map(|hash| format!("{}\n", BASE64_STANDARD.encode(hash))).collect();
        let body = format!("old {old}\n{proof}\n{}", note.note);
        let destination = Destination::new("audit-witness", url).map_err(|fault| fault.what.into_owned())?;
        let request = self.app.outbound.post(&self.trace, destination.at("/add-checkpoint"));
        let sent = request
            .body("text/plain", body)
            .within(PATIENCE)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        match sent.status.as_u16() {
            200..=299 => Ok(WitnessAnswer::Told),
            409 => {
                let known = std::str::from_utf8(&sent.body).ok().and_then(|text| text.trim().parse().ok());
                Ok(known.map_or(WitnessAnswer::Refused, WitnessAnswer::Knows))
            }
            422 => Ok(WitnessAnswer::Refused),
            status => Err(format!("the witness has answered with {status}")),
        }
    }

    async fn consistency(&self, log: i32, old: u64, size: u64) -> Result<Vec<[u8; 32]>, String> {
        let prove = async {
            let mut tx = self.begin().within(TenantId::PLATFORM).await?;
            StoredTree { log, size }.proof(&mut tx, &ProofPlan::consistency(old, size)).await
        };
        prove.await.map_err(|error: Error| error.to_string())
    }

    /// Asks the witness what it knows, before anything is signed; whether it has answered.
    pub(super) async fn ask_witness(&mut self) -> Result<bool> {
        let Some(witness) = self.app.config.audit.witness_url.clone() else { return Ok(true) };
        let log = open_log(&mut self.begin().within(TenantId::PLATFORM).await?).await?;
        let why = match &witness {
            WitnessUrl::Syslog(..) => None,
            WitnessUrl::File(path) => self.judge_file(path, log.as_ref()).await?,
            WitnessUrl::Http(_) => {
                let Some(SealedLog { log, size, note, .. }) = log else { return Ok(true) };
                let noted = WaitingNote { log, size, note, noted_size: size, age: 0.0 };
                match self.tell_one(&witness, &noted, number_of(size)).await {
                    Ok(WitnessAnswer::Told) => None,
                    Ok(WitnessAnswer::Knows(_) | WitnessAnswer::Refused) => Some(ANOTHER_PAST),
                    Err(error) => {
                        tracing::warn!(error, "The witness of the audit log does not say what it knows");
                        return Ok(false);
                    }
                }
            }
        };
        self.halt(why);
        Ok(true)
    }

    /// Whether the platform's log is what a file of notes says that it was; else why not.
    async fn judge_file(&self, path: &Path, log: Option<&SealedLog>) -> Result<Option<&'static str>> {
        let Some(log) = log else {
            let knows = last_note(path, &self.keys, None).is_some();
            return Ok(knows.then_some("the witness knows a log of the platform, and the database has none"));
        };
        let Some(known) = last_note(path, &self.keys, Some(log)) else { return Ok(None) };
        if known.size > number_of(log.size) {
            return Ok(Some("the witness knows a longer log of the platform: the database is an older one"));
        }
        let mut tx = self.begin().within(TenantId::PLATFORM).await?;
        let root = StoredTree { log: log.log, size: known.size }.root(&mut tx).await?;
        Ok((root != known.root).then_some("the witness knows another log of the platform"))
    }

    fn count(&self, outcome: &'static str, times: usize) {
        self.app.metrics.audit_anchors_total.with(&[outcome]).add(times as u64);
    }
}

fn number_of(size: i64) -> u64 {
    u64::try_from(size).unwrap_or_default()
}

/// Appends a note; a line without text ends it.
fn append(path: &Path, note: &str) -> Result<(), String> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(format!("{note}\n").as_bytes())?;
        file.sync_data()
    };
    write().map_err(|error| format!("{}: {error}", path.display()))
}

/// The last note in a file that one of the keys has signed: of this log, or of any.
pub(crate) fn last_note(path: &Path, keys: &AuditKeys, log: Option<&SealedLog>) -> Option<Checkpoint> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // A note is its text, an empty line, its signatures, and the empty line that ends it.
    let parts: Vec<&str> = text.split("\n\n").collect();
    let notes = parts.windows(2).filter_map(|pair| {
        let opened = keys.open(&format!(
            "{}\n\n{}\n",
            pair[0].trim_start_matches('\n'),
            pair[1].trim_end_matches('\n')
        ));
        opened.ok().filter(|read| log.is_none_or(|log| log.origin == read.origin))
    });
    notes.max_by_key(|read| read.size)
}

/// Sends a note as one message of RFC 5424, with its length before it (RFC 6587).
async fn syslog(host: &str, port: u16, note: &str) -> Result<(), String> {
    let send = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        // 110: facility 13, which is the audit log's; informational.
        let message =
            format!("<110>1 - - erp-backend - audit-checkpoint - {}", note.trim_end().replace('\n', "\\n"));
        stream.write_all(format!("{} {message}", message.len()).as_bytes()).await?;
        stream.shutdown().await
    };
    match tokio::time::timeout(PATIENCE, send).await {
        Ok(sent) => sent.map_err(|error| format!("{host}:{port}: {error}")),
        Err(_) => Err(format!("{host}:{port}: no answer within {} s", PATIENCE.as_secs())),
    }
}
