//! Sign-in: one answer for every failure, an audit row for each try, and the password nowhere.

use erp_core::auth::Role;
use erp_testkit::{Answer, TestApp};
use serde_json::{Value, json};

async fn sign_in(app: &TestApp, tenant: &str, email: &str, password: &str) -> Answer {
    let body = json!({ "tenant": tenant, "email": email, "password": password });
    app.anonymous().post("/api/v1/auth/login", body).await
}

#[tokio::test]
async fn a_08_every_failure_has_the_same_answer() {
    let app = TestApp::start().await;
    let credential = |role| &app.person("acme", role).credential;
    let (owner, member, reader) =
        (credential(Role::Owner), credential(Role::Member), credential(Role::ReadOnly));
    app.sql()
        .execute("update users set disabled_at = now() where email = $1", &[&member.email])
        .await
        .unwrap();
    let ended = format!(
        "update memberships set ended_at = now() where user_id = '{}'",
        app.person("acme", Role::ReadOnly).user_id
    );
    app.execute_in("acme", &ended).await;
    app.execute_in("globex", "update users set password_hash = null where email like 'reader@globex%'").await;
    app.sql()
        .batch_execute(
            "insert into tenants (id, slug, status) values (gen_random_uuid(), 'closed', 'closed')",
        )
        .await
        .unwrap();
    let failures = [
        ("no-such-tenant", owner.email.as_str(), owner.password.as_str()),
        ("acme", "nobody@acme.example", &owner.password),
        ("acme", &owner.email, "wrong"),
        ("acme", &owner.email, ""),
        ("acme", &owner.email, &owner.password[1..]),
        ("globex", &owner.email, &owner.password),
        ("acme", &member.email, &member.password),
        ("acme", &reader.email, &reader.password),
        ("globex", "reader@globex.example", "x"),
        ("closed", &owner.email, &owner.password),
        ("canary-one", "canary@erp.invalid", ""),
        ("canary-two", "canary@erp.invalid", "canary"),
        ("acme", "not an address", "x"),
        ("ACME'; --", "a\u{0}b", "x"),
        ("", "", ""),
    ];
    let mut answers = Vec::new();
    for (tenant, email, password) in failures {
        let answer = sign_in(&app, tenant, email, password).await.assert(401);
        answer.problem("identity.sign_in_failed");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        let (status, mut body) = answer.comparable();
        body.as_object_mut().unwrap().remove("debug");
        answers.push((status, body));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    let upper = owner.email.to_uppercase();
    sign_in(&app, "acme", &upper, &owner.password).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn u_05_success_and_failure_are_audited() {
    let app = TestApp::start().await;
    let olivia = app.person("acme", Role::Owner);
    let before = app.audit_of("acme").await.len();
    let (email, password) = (&olivia.credential.email, &olivia.credential.password);
    sign_in(&app, "acme", email, password).await.assert(200);
    sign_in(&app, "acme", email, "wrong").await.assert(401);
    sign_in(&app, "acme", "nobody@acme.example", "wrong").await.assert(401);
    let rows = app.audit_of("acme").await.split_off(before);
    let told: Vec<[&Value; 4]> = rows
        .iter()
        .map(|row| [&row["action"], &row["actor"], &row["outcome"], &row["resource_id"]])
        .collect();
    let (action, actor, who) = (json!("identity.sign_in"), json!("system:sign-in"), json!(olivia.user_id));
    assert_eq!(
        told,
        [
            [&action, &actor, &json!("success"), &who],
            [&action, &actor, &json!("failure"), &who],
            [&action, &actor, &json!("failure"), &Value::Null],
        ]
    );
    assert_eq!(app.log().with_message("Sign-in failed").len(), 2);
    app.finish().await;
}

#[tokio::test]
async fn o_02_credentials_are_in_no_log_and_no_audit_row() {
    let app = TestApp::start().await;
    let olivia = &app.person("acme", Role::Owner).credential;
    let token = sign_in(&app, "acme", &olivia.email, &olivia.password).await.assert(200).json();
    let token = token["accessToken"].as_str().unwrap();
    let wrong = "canary-password-in-a-failure";
    sign_in(&app, "acme", &olivia.email, wrong).await.assert(401);
    let malformed =
        format!("{{\"tenant\":\"acme\",\"email\":\"x\",\"password\":\"{wrong}\",\"password\":\"{wrong}\"");
    let request = http::Request::post("/api/v1/auth/login").header("content-type", "application/json");
    let answer = app.anonymous().request(request.body(malformed).unwrap()).await;
    assert!(answer.status.is_client_error() && !answer.text().contains(wrong), "{answer}");
    let bearer = app.anonymous().with_token(token);
    bearer.get("/api/v1/me").await.assert(200);
    bearer.get("/nowhere").await.assert(404);
    let audit = serde_json::to_string(&app.audit_of("acme").await).unwrap();
    let metrics = app.anonymous().get("/metrics").await.assert(200).text();
    let signature = token.rsplit('.').next().unwrap();
    for secret in [&olivia.password, wrong, token, signature, "$argon2id", erp_testkit::JWT_SECRET] {
        for (place, text) in [("log", &app.log().text()), ("audit", &audit), ("metrics", &metrics)] {
            assert!(!text.contains(secret), "the {place} shows {secret}");
        }
    }
    app.finish().await;
}
