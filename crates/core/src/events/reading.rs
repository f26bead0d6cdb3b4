//! How a subscriber reads: from event to event, each with its effects and the move of the cursor in one COMMIT.
//!
//! The job that reads exists once in its tenant. When it finds nothing more, it takes the head of the tenant's events, looks
//! once more, and is completed while it holds it. The relay enqueues a subscriber's job while it holds the head, too: either
//! it comes first, and what it has numbered is seen by that last look; or the job has been completed by then, and another one
//! is enqueued. So none falls asleep over an event.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{AggregateId, DomainEvent, EventId, Handle, SubscriberFacts};
use crate::db::AuditEntry;
use crate::error::{Error, Result, codes};
use crate::from_row;
use crate::jobs::{Job, backoff, job_codes};
use crate::lifecycle::panic_message;
use crate::shared::PrincipalId;

/// The unique key of the jobs of all subscribers: with their kind there is one in each tenant.
pub(crate) const CURSOR_KEY: &str = "cursor";

/// How long a job reads before others have a turn.
const TURN: Duration = Duration::from_secs(10);

/// Where the subscriber is, and the events that come next for it.
const NEXT: &str = "select c.number as cursor, c.failures, c.stopped_at is not null as stopped, \
     extract(epoch from c.retry_at - clock_timestamp())::float8 as wait, e.id, e.number, e.name, e.aggregate, e.aggregate_id, \
     e.payload, e.principal, e.origin, e.emitted_at \
     from event_cursors c left join lateral (select * from events n where n.number > c.number \
       and ($2::text is null or n.name = $2) order by n.number limit 50) e on true \
     where c.subscriber = $1 order by e.number";
/// Moves the cursor on, unless an operator has moved it meanwhile.
const MOVE: &str = "update event_cursors set number = $3, failures = 0, error = null, retry_at = null, stopped_at = null \
     where subscriber = $1 and number = $2 returning number";
/// Notes that an event has failed: again after so many seconds, or for the last time. An attempt that has lost the job to
/// another one notes nothing.
const FAIL: &str = "update event_cursors set failures = failures + 1, error = $3, \
     retry_at = clock_timestamp() + $4::float8 * interval '1 second', \
     stopped_at = case when $4::float8 is null then clock_timestamp() end where subscriber = $1 and number = $2 \
       and exists (select from job_running r where r.id = $5 and r.attempt = $6) returning number";
const HEAD: &str = "select number from event_heads for update";
const UNREAD: &str = "select exists (select from events e where e.number > c.number and ($2::text is null or e.name = $2)) \
     as unread, c.number as cursor from event_cursors c where c.subscriber = $1";

/// What reads, without the table that it stands in.
pub(super) struct EventReader<P> {
    pub(super) facts: SubscriberFacts,
    pub(super) handle: Handle<P>,
}

/// A row of [`NEXT`].
struct UnreadEvent {
    cursor: i64,
    failures: i32,
    stopped: bool,
    wait: Option<f64>,
    id: Option<EventId>,
    number: Option<i64>,
    name: Option<String>,
    aggregate: Option<String>,
    aggregate_id: Option<AggregateId>,
    payload: Option<Value>,
    principal: Option<PrincipalId>,
    origin: Option<String>,
    emitted_at: Option<Timestamp>,
}
from_row!(UnreadEvent {
    cursor,
    failures,
    stopped,
    wait,
    id,
    number,
    name,
    aggregate,
    aggregate_id,
    payload,
    principal,
    origin,
    emitted_at
});

struct EventNumber {
    number: i64,
}
from_row!(EventNumber { number });

struct AtEnd {
    unread: bool,
    cursor: i64,
}
from_row!(AtEnd { unread, cursor });

impl UnreadEvent {
    /// The event, if there is one.
    fn event(self) -> Option<DomainEvent<Value>> {
        Some(DomainEvent {
            id: self.id?,
            number: self.number?,
            name: self.name?,
            aggregate: self.aggregate?,
            aggregate_id: self.aggregate_id?,
            payload: self.payload?,
            principal: self.principal,
            correlation_id: self.origin?,
            emitted_at: self.emitted_at?,
        })
    }
}

/// Reads until there is nothing more, the turn is over, or an event fails.
pub(super) async fn read_on<P: DeserializeOwned + Send + 'static>(
    job: &Job,
    reader: EventReader<P>,
) -> Result<()> {
    let begun = Instant::now();
    let SubscriberFacts { name, .. } = reader.facts;
    loop {
        let event = reader.facts.event();
        let next: Vec<UnreadEvent> = job.call.tenant_read().last().rows(NEXT, &[&name, &event]).await?;
        let Some(first) = next.first() else { return Ok(()) };
        let (mut cursor, mut failures) = (first.cursor, first.failures);
        if first.stopped {
            return Ok(()); // an operator wakes it
        }
        if let Some(wait) = first.wait.filter(|wait| *wait > 0.0) {
            job.put_off(Duration::from_secs_f64(wait));
            return Ok(());
        }
        let events: Vec<_> = next.into_iter().filter_map(UnreadEvent::event).collect();
        if events.is_empty() && is_at_end(job, &reader.facts).await? {
            return Ok(());
        }
        for event in events {
            if begun.elapsed() > TURN {
                job.put_off(Duration::ZERO);
                return Ok(());
            }
            let number = event.number;
            if let Err(error) = reader.one(job, cursor, event).await {
                return reader.failed(job, cursor, failures, &error).await;
            }
            (cursor, failures) = (number, 0);
        }
    }
}

/// Looks once more, with the head in hand. At the end what it has taken is given back by the completion of the job.
async fn is_at_end(job: &Job, facts: &SubscriberFacts) -> Result<bool> {
    let mut tx = job.call.tenant();
    let Some(head) = tx.optional::<EventNumber>(HEAD, &[]).await? else {
        tx.rollback();
        return Ok(true);
    };
    let end: AtEnd = tx.row(UNREAD, &[&facts.name, &facts.event()]).await?;
    if end.unread {
        tx.rollback();
        return Ok(false);
    }
    let _: Vec<()> = tx.last().rows(MOVE, &[&facts.name, &end.cursor, &head.number]).await?;
    Ok(true)
}

impl<P: DeserializeOwned + Send + 'static> EventReader<P> {
    /// One event: what it changes, the move of the cursor, and the fence of the attempt, in one COMMIT.
    async fn one(&self, job: &Job, cursor: i64, event: DomainEvent<Value>) -> Result<()> {
        let number = event.number;
        let begun = Instant::now();
        self.handle(job, event).await?;
        let moved: Option<EventNumber> =
            job.call.tenant().last().optional(MOVE, &[&self.facts.name, &cursor, &number]).await?;
        if moved.is_none() {
            return Err(Error::new(&codes::UNAVAILABLE).because("an operator has moved the cursor meanwhile"));
        }
        job.keep(&number).await?;
        let metrics = &job.call.app.metrics;
        metrics.events_handled_total.with(&[self.facts.name, "done"]).inc();
        metrics
            .events_handle_duration_seconds
            .with(&[self.facts.name])
            .observe(begun.elapsed().as_secs_f64());
        Ok(())
    }

    async fn handle(&self, job: &Job, event: DomainEvent<Value>) -> Result<()> {
        let event = event.read()?;
        let work = AssertUnwindSafe(async { (self.handle)(job, event).await }).catch_unwind();
        let outcome = match tokio::time::timeout(self.facts.time_limit, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => {
                let what = panic_message(panic.as_ref());
                Err(Error::internal(format!("the subscriber panicked: {what}")))
            }
            Err(_) => {
                let what = format!("It took longer than {:?}, and was cut off.", self.facts.time_limit);
                Err(Error::new(&codes::UNAVAILABLE).detail(what))
            }
        };
        if job.call.caller.take_uncommitted() && outcome.is_ok() {
            return Err(Error::internal(
                "the subscriber ended without `commit()`; where a change is meant to be dropped, it says `rollback()`",
            ));
        }
        outcome
    }

    /// Rolls back what the event has changed, and notes that it has failed.
    async fn failed(&self, job: &Job, cursor: i64, failures: i32, error: &Error) -> Result<()> {
        let _ = job.deferral.drop_part(); // what a later change has taken with it is rolled back, too
        let (name, metrics) = (self.facts.name, &job.call.app.metrics);
        let last = error.code() == &job_codes::GIVEN_UP || failures + 1 >= i32::from(self.facts.attempts);
        let made = u32::try_from(failures).unwrap_or_default();
        let pause = (!last).then(|| backoff(made, job.call.app.rng.as_ref()));
        let seconds = pause.map(|pause| pause.as_secs_f64());
        let words = format!("{} {error}", error.code().code);
        let mut tx = job.call.tenant().undeferred();
        if last {
            tx.audit(&AuditEntry {
                action: "event_cursor.stopped",
                resource: "event_cursor",
                resource_id: Some(name.to_owned()),
                outcome: "failure",
                details: serde_json::json!({ "after": cursor, "code": error.code().code }),
            })?;
        }
        let (id, attempt) = (*job.id().as_uuid(), job.attempt);
        let noted: Option<EventNumber> =
            tx.last().optional(FAIL, &[&name, &cursor, &words, &seconds, &id, &attempt]).await?;
        let error = error as &dyn std::error::Error;
        match pause {
            _ if noted.is_none() => job.put_off(Duration::ZERO), // an operator has moved the cursor, or the job is another one's
            Some(pause) => {
                metrics.events_handled_total.with(&[name, "failed"]).inc();
                tracing::warn!(
                    error,
                    after = cursor,
                    again_in = pause.as_secs_f64(),
                    "An event has failed, and is tried again"
                );
                job.put_off(pause);
            }
            None => {
                metrics.events_handled_total.with(&[name, "stopped"]).inc();
                tracing::error!(
                    error,
                    after = cursor,
                    "An event has failed for the last time, and its subscriber stops here"
                );
            }
        }
        Ok(())
    }
}
