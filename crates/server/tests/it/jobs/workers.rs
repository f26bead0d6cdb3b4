//! Several workers, and the ways in which they end.

use std::time::Duration;

use erp_testkit::TestApp;
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use super::{ERRANDS, PATIENCE, beside, until, value, working, written};

/// Puts a job where a worker that has died would have left it.
const LEFT: &str = "insert into job_workers (id, host, version, slots, beat)
      values ('00000000-0000-4000-8000-000000000001', 'gone', '0', 4, now() - interval '1 minute');
    with moved as (delete from job_scheduled returning *)
    insert into job_running (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args,
        state, error, enqueued_at, worker, began_at)
      select tenant_id, id, kind, priority, case args ->> 'what' when 'last' then attempts else 1 end, attempts, principal,
        system, origin, unique_key, args, state, error, enqueued_at, '00000000-0000-4000-8000-000000000001', now()
      from moved;";

#[tokio::test]
async fn s_11_the_jobs_of_a_dead_worker_run_again_and_the_last_attempt_is_the_last() {
    let app = TestApp::builder().module(&ERRANDS).start().await;
    for what in ["bread", "milk", "last"] {
        app.alice()
            .post("/test/errands", json!({"kind": "write", "what": what, "after": 3600}))
            .await
            .assert(204);
    }
    app.sql().batch_execute(LEFT).await.unwrap();
    let worker = beside(&app, "4").await;
    until(&app, "select count(*) = 2 from job_done where attempt = 2").await;
    until(&app, "select count(*) = 1 from job_dead where error = 'its worker died'").await;
    assert_eq!(written(&app, "acme").await, ["bread", "milk"]);
    assert!(worker.shut_down(false).await);
    assert_eq!(
        value(&app, "select to_jsonb(count(*)) from job_workers").await,
        0,
        "a worker that stops says so"
    );
    app.finish().await;
}

#[tokio::test]
async fn s_11_an_attempt_that_has_lost_its_job_changes_nothing() {
    let app = working().await;
    app.alice().post("/test/errands", json!({"kind": "slowly", "what": "700"})).await.assert(204);
    until(&app, "select count(*) = 1 from job_running").await;
    // Others take this process for dead, though it is only slow.
    app.sql()
        .batch_execute(
            "with lost as (delete from job_running returning *)
             insert into job_ready (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key,
               args, state, error, enqueued_at)
             select tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, state,
               error, enqueued_at from lost",
        )
        .await
        .unwrap();
    until(&app, "select count(*) = 1 from job_done where attempt = 2").await;
    until(&app, "select count(*) = 0 from job_running").await;
    assert_eq!(written(&app, "acme").await, ["700"], "once");
    app.finish().await;
}

#[tokio::test]
async fn a_cancelled_job_ends_and_what_it_changed_is_rolled_back() {
    let app = working().await;
    app.alice().post("/test/errands", json!({"kind": "slowly", "what": "60000"})).await.assert(204);
    until(&app, "select count(*) = 1 from job_running").await;
    app.execute_in("acme", "insert into job_cancels (id) select id from job_running").await;
    until(&app, "select count(*) = 1 from job_done where outcome = 'cancelled'").await;
    until(&app, "select count(*) = 0 from job_cancels").await;
    assert!(written(&app, "acme").await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn a_cancelled_job_that_fails_does_not_come_again() {
    let app = TestApp::builder().module(&ERRANDS).start().await;
    app.alice().post("/test/errands", json!({"kind": "twice", "what": "x"})).await.assert(204);
    app.execute_in("acme", "insert into job_cancels (id) select id from job_ready").await;
    let worker = beside(&app, "1").await;
    until(&app, "select count(*) = 1 from job_done where outcome = 'cancelled'").await;
    assert!(written(&app, "acme").await.is_empty());
    worker.shut_down(false).await;
    app.finish().await;
}

#[tokio::test]
async fn at_the_stop_what_runs_may_end_and_the_rest_goes_back_uncounted() {
    let app = TestApp::builder().module(&ERRANDS).start().await;
    let worker = beside(&app, "2").await;
    for what in ["300", "60000", "60001", "60002"] {
        app.alice().post("/test/errands", json!({"kind": "slowly", "what": what})).await.assert(204);
        if what == "60000" {
            until(&app, "select count(*) = 2 from job_running").await;
        }
    }
    worker.shut_down(false).await;
    assert_eq!(value(&app, "select jsonb_agg(args ->> 'what') from job_done").await, json!(["300"]));
    let back = "select jsonb_agg(jsonb_build_array(args ->> 'what', attempt) order by args ->> 'what') from job_ready";
    assert_eq!(value(&app, back).await, json!([["60000", 0], ["60001", 0], ["60002", 0]]));
    assert_eq!(written(&app, "acme").await, ["300"]);
    app.finish().await;
}

/// A claim that is under way at the stop may be carried out without anybody hearing of it.
#[tokio::test]
async fn s_11_no_job_is_left_behind_by_a_stop_whenever_it_comes() {
    let app = TestApp::builder().module(&ERRANDS).start().await;
    let alice = app.alice();
    join_all((0..200).map(|_| alice.post("/test/errands", json!({"kind": "count", "what": "x"})))).await;
    for done in [1, 40, 80, 120, 160] {
        let worker = beside(&app, "4").await;
        until(&app, &format!("select count(*) >= {done} from job_done")).await;
        worker.shut_down(false).await;
        assert_eq!(value(&app, "select to_jsonb(count(*)) from job_running").await, 0);
    }
    let worker = beside(&app, "4").await;
    until(&app, "select count(*) = 200 from job_done").await;
    assert_eq!(value(&app, "select to_jsonb(max(attempt)) from job_done").await, 1, "a stop is no attempt");
    worker.shut_down(false).await;
    app.finish().await;
}

#[tokio::test]
async fn the_doorbell_rings_in_other_processes_too() {
    let app = TestApp::builder().module(&ERRANDS).start().await;
    let worker = beside(&app, "2").await;
    until(&app, "select count(*) = 1 from job_workers").await;
    let mut fastest = Duration::MAX;
    for done in 1..=5 {
        let begun = Instant::now();
        app.alice().post("/test/errands", json!({"kind": "count", "what": "x"})).await.assert(204);
        until(&app, &format!("select count(*) = {done} from job_done")).await;
        fastest = fastest.min(begun.elapsed());
    }
    assert!(
        fastest < Duration::from_millis(500),
        "nobody waits for a look, which comes once a second: {fastest:?}"
    );
    worker.shut_down(false).await;
    app.finish().await;
}

#[tokio::test]
async fn t_22_as_many_run_at_a_time_in_a_tenant_as_the_kind_says_in_all_processes_together() {
    let app = TestApp::builder().module(&ERRANDS).start().await;
    let workers = join_all((0..3).map(|_| beside(&app, "4"))).await;
    for actor in [app.alice(), app.bob()] {
        join_all((0..12).map(|_| actor.post("/test/errands", json!({"kind": "alone", "what": "x"})))).await;
    }
    let deadline = Instant::now() + super::PATIENCE;
    let mut most = 0;
    while value(&app, "select to_jsonb(count(*)) from job_done").await != 24 {
        assert!(Instant::now() < deadline, "they come to an end");
        let sql = "select coalesce(max(running), 0) from (select count(*) as running from job_running group by tenant_id) r";
        most = most.max(app.sql().query_one(sql, &[]).await.unwrap().get::<_, i64>(0));
    }
    assert_eq!(most, 2);
    for worker in workers {
        worker.shut_down(false).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_paused_waits_and_a_kind_that_nobody_knows_is_left_alone() {
    let app = working().await;
    let alice = app.alice();
    app.sql()
        .batch_execute(&format!(
            "insert into job_kinds (kind, paused) values ('errands.write', true);
             insert into job_tenants (tenant, paused) values ('{}', true)",
            app.tenant_id("globex")
        ))
        .await
        .unwrap();
    app.execute_in(
        "acme",
        "insert into job_ready (id, kind, priority, attempt, attempts, system, origin, args, enqueued_at)
           values (gen_random_uuid(), 'errands.newer@2', 1, 0, 1, 'x', 'x', '{}', now())",
    )
    .await;
    until(&app, "select count(*) = 1 from job_workers where beat > started_at").await;
    alice.post("/test/errands", json!({"kind": "write", "what": "x"})).await.assert(204);
    app.bob().post("/test/errands", json!({"kind": "count", "what": "x"})).await.assert(204);
    alice.post("/test/errands", json!({"kind": "count", "what": "x"})).await.assert(204);
    until(&app, "select count(*) = 1 from job_done").await;
    until(&app, "select count(*) = 1 from job_workers where beat > started_at + interval '2 seconds'").await;
    assert_eq!(value(&app, "select to_jsonb(count(*)) from job_ready").await, 3);
    app.sql().batch_execute("delete from job_kinds; delete from job_tenants").await.unwrap();
    until(&app, "select count(*) = 3 from job_done").await;
    assert_eq!(value(&app, "select to_jsonb(kind) from job_ready").await, "errands.newer@2");
    app.finish().await;
}

#[tokio::test]
async fn t_22_a_tenant_has_so_many_jobs_waiting_and_no_more() {
    let app = TestApp::builder().module(&ERRANDS).setting("JOB_BACKLOG", "5").start().await;
    app.expect_errors();
    let alice = app.alice();
    let post = async || alice.post("/test/errands", json!({"kind": "count", "what": "x"})).await;
    for _ in 0..5 {
        post().await.assert(204);
    }
    let refused = post().await.assert(503);
    assert_eq!(
        (refused.problem("jobs.backlog_full")["status"].clone(), refused.header("retry-after")),
        (503.into(), "1")
    );
    app.bob().post("/test/errands", json!({"kind": "count", "what": "x"})).await.assert(204);
    let worker = beside(&app, "2").await;
    until(&app, "select count(*) = 6 from job_done").await;
    let deadline = Instant::now() + super::PATIENCE;
    while post().await.status != 204 {
        assert!(Instant::now() < deadline, "it is counted anew");
        app.clock().advance(jiff::SignedDuration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.shut_down(false).await;
    app.finish().await;
}

#[tokio::test]
async fn what_is_too_long_for_a_queue_is_refused() {
    let app = working().await;
    app.expect_errors();
    let long = "x".repeat(17_000);
    app.alice().post("/test/errands", json!({"kind": "count", "what": long})).await.assert(500);
    let mut fits = json!({"kind": "count", "what": "ü".repeat(8_000)});
    app.alice().post("/test/errands", fits.take()).await.assert(204);
    until(&app, "select count(*) = 1 from job_done").await;
    app.finish().await;
}

#[tokio::test]
async fn t_22_many_who_enqueue_do_not_wait_for_each_other() {
    let app =
        TestApp::builder().module(&ERRANDS).setting("DATABASE_TENANT_MAX_CONNECTIONS", "20").start().await;
    let alice = app.alice();
    let watching = async {
        let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        let mut seen = 0;
        for _ in 0..50 {
            seen += app.sql().query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        }
        seen
    };
    let enqueuing = join_all((0..64).map(|_| async {
        for _ in 0..5 {
            alice.post("/test/errands", json!({"kind": "count", "what": "x"})).await.assert(204);
        }
    }));
    let (seen, _) = tokio::join!(watching, enqueuing);
    assert_eq!(seen, 0, "sessions that wait for a lock");
    assert_eq!(value(&app, "select to_jsonb(count(*)) from job_ready").await, 320);
    app.finish().await;
}

/// Nobody works, or the clock has stopped: an operator is told, and requests are served all the same.
#[tokio::test]
async fn jobs_that_nobody_works_on_and_schedules_that_nobody_fires_are_told_and_leave_the_process_ready() {
    let app = TestApp::builder().module(&ERRANDS).start().await; // no workers
    let passed = async |name: &str| {
        let health = app.anonymous().get("/health/detailed").await.assert(200).json();
        let checks = health["checks"].as_array().expect("checks").clone();
        let check = checks.into_iter().find(|check| check["name"] == name).expect("the check");
        check["passed"] == json!(true)
    };
    assert!(passed("workers").await && passed("scheduler").await, "nothing waits");
    app.alice().post("/test/errands", json!({ "kind": "write", "what": "wait" })).await.assert(204);
    let late = "insert into job_schedules (name, spec, next_at) values ('test.late', 'x', now() - interval '2 minutes')";
    app.sql().batch_execute(late).await.expect("the test's SQL");
    let deadline = Instant::now() + PATIENCE; // answers are good for a second
    while passed("workers").await || passed("scheduler").await {
        assert!(Instant::now() < deadline, "nobody is told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app.anonymous().get("/readyz").await.assert(200);
    app.finish().await;
}
