//! Searches a tenant's audit log, the newest row first, page by page.
//!
//! Rows that are sealed lie in blocks, whose filters tell which of them cannot hold what is asked for (`blocks.rs`); those since are
//! looked through one by one. What one page looks through is bounded: a page can have fewer rows than were asked for, or none, and
//! still say where the next one goes on.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::blocks::{BITS_OF_TERM, BLOCK, SearchTerm};
use crate::auth::ConcealedColumns;
use crate::db::{TenantTx, ToSql};
use crate::error::Result;
use crate::shared::LARGEST_EXACT;
use crate::{from_row, sql};

/// How many rows are looked through one by one for a page.
const MOST_ROWS: i64 = 16_384;
/// After every row.
const LATEST: Timestamp = Timestamp::constant(253_370_764_800, 0);

/// A row of the audit log.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// Its number, without gaps in the tenant.
    #[schemars(range(min = 1, max = LARGEST_EXACT))]
    pub seq: i64,
    /// When it was written.
    pub at: Timestamp,
    /// Who: the id of a person, a service account or a key, or `system:` and the work.
    #[schemars(example = &"0190163d-8694-739b-aea5-966c26f8ad91")]
    pub actor: String,
    /// What was done.
    #[schemars(example = &"item.updated")]
    pub action: String,
    /// To what kind of thing.
    #[schemars(example = &"item")]
    pub resource: String,
    /// To which one.
    pub resource_id: Option<String>,
    /// `success`, `failure` or `denied`.
    #[schemars(example = &"success")]
    pub outcome: String,
    /// The request or job that it belongs to.
    pub correlation_id: Option<String>,
    /// The client's address; its commitment where that was erased.
    pub client_ip: Option<String>,
    /// The fields that have changed, as they were.
    pub before: Option<Value>,
    /// The same, as they are since.
    pub after: Option<Value>,
    /// What else the event tells.
    pub details: Option<Value>,
}
from_row!(AuditEvent {
    seq,
    at,
    actor,
    action,
    resource,
    resource_id,
    outcome,
    correlation_id,
    client_ip,
    before,
    after,
    details
});

impl AuditEvent {
    /// Leaves out of what it tells the columns that its reader must not see.
    pub fn leave_out(&mut self, columns: &ConcealedColumns<'_>) {
        [&mut self.before, &mut self.after, &mut self.details]
            .into_iter()
            .flatten()
            .for_each(|values| columns.leave_out(values));
    }
}

impl AuditEvent {
    /// Its columns, for a statement on `audit_log`.
    pub const COLUMNS: &'static str = "seq, at, actor, action, resource, resource_id, outcome, correlation_id, client_ip, \
         before, after, details";
}

/// What is searched for; each part that is given narrows the search.
#[derive(Debug, Clone, Default)]
pub struct AuditSearch {
    /// Who.
    pub actor: Option<String>,
    /// Did what.
    pub action: Option<String>,
    /// To what kind of thing.
    pub resource: Option<String>,
    /// To which one.
    pub resource_id: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// And before.
    pub until: Option<Timestamp>,
    /// With this somewhere in its values, in any case: a pattern of LIKE.
    pub text: Option<String>,
}

/// A place in the log: the row with this number and time, before which a search goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPlace {
    /// The number.
    pub seq: i64,
    /// The time.
    pub at: Timestamp,
}

/// What a search has found.
#[derive(Debug)]
pub struct AuditEvents {
    /// The rows, the newest first.
    pub events: Vec<AuditEvent>,
    /// Where to go on; none at the end.
    pub next: Option<AuditPlace>,
}

/// How many blocks are looked into at a time: few at first, since much of what is asked for is frequent.
const LOOKS: [i64; 7] = [2, 8, 16, 16, 32, 64, 64];

/// What a row has to be; `$1` to `$6` are the parts of the search.
const CONDITION: &str = "($1::text is null or l.actor = $1) and ($2::text is null or l.action = $2) \
     and ($3::text is null or l.resource = $3) and ($4::text is null or l.resource_id = $4) \
     and ($5::text is null or l.outcome = $5) \
     and ($6::text is null or l.details::text ilike $6 or l.after::text ilike $6 or l.before::text ilike $6 \
       or l.resource_id ilike $6 or l.correlation_id ilike $6)";
/// The last row that is in a block, and its time.
const SEARCHABLE: &str = "select searchable as seq, \
     coalesce((select last_at from audit_blocks order by block desc limit 1), '1970-01-01') as at from audit_logs where is_open";
/// Rows one after the other: those that are younger than a row and a time, and older than another one.
const WALK: &str = "select * from audit_log where at <= $7 and seq < $8 and at >= $9 and seq > $10 order by at desc, seq desc limit $11";
const FOUND: &str = sql![
    "select ",
    AuditEvent::COLUMNS,
    " from (",
    WALK,
    ") l where ",
    CONDITION,
    " order by at desc, seq desc limit $12"
];
/// The last row of a walk that is as long as it may be.
const WALKED: &str = "select seq, at from audit_log where at <= $1 and seq < $2 and at >= $3 and seq > $4 \
     order by at desc, seq desc offset $5 limit 1";
/// Blocks that do not say no.
const CANDIDATES: &str = "select block, first_at, last_at from audit_blocks \
     where block <= $1 and first_at <= $2 and last_at >= $3 \
       and get_bit(filter, $4) = 1 and get_bit(filter, $5) = 1 and get_bit(filter, $6) = 1 and get_bit(filter, $7) = 1 \
       and get_bit(filter, $8) = 1 and get_bit(filter, $9) = 1 and get_bit(filter, $10) = 1 and get_bit(filter, $11) = 1 \
     order by block desc limit $12";
const IN_BLOCKS: &str = sql![
    "select ",
    AuditEvent::COLUMNS,
    " from unnest($11::bigint[], $12::timestamptz[], $13::timestamptz[]) b (block, first_at, last_at) \
     cross join lateral (select * from audit_log l where l.at >= b.first_at and l.at <= b.last_at \
       and l.seq > 256 * b.block and l.seq <= 256 * b.block + 256 and l.at <= $7 and l.seq < $8 and l.at >= $9 and ",
    CONDITION,
    " order by l.at desc, l.seq desc limit 256) found order by seq desc limit $10"
];

from_row!(AuditPlace { seq, at });

/// A block that may hold what is asked for.
struct CandidateBlock {
    block: i64,
    first_at: Timestamp,
    last_at: Timestamp,
}
from_row!(CandidateBlock { block, first_at, last_at });

impl AuditSearch {
    /// What blocks are asked for: the part that the fewest rows have.
    fn term(&self) -> Option<SearchTerm<'_>> {
        let Self { actor, action, resource, resource_id, .. } = self;
        match (resource_id.as_deref(), actor.as_deref(), action.as_deref(), resource.as_deref()) {
            (Some(id), ..) => Some(SearchTerm::ResourceId(id)),
            (_, Some(actor), Some(action), _) => Some(SearchTerm::ActorAction(actor, action)),
            (_, Some(actor), _, Some(resource)) => Some(SearchTerm::ActorResource(actor, resource)),
            (_, Some(actor), ..) => Some(SearchTerm::Actor(actor)),
            (_, _, Some(action), _) => Some(SearchTerm::Action(action)),
            (.., Some(resource)) => Some(SearchTerm::Resource(resource)),
            _ => None,
        }
    }

    fn parts(&self) -> [&(dyn ToSql + Sync); 6] {
        let Self { actor, action, resource, resource_id, outcome, text, .. } = self;
        [actor, action, resource, resource_id, outcome, text]
    }

    fn since(&self) -> Timestamp {
        self.since.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The place before which everything is older than `until`. Times of rows are whole microseconds.
    fn begin(&self) -> AuditPlace {
        let last = self.until.and_then(|until| until.checked_sub(SignedDuration::from_micros(1)).ok());
        AuditPlace { seq: i64::MAX, at: last.unwrap_or(LATEST) }
    }
}

/// Searches the log of the tenant from a place on, or from the newest row.
///
/// # Errors
/// As the database answers.
pub async fn search(
    tx: &mut TenantTx<'_>,
    search: &AuditSearch,
    from: Option<AuditPlace>,
    limit: usize,
) -> Result<AuditEvents> {
    let mut page =
        SearchPage { search, place: from.unwrap_or_else(|| search.begin()), limit, events: Vec::new() };
    let Some(term) = search.term() else {
        let oldest = AuditPlace { seq: 0, at: search.since() };
        let next = page.walk(tx, oldest).await?;
        return Ok(AuditEvents { events: page.events, next });
    };
    let searchable: Option<AuditPlace> = tx.optional(SEARCHABLE, &[]).await?;
    let edge = searchable.unwrap_or(AuditPlace { seq: 0, at: Timestamp::UNIX_EPOCH });
    let mut next = None;
    if page.place.seq > edge.seq {
        next = page.walk(tx, AuditPlace { seq: edge.seq, at: edge.at.max(search.since()) }).await?;
        page.place.seq = page.place.seq.min(edge.seq + 1);
    }
    if next.is_none() {
        next = page.look(tx, term).await?;
    }
    Ok(AuditEvents { events: page.events, next })
}

/// A page that is being filled, from its place backwards.
struct SearchPage<'a> {
    search: &'a AuditSearch,
    place: AuditPlace,
    limit: usize,
    events: Vec<AuditEvent>,
}

impl SearchPage<'_> {
    /// Looks through rows one by one, down to a place. Where to go on, if the page is full or has seen enough.
    async fn walk(&mut self, tx: &mut TenantTx<'_>, oldest: AuditPlace) -> Result<Option<AuditPlace>> {
        let (place, wanted) = (self.place, self.wanted());
        let mut params = self.search.parts().to_vec();
        params.extend([
            &place.at as &(dyn ToSql + Sync),
            &place.seq,
            &oldest.at,
            &oldest.seq,
            &MOST_ROWS,
            &wanted,
        ]);
        let found: Vec<AuditEvent> = tx.rows(FOUND, &params).await?;
        if let Some(next) = self.take(found) {
            return Ok(Some(next));
        }
        let last = MOST_ROWS - 1;
        tx.optional(WALKED, &[&place.at, &place.seq, &oldest.at, &oldest.seq, &last]).await
    }

    /// Looks into blocks that may hold the term. Where to go on, if the page is full or has seen enough.
    async fn look(&mut self, tx: &mut TenantTx<'_>, term: SearchTerm<'_>) -> Result<Option<AuditPlace>> {
        for blocks in LOOKS {
            let candidates = self.candidates(tx, term, blocks).await?;
            let found = self.in_blocks(tx, &candidates).await?;
            if let Some(next) = self.take(found) {
                return Ok(Some(next));
            }
            match candidates.last() {
                Some(last) if candidates.len() as i64 == blocks => {
                    let at = self.place.at.min(last.last_at);
                    self.place = AuditPlace { seq: BLOCK * last.block + 1, at };
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(self.place))
    }

    async fn candidates(
        &self,
        tx: &mut TenantTx<'_>,
        term: SearchTerm<'_>,
        blocks: i64,
    ) -> Result<Vec<CandidateBlock>> {
        let (block, since) = ((self.place.seq - 2).div_euclid(BLOCK), self.search.since());
        let bits: [i64; BITS_OF_TERM] = term.bits();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&block, &self.place.at, &since];
        params.extend(bits.iter().map(|bit| bit as &(dyn ToSql + Sync)));
        params.push(&blocks);
        tx.rows(CANDIDATES, &params).await
    }

    async fn in_blocks(&self, tx: &mut TenantTx<'_>, blocks: &[CandidateBlock]) -> Result<Vec<AuditEvent>> {
        if blocks.is_empty() {
            return Ok(Vec::new());
        }
        let (since, wanted) = (self.search.since(), self.wanted());
        let numbers: Vec<i64> = blocks.iter().map(|block| block.block).collect();
        let begins: Vec<Timestamp> = blocks.iter().map(|block| block.first_at).collect();
        let ends: Vec<Timestamp> = blocks.iter().map(|block| block.last_at).collect();
        let mut params = self.search.parts().to_vec();
        params.extend([
            &self.place.at as &(dyn ToSql + Sync),
            &self.place.seq,
            &since,
            &wanted,
            &numbers,
            &begins,
            &ends,
        ]);
        tx.rows(IN_BLOCKS, &params).await
    }

    /// How many rows are still wanted, and one more, which tells whether there are more.
    fn wanted(&self) -> i64 {
        self.limit.saturating_sub(self.events.len()) as i64 + 1
    }

    /// Adds what was found; the place of the last row where the page is full and there is more.
    fn take(&mut self, found: Vec<AuditEvent>) -> Option<AuditPlace> {
        self.events.extend(found);
        let is_full = self.events.len() > self.limit;
        self.events.truncate(self.limit);
        self.events.last().filter(|_| is_full).map(|last| AuditPlace { seq: last.seq, at: last.at })
    }
}
