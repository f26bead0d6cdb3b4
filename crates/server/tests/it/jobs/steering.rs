//! What people do with jobs while workers work on them.

use erp_testkit::TestApp;
use serde_json::{Value, json};

use super::{until, working, written};

/// The only job that there is.
async fn the_job(app: &TestApp) -> Value {
    let page = app.alice().get("/api/v1/jobs").await.assert(200).json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page:#}");
    page["items"][0].clone()
}

async fn steer(app: &TestApp, job: &Value, verb: &str, status: u16) -> Value {
    let path = format!("/api/v1/jobs/{}/{verb}", job["id"].as_str().expect("an id"));
    app.alice().post(&path, json!({})).await.assert(status).json()
}

#[tokio::test]
async fn a_running_job_is_ended_by_its_worker_and_has_changed_nothing() {
    let app = working().await;
    app.alice().post("/test/errands", json!({"kind": "sleeps", "what": "600000"})).await.assert(204);
    until(&app, "select count(*) = 1 from job_running").await;
    steer(&app, &the_job(&app).await, "cancel", 202).await;
    until(&app, "select count(*) = 1 from job_done where outcome = 'cancelled'").await;
    assert_eq!(the_job(&app).await["state"], "cancelled");
    until(&app, "select count(*) = 0 from job_cancels").await;
    app.finish().await;
}

#[tokio::test]
async fn a_dead_job_that_is_retried_begins_at_once() {
    let app = working().await;
    app.expect_errors();
    app.alice().post("/test/errands", json!({"kind": "twice", "what": "bread"})).await.assert(204);
    until(&app, "select count(*) = 1 from job_scheduled").await;
    let bury = "with gone as (delete from job_scheduled returning *) \
        insert into job_dead (tenant_id, id, kind, priority, attempt, attempts, principal, origin, args, enqueued_at, died_at) \
        select tenant_id, id, kind, priority, 2, 2, principal, origin, args, enqueued_at, now() from gone";
    app.sql().batch_execute(bury).await.unwrap();
    let ready = steer(&app, &the_job(&app).await, "retry", 200).await;
    assert_eq!((&ready["attempt"], &ready["attempts"]), (&json!(2), &json!(3)));
    until(&app, "select count(*) = 1 from job_done where outcome = 'succeeded' and attempt = 3").await;
    assert_eq!(written(&app, "acme").await, ["bread"]);
    app.finish().await;
}

#[tokio::test]
async fn the_result_of_a_job_is_what_its_handler_said() {
    let app = working().await;
    app.alice().post("/test/errands", json!({"kind": "count", "what": "four"})).await.assert(204);
    until(&app, "select count(*) = 1 from job_done").await;
    let job = the_job(&app).await;
    assert_eq!(
        (&job["state"], &job["kind"], &job["attempt"]),
        (&json!("done"), &json!("errands.count"), &json!(1))
    );
    assert!(job["startedAt"].is_string() && job["finishedAt"].is_string(), "{job}");
    let path = format!("/api/v1/jobs/{}/result", job["id"].as_str().unwrap());
    assert_eq!(app.alice().get(&path).await.assert(200).json(), json!({ "result": 4 }));
    app.finish().await;
}

/// A page of jobs looks at each table by its key, and at no more rows than it shows, however many there are.
#[tokio::test]
async fn a_page_of_jobs_is_read_from_the_ends_of_the_indexes() {
    let app = working().await;
    let tenant = *app.tenant_id("acme").as_uuid();
    let many = "insert into job_done (tenant_id, id, kind, priority, attempt, attempts, principal, origin, args, enqueued_at, \
        outcome, finished_at) select $1, gen_random_uuid(), 'errands.count', 1, 1, 1, $1, 'req_test', '{}', now(), 'succeeded', \
        now() from generate_series(1, 20000)";
    app.sql().execute(many, &[&tenant]).await.unwrap();
    app.sql().batch_execute("analyze").await.unwrap();
    let runtime = app.database().runtime().await;
    let sql = format!(
        "explain analyze select id, kind, state from {} where ($1::text is null or state = $1) \
         order by id desc limit 51",
        erp_core::jobs::JOBS
    );
    let context = "select set_config('app.tenant_id', $1, false)";
    runtime.query(context, &[&tenant.to_string()]).await.unwrap();
    let rows = runtime.query(&sql, &[&None::<String>]).await.unwrap();
    let plan: String = rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
    assert!(
        plan.contains("Merge Append") && !plan.contains("Seq Scan") && !plan.contains("\"Sort\""),
        "{plan}"
    );
    app.finish().await;
}
