//! Events that fail, subscribers that stop, and what becomes of them; and who waits for whom.

use super::*;

const FAILING: &str =
    "select count(*) = 1 from event_cursors where subscriber = 'parcels.on_lost' and failures > 0";
const STOPPED: &str =
    "select count(*) = 1 from event_cursors where subscriber = 'parcels.on_lost' and stopped_at is not null";

async fn loses(person: &Actor<'_>, what: &str) {
    person.post("/test/parcels", json!({ "what": what, "lost": true })).await.assert(204);
}

/// Lets a subscriber that rests go on at once: time goes by.
async fn time_goes_by(app: &TestApp) {
    let sql = "update event_cursors set retry_at = now() where retry_at is not null; update job_scheduled set run_at = now()";
    app.sql().batch_execute(sql).await.expect("the test's SQL");
}

#[tokio::test]
async fn an_event_that_fails_holds_up_its_subscriber_in_its_tenant_and_nobody_else() {
    let app = working().await;
    loses(&app.alice(), "fails").await;
    until(&app, FAILING).await;
    loses(&app.alice(), "behind it").await;
    sends(&app.alice(), "of another kind").await;
    loses(&app.bob(), "elsewhere").await;
    until(&app, "select count(*) = 1 from parcel_notes where what = 'elsewhere'").await;
    until(&app, "select count(*) = 1 from parcel_notes where what = 'of another kind'").await;
    until(&app, "select count(*) = 4 from parcel_notes where what like 'all: %'").await;
    until(&app, "select count(*) = 1 from job_scheduled where kind = 'parcels.on_lost'").await;
    assert_eq!(noted(&app, "acme").await, ["of another kind"], "what the event had changed is rolled back");
    app.expect_errors();
    time_goes_by(&app).await;
    until(&app, STOPPED).await;
    let scrape = app.edge().app.scrape(erp_core::metrics::Format::Text004);
    assert!(
        scrape.contains("events_handled_total{subscriber=\"parcels.on_lost\",outcome=\"stopped\"} 1"),
        "{scrape}"
    );
    let audit = app.audit_of("acme").await;
    assert!(audit.iter().any(|row| row["action"] == "event_cursor.stopped"), "{audit:#?}");
    loses(&app.alice(), "wakes nobody").await;
    until(&app, "select bool_and(number is not null) from events").await;
    assert_eq!(
        value(&app, "select to_jsonb(count(*)) from job_keys where kind = 'parcels.on_lost'").await,
        json!(0)
    );
    app.finish().await;
}

#[tokio::test]
async fn panics_forgotten_commits_and_hopeless_events_are_failures_of_one_event() {
    let app = working().await;
    app.expect_errors();
    for what in ["panics", "forgets"] {
        sends(&app.alice(), what).await;
        until(
            &app,
            "select count(*) = 1 from event_cursors where subscriber = 'parcels.on_sent' and failures = 1",
        )
        .await;
        let skip = "update event_cursors set number = number + 1, failures = 0, retry_at = null where subscriber = 'parcels.on_sent'";
        until(&app, "select count(*) = 1 from job_scheduled where kind = 'parcels.on_sent'").await;
        app.sql().batch_execute(skip).await.unwrap();
        time_goes_by(&app).await;
    }
    sends(&app.alice(), "goes well").await;
    until(&app, "select count(*) = 1 from parcel_notes where what = 'goes well'").await;
    sends(&app.alice(), "hopeless").await;
    until(&app, "select count(*) = 1 from event_cursors where stopped_at is not null and failures = 1").await;
    assert_eq!(noted(&app, "acme").await, ["goes well"]);
    app.finish().await;
}

#[tokio::test]
async fn sixty_four_emit_at_a_time_and_wait_for_nobody() {
    let app = working().await;
    let slow = app.database().superuser().await;
    let tenant = app.tenant_id("acme");
    let emit = format!(
        "begin; set local app.tenant_id = '{tenant}'; select app.emit('[{{\"id\": \"01900000-0000-7000-8000-0000000000aa\", \
         \"name\": \"parcels.parcel_sent\", \"aggregate\": \"parcel\", \"aggregate_id\": \"01900000-0000-7000-8000-0000000000ab\", \
         \"payload\": {{\"what\": \"slow\"}}, \"origin\": \"test\"}}]')"
    );
    slow.batch_execute(&emit).await.unwrap();
    let alice = app.alice();
    let sending = (0..64).map(|number| {
        let alice = &alice;
        // Nothing else is changed: audited changes wait for each other's place in the audit log.
        let body = json!({ "what": format!("{number:02}"), "bare": true });
        async move { alice.post("/test/parcels", body).await.assert(204) }
    });
    let begun = Instant::now();
    let (_, waits) =
        tokio::join!(futures_util::future::join_all(sending), longest_wait(&app, Duration::from_millis(300)));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    until(&app, "select count(*) = 64 from parcel_notes where what not like 'all: %'").await;
    slow.batch_execute("commit").await.unwrap();
    until(&app, "select count(*) = 1 from parcel_notes where what = 'slow'").await;
    assert_eq!(noted(&app, "acme").await.last().unwrap(), "slow", "it is told last, and not passed over");
    assert!(waits.is_empty(), "{waits:?}");
    let numbers = value(&app, "select to_jsonb(array_agg(number order by number)) from events").await;
    assert_eq!(numbers, json!((1..=65).collect::<Vec<i64>>()));
    app.finish().await;
}

/// What sessions of requests were seen to wait for, on rows of events.
async fn longest_wait(app: &TestApp, time: Duration) -> Vec<String> {
    let sql = "select distinct wait_event || ': ' || query from pg_stat_activity where datname = current_database() and usename = 'erp_app' \
        and wait_event_type = 'Lock' and wait_event in ('transactionid', 'tuple', 'advisory', 'relation') and query like '%app.emit%'";
    let until = Instant::now() + time;
    let mut seen = Vec::new();
    while Instant::now() < until {
        let rows = app.sql().query(sql, &[]).await.unwrap();
        seen.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    seen
}

/// Both ends of the race for the head, again and again: the subscriber's last look, and an event that comes just then.
#[tokio::test]
async fn no_subscriber_falls_asleep_over_an_event_that_comes_as_it_ends() {
    let app = working().await;
    let holder = app.database().superuser().await;
    sends(&app.alice(), "first").await;
    until(&app, "select count(*) = 2 from parcel_notes").await;
    for round in 0..10 {
        until(&app, "select not exists (select from job_keys)").await;
        // The head is held while the subscriber looks for the last time and the relay comes with the next event: both wait.
        holder.batch_execute("begin; select from event_heads for update").await.unwrap();
        wake(&app).await;
        let waiting = "select count(*) >= 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%event_heads for update%'";
        until(&app, waiting).await;
        sends(&app.alice(), &format!("next {round}")).await;
        let both = "select count(*) >= 2 from pg_stat_activity where wait_event_type = 'Lock' and query like '%event_heads%' \
            and query not like '%pg_stat_activity%'";
        until(&app, both).await;
        let begun = Instant::now();
        holder.batch_execute("commit").await.unwrap();
        until(&app, &format!("select count(*) = 1 from parcel_notes where what = 'next {round}'")).await;
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "the catch-up found it, and not the relay: {:?}",
            begun.elapsed()
        );
    }
    app.finish().await;
}

/// Lets the job of `parcels.on_sent` begin, though there is nothing to read.
async fn wake(app: &TestApp) {
    let tenant = app.tenant_id("acme");
    let sql = format!(
        "begin; set local app.tenant_id = '{tenant}'; select app.enqueue('[{{\"id\": \"{}\", \"kind\": \"parcels.on_sent\", \
         \"priority\": 1, \"attempts\": 10, \"system\": \"parcels-note\", \"origin\": \"test\", \"unique_key\": \"cursor\", \
         \"args\": {{}}}}]'); commit",
        uuid::Uuid::now_v7()
    );
    app.sql().batch_execute(&sql).await.expect("the test's SQL");
}

#[tokio::test]
async fn events_that_nobody_has_numbered_or_woken_anybody_for_are_found() {
    let app = working().await;
    // As a process leaves it that has died right after its COMMIT.
    app.execute_in(
        "acme",
        "select app.emit('[{\"id\": \"01900000-0000-7000-8000-0000000000aa\", \"name\": \"parcels.parcel_sent\", \
         \"aggregate\": \"parcel\", \"aggregate_id\": \"01900000-0000-7000-8000-0000000000ab\", \
         \"payload\": {\"what\": \"left behind\"}, \"origin\": \"test\"}]')",
    )
    .await;
    until(&app, "select count(*) = 1 from parcel_notes where what = 'left behind'").await;
    // As a process of another version leaves it, which does not know the subscriber.
    app.execute_in(
        "acme",
        "insert into events (id, name, aggregate, aggregate_id, payload, origin, number) select gen_random_uuid(), name, aggregate, \
         aggregate_id, '{\"what\": \"asleep\"}', origin, 2 from events where number = 1; \
         update event_heads set number = 2, numbered_at = clock_timestamp()",
    )
    .await;
    until(&app, "select count(*) = 1 from parcel_notes where what = 'asleep'").await;
    app.finish().await;
}

#[tokio::test]
async fn old_events_are_removed_but_for_those_at_which_a_subscriber_has_stopped() {
    let app = working().await;
    sends(&app.alice(), "old").await;
    sends(&app.bob(), "needed").await;
    until(&app, "select count(*) = 4 from parcel_notes").await;
    let sql = "update events set emitted_at = now() - interval '31 days'; update event_cursors set stopped_at = now(), number = 0 \
        where tenant_id = (select id from tenants where slug = 'globex'); \
        update job_schedules set next_at = now() where name = 'maintenance.events'";
    app.sql().batch_execute(sql).await.unwrap();
    until(
        &app,
        "select count(*) = 0 from events e join tenants t on t.id = e.tenant_id where t.slug = 'acme'",
    )
    .await;
    until(&app, "select count(*) >= 2 from job_done where kind = 'maintenance.events'").await;
    assert_eq!(value(&app, "select to_jsonb(count(*)) from events").await, json!(1));
    app.finish().await;
}

#[tokio::test]
async fn t_20_a_payload_has_at_most_16_kib_and_a_kind_stands_in_a_row() {
    let app = working().await;
    app.expect_errors();
    let long = "x".repeat(17_000);
    app.alice()
        .post("/test/parcels", json!({ "what": long }))
        .await
        .assert(500)
        .problem("events.payload_too_large");
    assert_eq!(
        value(&app, "select to_jsonb(count(*)) from parcels").await,
        json!(0),
        "nothing was committed"
    );
    app.finish().await;
}
