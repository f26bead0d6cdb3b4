//! What becomes of one job.

use erp_core::auth::Role;
use jiff::SignedDuration;
use serde_json::json;

use super::{until, value, working, written};

#[tokio::test]
async fn t_20_a_job_runs_in_the_tenant_and_for_the_person_who_enqueued_it() {
    let app = working().await;
    app.alice().post("/test/errands", json!({"kind": "write", "what": "bread"})).await.assert(204);
    app.bob().post("/test/errands", json!({"kind": "write", "what": "milk"})).await.assert(204);
    until(&app, "select count(*) = 2 from job_done where outcome = 'succeeded'").await;
    assert_eq!(
        (written(&app, "acme").await, written(&app, "globex").await),
        (vec!["bread".into()], vec!["milk".into()])
    );
    let audit = app.audit_of("acme").await;
    let row =
        audit.iter().find(|row| row["action"] == "errand.created").expect("what the job changed is audited");
    assert_eq!(row["actor"], format!("job:{}", app.person("acme", Role::Owner).user_id));
    assert!(row["correlation_id"].as_str().is_some_and(|id| id.starts_with("job_")), "{row}");
    assert_eq!(value(&app, "select to_jsonb(count(*)) from job_running").await, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_job_vanishes_with_the_transaction_that_enqueued_it() {
    let app = working().await;
    app.alice().post("/test/errands/refused", json!({"kind": "write", "what": "never"})).await.assert(204);
    app.alice().post("/test/errands", json!({"kind": "count", "what": "four"})).await.assert(204);
    until(&app, "select count(*) = 1 from job_done").await;
    assert_eq!(value(&app, "select to_jsonb(result) from job_done").await, 4);
    assert!(written(&app, "acme").await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn a_kind_without_arguments_is_enqueued_as_any_other() {
    let app = working().await;
    app.alice().post("/test/errands/plain", json!({})).await.assert(204);
    until(&app, "select count(*) = 1 from job_done where outcome = 'succeeded'").await;
    assert_eq!(
        value(&app, "select jsonb_build_array(args, result) from job_done").await,
        json!([null, "plain"])
    );
    app.finish().await;
}

#[tokio::test]
async fn what_fails_has_changed_nothing_and_comes_again() {
    let app = working().await;
    app.alice().post("/test/errands", json!({"kind": "twice", "what": "once"})).await.assert(204);
    until(
        &app,
        "select count(*) = 1 from job_scheduled where run_at between now() + '3 s' and now() + '7 s'",
    )
    .await;
    assert!(written(&app, "acme").await.is_empty(), "the first attempt is rolled back");
    app.sql().batch_execute("update job_scheduled set run_at = now()").await.unwrap();
    until(&app, "select count(*) = 1 from job_done where attempt = 2").await;
    assert_eq!(written(&app, "acme").await, ["once"]);
    app.finish().await;
}

#[tokio::test]
async fn what_cannot_succeed_is_dead_at_once_with_its_reason() {
    let app = working().await;
    app.expect_errors();
    for kind in ["hopeless", "panics", "late", "forgets"] {
        app.alice().post("/test/errands", json!({"kind": kind, "what": "x"})).await.assert(204);
    }
    until(&app, "select count(*) = 4 from job_dead").await;
    assert!(written(&app, "acme").await.is_empty());
    let reasons = value(&app, "select jsonb_object_agg(kind, error) from job_dead").await;
    assert!(reasons["errands.hopeless"].as_str().unwrap().contains("no such customer"), "{reasons}");
    assert!(reasons["errands.late"].as_str().unwrap().contains("longer than 100ms"), "{reasons}");
    for kind in ["errands.panics", "errands.forgets"] {
        assert_eq!(reasons[kind], "core.internal", "the cause goes to the log");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_long_job_goes_on_where_its_last_step_ended() {
    let app = working().await;
    app.alice().post("/test/errands", json!({"kind": "steps", "what": "step"})).await.assert(204);
    until(&app, "select count(*) = 1 from job_scheduled where state = '2'").await;
    assert_eq!(written(&app, "acme").await, ["step 0", "step 1"], "what a step committed stays");
    app.sql().batch_execute("update job_scheduled set run_at = now()").await.unwrap();
    until(&app, "select count(*) = 1 from job_done").await;
    assert_eq!(written(&app, "acme").await, ["step 0", "step 1", "step 2"], "each once");
    app.finish().await;
}

#[tokio::test]
async fn a_kind_that_blocks_has_threads_of_its_own() {
    let app = working().await;
    app.alice().post("/test/errands", json!({"kind": "blocks", "what": "50"})).await.assert(204);
    until(&app, "select count(*) = 1 from job_done").await;
    assert_eq!(value(&app, "select result from job_done").await, "job");
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_there_once_also_where_others_are_rolled_back() {
    let app = working().await;
    let alice = app.alice();
    let post = || {
        alice.post("/test/errands", json!({"kind": "write", "what": "x", "key": "nightly", "after": 3600}))
    };
    let all = futures_util::future::join_all((0..5).map(|_| post())).await;
    assert!(all.into_iter().all(|answer| answer.status == 204));
    assert_eq!(value(&app, "select to_jsonb(count(*)) from job_scheduled").await, 1);
    app.sql().batch_execute("update job_scheduled set run_at = now()").await.unwrap();
    until(&app, "select count(*) = 1 from job_done").await;
    post().await.assert(204);
    assert_eq!(value(&app, "select to_jsonb(count(*)) from job_scheduled").await, 1, "the key is free again");
    app.finish().await;
}

#[tokio::test]
async fn t_20_without_a_right_to_be_there_a_job_fails_closed() {
    let app = working().await;
    app.expect_errors();
    let gone = app.another("acme", Role::Member).await;
    gone.post("/test/errands", json!({"kind": "write", "what": "x", "after": 3600})).await.assert(204);
    app.alice().post("/test/errands", json!({"kind": "sweep", "what": "x", "after": 3600})).await.assert(204);
    let id = gone.id().unwrap();
    app.execute_in("acme", &format!("update memberships set ended_at = now() where user_id = '{id}'")).await;
    app.clock().advance(SignedDuration::from_secs(6)); // what was read of permissions holds no longer
    // A job of another kind, which somebody has given the name of the system's work.
    app.execute_in(
        "acme",
        "update job_scheduled set run_at = now();
         insert into job_ready (id, kind, priority, attempt, attempts, system, origin, args, enqueued_at)
         values (gen_random_uuid(), 'errands.write', 1, 0, 1, 'errands-sweep', 'x', '{\"what\": \"x\"}', now())",
    )
    .await;
    until(&app, "select count(*) = 2 from job_dead").await;
    until(&app, "select count(*) = 1 from job_done").await;
    let result = value(&app, "select result from job_done").await;
    assert_eq!(
        result,
        json!(["system:errands-sweep", 0]),
        "the system works in the tenant of who enqueued it"
    );
    assert!(written(&app, "acme").await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn a_suspended_tenants_jobs_wait() {
    let app = working().await;
    app.alice().post("/test/errands", json!({"kind": "write", "what": "x", "after": 3600})).await.assert(204);
    app.bob().post("/test/errands", json!({"kind": "write", "what": "y", "after": 3600})).await.assert(204);
    app.sql()
        .batch_execute("update tenants set status = 'suspended' where slug = 'acme'; update job_scheduled set run_at = now()")
        .await
        .unwrap();
    until(&app, "select count(*) = 1 from job_done").await;
    assert_eq!(value(&app, "select to_jsonb(count(*)) from job_ready").await, 1);
    app.sql().batch_execute("update tenants set status = 'active' where slug = 'acme'").await.unwrap();
    until(&app, "select count(*) = 2 from job_done").await;
    app.finish().await;
}
