//! What subscribers are told, in which order, and how often it has its effect.

use super::*;

const QUIET: &str = "select not exists (select from event_cursors c join event_heads h using (tenant_id) where c.number < h.number) \
    and not exists (select from events where number is null) and not exists (select from job_running) \
    and not exists (select from job_ready)";

#[tokio::test]
async fn an_event_is_told_to_each_subscriber_once_in_the_tenant_it_happened_in() {
    let app = working().await;
    sends(&app.alice(), "one").await;
    sends(&app.bob(), "two").await;
    until(&app, "select count(*) = 4 from parcel_notes").await;
    assert_eq!(noted(&app, "acme").await, ["one"]);
    assert_eq!(noted(&app, "globex").await, ["two"]);
    let all =
        value(&app, "select jsonb_agg(what order by what) from parcel_notes where what like 'all: %'").await;
    assert_eq!(all, json!(["all: parcels.parcel_sent parcel one", "all: parcels.parcel_sent parcel two"]));
    let event = value(&app, "select to_jsonb(e) from events e where payload ->> 'what' = 'one'").await;
    assert_eq!((&event["number"], &event["aggregate"]), (&json!(1), &json!("parcel")));
    assert_eq!(event["principal"], app.alice().id().unwrap().to_string());
    assert!(event["origin"].as_str().unwrap().starts_with("req_"), "{event}");
    let audit = app.audit_of("acme").await;
    let noted = audit.iter().find(|row| row["action"] == "parcel_note.created").unwrap();
    assert_eq!(noted["actor"], "system:parcels-note", "{noted:#}");
    until(&app, QUIET).await;
    app.finish().await;
}

#[tokio::test]
async fn an_event_vanishes_with_the_transaction_that_emits_it() {
    let app = working().await;
    app.alice().post("/test/parcels", json!({ "what": "dropped", "drops": true })).await.assert(204);
    sends(&app.alice(), "kept").await;
    until(&app, "select count(*) = 2 from parcel_notes").await;
    assert_eq!(value(&app, "select to_jsonb(count(*)) from events").await, json!(1));
    assert_eq!(noted(&app, "acme").await, ["kept"]);
    app.finish().await;
}

#[tokio::test]
async fn events_are_read_in_the_order_in_which_they_were_emitted() {
    let app = working().await;
    for round in 0..3 {
        let many = json!({ "what": format!("{round}"), "times": 100 });
        app.alice().post("/test/parcels", many).await.assert(204);
    }
    until(&app, "select count(*) = 600 from parcel_notes").await;
    let wanted: Vec<_> =
        (0..3).flat_map(|round| (0..100).map(move |time| format!("{round} {time}"))).collect();
    assert_eq!(noted(&app, "acme").await, wanted);
    app.finish().await;
}
