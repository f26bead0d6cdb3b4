//! The catalogue over HTTP: what a client of items can rely on.

use erp_testkit::{Actor, Answer, TestApp};
use http::Request;
use serde_json::{Value, json};

async fn make(actor: &Actor<'_>, sku: &str) -> Value {
    let body = json!({ "sku": sku, "name": format!("Item {sku}"), "quantity": 5 });
    actor.post("/api/v1/items", body).await.assert(201).json()
}

fn path(item: &Value) -> String {
    format!("/api/v1/items/{}", item["id"].as_str().unwrap())
}

async fn with_if_match(actor: &Actor<'_>, method: &str, path: &str, tag: &str, body: &Value) -> Answer {
    let request = Request::builder().method(method).uri(path).header("if-match", tag);
    actor.request(request.header("content-type", "application/json").body(body.to_string()).unwrap()).await
}

#[tokio::test]
async fn an_item_is_created_read_replaced_and_deleted() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let body =
        json!({ "sku": "A-1", "name": "One", "description": "first", "quantity": 9_007_199_254_740_991_i64 });
    let created = alice.post("/api/v1/items", body).await.assert(201);
    let item = created.json();
    assert_eq!((created.header("location"), created.header("etag")), (path(&item).as_str(), "\"1\""));
    let fields: Vec<&String> = item.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["createdAt", "description", "id", "name", "quantity", "sku", "updatedAt", "version"]);
    assert_eq!((&item["quantity"], &item["version"]), (&json!(9_007_199_254_740_991_i64), &json!(1)));

    let read = alice.get(&path(&item)).await.assert(200);
    assert_eq!((read.json(), read.header("etag")), (item.clone(), "\"1\""));

    let replaced = alice.put(&path(&item), json!({ "sku": "A-2", "name": "Two" })).await.assert(200);
    assert_eq!(replaced.header("etag"), "\"2\"");
    let now = replaced.json();
    assert_eq!(
        (&now["sku"], &now["description"], &now["quantity"]),
        (&json!("A-2"), &Value::Null, &json!(0))
    );
    assert_eq!(now["createdAt"], item["createdAt"]);

    let gone = alice.delete(&path(&item)).await.assert(204);
    assert!(gone.body.is_empty());
    alice.get(&path(&item)).await.problem("core.not_found");
    alice.delete(&path(&item)).await.problem("core.not_found");
    app.finish().await;
}

#[tokio::test]
async fn h_10_a_change_of_a_stale_version_is_412() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let item = path(&make(&alice, "S-1").await);
    let full = json!({ "sku": "S-1", "name": "Changed" });
    for (method, body) in [("PUT", &full), ("PATCH", &json!({ "name": "Changed" })), ("DELETE", &Value::Null)]
    {
        for stale in ["\"9\"", "W/\"1\"", "\"foreign\"", "\"8\", \"9\""] {
            with_if_match(&alice, method, &item, stale, body).await.assert(412).problem("core.stale");
        }
    }
    assert_eq!(alice.get(&item).await.header("etag"), "\"1\"");
    with_if_match(&alice, "PUT", &item, "\"7\", \"1\"", &full).await.assert(200);
    with_if_match(&alice, "PATCH", &item, "*", &json!({ "quantity": 1 })).await.assert(200);
    with_if_match(&alice, "DELETE", &item, "\"3\"", &Value::Null).await.assert(204);
    app.finish().await;
}

#[tokio::test]
async fn patch_changes_what_is_given_and_null_clears() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let body = json!({ "sku": "P-1", "name": "One", "description": "text", "quantity": 3 });
    let item = path(&alice.post("/api/v1/items", body).await.assert(201).json());
    let patched = alice.patch(&item, json!({ "quantity": 4 })).await.assert(200).json();
    assert_eq!((&patched["quantity"], &patched["description"]), (&json!(4), &json!("text")));
    let cleared = alice.patch(&item, json!({ "description": null })).await.assert(200).json();
    assert_eq!((&cleared["description"], &cleared["name"]), (&Value::Null, &json!("One")));
    let untouched = alice.patch(&item, json!({})).await.assert(200).json();
    assert_eq!((&untouched["sku"], &untouched["quantity"]), (&json!("P-1"), &json!(4)));
    for field in ["sku", "name", "quantity"] {
        let problem = alice.patch(&item, json!({ field: null })).await.assert(422).problem("core.invalid");
        assert_eq!(problem["errors"][0]["pointer"], format!("/{field}"));
    }
    let merge = Request::patch(&item).header("content-type", "application/merge-patch+json; charset=utf-8");
    alice.request(merge.body(r#"{"name":"Merged"}"#).unwrap()).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn put_never_creates() {
    let app = TestApp::start().await;
    let unknown = "/api/v1/items/0190163d-8694-739b-aea5-966c26f8ad91";
    let body = json!({ "sku": "NEW", "name": "New" });
    app.alice().put(unknown, body.clone()).await.assert(404).problem("core.not_found");
    app.alice().get(unknown).await.problem("core.not_found");
    for id in ["x", "1", "0190163d8694739baea5966c26f8ad91", "%00", "..%2Fme", "'--"] {
        app.alice().put(&format!("/api/v1/items/{id}"), body.clone()).await.problem("core.not_found");
    }
    app.finish().await;
}

#[tokio::test]
async fn t_09_a_sku_is_unique_within_its_tenant_and_says_nothing_about_others() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    make(&alice, "SAME").await;
    make(&bob, "SAME").await;
    let twice = json!({ "sku": "SAME", "name": "Again" });
    alice.post("/api/v1/items", twice.clone()).await.assert(409).problem("catalog.sku_taken");
    let other = path(&make(&alice, "OTHER").await);
    alice.put(&other, twice.clone()).await.assert(409).problem("catalog.sku_taken");
    alice.patch(&other, json!({ "sku": "SAME" })).await.assert(409).problem("catalog.sku_taken");
    make(&bob, "BOBS").await;
    alice.patch(&other, json!({ "sku": "BOBS" })).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn skus_that_look_the_same_are_the_same() {
    let app = TestApp::start().await;
    let alice = app.alice();
    make(&alice, "Bolt-M9 \u{df}").await;
    for twin in ["bolt-m9 ss", "BOLT-M9 \u{1e9e}", "\u{ff22}olt-m9 \u{df}"] {
        let again = json!({ "sku": twin, "name": "Again" });
        alice.post("/api/v1/items", again).await.assert(409).problem("catalog.sku_taken");
    }
    let other = path(&make(&alice, "OTHER").await);
    alice.patch(&other, json!({ "sku": "BOLT-M9 SS" })).await.assert(409).problem("catalog.sku_taken");
    // Its own sku in another case is no twin.
    let renamed = alice.patch(&other, json!({ "sku": "other" })).await.assert(200).json();
    assert_eq!(renamed["sku"], "other");
    make(&app.bob(), "other").await;
    let audit = app.audit_of("acme").await;
    assert!(audit.iter().all(|row| !row.to_string().contains("folded")), "{audit:#?}");
    app.finish().await;
}

#[tokio::test]
async fn a_change_of_nothing_changes_nothing() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let full = json!({ "sku": "N-1", "name": "One", "description": "text", "quantity": 3 });
    let made = alice.post("/api/v1/items", full.clone()).await.assert(201).json();
    let item = path(&made);
    let rows = app.audit_of("acme").await.len();
    let equal = [json!({}), json!({ "quantity": 3 }), json!({ "name": " One ", "description": "text" })];
    for body in &equal {
        let answer = alice.patch(&item, body.clone()).await.assert(200);
        assert_eq!((answer.json(), answer.header("etag")), (made.clone(), "\"1\""), "{body}");
    }
    assert_eq!(alice.put(&item, full.clone()).await.assert(200).json(), made);
    with_if_match(&alice, "PATCH", &item, "\"9\"", &json!({})).await.assert(412);
    with_if_match(&alice, "PUT", &item, "\"1\"", &full).await.assert(200);
    assert_eq!(app.audit_of("acme").await.len(), rows);
    let changed = alice.patch(&item, json!({ "description": null })).await.assert(200).json();
    assert_eq!(changed["version"], 2);
    let cleared = alice.patch(&item, json!({ "description": null })).await.assert(200).json();
    assert_eq!(cleared, changed);
    assert_eq!(app.audit_of("acme").await.len(), rows + 1);
    app.finish().await;
}

#[tokio::test]
async fn text_is_normalised_and_trimmed() {
    let app = TestApp::start().await;
    let body = json!({ "sku": " N-1 ", "name": "  Cafe\u{301} \u{1f600}", "description": "" });
    let item = app.alice().post("/api/v1/items", body).await.assert(201).json();
    assert_eq!((&item["sku"], &item["name"]), (&json!("N-1"), &json!("Caf\u{e9} \u{1f600}")));
    let bad = [
        json!({ "sku": "", "name": "x" }),
        json!({ "sku": " ", "name": "x" }),
        json!({ "sku": "s".repeat(65), "name": "x" }),
        json!({ "sku": "x", "name": "n".repeat(201) }),
        json!({ "sku": "x", "name": "x", "description": "d".repeat(2001) }),
        json!({ "sku": "x", "name": "line\nbreak" }),
        json!({ "sku": "x", "name": "x", "quantity": -1 }),
        json!({ "sku": "x", "name": "x", "quantity": 9_007_199_254_740_992_u64 }),
        json!({ "sku": "x", "name": "x", "quantity": 9_223_372_036_854_775_808_u64 }),
        json!({ "sku": "BOLT\u{200b}", "name": "x" }),
        json!({ "sku": "x", "name": "\u{3164}" }),
        json!({ "sku": "x", "name": "two\u{2028}lines" }),
        json!({ "sku": "x", "name": "x", "quantity": 1.5 }),
        json!({ "sku": "x", "name": "x", "quantity": "1" }),
        json!({ "name": "x" }),
    ];
    for body in bad {
        let problem = app.alice().post("/api/v1/items", body).await.assert(422).problem("core.invalid");
        assert_eq!(problem["errors"].as_array().unwrap().len(), 1, "{problem}");
    }
    let longest = json!({ "sku": "\u{e9}".repeat(64), "name": "\u{1f600}".repeat(200), "description": "d".repeat(2000) });
    app.alice().post("/api/v1/items", longest).await.assert(201);
    app.finish().await;
}
