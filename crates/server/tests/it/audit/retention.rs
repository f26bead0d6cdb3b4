//! What is kept no longer is removed, and signed; what is on legal hold stays; and everything goes on verifying.

use erp_testkit::TestApp;
use serde_json::json;

use super::{NOTHING, fill, found, operator, tenant, verified};

const PRUNED: &str = "select count(*) = 1 from job_done j join tenants t on t.id = j.tenant_id and t.slug = 'acme' where j.kind = 'audit_trail.prune'";

/// Lets the job run that removes what is over, in all tenants.
async fn prune(app: &TestApp) {
    let known =
        "select count(*) = 1 from job_schedules where name = 'audit_trail.retention' and next_at > now()";
    app.until(known, "select to_jsonb(array_agg(s)) from job_schedules s").await;
    app.sql().batch_execute("delete from job_done where kind = 'audit_trail.prune'").await.unwrap();
    let now =
        "update job_schedules set next_at = date_trunc('second', now()) where name = 'audit_trail.retention'";
    app.sql().batch_execute(now).await.unwrap();
    app.until(PRUNED, "select to_jsonb(array_agg(j)) from job_done j where kind like 'audit%'").await;
}

async fn rows(app: &TestApp, condition: &str) -> i64 {
    let sql = format!("select count(*) from audit_log where tenant_id = $1 and ({condition})");
    app.sql().query_one(&sql, &[&app.tenant_id("acme")]).await.unwrap().get(0)
}

/// 600 rows of acme that are two years old, sealed.
async fn old_rows(app: &TestApp) {
    fill(app, 300).await;
    let sql = "select app.audit(case when g % 10 = 0 then 'identity.sign_in' else 'thing.updated' end, 'thing', g::text, \
         details => jsonb_build_object('by', 'person ' || g % 7)) from generate_series(301, 600) g";
    app.execute_in("acme", sql).await;
    let old = "update audit_log set at = at - interval '24 months' where tenant_id = $1";
    app.sql().execute(old, &[&app.tenant_id("acme")]).await.unwrap();
    fill(app, 700).await;
    app.seal_audit().await;
}

async fn keep(app: &TestApp, setting: &str, days: i64) {
    let path = format!("/api/v1/settings/audit_trail.{setting}");
    app.alice().put(&path, json!({ "value": days })).await.assert(200);
}

#[tokio::test]
async fn rows_whose_time_is_over_go_by_category_and_the_log_still_verifies() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    old_rows(&app).await;
    let all = rows(&app, "true").await;
    prune(&app).await;
    assert_eq!(rows(&app, "true").await, all, "what nobody has set is kept for ever");
    keep(&app, "change_days", 90).await;
    prune(&app).await;
    assert_eq!(rows(&app, "at < now() - interval '1 year' and action like 'thing.%'").await, 0);
    assert_eq!(rows(&app, "at < now() - interval '1 year' and action = 'test.done'").await, 0);
    assert!(rows(&app, "action = 'identity.sign_in'").await >= 30, "of another category");
    assert!(rows(&app, "action = 'test.done'").await >= 100, "of last month");
    let pruned = app.audit_of("acme").await.into_iter().rfind(|row| row["action"] == "audit.pruned").unwrap();
    assert!(pruned["details"]["rows"].as_i64().unwrap() > 500, "{pruned}");
    app.seal_audit().await;
    let logs = verified(&app, &[]).await;
    assert!(logs[0].is_clean() && logs[0].removed > 500, "{logs:#?}");
    keep(&app, "security_days", 30).await;
    prune(&app).await;
    assert_eq!(rows(&app, "at < now() - interval '1 year' and action = 'identity.sign_in'").await, 0);
    assert_eq!(found(&app, &[]).await, NOTHING);
    // What is left is found, and what is gone is not.
    let left = app.alice().get("/api/v1/audit?action=identity.sign_in&limit=200").await.assert(200).json();
    assert_eq!(
        left["items"].as_array().map(Vec::len),
        Some(rows(&app, "action = 'identity.sign_in'").await as usize)
    );
    app.finish().await;
}

#[tokio::test]
async fn an_export_after_removals_is_verified_without_the_database() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    old_rows(&app).await;
    keep(&app, "change_days", 90).await;
    prune(&app).await;
    app.seal_audit().await;
    let folder = std::env::temp_dir().join(format!("erp-pruned-{}", app.tenant_id("acme")));
    let operator = operator(&app);
    let acme = tenant(&operator, "acme").await;
    operator.export(&acme, &folder, &erp_core::shared::SystemRng::new()).await.unwrap();
    operator.close().await;
    let verify = || {
        let (program, key) = (folder.join("verify.py"), folder.join("public-key.pem"));
        std::process::Command::new("python3").arg(program).arg(&folder).arg(key).output().unwrap()
    };
    let verdict = verify();
    assert!(verdict.status.success(), "{verdict:?}");
    // A row more that somebody takes away is in no statement.
    let entries = folder.join("log-0/entries");
    let text = std::fs::read_to_string(&entries).unwrap();
    let last = text.lines().last().unwrap().to_owned();
    let leaf = erp_core::audit::tree::leaf_hash(last.as_bytes());
    let hex: String = leaf.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&entries, text.replace(&last, &format!("removed {hex}"))).unwrap();
    let verdict = verify();
    assert!(String::from_utf8_lossy(&verdict.stderr).contains("no signed statement says so"), "{verdict:?}");
    std::fs::remove_dir_all(folder).unwrap();
    app.finish().await;
}

#[tokio::test]
async fn what_is_on_legal_hold_stays_until_it_is_released() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    old_rows(&app).await;
    let place = async |body: serde_json::Value| {
        let made = app.alice().post("/api/v1/audit/holds", body).await.assert(201);
        made.header("location").to_owned()
    };
    let one = place(json!({ "reason": "Case 1", "resource": "thing", "resourceId": "311" })).await;
    place(json!({ "reason": "Case 2", "subject": "person 5" })).await;
    for wrong in [
        json!({ "reason": "x" }),
        json!({ "reason": "x", "resourceId": "1" }),
        json!({ "reason": "", "subject": "y" }),
    ] {
        app.alice().post("/api/v1/audit/holds", wrong).await.assert(422);
    }
    keep(&app, "change_days", 90).await;
    keep(&app, "security_days", 90).await;
    prune(&app).await;
    let old = "at < now() - interval '1 year' and resource = 'thing'";
    let held = rows(&app, &format!("{old} and (resource_id = '311' or details ->> 'by' = 'person 5')")).await;
    assert_eq!((rows(&app, old).await, held), (held, 1 + 43 - i64::from(311 % 7 == 5)));
    app.seal_audit().await;
    assert_eq!(found(&app, &[]).await, NOTHING);
    app.alice().post(&format!("{one}/release"), json!({})).await.assert(200);
    prune(&app).await;
    assert_eq!(rows(&app, &format!("{old} and details ->> 'by' <> 'person 5'")).await, 0);
    // Not even the login of the system removes what is on hold, or what is not there as it says.
    let prune = "select set_config('app.tenant_id', id::text, true), \
         app.prune_audit(0, array[$1]::bigint[], array[$2]::bigint[], array['-infinity']::timestamptz[], array['infinity']::timestamptz[], array['x']) \
         from tenants where slug = 'acme'";
    let system = app.database().system().await;
    let held: i64 = app
        .sql()
        .query_one(
            "select min(seq) from audit_log where tenant_id = $1 and details ->> 'by' = 'person 5'",
            &[&app.tenant_id("acme")],
        )
        .await
        .unwrap()
        .get(0);
    for (first, last, why) in [
        (held, held, "on hold"),
        (held - 1, held - 1, "have a row"),
        (1, 1_000_000, "not all sealed"),
        (0, 3, "not all sealed"),
    ] {
        let sql = prune.replace("$1", &first.to_string()).replace("$2", &last.to_string());
        let refused = system.batch_execute(&sql).await.unwrap_err();
        let said = refused.as_db_error().unwrap();
        assert!(said.code().code() == "42501" && said.message().contains(why), "{said:?}");
    }
    let runtime = app.runtime_in("acme").await;
    let refused = runtime.batch_execute(&prune.replace("$1", "1").replace("$2", "1")).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    app.finish().await;
}

/// Who has got in as an owner cannot get rid of what he has done over night.
#[tokio::test]
async fn rows_of_the_last_month_stay_whatever_somebody_sets() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    fill(&app, 100).await;
    let week =
        "update audit_log set at = at - interval '1 week' where tenant_id = $1 and action = 'test.done'";
    app.sql().execute(week, &[&app.tenant_id("acme")]).await.unwrap();
    app.seal_audit().await;
    keep(&app, "change_days", 1).await;
    prune(&app).await;
    assert!(rows(&app, "action = 'test.done'").await >= 80);
    app.finish().await;
}
