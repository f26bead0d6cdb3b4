//! The address of an account: changed by its owner, confirmed by the new one, and taken back by the one before.

use erp_core::auth::Role;
use erp_testkit::{Answer, TestApp};
use futures_util::future::join_all;
use http::Request;
use serde_json::{Value, json};

use super::{items, sign_in, tokens};

const NEW: &str = "new@initech.example";
const THIRD: &str = "third@initech.example";

async fn change(app: &TestApp, tokens: &Value, email: &str) -> Answer {
    let me = app.anonymous().with_token(tokens["accessToken"].as_str().unwrap());
    me.post("/api/v1/auth/email/change", json!({ "newEmail": email })).await
}

async fn confirm(app: &TestApp, token: &str) -> Answer {
    app.anonymous().post("/api/v1/auth/email/confirm", json!({ "token": token })).await
}

async fn undo(app: &TestApp, token: &str) -> Answer {
    app.anonymous().post("/api/v1/auth/email/undo", json!({ "token": token })).await
}

/// The secret of the last link to an address.
async fn link(app: &TestApp, email: &str) -> String {
    let last = "select text from mails where recipient = $1 and text like '%token=%' order by queued_at desc, id desc limit 1";
    let text: String = app.sql().query_one(last, &[&email]).await.unwrap().get(0);
    text.split_once("token=").unwrap().1.lines().next().unwrap().to_owned()
}

/// What each tenant shows as the member's address.
async fn copies(app: &TestApp, id: &str) -> Vec<String> {
    let sql = "select array_agg(email order by email) from memberships where user_id = $1::text::uuid";
    app.sql().query_one(sql, &[&id]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_new_address_counts_once_it_has_confirmed_in_all_tenants_and_the_old_one_is_told() {
    let app = TestApp::start().await;
    let member = app.person("acme", Role::Member);
    let (old, password) = (member.credential.email.clone(), member.credential.password.clone());
    app.join("globex", member.user_id, Role::ReadOnly).await;
    let mine = tokens(&app, "acme", Role::Member).await;
    change(&app, &mine, NEW).await.assert(202);
    sign_in(&app, "acme", NEW, &password).await.assert(401);
    let token = link(&app, NEW).await;
    let all = join_all((0..5).map(|_| confirm(&app, &token))).await;
    assert_eq!(all.iter().filter(|answer| answer.status == 204).count(), 1);
    sign_in(&app, "acme", &old, &password).await.assert(401);
    sign_in(&app, "acme", NEW, &password).await.assert(200);
    sign_in(&app, "globex", NEW, &password).await.assert(200);
    assert_eq!(items(&app, &mine).await, 200, "it is the same person's session");
    assert_eq!(copies(&app, &member.user_id.to_string()).await, [NEW, NEW]);
    for tenant in ["acme", "globex"] {
        let told = app.audit_of(tenant).await;
        assert!(told.iter().any(|row| row["action"] == "identity.address_changed"), "{tenant}");
        assert!(!serde_json::to_string(&told).unwrap().contains(NEW), "no address is in an audit log");
    }
    app.finish().await;
}

/// A thief with the session and the password changes the address twice, the password, and sets up a factor of his own.
#[tokio::test]
async fn the_old_address_takes_the_account_back_whatever_was_changed_since() {
    let app = TestApp::start().await;
    let member = app.person("acme", Role::Member);
    let (old, password) = (member.credential.email.clone(), member.credential.password.clone());
    let stolen = tokens(&app, "acme", Role::Member).await;
    change(&app, &stolen, NEW).await.assert(202);
    confirm(&app, &link(&app, NEW).await).await.assert(204);
    change(&app, &stolen, THIRD).await.assert(202);
    confirm(&app, &link(&app, THIRD).await).await.assert(204);
    let me = app.anonymous().with_token(stolen["accessToken"].as_str().unwrap());
    let other = "another horse battery staple";
    me.post("/api/v1/auth/password/change", json!({ "currentPassword": password, "newPassword": other }))
        .await
        .assert(204);
    let factor = format!(
        "insert into auth.factors (id, person_id, kind, secret_sealed, confirmed_at) values (gen_random_uuid(), '{}', 'totp', '', now())",
        member.user_id
    );
    app.sql().batch_execute(&factor).await.unwrap();
    let passkey = format!(
        "insert into auth.passkeys (id, person_id, name, credential, public_key) values (gen_random_uuid(), '{}', 'x', sha256('x'), '')",
        member.user_id
    );
    app.sql().batch_execute(&passkey).await.unwrap();
    let (of_thief, of_owner) = (link(&app, NEW).await, link(&app, &old).await);
    assert!(of_thief.starts_with("erp_undo_") && of_owner.starts_with("erp_undo_"));
    confirm(&app, &of_owner).await.assert(410).problem("identity.link_ended");
    undo(&app, &of_owner).await.assert(204);
    undo(&app, &of_owner).await.assert(410);
    undo(&app, &of_thief).await.assert(410);
    assert_eq!(items(&app, &stolen).await, 401);
    for password in [password.as_str(), other] {
        sign_in(&app, "acme", THIRD, password).await.assert(401);
        sign_in(&app, "acme", &old, password).await.assert(401);
    }
    assert_eq!(copies(&app, &member.user_id.to_string()).await, [old.as_str()]);
    let forgot = json!({ "tenant": "acme", "email": old });
    app.anonymous().post("/api/v1/auth/password/forgot", forgot).await.assert(202);
    app.until(
        "select count(*) = 1 from mails where template = 'identity.password_reset'",
        "select to_jsonb(0)",
    )
    .await;
    let reset = json!({ "token": link(&app, &old).await, "password": "and one more horse staple" });
    app.anonymous().post("/api/v1/auth/password/reset", reset).await.assert(204);
    let begun = sign_in(&app, "acme", &old, "and one more horse staple").await.assert(200).json();
    assert!(begun["accessToken"].is_string(), "no factor of the thief's is left: {begun}");
    app.finish().await;
}

#[tokio::test]
async fn a_08_an_address_that_is_taken_is_answered_as_any_other_until_its_owner_confirms() {
    let app = TestApp::start().await;
    let taken = app.person("globex", Role::Owner).credential.email.clone();
    let mine = tokens(&app, "acme", Role::Member).await;
    let (free, known) =
        (change(&app, &mine, NEW).await.assert(202), change(&app, &mine, &taken).await.assert(202));
    assert_eq!(free.body, known.body);
    confirm(&app, &link(&app, &taken).await).await.assert(409).problem("identity.address_taken");
    // Two who ask for one address: the second to confirm is late.
    let reader = tokens(&app, "acme", Role::ReadOnly).await;
    let mine_first = link(&app, NEW).await;
    change(&app, &reader, NEW).await.assert(202);
    let theirs = link(&app, NEW).await;
    confirm(&app, &theirs).await.assert(204);
    confirm(&app, &mine_first).await.assert(409);
    app.finish().await;
}

#[tokio::test]
async fn a_11_a_link_to_a_new_address_ends_with_its_hour_and_few_are_sent_and_an_old_proof_is_none() {
    let app = TestApp::start().await;
    let mine = tokens(&app, "acme", Role::Member).await;
    for _ in 0..8 {
        change(&app, &mine, NEW).await.assert(202);
    }
    let sent = "select count(*) from mails where template = 'identity.address_confirmation'";
    let sent: i64 = app.sql().query_one(sent, &[]).await.unwrap().get(0);
    assert_eq!(sent, 5);
    let late = link(&app, NEW).await;
    app.sql().batch_execute("update auth.address_changes set expires_at = now()").await.unwrap();
    confirm(&app, &late).await.assert(410);
    let ago = "update sessions set auth_time = now() - interval '20 years'";
    app.sql().batch_execute(ago).await.unwrap();
    let old = super::refresh(&app, &mine).await.assert(200).json();
    change(&app, &old, NEW).await.assert(403).problem("identity.step_up_required");
    app.finish().await;
}

#[tokio::test]
async fn the_links_of_the_mails_lead_to_pages_that_spend_nothing_until_their_button_is_pressed() {
    let app = TestApp::start().await;
    let old = app.person("acme", Role::Member).credential.email.clone();
    let mine = tokens(&app, "acme", Role::Member).await;
    change(&app, &mine, NEW).await.assert(202);
    let press = async |path: &str, token: &str| {
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        app.anonymous().request(request.body(format!("token={token}")).unwrap()).await
    };
    for (path, address) in [("/address", NEW), ("/address/undo", old.as_str())] {
        let token = link(&app, address).await;
        for _ in 0..2 {
            let shown = app.anonymous().get(&format!("{path}?token={token}")).await.assert(200).text();
            assert!(shown.contains(&token) && shown.contains("<button>"), "{shown}");
        }
        press(path, &token).await.assert(200);
        press(path, &token).await.assert(410);
    }
    app.finish().await;
}
