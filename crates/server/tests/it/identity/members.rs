//! Members: invited, given roles, paused, removed; nobody gives more than he has, and a tenant keeps an owner.

use erp_core::auth::Role;
use erp_testkit::{Actor, Answer, TestApp};
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{items, sign_in};

const PASSWORD: &str = "correct horse battery staple";
const FRESH: SignedDuration = SignedDuration::from_secs(5);

async fn invite(by: &Actor<'_>, email: &str, roles: &[&str]) -> Answer {
    by.post("/api/v1/invitations", json!({ "email": email, "roles": roles })).await
}

/// The secret in the last mail to an address.
async fn token(app: &TestApp, email: &str) -> String {
    let sql = "select text from mails where recipient = $1 order by queued_at desc, id desc limit 1";
    let text: String = app.sql().query_one(sql, &[&email]).await.unwrap().get(0);
    let (_, rest) = text.split_once("/invitation?token=").unwrap();
    rest.lines().next().unwrap().to_owned()
}

async fn accept(app: &TestApp, token: &str, name: Option<&str>, password: &str) -> Answer {
    let body = json!({ "token": token, "name": name, "password": password });
    app.anonymous().post("/api/v1/invitations/accept", body).await
}

/// A new member of acme.
async fn join(app: &TestApp, email: &str, roles: &[&str]) -> Value {
    invite(&app.alice(), email, roles).await.assert(202);
    accept(app, &token(app, email).await, Some("Ada Lovelace"), PASSWORD).await.assert(200);
    sign_in(app, "acme", email, PASSWORD).await.assert(200).json()
}

async fn id_of(app: &TestApp, tokens: &Value) -> String {
    let me = app.anonymous().with_token(tokens["accessToken"].as_str().unwrap());
    me.get("/api/v1/me").await.assert(200).json()["user"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn somebody_is_invited_joins_works_is_removed_and_is_out_on_all_instances_within_five_seconds() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let ada = join(&here, "ada@example.com", &["member"]).await;
    assert_eq!((items(&here, &ada).await, items(&there, &ada).await), (200, 200));
    let id = id_of(&here, &ada).await;
    let listed = here.alice().get("/api/v1/users").await.assert(200).json();
    let listed = listed["users"].as_array().unwrap();
    let entry = listed.iter().find(|user| user["id"] == id.as_str()).unwrap();
    assert_eq!((&entry["email"], &entry["status"]), (&json!("ada@example.com"), &json!("active")));
    assert_eq!((&entry["name"], &entry["roles"]), (&json!("Ada Lovelace"), &json!(["member"])));

    here.alice().delete(&format!("/api/v1/users/{id}")).await.assert(204);
    assert_eq!(items(&here, &ada).await, 401);
    there.clock().advance(FRESH);
    assert_eq!(items(&there, &ada).await, 401);
    super::refresh(&there, &ada).await.assert(401);
    sign_in(&there, "acme", "ada@example.com", PASSWORD).await.assert(401);
    here.alice().delete(&format!("/api/v1/users/{id}")).await.assert(404);
    // Somebody who was removed comes back with the account that is there.
    invite(&here.alice(), "Ada@Example.com", &["read-only"]).await.assert(202);
    accept(&here, &token(&here, "Ada@example.com").await, None, PASSWORD).await.assert(200);
    let again = sign_in(&here, "acme", "ada@example.com", PASSWORD).await.assert(200).json();
    assert_eq!(id_of(&here, &again).await, id);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn a_11_an_invitation_is_good_once_and_not_for_ever_and_stored_as_a_hash() {
    let app = TestApp::start().await;
    invite(&app.alice(), "ada@example.com", &["member"]).await.assert(202);
    let secret = token(&app, "ada@example.com").await;
    let row =
        app.sql().query_one("select i::text from invitations i where email = 'ada@example.com'", &[]).await;
    assert!(!row.unwrap().get::<_, String>(0).contains(&secret));
    let all = join_all((0..5).map(|_| accept(&app, &secret, Some("Ada"), PASSWORD))).await;
    let good = all.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(good, 1);
    for answer in all.iter().filter(|answer| answer.status != 200) {
        answer.problem("identity.invitation_ended");
    }
    invite(&app.alice(), "late@example.com", &["member"]).await.assert(202);
    let late = token(&app, "late@example.com").await;
    app.execute_in("acme", "update invitations set expires_at = now() where ended_at is null").await;
    accept(&app, &late, Some("Late"), PASSWORD).await.assert(410).problem("identity.invitation_ended");
    for bad in [
        "",
        "erp_inv_",
        &late[..late.len() - 1],
        "erp_inv_0000000000000000000000AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000",
    ] {
        accept(&app, bad, Some("X"), PASSWORD).await.assert(410).problem("identity.invitation_ended");
    }
    app.finish().await;
}

#[tokio::test]
async fn an_invitation_that_was_taken_back_is_none() {
    let app = TestApp::start().await;
    let id = invite(&app.alice(), "ada@example.com", &["member"]).await.assert(202).json()["id"].clone();
    let open = app.alice().get("/api/v1/invitations").await.assert(200).json();
    assert_eq!(open["invitations"][0]["id"], id);
    let path = format!("/api/v1/invitations/{}", id.as_str().unwrap());
    app.bob().delete(&path).await.assert(404);
    app.alice().delete(&path).await.assert(204);
    app.alice().delete(&path).await.assert(404);
    accept(&app, &token(&app, "ada@example.com").await, Some("Ada"), PASSWORD).await.assert(410);
    let open = app.alice().get("/api/v1/invitations").await.json();
    assert_eq!(open["invitations"], json!([]));
    app.finish().await;
}

#[tokio::test]
async fn who_has_an_account_joins_with_its_password_and_nobody_elses() {
    let app = TestApp::start().await;
    let bob = app.person("globex", Role::Owner).credential.clone();
    invite(&app.alice(), &bob.email, &["member"]).await.assert(202);
    let secret = token(&app, &bob.email).await;
    // Inviting has looked nobody up: the mail is that of a stranger.
    accept(&app, &secret, None, PASSWORD).await.assert(401).problem("identity.sign_in_failed");
    accept(&app, &secret, Some("Mallory"), &bob.password).await.assert(200);
    let there = sign_in(&app, "globex", &bob.email, &bob.password).await.assert(200).json();
    let here = sign_in(&app, "acme", &bob.email, &bob.password).await.assert(200).json();
    assert_eq!((items(&app, &there).await, items(&app, &here).await), (200, 200));
    let me = app.anonymous().with_token(here["accessToken"].as_str().unwrap());
    assert_eq!(me.get("/api/v1/me").await.json()["user"]["name"], "Olivia Owner", "the name that is there");
    app.finish().await;
}

#[tokio::test]
async fn a_01_a_new_member_chooses_a_long_password_and_gives_a_name() {
    let app = TestApp::start().await;
    invite(&app.alice(), "ada@example.com", &["member"]).await.assert(202);
    let secret = token(&app, "ada@example.com").await;
    for weak in ["", "short", "fourteen chars", "ada-example-acme-erp"] {
        accept(&app, &secret, Some("Ada"), weak).await.assert(422).problem("identity.weak_password");
    }
    accept(&app, &secret, None, PASSWORD).await.assert(422).problem("core.invalid");
    accept(&app, &secret, Some("Ada"), PASSWORD).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn nobody_gives_or_changes_more_than_he_has() {
    let app = TestApp::start().await;
    let administrator = app.another("acme", Role::Administrator).await;
    invite(&administrator, "a@example.com", &["owner"]).await.assert(403).problem("identity.more_than_own");
    invite(&administrator, "a@example.com", &["administrator", "auditor"]).await.assert(202);
    invite(&app.alice(), "a@example.com", &["nonsense"]).await.assert(422).problem("core.invalid");
    invite(&app.max(), "a@example.com", &["read-only"]).await.assert(403).problem("core.forbidden");
    let owner = app.person("acme", Role::Owner).user_id;
    let theirs = format!("/api/v1/users/{owner}");
    let change = json!({ "roles": ["read-only"] });
    administrator
        .put(&format!("{theirs}/roles"), change.clone())
        .await
        .assert(403)
        .problem("identity.more_than_own");
    administrator.delete(&theirs).await.assert(403).problem("identity.more_than_own");
    administrator.post(&format!("{theirs}/deactivate"), json!({})).await.assert(403);
    let member = app.person("acme", Role::Member).user_id;
    administrator.put(&format!("/api/v1/users/{member}/roles"), change.clone()).await.assert(204);
    let me = app.alice().get(&format!("/api/v1/users/{member}")).await.assert(200).json();
    assert_eq!(me["roles"], json!(["read-only"]));
    // Of another tenant there is nobody (T-16).
    let foreign = app.person("globex", Role::Member).user_id;
    app.alice().put(&format!("/api/v1/users/{foreign}/roles"), change).await.assert(404);
    app.alice().get(&format!("/api/v1/users/{foreign}")).await.assert(404);
    app.finish().await;
}

#[tokio::test]
async fn two_owners_who_demote_one_another_leave_one() {
    let app = TestApp::start().await;
    let second = app.another("acme", Role::Owner).await;
    let (first, first_id) = (app.alice(), app.person("acme", Role::Owner).user_id);
    let second_id = second.id().unwrap();
    for _ in 0..5 {
        let demote = json!({ "roles": ["member"] });
        let paths = [first_id, second_id].map(|id| format!("/api/v1/users/{id}/roles"));
        let (one, other) = tokio::join!(second.put(&paths[0], demote.clone()), first.put(&paths[1], demote));
        let statuses = [one.status.as_u16(), other.status.as_u16()];
        assert!(statuses.contains(&204), "{statuses:?}");
        let owners = "select count(*) from grants g join tenants t on t.id = g.tenant_id where t.slug = 'acme' and built_in = 'owner'";
        let owners: i64 = app.sql().query_one(owners, &[]).await.unwrap().get(0);
        assert_eq!(owners, 1, "{statuses:?}");
        app.execute_in("acme", &format!(
            "insert into grants (id, principal_id, built_in) values (gen_random_uuid(), '{first_id}', 'owner'), \
             (gen_random_uuid(), '{second_id}', 'owner') on conflict do nothing"
        )).await;
        app.clock().advance(FRESH);
    }
    app.execute_in("acme", &format!("delete from grants where principal_id = '{second_id}'")).await;
    let alone = format!("/api/v1/users/{first_id}");
    first.delete(&alone).await.assert(409).problem("identity.last_owner");
    first.post(&format!("{alone}/deactivate"), json!({})).await.assert(409).problem("identity.last_owner");
    app.finish().await;
}

#[tokio::test]
async fn who_is_paused_is_out_until_let_in_again_and_who_is_removed_takes_invitations_along() {
    let app = TestApp::start().await;
    let ada = join(&app, "ada@example.com", &["administrator"]).await;
    let by_ada = app.anonymous().with_token(ada["accessToken"].as_str().unwrap());
    invite(&by_ada, "friend@example.com", &["member"]).await.assert(202);
    let id = id_of(&app, &ada).await;
    let path = |what: &str| format!("/api/v1/users/{id}{what}");
    app.alice().post(&path("/deactivate"), json!({})).await.assert(204);
    assert_eq!(items(&app, &ada).await, 401);
    sign_in(&app, "acme", "ada@example.com", PASSWORD).await.assert(401);
    // Not by another door either.
    invite(&app.alice(), "ada@example.com", &["member"]).await.assert(202);
    accept(&app, &token(&app, "ada@example.com").await, None, PASSWORD).await.assert(410);
    app.alice().post(&path("/reactivate"), json!({})).await.assert(204);
    let again = sign_in(&app, "acme", "ada@example.com", PASSWORD).await.assert(200).json();
    assert_eq!(items(&app, &again).await, 200);
    assert_eq!(items(&app, &ada).await, 401, "the session from before stays ended");
    app.alice().delete(&path("")).await.assert(204);
    accept(&app, &token(&app, "friend@example.com").await, Some("Friend"), PASSWORD).await.assert(410);
    app.finish().await;
}

#[tokio::test]
async fn what_is_told_of_members_names_who_did_it_and_no_address() {
    let app = TestApp::start().await;
    let ada = join(&app, "ada@example.com", &["member"]).await;
    let id = id_of(&app, &ada).await;
    app.alice()
        .put(&format!("/api/v1/users/{id}/roles"), json!({ "roles": ["read-only"] }))
        .await
        .assert(204);
    let told = app.audit_of("acme").await;
    let owner = app.person("acme", Role::Owner).user_id.to_string();
    let by_owner: Vec<&str> = told
        .iter()
        .filter(|row| row["actor"] == owner.as_str())
        .filter_map(|row| row["action"].as_str())
        .collect();
    assert_eq!(by_owner, ["invitation.created", "grant.deleted", "grant.created"]);
    assert!(!format!("{told:?}").contains("ada@example.com"), "the audit log outlives people's data");
    app.finish().await;
}
