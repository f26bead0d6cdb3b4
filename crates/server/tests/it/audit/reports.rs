//! Reports: what they count, in which forms they come, and who gets their numbers by mail.

use erp_testkit::{Answer, TestApp};
use serde_json::json;

const ALL: &str = "since=2020-01-01T00:00:00Z&until=2100-01-01T00:00:00Z";

/// Asks for a media type, as alice.
async fn get_as(app: &TestApp, path: &str, media: &str) -> Answer {
    let request = http::Request::get(path).header("accept", media).body(String::new()).unwrap();
    app.alice().request(request).await
}

async fn report(app: &TestApp, name: &str, more: &str) -> serde_json::Value {
    app.alice().get(&format!("/api/v1/reports/{name}?{ALL}{more}")).await.assert(200).json()
}

#[tokio::test]
async fn each_report_tells_what_it_is_on() {
    let app = TestApp::start().await;
    let item = app
        .alice()
        .post("/api/v1/items", json!({ "sku": "R-1", "name": "<b>It</b>", "quantity": 1 }))
        .await
        .assert(201);
    let path = item.header("location").to_owned();
    let id = path.rsplit('/').next().unwrap().to_owned();
    app.alice().patch(&path, json!({ "quantity": 2 })).await.assert(200);
    app.alice()
        .post("/api/v1/audit/holds", json!({ "reason": "Case", "resource": "item" }))
        .await
        .assert(201);
    let tried =
        json!({ "tenant": "acme", "email": "nobody@acme.example", "password": "wrong password, and long" });
    app.anonymous().post("/api/v1/auth/login", tried).await.assert(401);
    app.max().get("/api/v1/audit").await.assert(403);
    get_as(&app, "/api/v1/items", "text/csv").await.assert(200);
    app.edge().app.write_denials().await;
    let listed = app.alice().get("/api/v1/reports").await.assert(200).json();
    let names: Vec<&str> =
        listed["reports"].as_array().unwrap().iter().map(|report| report["name"].as_str().unwrap()).collect();
    for (name, action) in [
        ("privileged-acts", "audit_hold.created"),
        ("failed-sign-ins", "identity.sign_in"),
        ("denials", "audit_trail.entry.read"),
        ("exports", "core.exported"),
        ("changes-by-resource", "item.updated"),
    ] {
        assert!(names.contains(&name), "{names:?}");
        let made = report(&app, name, "").await;
        let counted = made["counts"].as_array().unwrap().iter().find(|count| count["action"] == action);
        assert!(counted.is_some_and(|count| count["times"].as_i64() > Some(0)), "{name}: {made}");
        assert!(made["rows"].as_array().unwrap().iter().any(|row| row["action"] == action), "{name}: {made}");
    }
    let one = report(&app, "changes-by-resource", &format!("&resource=item&resourceId={id}")).await;
    assert_eq!(one["rows"].as_array().map(Vec::len), Some(2), "{one}");
    let nothing = app
        .alice()
        .get("/api/v1/reports/exports?since=2019-01-01T00:00:00Z&until=2019-02-01T00:00:00Z")
        .await
        .assert(200)
        .json();
    assert_eq!(
        (nothing["rows"].as_array().map(Vec::len), nothing["isCut"].as_bool()),
        (Some(0), Some(false))
    );
    app.alice().get("/api/v1/reports/no-such").await.assert(404);
    app.alice()
        .get("/api/v1/reports/exports?since=2027-01-01T00:00:00Z&until=2026-01-01T00:00:00Z")
        .await
        .assert(422);
    app.max().get("/api/v1/reports/exports").await.assert(403);
    app.finish().await;
}

#[tokio::test]
async fn a_report_is_json_csv_or_a_page_that_can_be_printed() {
    let app = TestApp::start().await;
    app.alice()
        .post("/api/v1/items", json!({ "sku": "R-1", "name": "<b>It</b>", "quantity": 1 }))
        .await
        .assert(201);
    let path = format!("/api/v1/reports/changes-by-resource?{ALL}&resource=item");
    let csv = get_as(&app, &path, "text/csv").await.assert(200);
    assert!(csv.header("content-type").starts_with("text/csv"), "{csv:?}");
    assert!(csv.text().starts_with("seq,at,actor,action,"), "{}", csv.text());
    let page = get_as(&app, &path, "text/html").await.assert(200).text();
    assert!(
        page.contains("&lt;b&gt;It&lt;/b&gt;")
            && !page.contains("<b>It")
            && page.contains("<h1>Changes by resource</h1>"),
        "{page}"
    );
    get_as(&app, &path, "application/pdf").await.assert(406);
    app.finish().await;
}

#[tokio::test]
async fn the_numbers_of_reports_are_mailed_where_a_tenant_wants_them() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    app.alice()
        .put("/api/v1/settings/audit_trail.report_mails", json!({ "value": "weekly" }))
        .await
        .assert(200);
    for (name, kind) in [("audit_trail.monthly_reports", 0), ("audit_trail.weekly_reports", 1)] {
        let known =
            format!("select count(*) = 1 from job_schedules where name = '{name}' and next_at > now()");
        app.until(&known, "select to_jsonb(array_agg(s)) from job_schedules s").await;
        app.sql()
            .batch_execute("delete from job_done where kind = 'audit_trail.mail_reports'")
            .await
            .unwrap();
        let now =
            format!("update job_schedules set next_at = date_trunc('second', now()) where name = '{name}'");
        app.sql().batch_execute(&now).await.unwrap();
        let done =
            "select count(distinct tenant_id) >= 2 from job_done where kind = 'audit_trail.mail_reports'";
        app.until(done, "select to_jsonb(array_agg(j)) from job_done j").await;
        let mails =
            "select count(distinct m.tenant_id) from mails m where m.template = 'audit_trail.reports'";
        assert_eq!(app.sql().query_one(mails, &[]).await.unwrap().get::<_, i64>(0), kind, "{name}");
    }
    app.finish().await;
}
