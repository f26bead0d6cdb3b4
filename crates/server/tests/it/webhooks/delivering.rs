//! What an endpoint is sent, when it is sent again, and when no more.

use erp_core::shared::SystemRng;
use erp_core::webhooks::{SecretSeal, SigningSecret};

use super::*;

#[tokio::test]
async fn w_01_an_endpoint_is_sent_what_the_reference_library_verifies() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    let (webhook, secret) = endpoint(&alice, &receiver.url("/one")).await;
    rings(&alice, "high", None).await;
    rings(&app.bob(), "not ours", None).await;
    let received = receiver.until("/one", 1).await.remove(0);
    assert!(received.verifies(&secret), "{received:?}");
    let body = received.json();
    assert_eq!((&body["type"], &body["data"]), (&json!("bells.bell_rung"), &json!({ "tone": "high" })));
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'), "{body}");
    assert_eq!(received.header("content-type"), "application/json");
    until(&app, "select count(*) = 1 from webhook_deliveries where status = 'succeeded'").await;
    let shown = delivery(&alice, &webhook).await;
    assert_eq!(shown["id"], received.header("webhook-id"));
    assert_eq!(
        (&shown["sent"][0]["status"], &shown["sent"][0]["answer"]),
        (&json!(200), &json!("so be it "))
    );
    let other = endpoint(&alice, &receiver.url("/two")).await;
    assert_ne!(other.1, secret, "each endpoint has a secret of its own");
    let stored = app
        .sql()
        .query_one(
            "select bool_or(position(decode($1, 'base64') in sealed) > 0) from webhook_secrets",
            &[&secret.trim_start_matches("whsec_")],
        )
        .await
        .unwrap();
    assert!(!stored.get::<_, bool>(0), "it is stored sealed only");
    app.finish().await;
}

#[tokio::test]
async fn w_02_what_failed_comes_again_under_its_id_with_another_time_and_signature() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    let (webhook, secret) = endpoint(&alice, &receiver.url("/one")).await;
    let bad = [500, 302, 404, 301].map(Reaction::Status);
    receiver.reacts("/one", &[&bad[..], &[Reaction::Status(204)]].concat());
    rings(&alice, "high", None).await;
    for attempt in 1..=4 {
        receiver.until("/one", attempt).await;
        until(&app, &format!("select count(*) = 1 from webhook_deliveries where attempts = {attempt} and status = 'pending'")).await;
        until(&app, "select count(*) = 1 from job_scheduled where kind = 'webhooks.deliver'").await;
        app.clock().advance(jiff::SignedDuration::from_secs(60));
        time_goes_by(&app).await;
    }
    let received = receiver.until("/one", 5).await;
    until(&app, "select count(*) = 1 from webhook_deliveries where status = 'succeeded'").await;
    assert!(received.iter().all(|one| one.verifies(&secret)));
    let all = |name: &str| {
        received
            .iter()
            .map(|one| one.header(name).to_owned())
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    };
    assert_eq!((all("webhook-id"), all("webhook-timestamp"), all("webhook-signature")), (1, 5, 5));
    let shown = delivery(&alice, &webhook).await;
    let outcomes: Vec<&str> =
        shown["sent"].as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["server_error", "redirected", "client_error", "redirected", "success"]);
    app.finish().await;
}

#[tokio::test]
async fn w_02_an_endpoint_that_asks_for_rest_gets_it() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    endpoint(&alice, &receiver.url("/one")).await;
    receiver.reacts("/one", &[Reaction::With(429, "retry-after", "7200"), Reaction::Status(200)]);
    rings(&alice, "first", None).await;
    until(&app, "select count(*) = 1 from job_scheduled where kind = 'webhooks.deliver'").await;
    rings(&alice, "second", None).await;
    until(&app, "select count(*) = 2 from webhook_deliveries").await;
    let rests =
        "select bool_and(extract(epoch from rests_until - now()) between 7000 and 7300) from webhook_health";
    until(&app, rests).await;
    assert_eq!(receiver.at("/one").len(), 1, "another event wakes nobody who rests");
    time_goes_by(&app).await;
    receiver.until("/one", 3).await;
    app.finish().await;
}

#[tokio::test]
async fn w_02_an_endpoint_that_is_gone_is_disabled_and_so_is_one_that_has_failed_for_five_days() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    let (gone, _) = endpoint(&alice, &receiver.url("/gone")).await;
    let (failing, _) = endpoint(&alice, &receiver.url("/failing")).await;
    receiver.reacts("/gone", &[Reaction::Status(410)]);
    receiver.reacts("/failing", &[Reaction::Status(500)]);
    rings(&alice, "high", None).await;
    until(&app, "select count(*) = 1 from webhooks where disabled_reason = 'gone'").await;
    until(&app, "select count(*) = 2 from webhook_health where failures = 1 and failing_since is not null")
        .await;
    let days_ago =
        "update webhook_health set failing_since = now() - interval '121 hours', failed_at = now() - ";
    until(&app, "select count(*) = 1 from job_scheduled where kind = 'webhooks.deliver'").await;
    app.sql().batch_execute(&format!("{days_ago} interval '3 days'")).await.unwrap();
    time_goes_by(&app).await;
    until(&app, "select count(*) = 1 from webhook_health where failures = 2 and failing_since > now() - interval '1 hour'").await;
    app.sql().batch_execute(&format!("{days_ago} interval '1 day'")).await.unwrap();
    until(&app, "select count(*) = 1 from job_scheduled where kind = 'webhooks.deliver'").await;
    time_goes_by(&app).await;
    until(&app, "select count(*) = 1 from webhooks where disabled_reason = 'failing'").await;
    for (webhook, reason) in [(&gone, "gone"), (&failing, "failing")] {
        let shown = alice.get(webhook).await.assert(200).json();
        assert_eq!((&shown["enabled"], &shown["disabledReason"]), (&json!(false), &json!(reason)));
    }
    until(&app, "select count(*) = 2 from events where name = 'webhooks.webhook_disabled'").await;
    until(&app, "select not exists (select from webhook_deliveries where status = 'pending')").await;
    rings(&alice, "nobody hears it", None).await;
    alice.post(&format!("{failing}/test"), json!({})).await.assert(409).problem("core.wrong_state");
    receiver.reacts("/failing", &[Reaction::Status(200)]);
    alice.patch(&failing, json!({ "enabled": true })).await.assert(200);
    until(
        &app,
        "select count(*) = 1 from events where number is not null and payload ->> 'tone' = 'nobody hears it'",
    )
    .await;
    let since =
        alice.get("/api/v1/events?name=bells.bell_rung").await.json()["items"][1]["emittedAt"].clone();
    alice.post(&format!("{failing}/recover"), json!({ "since": since })).await.assert(202);
    until(&app, "select count(*) = 2 from webhook_deliveries where status = 'succeeded'").await;
    let tones: std::collections::BTreeSet<_> = receiver.at("/failing").iter().map(Received::tone).collect();
    assert!(tones.contains("nobody hears it"), "what happened meanwhile is told, too: {tones:?}");
    app.finish().await;
}

#[tokio::test]
async fn events_of_one_aggregate_arrive_in_their_order_and_hold_up_no_other() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    endpoint(&alice, &receiver.url("/one")).await;
    receiver.reacts("/one", &[Reaction::Status(400), Reaction::Status(200)]);
    let bell = "01900000-0000-7000-8000-000000000001";
    rings(&alice, "first", Some(bell)).await;
    receiver.until("/one", 1).await;
    until(&app, "select count(*) = 1 from job_scheduled where kind = 'webhooks.deliver'").await;
    rings(&alice, "second", Some(bell)).await;
    rings(&alice, "other", None).await;
    receiver.until("/one", 2).await;
    until(&app, "select count(*) = 1 from webhook_deliveries where status = 'succeeded'").await;
    until(&app, "select count(*) = 1 from job_scheduled where kind = 'webhooks.deliver'").await;
    time_goes_by(&app).await;
    let tones: Vec<String> = receiver.until("/one", 4).await.iter().map(Received::tone).collect();
    assert_eq!(tones, ["first", "other", "first", "second"]);
    app.finish().await;
}

#[tokio::test]
async fn w_04_both_secrets_sign_while_one_is_replaced() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    let (webhook, first) = endpoint(&alice, &receiver.url("/one")).await;
    let rotated = alice.post(&format!("{webhook}/rotate"), json!({})).await.assert(200).json();
    let second = rotated["secret"].as_str().unwrap();
    assert!(rotated["previousUntil"].is_string() && second != first, "{rotated}");
    rings(&alice, "both", None).await;
    let both = receiver.until("/one", 1).await.remove(0);
    assert!(both.verifies(&first) && both.verifies(second));
    assert_eq!(both.header("webhook-signature").split(' ').count(), 2);
    let rotated =
        alice.post(&format!("{webhook}/rotate"), json!({ "overlapHours": 0 })).await.assert(200).json();
    assert_eq!(rotated["previousUntil"], Value::Null);
    rings(&alice, "last", None).await;
    let last = receiver.until("/one", 2).await.remove(1);
    assert!(
        last.verifies(rotated["secret"].as_str().unwrap())
            && !last.verifies(second)
            && !last.verifies(&first)
    );
    app.finish().await;
}

#[tokio::test]
async fn w_03_a_name_that_leads_inside_later_is_refused_when_it_is_called() {
    let receiver = Receiver::start().await;
    let app = builder().name("moved.example.com", Ipv4Addr::LOCALHOST.into()).start().await;
    let alice = app.alice();
    for url in [
        "http://127.0.0.1:9999/",
        "http://169.254.169.254/latest",
        "http://[::ffff:10.0.0.1]/",
        "http://0x7f.1/",
        "ftp://hooks.example.com/",
        "http://user@hooks.example.com/",
        "http://moved.example.com:9999/",
        "http://localhost:9999/",
    ] {
        let refused =
            alice.post("/api/v1/webhooks", json!({ "url": url, "events": ["*"] })).await.assert(422);
        assert_eq!(refused.json()["errors"][0]["pointer"], "/url", "{url}: {}", refused.json());
    }
    let (webhook, _) = endpoint(&alice, &receiver.url("/one")).await;
    // As if its name had led elsewhere when it was given.
    let moved = format!("update webhooks set url = 'http://moved.example.com:{}/one'", receiver.port);
    app.execute_in("acme", &moved).await;
    rings(&alice, "high", None).await;
    until(
        &app,
        "select count(*) = 1 from webhook_deliveries where attempts = 1 and last_outcome = 'refused'",
    )
    .await;
    assert!(receiver.at("/one").is_empty());
    assert_eq!(delivery(&alice, &webhook).await["status"], "pending");
    app.finish().await;
}

#[tokio::test]
async fn in_staging_what_is_not_listed_is_held_and_recorded() {
    let app = builder()
        .setting("APP_ENV", "staging")
        .setting("OUTBOUND_ALLOW", "elsewhere.example.com")
        .name("hooks.example.org", Ipv4Addr::new(93, 184, 215, 14).into())
        .start()
        .await;
    let alice = app.alice();
    let (webhook, _) = endpoint(&alice, "https://hooks.example.org/one").await;
    rings(&alice, "high", None).await;
    until(&app, "select count(*) = 1 from webhook_deliveries where status = 'held'").await;
    let shown = delivery(&alice, &webhook).await;
    assert_eq!((&shown["lastOutcome"], &shown["attempts"]), (&json!("held"), &json!(1)));
    app.finish().await;
}

#[tokio::test]
async fn a_test_and_a_replay_are_sent_and_a_tone_is_told_to_who_asked_for_it_only() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    let (webhook, secret) = endpoint(&alice, &receiver.url("/one")).await;
    let begun = alice.post(&format!("{webhook}/test"), json!({})).await.assert(202).json();
    let ping = receiver.until("/one", 1).await.remove(0);
    assert!(ping.verifies(&secret));
    assert_eq!(
        (ping.header("webhook-id"), &ping.json()["type"]),
        (begun["deliveryId"].as_str().unwrap(), &json!("webhooks.ping"))
    );
    until(&app, "select count(*) = 1 from webhook_deliveries where status = 'succeeded'").await;
    let replay = format!("{webhook}/deliveries/{}/replay", begun["deliveryId"].as_str().unwrap());
    alice.post(&replay, json!({})).await.assert(202);
    let again = receiver.until("/one", 2).await.remove(1);
    assert_eq!(again.header("webhook-id"), ping.header("webhook-id"));
    until(&app, "select count(*) = 2 from webhook_attempts").await;
    let pinned = alice
        .post("/api/v1/webhooks", json!({ "url": receiver.url("/two"), "events": ["bells.*"] }))
        .await
        .assert(201)
        .json();
    assert_eq!(pinned["events"], json!(["bells.bell_rung@2"]), "the newest form of each kind");
    rings(&alice, "in the first form", None).await;
    receiver.until("/one", 3).await;
    assert!(receiver.at("/two").is_empty());
    app.finish().await;
}

#[tokio::test]
async fn w_04_the_key_of_all_secrets_is_replaced_and_no_secret_changes() {
    let receiver = Receiver::start().await;
    let app = TestApp::builder().module(&BELLS).setting("OUTBOUND_ALLOW", "127.0.0.1").start().await;
    let alice = app.alice();
    let (_, secret) = endpoint(&alice, &format!("http://127.0.0.1:{}/one", receiver.port)).await;
    let sealed = async || -> Vec<u8> {
        app.sql().query_one("select sealed from webhook_secrets", &[]).await.unwrap().get(0)
    };
    // As it was before there were keys of tenants: sealed under WEBHOOK_SECRET.
    let settings = erp_core::config::WebhookSettings {
        secret: Some(erp_core::shared::Secret::new(WEBHOOK_SECRET.to_owned())),
        secret_previous: None,
    };
    let place: Vec<u8> = app
        .sql()
        .query_one("select uuid_send(tenant_id) || uuid_send(webhook_id) from webhook_secrets", &[])
        .await
        .unwrap()
        .get(0);
    let signing = SigningSecret::parse(&secret).unwrap();
    let of_before = SecretSeal::of(&settings).unwrap().seal(&SystemRng::new(), &place, &signing).unwrap();
    app.sql().execute("update webhook_secrets set sealed = $1", &[&of_before]).await.unwrap();
    let before = sealed().await;
    let key = "another-Kx7Rv2Tq9Lp4Wn8Zs3Yb6Md1";
    let settings = [
        ("WEBHOOK_SECRET", key),
        ("WEBHOOK_SECRET_PREVIOUS", WEBHOOK_SECRET),
        ("OUTBOUND_ALLOW", "127.0.0.1"),
    ];
    let both = crate::jobs::beside_with(&app, "4", &settings).await;
    rings(&alice, "with both keys", None).await;
    assert!(receiver.until("/one", 1).await[0].verifies(&secret));
    until(&app, "select count(*) = 1 from webhook_deliveries where status = 'succeeded'").await;
    assert_ne!(sealed().await, before);
    assert!(sealed().await.starts_with(b"v1:"), "it is encrypted with the tenant's key");
    both.shut_down(false).await;
    let settings = [("WEBHOOK_SECRET", key), ("OUTBOUND_ALLOW", "127.0.0.1")];
    let new = crate::jobs::beside_with(&app, "4", &settings).await;
    rings(&alice, "with the new one", None).await;
    assert!(receiver.until("/one", 2).await[1].verifies(&secret));
    until(&app, "select count(*) = 2 from webhook_deliveries where status = 'succeeded'").await;
    new.shut_down(false).await;
    app.finish().await;
}

#[tokio::test]
async fn w_02_a_long_answer_and_odd_ones_count_by_their_status() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    endpoint(&alice, &receiver.url("/page")).await;
    receiver.reacts("/page", &[Reaction::Page(200)]);
    rings(&alice, "größer 😊 \"\\", None).await;
    until(&app, "select count(*) = 1 from webhook_deliveries where status = 'succeeded' and attempts = 1")
        .await;
    assert_eq!(receiver.at("/page")[0].tone(), "größer 😊 \"\\");
    let (webhook, secret) = endpoint(&alice, &receiver.url("/odd")).await;
    receiver.reacts(
        "/odd",
        &[Reaction::Page(500), Reaction::With(202, "retry-after", "1"), Reaction::Status(200)],
    );
    rings(&alice, "odd", None).await;
    until(
        &app,
        "select count(*) = 1 from webhook_deliveries where last_outcome = 'too_large' and status = 'pending'",
    )
    .await;
    until(&app, "select count(*) = 1 from job_scheduled where kind = 'webhooks.deliver'").await;
    time_goes_by(&app).await;
    until(&app, "select count(*) = 3 from webhook_deliveries where status = 'succeeded'").await;
    assert!(receiver.at("/odd").iter().all(|one| one.verifies(&secret)));
    let shown = delivery(&alice, &webhook).await;
    assert_eq!(shown["sent"][1]["status"], 202);
    app.finish().await;
}

#[tokio::test]
async fn an_endpoint_that_never_answers_and_one_that_is_not_there_hold_up_no_other() {
    let (app, receiver) = working().await;
    let alice = app.alice();
    for url in [receiver.url("/hangs"), format!("http://{HOST}:1999/"), receiver.url("/well")] {
        endpoint(&alice, &url).await;
    }
    receiver.reacts("/hangs", &[Reaction::Hangs]);
    let begun = Instant::now();
    for number in 0..5 {
        rings(&alice, &number.to_string(), None).await;
    }
    receiver.until("/well", 5).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    until(&app, "select count(*) = 5 from webhook_deliveries where status = 'succeeded'").await;
    // The one that is not there rests, and holds no slot meanwhile.
    until(&app, "select count(*) = 1 from job_scheduled where kind = 'webhooks.deliver' and run_at > now() + interval '2 seconds'").await;
    app.finish().await;
}
