//! Deliveries and events, as the tenant's people see them; and what has not arrived, once more.

use erp_core::answer::Refusing;
use erp_core::db::FromSql;
use erp_core::db::Type;
use erp_core::error::{Error, Result, codes as core};
use erp_core::events::{AggregateId, EventId, EventRow};
use erp_core::extract::{Json, Path};
use erp_core::jobs::{Job, JobId, JobKind, JobOptions};
use erp_core::resource::{Call, Listable, Listed, Page};
use erp_core::shared::{Id, IdKind, Int, PrincipalId, Text};
use erp_core::stream::{Cell, CsvLine};
use erp_core::{choice, from_row, input, list, record, sql};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::DELIVERY;
use super::endpoints::{Begun, Webhook, enabled, entry};
use super::fan_out::wake;

/// See [`WebhookDelivery`].
#[derive(Debug)]
pub(super) enum Delivery {}

impl IdKind for Delivery {
    const NAME: &'static str = "webhook_delivery";
}

choice! {
    /// What has become of a delivery.
    pub(super) DeliveryStatus {
        /// It is being sent, or comes again.
        Pending = "pending",
        /// The endpoint has taken it.
        Succeeded = "succeeded",
        /// It was given up after four days, or the endpoint was disabled.
        Failed = "failed",
        /// It was not sent, since `OUTBOUND_ALLOW` does not list the host.
        Held = "held",
    }
}

record! {
    /// An event for an endpoint. Its id is the `webhook-id` of each attempt.
    pub(super) WebhookDelivery in "webhook_deliveries" {
        id: Id<Delivery>,
        webhook_id: Id<Webhook>,
        /// The event; none for a test.
        event_id: Option<EventId>,
        /// The kind of the event.
        name: String,
        status: DeliveryStatus,
        /// How often it was sent.
        attempts: i32,
        /// When it is sent next, while it is pending.
        next_at: Option<Timestamp>,
        /// What became of the last attempt.
        last_outcome: Option<String>,
        /// And what the endpoint answered.
        last_status: Option<i32>,
        created_at: Timestamp,
        finished_at: Option<Timestamp>,
    }
}

impl Listable for WebhookDelivery {
    type Kind = Delivery;

    fn id(&self) -> Id<Delivery> {
        self.id
    }
}

record! {
    /// One time that a delivery was sent.
    pub(super) DeliveryAttempt in "webhook_attempts" {
        attempt: i32,
        began_at: Timestamp,
        milliseconds: i32,
        /// `success`, or what went wrong.
        outcome: String,
        /// The status of the answer, if there was one.
        status: Option<i32>,
        /// The first bytes of the answer.
        answer: Option<String>,
    }
}

/// A delivery with its attempts.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeliveryWithAttempts {
    #[serde(flatten)]
    delivery: WebhookDelivery,
    /// Each time that it was sent, the first one first.
    sent: Vec<DeliveryAttempt>,
}

input! {
    /// What a list of deliveries can be narrowed to.
    pub(super) DeliverySearch {
        #[serde(skip)]
        webhook_id: Option<Id<Webhook>>,
        status: Option<DeliveryStatus>,
    }
}

list! {
    /// Deliveries of one endpoint, the newest first.
    pub(super) Deliveries of WebhookDelivery by DeliverySearch from "webhook_deliveries" sorted [-created_at]
}

/// What an event tells, by its kind.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(super) struct EventPayload(Value);

impl<'a> FromSql<'a> for EventPayload {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Value::from_sql(ty, raw).map(Self)
    }

    fn accepts(ty: &Type) -> bool {
        <Value as FromSql<'_>>::accepts(ty)
    }
}

impl Cell for EventPayload {
    fn write(&self, line: &mut CsvLine<'_>) {
        line.text(&self.0.to_string());
    }
}

record! {
    /// Something that has happened in the tenant.
    pub(super) EventListed in "events" {
        id: EventId,
        /// Its place among the tenant's events, in the order in which they are told.
        number: Int<0>,
        /// Its kind.
        name: String,
        /// What it has happened to.
        aggregate: String,
        /// And which one.
        aggregate_id: AggregateId,
        /// What its kind tells of it.
        payload: EventPayload,
        /// Who did it; none for work of the system.
        principal: Option<PrincipalId>,
        emitted_at: Timestamp,
    }
}

impl Listable for EventListed {
    type Kind = EventRow;

    fn id(&self) -> EventId {
        self.id
    }
}

input! {
    /// What a list of events can be narrowed to.
    pub(super) EventSearch {
        name: Option<Text<1, 200>>,
        aggregate_id: Option<AggregateId>,
    }
}

const NUMBERED: &str = "(select * from events where number is not null) e";

list! {
    /// Events, the newest first.
    pub(super) Events of EventListed by EventSearch from NUMBERED sorted [-number]
}

input! {
    /// The body of a recovery.
    pub(super) Recovery {
        /// What has happened since then is delivered again, unless it has arrived.
        since: Timestamp,
    }
}

/// A recovery that is under way.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecoveryBegun {
    /// The job, whose result is how many deliveries there are.
    job_id: JobId,
}

const THERE: &str = "select from webhooks where id = $1";
const READ: &str =
    sql!["select ", WebhookDelivery::COLUMNS, " from webhook_deliveries where webhook_id = $1 and id = $2"];
const ATTEMPTS: &str = sql![
    "select ",
    DeliveryAttempt::COLUMNS,
    " from webhook_attempts where delivery_id = $1 order by attempt"
];
const REPLAY: &str = sql![
    "update webhook_deliveries set status = 'pending', next_at = now(), due_since = now(), finished_at = null \
     where webhook_id = $1 and id = $2 returning ",
    WebhookDelivery::COLUMNS
];

pub(super) async fn list_events(call: Call, page: Page<Events>) -> Result<Listed<Events>> {
    call.list(page).await
}

pub(super) async fn list(
    call: Call,
    Path(webhook): Path<Id<Webhook>>,
    mut page: Page<Deliveries>,
) -> Result<Listed<Deliveries>> {
    let there: Option<()> = call.tenant_read().last().optional(THERE, &[&webhook]).await?;
    there.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    page.filter.webhook_id = Some(webhook);
    call.list(page).await
}

pub(super) async fn read(
    call: Call,
    Path((webhook, id)): Path<(Id<Webhook>, Id<Delivery>)>,
) -> Result<Json<DeliveryWithAttempts>> {
    let mut tx = call.tenant_read();
    let found: Option<WebhookDelivery> = tx.optional(READ, &[&webhook, &id]).await?;
    let delivery = found.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let sent = tx.last().rows(ATTEMPTS, &[&id]).await?;
    Ok(Json(DeliveryWithAttempts { delivery, sent }))
}

pub(super) async fn replay(
    call: Call,
    Path((webhook, id)): Path<(Id<Webhook>, Id<Delivery>)>,
) -> Result<Begun<WebhookDelivery>, Refusing<core::WRONG_STATE>> {
    let mut tx = call.tenant();
    enabled(&mut tx, webhook).await?;
    let again: Option<WebhookDelivery> = tx.optional(REPLAY, &[&webhook, &id]).await?;
    let again = again.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    tx.audit(&entry("webhook.delivery_replayed", webhook, json!({ "delivery": id })))?;
    wake(&call, &mut tx, &[webhook]).await?;
    tx.commit().await?;
    Ok(Begun(again))
}

pub(super) async fn recover(
    call: Call,
    Path(webhook): Path<Id<Webhook>>,
    Json(recovery): Json<Recovery>,
) -> Result<Begun<RecoveryBegun>, Refusing<core::WRONG_STATE>> {
    let mut tx = call.tenant();
    enabled(&mut tx, webhook).await?;
    let args = Recover { webhook, since: recovery.since };
    tx.audit(&entry("webhook.recovery_begun", webhook, json!({ "since": recovery.since })))?;
    let job_id = call.enqueue_with(&mut tx, &RECOVER, &args, JobOptions::default())?;
    tx.commit().await?;
    Ok(Begun(RecoveryBegun { job_id }))
}

/// What is to be delivered again.
#[derive(Serialize, Deserialize)]
pub(super) struct Recover {
    webhook: Id<Webhook>,
    since: Timestamp,
}

pub(super) static RECOVER: JobKind<Recover> = JobKind::<Recover>::new(
    "webhooks.recover",
    "Delivers again what an endpoint has not taken since a time, or was not told of.",
    |job, args| Box::pin(recover_all(job, args)),
)
.system(&DELIVERY);

/// Events that one step makes deliveries of.
const STEP: i64 = 500;
const AGAIN: &str = "update webhook_deliveries set status = 'pending', next_at = now(), due_since = now(), finished_at = null \
     where webhook_id = $1 and status in ('failed', 'held') and event_id is not null and created_at >= $2 returning id";
const MISSED: &str = "select e.id, e.number from events e join webhooks w on w.id = $1 and e.name = any (w.events) \
     where e.number > $3 and e.emitted_at >= $2 \
       and not exists (select from webhook_deliveries d where d.webhook_id = w.id and d.event_id = e.id) \
     order by e.number limit $4";
const ADD: &str = "insert into webhook_deliveries (id, webhook_id, event_id, number, name, aggregate_id, created_at, next_at) \
     select d.id, $1, e.id, e.number, e.name, e.aggregate_id, e.emitted_at, now() \
     from unnest($2::uuid[], $3::uuid[]) d (id, event_id) join events e on e.id = d.event_id";

struct MissedEvent {
    id: EventId,
    number: i64,
}
from_row!(MissedEvent { id, number });

struct DeliveryKey {
    #[allow(dead_code, reason = "they are counted")]
    id: Id<Delivery>,
}
from_row!(DeliveryKey { id });

async fn recover_all(job: &Job, Recover { webhook, since }: Recover) -> Result<()> {
    let call = &job.call;
    let (mut after, mut count): (i64, usize) = job.kept()?.unwrap_or_default();
    loop {
        let mut tx = call.tenant();
        if enabled(&mut tx, webhook).await.is_err() {
            tx.rollback();
            break;
        }
        if after == 0 {
            let again: Vec<DeliveryKey> = tx.rows(AGAIN, &[&webhook, &since]).await?;
            count += again.len();
        }
        let missed: Vec<MissedEvent> = tx.rows(MISSED, &[&webhook, &since, &after, &STEP]).await?;
        let events: Vec<EventId> = missed.iter().map(|event| event.id).collect();
        let ids: Vec<Id<Delivery>> = events.iter().map(|_| call.new_id()).collect();
        tx.rows::<()>(ADD, &[&webhook, &ids, &events]).await?;
        wake(call, &mut tx, &[webhook]).await?;
        tx.commit().await?;
        count += missed.len();
        let Some(last) = missed.last() else { break };
        after = last.number;
        job.keep(&(after, count)).await?;
    }
    job.result(&count)
}
