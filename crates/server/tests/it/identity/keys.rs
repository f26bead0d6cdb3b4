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

/// What answers a request with this key that a proxy has passed on for `from`.
async fn items_from(app: &TestApp, key: &str, from: &str) -> (u16, String) {
    let request = Request::get("/api/v1/items").header("x-forwarded-for", from).body("").unwrap();
    let answer = app.anonymous().with_token(key).request(request).await;
    let status = answer.status.as_u16();
    (status, if status == 200 { String::new() } else { answer.json()["code"].as_str().unwrap().to_owned() })
}

fn from_networks(networks: &Value) -> Value {
    json!({ "name": "Script", "scopes": ["catalog.item.read"], "allowedNetworks": networks })
}

#[tokio::test]
async fn k_02_a_key_is_used_from_its_networks_which_change_everywhere_within_five_seconds() {
    const INSIDE: &str = "192.0.2.7";
    const OUTSIDE: &str = "198.51.100.1";
    let plain = || TestApp::builder().setting("TRUSTED_PROXIES", "127.0.0.1");
    let here = plain().start().await;
    let there = plain().beside(&here).start().await;
    let alice = here.alice();
    let body = from_networks(&json!(["192.0.2.0/24", "2001:db8::/32", "203.0.113.9"]));
    let key = alice.post("/api/v1/api-keys", body).await.assert(201).json();
    let shown = json!(["192.0.2.0/24", "2001:db8::/32", "203.0.113.9/32"]);
    let listed = alice.get("/api/v1/api-keys").await.assert(200).json();
    assert_eq!((&key["allowedNetworks"], &listed["apiKeys"][0]["allowedNetworks"]), (&shown, &shown));
    let is_in = (200, String::new());
    let is_out = (403, "core.address_refused".to_owned());
    for app in [&here, &there] {
        for inside in [INSIDE, "2001:db8::9", "203.0.113.9", "::ffff:192.0.2.7"] {
            assert_eq!(items_from(app, text(&key), inside).await, is_in, "{inside}");
        }
        for outside in [OUTSIDE, "2001:db9::9", "203.0.113.8", "127.0.0.1"] {
            assert_eq!(items_from(app, text(&key), outside).await, is_out, "{outside}");
        }
    }
    // What is known of a key says that, too.
    let noted = "from api_keys where last_used_at is not null";
    here.until(&format!("select count(*) = 1 {noted}"), &format!("select to_jsonb(count(*)) {noted}")).await;
    let before = asked(&here).await;
    for _ in 0..10 {
        assert_eq!(items_from(&there, text(&key), INSIDE).await, is_in);
        assert_eq!(items_from(&there, text(&key), OUTSIDE).await, is_out);
    }
    assert_eq!(asked(&here).await, before);
    let moved = json!({ "allowedNetworks": ["198.51.100.0/24"] });
    let changed = alice.patch(&path(&key), moved).await.assert(200).json();
    assert_eq!(changed["allowedNetworks"], json!(["198.51.100.0/24"]));
    assert_eq!(items_from(&here, text(&key), INSIDE).await, is_out);
    there.clock().advance(FRESH);
    assert_eq!(items_from(&there, text(&key), INSIDE).await, is_out);
    assert_eq!(items_from(&there, text(&key), OUTSIDE).await, is_in);
    let body = json!({ "overlapHours": 1 });
    let rotated = alice.post(&format!("{}/rotate", path(&key)), body).await.assert(200).json();
    for text in [text(&key), text(&rotated)] {
        assert_eq!(items_from(&here, text, INSIDE).await, is_out);
        assert_eq!(items_from(&here, text, OUTSIDE).await, is_in);
    }
    // A patch that says nothing changes nothing; an empty list lets the key be used from anywhere.
    let same = alice.patch(&path(&key), json!({})).await.assert(200).json();
    assert_eq!(same["allowedNetworks"], json!(["198.51.100.0/24"]));
    alice.patch(&path(&key), json!({ "allowedNetworks": [] })).await.assert(200);
    assert_eq!(items_from(&here, text(&key), INSIDE).await, is_in);
    here.edge().app.write_denials().await;
    let audit = here.audit_of("acme").await;
    let of_key = |action: &str| audit.iter().filter(|row| row["action"] == action).collect::<Vec<_>>();
    assert_eq!(of_key("identity.key_created")[0]["details"]["allowedNetworks"], shown);
    let [first, _] = of_key("identity.key_changed")[..] else { panic!("{audit:#?}") };
    let told = json!({ "allowedNetworks": { "before": shown, "after": ["198.51.100.0/24"] } });
    assert_eq!(first["details"], told);
    let denied = audit.iter().find(|row| row["details"]["code"] == "core.address_refused").unwrap();
    let actor = format!("key:{}", key["id"].as_str().unwrap());
    assert_eq!((&denied["outcome"], &denied["actor"]), (&json!("denied"), &json!(actor)));
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn k_02_where_a_key_is_used_from_is_not_what_a_client_says() {
    let app = TestApp::start().await;
    let made = app.alice().post("/api/v1/api-keys", from_networks(&json!(["192.0.2.0/24"]))).await;
    let key = made.assert(201).json();
    // Nobody is a proxy here, so that the header is the client's own word.
    let (status, code) = items_from(&app, text(&key), "192.0.2.7").await;
    assert_eq!((status, code.as_str()), (403, "core.address_refused"));
    let lines = app.log().with_message("Access denied");
    let told = lines.iter().map(|line| [&line["code"], &line["ip"], &line["principal"]]);
    let principal = json!(format!("key:{}", key["id"].as_str().unwrap()));
    let expected = [&json!("core.address_refused"), &json!("127.0.0.1"), &principal];
    assert_eq!(told.collect::<Vec<_>>(), [expected]);
    for wrong in [json!(["192.0.2.1/24"]), json!(["example.com"]), json!(["192.0.2.0/33"]), json!([""])] {
        let body = from_networks(&wrong);
        app.alice().post("/api/v1/api-keys", body).await.assert(422).problem("core.invalid");
        let body = json!({ "allowedNetworks": wrong });
        app.alice().patch(&path(&key), body).await.assert(422).problem("core.invalid");
    }
    let body = json!({ "allowedNetworks": vec!["192.0.2.0/24"; 201] });
    app.alice().patch(&path(&key), body).await.assert(422);
    app.bob().patch(&path(&key), json!({ "allowedNetworks": [] })).await.assert(404);
    app.finish().await;
}

#[tokio::test]
async fn k_02_a_key_gives_none_more_networks_than_it_has() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let body = json!({ "name": "Parent", "scopes": ["identity.key.manage", "catalog.item.read"], "allowedNetworks": ["127.0.0.0/8"] });
    let parent = alice.post("/api/v1/api-keys", body).await.assert(201).json();
    let by_key = app.anonymous().with_token(text(&parent));
    for wider in [json!([]), json!(["127.0.0.0/8", "192.0.2.7"]), json!(["126.0.0.0/7"])] {
        let made = by_key.post("/api/v1/api-keys", from_networks(&wider)).await;
        made.assert(403).problem("identity.more_than_own");
        let own = by_key.patch(&path(&parent), json!({ "allowedNetworks": wider })).await;
        own.assert(403).problem("identity.more_than_own");
    }
    let made = by_key.post("/api/v1/api-keys", from_networks(&json!(["127.0.0.1"]))).await;
    let child = made.assert(201).json();
    assert_eq!(items(&app, text(&child)).await, 200);
    // A key that can do more than somebody can is not changed by him either.
    let body =
        json!({ "name": "Owner's", "scopes": ["identity.tenant.own"], "allowedNetworks": ["192.0.2.7"] });
    let owners = alice.post("/api/v1/api-keys", body).await.assert(201).json();
    let administrator = app.another("acme", Role::Administrator).await;
    let opened = administrator.patch(&path(&owners), json!({ "allowedNetworks": [] })).await;
    opened.assert(403).problem("identity.more_than_own");
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_told_whose_it_is_and_what_it_may_do() {
    let app = TestApp::start().await;
    let me = async |key: &Value| app.anonymous().with_token(text(key)).get("/api/v1/me").await;
    let own = own_key(&app.alice(), &["catalog.item.read"]).await;
    let told = me(&own).await.assert(200).json();
    let owner = app.alice().get("/api/v1/me").await.assert(200).json();
    assert_eq!((&told["user"], &told["tenant"]), (&owner["user"], &owner["tenant"]), "{told}");
    assert_eq!((&told["roles"], &told["permissions"]), (&json!(["api-key"]), &json!(["catalog.item.read"])));
    let shown =
        json!({ "id": own["id"], "name": "Script", "scopes": ["catalog.item.read"], "expiresAt": null });
    assert_eq!((&told["apiKey"], told.get("serviceAccount")), (&shown, None));
    assert!(owner.get("apiKey").is_none() && owner.get("serviceAccount").is_none(), "{owner}");

    let made = json!({ "name": "Warehouse scanner" });
    let machine = app.alice().post("/api/v1/service-accounts", made).await.assert(201).json();
    let account = format!("/api/v1/service-accounts/{}", machine["id"].as_str().unwrap());
    app.alice().put(&format!("{account}/roles"), json!({ "roles": ["read-only"] })).await.assert(204);
    let scopes = json!({ "name": "K", "scopes": ["catalog.item.read"], "serviceAccount": machine["id"] });
    let key = app.alice().post("/api/v1/api-keys", scopes).await.assert(201).json();
    let told = me(&key).await.assert(200).json();
    let shown = json!({ "id": machine["id"], "name": "Warehouse scanner" });
    assert_eq!((&told["serviceAccount"], told.get("user")), (&shown, None), "{told}");
    assert_eq!((&told["roles"], &told["permissions"]), (&json!(["api-key"]), &json!(["catalog.item.read"])));
    app.alice().delete(&account).await.assert(204);
    app.clock().advance(FRESH);
    me(&key).await.assert(401);
    app.finish().await;
}
