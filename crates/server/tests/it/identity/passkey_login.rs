//! Sign-in by a passkey alone: who gets in by one, who does not, and how often it is tried.

use erp_core::auth::Role;
use erp_testkit::{Actor, Answer, Browser, SoftwarePasskey, TestApp};
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{items, sign_in, tokens};

const PATH: &str = "/api/v1/auth/login/passkey";

fn bearer<'app>(app: &'app TestApp, tokens: &Value) -> Actor<'app> {
    app.anonymous().with_token(tokens["accessToken"].as_str().unwrap())
}

/// A passkey of somebody of acme.
async fn made(app: &TestApp, role: Role) -> SoftwarePasskey {
    let (mine, passkey) = (tokens(app, "acme", role).await, SoftwarePasskey::new());
    let me = bearer(app, &mine);
    let options = me.post("/api/v1/auth/passkeys/options", Value::Null).await.assert(200).json();
    me.post("/api/v1/auth/passkeys", passkey.made(&options)).await.assert(201);
    passkey
}

async fn challenge(app: &TestApp) -> Value {
    app.anonymous().post(&format!("{PATH}/challenge"), Value::Null).await.assert(200).json()
}

async fn answer(app: &TestApp, body: Value) -> Answer {
    app.anonymous().post(PATH, body).await
}

/// Asks a passkey and sends what it answers.
async fn login(app: &TestApp, passkey: &mut SoftwarePasskey, tenant: &str) -> Answer {
    let asked = challenge(app).await;
    answer(app, json!({ "tenant": tenant, "passkey": passkey.proven(&asked) })).await
}

/// The one answer, without what differs from request to request.
#[track_caller]
fn refused(answer: Answer) -> Value {
    let mut problem = answer.assert(401).json();
    assert_eq!(problem["code"], "identity.sign_in_failed", "{problem}");
    for of_request in ["instance", "requestId", "traceId", "correlationId", "timestamp"] {
        problem.as_object_mut().unwrap().remove(of_request);
    }
    problem
}

async fn sql(app: &TestApp, sql: &str) {
    app.sql().batch_execute(sql).await.unwrap();
}

#[tokio::test]
async fn a_passkey_alone_signs_in_and_the_session_tells_of_two_proofs() {
    let app = TestApp::start().await;
    let mut passkey = made(&app, Role::Member).await;
    let asked = challenge(&app).await;
    assert_eq!((&asked["userVerification"], &asked["credentials"]), (&json!("required"), &json!([])));
    assert_ne!(asked["challenge"], challenge(&app).await["challenge"]);
    let begun = login(&app, &mut passkey, " Acme ").await.assert(200).json();
    let me = bearer(&app, &begun);
    let listed = me.get("/api/v1/auth/sessions").await.json();
    let current = listed["sessions"].as_array().unwrap().iter().find(|own| own["current"] == true).unwrap();
    assert_eq!(current["methods"], json!(["hwk", "mfa"]));
    // It is as good as a password and a factor.
    me.post("/api/v1/auth/mfa/recovery-codes", Value::Null).await.assert(200);
    let next = json!({ "refreshToken": begun["refreshToken"] });
    let next = app.anonymous().post("/api/v1/auth/refresh", next).await.assert(200).json();
    assert_eq!(items(&app, &next).await, 200);
    let told = app.audit_of("acme").await;
    let told = told.iter().rev().find(|row| row["action"] == "identity.sign_in").unwrap();
    assert_eq!((&told["outcome"], &told["details"]["methods"]), (&json!("success"), &json!(["hwk", "mfa"])));
    let used = "select count(*) from auth.passkeys where used_at is not null";
    assert_eq!(app.sql().query_one(used, &[]).await.unwrap().get::<_, i64>(0), 1);
    app.finish().await;
}

#[tokio::test]
async fn who_belongs_to_several_tenants_goes_on_in_the_one_of_the_last_sign_in_or_in_the_one_that_is_named() {
    let app = TestApp::start().await;
    let mut passkey = made(&app, Role::Member).await;
    let person = app.person("acme", Role::Member);
    let credential = person.credential.clone();
    app.join("globex", person.user_id, Role::Member).await;
    let tenant = async |tokens: Value| {
        bearer(&app, &tokens).get("/api/v1/me").await.assert(200).json()["tenant"]["slug"].clone()
    };
    let without = login(&app, &mut passkey, "").await.assert(200).json();
    assert_eq!(tenant(without).await, "acme");
    let named = login(&app, &mut passkey, "globex").await.assert(200).json();
    assert_eq!(tenant(named).await, "globex");
    let without = login(&app, &mut passkey, "").await.assert(200).json();
    assert_eq!(tenant(without).await, "globex", "it was the last");
    // Where it is paused there, the other one is left.
    app.bob().post(&format!("/api/v1/users/{}/deactivate", person.user_id), Value::Null).await.assert(204);
    let without = login(&app, &mut passkey, "").await.assert(200).json();
    assert_eq!(tenant(without).await, "acme");
    refused(login(&app, &mut passkey, "globex").await);
    assert_eq!(sign_in(&app, "globex", &credential.email, &credential.password).await.status, 401);
    app.finish().await;
}

#[tokio::test]
async fn a_08_who_is_disabled_paused_removed_or_of_a_suspended_tenant_is_refused_as_a_stranger_is() {
    let app = TestApp::builder().setting("RATE_LIMIT_AUTH_MAX", "100").start().await;
    let mut passkey = made(&app, Role::Member).await;
    let id = app.person("acme", Role::Member).user_id;
    let stranger = refused(login(&app, &mut SoftwarePasskey::new(), "acme").await);
    for (out, back) in [
        (
            "update auth.people set disabled_at = now() where id = '{id}'",
            "update auth.people set disabled_at = null",
        ),
        (
            "update memberships set deactivated_at = now() where user_id = '{id}'",
            "update memberships set deactivated_at = null where user_id = '{id}'",
        ),
        (
            "update tenants set status = 'suspended' where slug = 'acme'",
            "update tenants set status = 'active'",
        ),
        ("update memberships set ended_at = now() where user_id = '{id}'", "select"),
    ] {
        login(&app, &mut passkey, "acme").await.assert(200);
        app.execute_in("acme", &out.replace("{id}", &id.to_string())).await;
        assert_eq!(refused(login(&app, &mut passkey, "acme").await), stranger, "{out}");
        assert_eq!(refused(login(&app, &mut passkey, "").await), stranger, "{out}");
        app.execute_in("acme", &back.replace("{id}", &id.to_string())).await;
    }
    assert_eq!(refused(login(&app, &mut passkey, "nowhere").await), stranger);
    app.finish().await;
}

#[tokio::test]
async fn m_01_what_a_passkey_answers_that_stands_alone_is_good_once_and_for_this_alone() {
    let app = TestApp::builder().setting("RATE_LIMIT_AUTH_MAX", "100").start().await;
    let second = TestApp::builder().setting("RATE_LIMIT_AUTH_MAX", "100").beside(&app).start().await;
    let mut passkey = made(&app, Role::Member).await;
    let body = |answer: &Value| json!({ "tenant": "acme", "passkey": answer });
    // Of one that does not count, the challenge alone tells an answer that came before.
    passkey.counts = false;
    let said = passkey.proven(&challenge(&app).await);
    let tries = (0..10).map(|n| answer(if n % 2 == 0 { &app } else { &second }, body(&said)));
    let good = join_all(tries).await.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(good, 1, "of the same answer at the same time");
    refused(answer(&second, body(&said)).await);
    passkey.counts = true;
    // An answer that asked nobody, and one that does not say whose it is, or says that it is another person's.
    passkey.verifies = false;
    refused(login(&app, &mut passkey, "acme").await);
    passkey.verifies = true;
    let owner = app.person("acme", Role::Owner).user_id;
    for handle in [Value::Null, json!("AAAA"), json!(passkey_handle(*owner.as_uuid().as_bytes()))] {
        let mut said = passkey.proven(&challenge(&app).await);
        said["userHandle"] = handle;
        refused(answer(&app, body(&said)).await);
    }
    // A challenge of our own that was for something else, one that we have not made, and one that is too old.
    let credential = &app.person("acme", Role::Member).credential;
    let begun = sign_in(&app, "acme", &credential.email, &credential.password).await.assert(200).json();
    let waiting = json!({ "mfaToken": begun["mfaToken"] });
    let mut asked = app.anonymous().post("/api/v1/auth/mfa/passkey", waiting).await.assert(200).json();
    asked["credentials"] = json!([]);
    refused(answer(&app, body(&passkey.proven(&asked))).await);
    let finish = json!({ "mfaToken": begun["mfaToken"], "passkey": passkey.proven(&challenge(&app).await) });
    app.anonymous()
        .post("/api/v1/auth/mfa/verify", finish)
        .await
        .assert(401)
        .problem("identity.code_refused");
    let mut asked = challenge(&app).await;
    asked["challenge"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    refused(answer(&app, body(&passkey.proven(&asked))).await);
    let old = passkey.proven(&challenge(&app).await);
    app.clock().advance(SignedDuration::from_secs(301));
    refused(answer(&app, body(&old)).await);
    login(&app, &mut passkey, "acme").await.assert(200);
    second.finish().await;
    app.finish().await;
}

fn passkey_handle(person: [u8; 16]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(person)
}

#[tokio::test]
async fn a_05_strangers_who_guess_shut_no_passkey_out_and_its_sign_in_opens_the_account_again() {
    let app = TestApp::start().await;
    let mut passkey = made(&app, Role::Member).await;
    let credential = app.person("acme", Role::Member).credential.clone();
    refused(sign_in(&app, "acme", &credential.email, "wrong").await);
    sql(&app, "update auth.sign_in_runs set failures = 100").await;
    let right = json!({ "tenant": "acme", "email": credential.email, "password": credential.password });
    app.anonymous()
        .post("/api/v1/auth/login", right.clone())
        .await
        .assert(429)
        .problem("identity.locked_out");
    login(&app, &mut passkey, "acme").await.assert(200);
    app.anonymous().post("/api/v1/auth/login", right).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn a_07_wrong_answers_count_among_the_tries_of_their_address_and_a_known_device_goes_on() {
    let app = TestApp::builder().setting("RATE_LIMIT_AUTH_MAX", "5").start().await;
    let mut passkey = made(&app, Role::Member).await;
    let known = login(&app, &mut passkey, "acme").await.assert(200).json();
    passkey.verifies = false;
    for _ in 0..3 {
        refused(login(&app, &mut passkey, "acme").await);
    }
    for _ in 0..2 {
        refused(login(&app, &mut SoftwarePasskey::new(), "acme").await);
    }
    passkey.verifies = true;
    login(&app, &mut passkey, "acme").await.assert(429).problem("core.rate_limited");
    let credential = &app.person("acme", Role::Member).credential;
    let by_password = sign_in(&app, "acme", &credential.email, &credential.password).await;
    by_password.assert(429).problem("core.rate_limited");
    let said = passkey.proven(&challenge(&app).await);
    let body = json!({ "tenant": "acme", "passkey": said, "deviceToken": known["deviceToken"] });
    answer(&app, body).await.assert(200);
    app.edge().app.write_denials().await;
    let told = app.audit_of("acme").await;
    let failed = told.iter().filter(|row| row["action"] == "identity.sign_in" && row["outcome"] == "failure");
    let whose: Vec<&Value> = failed.map(|row| &row["resource_id"]).collect();
    let member = json!(app.person("acme", Role::Member).user_id.to_string());
    assert!(whose.contains(&&member) && whose.contains(&&Value::Null), "{whose:?}");
    app.finish().await;
}

/// A real browser, with an authenticator of its own.
#[tokio::test]
async fn a_browser_signs_in_by_a_passkey_alone() {
    let Some(browser) = Browser::find("a passkey alone in a browser") else { return };
    let app = TestApp::start().await;
    let url = format!("http://localhost:{}", app.address().port());
    let credential = app.person("acme", Role::Member).credential.clone();
    let mut tab = browser.tab().await;
    tab.authenticator().await;
    tab.go(&format!("{url}/account")).await;
    let fields = [("tenant", "acme"), ("email", &*credential.email), ("password", &*credential.password)];
    tab.send(&fields).await;
    tab.follow("document.querySelector('[data-passkey=create]').click()").await;
    tab.sign_out().await;
    // Nothing is typed: the authenticator knows whose the passkey is, and the server where its owner was last.
    tab.go(&format!("{url}/account")).await;
    assert!(tab.text().await.contains("Sign in by a passkey"), "{}", tab.text().await);
    tab.follow("document.querySelector('[data-passkey=alone]').click()").await;
    assert_eq!(tab.path().await, "/account");
    assert!(tab.text().await.contains("Where you are signed in"), "{}", tab.text().await);
    let methods = "select amr::text from sessions order by auth_time desc limit 1";
    assert_eq!(app.sql().query_one(methods, &[]).await.unwrap().get::<_, String>(0), "{hwk,mfa}");
    // A company that it is not of.
    tab.sign_out().await;
    tab.go(&format!("{url}/sign-in?tenant=globex")).await;
    tab.follow("document.querySelector('[data-passkey=alone]').click()").await;
    assert!(tab.text().await.contains("not one that can sign in there"), "{}", tab.text().await);
    drop(tab);
    app.finish().await;
}
