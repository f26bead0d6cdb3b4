//! Passkeys: made, asked for and removed; and what is no answer to what was asked.

use erp_core::auth::Role;
use erp_testkit::{Actor, Answer, Browser, SoftwarePasskey, Tab, TestApp};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{items, sign_in, tokens};

const PATH: &str = "/api/v1/auth/passkeys";

fn bearer<'app>(app: &'app TestApp, tokens: &Value) -> Actor<'app> {
    app.anonymous().with_token(tokens["accessToken"].as_str().unwrap())
}

async fn options(by: &Actor<'_>) -> Value {
    by.post(&format!("{PATH}/options"), Value::Null).await.assert(200).json()
}

/// A passkey of somebody of acme, and the session that has made it.
async fn made(app: &TestApp, role: Role) -> (SoftwarePasskey, Value, Value) {
    let mine = tokens(app, "acme", role).await;
    let (me, passkey) = (bearer(app, &mine), SoftwarePasskey::new());
    let made = me.post(PATH, passkey.made(&options(&me).await)).await.assert(201).json();
    (passkey, mine, made)
}

/// A sign-in that waits, and what is asked of a passkey then.
async fn waiting(app: &TestApp, role: Role) -> (Value, Value) {
    let credential = &app.person("acme", role).credential;
    let begun = sign_in(app, "acme", &credential.email, &credential.password).await.assert(200).json();
    let body = json!({ "mfaToken": begun["mfaToken"] });
    let question = app.anonymous().post("/api/v1/auth/mfa/passkey", body).await.assert(200).json();
    (begun, question)
}

/// What a passkey is to answer for a step-up of the session.
async fn challenge(by: &Actor<'_>) -> Value {
    by.post(&format!("{PATH}/challenge"), Value::Null).await.assert(200).json()
}

async fn step_up(by: &Actor<'_>, answer: &Value) -> Answer {
    by.post("/api/v1/auth/step-up", json!({ "passkey": answer })).await
}

async fn verify(app: &TestApp, begun: &Value, answer: &Value) -> Answer {
    let body = json!({ "mfaToken": begun["mfaToken"], "passkey": answer });
    app.anonymous().post("/api/v1/auth/mfa/verify", body).await
}

#[track_caller]
fn refused(answer: Answer) {
    answer.assert(401).problem("identity.code_refused");
}

#[tokio::test]
async fn a_passkey_is_made_asked_for_and_removed() {
    let app = TestApp::start().await;
    let (mut passkey, mine, made) = made(&app, Role::Member).await;
    assert_eq!((&made["name"], &made["usedAt"]), (&json!("Software"), &Value::Null));
    let (begun, question) = waiting(&app, Role::Member).await;
    assert_eq!(begun["factors"], json!(["passkey", "recovery"]));
    assert_eq!(
        (&question["rpId"], question["credentials"].as_array().unwrap().len()),
        (&json!("localhost"), 1)
    );
    let session = verify(&app, &begun, &passkey.proven(&question)).await.assert(200).json();
    let me = bearer(&app, &session);
    let listed = me.get("/api/v1/auth/sessions").await.json();
    let current = listed["sessions"].as_array().unwrap().iter().find(|own| own["current"] == true).unwrap();
    assert_eq!(current["methods"], json!(["pwd", "hwk"]));
    assert!(me.get(PATH).await.json()["passkeys"][0]["usedAt"].is_string());

    // To change factors wants one, as with codes of an app.
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    let before = bearer(&app, &mine);
    before.delete(&path).await.assert(403).problem("identity.step_up_required");
    before
        .post(&format!("{PATH}/options"), Value::Null)
        .await
        .assert(403)
        .problem("identity.step_up_required");
    let credential = &app.person("acme", Role::Member).credential;
    let by_password = json!({ "password": credential.password });
    before.post("/api/v1/auth/step-up", by_password).await.assert(403).problem("identity.step_up_required");
    let by_password = json!({ "password": credential.password });
    before.post("/api/v1/auth/mfa/totp", by_password).await.assert(403).problem("identity.step_up_required");
    let proven = step_up(&before, &passkey.proven(&challenge(&before).await)).await.assert(200).json();
    let me = bearer(&app, &proven);
    me.post("/api/v1/auth/mfa/recovery-codes", Value::Null).await.assert(200);
    bearer(&app, &tokens(&app, "acme", Role::Owner).await).delete(&path).await.assert(404);
    me.delete(&path).await.assert(204);
    me.delete(&path).await.assert(404);
    let codes = "select count(*) from auth.recovery_codes";
    assert_eq!(app.sql().query_one(codes, &[]).await.unwrap().get::<_, i64>(0), 0, "they went with it");
    let begun = tokens(&app, "acme", Role::Member).await;
    assert_eq!(items(&app, &begun).await, 200);
    for (template, text) in
        [("factor_added", "A passkey was set up"), ("factor_removed", "A passkey was removed")]
    {
        let told = "select count(*) from mails m where template = 'identity.' || $1 and m::text like '%' || $2 || '%'";
        assert_eq!(
            app.sql().query_one(told, &[&template, &text]).await.unwrap().get::<_, i64>(0),
            1,
            "{text}"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn m_01_an_answer_is_good_once_for_who_was_asked_and_where() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let (mut passkey, mine, _) = made(&here, Role::Member).await;
    let (begun, question) = waiting(&here, Role::Member).await;
    let answer = passkey.proven(&question);
    verify(&here, &begun, &answer).await.assert(200);
    let (again, other) = waiting(&there, Role::Member).await;
    refused(verify(&there, &again, &answer).await);
    // A challenge of another sign-in, of a session, and one that was to make a passkey.
    let (third, _) = waiting(&here, Role::Member).await;
    refused(verify(&here, &third, &passkey.proven(&other)).await);
    let of_session = challenge(&bearer(&here, &mine)).await;
    refused(verify(&here, &third, &passkey.proven(&of_session)).await);
    let (owner, stranger) = (tokens(&here, "acme", Role::Owner).await, SoftwarePasskey::new());
    let options = options(&bearer(&here, &owner)).await;
    refused(bearer(&here, &mine).post(PATH, stranger.made(&options)).await);
    bearer(&here, &owner).post(PATH, stranger.made(&options)).await.assert(201);
    refused(bearer(&here, &owner).post(PATH, stranger.made(&options)).await);
    // Of the same answer at the same time one is good, and none of another session of the same person.
    let (one, question) = (bearer(&here, &mine), challenge(&bearer(&here, &mine)).await);
    let answer = passkey.proven(&question);
    let same = bearer(&there, &mine);
    let tries = (0..10).map(|n| step_up(if n % 2 == 0 { &one } else { &same }, &answer));
    let good = join_all(tries).await.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(good, 1);
    let (fourth, asked) = waiting(&here, Role::Member).await;
    let second = verify(&here, &fourth, &passkey.proven(&asked)).await.assert(200).json();
    refused(step_up(&bearer(&here, &second), &passkey.proven(&challenge(&one).await)).await);
    // A wrong answer spends the challenge too.
    let question = challenge(&one).await;
    let answer = passkey.proven(&question);
    let mut wrong = answer.clone();
    wrong["signature"] = json!("AAAA");
    refused(step_up(&one, &wrong).await);
    refused(step_up(&one, &answer).await);
    // One that was asked too long ago.
    let (late, question) = waiting(&here, Role::Member).await;
    let age = "update auth.one_time set expires_at = now() where kind = 'passkey'";
    here.sql().batch_execute(age).await.unwrap();
    refused(verify(&there, &late, &passkey.proven(&question)).await);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn an_answer_from_another_page_of_another_key_or_of_another_person_is_refused() {
    let app = TestApp::start().await;
    let (mut passkey, ..) = made(&app, Role::Member).await;
    let (mut of_owner, ..) = made(&app, Role::Owner).await;
    for origin in ["http://evil.example", "https://localhost:3001", "http://localhost.evil.example", "null"] {
        let (begun, question) = waiting(&app, Role::Member).await;
        let ours = std::mem::replace(&mut passkey.origin, origin.to_owned());
        let answer = passkey.proven(&question);
        passkey.origin = ours;
        refused(verify(&app, &begun, &answer).await);
    }
    let (begun, mut question) = waiting(&app, Role::Member).await;
    refused(verify(&app, &begun, &of_owner.proven(&question)).await);
    let (begun, altered) = waiting(&app, Role::Member).await;
    let mut answer = passkey.proven(&altered);
    answer["signature"] = of_owner.proven(&altered)["signature"].clone();
    refused(verify(&app, &begun, &answer).await);
    question = waiting(&app, Role::Member).await.1;
    question["rpId"] = json!("evil.example");
    let (begun, fresh) = waiting(&app, Role::Member).await;
    question["challenge"] = fresh["challenge"].clone();
    refused(verify(&app, &begun, &passkey.proven(&question)).await);
    for field in ["credential", "clientData", "authenticatorData", "signature"] {
        let (begun, question) = waiting(&app, Role::Member).await;
        let mut answer = passkey.proven(&question);
        answer[field] = json!("AAAA");
        refused(verify(&app, &begun, &answer).await);
    }
    let (begun, question) = waiting(&app, Role::Member).await;
    verify(&app, &begun, &passkey.proven(&question)).await.assert(200);
    let failed = app.audit_of("acme").await;
    let failed = failed.iter().filter(|entry| entry["action"] == "identity.factor_failed").count();
    assert_eq!(failed, 11);
    app.finish().await;
}

#[tokio::test]
async fn a_passkey_is_of_one_person_and_twenty_are_enough() {
    let app = TestApp::start().await;
    let (mut passkey, mine, _) = made(&app, Role::Member).await;
    let mine = step_up(&bearer(&app, &mine), &passkey.proven(&challenge(&bearer(&app, &mine)).await)).await;
    let (me, owner) = (mine.assert(200).json(), tokens(&app, "acme", Role::Owner).await);
    let (me, owner) = (bearer(&app, &me), bearer(&app, &owner));
    let known = options(&me).await;
    assert_eq!(known["credentials"].as_array().unwrap().len(), 1, "a browser makes no second one there");
    for by in [&me, &owner] {
        let again = by.post(PATH, passkey.made(&options(by).await)).await;
        again.assert(409).problem("identity.factor_exists");
    }
    let listed = |json: Value| json["passkeys"].as_array().unwrap().len();
    assert_eq!(listed(me.get(PATH).await.assert(200).json()), 1);
    assert_eq!(listed(owner.get(PATH).await.assert(200).json()), 0, "they are another person's");
    // What cannot be read is refused, and the challenge is spent.
    let (other, asked) = (SoftwarePasskey::new(), options(&me).await);
    let mut broken = other.made(&asked);
    broken["attestationObject"] = json!("oWhhdXRoRGF0YUEB");
    refused(me.post(PATH, broken).await);
    refused(me.post(PATH, other.made(&asked)).await);
    let fill = "insert into auth.passkeys (id, person_id, name, credential, public_key) \
        select gen_random_uuid(), person_id, 'x', sha256(n::text::bytea), '' from auth.passkeys, generate_series(1, 18) n";
    app.sql().batch_execute(fill).await.unwrap();
    me.post(PATH, other.made(&options(&me).await)).await.assert(201);
    let more = me.post(PATH, SoftwarePasskey::new().made(&options(&me).await)).await;
    more.assert(409).problem("identity.factor_exists");
    app.finish().await;
}

#[tokio::test]
async fn t_17_a_passkey_answers_the_pages_of_the_site_and_of_its_own_tenant() {
    let app = TestApp::builder().setting("PUBLIC_URL", "https://erp.example.com");
    let app = app.setting("TENANT_DOMAIN", "erp.example.com").start().await;
    let mine = tokens(&app, "acme", Role::Member).await;
    let (me, mut passkey) = (bearer(&app, &mine), SoftwarePasskey::new());
    for origin in ["https://globex.erp.example.com", "http://localhost:3001"] {
        origin.clone_into(&mut passkey.origin);
        refused(me.post(PATH, passkey.made(&options(&me).await)).await);
    }
    "https://acme.erp.example.com".clone_into(&mut passkey.origin);
    let asked = options(&me).await;
    assert_eq!(asked["rpId"], "erp.example.com");
    me.post(PATH, passkey.made(&asked)).await.assert(201);
    for (origin, status) in [
        ("https://erp.example.com", 200),
        ("https://acme.erp.example.com", 200),
        ("https://globex.erp.example.com", 401),
        ("https://acme.erp.example.com:8443", 401),
    ] {
        origin.clone_into(&mut passkey.origin);
        let (begun, question) = waiting(&app, Role::Member).await;
        verify(&app, &begun, &passkey.proven(&question)).await.assert(status);
    }
    app.finish().await;
}

#[tokio::test]
async fn without_a_name_for_them_there_are_no_passkeys() {
    let app = TestApp::builder().setting("PUBLIC_URL", "https://192.0.2.1").start().await;
    let me = tokens(&app, "acme", Role::Member).await;
    let me = bearer(&app, &me);
    app.expect_errors();
    let none = me.post(&format!("{PATH}/options"), Value::Null).await;
    none.assert(503).problem("identity.no_public_url");
    app.finish().await;
}

#[tokio::test]
async fn a_passkey_that_counts_backwards_is_refused_and_told() {
    let app = TestApp::start().await;
    let (mut passkey, ..) = made(&app, Role::Member).await;
    let (begun, question) = waiting(&app, Role::Member).await;
    passkey.count = 7;
    verify(&app, &begun, &passkey.proven(&question)).await.assert(200);
    for count in [7, 0] {
        let (begun, question) = waiting(&app, Role::Member).await;
        passkey.count = count;
        refused(verify(&app, &begun, &passkey.proven(&question)).await);
    }
    assert!(app.log().text().contains("identity.passkey_copied"));
    let (begun, question) = waiting(&app, Role::Member).await;
    passkey.count = 8;
    verify(&app, &begun, &passkey.proven(&question)).await.assert(200);
    app.finish().await;
}

async fn press(tab: &mut Tab, what: &str) {
    tab.follow(&format!("document.querySelector('[data-passkey={what}]').click()")).await;
}

/// A real browser, with an authenticator of its own.
#[tokio::test]
async fn a_passkey_is_made_in_a_browser_and_asked_for_by_the_pages() {
    let Some(browser) = Browser::find("passkeys in a browser") else { return };
    let app = TestApp::start().await;
    let url = format!("http://localhost:{}", app.address().port());
    let credential = app.person("acme", Role::Member).credential.clone();
    let fields = [("tenant", "acme"), ("email", &*credential.email), ("password", &*credential.password)];
    let mut tab = browser.tab().await;
    tab.authenticator().await;
    tab.go(&format!("{url}/account")).await;
    tab.send(&fields).await;
    tab.run("document.getElementById('passkey-name').value = 'Laptop'").await;
    press(&mut tab, "create").await;
    let text = tab.text().await;
    assert!(text.contains("The passkey is set up") && text.contains("Laptop"), "{text}");
    press(&mut tab, "prove").await;
    assert!(tab.text().await.contains("You have proven who you are"), "{}", tab.text().await);
    tab.sign_out().await;
    tab.go(&format!("{url}/account")).await;
    tab.send(&fields).await;
    assert!(tab.text().await.contains("Second factor"), "{}", tab.text().await);
    press(&mut tab, "sign-in").await;
    assert_eq!(tab.path().await, "/account");
    assert!(tab.text().await.contains("Where you are signed in"), "{}", tab.text().await);
    let used = "select count(*) from auth.passkeys where used_at is not null";
    assert_eq!(app.sql().query_one(used, &[]).await.unwrap().get::<_, i64>(0), 1);
    drop(tab);
    app.finish().await;
}
