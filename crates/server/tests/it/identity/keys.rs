//! API keys: how machines come in, and what they can do.

use erp_core::auth::Role;
use erp_testkit::{Actor, TestApp};
use http::Request;
use jiff::SignedDuration;
use serde_json::{Value, json};

const FRESH: SignedDuration = SignedDuration::from_secs(5);

/// A key that `by` makes of its own.
async fn own_key(by: &Actor<'_>, scopes: &[&str]) -> Value {
    by.post("/api/v1/api-keys", json!({ "name": "Script", "scopes": scopes })).await.assert(201).json()
}

fn text(key: &Value) -> &str {
    key["key"].as_str().unwrap()
}

fn path(key: &Value) -> String {
    format!("/api/v1/api-keys/{}", key["id"].as_str().unwrap())
}

/// What answers somebody with this key.
async fn items(app: &TestApp, key: &str) -> u16 {
    app.anonymous().with_token(key).get("/api/v1/items").await.status.as_u16()
}

/// How many statements have asked for keys, or for what they can do.
async fn asked(app: &TestApp) -> i64 {
    app.database().calls("%from api_keys%").await
}

#[tokio::test]
async fn k_01_a_key_is_of_one_form_is_shown_once_and_stored_as_a_hash() {
    let app = TestApp::start().await;
    let key = own_key(&app.alice(), &["catalog.item.read"]).await;
    let form = regex_lite::Regex::new("^erp_(live|test|dev)_[0-9A-Za-z]{58}$").unwrap();
    assert!(form.is_match(text(&key)), "{key}");
    let dump = app.sql().query_one("select string_agg(k::text, ' ') from api_keys k", &[]).await.unwrap();
    assert!(!dump.get::<_, String>(0).contains(text(&key)));
    let shown = app.alice().get(&path(&key)).await.assert(200).json();
    let listed = app.alice().get("/api/v1/api-keys").await.assert(200).json();
    assert_eq!((&listed["apiKeys"][0], shown.get("key")), (&shown, None));
    assert_eq!(json!(app.audit_of("acme").await).to_string().matches(text(&key)).count(), 0);
    app.finish().await;
}

#[tokio::test]
async fn k_01_a_mistyped_key_is_refused_without_a_statement() {
    let app = TestApp::start().await;
    let key = own_key(&app.alice(), &["catalog.item.read"]).await;
    let good = text(&key);
    let last = if good.ends_with('A') { 'B' } else { 'A' };
    let before = asked(&app).await;
    for bad in [&format!("{}{last}", &good[..good.len() - 1]), &good[..good.len() - 1], "erp_", "erp_live_x"]
    {
        assert_eq!(items(&app, bad).await, 401, "{bad}");
        let request = Request::get("/api/v1/items").header("x-api-key", bad).body("").unwrap();
        app.anonymous().request(request).await.assert(401);
    }
    // That of another environment is one, too.
    assert_eq!(items(&app, &good.replace("_dev_", "_live_")).await, 401);
    assert_eq!(asked(&app).await, before);
    assert_eq!(items(&app, good).await, 200);
    assert!(asked(&app).await > before, "what is counted is counted");
    app.finish().await;
}

#[tokio::test]
async fn k_02_a_known_key_costs_no_statement_and_a_revoked_one_is_out_everywhere_within_five_seconds() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let key = own_key(&here.alice(), &["catalog.item.read"]).await;
    assert_eq!(items(&there, text(&key)).await, 200);
    let noted = "from api_keys where last_used_at is not null";
    here.until(&format!("select count(*) = 1 {noted}"), &format!("select to_jsonb(count(*)) {noted}")).await;
    let before = asked(&here).await;
    for _ in 0..20 {
        assert_eq!(items(&there, text(&key)).await, 200);
    }
    assert_eq!(asked(&here).await, before);
    assert_eq!(items(&here, text(&key)).await, 200);
    here.alice().delete(&path(&key)).await.assert(204);
    assert_eq!(items(&here, text(&key)).await, 401);
    there.clock().advance(FRESH);
    assert_eq!(items(&there, text(&key)).await, 401);
    here.alice().delete(&path(&key)).await.assert(404);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn k_02_a_key_can_do_what_its_scopes_say_and_its_owner_can() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let item = json!({ "sku": "K-02", "name": "By a key" });
    let reads = own_key(&alice, &["catalog.item.read"]).await;
    app.anonymous().with_token(text(&reads)).get("/api/v1/items").await.assert(200);
    app.anonymous().with_token(text(&reads)).post("/api/v1/items", item.clone()).await.assert(403);
    let writes = own_key(&alice, &["catalog.item.read", "catalog.item.write"]).await;
    app.anonymous().with_token(text(&writes)).post("/api/v1/items", item).await.assert(201);
    let told = json!(app.audit_of("acme").await).to_string();
    assert!(told.contains(&format!("key:{}", writes["id"].as_str().unwrap())), "{told}");
    // What its owner may not do any more it may not do either.
    app.execute_in("acme", "update grants set built_in = 'read-only' where built_in = 'owner'").await;
    app.clock().advance(FRESH);
    let writes = app.anonymous().with_token(text(&writes));
    writes.get("/api/v1/items").await.assert(200);
    writes.post("/api/v1/items", json!({ "sku": "K-03", "name": "By a key" })).await.assert(403);
    app.finish().await;
}

#[tokio::test]
async fn k_02_nobody_makes_a_key_that_can_do_more_than_he_can() {
    let app = TestApp::start().await;
    let administrator = app.another("acme", Role::Administrator).await;
    let body = |scopes: &[&str]| json!({ "name": "More", "scopes": scopes });
    let more = administrator.post("/api/v1/api-keys", body(&["identity.tenant.own"])).await;
    more.assert(403).problem("identity.more_than_own");
    let key = own_key(&app.alice(), &["identity.key.manage", "catalog.item.read"]).await;
    let by_key = app.anonymous().with_token(text(&key));
    by_key.post("/api/v1/api-keys", body(&["catalog.item.write"])).await.assert(403);
    let child = own_key(&by_key, &["catalog.item.read"]).await;
    assert_eq!((&child["principal"], items(&app, text(&child)).await), (&key["principal"], 200));
    by_key.post("/api/v1/api-keys", body(&["gone.thing.read"])).await.assert(422);
    // A rotated key is in the hands of the one who rotates it: of another member's keys nobody is.
    let colleague = app.another("acme", Role::Owner).await;
    let others = colleague.post(&format!("{}/rotate", path(&key)), json!({})).await;
    others.assert(403).problem("identity.more_than_own");
    colleague.delete(&path(&key)).await.assert(204);
    app.finish().await;
}

#[tokio::test]
async fn k_02_a_rotated_key_overlaps_as_long_as_is_said_and_can_do_no_more() {
    let app = TestApp::start().await;
    let key = own_key(&app.alice(), &["catalog.item.read"]).await;
    let rotate = async |body: Value| {
        app.alice().post(&format!("{}/rotate", path(&key)), body).await.assert(200).json()
    };
    let second = rotate(json!({})).await;
    assert_eq!((&second["scopes"], &second["expiresAt"]), (&key["scopes"], &key["expiresAt"]));
    assert_eq!((items(&app, text(&key)).await, items(&app, text(&second)).await), (200, 200));
    let third = rotate(json!({ "overlapHours": 0 })).await;
    for (text, status) in [(text(&key), 401), (text(&second), 401), (text(&third), 200)] {
        assert_eq!(items(&app, text).await, status);
    }
    app.sql().batch_execute("update api_keys set expires_at = now() where revoked_at is null").await.unwrap();
    app.clock().advance(FRESH);
    assert_eq!(items(&app, text(&third)).await, 401, "it has expired");
    app.finish().await;
}

#[tokio::test]
async fn j_05_a_key_ends_with_its_owner_and_with_its_tenant() {
    let app = TestApp::start().await;
    let colleague = app.another("acme", Role::Owner).await;
    let (his, hers) = (
        own_key(&colleague, &["catalog.item.read"]).await,
        own_key(&app.alice(), &["catalog.item.read"]).await,
    );
    assert_eq!((items(&app, text(&his)).await, items(&app, text(&hers)).await), (200, 200));
    let user = format!("/api/v1/users/{}", colleague.id().unwrap());
    app.alice().delete(&user).await.assert(204);
    app.alice().get(&path(&his)).await.assert(404);
    app.clock().advance(FRESH);
    assert_eq!((items(&app, text(&his)).await, items(&app, text(&hers)).await), (401, 200));
    app.sql().batch_execute("update tenants set status = 'suspended' where slug = 'acme'").await.unwrap();
    app.clock().advance(FRESH);
    assert_eq!(items(&app, text(&hers)).await, 401);
    app.bob().get("/api/v1/items").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn t_17_a_key_is_its_tenants_and_comes_in_one_header() {
    let app = TestApp::start().await;
    let key = own_key(&app.alice(), &["catalog.item.read"]).await;
    let ask = async |headers: &[(&str, &str)]| {
        let request = headers
            .iter()
            .fold(Request::get("/api/v1/items"), |request, (name, value)| request.header(*name, *value));
        app.anonymous().request(request.body("").unwrap()).await
    };
    let bearer = format!("Bearer {}", text(&key));
    ask(&[("x-api-key", text(&key))]).await.assert(200);
    ask(&[("x-api-key", text(&key)), ("x-tenant-id", "acme")]).await.assert(200);
    ask(&[("x-api-key", text(&key)), ("x-tenant-id", "globex")])
        .await
        .assert(403)
        .problem("core.tenant_mismatch");
    for headers in [[("x-api-key", text(&key)); 2], [("x-api-key", text(&key)), ("authorization", &bearer)]] {
        ask(&headers).await.assert(400).problem("core.malformed_header");
    }
    app.finish().await;
}

#[tokio::test]
async fn k_02_a_service_account_comes_in_by_its_keys_with_its_roles() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let made = alice.post("/api/v1/service-accounts", json!({ "name": "Scanner" })).await.assert(201).json();
    let account = format!("/api/v1/service-accounts/{}", made["id"].as_str().unwrap());
    let body = json!({ "name": "K", "scopes": ["catalog.item.read"], "serviceAccount": made["id"] });
    let key = alice.post("/api/v1/api-keys", body.clone()).await.assert(201).json();
    assert_eq!(items(&app, text(&key)).await, 403, "it has no role yet");
    alice.put(&format!("{account}/roles"), json!({ "roles": ["member"] })).await.assert(204);
    app.clock().advance(FRESH);
    assert_eq!(items(&app, text(&key)).await, 200);
    let administrator = app.another("acme", Role::Administrator).await;
    let owner = administrator.put(&format!("{account}/roles"), json!({ "roles": ["owner"] })).await;
    owner.assert(403).problem("identity.more_than_own");
    app.bob().put(&format!("{account}/roles"), json!({ "roles": ["member"] })).await.assert(404);
    let theirs = json!({ "name": "K", "scopes": ["catalog.item.read"], "serviceAccount": made["id"] });
    app.bob().post("/api/v1/api-keys", theirs).await.assert(422);
    alice.delete(&account).await.assert(204);
    assert_eq!(items(&app, text(&key)).await, 401);
    alice.post("/api/v1/api-keys", body).await.assert(422);
    assert_eq!(alice.get("/api/v1/service-accounts").await.json()["serviceAccounts"], json!([]));
    app.finish().await;
}
