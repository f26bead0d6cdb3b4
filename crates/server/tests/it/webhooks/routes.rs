//! Who may see and change webhooks, and what is refused.

use super::*;
use erp_testkit::Answer;
use http::Request;

#[tokio::test]
async fn t_18_webhooks_deliveries_and_events_of_another_tenant_do_not_exist() {
    let (app, receiver) = working().await;
    let (alice, bob) = (app.alice(), app.bob());
    let (webhook, _) = endpoint(&alice, &receiver.url("/one")).await;
    rings(&alice, "high", None).await;
    until(&app, "select count(*) = 1 from webhook_deliveries where status = 'succeeded'").await;
    let id = delivery(&alice, &webhook).await["id"].as_str().unwrap().to_owned();
    for path in [webhook.clone(), format!("{webhook}/deliveries"), format!("{webhook}/deliveries/{id}")] {
        bob.get(&path).await.assert(404).problem("core.not_found");
    }
    for (path, body) in
        [("rotate", json!({})), ("test", json!({})), ("recover", json!({ "since": "2026-01-01T00:00:00Z" }))]
    {
        bob.post(&format!("{webhook}/{path}"), body).await.assert(404).problem("core.not_found");
    }
    bob.post(&format!("{webhook}/deliveries/{id}/replay"), json!({})).await.assert(404);
    assert_eq!(bob.get("/api/v1/events").await.assert(200).json()["items"], json!([]));
    let events = alice.get("/api/v1/events").await.assert(200).json();
    assert_eq!(
        (&events["items"][0]["payload"]["tone"], &events["items"][0]["number"]),
        (&json!("high"), &json!(1))
    );
    for path in ["/api/v1/webhooks", "/api/v1/events"] {
        app.max().get(path).await.assert(403).problem("core.forbidden");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_webhook_is_changed_and_its_secret_is_shown_once() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    let (webhook, secret) = endpoint(&alice, &receiver.url("/one")).await;
    let shown = alice.get(&webhook).await.assert(200);
    assert!(!shown.json().to_string().contains(&secret));
    let changed = alice
        .patch(&webhook, json!({ "description": "ours", "events": ["*"], "enabled": false }))
        .await
        .assert(200)
        .json();
    assert_eq!(
        (&changed["description"], &changed["disabledReason"]),
        (&json!("ours"), &json!("switched_off"))
    );
    let unknown = alice
        .patch(&webhook, json!({ "events": ["bells.bell_rung", "bells.none", "none.*"] }))
        .await
        .assert(422)
        .json();
    let pointers: Vec<&str> = unknown["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/events/1", "/events/2"]);
    let audit = app.audit_of("acme").await;
    let text = serde_json::to_string(&audit).unwrap();
    assert!(text.contains("webhook.created") && !text.contains("/one") && !text.contains(&secret), "{text}");
    alice.delete(&webhook).await.assert(204);
    alice.get(&webhook).await.assert(404);
    let left = "select jsonb_build_array((select count(*) from webhook_secrets), (select count(*) from webhook_health))";
    let left: Value = app.sql().query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, json!([0, 0]));
    app.finish().await;
}

/// A POST under a key.
async fn under_key(actor: &Actor<'_>, path: &str, key: &str, body: &Value) -> Answer {
    let request =
        Request::post(path).header("idempotency-key", key).header("content-type", "application/json");
    actor.request(request.body(body.to_string()).unwrap()).await
}

#[tokio::test]
async fn h_09_an_answer_that_shows_a_secret_is_repeated_byte_for_byte_and_kept_sealed() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    let new = json!({ "url": receiver.url("/one"), "events": ["bells.bell_rung"] });
    let made = under_key(&alice, "/api/v1/webhooks", "made", &new).await.assert(201);
    let rotate = format!("{}/rotate", made.header("location"));
    let rotated = under_key(&alice, &rotate, "rotated", &json!({})).await.assert(200);
    let again = under_key(&alice, "/api/v1/webhooks", "made", &new).await.assert(201);
    let rotated_again = under_key(&alice, &rotate, "rotated", &json!({})).await.assert(200);
    for (first, second) in [(&made, &again), (&rotated, &rotated_again)] {
        assert_eq!(second.body, first.body);
        assert!(first.json()["secret"].as_str().unwrap().starts_with("whsec_"));
        for header in ["etag", "location", "content-type"] {
            assert_eq!(second.header(header), first.header(header));
        }
        assert_eq!(second.header("idempotency-replayed"), "true");
    }
    let kept = "select jsonb_build_array(count(*), count(*) filter (where position('whsec_'::bytea in body) > 0 \
        or headers is not null)) from idempotency_keys";
    let kept: Value = app.sql().query_one(kept, &[]).await.unwrap().get(0);
    assert_eq!(kept, json!([2, 0]));
    // Of no use in another row.
    app.sql().batch_execute("update idempotency_keys set key = 'moved' where key = 'made'").await.unwrap();
    app.expect_errors();
    under_key(&alice, "/api/v1/webhooks", "moved", &new).await.assert(500).problem("core.internal");
    assert!(app.log().text().contains("JWT_SECRET_PREVIOUS"));
    app.finish().await;
}

#[tokio::test]
async fn a_gauge_tells_how_many_endpoints_are_disabled_in_all_tenants() {
    let (app, receiver) = working().await;
    let (alice, bob) = (app.alice(), app.bob());
    for person in [&alice, &bob] {
        let (webhook, _) = endpoint(person, &receiver.url("/one")).await;
        person.patch(&webhook, json!({ "enabled": false })).await.assert(200);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let scraped = app.anonymous().get("/metrics").await.assert(200).text();
        if scraped.contains("\nwebhooks_disabled_endpoints{reason=\"switched_off\"} 2\n") {
            assert!(scraped.contains("\nwebhooks_disabled_endpoints{reason=\"gone\"} 0\n"), "{scraped}");
            break;
        }
        assert!(Instant::now() < deadline, "{scraped}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    app.finish().await;
}
