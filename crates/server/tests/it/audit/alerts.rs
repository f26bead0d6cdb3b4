//! Anomalies: what rules find in a tenant's log becomes an alert, once, with its numbers and rows; who may see it, and who is told.

use erp_testkit::TestApp;
use serde_json::{Value, json};

/// Lets the rules go over what is new, in all tenants.
async fn watch(app: &TestApp) {
    let known =
        "select count(*) = 1 from job_schedules where name = 'audit_trail.anomalies' and next_at > now()";
    app.until(known, "select to_jsonb(array_agg(s)) from job_schedules s").await;
    app.sql().batch_execute("delete from job_done where kind = 'audit_trail.watch'").await.unwrap();
    let now =
        "update job_schedules set next_at = date_trunc('second', now()) where name = 'audit_trail.anomalies'";
    app.sql().batch_execute(now).await.unwrap();
    let done = "select count(distinct tenant_id) >= 2 from job_done where kind = 'audit_trail.watch'";
    app.until(done, "select to_jsonb(array_agg(j)) from job_done j where kind like 'audit%'").await;
}

async fn deletions(app: &TestApp, from: u32, to: u32) {
    let sql = format!(
        "select set_config('app.actor', 'someone', true), app.audit('thing.deleted', 'thing', g::text) from generate_series({from}, {to}) g"
    );
    app.execute_in("acme", &sql).await;
}

async fn alerts(app: &TestApp) -> Vec<Value> {
    let page = app.alice().get("/api/v1/audit/alerts").await.assert(200).json();
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_anomaly_is_one_alert_that_grows_and_is_told_once() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    deletions(&app, 1, 30).await;
    watch(&app).await;
    assert!(alerts(&app).await.is_empty(), "thirty are no anomaly");
    deletions(&app, 31, 60).await;
    watch(&app).await;
    let found = alerts(&app).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    let alert = &found[0];
    assert_eq!(
        (&alert["rule"], &alert["severity"], &alert["key"]),
        (&json!("mass-deletion"), &json!("high"), &json!("someone"))
    );
    assert_eq!((&alert["numbers"]["count"], &alert["numbers"]["threshold"]), (&json!(60), &json!(40)));
    assert_eq!(alert["rows"].as_array().map(Vec::len), Some(60), "also those before the threshold");
    deletions(&app, 61, 80).await;
    watch(&app).await;
    let grown = alerts(&app).await;
    assert_eq!((grown.len(), grown[0]["rows"].as_array().map(Vec::len)), (1, Some(80)), "{grown:#?}");
    let told = "select count(*) from events where name = 'audit_trail.alert_raised'";
    assert_eq!(app.sql().query_one(told, &[]).await.unwrap().get::<_, i64>(0), 1);
    let mails = "select count(*) from mails where template = 'audit_trail.alert'";
    assert_eq!(app.sql().query_one(mails, &[]).await.unwrap().get::<_, i64>(0), 1, "to acme's owner");
    // Of another tenant there is nothing, and who may not see it does not.
    assert_eq!(app.bob().get("/api/v1/audit/alerts").await.assert(200).json()["items"], json!([]));
    app.max().get("/api/v1/audit/alerts").await.assert(403);
    let path = format!("/api/v1/audit/alerts/{}", alert["id"].as_str().unwrap());
    app.bob().get(&path).await.assert(404);
    let note = json!({ "note": "A clean-up that was planned." });
    let known = app.alice().post(&format!("{path}/acknowledge"), note).await.assert(200).json();
    assert!(
        known["acknowledgedAt"].is_string() && known["note"] == "A clean-up that was planned.",
        "{known}"
    );
    app.finish().await;
}

#[tokio::test]
async fn a_tenant_has_rules_of_its_own_and_none_that_cannot_be_read() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    let set = async |value: Value| {
        app.alice().put("/api/v1/settings/audit_trail.anomaly_rules", json!({ "value": value })).await
    };
    let rule = json!([{ "name": "any-deletion", "about": "Something is deleted.", "severity": "low", "when": { "actions": ["*.deleted"] },
        "by": "actor", "test": { "kind": "count", "count": 2, "within": 600 } }]);
    set(rule).await.assert(200);
    for wrong in [json!("["), json!([{ "name": "x" }]), json!(7)] {
        set(wrong).await.assert(422);
    }
    deletions(&app, 1, 3).await;
    watch(&app).await;
    let found = alerts(&app).await;
    assert_eq!(found[0]["rule"], "any-deletion", "{found:#?}");
    let mails = "select count(*) from mails where template = 'audit_trail.alert'";
    assert_eq!(app.sql().query_one(mails, &[]).await.unwrap().get::<_, i64>(0), 0, "low is no mail");
    app.finish().await;
}

/// What a killed worker has begun is found again, and once.
#[tokio::test]
async fn rules_that_begin_late_learn_from_history_and_do_not_cry_over_it() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    deletions(&app, 1, 60).await;
    let old = "update audit_log set at = at - interval '24 months' where tenant_id = $1";
    app.sql().execute(old, &[&app.tenant_id("acme")]).await.unwrap();
    watch(&app).await;
    assert!(alerts(&app).await.is_empty());
    app.finish().await;
}
