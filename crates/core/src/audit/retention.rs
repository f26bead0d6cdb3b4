//! Retention: rows whose time is over lose their bytes, and a signed statement says which entries these were and why. Their leaves stay,
//! so that every proof and every checkpoint goes on holding. What is on legal hold stays as it is.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::note::{AuditKeys, EntryRemoval};
use super::proof::SealedLog;
use crate::app::App;
use crate::auth::Trace;
use crate::db::{AuditEntry, System, TenantTx, ToSql};
use crate::error::{Error, Result};
use crate::from_row;
use crate::shared::TenantId;

/// So many days rows are kept in any case: who has got in as an owner cannot get rid of what he has done over night.
const LEAST_DAYS: i64 = 30;
/// How many rows one transaction removes.
const BATCH: i64 = 2048;

const LOGS: &str =
    "select log, origin, first_seq, size, note from audit_logs where note is not null order by log";
/// Rows whose time is over, in order; those of a category that is kept for ever never are.
const OVER: &str = "select l.seq, l.at, app.audit_category(l.action, l.resource) as category from audit_log l \
     where l.at < greatest($1::timestamptz, $2::timestamptz, $3::timestamptz) and l.at >= $4 and l.seq > $5 and l.seq <= $6 \
       and l.at < case app.audit_category(l.action, l.resource) \
         when 'security' then $1 when 'access' then $2 when 'change' then $3 end \
       and not app.audit_row_is_held(l) order by l.at, l.seq limit $7";
const PRUNE: &str = "select app.prune_audit($1, $2, $3, $4, $5, $6) as seq, now() as at, '' as category";

/// What a row is evidence of, and so for how long it is kept; `app.audit_category` says which rows are which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditCategory {
    /// Of who got in and who may do what.
    Security,
    /// Of data that somebody has read or taken along.
    Access,
    /// Of anything else.
    Change,
}

impl AuditCategory {
    const ALL: [Self; 3] = [Self::Security, Self::Access, Self::Change];

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.to_string() == name)
    }
}

impl fmt::Display for AuditCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Security => "security",
            Self::Access => "access",
            Self::Change => "change",
        })
    }
}

/// For how many days rows of each category are kept, 30 at least; 0: for as long as the tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditRetention {
    /// Rows that tell who got in and who may do what.
    pub security: i64,
    /// Rows that tell who has read data or taken it along.
    pub access: i64,
    /// All others.
    pub change: i64,
}

impl AuditRetention {
    /// For how many days the rows of a category are kept.
    pub fn days(&self, category: AuditCategory) -> i64 {
        match category {
            AuditCategory::Security => self.security,
            AuditCategory::Access => self.access,
            AuditCategory::Change => self.change,
        }
    }

    /// Rows of a category from before this time are over; none where they are kept for ever.
    fn over(&self, category: AuditCategory, now: Timestamp) -> Option<Timestamp> {
        let days = Some(self.days(category)).filter(|days| *days > 0)?.max(LEAST_DAYS);
        now.checked_sub(SignedDuration::from_secs(days.checked_mul(86_400)?)).ok()
    }
}

struct RowOver {
    seq: i64,
    at: Timestamp,
    category: String,
}
from_row!(RowOver { seq, at, category });

/// Rows of one category that follow upon one another in one log.
struct PrunedRange {
    first: i64,
    last: i64,
    since: Timestamp,
    until: Timestamp,
    category: AuditCategory,
}

/// Removes what a tenant keeps no longer; how many rows.
///
/// # Errors
/// As the database answers; what was removed before stays so.
pub async fn prune(
    (app, trace): (&App, &Trace),
    system: &System,
    tenant: TenantId,
    retention: &AuditRetention,
) -> Result<u64> {
    let Some(keys) = AuditKeys::of(&app.config).map_err(Error::internal)? else { return Ok(0) };
    let now = app.clock.now();
    let over = AuditCategory::ALL.map(|category| retention.over(category, now));
    if over.iter().all(Option::is_none) {
        return Ok(0);
    }
    let logs: Vec<SealedLog> = system.begin(trace).within(tenant).await?.last().rows(LOGS, &[]).await?;
    let mut pruned = 0;
    for (nth, log) in logs.iter().enumerate() {
        let end = logs.get(nth + 1).map_or(log.first_seq + log.size - 1, |next| next.first_seq);
        let mut place = (log.first_seq - 1, Timestamp::UNIX_EPOCH);
        loop {
            let mut tx = system.begin(trace).within(tenant).await?;
            let [security, access, change] = over;
            let last = end - 1;
            let params: [&(dyn ToSql + Sync); 7] =
                [&security, &access, &change, &place.1, &place.0, &last, &BATCH];
            let rows: Vec<RowOver> = tx.rows(OVER, &params).await?;
            let Some(last) = rows.last() else { break };
            place = (last.seq, last.at);
            pruned += remove(tx, &keys, log, (&rows, retention)).await?;
        }
    }
    Ok(pruned)
}

/// Removes rows of one log, and tells of it in the log.
async fn remove(
    mut tx: TenantTx<'_>,
    keys: &AuditKeys,
    log: &SealedLog,
    (rows, retention): (&[RowOver], &AuditRetention),
) -> Result<u64> {
    let ranges = ranges(rows);
    let index = |seq: i64| seq - log.first_seq + 1;
    let firsts: Vec<i64> = ranges.iter().map(|range| index(range.first)).collect();
    let lasts: Vec<i64> = ranges.iter().map(|range| index(range.last)).collect();
    let since: Vec<Timestamp> = ranges.iter().map(|range| range.since).collect();
    let until: Vec<Timestamp> = ranges.iter().map(|range| range.until).collect();
    let note = |(range, (first, last)): (&PrunedRange, (&i64, &i64))| {
        let why = format!("kept for {} days: {}", retention.days(range.category), range.category);
        let (first, last) = (first.unsigned_abs(), last.unsigned_abs());
        keys.sign_removal(&EntryRemoval { origin: log.origin.clone(), first, last, why })
    };
    let notes: Vec<String> = ranges.iter().zip(firsts.iter().zip(&lasts)).map(note).collect();
    let removed: RowOver = tx.row(PRUNE, &[&log.log, &firsts, &lasts, &since, &until, &notes]).await?;
    tx.audit(&AuditEntry {
        action: "audit.pruned",
        resource: "audit_log",
        resource_id: Some(log.origin.clone()),
        outcome: "success",
        details: json!({
            "rows": removed.seq,
            "first": rows.first().map(|row| row.seq),
            "last": rows.last().map(|row| row.seq),
            "ranges": ranges.len(),
            "days": { "security": retention.security, "access": retention.access, "change": retention.change },
        }),
    })?;
    tx.commit().await?;
    Ok(removed.seq.unsigned_abs())
}

fn ranges(rows: &[RowOver]) -> Vec<PrunedRange> {
    let mut ranges: Vec<PrunedRange> = Vec::new();
    for RowOver { seq, at, category } in rows {
        let Some(category) = AuditCategory::of(category) else { continue };
        match ranges.last_mut() {
            Some(open) if open.category == category && open.last + 1 == *seq => {
                (open.last, open.until) = (*seq, *at);
            }
            _ => ranges.push(PrunedRange { first: *seq, last: *seq, since: *at, until: *at, category }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_follow_upon_one_another_are_one_range_of_their_category() {
        let row = |(seq, category): (i64, &str)| RowOver {
            seq,
            at: Timestamp::from_second(seq).unwrap(),
            category: category.to_owned(),
        };
        let rows: Vec<RowOver> =
            [(3, "change"), (4, "change"), (5, "security"), (7, "security"), (8, "security")].map(row).into();
        let found: Vec<_> =
            ranges(&rows).iter().map(|range| (range.first, range.last, range.category)).collect();
        use AuditCategory::{Change, Security};
        assert_eq!(found, [(3, 4, Change), (5, 5, Security), (7, 8, Security)]);
    }

    #[test]
    fn what_is_kept_for_ever_is_never_over() {
        let now = "2027-01-10T00:00:00Z".parse().unwrap();
        let retention = AuditRetention { security: 0, access: 40, change: i64::MAX / 100 };
        assert_eq!(retention.over(AuditCategory::Security, now), None);
        assert_eq!(retention.over(AuditCategory::Access, now), "2026-12-01T00:00:00Z".parse().ok());
        let hasty = AuditRetention { access: 1, ..retention };
        assert_eq!(hasty.over(AuditCategory::Access, now), "2026-12-11T00:00:00Z".parse().ok());
        assert_eq!(retention.over(AuditCategory::Change, now), None, "longer than time goes back");
    }
}
