//! Passwords: changed by who knows the one before, and set anew by a link that is good once.

use erp_core::auth::Role;
use erp_testkit::{Answer, TestApp};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{items, refresh, sign_in, tokens};

const NEW: &str = "another horse battery staple";

async fn change(app: &TestApp, tokens: &Value, current: &str, new: &str) -> Answer {
    let me = app.anonymous().with_token(tokens["accessToken"].as_str().unwrap());
    me.post("/api/v1/auth/password/change", json!({ "currentPassword": current, "newPassword": new })).await
}

async fn forgot(app: &TestApp, tenant: &str, email: &str) -> Answer {
    app.anonymous().post("/api/v1/auth/password/forgot", json!({ "tenant": tenant, "email": email })).await
}

async fn reset(app: &TestApp, token: &str, password: &str) -> Answer {
    app.anonymous().post("/api/v1/auth/password/reset", json!({ "token": token, "password": password })).await
}

/// The secret of the link that somebody has asked for.
async fn link(app: &TestApp, email: &str, number: u32) -> String {
    let mails = format!("from mails where template = 'identity.password_reset' and recipient = '{email}'");
    app.until(&format!("select count(*) = {number} {mails}"), &format!("select to_jsonb(count(*)) {mails}"))
        .await;
    let last = format!("select text {mails} order by queued_at desc, id desc limit 1");
    let text: String = app.sql().query_one(&last, &[]).await.unwrap().get(0);
    text.split_once("/password?token=").unwrap().1.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_10_a_new_password_wants_the_one_before_and_ends_all_other_sessions() {
    let app = TestApp::start().await;
    let credential = app.person("acme", Role::Member).credential.clone();
    let (mine, other) = (tokens(&app, "acme", Role::Member).await, tokens(&app, "acme", Role::Member).await);
    change(&app, &mine, "wrong", NEW).await.assert(401).problem("identity.sign_in_failed");
    change(&app, &mine, &credential.password, "short").await.assert(422).problem("identity.weak_password");
    change(&app, &mine, &credential.password, NEW).await.assert(204);
    assert_eq!((items(&app, &mine).await, items(&app, &other).await), (200, 401));
    refresh(&app, &other).await.assert(401);
    refresh(&app, &mine).await.assert(200);
    sign_in(&app, "acme", &credential.email, &credential.password).await.assert(401);
    sign_in(&app, "acme", &credential.email, NEW).await.assert(200);
    let told = "select count(*) from mails where template = 'identity.password_changed' and recipient = $1";
    let told: i64 = app.sql().query_one(told, &[&credential.email]).await.unwrap().get(0);
    assert_eq!(told, 1);
    app.finish().await;
}

#[tokio::test]
async fn a_02_a_password_is_taken_as_it_is_and_none_of_it_is_cut_off() {
    let app = TestApp::start().await;
    let credential = app.person("acme", Role::Member).credential.clone();
    let mine = tokens(&app, "acme", Role::Member).await;
    // 100 letters, spaces at both ends, and of different bytes from the 73rd on.
    let long = format!(" {}ÄÖÜ ", "ab".repeat(48));
    change(&app, &mine, &credential.password, &long).await.assert(204);
    sign_in(&app, "acme", &credential.email, &long).await.assert(200);
    for other in [&long[..80], long.trim(), &long.to_lowercase(), &long.replace('Ö', "O")] {
        sign_in(&app, "acme", &credential.email, other).await.assert(401);
    }
    let mine = sign_in(&app, "acme", &credential.email, &long).await.json();
    change(&app, &mine, &long, &"x".repeat(1025)).await.assert(422).problem("core.invalid");
    app.finish().await;
}

#[tokio::test]
async fn a_11_a_link_is_good_once_and_sets_the_password_and_signs_nobody_in() {
    let app = TestApp::start().await;
    let credential = app.person("acme", Role::Member).credential.clone();
    let before = tokens(&app, "acme", Role::Member).await;
    forgot(&app, "ACME", &credential.email.to_uppercase()).await.assert(202);
    let token = link(&app, &credential.email, 1).await;
    let stored: String = app
        .sql()
        .query_one("select string_agg(o::text, ' ') from auth.one_time o", &[])
        .await
        .unwrap()
        .get(0);
    assert!(!stored.contains(&token));
    reset(&app, &token, "short").await.assert(422).problem("identity.weak_password");
    let all = join_all((0..5).map(|_| reset(&app, &token, NEW))).await;
    assert_eq!(all.iter().filter(|answer| answer.status == 204).count(), 1);
    all.iter()
        .filter(|answer| answer.status != 204)
        .for_each(|answer| _ = answer.problem("identity.link_ended"));
    assert_eq!(items(&app, &before).await, 401);
    sign_in(&app, "acme", &credential.email, NEW).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn a_11_a_link_ends_with_its_hour_and_with_a_change_and_is_no_other_kind_of_secret() {
    let app = TestApp::start().await;
    let credential = app.person("acme", Role::Member).credential.clone();
    forgot(&app, "acme", &credential.email).await.assert(202);
    let late = link(&app, &credential.email, 1).await;
    app.sql().batch_execute("update auth.one_time set expires_at = now()").await.unwrap();
    reset(&app, &late, NEW).await.assert(410).problem("identity.link_ended");
    forgot(&app, "acme", &credential.email).await.assert(202);
    let token = link(&app, &credential.email, 2).await;
    let accept = json!({ "token": token, "name": "X", "password": NEW });
    app.anonymous().post("/api/v1/invitations/accept", accept).await.assert(410);
    let mine = tokens(&app, "acme", Role::Member).await;
    change(&app, &mine, &credential.password, NEW).await.assert(204);
    reset(&app, &token, "and one more horse staple").await.assert(410).problem("identity.link_ended");
    app.finish().await;
}

#[tokio::test]
async fn a_08_who_is_unknown_gets_the_same_answer_and_no_mail() {
    let app = TestApp::start().await;
    let credential = app.person("acme", Role::Member).credential.clone();
    app.execute_in(
        "acme",
        &format!(
            "update memberships set deactivated_at = now() where user_id = '{}'",
            app.person("acme", Role::ReadOnly).user_id
        ),
    )
    .await;
    let reader = &app.person("acme", Role::ReadOnly).credential.email;
    let known = forgot(&app, "acme", &credential.email).await.assert(202);
    for (tenant, email) in [
        ("acme", "nobody@acme.example"),
        ("no-such-tenant", credential.email.as_str()),
        ("globex", &credential.email),
        ("acme", reader),
    ] {
        let unknown = forgot(&app, tenant, email).await.assert(202);
        assert_eq!(unknown.body, known.body, "{tenant} {email}");
    }
    let _ = link(&app, &credential.email, 1).await;
    let mails: i64 = app.sql().query_one("select count(*) from mails", &[]).await.unwrap().get(0);
    assert_eq!(mails, 1);
    app.finish().await;
}

const OLD: &str = "a password of old times";
/// Of the same password, by bcrypt.
const BCRYPT: &str = "$2b$04$3F1sRULvz1K3XdOXmeaB.ei9uP2MLxUyMHdlpxpQS9XKIrlKOegkC";

async fn stored(app: &TestApp, email: &str) -> String {
    let sql =
        "select w.phc from auth.passwords w join auth.people p on p.id = w.person_id where p.email = $1";
    app.sql().query_one(sql, &[&email]).await.unwrap().get(0)
}

async fn store(app: &TestApp, email: &str, phc: &str) {
    let sql =
        "update auth.passwords set phc = $2 where person_id = (select id from auth.people where email = $1)";
    app.sql().execute(sql, &[&email, &phc]).await.unwrap();
}

#[tokio::test]
async fn a_04_a_hash_of_another_system_is_good_and_replaced_by_the_first_sign_in() {
    let app = TestApp::start().await;
    let email = &app.person("acme", Role::Member).credential.email;
    store(&app, email, BCRYPT).await;
    sign_in(&app, "acme", email, "another password").await.assert(401);
    assert_eq!(stored(&app, email).await, BCRYPT, "a wrong password replaces nothing");
    sign_in(&app, "acme", email, OLD).await.assert(200);
    let first = stored(&app, email).await;
    assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
    sign_in(&app, "acme", email, OLD).await.assert(200);
    assert_eq!(stored(&app, email).await, first, "and is not made again");
    sign_in(&app, "acme", email, "another password").await.assert(401);
    app.finish().await;
}

/// Between the look at the hash and its replacement somebody sets another password, by a link.
#[tokio::test]
async fn a_04_a_password_that_is_set_meanwhile_is_not_undone_by_the_replacement() {
    let app = TestApp::start().await;
    let email = &app.person("acme", Role::Member).credential.email;
    let newer = stored(&app, email).await;
    store(&app, email, BCRYPT).await;
    let mut other = app.database().superuser().await;
    let reset = other.transaction().await.unwrap();
    let set = "update auth.passwords set phc = $1 where phc = $2";
    reset.execute(set, &[&newer, &BCRYPT]).await.unwrap();
    let waits = "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like 'update auth.passwords%')";
    let (answer, ()) = tokio::join!(sign_in(&app, "acme", email, OLD), async {
        app.until(waits, "select to_jsonb(0)").await;
        reset.commit().await.unwrap();
    });
    answer.assert(200);
    assert_eq!(stored(&app, email).await, newer);
    app.finish().await;
}

#[tokio::test]
async fn a_03_what_others_have_lost_is_refused_wherever_a_password_is_set() {
    let app = TestApp::start().await;
    let credential = app.person("acme", Role::Member).credential.clone();
    let mine = tokens(&app, "acme", Role::Member).await;
    let lost = "CorrectHorseBatteryStaple";
    let said =
        change(&app, &mine, &credential.password, lost).await.assert(422).problem("identity.weak_password");
    assert!(said["detail"].as_str().unwrap().contains("stolen"), "{said}");
    forgot(&app, "acme", &credential.email).await.assert(202);
    let token = link(&app, &credential.email, 1).await;
    reset(&app, &token, lost).await.assert(422).problem("identity.weak_password");
    let invitation = json!({ "email": "milton@acme.example", "roles": ["read-only"] });
    app.alice().post("/api/v1/invitations", invitation).await.assert(202);
    let text = "select text from mails where recipient = 'milton@acme.example'";
    let text: String = app.sql().query_one(text, &[]).await.unwrap().get(0);
    let token = text.split_once("/invitation?token=").unwrap().1.lines().next().unwrap();
    for (password, status) in [(lost, 422), ("acme milton acme milton", 422), (NEW, 200)] {
        let accept = json!({ "token": token, "name": "Milton", "password": password });
        app.anonymous().post("/api/v1/invitations/accept", accept).await.assert(status);
    }
    app.finish().await;
}
