//! The audit log: one row a change, with what changed and nothing else, in the same transaction.

use erp_testkit::TestApp;
use serde_json::{Value, json};

#[tokio::test]
async fn u_05_every_change_has_one_row_with_what_changed() {
    let app = TestApp::start().await;
    let (alice, before) = (app.alice(), app.audit_of("acme").await.len());
    let body = json!({ "sku": "U-1", "name": "One", "description": "text", "quantity": 3 });
    let item = alice.post("/api/v1/items", body).await.assert(201).json();
    let path = format!("/api/v1/items/{}", item["id"].as_str().unwrap());
    alice.patch(&path, json!({ "quantity": 4 })).await.assert(200);
    alice.put(&path, json!({ "sku": "U-1", "name": "Two", "quantity": 4 })).await.assert(200);
    alice.patch(&path, json!({ "name": "Two" })).await.assert(200); // changes nothing
    alice.delete(&path).await.assert(204);

    let rows = app.audit_of("acme").await.split_off(before);
    let told: Vec<[&Value; 3]> =
        rows.iter().map(|row| [&row["action"], &row["before"], &row["after"]]).collect();
    let created = json!({ "id": item["id"], "sku": "U-1", "name": "One", "description": "text", "quantity": 3,
        "created_at": told[0][2]["created_at"] });
    let deleted = json!({ "id": item["id"], "sku": "U-1", "name": "Two", "description": null, "quantity": 4,
        "created_at": told[0][2]["created_at"] });
    assert_eq!(told.len(), 4, "{told:#?}");
    assert_eq!(told[0], [&json!("item.created"), &Value::Null, &created]);
    assert_eq!(told[1], [&json!("item.updated"), &json!({ "quantity": 3 }), &json!({ "quantity": 4 })]);
    assert_eq!(
        told[2][1..],
        [&json!({ "name": "One", "description": "text" }), &json!({ "name": "Two", "description": null })]
    );
    assert_eq!(told[3], [&json!("item.deleted"), &deleted, &Value::Null]);

    let olivia = app.person("acme", erp_core::auth::Role::Owner);
    for (row, previous) in rows.iter().skip(1).zip(&rows) {
        assert_eq!(row["seq"].as_i64().unwrap(), previous["seq"].as_i64().unwrap() + 1);
        assert_eq!((&row["actor"], &row["outcome"]), (&json!(olivia.user_id), &json!("success")));
        assert_eq!((&row["resource_id"], &row["client_ip"]), (&item["id"], &json!("127.0.0.1")));
        assert!(row["correlation_id"].as_str().unwrap().starts_with("req_"));
    }
    app.finish().await;
}

#[tokio::test]
async fn u_05_a_change_that_fails_leaves_no_row() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let item = alice.post("/api/v1/items", json!({ "sku": "F-1", "name": "One" })).await.assert(201).json();
    let path = format!("/api/v1/items/{}", item["id"].as_str().unwrap());
    let before = app.audit_of("acme").await;
    alice.post("/api/v1/items", json!({ "sku": "F-1", "name": "Two" })).await.assert(409);
    alice.patch(&path, json!({ "sku": "BOLT-M8" })).await.assert(409);
    alice.patch(&path, json!({ "sku": "" })).await.assert(422);
    app.reader_of("acme").delete(&path).await.assert(403);
    app.bob().delete(&path).await.assert(404);
    let stale = http::Request::delete(&path).header("if-match", "\"9\"").body("").unwrap();
    alice.request(stale).await.assert(412);
    assert_eq!(app.audit_of("acme").await, before);
    app.finish().await;
}

#[tokio::test]
async fn u_01_the_runtime_role_cannot_change_or_remove_a_row() {
    let app = TestApp::start().await;
    let runtime = app.database().runtime().await;
    let tenant = app.tenant_id("acme");
    for sql in [
        "update audit_log set actor = 'nobody'",
        "delete from audit_log",
        "truncate audit_log",
        "delete from audit_heads",
        "update audit_heads set seq = 0",
        "update audit_heads set seq = seq + 1",
        "insert into audit_log (seq, at, actor, action, resource) values (4711, now(), 'somebody', 'item.created', 'item')",
    ] {
        let begin = format!("begin; set local app.tenant_id = '{tenant}'; {sql}");
        let error = runtime.batch_execute(&begin).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{sql}");
        runtime.batch_execute("rollback").await.unwrap();
    }
    app.finish().await;
}
