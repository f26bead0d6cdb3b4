//! What others are told of an order: an event once it is approved, which webhooks tell on, and a mail to the supplier.

use erp_core::error::Result;
use erp_core::events::{DomainEvent, EventKind, Subscriber};
use erp_core::jobs::Job;
use erp_core::mail::{MailTemplate, Recipient};
use erp_core::mail_template;
use erp_core::shared::{Id, Money};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Order;
use crate::suppliers::facade::{self as suppliers, Supplier};

erp_core::system_work! {
    /// What purchasing does as the system.
    pub(super) SYSTEM {
        ORDERING = "purchasing": "Sends approved orders to their suppliers, also when the person who approved them is no member any more.";
    }
}

/// An order was approved.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderApproved {
    /// Its number.
    number: String,
    /// Who is to deliver.
    supplier_id: Id<Supplier>,
    /// What it costs.
    total: Money<0>,
}

impl OrderApproved {
    pub(super) fn of(order: &Order) -> Self {
        Self { number: order.number.clone(), supplier_id: order.supplier_id, total: order.total }
    }
}

pub(super) static ORDER_APPROVED: EventKind<OrderApproved> =
    EventKind::new("purchasing.order_approved", "A purchase order was approved.");

pub(super) static TELL_SUPPLIER: Subscriber<OrderApproved> = Subscriber::new(
    "purchasing.tell_supplier",
    "Sends an approved order to its supplier, if that has an address.",
    &ORDER_APPROVED,
    &ORDERING,
    |job, event| Box::pin(tell_supplier(job, event)),
);

/// What the mail to a supplier says.
pub(super) struct OrderPlaced {
    supplier: String,
    number: String,
    total: Money<0>,
}

pub(super) static ORDER_PLACED: MailTemplate<OrderPlaced> = mail_template!(
    "purchasing.order_placed", "Orders from a supplier.", OrderPlaced,
    "en": { subject: "Purchase order {{ mail.number }}", text: "purchasing/mails/order_placed.en.txt" },
    "de": { subject: "Bestellung {{ mail.number }}", text: "purchasing/mails/order_placed.de.txt" },
);

async fn tell_supplier(job: &Job, event: DomainEvent<OrderApproved>) -> Result<()> {
    let OrderApproved { number, supplier_id, total } = event.payload;
    let mut tx = job.call.tenant();
    let supplier = suppliers::read(&mut tx, supplier_id).await?;
    let address = supplier.as_ref().and_then(|supplier| supplier.email.as_ref()?.parse().ok());
    let (Some(supplier), Some(address)) = (supplier, address) else {
        tx.rollback();
        tracing::info!(number, "The supplier has no address that an order could be sent to");
        return Ok(());
    };
    let recipient = Recipient::new(address).named(&supplier.name);
    job.call.mail(
        &mut tx,
        &ORDER_PLACED,
        &recipient,
        &OrderPlaced { supplier: supplier.name, number, total },
    )?;
    tx.commit().await
}
