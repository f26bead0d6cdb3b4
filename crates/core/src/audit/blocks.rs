//! What makes the audit log searchable: a Bloom filter for each block of 256 rows, which says who and what is **not** in them.
//!
//! The filters are written when rows are sealed, so that a transaction that is audited pays nothing for being found. A search asks
//! them for one term, the newest block first, and reads the rows of those blocks only that do not say no
//! ([decision 0054](../../../../../docs/decisions/0054-search-of-the-audit-log.md)).

use std::collections::HashSet;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

use super::sealer::Sealer;
use crate::db::{TenantTx, ToSql};
use crate::error::Result;
use crate::from_row;
use crate::shared::TenantId;

/// How many rows a block has: those of a tile.
pub(super) const BLOCK: i64 = 256;
/// How many bits a filter has: 16 for each of about 500 terms that a block holds, so that one of 1,700 says maybe and means no.
const BITS: usize = 8192;
/// How many bits a term sets. `audit/search.rs` names each in its statement.
pub(super) const BITS_OF_TERM: usize = 8;
/// How many blocks one transaction writes.
const BATCH: i64 = 64;

/// Tenants that have a block's worth of rows which are sealed and not searchable yet.
const LOOK: &str =
    "select tenant_id from audit_logs where is_open and first_seq + size - 2 - searchable >= 256";
const OPEN: &str = "select searchable, first_seq + size - 2 as sealed, \
     (select last_at from audit_blocks where block < l.searchable / 256 order by block desc limit 1) as last_at \
     from audit_logs l where is_open for update skip locked";
/// Rows in the order of the key: `at` does not decrease within a tenant.
const FRESH: &str = "select seq, at, actor, action, resource, resource_id from audit_log \
     where at >= $3 and seq > $1 and seq <= $2 order by at, seq limit $2 - $1";
/// The same, wherever they are.
const WHEREVER: &str = "select seq, at, actor, action, resource, resource_id from audit_log \
     where seq > $1 and seq <= $2 order by seq";
const WRITE: &str = "with blocks as ( \
       insert into audit_blocks (block, first_at, last_at, filter) \
       select * from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::bytea[]) on conflict do nothing \
     ) \
     update audit_logs set searchable = $5 where is_open returning tenant_id";

struct UnsearchableTenant {
    tenant_id: TenantId,
}
from_row!(UnsearchableTenant { tenant_id });

struct SearchableRows {
    searchable: i64,
    sealed: i64,
    last_at: Option<Timestamp>,
}
from_row!(SearchableRows { searchable, sealed, last_at });

/// A row, as far as it is found by its terms.
struct TermedRow {
    seq: i64,
    at: Timestamp,
    actor: String,
    action: String,
    resource: String,
    resource_id: Option<String>,
}
from_row!(TermedRow { seq, at, actor, action, resource, resource_id });

/// What a row is found by: who has done it, what was done, to what, and two pairs of these that are asked for together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SearchTerm<'a> {
    Actor(&'a str),
    Action(&'a str),
    Resource(&'a str),
    ResourceId(&'a str),
    ActorAction(&'a str, &'a str),
    ActorResource(&'a str, &'a str),
}

impl SearchTerm<'_> {
    /// The bits that the term sets: the first of its SHA-256, 13 each.
    pub(super) fn bits(self) -> [i64; BITS_OF_TERM] {
        let (kind, one, other) = match self {
            Self::Actor(actor) => ("actor", actor, ""),
            Self::Action(action) => ("action", action, ""),
            Self::Resource(resource) => ("resource", resource, ""),
            Self::ResourceId(id) => ("id", id, ""),
            Self::ActorAction(actor, action) => ("actor action", actor, action),
            Self::ActorResource(actor, resource) => ("actor resource", actor, resource),
        };
        let hash = digest(&SHA256, format!("{kind}\0{one}\0{other}").as_bytes());
        let mut bits = [0; BITS_OF_TERM];
        for (bit, pair) in bits.iter_mut().zip(hash.as_ref().chunks_exact(2)) {
            *bit = i64::from(u16::from_be_bytes([pair[0], pair[1]])) % BITS as i64;
        }
        bits
    }
}

impl TermedRow {
    fn terms(&self) -> impl Iterator<Item = SearchTerm<'_>> {
        let Self { actor, action, resource, resource_id, .. } = self;
        [
            SearchTerm::Actor(actor),
            SearchTerm::Action(action),
            SearchTerm::Resource(resource),
            SearchTerm::ActorAction(actor, action),
            SearchTerm::ActorResource(actor, resource),
        ]
        .into_iter()
        .chain(resource_id.as_deref().map(SearchTerm::ResourceId))
    }
}

/// The filter of rows. PostgreSQL's `get_bit` of a `bytea` counts from the lowest bit of the first byte.
fn filter(rows: &[TermedRow]) -> Vec<u8> {
    let mut filter = vec![0_u8; BITS / 8];
    let terms: HashSet<SearchTerm<'_>> = rows.iter().flat_map(TermedRow::terms).collect();
    for bit in terms.into_iter().flat_map(SearchTerm::bits) {
        let bit = usize::try_from(bit).unwrap_or_default();
        if let Some(byte) = filter.get_mut(bit / 8) {
            *byte |= 1 << (bit % 8);
        }
    }
    filter
}

impl Sealer {
    /// Makes sealed rows searchable, in all tenants, until no whole block is left but of those that another process has.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn make_searchable(&self) -> Result<()> {
        let behind: Vec<UnsearchableTenant> = self.begin().last().rows(LOOK, &[]).await?;
        for UnsearchableTenant { tenant_id } in behind {
            while self.write_blocks(tenant_id).await? {}
        }
        Ok(())
    }

    /// Writes some blocks of a tenant; whether there may be more.
    async fn write_blocks(&self, tenant: TenantId) -> Result<bool> {
        let mut tx = self.begin().within(tenant).await?;
        let Some(open): Option<SearchableRows> = tx.optional(OPEN, &[]).await? else { return Ok(false) };
        let first = open.searchable / BLOCK;
        let end = (open.sealed / BLOCK).min(first + BATCH);
        if end <= first {
            return Ok(false);
        }
        let rows = termed_rows(&mut tx, first * BLOCK, end * BLOCK, open.last_at).await?;
        let (mut numbers, mut begins, mut ends, mut filters) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for rows in rows.chunk_by(|one, other| block_of(one.seq) == block_of(other.seq)) {
            let (Some(oldest), Some(newest)) =
                (rows.iter().map(|row| row.at).min(), rows.iter().map(|row| row.at).max())
            else {
                continue;
            };
            numbers.extend(rows.first().map(|row| block_of(row.seq)));
            begins.push(oldest);
            ends.push(newest);
            filters.push(filter(rows));
        }
        let searchable = end * BLOCK;
        let params: [&(dyn ToSql + Sync); 5] = [&numbers, &begins, &ends, &filters, &searchable];
        let _: Option<UnsearchableTenant> = tx.last().optional(WRITE, &params).await?;
        Ok(end < open.sealed / BLOCK)
    }
}

fn block_of(seq: i64) -> i64 {
    (seq - 1) / BLOCK
}

/// Rows after a number, up to another. Where not all are found from the time of the last one on, they are looked for everywhere.
async fn termed_rows(
    tx: &mut TenantTx<'_>,
    after: i64,
    last: i64,
    since: Option<Timestamp>,
) -> Result<Vec<TermedRow>> {
    let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
    let mut rows: Vec<TermedRow> = tx.rows(FRESH, &[&after, &last, &since]).await?;
    if rows.len() as i64 != last - after {
        rows = tx.rows(WHEREVER, &[&after, &last]).await?;
    }
    rows.sort_by_key(|row| row.seq);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(nth: usize) -> TermedRow {
        TermedRow {
            seq: 1,
            at: Timestamp::UNIX_EPOCH,
            actor: format!("actor {}", nth % 40),
            action: format!("item.{}", nth % 20),
            resource: format!("item {}", nth % 10),
            resource_id: Some(format!("id {nth}")),
        }
    }

    fn may_hold(filter: &[u8], term: SearchTerm<'_>) -> bool {
        let set = |bit: i64| filter[bit as usize / 8] >> (bit % 8) & 1 == 1;
        term.bits().into_iter().all(set)
    }

    #[test]
    fn a_filter_says_no_of_nothing_that_is_there_and_maybe_of_little_that_is_not() {
        let rows: Vec<TermedRow> = (0..256).map(row).collect();
        let filter = filter(&rows);
        assert!(rows.iter().flat_map(TermedRow::terms).all(|term| may_hold(&filter, term)));
        let others = (0..10_000).map(|nth| format!("another {nth}"));
        let maybe = others.filter(|id| may_hold(&filter, SearchTerm::ResourceId(id))).count();
        assert!(maybe < 40, "{maybe} of 10,000");
        assert!(
            !may_hold(&filter, SearchTerm::ActorAction("actor 1", "item.2")),
            "both are there, not together"
        );
    }
}
