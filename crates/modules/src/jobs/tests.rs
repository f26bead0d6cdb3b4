//! A tenant's jobs over HTTP: what each state shows, who may do what, and that another tenant's do not exist. The rows are
//! written here; jobs that run are tested with the queue.

use erp_core::auth::Role;
use erp_testkit::{Actor, Fixture, Prepared, Setup, TestApp};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) const FIXTURES: &[Fixture] = &[
    Fixture::new("GET /api/v1/jobs/{id}", |setup| Box::pin(prepared(setup, "ready"))),
    Fixture::new("GET /api/v1/jobs/{id}/result", |setup| Box::pin(prepared(setup, "done"))),
    Fixture::new("POST /api/v1/jobs/{id}/cancel", |setup| Box::pin(prepared(setup, "ready"))),
    Fixture::new("POST /api/v1/jobs/{id}/retry", |setup| Box::pin(prepared(setup, "dead"))),
];

const STATES: [&str; 7] = ["scheduled", "ready", "running", "done", "cancelled", "discarded", "dead"];

async fn prepared(setup: &Setup<'_>, state: &str) -> Prepared {
    let id = job(setup.app(), setup.tenant(), state, setup.caller(), None).await;
    Prepared::at([id])
}

/// Writes a job of `person` in this state; its id.
async fn job(app: &TestApp, tenant: &str, state: &str, person: &Actor<'_>, key: Option<&str>) -> String {
    let (table, more, values) = match state {
        "scheduled" => ("job_scheduled", "run_at", "now() + interval '1 hour'"),
        "ready" => ("job_ready", "state", "null"),
        "running" => (
            "job_running",
            "worker, began_at, progress",
            r#"gen_random_uuid(), now(), '{"done": 2, "of": 3}'"#,
        ),
        "dead" => ("job_dead", "died_at, error", "now(), 'core.external_failed'"),
        _ => ("job_done", "outcome, finished_at, result", "$6, now(), '[1, 2]'"),
    };
    let outcome = if state == "done" { "succeeded" } else { state };
    let sql = format!(
        "insert into {table} (id, kind, priority, attempt, attempts, origin, args, enqueued_at, tenant_id, principal, \
         unique_key, {more}) select $1, $4, 1, 1, 1, 'req_test', '{{\"salary\": 9}}', now(), $2, $3, $5, {values} \
         where $6::text is not null"
    );
    let id = Uuid::now_v7();
    let principal = *person.id().expect("somebody who is signed in").as_uuid();
    let tenant = *app.tenant_id(tenant).as_uuid();
    let kind = "tests.errand";
    app.sql()
        .execute(&sql, &[&id, &tenant, &principal, &kind, &key, &outcome])
        .await
        .expect("the test's SQL");
    if let Some(key) = key.filter(|_| ["scheduled", "ready", "running"].contains(&state)) {
        let take = "insert into job_keys (tenant_id, kind, key, job) values ($1, $2, $3, $4)";
        app.sql().execute(take, &[&tenant, &kind, &key, &id]).await.expect("the test's SQL");
    }
    id.to_string()
}

fn path(id: &str) -> String {
    format!("/api/v1/jobs/{id}")
}

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().expect("a page").iter().filter_map(|job| job["id"].as_str()).collect()
}

#[tokio::test]
async fn jobs_are_listed_the_newest_first_by_state_and_kind_and_page_by_page() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let mut made = Vec::new();
    for state in STATES {
        made.push(job(&app, "acme", state, &alice, None).await);
    }
    made.reverse();
    let all = alice.get("/api/v1/jobs").await.assert(200).json();
    assert_eq!(ids(&all), made, "{all:#}");
    for (job, state) in all["items"].as_array().unwrap().iter().zip(STATES.iter().rev()) {
        assert_eq!(job["state"], *state);
        assert_eq!(alice.get(&format!("/api/v1/jobs?state={state}")).await.json()["items"][0], *job);
        assert_eq!(alice.get(&path(job["id"].as_str().unwrap())).await.assert(200).json(), *job);
        assert_eq!(job["principal"], alice.id().unwrap().to_string());
        assert_eq!(job["runAt"].is_string(), *state == "scheduled", "{job}");
        assert_eq!(job["finishedAt"].is_string(), STATES[3..].contains(state), "{job}");
        assert!(!job.to_string().contains("salary"), "arguments are the module's business: {job}");
    }
    let running = alice.get("/api/v1/jobs?state=running").await.json();
    assert_eq!(running["items"][0]["progress"], json!({ "done": 2, "of": 3 }));
    assert_eq!(ids(&alice.get("/api/v1/jobs?kind=tests.errand").await.json()).len(), 7);
    assert!(ids(&alice.get("/api/v1/jobs?kind=tests.other").await.json()).is_empty());
    let mut cursor = String::new();
    let mut seen = Vec::new();
    loop {
        let page = alice.get(&format!("/api/v1/jobs?limit=3{cursor}")).await.assert(200).json();
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, made);
    alice.get("/api/v1/jobs?state=lost").await.assert(422).problem("core.invalid");
    app.finish().await;
}

#[tokio::test]
async fn t_18_another_tenants_jobs_do_not_exist() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    for state in STATES {
        let theirs = job(&app, "globex", state, &bob, None).await;
        for answer in [
            alice.get(&path(&theirs)).await,
            alice.get(&format!("{}/result", path(&theirs))).await,
            alice.post(&format!("{}/cancel", path(&theirs)), json!({})).await,
            alice.post(&format!("{}/retry", path(&theirs)), json!({})).await,
        ] {
            answer.assert(404).problem("core.not_found");
        }
        assert_eq!(
            bob.get(&path(&theirs)).await.assert(200).json()["state"],
            *state,
            "nothing has happened to it"
        );
    }
    assert!(ids(&alice.get("/api/v1/jobs").await.json()).is_empty());
    assert_eq!(ids(&bob.get("/api/v1/jobs").await.json()).len(), STATES.len());
    let asked = app.sql().query_one("select count(*) from job_cancels", &[]).await.unwrap();
    assert_eq!(asked.get::<_, i64>(0), 0, "no worker was asked to end another tenant's job");
    app.finish().await;
}

#[tokio::test]
async fn t_20_a_result_is_for_who_enqueued_the_job_and_who_may_manage_jobs() {
    let app = TestApp::start().await;
    let (alice, max) = (app.alice(), app.max());
    let of_max = job(&app, "acme", "done", &max, None).await;
    let of_alice = job(&app, "acme", "done", &alice, None).await;
    for (person, id) in [(&max, &of_max), (&alice, &of_max), (&alice, &of_alice)] {
        let result = person.get(&format!("{}/result", path(id))).await.assert(200).json();
        assert_eq!(result, json!({ "result": [1, 2] }));
    }
    max.get(&format!("{}/result", path(&of_alice))).await.assert(403).problem("core.forbidden");
    for verb in ["cancel", "retry"] {
        let own = job(&app, "acme", "dead", &max, None).await;
        max.post(&format!("{}/{verb}", path(&own)), json!({})).await.assert(403).problem("core.forbidden");
    }
    let waiting = job(&app, "acme", "ready", &max, None).await;
    max.get(&format!("{}/result", path(&waiting))).await.assert(409).problem("jobs.not_done");
    app.finish().await;
}

#[tokio::test]
async fn what_waits_is_cancelled_at_once_and_its_key_is_free_again() {
    let app = TestApp::start().await;
    let alice = app.alice();
    for state in ["scheduled", "ready"] {
        let id = job(&app, "acme", state, &alice, Some("once")).await;
        let cancelled = alice.post(&format!("{}/cancel", path(&id)), json!({})).await.assert(200).json();
        assert_eq!((&cancelled["state"], &cancelled["id"]), (&json!("cancelled"), &json!(id)));
        alice.post(&format!("{}/cancel", path(&id)), json!({})).await.assert(409).problem("core.wrong_state");
        alice.post(&format!("{}/retry", path(&id)), json!({})).await.assert(409).problem("core.wrong_state");
    }
    let keys = app.sql().query_one("select count(*) from job_keys", &[]).await.unwrap();
    assert_eq!(keys.get::<_, i64>(0), 0);
    let audit = app.audit_of("acme").await;
    let told: Vec<_> = audit.iter().filter(|row| row["action"] == "job.cancelled").collect();
    assert_eq!(told.len(), 2, "{audit:#?}");
    assert_eq!(told[0]["actor"], app.person("acme", Role::Owner).user_id.to_string());
    app.finish().await;
}

#[tokio::test]
async fn a_job_that_runs_is_asked_to_end() {
    let app = TestApp::start().await;
    let id = job(&app, "acme", "running", &app.alice(), None).await;
    for _ in 0..2 {
        let asked = app.alice().post(&format!("{}/cancel", path(&id)), json!({})).await.assert(202).json();
        assert_eq!(asked["state"], "running");
    }
    let asked = app.sql().query("select tenant_id, id from job_cancels", &[]).await.unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].get::<_, Uuid>(0), *app.tenant_id("acme").as_uuid());
    app.finish().await;
}

#[tokio::test]
async fn a_dead_job_is_retried_unless_another_has_its_key() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let retry = async |id: &str| alice.post(&format!("{}/retry", path(id)), json!({})).await;
    let first = job(&app, "acme", "dead", &alice, Some("once")).await;
    let second = job(&app, "acme", "dead", &alice, Some("once")).await;
    let ready = retry(&first).await.assert(200).json();
    assert_eq!(
        (&ready["state"], &ready["attempt"], &ready["attempts"]),
        (&json!("ready"), &json!(1), &json!(2))
    );
    retry(&first).await.assert(409).problem("core.wrong_state");
    retry(&second).await.assert(409).problem("jobs.key_taken");
    assert_eq!(alice.get(&path(&second)).await.json()["state"], "dead", "it is still there");
    alice.post(&format!("{}/cancel", path(&first)), json!({})).await.assert(200);
    retry(&second).await.assert(200);
    app.finish().await;
}
