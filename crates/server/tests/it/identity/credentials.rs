//! Every route × every kind of credential × every state in which it is good no more.

use erp_core::auth::Role;
use erp_testkit::{Actor, AuthenticatorApp, TestApp};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::browser::session_cookie_of;
use super::tokens;
use crate::api::fixtures::sweeps;

/// What an instance has read of grants and keys is this old at most.
const FRESH: SignedDuration = SignedDuration::from_secs(5);

/// What it is, and the header that brings it.
type Credential = (&'static str, (&'static str, String));

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer[field].as_str().unwrap_or_else(|| panic!("{field}: {answer}"))
}

/// A key of somebody's own, which lists items.
async fn key(by: &Actor<'_>) -> Value {
    let body = json!({ "name": "Script", "scopes": ["catalog.item.read"] });
    by.post("/api/v1/api-keys", body).await.assert(201).json()
}

/// Credentials that are good, by the state that each comes to.
async fn living(app: &TestApp) -> Vec<Credential> {
    let alice = app.alice();
    let (paused, removed) = (app.another("acme", Role::Owner).await, app.another("acme", Role::Owner).await);
    let machine =
        alice.post("/api/v1/service-accounts", json!({ "name": "Scanner" })).await.assert(201).json();
    let account = format!("/api/v1/service-accounts/{}", text(&machine, "id"));
    alice.put(&format!("{account}/roles"), json!({ "roles": ["member"] })).await.assert(204);
    let of_machine =
        json!({ "name": "Scanner", "scopes": ["catalog.item.read"], "serviceAccount": machine["id"] });
    let of_machine = alice.post("/api/v1/api-keys", of_machine).await.assert(201).json();
    let (revoked, over) = (key(&alice).await, key(&alice).await);
    let (of_paused, of_removed, of_suspended) =
        (key(&paused).await, key(&removed).await, key(&app.bob()).await);
    let ended = tokens(app, "acme", Role::Owner).await;
    let living = vec![
        ("a token that expires", bearer(app.member_of("acme").token())),
        ("a token whose session is signed out", bearer(text(&ended, "accessToken"))),
        ("a token of somebody who is paused", bearer(paused.token())),
        ("a token of somebody who is removed", bearer(removed.token())),
        ("a token of a tenant that is suspended", bearer(app.bob().token())),
        ("a cookie that was left unused", ("cookie", session_cookie_of(app, "acme", Role::Member).await)),
        (
            "a cookie of a tenant that is suspended",
            ("cookie", session_cookie_of(app, "globex", Role::Owner).await),
        ),
        ("a key that is revoked", bearer(text(&revoked, "key"))),
        ("a key that is over", ("x-api-key", text(&over, "key").to_owned())),
        ("a key of somebody who is paused", bearer(text(&of_paused, "key"))),
        ("a key of somebody who is removed", bearer(text(&of_removed, "key"))),
        ("a key of a machine that has ended", bearer(text(&of_machine, "key"))),
        ("a key of a tenant that is suspended", bearer(text(&of_suspended, "key"))),
    ];
    for (what, credential) in &living {
        assert_eq!(items(app, credential).await, 200, "{what}");
    }

    alice.delete(&format!("/api/v1/api-keys/{}", text(&revoked, "id"))).await.assert(204);
    alice.delete(&account).await.assert(204);
    let user = |actor: &Actor<'_>| format!("/api/v1/users/{}", actor.id().unwrap());
    alice.post(&format!("{}/deactivate", user(&paused)), Value::Null).await.assert(204);
    alice.delete(&user(&removed)).await.assert(204);
    app.anonymous()
        .with_token(text(&ended, "accessToken"))
        .post("/api/v1/auth/logout", Value::Null)
        .await
        .assert(204);
    let over = text(&over, "id").to_owned();
    let dead = format!(
        "update api_keys set expires_at = now() - interval '1 second' where id = '{over}';
        update sessions set idle_at = now() - interval '1 second' where cookie_hash is not null;
        update tenants set status = 'suspended' where slug = 'globex'"
    );
    app.sql().batch_execute(&dead).await.unwrap();
    living
}

async fn items(app: &TestApp, (header, value): &(&'static str, String)) -> u16 {
    let request = http::Request::get("/api/v1/items").header(*header, value).body("").unwrap();
    app.anonymous().request(request).await.status.as_u16()
}

/// What is given for one purpose, and opens nothing else.
async fn of_another_purpose(app: &TestApp) -> Vec<Credential> {
    let fresh = tokens(app, "acme", Role::ReadOnly).await;
    let mine = app.anonymous().with_token(text(&fresh, "accessToken"));
    let password = &app.person("acme", Role::ReadOnly).credential.password;
    let begun = mine.post("/api/v1/auth/mfa/totp", json!({ "password": password })).await.assert(200).json();
    let code = AuthenticatorApp::of(text(&begun, "secret")).code(app, 0);
    mine.post("/api/v1/auth/mfa/totp/confirm", json!({ "code": code })).await.assert(204);
    let pending = tokens(app, "acme", Role::ReadOnly).await;
    let [head, body, _] = text(&fresh, "accessToken").split('.').collect::<Vec<_>>().try_into().unwrap();
    vec![
        ("a sign-in that waits for its second factor", bearer(text(&pending, "mfaToken"))),
        ("a refresh token", bearer(text(&fresh, "refreshToken"))),
        ("the secret of a device", bearer(text(&fresh, "deviceToken"))),
        ("a token without its signature", bearer(&format!("{head}.{body}."))),
        ("an operator's token", bearer(app.operator().await.token())),
        (
            "an access token as a cookie",
            ("cookie", format!("__Host-erp-session={}", text(&fresh, "accessToken"))),
        ),
        ("an access token as a key", ("x-api-key", text(&fresh, "accessToken").to_owned())),
        ("a password", ("authorization", "Basic YWxpY2U6cGFzc3dvcmQ=".to_owned())),
        ("nothing", bearer("")),
    ]
}

#[tokio::test]
async fn j_05_k_02_t_21_no_credential_that_is_good_no_more_opens_any_route() {
    let app = TestApp::builder().setting("RATE_LIMIT_MAX", "1000000").start().await;
    let sweeps = sweeps(&app).await;
    let mut dead = living(&app).await;
    dead.extend(of_another_purpose(&app).await);
    app.clock().advance(FRESH);
    let still: Vec<_> = dead.iter().filter(|(what, _)| *what != "a token that expires").cloned().collect();
    sweeps.refuses(&still).await;
    app.clock().advance(SignedDuration::from_mins(15));
    sweeps.refuses(&dead[..1]).await;
    app.finish().await;
}
