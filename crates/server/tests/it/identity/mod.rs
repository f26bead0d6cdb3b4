//! Identity: sessions, invitations, members and what they may do.

mod address;
mod browser;
mod chromium;
mod credentials;
mod demands;
mod explain;
mod factors;
mod keys;
mod members;
mod pages;
mod passkey_login;
mod passkeys;
mod passwords;
mod registration;
mod required;
mod reviews;
mod roles;
mod sessions;
mod tenants;

use erp_core::auth::Role;
use erp_testkit::{Answer, TestApp};
use serde_json::{Value, json};

/// Signs in with a password.
async fn sign_in(app: &TestApp, tenant: &str, email: &str, password: &str) -> Answer {
    let body = json!({ "tenant": tenant, "email": email, "password": password });
    app.anonymous().post("/api/v1/auth/login", body).await
}

/// The tokens of somebody of the demo tenants who has just signed in.
async fn tokens(app: &TestApp, tenant: &str, role: Role) -> Value {
    let credential = &app.person(tenant, role).credential;
    sign_in(app, tenant, &credential.email, &credential.password).await.assert(200).json()
}

async fn refresh(app: &TestApp, tokens: &Value) -> Answer {
    let body = json!({ "refreshToken": tokens["refreshToken"] });
    app.anonymous().post("/api/v1/auth/refresh", body).await
}

/// What answers somebody with the access token of `tokens`.
async fn items(app: &TestApp, tokens: &Value) -> u16 {
    let bearer = tokens["accessToken"].as_str().unwrap();
    app.anonymous().with_token(bearer).get("/api/v1/items").await.status.as_u16()
}
