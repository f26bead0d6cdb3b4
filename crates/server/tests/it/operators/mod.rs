//! Operators of the platform: how they begin, sign in, and what they do.

mod accounts;
mod erasure;
mod impersonation;
mod people;
mod tenants;

use erp_core::auth::TenantSecret;
use erp_core::shared::{SystemRng, TenantId};
use erp_testkit::{Actor, Answer, AuthenticatorApp, TestApp};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";

/// A one-time secret for somebody, as the command line makes it.
async fn secret(app: &TestApp, email: &str) -> String {
    let secret = TenantSecret::new("enrol", TenantId::NOBODY, &SystemRng::new());
    let add = "insert into auth.operators (id, email, secret_hash, secret_until) \
        values (gen_random_uuid(), $1, $2, now() + interval '1 hour')";
    app.sql().execute(add, &[&email, &secret.hash()]).await.unwrap();
    secret.expose().to_owned()
}

/// Somebody who has enrolled, with its authenticator app and its recovery codes.
struct Enrolled {
    email: String,
    phone: AuthenticatorApp,
    codes: Vec<String>,
}

async fn enrol(app: &TestApp, secret: &str) -> (AuthenticatorApp, Vec<String>) {
    let nobody = app.anonymous();
    let body = json!({ "secret": secret, "password": PASSWORD });
    let begun = nobody.post("/api/v1/admin/auth/enrol", body).await.assert(200).json();
    let phone = AuthenticatorApp::of(begun["secret"].as_str().unwrap());
    let body = json!({ "secret": secret, "code": phone.code(app, 0) });
    let shown = nobody.post("/api/v1/admin/auth/enrol/confirm", body).await.assert(200).json();
    let codes = shown["codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned());
    (phone, codes.collect())
}

async fn enrolled(app: &TestApp, email: &str) -> Enrolled {
    let (phone, codes) = enrol(app, &secret(app, email).await).await;
    Enrolled { email: email.to_owned(), phone, codes }
}

async fn sign_in(app: &TestApp, email: &str, password: &str, code: &str) -> Answer {
    let body = json!({ "email": email, "password": password, "code": code });
    app.anonymous().post("/api/v1/admin/auth/login", body).await
}

/// Signed in with a recovery code.
async fn signed_in<'a>(app: &'a TestApp, who: &Enrolled, at: usize) -> Actor<'a> {
    let token = sign_in(app, &who.email, PASSWORD, &who.codes[at]).await.assert(200).json();
    app.anonymous().with_token(token["accessToken"].as_str().unwrap())
}

/// What operators did, of the platform log, the latest first.
async fn log(operator: &Actor<'_>) -> Vec<Value> {
    let lines = operator.get("/api/v1/admin/log?limit=200").await.assert(200).json();
    let of_operators = |line: &&Value| line["action"].as_str().unwrap().starts_with("operators.");
    lines["items"].as_array().unwrap().iter().filter(of_operators).cloned().collect()
}
