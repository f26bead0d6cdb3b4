//! What an operator does about events from a terminal, as the system's login: see how far subscribers are, let one that has
//! stopped try again or leave out an event, and let one read again from an earlier time.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::operator_session::OperatorSession;
use crate::config::Config;
use crate::db::{AuditEntry, TenantTx, ToSql};
use crate::error::Result;
use crate::events::{AnySubscriber, CURSOR_KEY};
use crate::from_row;
use crate::lifecycle::StartError;
use crate::shared::{Rng, TenantId};
use crate::worker::{QUEUE, WAKE};

/// Which cursors are meant; what is not given does not narrow.
#[derive(Debug, Clone, Default)]
pub struct CursorFilter {
    /// Of the tenant of this slug.
    pub tenant: Option<String>,
    /// Of this subscriber.
    pub subscriber: Option<String>,
    /// Only those at which an event fails.
    pub failing: bool,
}

/// How far a subscriber is in a tenant, as an operator sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // they are the columns
pub struct ListedCursor {
    #[serde(skip)]
    pub tenant_id: TenantId,
    /// The tenant's slug.
    pub tenant: String,
    pub subscriber: String,
    /// The number of the last event that it is done with.
    pub number: i64,
    /// The number of the last event of the tenant, of whatever kind.
    pub head: i64,
    /// How often the next event has failed.
    pub failures: i32,
    pub error: Option<String>,
    pub retry_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
}
from_row!(ListedCursor {
    tenant_id,
    tenant,
    subscriber,
    number,
    head,
    failures,
    error,
    retry_at,
    stopped_at
});

/// What an operator does with a cursor.
#[derive(Debug, Clone, Copy)]
pub enum CursorMove {
    /// The event that fails is tried again, at once.
    Retry,
    /// The next event is left out.
    Skip,
    /// What was emitted since then is read again.
    Replay(Timestamp),
}

const LIST: &str = "select c.tenant_id, t.slug as tenant, c.subscriber, c.number, h.number as head, c.failures, c.error, c.retry_at, \
     c.stopped_at from event_cursors c join tenants t on t.id = c.tenant_id join event_heads h on h.tenant_id = c.tenant_id \
     where ($1::text is null or t.slug = $1) and ($2::text is null or c.subscriber = $2) and (not $3 or c.failures > 0) \
     order by c.stopped_at is null, t.slug, c.subscriber";
/// `$3` is the kind of event that it is told of. A cursor that an event has just moved on is let be.
const MOVE: &str = "update event_cursors c set failures = 0, error = null, retry_at = null, stopped_at = null, \
     number = case when $5 then coalesce((select min(e.number) from events e where e.tenant_id = c.tenant_id and e.number > c.number \
         and ($3::text is null or e.name = $3)), c.number) \
       when $6::timestamptz is not null then least(c.number, coalesce((select min(e.number) - 1 from events e \
         where e.tenant_id = c.tenant_id and e.number is not null and e.emitted_at >= $6), c.number)) else c.number end \
     where c.tenant_id = $1 and c.subscriber = $2 and c.number = $4 returning c.number";
const HASTEN: &str = "update job_scheduled set run_at = now() where tenant_id = $1 and kind = $2 and unique_key = $3 returning id";

struct MovedCursor {
    number: i64,
}
from_row!(MovedCursor { number });

/// Events, as an operator reaches them.
pub struct EventOperator {
    session: OperatorSession,
}

impl EventOperator {
    /// Opens the way to the database; nothing is sent before the first question.
    ///
    /// # Errors
    /// `Exit::Configuration` where the URLs cannot be used.
    pub fn open(config: &Config, rng: &dyn Rng) -> Result<Self, StartError> {
        OperatorSession::open(config, rng, &QUEUE).map(|session| Self { session })
    }

    /// Ends what `open` has begun.
    pub async fn close(self) {
        self.session.close().await;
    }

    /// The cursors that match, those that have stopped first.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn list(&self, filter: &CursorFilter) -> Result<Vec<ListedCursor>> {
        let CursorFilter { tenant, subscriber, failing } = filter;
        self.session.begin().last().rows(LIST, &[tenant, subscriber, failing]).await
    }

    /// Moves a cursor and wakes its subscriber, with an entry in the tenant's audit log. Says where it is then; `None` where
    /// it has moved on by itself meanwhile.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn steer(
        &self,
        action: CursorMove,
        cursor: &ListedCursor,
        subscriber: &dyn AnySubscriber,
    ) -> Result<Option<i64>> {
        let (facts, job) = (subscriber.subscribes(), subscriber.facts());
        let (skip, since) = match action {
            CursorMove::Retry => (false, None),
            CursorMove::Skip => (true, None),
            CursorMove::Replay(since) => (false, Some(since)),
        };
        let mut tx = self.session.within(cursor.tenant_id).await?;
        let params: [&(dyn ToSql + Sync); 6] =
            [&cursor.tenant_id, &facts.name, &facts.event(), &cursor.number, &skip, &since];
        let Some(MovedCursor { number }) = tx.optional(MOVE, &params).await? else {
            tx.rollback();
            return Ok(None);
        };
        let word = match action {
            CursorMove::Retry => "event_cursor.retried",
            CursorMove::Skip => "event_cursor.skipped",
            CursorMove::Replay(_) => "event_cursor.replayed",
        };
        tx.audit(&entry(word, facts.name, json!({ "from": cursor.number, "to": number, "since": since })))?;
        let attempts = i16::try_from(job.attempts).unwrap_or(i16::MAX);
        let work = job.system.map_or("", |work| work.name);
        wake(&mut tx, cursor.tenant_id, (facts.name, number), (work, attempts)).await?;
        tx.commit().await?;
        Ok(Some(number))
    }
}

/// Lets the subscriber's job begin, whether it rests or is not there.
async fn wake(
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    (name, number): (&str, i64),
    (work, attempts): (&str, i16),
) -> Result<()> {
    tx.rows::<()>(HASTEN, &[&tenant, &name, &CURSOR_KEY]).await?;
    let (tenants, names, numbers, works, attempts) =
        (vec![tenant], vec![name], vec![number], vec![work], vec![attempts]);
    tx.rows::<()>(WAKE, &[&tenants, &names, &numbers, &works, &attempts, &CURSOR_KEY]).await.map(drop)
}

fn entry(action: &'static str, subscriber: &str, details: Value) -> AuditEntry {
    AuditEntry {
        action,
        resource: "event_cursor",
        resource_id: Some(subscriber.to_owned()),
        outcome: "success",
        details,
    }
}
