//! How operators begin, sign in with both factors, and let one another go.

use erp_testkit::TestApp;
use futures_util::future::join_all;
use serde_json::json;

use super::{PASSWORD, enrol, enrolled, log, secret, sign_in, signed_in};

const TENANTS: &str = "/api/v1/admin/tenants";

#[tokio::test]
async fn a_12_the_first_operator_comes_by_a_one_time_secret_and_signs_in_with_both_factors() {
    let app = TestApp::start().await;
    let secret = secret(&app, "ops@example.com").await;
    let nobody = app.anonymous();
    // A password by itself opens nothing, and neither does one that anybody would try.
    let body = json!({ "secret": secret, "password": "short" });
    nobody.post("/api/v1/admin/auth/enrol", body).await.assert(422).problem("identity.weak_password");
    let body = json!({ "secret": secret, "password": PASSWORD });
    nobody.post("/api/v1/admin/auth/enrol", body).await.assert(200);
    sign_in(&app, "ops@example.com", PASSWORD, "123456").await.assert(401).problem("identity.sign_in_failed");

    let (phone, codes) = enrol(&app, &secret).await;
    // The secret is spent, and the code of the enrolment does not sign in.
    let body = json!({ "secret": secret, "password": PASSWORD });
    nobody.post("/api/v1/admin/auth/enrol", body).await.assert(410).problem("operators.enrolment_ended");
    sign_in(&app, "ops@example.com", PASSWORD, &phone.code(&app, 0)).await.assert(401);
    let token = sign_in(&app, "OPS@example.com ", PASSWORD, &phone.code(&app, 1)).await.assert(200).json();
    assert_eq!((&token["tokenType"], &token["expiresIn"]), (&json!("Bearer"), &json!(900)));
    let token = token["accessToken"].as_str().unwrap();
    let operator = nobody.with_token(token);
    let listed = operator.get(TENANTS).await.assert(200).json();
    let slugs: Vec<_> = listed["items"].as_array().unwrap().iter().map(|one| &one["slug"]).collect();
    assert_eq!(slugs, ["acme", "globex"], "and none that is reserved");
    let page = operator.get(&format!("{TENANTS}?limit=1&status=active")).await.assert(200).json();
    assert_eq!((&page["items"][0]["slug"], &page["nextCursor"]), (&json!("acme"), &json!("acme")));
    let rest = operator.get(&format!("{TENANTS}?cursor=acme")).await.assert(200).json();
    assert_eq!((&rest["items"][0]["slug"], &rest["nextCursor"]), (&json!("globex"), &json!(null)));
    // A code is good once, and so is a recovery code.
    sign_in(&app, "ops@example.com", PASSWORD, &phone.code(&app, 1)).await.assert(401);
    sign_in(&app, "ops@example.com", PASSWORD, &codes[0]).await.assert(200);
    sign_in(&app, "ops@example.com", PASSWORD, &codes[0]).await.assert(401);
    let told: Vec<_> = log(&operator).await.iter().map(|line| line["action"].clone()).collect();
    assert_eq!(told.last(), Some(&json!("operators.enrolled")), "{told:?}");
    assert!(told.contains(&json!("operators.factor_failed")), "{told:?}");
    operator.post("/api/v1/admin/auth/logout", json!({})).await.assert(204);
    operator.get(TENANTS).await.assert(401).problem("core.unauthenticated");
    app.finish().await;
}

#[tokio::test]
async fn m_01_of_eight_uses_of_an_operators_code_at_the_same_time_one_signs_in() {
    let app = TestApp::start().await;
    let ops = enrolled(&app, "ops@example.com").await;
    let code = ops.phone.code(&app, 1);
    let tries = (0..8).map(|_| sign_in(&app, &ops.email, PASSWORD, &code));
    let all = join_all(tries).await;
    let good = all.iter().filter(|answer| answer.status.as_u16() == 200).count();
    assert_eq!(good, 1, "{all:?}");
    app.finish().await;
}

#[tokio::test]
async fn a_08_who_is_no_operator_is_told_what_one_with_a_wrong_password_is_told() {
    let app = TestApp::start().await;
    let ops = enrolled(&app, "ops@example.com").await;
    let wrong_password =
        sign_in(&app, &ops.email, "wrong horse battery staple", &ops.codes[0]).await.assert(401);
    let wrong_code = sign_in(&app, &ops.email, PASSWORD, &ops.phone.wrong(&app)).await.assert(401);
    let unknown = sign_in(&app, "nobody@example.com", PASSWORD, "123456").await.assert(401);
    // The owner of a tenant is no operator, with the right password of its own.
    let owner = &app.person("acme", erp_core::auth::Role::Owner).credential;
    let owner = sign_in(&app, &owner.email, &owner.password, "123456").await.assert(401);
    for other in [&wrong_code, &unknown, &owner] {
        assert_eq!(other.comparable(), wrong_password.comparable());
    }
    // Codes that are wrong shut codes out, and not the recovery codes.
    for _ in 0..4 {
        sign_in(&app, &ops.email, PASSWORD, &ops.phone.wrong(&app)).await.assert(401);
    }
    sign_in(&app, &ops.email, PASSWORD, &ops.phone.code(&app, 1)).await.assert(401);
    sign_in(&app, &ops.email, PASSWORD, &ops.codes[0]).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn a_06_failed_sign_ins_of_an_operator_have_to_wait() {
    let app = TestApp::builder().setting("RATE_LIMIT_AUTH_MAX", "5").start().await;
    let ops = enrolled(&app, "ops@example.com").await;
    for _ in 0..5 {
        sign_in(&app, &ops.email, "wrong horse battery staple", "123456").await.assert(401);
    }
    let refused = sign_in(&app, &ops.email, PASSWORD, &ops.codes[0]).await.assert(429);
    refused.problem("core.rate_limited");
    assert!(!refused.header("retry-after").is_empty());
    app.finish().await;
}

#[tokio::test]
async fn j_05_an_operator_who_is_disabled_is_out_at_once_on_both_instances_and_can_begin_anew() {
    let app = TestApp::start().await;
    let second = TestApp::builder().beside(&app).start().await;
    let (ops, eve) = (enrolled(&app, "ops@example.com").await, enrolled(&app, "eve@example.com").await);
    let operator = signed_in(&app, &ops, 0).await;
    let other = signed_in(&app, &eve, 0).await;
    let there = second.anonymous().with_token(other.token());
    there.get(TENANTS).await.assert(200);
    let listed = operator.get("/api/v1/admin/operators").await.assert(200).json();
    let all = listed["operators"].as_array().unwrap();
    let id = |email: &str| all.iter().find(|one| one["email"] == email).unwrap()["id"].as_str().unwrap();
    let path = format!("/api/v1/admin/operators/{}/disable", id("eve@example.com"));
    operator.post(&path, json!({})).await.assert(204);
    for out in [&other, &there] {
        out.get(TENANTS).await.assert(401);
    }
    sign_in(&app, &eve.email, PASSWORD, &eve.codes[1]).await.assert(401);
    operator.post(&path, json!({})).await.assert(404);
    let own = format!("/api/v1/admin/operators/{}/disable", id("ops@example.com"));
    operator.post(&own, json!({})).await.assert(409).problem("operators.last_operator");

    let again = json!({ "email": "eve@example.com" });
    let invited = operator.post("/api/v1/admin/operators", again.clone()).await.assert(200).json();
    let (_, codes) = enrol(&app, invited["secret"].as_str().unwrap()).await;
    sign_in(&app, &eve.email, PASSWORD, &eve.codes[1]).await.assert(401);
    sign_in(&app, &eve.email, PASSWORD, &codes[0]).await.assert(200);
    operator.post("/api/v1/admin/operators", again).await.assert(409).problem("operators.operator_taken");
    second.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn r_04_a_session_of_an_operator_ends_unused_and_at_its_end() {
    let app = TestApp::start().await;
    let unused = "update auth.operator_sessions set used_at = now() - interval '901 seconds'";
    let over = "update auth.operator_sessions set expires_at = now()";
    for end in [unused, over] {
        let operator = app.operator().await;
        operator.get(TENANTS).await.assert(200);
        app.sql().batch_execute(end).await.unwrap();
        operator.get(TENANTS).await.assert(401);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_11_a_secret_is_good_for_an_hour_once_and_those_of_the_command_line_until_the_first_operator() {
    let app = TestApp::start().await;
    let (first, other) = (secret(&app, "ops@example.com").await, secret(&app, "other@example.com").await);
    enrol(&app, &first).await;
    for spent in [first.as_str(), other.as_str(), "erp_enrol_", &other.replace("enrol", "operator")] {
        let body = json!({ "secret": spent, "password": PASSWORD });
        let answer = app.anonymous().post("/api/v1/admin/auth/enrol", body).await;
        answer.assert(410).problem("operators.enrolment_ended");
    }
    let late = secret(&app, "late@example.com").await;
    let over = "update auth.operators set secret_until = now() where secret_until is not null";
    app.sql().batch_execute(over).await.unwrap();
    let body = json!({ "secret": late, "password": PASSWORD });
    app.anonymous().post("/api/v1/admin/auth/enrol", body).await.assert(410);
    app.finish().await;
}
