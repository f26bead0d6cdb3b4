//! Gives events their numbers, and wakes the subscribers that are to be told of them.
//!
//! This process hears of its own events right after their COMMIT; what others have emitted and not numbered, since they have
//! died for instance, is found by a look once a second. Of several processes one numbers a tenant's events at a time: it
//! holds the tenant's head, and enqueues the subscribers' jobs before it lets go (`events/reading.rs` tells why).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::upkeep::{Ready, jittered};
use super::{Worker, WorkerState};
use crate::auth::Trace;
use crate::db::{SystemTx, ToSql};
use crate::error::Result;
use crate::events::{AnySubscriber, CURSOR_KEY, SubscriberTable};
use crate::from_row;
use crate::lifecycle::{Background, Stop, StopStage};
use crate::module::{Module, SystemGauge};
use crate::shared::TenantId;

/// The core's part in events, as a module. Routes on them are the module `webhooks`'s.
pub(crate) static EVENTS: Module = Module {
    name: "events",
    about: "What has happened to a tenant's documents, for other modules and for webhooks.",
    errors: crate::events::EVENT_ERRORS,
    ..Module::BARE
};

/// Numbers events and wakes subscribers.
pub(crate) static RELAY: Background<Relay> = Background {
    name: "event relay",
    about: "Gives the events that were emitted their numbers, and wakes the subscribers that are to be told of them.",
    critical: true,
    stops: StopStage::Work,
    run: |relay, stop| Box::pin(keep(relay, stop)),
    observe: |_| {},
};

/// Tenants whose events one transaction numbers, and events of each of them.
const TENANTS_AT_ONCE: usize = 100;
const EVENTS_AT_ONCE: i64 = 1000;
/// How often it is looked for subscribers that nobody has woken, and how old events are counted, at most.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Both take one part in so many of the time.
const SHARE: u32 = 20;

/// The tenants that have events without a number: a jump over the index from tenant to tenant.
const LOOK: &str = "with recursive t as (
    (select tenant_id from events where number is null order by tenant_id, position, place limit 1)
    union all
    select n.tenant_id from t cross join lateral (
      select e.tenant_id from events e where e.number is null and e.tenant_id > t.tenant_id order by e.tenant_id, e.position, e.place limit 1) n
)
select tenant_id from t limit $1";
/// Takes the heads, each tenant's in the order of their ids, so that two processes do not wait for each other.
const HEADS: &str =
    "insert into event_heads (tenant_id, number) select t, 0 from unnest($1::uuid[]) t order by t
    on conflict (tenant_id) do update set number = event_heads.number returning tenant_id, number";
/// Sees what was committed before the heads were taken. An event that was emitted after another one of its aggregate, by a
/// transaction that had to wait for it, is not seen without it.
const NUMBER: &str = "with new as materialized (
    select e.tenant_id, e.id, h.number + row_number() over (partition by e.tenant_id order by e.position, e.place) as number
    from unnest($1::uuid[], $2::bigint[]) h (tenant_id, number) cross join lateral (
      select n.tenant_id, n.id, n.position, n.place from events n where n.tenant_id = h.tenant_id and n.number is null
      order by n.position, n.place limit $3) e
), numbered as (
    update events e set number = n.number from new n where e.tenant_id = n.tenant_id and e.id = n.id
    returning e.tenant_id, e.name, e.number
), heads as (
    update event_heads h set number = n.number, numbered_at = clock_timestamp()
    from (select tenant_id, max(number) as number from numbered group by tenant_id) n where h.tenant_id = n.tenant_id
)
select tenant_id, name, count(*) as events from numbered group by tenant_id, name";
/// Wakes subscribers: each in its tenant has one job, unless it has stopped. A new one begins at `$3`.
pub(crate) const WAKE: &str = "with wanted as materialized (
    select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::smallint[]) w (tenant_id, subscriber, number, system, attempts)
), begun as (
    insert into event_cursors (tenant_id, subscriber, number) select tenant_id, subscriber, number from wanted order by 1, 2
    on conflict do nothing
), going as (
    select w.*, (lpad(to_hex(floor(extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
      || overlay(substr(replace(gen_random_uuid()::text, '-', ''), 13) placing '7' from 1 for 1))::uuid as id
    from wanted w left join event_cursors c on c.tenant_id = w.tenant_id and c.subscriber = w.subscriber
    where c.stopped_at is null
), keyed as (
    insert into job_keys (tenant_id, kind, key, job) select tenant_id, subscriber, $6, id from going order by 1, 2
    on conflict do nothing returning tenant_id, kind, job
)
insert into job_ready (tenant_id, id, kind, priority, attempt, attempts, system, origin, unique_key, args, enqueued_at)
select k.tenant_id, k.job, k.kind, 1, 0, g.attempts, g.system, 'events', $6, '{}', now()
from keyed k join going g on g.id = k.job
returning tenant_id, kind, priority, id, true as again";
/// Subscribers that have events to read and no job, of tenants in which something has happened lately: the processes that
/// numbered these did not know of them, or somebody has ended their jobs.
const ASLEEP: &str = "select h.tenant_id, s.subscriber, h.number
    from event_heads h cross join unnest($1::text[], $2::text[], $3::bool[]) s (subscriber, event, from_start)
    left join event_cursors c on c.tenant_id = h.tenant_id and c.subscriber = s.subscriber
    where h.numbered_at > clock_timestamp() - interval '1 hour' and c.stopped_at is null
      and coalesce(c.number, case when s.from_start then 0 else h.number end) < h.number
      and not exists (select from job_keys k where k.tenant_id = h.tenant_id and k.kind = s.subscriber and k.key = $4)
      and exists (select from events e where e.tenant_id = h.tenant_id and e.number > coalesce(c.number, 0)
        and (s.event is null or e.name = s.event))
    limit 1000";
/// How old the first event is that a subscriber has not been told of, and in how many tenants it has stopped.
const UNREAD: &str = "select s.subscriber, count(c.stopped_at) as stopped,
      coalesce(max(extract(epoch from clock_timestamp() - e.emitted_at)), 0)::float8 as age
    from unnest($1::text[], $2::text[]) s (subscriber, event)
    join event_cursors c on c.subscriber = s.subscriber
    join event_heads h on h.tenant_id = c.tenant_id and h.number > c.number
    left join lateral (select n.emitted_at from events n where n.tenant_id = c.tenant_id and n.number > c.number
      and (s.event is null or n.name = s.event) order by n.number limit 1) e on true
    group by s.subscriber";

struct EmittingTenant {
    tenant_id: TenantId,
}
from_row!(EmittingTenant { tenant_id });

struct EventHead {
    tenant_id: TenantId,
    number: i64,
}
from_row!(EventHead { tenant_id, number });

struct NumberedEvents {
    tenant_id: TenantId,
    name: String,
    events: i64,
}
from_row!(NumberedEvents { tenant_id, name, events });

struct Asleep {
    tenant_id: TenantId,
    subscriber: String,
    number: i64,
}
from_row!(Asleep { tenant_id, subscriber, number });

struct UnreadEvents {
    subscriber: String,
    stopped: i64,
    age: f64,
}
from_row!(UnreadEvents { subscriber, stopped, age });

struct GaugeRow {
    label: String,
    value: f64,
}
from_row!(GaugeRow { label, value });

/// What numbers events: the worker whose queue it enqueues to, and who is told of what.
#[derive(Clone)]
pub(crate) struct Relay {
    shared: Arc<WorkerState>,
    subscribers: Arc<SubscriberTable>,
    gauges: Arc<[&'static SystemGauge]>,
}

impl Relay {
    pub(crate) fn new(
        worker: &Worker,
        subscribers: SubscriberTable,
        gauges: impl Iterator<Item = &'static SystemGauge>,
    ) -> Self {
        Self { shared: Arc::clone(&worker.0), subscribers: Arc::new(subscribers), gauges: gauges.collect() }
    }

    /// Numbers what has no number yet in these tenants. A tenant that has more than one transaction takes comes again a second later.
    async fn number(&self, tenants: &[TenantId]) -> Result<()> {
        for tenants in tenants.chunks(TENANTS_AT_ONCE) {
            let mut tx = self.shared.queue.begin();
            let heads: Vec<EventHead> = tx.rows(HEADS, &[&tenants]).await?;
            let of: Vec<TenantId> = heads.iter().map(|head| head.tenant_id).collect();
            let numbers: Vec<i64> = heads.iter().map(|head| head.number).collect();
            let numbered: Vec<NumberedEvents> = tx.rows(NUMBER, &[&of, &numbers, &EVENTS_AT_ONCE]).await?;
            let before: HashMap<TenantId, i64> = of.into_iter().zip(numbers).collect();
            self.wake(tx, &self.told(&numbered, &before)).await?;
            self.count(&numbered);
        }
        Ok(())
    }

    /// Who is to be told of these events, each with the number to begin at.
    fn told(
        &self,
        numbered: &[NumberedEvents],
        before: &HashMap<TenantId, i64>,
    ) -> BTreeMap<(TenantId, &'static str), i64> {
        let mut told = BTreeMap::new();
        for NumberedEvents { tenant_id, name, .. } in numbered {
            for subscriber in self.subscribers.told_of(name) {
                let facts = subscriber.subscribes();
                let from = before.get(tenant_id).copied().filter(|_| !facts.from_start);
                told.insert((*tenant_id, facts.name), from.unwrap_or_default());
            }
        }
        told
    }

    /// Wakes subscribers and commits.
    async fn wake(&self, tx: SystemTx<'_>, told: &BTreeMap<(TenantId, &'static str), i64>) -> Result<()> {
        let (mut tenants, mut names, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        let (mut works, mut attempts) = (Vec::new(), Vec::new());
        for ((tenant, name), number) in told {
            let Some(job) = self.subscribers.get(name).map(|subscriber| subscriber.facts()) else { continue };
            tenants.push(*tenant);
            names.push(*name);
            numbers.push(*number);
            works.push(job.system.map_or("", |work| work.name));
            attempts.push(i16::try_from(job.attempts).unwrap_or(i16::MAX));
        }
        let params: [&(dyn ToSql + Sync); 6] = [&tenants, &names, &numbers, &works, &attempts, &CURSOR_KEY];
        let ready: Vec<Ready> = tx.last().rows(WAKE, &params).await?;
        self.shared.tell_ready(ready);
        Ok(())
    }

    fn count(&self, numbered: &[NumberedEvents]) {
        let app = &self.shared.app;
        for NumberedEvents { name, events, .. } in numbered {
            // Another version of the product may have emitted it.
            let name = app.event_kinds.get(name.as_str()).copied().unwrap_or("other");
            app.metrics.events_emitted_total.with(&[name]).add(events.unsigned_abs());
        }
    }

    /// What nobody has told of.
    async fn look(&self) -> Result<Vec<TenantId>> {
        let most = i64::try_from(TENANTS_AT_ONCE).unwrap_or(i64::MAX);
        let found: Vec<EmittingTenant> = self.shared.queue.begin().last().rows(LOOK, &[&most]).await?;
        Ok(found.into_iter().map(|row| row.tenant_id).collect())
    }

    /// Wakes who was not woken.
    async fn catch_up(&self) -> Result<()> {
        let facts = || self.subscribers.iter().map(AnySubscriber::subscribes);
        let names: Vec<&str> = facts().map(|facts| facts.name).collect();
        let events: Vec<Option<&str>> = facts().map(|facts| facts.event()).collect();
        let from_start: Vec<bool> = facts().map(|facts| facts.from_start).collect();
        let tx = self.shared.queue.begin();
        let asleep: Vec<Asleep> =
            tx.last().rows(ASLEEP, &[&names, &events, &from_start, &CURSOR_KEY]).await?;
        let told: BTreeMap<_, _> = asleep
            .into_iter()
            .filter_map(|Asleep { tenant_id, subscriber, number }| {
                let facts = self.subscribers.get(&subscriber)?.subscribes();
                Some(((tenant_id, facts.name), if facts.from_start { 0 } else { number }))
            })
            .collect();
        if !told.is_empty() {
            self.wake(self.shared.queue.begin(), &told).await?;
        }
        self.measure(&names, &events).await?;
        self.set_gauges().await
    }

    /// Sets the gauges that modules have of all tenants' rows.
    async fn set_gauges(&self) -> Result<()> {
        let app = &self.shared.app;
        for SystemGauge { work, sql, labels, set, .. } in self.gauges.iter().copied() {
            let trace = Trace::new("gauges");
            let rows: Vec<GaugeRow> = app.queue(work).begin(&trace).last().rows(*sql, &[]).await?;
            for label in *labels {
                let row = rows.iter().find(|row| row.label == *label);
                set(&app.metrics, label, row.map_or(0.0, |row| row.value))?;
            }
        }
        Ok(())
    }

    async fn measure(&self, names: &[&str], events: &[Option<&str>]) -> Result<()> {
        let unread: Vec<UnreadEvents> =
            self.shared.queue.begin().last().rows(UNREAD, &[&names, &events]).await?;
        let unread: HashMap<&str, &UnreadEvents> =
            unread.iter().map(|row| (row.subscriber.as_str(), row)).collect();
        let metrics = &self.shared.app.metrics;
        for name in self.subscribers.iter().map(|subscriber| subscriber.subscribes().name) {
            let row = unread.get(name);
            metrics.events_oldest_unread_age_seconds.with(&[name]).set(row.map_or(0.0, |row| row.age));
            metrics.events_stopped_cursors.with(&[name]).set(row.map_or(0.0, |row| row.stopped as f64));
        }
        Ok(())
    }
}

/// Numbers what it is told of at once, and what it finds once a second, until the stop.
async fn keep(relay: Relay, stop: Stop) {
    let outbox = relay.shared.app.db.outbox();
    let (mut look_at, mut catch_up_at, mut troubled) = (Instant::now(), Instant::now(), false);
    loop {
        let rest = look_at.saturating_duration_since(Instant::now());
        tokio::select! {
            () = stop.requested() => break,
            () = outbox.told() => {}
            () = tokio::time::sleep(rest) => {}
        }
        let round = async {
            let told: Vec<TenantId> = outbox.take().into_iter().collect();
            relay.number(&told).await?;
            if Instant::now() >= look_at {
                look_at = Instant::now() + jittered(&relay.shared);
                let found = relay.look().await?;
                relay.number(&found).await?;
            }
            if Instant::now() >= catch_up_at {
                let begun = Instant::now();
                relay.catch_up().await?;
                catch_up_at = Instant::now() + CATCH_UP.max(begun.elapsed() * SHARE);
            }
            Ok::<(), crate::error::Error>(())
        };
        match round.await {
            Ok(()) => troubled = false,
            Err(error) => {
                if !std::mem::replace(&mut troubled, true) {
                    // said once: the database's monitor tells more of it
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "Events cannot be numbered at present"
                    );
                }
                let _ = stop.sleep(Duration::from_millis(500)).await;
            }
        }
    }
    // What was emitted by the last requests: else the next process finds it a second after its start.
    let told: Vec<TenantId> = outbox.take().into_iter().collect();
    let _ = relay.number(&told).await;
}
