//! What the sweeps send to the routes of webhooks.

use erp_testkit::{Fixture, Prepared, Setup};
use serde_json::json;

pub(crate) const FIXTURES: &[Fixture] = &[
    Fixture::new("POST /api/v1/webhooks", |_| {
        Box::pin(async { Prepared::body(json!({ "url": "https://93.184.215.14/erp", "events": ["*"] })) })
    }),
    Fixture::new("PATCH /api/v1/webhooks/{id}", |setup| {
        Box::pin(async move { at(setup).await.with(json!({ "description": "Another one" })) })
    }),
    Fixture::new("POST /api/v1/webhooks/{id}/rotate", |setup| {
        Box::pin(async move { at(setup).await.with(json!({ "overlapHours": 1 })) })
    }),
    Fixture::new("POST /api/v1/webhooks/{id}/test", |setup| Box::pin(at(setup))),
    Fixture::new("POST /api/v1/webhooks/{id}/recover", |setup| {
        Box::pin(async move { at(setup).await.with(json!({ "since": "2026-01-01T00:00:00Z" })) })
    }),
    Fixture::new("GET /api/v1/webhooks/{id}/deliveries/{deliveryId}", |setup| Box::pin(delivery(setup))),
    Fixture::new("POST /api/v1/webhooks/{id}/deliveries/{deliveryId}/replay", |setup| {
        Box::pin(delivery(setup))
    }),
];

async fn at(setup: &Setup<'_>) -> Prepared {
    Prepared::at([setup.make("/api/v1/webhooks").await])
}

/// The delivery of a test.
async fn delivery(setup: &Setup<'_>) -> Prepared {
    let webhook = setup.make("/api/v1/webhooks").await;
    let path = format!("/api/v1/webhooks/{webhook}/test");
    let begun = setup.caller().post(&path, json!({})).await.assert(202).json();
    Prepared::at([webhook, begun["deliveryId"].as_str().expect("an id").to_owned()])
}
