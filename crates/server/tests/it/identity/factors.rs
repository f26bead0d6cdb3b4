//! The second factor: codes that are good once, few wrong ones, and acts that want it.

use erp_core::auth::Role;
use erp_testkit::{Actor, Answer, AuthenticatorApp, TestApp};
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{items, refresh, sign_in, tokens};

fn bearer<'app>(app: &'app TestApp, tokens: &Value) -> Actor<'app> {
    app.anonymous().with_token(tokens["accessToken"].as_str().unwrap())
}

/// Sets up an app for somebody of acme who has no factor; the step of the code that does it has passed then.
async fn enrol(app: &TestApp, role: Role) -> AuthenticatorApp {
    let mine = tokens(app, "acme", role).await;
    let me = bearer(app, &mine);
    let password = &app.person("acme", role).credential.password;
    let begun = me.post("/api/v1/auth/mfa/totp", json!({ "password": password })).await.assert(200).json();
    let phone = AuthenticatorApp::of(begun["secret"].as_str().unwrap());
    let code = phone.code(app, 0);
    me.post("/api/v1/auth/mfa/totp/confirm", json!({ "code": code })).await.assert(204);
    phone
}

/// The token of a sign-in that waits for the second factor.
async fn begin(app: &TestApp, role: Role) -> Value {
    let credential = &app.person("acme", role).credential;
    let answer = sign_in(app, "acme", &credential.email, &credential.password).await.assert(200).json();
    assert_eq!((&answer["accessToken"], &answer["refreshToken"]), (&Value::Null, &Value::Null));
    answer
}

async fn verify(app: &TestApp, begun: &Value, code: &str) -> Answer {
    let body = json!({ "mfaToken": begun["mfaToken"], "code": code });
    app.anonymous().post("/api/v1/auth/mfa/verify", body).await
}

async fn actions(app: &TestApp, action: &str) -> usize {
    app.audit_of("acme").await.iter().filter(|entry| entry["action"] == action).count()
}

/// Lets time pass for the wrong codes that are noted.
async fn age(app: &TestApp, interval: &str) {
    let sql = format!("update auth.factor_failures set at = at - interval '{interval}'");
    app.sql().batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn m_04_a_factor_is_set_up_with_the_password_and_a_code_which_signs_nobody_in() {
    let app = TestApp::start().await;
    let mine = tokens(&app, "acme", Role::Member).await;
    let me = bearer(&app, &mine);
    let password = &app.person("acme", Role::Member).credential.password;
    let wrong = me.post("/api/v1/auth/mfa/totp", json!({ "password": "wrong" })).await;
    wrong.assert(401).problem("identity.sign_in_failed");
    let begun = me.post("/api/v1/auth/mfa/totp", json!({ "password": password })).await.assert(200).json();
    let secret = begun["secret"].as_str().unwrap();
    assert_eq!(secret.len(), 32, "160 bits");
    let uri = begun["uri"].as_str().unwrap();
    assert!(uri.starts_with("otpauth://totp/") && uri.contains(&format!("?secret={secret}&")), "{uri}");
    assert!(begun["qr"].as_str().unwrap().starts_with("iVBORw0KGgo"), "a PNG");
    let stored = "select encode(secret_sealed, 'hex') || ' ' || f::text from auth.factors f";
    let stored: String = app.sql().query_one(stored, &[]).await.unwrap().get(0);
    let phone = AuthenticatorApp::of(secret);
    let plain: String = phone.seed().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!stored.contains(&plain) && !stored.contains(secret), "{stored}");

    // Until a code has shown that the app has it, it is no factor.
    let confirm =
        async |code: String| me.post("/api/v1/auth/mfa/totp/confirm", json!({ "code": code })).await;
    confirm(phone.wrong(&app)).await.assert(401).problem("identity.code_refused");
    tokens(&app, "acme", Role::Member).await["accessToken"].as_str().unwrap();
    let code = phone.code(&app, 0);
    confirm(code.clone()).await.assert(204);
    confirm(phone.code(&app, 1)).await.assert(409).problem("identity.no_factor");
    let again = me.post("/api/v1/auth/mfa/totp", json!({ "password": password })).await;
    again.assert(409).problem("identity.factor_exists");
    let waiting = begin(&app, Role::Member).await;
    assert_eq!(waiting["factors"], json!(["totp", "recovery"]));
    verify(&app, &waiting, &code).await.assert(401).problem("identity.code_refused");
    let begun = verify(&app, &waiting, &phone.code(&app, 1)).await.assert(200).json();
    assert_eq!(items(&app, &begun).await, 200);
    let listed = bearer(&app, &begun).get("/api/v1/auth/sessions").await.json();
    let current = listed["sessions"].as_array().unwrap().iter().find(|own| own["current"] == true).unwrap();
    assert_eq!(current["methods"], json!(["pwd", "otp"]));
    assert_eq!(actions(&app, "identity.factor_enrolled").await, 1);
    let mails = "select count(*) from mails where template = 'identity.factor_added'";
    let mails: i64 = app.sql().query_one(mails, &[]).await.unwrap().get(0);
    assert_eq!(mails, 1);
    app.finish().await;
}

#[tokio::test]
async fn m_01_of_twenty_who_use_one_code_at_the_same_time_one_gets_in() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let phone = enrol(&here, Role::Member).await;
    let (one, other) = (begin(&here, Role::Member).await, begin(&there, Role::Member).await);
    let code = phone.code(&here, 1);
    let tries = (0..20).map(|n| {
        let (app, begun) = if n % 2 == 0 { (&here, &one) } else { (&there, &other) };
        verify(app, begun, &code)
    });
    let all = join_all(tries).await;
    assert_eq!(all.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in all.iter().filter(|answer| answer.status != 200) {
        assert!(answer.status == 401 || answer.status == 429, "{answer}");
    }
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn m_01_a_code_is_good_once_for_its_sign_in_too() {
    let app = TestApp::start().await;
    let phone = enrol(&app, Role::Member).await;
    let begun = begin(&app, Role::Member).await;
    verify(&app, &begun, &phone.code(&app, 1)).await.assert(200);
    app.clock().advance(SignedDuration::from_secs(60));
    verify(&app, &begun, &phone.code(&app, 1)).await.assert(401).problem("identity.code_refused");
    let second = begin(&app, Role::Member).await;
    app.clock().advance(SignedDuration::from_secs(30));
    verify(&app, &second, &phone.code(&app, 1)).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn m_02_a_code_is_good_a_step_early_and_late_and_no_more() {
    let app = TestApp::start().await;
    let phone = enrol(&app, Role::Member).await;
    app.clock().advance(SignedDuration::from_secs(300));
    let begun = begin(&app, Role::Member).await;
    for off in [-2, 2] {
        verify(&app, &begun, &phone.code(&app, off)).await.assert(401).problem("identity.code_refused");
    }
    verify(&app, &begun, &phone.code(&app, -1)).await.assert(200);
    let next = begin(&app, Role::Member).await;
    verify(&app, &next, &phone.code(&app, 0)).await.assert(200);
    let last = begin(&app, Role::Member).await;
    verify(&app, &last, &phone.code(&app, 1)).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn m_03_few_wrong_codes_are_let_through_over_all_sign_ins_and_instances() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let phone = enrol(&here, Role::Member).await;
    let wrong = phone.wrong(&here);
    let apps = [&here, &there];
    for n in 0..5 {
        let app = apps[n % 2];
        let begun = begin(app, Role::Member).await;
        verify(app, &begun, &wrong).await.assert(401).problem("identity.code_refused");
    }
    for app in apps {
        let begun = begin(app, Role::Member).await;
        let refused = verify(app, &begun, &phone.code(app, 1)).await.assert(429);
        refused.problem("identity.too_many_codes");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((890..=900).contains(&wait), "{wait}");
    }
    assert_eq!(actions(&here, "identity.factor_failed").await, 5);

    // After a quarter of an hour five more, and thirty a day: six times five.
    for _ in 1..6 {
        age(&here, "15 minutes").await;
        let begun = begin(&here, Role::Member).await;
        for _ in 0..5 {
            verify(&here, &begun, &wrong).await.assert(401);
        }
    }
    age(&here, "15 minutes").await;
    let begun = begin(&there, Role::Member).await;
    let refused = verify(&there, &begun, &phone.code(&there, 1)).await.assert(429);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 3600 * 20);
    age(&here, "1 day").await;
    verify(&there, &begun, &phone.code(&there, 1)).await.assert(200);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn m_03_wrong_codes_count_also_under_an_idempotency_key_and_when_setting_up() {
    let app = TestApp::start().await;
    let phone = enrol(&app, Role::Member).await;
    let begun = begin(&app, Role::Member).await;
    let begun = verify(&app, &begun, &phone.code(&app, 1)).await.assert(200).json();
    let me = bearer(&app, &begun);
    for n in 0..5 {
        let body = json!({ "code": phone.wrong(&app) }).to_string();
        let request = http::Request::post("/api/v1/auth/step-up").header("content-type", "application/json");
        let request = request.header("idempotency-key", format!("key-{n}")).body(body).unwrap();
        me.request(request).await.assert(401).problem("identity.code_refused");
    }
    let body = json!({ "code": phone.wrong(&app) });
    me.post("/api/v1/auth/step-up", body).await.assert(429).problem("identity.too_many_codes");
    app.finish().await;
}

#[tokio::test]
async fn m_03_the_token_of_a_sign_in_that_waits_opens_nothing_else_and_ends_after_five_minutes() {
    let app = TestApp::start().await;
    let phone = enrol(&app, Role::Member).await;
    let begun = begin(&app, Role::Member).await;
    let token = begun["mfaToken"].as_str().unwrap();
    for path in ["/api/v1/items", "/api/v1/me", "/api/v1/auth/sessions"] {
        app.anonymous().with_token(token).get(path).await.assert(401);
    }
    refresh(&app, &json!({ "refreshToken": token })).await.assert(401);
    let reset = json!({ "token": token, "password": "another horse battery staple" });
    app.anonymous().post("/api/v1/auth/password/reset", reset).await.assert(410);
    // Nor does any other token pass for it.
    let other = tokens(&app, "acme", Role::Owner).await;
    for token in [&other["accessToken"], &other["refreshToken"], &json!(""), &json!("erp_mfa_")] {
        verify(&app, &json!({ "mfaToken": token }), &phone.code(&app, 1)).await.assert(401);
    }
    let late = "update auth.one_time set expires_at = expires_at - interval '5 minutes' where kind = 'mfa'";
    app.sql().batch_execute(late).await.unwrap();
    verify(&app, &begun, &phone.code(&app, 1)).await.assert(401).problem("identity.code_refused");
    app.finish().await;
}

#[tokio::test]
async fn m_03_a_new_password_spares_nobody_the_second_factor() {
    const NEW: &str = "another horse battery staple";
    let app = TestApp::start().await;
    let mine = tokens(&app, "acme", Role::Member).await;
    let phone = enrol(&app, Role::Member).await;
    let waiting = begin(&app, Role::Member).await;
    let credential = app.person("acme", Role::Member).credential.clone();
    let body = json!({ "currentPassword": credential.password, "newPassword": NEW });
    bearer(&app, &mine).post("/api/v1/auth/password/change", body).await.assert(204);
    // The password that began it is gone.
    verify(&app, &waiting, &phone.code(&app, 1)).await.assert(401).problem("identity.code_refused");
    let answer = sign_in(&app, "acme", &credential.email, NEW).await.assert(200).json();
    assert_eq!(answer["accessToken"], Value::Null);
    verify(&app, &answer, &phone.code(&app, 1)).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn m_04_recovery_codes_are_good_once_and_stored_as_hashes() {
    let app = TestApp::start().await;
    let phone = enrol(&app, Role::Member).await;
    let begun = begin(&app, Role::Member).await;
    let begun = verify(&app, &begun, &phone.code(&app, 1)).await.assert(200).json();
    let me = bearer(&app, &begun);
    let made = me.post("/api/v1/auth/mfa/recovery-codes", json!({})).await.assert(200).json();
    let made: Vec<&str> =
        made["codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(made.len(), 10);
    let stored = "select string_agg(encode(hash, 'escape') || r::text, ' ') from auth.recovery_codes r";
    let stored: String = app.sql().query_one(stored, &[]).await.unwrap().get(0);
    assert!(!stored.contains(made[0]) && !stored.contains(&made[0].replace('-', "")));

    let waiting = [begin(&app, Role::Member).await, begin(&app, Role::Member).await];
    let both = join_all(waiting.iter().map(|begun| verify(&app, begun, made[0]))).await;
    let mut statuses: Vec<u16> = both.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
    // Wrong codes of somebody else do not shut out who has one.
    let begun = begin(&app, Role::Member).await;
    for _ in 0..4 {
        verify(&app, &begun, &phone.wrong(&app)).await.assert(401);
    }
    verify(&app, &begun, &phone.wrong(&app)).await.assert(429);
    verify(&app, &begun, &made[1].to_lowercase()).await.assert(200);
    // New ones end those before.
    me.post("/api/v1/auth/mfa/recovery-codes", json!({})).await.assert(200);
    let begun = begin(&app, Role::Member).await;
    verify(&app, &begun, made[2]).await.assert(429);
    assert_eq!(actions(&app, "identity.recovery_code_used").await, 2);
    app.finish().await;
}

#[tokio::test]
async fn m_04_removing_a_factor_wants_it_given_a_moment_ago() {
    const STALE: &str = "update sessions set auth_time = '2026-02-03T03:50:00Z'";
    let app = TestApp::start().await;
    let before = tokens(&app, "acme", Role::Member).await;
    let phone = enrol(&app, Role::Member).await;
    // A session of the password alone does not do, however young.
    let me = bearer(&app, &before);
    me.delete("/api/v1/auth/mfa/totp").await.assert(403).problem("identity.step_up_required");
    let codes = me.post("/api/v1/auth/mfa/recovery-codes", json!({})).await;
    codes.assert(403).problem("identity.step_up_required");
    let password = &app.person("acme", Role::Member).credential.password;
    let weak = me.post("/api/v1/auth/step-up", json!({ "password": password })).await;
    weak.assert(403).problem("identity.step_up_required");
    me.post("/api/v1/auth/step-up", json!({})).await.assert(422).problem("core.invalid");

    let begun = begin(&app, Role::Member).await;
    let begun = verify(&app, &begun, &phone.code(&app, 1)).await.assert(200).json();
    app.sql().batch_execute(STALE).await.unwrap();
    let stale = refresh(&app, &begun).await.assert(200).json();
    let me = bearer(&app, &stale);
    me.delete("/api/v1/auth/mfa/totp").await.assert(403).problem("identity.step_up_required");
    app.clock().advance(SignedDuration::from_secs(60));
    let stepped = me.post("/api/v1/auth/step-up", json!({ "code": phone.code(&app, 0) })).await;
    let stepped = stepped.assert(200).json();
    bearer(&app, &stepped).delete("/api/v1/auth/mfa/totp").await.assert(204);
    bearer(&app, &stepped).delete("/api/v1/auth/mfa/totp").await.assert(409).problem("identity.no_factor");
    let answer = tokens(&app, "acme", Role::Member).await;
    assert_eq!(items(&app, &answer).await, 200);
    assert_eq!(actions(&app, "identity.factor_removed").await, 1);
    assert_eq!(actions(&app, "identity.stepped_up").await, 1);
    let mails = "select count(*) from mails where template = 'identity.factor_removed'";
    let mails: i64 = app.sql().query_one(mails, &[]).await.unwrap().get(0);
    assert_eq!(mails, 1);
    // Without a factor the password is what there is.
    let me = bearer(&app, &answer);
    me.post("/api/v1/auth/step-up", json!({ "password": "wrong" })).await.assert(401);
    me.post("/api/v1/auth/step-up", json!({ "password": password })).await.assert(200);
    app.finish().await;
}
