//! Verifies a log: its entries are hashed anew, the tree is built anew, its roots are compared with all that were signed, and each
//! entry with the row of today. What is wrong is told with the first entry that it concerns.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use super::entry::{self, AuditRow, ReadEntry};
use super::note::{Checkpoint, EntryRemoval, NoteFault};
use super::proof::SealedLog;
use super::tree::{TILE_WIDTH, TilePlace, TreeEdge, TreeHash, leaf_hash, root_over};
use crate::shared::TenantId;

/// Findings beyond these are counted only.
const MOST_FINDINGS: usize = 100;

/// Something that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditFinding {
    /// The first entry that it concerns; the row with the number `seq` became it.
    pub index: u64,
    /// The number of that row.
    pub seq: i64,
    /// Its kind: `entry_changed`, `entry_missing`, `entry_moved`, `entry_added`, `entry_unreadable`, `removal_unsigned`,
    /// `row_changed`, `row_missing`, `row_added`, `row_missing_before_sealing`, `tree_changed`, `checkpoint_forged`,
    /// `history_changed`, `log_shrunk`, `head_set_back`.
    pub what: &'static str,
    /// The same for people.
    pub detail: String,
}

/// What was found in one log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedLog {
    /// Its name.
    pub origin: String,
    /// How many entries its checkpoint covers.
    pub size: u64,
    /// Entries whose bytes were looked at.
    pub entries: u64,
    /// Entries whose bytes were removed, which is signed.
    pub removed: u64,
    /// Checkpoints with which the tree was compared.
    pub checkpoints: u64,
    /// Entries that were lost in a restore, as the log after it says.
    pub lost: u64,
    /// Rows that are not sealed yet.
    pub unsealed: u64,
    /// What is wrong, in the order of the entries.
    pub findings: Vec<AuditFinding>,
    /// Findings beyond the first hundred.
    pub further_findings: u64,
}

impl VerifiedLog {
    /// A log that is not there, and that somebody knows.
    pub fn lost(tenant: TenantId, known: &Checkpoint) -> Self {
        let detail =
            format!("The log of the tenant {tenant} is gone, and {} entries of it were noted", known.size);
        let finding = AuditFinding { index: 0, seq: 1, what: "log_shrunk", detail };
        Self {
            origin: known.origin.clone(),
            size: 0,
            entries: 0,
            removed: 0,
            checkpoints: 0,
            lost: 0,
            unsealed: 0,
            findings: vec![finding],
            further_findings: 0,
        }
    }

    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A log that is being verified: it is given all entries in order, all rows, and what is known of its past.
pub struct LogCheck {
    tenant: TenantId,
    origin: String,
    /// The row that entry 1 is made of.
    first_seq: i64,
    /// How many entries the checkpoint covers.
    size: u64,
    is_open: bool,
    /// How many entries beyond its size were lost in a restore.
    lost: u64,
    /// Why its own checkpoint is not believed.
    forged: Option<String>,
    edge: TreeEdge,
    /// Hashes of tiles that are not whole yet, by level.
    begun: Vec<Vec<TreeHash>>,
    tiles: BTreeMap<TilePlace, (TreeHash, TreeHash)>,
    /// Roots that were signed or noted, by size, each with who says so.
    known: BTreeMap<u64, Vec<(TreeHash, String)>>,
    /// The size up to which a known root agreed.
    agreed: u64,
    removals: Vec<EntryRemoval>,
    entries: u64,
    removed: u64,
    checkpoints: u64,
    /// Entries and rows whose counterpart has not come yet, by number.
    entries_alone: BTreeMap<i64, String>,
    rows_alone: BTreeMap<i64, AuditRow>,
    unsealed: BTreeSet<i64>,
    findings: Vec<AuditFinding>,
    further: u64,
}

impl LogCheck {
    /// A check of a log of a tenant, with its checkpoint as it was read; nothing follows after an open one.
    pub fn new(
        tenant: TenantId,
        log: &SealedLog,
        opened: Result<Checkpoint, NoteFault>,
        is_open: bool,
    ) -> Self {
        let mut check = Self {
            tenant,
            origin: log.origin.clone(),
            first_seq: log.first_seq,
            size: u64::try_from(log.size).unwrap_or_default(),
            is_open,
            lost: 0,
            forged: None,
            edge: TreeEdge::default(),
            begun: Vec::new(),
            tiles: BTreeMap::new(),
            known: BTreeMap::new(),
            agreed: 0,
            removals: Vec::new(),
            entries: 0,
            removed: 0,
            checkpoints: 0,
            entries_alone: BTreeMap::new(),
            rows_alone: BTreeMap::new(),
            unsealed: BTreeSet::new(),
            findings: Vec::new(),
            further: 0,
        };
        match opened {
            Ok(own) if own.origin == check.origin && own.size == check.size => {
                check.knows(&own, "its checkpoint");
            }
            Ok(_) => check.forged = Some("Its checkpoint is one of another log or size".to_owned()),
            Err(fault) => check.forged = Some(format!("Its checkpoint cannot be believed: {fault}")),
        }
        check
    }

    /// The number of the last row that is sealed.
    pub fn last_seq(&self) -> i64 {
        self.seq(self.size.saturating_sub(1))
    }

    /// How many entries have been looked at.
    pub fn looked_at(&self) -> u64 {
        self.edge.size()
    }

    /// Takes the first entry of the log that continues this one, which says at which size it was left.
    pub fn continued_by(&mut self, opening: &str) {
        let previous = entry::previous(opening).filter(|previous| previous.origin == self.origin);
        self.lost = previous.map_or(0, |previous| previous.size.saturating_sub(self.size));
    }

    /// Notes what the tree has to agree with, and who says so.
    pub fn knows(&mut self, checkpoint: &Checkpoint, who: &str) {
        if checkpoint.size > self.size + self.lost {
            let detail =
                format!("The log ends before entry {}, and {who} knows {}", self.size, checkpoint.size);
            self.find(self.size, "log_shrunk", detail);
        } else if checkpoint.size > 0 && checkpoint.size <= self.size {
            self.known.entry(checkpoint.size).or_default().push((checkpoint.root, who.to_owned()));
        }
    }

    /// Notes a checkpoint that was stored of this log.
    pub fn knows_note(&mut self, size: u64, opened: Result<Checkpoint, NoteFault>) {
        match opened {
            Ok(checkpoint) if checkpoint.origin == self.origin && checkpoint.size == size => {
                self.knows(&checkpoint, "an earlier checkpoint");
            }
            Ok(_) => {
                self.find(size, "checkpoint_forged", "A checkpoint of another log stands here".to_owned());
            }
            Err(NoteFault::UnknownKey) => {} // of a key that is no more known
            Err(fault) => {
                self.find(size, "checkpoint_forged", format!("A checkpoint cannot be believed: {fault}"));
            }
        }
    }

    /// Notes that the bytes of entries were removed, and that this is signed; none where the statement cannot be believed.
    pub fn knows_removal(&mut self, first: u64, removal: Option<EntryRemoval>) {
        match removal.filter(|removal| removal.origin == self.origin) {
            Some(removal) => self.removals.push(removal),
            None => self.find(
                first,
                "removal_unsigned",
                "The statement that entries were removed is not signed".to_owned(),
            ),
        }
    }

    /// Takes the next entry in the order of the index.
    pub fn entry(&mut self, index: u64, leaf: &[u8], entry: Option<String>) {
        while self.edge.size() < index.min(self.size) {
            let missing = self.edge.size();
            self.find(missing, "entry_missing", "The entry is not there any more".to_owned());
            self.grow([0; 32]);
        }
        if index >= self.size {
            return self.find(index, "entry_added", "The entry is beyond what was signed".to_owned());
        }
        let Ok(leaf) = TreeHash::try_from(leaf) else {
            return self.find(index, "entry_changed", "The hash of the entry is no hash".to_owned());
        };
        self.grow(leaf);
        let Some(entry) = entry else { return self.removed(index) };
        self.entries += 1;
        if leaf_hash(entry.as_bytes()) != leaf {
            self.find(
                index,
                "entry_changed",
                "The entry is not the one that was signed: its hash is another".to_owned(),
            );
        }
        self.read(index, entry);
    }

    /// Looks at what an entry says of itself, and keeps it until its row comes.
    fn read(&mut self, index: u64, entry: String) {
        let seq = self.seq(index);
        let Some(told) = ReadEntry::of(&entry) else {
            return self.find(index, "entry_unreadable", "The entry is no entry".to_owned());
        };
        if told.tenant != self.tenant.to_string() {
            return self.find(
                index,
                "entry_moved",
                format!("The entry is one of the tenant {}", told.tenant),
            );
        }
        match (told.kind.as_str(), told.seq) {
            ("opening", _) if index == 0 => {}
            ("event", Some(own)) if own == seq && index > 0 => self.pair_entry(seq, entry),
            ("missing", Some(own)) if own == seq && index > 0 => {
                self.find(
                    index,
                    "row_missing_before_sealing",
                    "The row had vanished before it was sealed".to_owned(),
                );
            }
            (_, own) => {
                let own = own.map_or("no row".to_owned(), |own| format!("row {own}"));
                self.find(index, "entry_moved", format!("In the place of row {seq} stands {own}"));
            }
        }
    }

    fn removed(&mut self, index: u64) {
        self.removed += 1;
        if !self.removals.iter().any(|removal| (removal.first..=removal.last).contains(&index)) {
            let detail = "The bytes of the entry were removed, and no signed statement says so".to_owned();
            self.find(index, "removal_unsigned", detail);
        }
    }

    /// Takes a row, in any order.
    pub fn row(&mut self, row: AuditRow) {
        let seq = row.seq;
        if seq > self.last_seq() {
            self.unsealed.extend(self.is_open.then_some(seq));
        } else if let Some(entry) = self.entries_alone.remove(&seq) {
            self.compare(&entry, &row);
        } else if seq >= self.first_seq {
            self.rows_alone.insert(seq, row);
        }
    }

    fn pair_entry(&mut self, seq: i64, entry: String) {
        match self.rows_alone.remove(&seq) {
            Some(row) => self.compare(&entry, &row),
            None => drop(self.entries_alone.insert(seq, entry)),
        }
    }

    fn compare(&mut self, entry: &str, row: &AuditRow) {
        if row.entry(self.tenant) != entry {
            let detail = "The row of today is not the one that was sealed".to_owned();
            self.find(self.index(row.seq), "row_changed", detail);
        }
    }

    /// Adds a leaf to the tree, and compares its root where one is known.
    fn grow(&mut self, leaf: TreeHash) {
        self.edge.push(leaf);
        let mut hash = leaf;
        for level in 0..8 {
            if self.begun.len() == level {
                self.begun.push(Vec::new());
            }
            self.begun[level].push(hash);
            if (self.begun[level].len() as u64) < TILE_WIDTH {
                break;
            }
            let whole = std::mem::take(&mut self.begun[level]);
            hash = root_over(&whole);
            let index = (self.edge.size() >> (8 * (level + 1))) - 1;
            let mut sum = [0; 32];
            sum.copy_from_slice(digest(&SHA256, &whole.concat()).as_ref());
            self.tiles
                .insert(TilePlace { level: u8::try_from(level).unwrap_or(u8::MAX), index }, (hash, sum));
        }
        self.agree();
    }

    fn agree(&mut self) {
        let size = self.edge.size();
        let Some(known) = self.known.remove(&size) else { return };
        let root = self.edge.root();
        self.checkpoints += known.len() as u64;
        match known.iter().find(|(expected, _)| *expected != root) {
            None => self.agreed = size,
            Some((_, who)) => {
                // Where an entry is known to be wrong, it is why.
                if !self.findings.iter().any(|finding| (self.agreed..size).contains(&finding.index)) {
                    let (first, last) = (self.agreed, size - 1);
                    let detail = format!(
                        "Of the entries {first} to {last} some are not those that {who} was signed over"
                    );
                    self.find(first, "history_changed", detail);
                }
            }
        }
    }

    /// Takes a tile as it is stored: its root, and the SHA-256 of its hashes.
    pub fn tile(&mut self, place: TilePlace, root: &[u8], sum: &[u8]) {
        let expected = self.tiles.remove(&place);
        if expected.is_none_or(|(expected, hashes)| expected != root || hashes != sum) {
            self.tile_is_wrong(place);
        }
    }

    fn tile_is_wrong(&mut self, place: TilePlace) {
        let first = place.index << (8 * (u32::from(place.level) + 1));
        if !self.findings.iter().any(|finding| finding.index >= first && finding.what.starts_with("entry")) {
            let detail = format!("Tile {} of level {} is not that of the entries", place.index, place.level);
            self.find(first, "tree_changed", detail);
        }
    }

    /// All entries, rows and tiles have been taken. `head` is the number of the tenant's last row, where the log is the open one.
    pub fn finish(mut self, head: Option<i64>) -> VerifiedLog {
        while self.edge.size() < self.size && self.findings.len() < MOST_FINDINGS {
            self.find(self.edge.size(), "entry_missing", "The entry is not there any more".to_owned());
            self.grow([0; 32]);
        }
        for seq in std::mem::take(&mut self.entries_alone).into_keys() {
            self.find(self.index(seq), "row_missing", "The row is not there any more".to_owned());
        }
        for seq in std::mem::take(&mut self.rows_alone).into_keys() {
            let index = self.index(seq);
            if !self.removals.iter().any(|removal| (removal.first..=removal.last).contains(&index)) {
                self.find(index, "row_added", "The row is none of those that were sealed".to_owned());
            }
        }
        for place in std::mem::take(&mut self.tiles).into_keys() {
            self.tile_is_wrong(place);
        }
        if let Some(why) = self.forged.take() {
            self.find(self.agreed, "checkpoint_forged", why);
        }
        self.unsealed_rows(head);
        self.findings.sort_by_key(|finding| finding.index);
        VerifiedLog {
            origin: self.origin,
            size: self.size,
            entries: self.entries,
            removed: self.removed,
            checkpoints: self.checkpoints,
            lost: self.lost,
            unsealed: self.unsealed.len() as u64,
            findings: self.findings,
            further_findings: self.further,
        }
    }

    /// Rows that are not sealed have numbers without gaps up to the head.
    fn unsealed_rows(&mut self, head: Option<i64>) {
        let Some(head) = head else { return };
        let last = self.last_seq();
        if head < last {
            let detail = format!("The head of the log was set back to {head}");
            self.find(self.index(head + 1), "head_set_back", detail);
        }
        for seq in (last + 1..=head)
            .filter(|seq| !self.unsealed.contains(seq))
            .take(MOST_FINDINGS)
            .collect::<Vec<_>>()
        {
            self.find(
                self.index(seq),
                "row_missing",
                "The row is not there any more, and was not sealed".to_owned(),
            );
        }
        for seq in self.unsealed.range(head + 1..).copied().collect::<Vec<_>>() {
            self.find(self.index(seq), "row_added", "The row has a number that was never given".to_owned());
        }
    }

    fn seq(&self, index: u64) -> i64 {
        self.first_seq + i64::try_from(index).unwrap_or(i64::MAX) - 1
    }

    fn index(&self, seq: i64) -> u64 {
        u64::try_from(seq - self.first_seq + 1).unwrap_or_default()
    }

    fn find(&mut self, index: u64, what: &'static str, detail: String) {
        let seq = self.seq(index);
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(AuditFinding { index, seq, what, detail });
        } else {
            self.further += 1;
        }
    }
}
