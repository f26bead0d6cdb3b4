//! Reviews of access: what is listed, who decides, and what ends.

use erp_core::auth::Role;
use erp_testkit::{Actor, TestApp};
use futures_util::future::join_all;
use serde_json::{Value, json};

async fn begin(by: &Actor<'_>, name: &str) -> Value {
    let body = json!({ "name": name, "dueAt": "2099-01-01T00:00:00Z" });
    by.post("/api/v1/access/reviews", body).await.assert(201).json()
}

fn path(review: &Value) -> String {
    format!("/api/v1/access/reviews/{}", review["id"].as_str().unwrap())
}

/// What a review says of a principal's role: its path, and the item.
async fn item(by: &Actor<'_>, review: &Value, principal: &str) -> (String, Value) {
    let whole = by.get(&path(review)).await.assert(200).json();
    let found = whole["items"].as_array().unwrap().iter().find(|item| item["principal"] == principal);
    let found = found.unwrap_or_else(|| panic!("{principal} in {whole}")).clone();
    (format!("{}/items/{}", path(review), found["id"].as_str().unwrap()), found)
}

async fn decide(by: &Actor<'_>, path: &str, decision: &str) -> u16 {
    by.put(path, json!({ "decision": decision })).await.status.as_u16()
}

fn id(actor: &Actor<'_>) -> String {
    actor.id().unwrap().to_string()
}

#[tokio::test]
async fn j_05_what_nobody_has_confirmed_ends_with_the_review_and_each_of_it_is_told() {
    let app = TestApp::start().await;
    let second = app.another("acme", Role::Owner).await;
    let (alice, max) = (app.alice(), app.person("acme", Role::Member).user_id.to_string());
    let rita = app.person("acme", Role::ReadOnly).user_id.to_string();
    let clerk = app.another("acme", Role::Auditor).await;
    let review = begin(&alice, "Fourth quarter").await;
    assert_eq!((&review["items"], &review["undecided"]), (&json!(5), &json!(5)));
    // What was given since is not what the review is about.
    let late = app.another("acme", Role::Member).await;
    let (at_max, listed) = item(&alice, &review, &max).await;
    assert_eq!((&listed["name"], &listed["role"]), (&json!("Max Member"), &json!("member")));
    assert!(listed["grantedAt"].is_string());
    let alice_id = app.person("acme", Role::Owner).user_id.to_string();
    assert_eq!(decide(&alice, &at_max, "keep").await, 204);
    let at_rita = item(&alice, &review, &rita).await.0;
    assert_eq!(decide(&alice, &at_rita, "keep").await, 204);
    assert_eq!(decide(&alice, &at_rita, "revoke").await, 204, "until it is closed it can be thought over");
    // Nobody confirms a role of his own.
    let at_alice = item(&alice, &review, &alice_id).await.0;
    alice
        .put(&at_alice, json!({ "decision": "keep" }))
        .await
        .assert(403)
        .problem("core.separation_of_duties");
    assert_eq!(decide(&second, &at_alice, "keep").await, 204);

    let before = app.audit_of("acme").await.len();
    let closed = alice.post(&format!("{}/close", path(&review)), json!({})).await.assert(200).json();
    assert_eq!((&closed["ended"], &closed["undecided"]), (&json!(3), &json!(2)), "{closed}");
    let told = app.audit_of("acme").await.split_off(before);
    let count = |action: &str| told.iter().filter(|row| row["action"] == action).count();
    assert_eq!((count("grant.deleted"), count("access_review_item.updated")), (3, 3), "{told:?}");
    assert_eq!(count("identity.access_reviewed"), 1);
    app.max().get("/api/v1/items").await.assert(200);
    late.get("/api/v1/items").await.assert(200);
    for ended in [&second, &clerk, &app.reader_of("acme")] {
        ended.get("/api/v1/items").await.assert(403);
    }
    let (_, kept) = item(&alice, &review, &max).await;
    assert_eq!((&kept["decision"], &kept["decidedBy"]), (&json!("keep"), &json!(alice_id)));
    assert!(item(&alice, &review, &id(&second)).await.1["endedAt"].is_string());
    let again = alice.post(&format!("{}/close", path(&review)), json!({})).await;
    again.assert(409).problem("core.wrong_state");
    alice.put(&at_rita, json!({ "decision": "keep" })).await.assert(409).problem("core.wrong_state");
    app.finish().await;
}

/// A tenant whose reviews nobody looks at must not lock itself out.
#[tokio::test]
async fn a_review_that_nobody_has_looked_at_leaves_the_owners() {
    let app = TestApp::start().await;
    let review = begin(&app.alice(), "Forgotten").await;
    let closed = app.alice().post(&format!("{}/close", path(&review)), json!({})).await.assert(200).json();
    assert_eq!(closed["ended"], 2, "the member and the reader");
    app.alice().get("/api/v1/items").await.assert(200);
    app.max().get("/api/v1/items").await.assert(403);
    let told = app.audit_of("acme").await;
    let told = told.iter().find(|row| row["action"] == "identity.access_reviewed").unwrap();
    assert_eq!(told["details"]["ownersStay"], true);
    app.finish().await;
}

#[tokio::test]
async fn a_review_closes_by_itself_when_its_time_has_come() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    let sql = "select to_jsonb(now() + interval '3 seconds')";
    let soon: Value = app.sql().query_one(sql, &[]).await.unwrap().get(0);
    let soon: jiff::Timestamp = soon.as_str().unwrap().parse().unwrap();
    let body = json!({ "name": "Soon", "dueAt": soon });
    let review = app.alice().post("/api/v1/access/reviews", body).await.assert(201).json();
    let closed = "select bool_and(closed_at is not null) from access_reviews where name = 'Soon'";
    app.until(closed, "select to_jsonb(array_agg(j)) from job_scheduled j").await;
    let whole = app.alice().get(&path(&review)).await.json();
    assert_eq!(whole["review"]["ended"], 2, "{whole}");
    let told = app.audit_of("acme").await;
    let ended: Vec<_> = told.iter().filter(|row| row["action"] == "grant.deleted").collect();
    assert!(ended.len() == 2 && ended.iter().all(|row| row["actor"] == "system:access-reviews"), "{ended:?}");
    let past = json!({ "name": "Past", "dueAt": soon });
    let past = app.alice().post("/api/v1/access/reviews", past).await.assert(422).problem("core.invalid");
    assert_eq!(past["errors"][0]["pointer"], "/dueAt");
    app.finish().await;
}

#[tokio::test]
async fn a_review_is_its_tenants_and_closed_once() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let review = begin(&here.alice(), "Ours").await;
    let (at_max, _) =
        item(&here.alice(), &review, &here.person("acme", Role::Member).user_id.to_string()).await;
    here.bob().get(&path(&review)).await.assert(404);
    here.bob().put(&at_max, json!({ "decision": "revoke" })).await.assert(404);
    here.bob().post(&format!("{}/close", path(&review)), json!({})).await.assert(404);
    here.max().get(&path(&review)).await.assert(403);
    here.another("acme", Role::Auditor).await.get(&path(&review)).await.assert(200);
    here.another("acme", Role::Administrator)
        .await
        .put(&at_max, json!({ "decision": "revoke" }))
        .await
        .assert(403);
    let close = format!("{}/close", path(&review));
    let tries = (0..6).map(|n| {
        let by = if n % 2 == 0 { here.alice() } else { there.alice() };
        let close = &close;
        async move { by.post(close, json!({})).await.status.as_u16() }
    });
    let mut all = join_all(tries).await;
    all.sort_unstable();
    assert_eq!(all, [200, 409, 409, 409, 409, 409]);
    there.finish().await;
    here.finish().await;
}
