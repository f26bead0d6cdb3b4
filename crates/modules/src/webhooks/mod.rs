//! Outgoing webhooks: a tenant's endpoints are told of its events (Standard Webhooks 1.0), and what became of each delivery
//! can be seen and repeated.
//!
//! `fan_out.rs` makes a delivery of each event for each endpoint that wants it, `deliver.rs` sends them, `endpoints.rs` and
//! `deliveries.rs` are the routes, `operator.rs` is what operators do. Why it is so: docs/decisions/0025-events.md.

mod deliver;
mod deliveries;
mod endpoints;
mod fan_out;
pub mod operator;
mod rewrap;

use erp_core::db::{Category, LegalBasis, PersonalColumn, PersonalData, Whose};
use erp_core::events::EventKind;
use erp_core::metrics::MetricTable;
use erp_core::module::{Access, Module, Operation, Routes, SystemGauge};
use erp_core::shared::Id;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use endpoints::{DisabledReason, Webhook};

/// The webhooks module.
pub static MODULE: Module = Module {
    name: "webhooks",
    about: "What has happened in a tenant, and a tenant's endpoints that are told of it.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    metrics: &[MetricTable::of::<WebhookMetrics>()],
    gauges: &[&DISABLED_ENDPOINTS],
    routes,
    jobs: &[&deliver::DELIVER, &deliveries::RECOVER, &rewrap::REWRAP],
    events: &[&DISABLED, &PING],
    subscribers: &[&fan_out::FAN_OUT],
    schedules: &[&rewrap::NIGHTLY],
    system: SYSTEM,
    system_verbs: &[("webhooks", &OPERATE)],
    migrations: erp_core::migrations!["0001_webhooks", "0002_operators", "0003_encrypted_secrets"],
    samples: erp_core::samples![
        "webhooks",
        "webhook_secrets",
        "webhook_health",
        "webhook_deliveries",
        "webhook_attempts"
    ],
    personal: &[ANSWERS],
    ..Module::BARE
};

/// Endpoints are tenants' own, and may repeat in an answer what they were told.
const ANSWERS: PersonalData = PersonalData::new("public.webhook_attempts", Whose::Mentioned)
    .purpose("showing why an endpoint did not take an event", LegalBasis::LegitimateInterests)
    .kept("EVENT_RETENTION_DAYS, as the event")
    .columns(&[PersonalColumn::new("answer", Category::Communication)])
    .impersonal(&[("outcome", "one of a few words")]);

erp_core::permissions! {
    /// The permissions of the webhooks module.
    pub PERMISSIONS {
        READ = "webhooks.endpoint.read" to [Owner]: "List and read webhooks and their deliveries.";
        WRITE = "webhooks.endpoint.write" to [Owner]: "Create, change and delete webhooks, and repeat deliveries.";
        EVENTS = "webhooks.event.read" to [Owner]: "List the tenant's events with what they tell.";
    }
}

erp_core::error_codes! {
    /// The codes of the webhooks module.
    pub ERRORS in codes {
        NOT_CONFIGURED = "webhooks.not_configured", 503, "Webhooks are not set up";
            "The operator has set no WEBHOOK_SECRET, which the secrets of endpoints are kept with.";
            "Ask the operator to set WEBHOOK_SECRET.";
        TOO_MANY = "webhooks.too_many", 409, "Too many webhooks";
            "The tenant has 1000 webhooks, which is the most.";
            "Delete one that is not needed any more.";
    }
}

erp_core::system_work! {
    /// What the webhooks module does as the system.
    pub(crate) SYSTEM {
        DELIVERY = "webhooks": "Tells endpoints of events, whichever person has given rise to them, and keeps their secrets sealed.";
        OPERATE = "webhook-operators": "Operators look at the endpoints of all tenants, switch them, and let deliveries be sent again.";
    }
}

erp_core::metrics! {
    /// What is measured of webhooks.
    pub struct WebhookMetrics of MODULE;

    /// Attempts at deliveries, by outcome: `success`, `redirected`, `client_error`, `server_error`, `timed_out`, `unreachable`,
    /// `refused` (the name leads inside), `held` by OUTBOUND_ALLOW and others.
    webhooks_attempts_total: Counter[outcome] { unit: "attempts" }

    /// Time from the commit of an event to its first delivery.
    webhooks_first_delivery_delay_seconds: Histogram[] { unit: "s", buckets: &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0] }

    /// Time that attempts took.
    webhooks_attempt_duration_seconds: Histogram[] { unit: "s", buckets: &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0] }

    /// Deliveries that were given up after four days of attempts.
    webhooks_given_up_total: Counter[] { unit: "deliveries", alert: "any increase" }

    /// Endpoints that were disabled, by reason: `gone` (410), `failing` (five days without a success).
    webhooks_disabled_total: Counter[reason] { unit: "endpoints", alert: "any increase" }

    /// Endpoints that are disabled at present, in all tenants, by reason: as above, and `switched_off` by somebody.
    webhooks_disabled_endpoints: Gauge[reason] { unit: "endpoints" }
}

static DISABLED_ENDPOINTS: SystemGauge = SystemGauge {
    metric: "webhooks_disabled_endpoints",
    work: &OPERATE,
    sql: "select disabled_reason as label, count(*)::float8 as value from webhooks where not enabled group by disabled_reason",
    labels: &["gone", "failing", "switched_off"],
    set: |metrics, reason, count| {
        metrics.of::<WebhookMetrics>()?.webhooks_disabled_endpoints.with(&[reason]).set(count);
        Ok(())
    },
};

/// An endpoint was disabled.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookDisabled {
    /// Which one.
    webhook_id: Id<Webhook>,
    /// Why.
    reason: DisabledReason,
}

/// A test.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookPing {
    /// Of which endpoint.
    webhook_id: Id<Webhook>,
}

/// An endpoint was disabled by itself: it was gone, or has failed for five days.
pub(crate) static DISABLED: EventKind<WebhookDisabled> = EventKind::new(
    "webhooks.webhook_disabled",
    "An endpoint was disabled, since it was gone or has failed for five days.",
);
/// Somebody has tested an endpoint. It is sent to that endpoint only, and is in no list of events.
pub(crate) static PING: EventKind<WebhookPing> =
    EventKind::new("webhooks.ping", "Somebody has tested the endpoint; it is sent to that one only.");

fn routes() -> Routes {
    let read = Access::Permission(&READ);
    let write = Access::Permission(&WRITE);
    Routes::new()
        .get("/api/v1/events", Access::Permission(&EVENTS), deliveries::list_events)
        .doc(Operation::new("listEvents", "List events").about(
            "The newest first, for some weeks: what webhooks tell of, for those who have missed something.",
        ))
        .get("/api/v1/webhooks", read, endpoints::list)
        .doc(Operation::new("listWebhooks", "List webhooks"))
        .post("/api/v1/webhooks", write, endpoints::create)
        .shows_secret()
        .doc(Operation::new("createWebhook", "Create a webhook").about(
            "The answer has the secret that deliveries are signed with; it is not shown again. `*` and `module.*` stand for the \
             events that there are now: what an endpoint is told of changes only when it is asked to.",
        ))
        .get("/api/v1/webhooks/{id}", read, endpoints::read)
        .doc(Operation::new("readWebhook", "Read a webhook"))
        .patch("/api/v1/webhooks/{id}", write, endpoints::change)
        .doc(Operation::new("changeWebhook", "Change a webhook"))
        .delete("/api/v1/webhooks/{id}", write, endpoints::delete)
        .doc(Operation::new("deleteWebhook", "Delete a webhook with its deliveries"))
        .post("/api/v1/webhooks/{id}/rotate", write, endpoints::rotate)
        .shows_secret()
        .doc(Operation::new("rotateWebhook", "Replace the secret of a webhook").about(
            "For 24 hours, or as long as is asked for, deliveries have both signatures.",
        ))
        .post("/api/v1/webhooks/{id}/test", write, endpoints::test)
        .doc(Operation::new("testWebhook", "Send a test to a webhook"))
        .post("/api/v1/webhooks/{id}/recover", write, deliveries::recover)
        .doc(Operation::new("recoverWebhook", "Deliver again what has not arrived since a time").about(
            "As a job: what has failed, and what happened while the endpoint was disabled.",
        ))
        .get("/api/v1/webhooks/{id}/deliveries", read, deliveries::list)
        .doc(Operation::new("listWebhookDeliveries", "List the deliveries of a webhook"))
        .get("/api/v1/webhooks/{id}/deliveries/{deliveryId}", read, deliveries::read)
        .doc(Operation::new("readWebhookDelivery", "Read a delivery with its attempts"))
        .post("/api/v1/webhooks/{id}/deliveries/{deliveryId}/replay", write, deliveries::replay)
        .doc(Operation::new("replayWebhookDelivery", "Deliver once more"))
}
