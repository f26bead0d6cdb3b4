//! Makes a delivery of each event for each endpoint that is to be told of it, once.

use erp_core::db::TenantTx;
use erp_core::error::Result;
use erp_core::events::{DomainEvent, Subscriber};
use erp_core::from_row;
use erp_core::jobs::{Job, JobOptions, hasten};
use erp_core::resource::Call;
use erp_core::shared::Id;
use serde_json::Value;

use super::DELIVERY;
use super::deliver::{DELIVER, Deliver};
use super::deliveries::Delivery;
use super::endpoints::Webhook;

pub(super) static FAN_OUT: Subscriber<Value> = Subscriber::of_all(
    "webhooks.fan_out",
    "Makes a delivery of each event for each endpoint that is to be told of it.",
    &DELIVERY,
    |job, event| Box::pin(fan_out(job, event)),
);

const WANTED_BY: &str = "select id from webhooks where enabled and $1 = any (events) order by id";
const ADD: &str = "insert into webhook_deliveries (id, webhook_id, event_id, number, name, aggregate_id, created_at, next_at) \
     select d.id, d.webhook_id, $3, $4, $5, $6, $7, now() from unnest($1::uuid[], $2::uuid[]) d (id, webhook_id)";

/// An endpoint.
pub(super) struct WebhookKey {
    pub(super) id: Id<Webhook>,
}
from_row!(WebhookKey { id });

async fn fan_out(job: &Job, event: DomainEvent<Value>) -> Result<()> {
    let call = &job.call;
    let wanted: Vec<WebhookKey> = call.tenant_read().last().rows(WANTED_BY, &[&event.name]).await?;
    if wanted.is_empty() {
        return Ok(());
    }
    let webhooks: Vec<Id<Webhook>> = wanted.into_iter().map(|row| row.id).collect();
    let ids: Vec<Id<Delivery>> = webhooks.iter().map(|_| call.new_id()).collect();
    let mut tx = call.tenant();
    let DomainEvent { id, number, name, aggregate_id, emitted_at, .. } = &event;
    tx.rows::<()>(ADD, &[&ids, &webhooks, id, number, name, aggregate_id, emitted_at]).await?;
    wake(call, &mut tx, &webhooks).await?;
    tx.commit().await
}

/// Lets what these endpoints are to be told of be sent: by a job of theirs, which exists once, or by the one that rests until
/// its next attempt. Call it when the deliveries are there: a job that ends looks once more while it holds its endpoint's
/// row, which a new delivery refers to.
pub(super) async fn wake(call: &Call, tx: &mut TenantTx<'_>, webhooks: &[Id<Webhook>]) -> Result<()> {
    let keys: Vec<String> = webhooks.iter().map(Id::to_string).collect();
    hasten(tx, &DELIVER, call.caller.tenant(), &keys).await?;
    for (webhook, key) in webhooks.iter().zip(keys) {
        call.enqueue_with(tx, &DELIVER, &Deliver { webhook: *webhook }, JobOptions::default().unique(key))?;
    }
    Ok(())
}
