//! Why somebody may do something, or may not: what is said is what the next request is told.

use erp_core::auth::Role;
use erp_testkit::{Actor, TestApp};
use jiff::SignedDuration;
use serde_json::{Value, json};

const FRESH: SignedDuration = SignedDuration::from_secs(5);
const READ: &str = "catalog.item.read";
const WRITE: &str = "catalog.item.write";

async fn explain(by: &Actor<'_>, principal: &str, permission: &str) -> Value {
    let path = format!("/api/v1/access/explain?principal={principal}&permission={permission}");
    by.get(&path).await.assert(200).json()
}

/// Whether it is allowed, why, and by which roles.
fn short(explained: &Value) -> (bool, &str, Vec<&str>) {
    let grants = explained["grants"].as_array().unwrap().iter();
    let by = grants.filter(|grant| grant["allows"] == true && grant["ended"] == false);
    (
        explained["allowed"].as_bool().unwrap(),
        explained["because"].as_str().unwrap(),
        by.map(|grant| grant["role"].as_str().unwrap()).collect(),
    )
}

async fn who(by: &Actor<'_>, query: &str) -> Vec<String> {
    let answer = by.get(&format!("/api/v1/access/who{query}")).await.assert(200).json();
    let all = answer["principals"].as_array().unwrap().iter();
    all.map(|holder| holder["principal"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_person_is_explained_by_its_roles_their_end_and_its_standing() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let max = app.person("acme", Role::Member).user_id.to_string();
    let explained = explain(&alice, &max, WRITE).await;
    assert_eq!(short(&explained), (true, "granted", vec!["member"]));
    assert_eq!(explained["principal"]["email"], "member@acme.example");
    assert_eq!(short(&explain(&alice, "Member@acme.example", WRITE).await).1, "granted");
    assert_eq!(short(&explain(&alice, &max, "identity.user.manage").await), (false, "not_granted", vec![]));
    assert_eq!(short(&explain(&alice, &max, "catalog.item.eat").await), (false, "undeclared", vec![]));
    app.execute_in("acme", "update grants set expires_at = now() where built_in = 'member'").await;
    let explained = explain(&alice, &max, WRITE).await;
    assert_eq!(short(&explained), (false, "not_granted", vec![]));
    assert_eq!(explained["grants"][0]["ended"], true);
    for (step, because) in [("deactivate", "deactivated"), ("reactivate", "not_granted")] {
        alice.post(&format!("/api/v1/users/{max}/{step}"), json!({})).await.assert(204);
        assert_eq!(short(&explain(&alice, &max, WRITE).await).1, because);
    }
    alice.delete(&format!("/api/v1/users/{max}")).await.assert(204);
    assert_eq!(short(&explain(&alice, &max, WRITE).await), (false, "removed", vec![]));
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_explained_by_its_owner_and_its_scopes() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let key = json!({ "name": "Script", "scopes": [READ, WRITE] });
    let colleague = app.another("acme", Role::Owner).await;
    let key = colleague.post("/api/v1/api-keys", key).await.assert(201).json();
    let id = key["id"].as_str().unwrap();
    let explained = explain(&alice, id, WRITE).await;
    assert_eq!(short(&explained), (true, "granted", vec!["owner"]));
    assert_eq!(explained["principal"]["holder"], colleague.id().unwrap().to_string());
    assert_eq!(short(&explain(&alice, id, "identity.user.manage").await).1, "beyond_scopes");
    let theirs = format!("/api/v1/users/{}", colleague.id().unwrap());
    alice.put(&format!("{theirs}/roles"), json!({ "roles": ["read-only"] })).await.assert(204);
    assert_eq!(short(&explain(&alice, id, WRITE).await).1, "not_granted");
    assert_eq!(short(&explain(&alice, id, READ).await), (true, "granted", vec!["read-only"]));
    alice.post(&format!("{theirs}/deactivate"), json!({})).await.assert(204);
    assert_eq!(short(&explain(&alice, id, READ).await).1, "owner_kept_out");
    alice.post(&format!("{theirs}/reactivate"), json!({})).await.assert(204);
    app.sql()
        .batch_execute(&format!("update api_keys set expires_at = now() where id = '{id}'"))
        .await
        .unwrap();
    assert_eq!(short(&explain(&alice, id, READ).await).1, "expired");
    alice.delete(&format!("/api/v1/api-keys/{id}")).await.assert(204);
    assert_eq!(short(&explain(&alice, id, READ).await).1, "revoked");
    app.finish().await;
}

#[tokio::test]
async fn who_can_lists_those_who_can_and_by_what() {
    let app = TestApp::start().await;
    let alice = app.alice();
    assert_eq!(who(&alice, &format!("?permission={WRITE}")).await, ["Max Member", "Olivia Owner"]);
    assert_eq!(
        who(&alice, &format!("?permission={READ}")).await,
        ["Max Member", "Olivia Owner", "Rita Reader"]
    );
    assert_eq!(who(&alice, "?permission=catalog.item.eat").await, Vec::<String>::new());
    let machine =
        alice.post("/api/v1/service-accounts", json!({ "name": "Scanner" })).await.assert(201).json();
    let machine = machine["id"].as_str().unwrap();
    let role = json!({ "name": "Storekeeper", "permissions": [WRITE] });
    alice.post("/api/v1/roles", role).await.assert(201);
    let roles = json!({ "roles": ["Storekeeper"] });
    alice.put(&format!("/api/v1/service-accounts/{machine}/roles"), roles).await.assert(204);
    for scopes in [json!([WRITE]), json!([READ])] {
        let key = json!({ "name": "Scanner's", "scopes": scopes, "serviceAccount": machine });
        alice.post("/api/v1/api-keys", key).await.assert(201);
    }
    let writers = ["Max Member", "Olivia Owner", "Scanner", "Scanner's"];
    assert_eq!(who(&alice, &format!("?permission={WRITE}")).await, writers);
    assert_eq!(who(&alice, "?role=storekeeper").await, ["Scanner", "Scanner's", "Scanner's"]);
    assert_eq!(who(&alice, "").await.len(), 6);
    app.finish().await;
}

#[tokio::test]
async fn what_is_explained_is_ones_own_tenants_and_for_those_who_may() {
    let app = TestApp::start().await;
    let bob = app.person("globex", Role::Owner).user_id;
    let foreign = format!("/api/v1/access/explain?principal={bob}&permission={READ}");
    app.alice().get(&foreign).await.assert(404).problem("core.not_found");
    let by_address = format!("/api/v1/access/explain?principal=owner@globex.example&permission={READ}");
    app.alice().get(&by_address).await.assert(404);
    app.bob().get(&foreign).await.assert(200);
    app.max().get("/api/v1/access/who").await.assert(403).problem("core.forbidden");
    app.another("acme", Role::Auditor).await.get("/api/v1/access/who").await.assert(200);
    let text = app.alice().get("/api/v1/access/who").await.text();
    assert!(!text.contains("globex"), "{text}");
    app.finish().await;
}

/// The answer and the access rule are two pieces of code: of whatever grants, scopes and standing, they say the same.
#[tokio::test]
async fn what_is_explained_is_what_the_next_request_is_told() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let role = json!({ "name": "Writer", "permissions": [WRITE] });
    alice.post("/api/v1/roles", role).await.assert(201);
    let statements = [
        "select",
        "delete from grants where principal_id = '{id}'",
        "insert into grants (id, principal_id, role_id) select gen_random_uuid(), '{id}', id from roles where name = 'Writer'",
        "update grants set expires_at = now() + interval '1 day' where principal_id = '{id}'",
        "update grants set expires_at = now() where principal_id = '{id}'",
        "insert into grants (id, principal_id, built_in) values (gen_random_uuid(), '{id}', 'auditor')",
        "update memberships set deactivated_at = now() where user_id = '{id}'",
        "update memberships set deactivated_at = null where user_id = '{id}'",
        "update memberships set disabled_at = now() where user_id = '{id}'",
        "update memberships set disabled_at = null, ended_at = now() where user_id = '{id}'",
    ];
    let somebody = app.another("acme", Role::Owner).await;
    let id = somebody.id().unwrap().to_string();
    let key = json!({ "name": "K", "scopes": [READ] });
    let key = somebody.post("/api/v1/api-keys", key).await.assert(201).json();
    let by_key = app.anonymous().with_token(key["key"].as_str().unwrap());
    let key = key["id"].as_str().unwrap();
    for statement in statements {
        app.execute_in("acme", &statement.replace("{id}", &id)).await;
        app.clock().advance(FRESH);
        for (actor, principal) in [(&somebody, id.as_str()), (&by_key, key)] {
            let read = actor.get("/api/v1/items").await.status == 200;
            let written = actor.post("/api/v1/items", json!({})).await.status == 422; // may, and sends nothing
            for (permission, may) in [(READ, read), (WRITE, written)] {
                let explained = explain(&alice, principal, permission).await;
                assert_eq!(explained["allowed"], may, "{permission} after {statement}: {explained}");
                let listed = alice.get(&format!("/api/v1/access/who?permission={permission}")).await.text();
                assert_eq!(listed.contains(&format!("\"id\":\"{principal}\"")), may, "{statement}: {listed}");
            }
        }
    }
    app.finish().await;
}
