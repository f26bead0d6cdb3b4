//! The main path: two tenants, sign-in, and who am I.

use erp_core::auth::Role;
use erp_modules::PRODUCT;
use erp_testkit::TestApp;
use serde_json::json;

#[tokio::test]
async fn two_tenants_see_their_own_items() {
    let app = TestApp::start().await;
    let (acme, globex) = (app.alice().get("/api/v1/items").await, app.bob().get("/api/v1/items").await);
    let (acme, globex) = (acme.assert(200).json(), globex.assert(200).json());
    let ids = |page: &serde_json::Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|item| item["id"].to_string()).collect()
    };
    assert_eq!(ids(&acme).len(), 3);
    assert_eq!(ids(&globex).len(), 3);
    assert!(ids(&acme).iter().all(|id| !ids(&globex).contains(id)));
    app.finish().await;
}

#[tokio::test]
async fn a_token_from_the_sign_in_opens_me() {
    let app = TestApp::start().await;
    let olivia = &app.person("acme", Role::Owner);
    let credential = &olivia.credential;
    let body = json!({ "tenant": "acme", "email": credential.email, "password": credential.password });
    let token = app.anonymous().post("/api/v1/auth/login", body).await.assert(200).json();
    assert_eq!(token["tokenType"], "Bearer");
    assert_eq!(token["expiresIn"], 900);
    let signed_in = app.anonymous().with_token(token["accessToken"].as_str().unwrap());
    let me = signed_in.get("/api/v1/me").await.assert(200).json();
    assert_eq!(me["user"]["id"], olivia.user_id.to_string());
    assert_eq!(me["user"]["email"], credential.email);
    assert_eq!(me["tenant"]["id"], olivia.tenant_id.to_string());
    assert_eq!((&me["tenant"]["slug"], &me["roles"]), (&json!("acme"), &json!(["owner"])));
    let all = PRODUCT.modules.iter().flat_map(|module| module.permissions);
    let owners = all.filter(|permission| permission.roles.contains(&Role::Owner));
    let mut owners: Vec<&str> = owners.map(|permission| permission.name).collect();
    owners.sort_unstable();
    assert_eq!(me["permissions"], json!(owners));
    app.finish().await;
}
