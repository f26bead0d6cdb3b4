//! The second factor that a tenant or a role demands: of the session, and not of the account.

use erp_core::auth::Role;
use erp_testkit::{Actor, Answer, AuthenticatorApp, TestApp};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{items, refresh, sign_in, tokens};

const SETTING: &str = "/api/v1/settings/identity.second_factor";
/// What an instance has read of settings, roles and sessions is this old at most.
const FRESH: SignedDuration = SignedDuration::from_secs(5);
const REQUIRED: &str = "core.second_factor_required";

fn bearer<'app>(app: &'app TestApp, tokens: &Value) -> Actor<'app> {
    app.anonymous().with_token(tokens["accessToken"].as_str().unwrap())
}

/// Sets up an app by the session of `tokens`; the code that does it signs nobody in.
async fn enrol(app: &TestApp, tokens: &Value, role: Role) -> AuthenticatorApp {
    let (me, password) = (bearer(app, tokens), &app.person("acme", role).credential.password);
    let begun = me.post("/api/v1/auth/mfa/totp", json!({ "password": password })).await.assert(200).json();
    let phone = AuthenticatorApp::of(begun["secret"].as_str().unwrap());
    let code = phone.code(app, 0);
    me.post("/api/v1/auth/mfa/totp/confirm", json!({ "code": code })).await.assert(204);
    phone
}

/// The tokens of the same session, once a code was given in it.
async fn prove(app: &TestApp, tokens: &Value, phone: &AuthenticatorApp) -> Value {
    let body = json!({ "code": phone.code(app, 1) });
    bearer(app, tokens).post("/api/v1/auth/step-up", body).await.assert(200).json()
}

/// The owner of acme, who has used a second factor.
async fn owner(app: &TestApp) -> Value {
    let begun = tokens(app, "acme", Role::Owner).await;
    let phone = enrol(app, &begun, Role::Owner).await;
    prove(app, &begun, &phone).await
}

async fn demand(app: &TestApp, owner: &Value, of: &str) -> Answer {
    bearer(app, owner).put(SETTING, json!({ "value": of })).await
}

/// A role of acme's that allows to read items, and demands a second factor or does not say.
fn role(demands: Option<bool>) -> Value {
    let mut role = json!({ "name": "Storekeeper", "permissions": ["catalog.item.read"] });
    if let Some(demands) = demands {
        role["secondFactor"] = json!(demands);
    }
    role
}

#[tokio::test]
async fn m_03_a_session_without_the_factor_that_is_demanded_opens_its_enrolment_alone() {
    let app = TestApp::start().await;
    demand(&app, &owner(&app).await, "everyone").await.assert(200);
    app.clock().advance(FRESH);
    let mine = tokens(&app, "acme", Role::Member).await;
    assert_eq!(mine["requiredActions"], json!(["second-factor"]));
    let me = bearer(&app, &mine);
    for path in ["/api/v1/items", "/api/v1/settings", "/api/v1/auth/sessions", "/api/v1/auth/tenants"] {
        me.get(path).await.assert(403).problem(REQUIRED);
    }
    let profile = me.get("/api/v1/me").await.assert(200).json();
    assert_eq!(profile["requiredActions"], json!(["second-factor"]));
    // Nor does the next token of the session open more, nor one of a factor that is there and was not used.
    let next = refresh(&app, &mine).await.assert(200).json();
    assert_eq!(items(&app, &next).await, 403);
    let phone = enrol(&app, &next, Role::Member).await;
    assert_eq!(items(&app, &next).await, 403);
    let proven = prove(&app, &next, &phone).await;
    assert_eq!(items(&app, &proven).await, 200);
    let profile = bearer(&app, &proven).get("/api/v1/me").await.assert(200).json();
    assert_eq!(profile["requiredActions"], Value::Null);
    // Who signs in by the factor is asked for nothing.
    let credential = &app.person("acme", Role::Member).credential;
    let waiting = sign_in(&app, "acme", &credential.email, &credential.password).await.assert(200).json();
    app.clock().advance(SignedDuration::from_secs(60));
    let body = json!({ "mfaToken": waiting["mfaToken"], "code": phone.code(&app, 0) });
    let begun = app.anonymous().post("/api/v1/auth/mfa/verify", body).await.assert(200).json();
    assert_eq!((&begun["requiredActions"], items(&app, &begun).await), (&Value::Null, 200));
    app.finish().await;
}

#[tokio::test]
async fn j_05_a_demand_cuts_the_sessions_from_before_on_all_instances_within_five_seconds() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let (owner, mine) = (owner(&here).await, tokens(&here, "acme", Role::Member).await);
    let (elsewhere, apps) = (tokens(&here, "globex", Role::Member).await, [&here, &there]);
    for app in apps {
        assert_eq!(items(app, &mine).await, 200);
    }
    demand(&here, &owner, "everyone").await.assert(200);
    for app in apps {
        app.clock().advance(FRESH);
        assert_eq!(items(app, &mine).await, 403);
        assert_eq!((items(app, &owner).await, items(app, &elsewhere).await), (200, 200));
    }
    // What was done on one instance counts on the other at once.
    let phone = enrol(&here, &mine, Role::Member).await;
    assert_eq!(items(&there, &mine).await, 403);
    let proven = prove(&here, &mine, &phone).await;
    for app in apps {
        assert_eq!(items(app, &proven).await, 200);
    }
    bearer(&here, &owner).delete(SETTING).await.assert(204);
    let free = tokens(&there, "acme", Role::ReadOnly).await;
    there.clock().advance(FRESH);
    assert_eq!(items(&there, &free).await, 200);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn who_demands_a_factor_has_used_one_so_that_nobody_shuts_himself_out() {
    let app = TestApp::start().await;
    let begun = tokens(&app, "acme", Role::Owner).await;
    let refused = demand(&app, &begun, "everyone").await.assert(409).problem("tenants.shuts_out");
    assert!(refused["detail"].as_str().unwrap().contains("second factor"), "{refused}");
    demand(&app, &begun, "owners").await.assert(422);
    demand(&app, &begun, "off").await.assert(200);
    let me = bearer(&app, &begun);
    me.post("/api/v1/roles", role(Some(true))).await.assert(409).problem("identity.factor_not_used");
    let made = me.post("/api/v1/roles", role(None)).await.assert(201).json();
    assert_eq!(made["secondFactor"], json!(false));
    let path = format!("/api/v1/roles/{}", made["id"].as_str().unwrap());
    me.put(&path, role(Some(true))).await.assert(409).problem("identity.factor_not_used");
    // That one is set up is not enough.
    let phone = enrol(&app, &begun, Role::Owner).await;
    demand(&app, &begun, "everyone").await.assert(409);
    let owner = prove(&app, &begun, &phone).await;
    demand(&app, &owner, "everyone").await.assert(200);
    let changed = bearer(&app, &owner).put(&path, role(Some(true))).await.assert(200).json();
    assert_eq!(changed["secondFactor"], json!(true));
    // Nor does a key, which has used none.
    let scopes = ["tenants.setting.change", "identity.factor.demand"];
    let key = json!({ "name": "Script", "scopes": scopes });
    let key = bearer(&app, &owner).post("/api/v1/api-keys", key).await.assert(201).json();
    let key = app.anonymous().with_token(key["key"].as_str().unwrap());
    key.put(SETTING, json!({ "value": "everyone" })).await.assert(409).problem("tenants.shuts_out");
    app.finish().await;
}

#[tokio::test]
async fn a_factor_is_demanded_of_those_who_run_the_tenant_and_of_no_machine() {
    let app = TestApp::start().await;
    let owner = owner(&app).await;
    let administrator = app.another("acme", Role::Administrator).await;
    let key = json!({ "name": "Script", "scopes": ["catalog.item.read"] });
    let key = administrator.post("/api/v1/api-keys", key).await.assert(201).json();
    let key = app.anonymous().with_token(key["key"].as_str().unwrap());
    demand(&app, &owner, "owners-and-administrators").await.assert(200);
    app.clock().advance(FRESH);
    administrator.get("/api/v1/items").await.assert(403).problem(REQUIRED);
    app.max().get("/api/v1/items").await.assert(200);
    key.get("/api/v1/items").await.assert(200);
    // A role that is given brings its demand along, and takes it along.
    let path = format!("/api/v1/users/{}/roles", app.person("acme", Role::Member).user_id);
    bearer(&app, &owner).put(&path, json!({ "roles": ["administrator"] })).await.assert(204);
    app.clock().advance(FRESH);
    app.max().get("/api/v1/items").await.assert(403).problem(REQUIRED);
    bearer(&app, &owner).put(&path, json!({ "roles": ["member"] })).await.assert(204);
    app.max().get("/api/v1/items").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn a_role_demands_a_factor_of_those_who_hold_it() {
    let app = TestApp::start().await;
    let owner = owner(&app).await;
    let by_owner = bearer(&app, &owner);
    let made = by_owner.post("/api/v1/roles", role(Some(true))).await.assert(201).json();
    let path = format!("/api/v1/roles/{}", made["id"].as_str().unwrap());
    let holder = app.another("acme", Role::ReadOnly).await;
    holder.get("/api/v1/items").await.assert(200);
    let roles = json!({ "roles": ["Storekeeper"] });
    by_owner.put(&format!("/api/v1/users/{}/roles", holder.id().unwrap()), roles).await.assert(204);
    app.clock().advance(FRESH);
    holder.get("/api/v1/items").await.assert(403).problem(REQUIRED);
    app.max().get("/api/v1/items").await.assert(200);
    // A client that does not know of it takes nothing back.
    let kept = by_owner.put(&path, role(None)).await.assert(200).json();
    assert_eq!(kept["secondFactor"], json!(true));
    holder.get("/api/v1/items").await.assert(403).problem(REQUIRED);
    by_owner.put(&path, role(Some(false))).await.assert(200);
    app.clock().advance(FRESH);
    holder.get("/api/v1/items").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn t_17_who_goes_to_a_tenant_that_demands_a_factor_needs_one_there() {
    let app = TestApp::start().await;
    let owner = owner(&app).await;
    app.join("globex", app.person("acme", Role::Owner).user_id, Role::ReadOnly).await;
    app.join("acme", app.person("globex", Role::Member).user_id, Role::ReadOnly).await;
    demand(&app, &owner, "everyone").await.assert(200);
    app.clock().advance(FRESH);
    let mine = tokens(&app, "globex", Role::Member).await;
    let in_acme = |tokens: &Value| {
        let request = http::Request::get("/api/v1/items").header("x-tenant-id", "acme");
        let token = tokens["accessToken"].as_str().unwrap().to_owned();
        request.header("authorization", format!("Bearer {token}")).body("").unwrap()
    };
    assert_eq!(items(&app, &mine).await, 200);
    app.anonymous().request(in_acme(&mine)).await.assert(403).problem(REQUIRED);
    let there = bearer(&app, &mine).post("/api/v1/auth/switch", json!({ "tenant": "acme" })).await;
    let there = there.assert(200).json();
    assert_eq!((&there["requiredActions"], items(&app, &there).await), (&json!(["second-factor"]), 403));
    // A session that is for its enrolment alone opens nothing elsewhere either.
    let elsewhere = http::Request::get("/api/v1/items").header("x-tenant-id", "globex");
    let elsewhere =
        elsewhere.header("authorization", format!("Bearer {}", there["accessToken"].as_str().unwrap()));
    let refused = app.anonymous().request(elsewhere.body("").unwrap()).await;
    refused.assert(403).problem(REQUIRED);
    // One that was used here is used there.
    let globex = bearer(&app, &owner).post("/api/v1/auth/switch", json!({ "tenant": "globex" })).await;
    app.anonymous().request(in_acme(&globex.assert(200).json())).await.assert(200);
    app.finish().await;
}
