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

/// Who was told of a review by mail, in alphabetical order.
async fn told(app: &TestApp) -> Vec<String> {
    let sql = "select recipient from mails where template = 'identity.review_due' order by 1";
    app.sql().query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn those_who_decide_are_told_a_week_and_a_day_before_the_end_while_something_is_undecided() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    let second = app.another("acme", Role::Owner).await;
    app.another("acme", Role::Administrator).await;
    let in_time = |days: u32| format!("select to_jsonb(now() + interval '{days} days 3 seconds')");
    let due: Value = app.sql().query_one(&in_time(7), &[]).await.unwrap().get(0);
    let due: jiff::Timestamp = due.as_str().unwrap().parse().unwrap();
    let body = json!({ "name": "Fourth quarter", "dueAt": due });
    let review = app.alice().post("/api/v1/access/reviews", body).await.assert(201).json();
    let planned = "select count(*) = 2 from job_scheduled where kind = 'identity.remind_reviewers'";
    app.until(planned, "select to_jsonb(array_agg(j)) from job_scheduled j").await;
    let sent = "select count(*) = 2 from mails where template = 'identity.review_due'";
    app.until(sent, "select to_jsonb(array_agg(j)) from job_scheduled j").await;
    let email = "select email from memberships where user_id = $1";
    let email: String = app.sql().query_one(email, &[&second.id().unwrap()]).await.unwrap().get(0);
    let mut owners = vec![email, app.person("acme", Role::Owner).credential.email.clone()];
    owners.sort();
    assert_eq!(told(&app).await, owners, "and no administrator, who decides nothing");
    let mail = "select m::text from mails m where template = 'identity.review_due' limit 1";
    let mail: String = app.sql().query_one(mail, &[]).await.unwrap().get(0);
    assert!(mail.contains("Fourth quarter"), "{mail}");
    // Nobody is told of one that is closed.
    app.alice().post(&format!("{}/close", path(&review)), json!({})).await.assert(200);
    let now = "update job_scheduled set run_at = now() where kind = 'identity.remind_reviewers'";
    app.sql().batch_execute(now).await.unwrap();
    let over = "select count(*) = 0 from job_scheduled where kind = 'identity.remind_reviewers'";
    app.until(over, "select to_jsonb(array_agg(j)) from job_scheduled j").await;
    let done = "select count(*) = 2 from job_done where kind = 'identity.remind_reviewers'";
    app.until(done, "select to_jsonb(array_agg(j)) from job_done j").await;
    assert_eq!(told(&app).await, owners);
    app.finish().await;
}

#[tokio::test]
async fn a_review_begins_by_itself_each_quarter_where_the_tenant_wants_it() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    let wanted = json!({ "value": "quarterly" });
    app.alice().put("/api/v1/settings/identity.access_reviews", wanted).await.assert(200);
    let ready =
        "select count(*) = 1 from job_schedules where name = 'identity.quarterly_review' and next_at > now()";
    app.until(ready, "select to_jsonb(array_agg(s)) from job_schedules s").await;
    let now = "update job_schedules set next_at = date_trunc('second', now()) where name = 'identity.quarterly_review'";
    app.sql().batch_execute(now).await.unwrap();
    let sent = "select count(*) = 1 from mails where template = 'identity.review_due'";
    app.until(sent, "select to_jsonb(array_agg(s)) from job_schedules s").await;
    let listed = app.alice().get("/api/v1/access/reviews").await.assert(200).json();
    let review = &listed["reviews"][0];
    assert!(review["name"].as_str().unwrap().contains(" Q") && review["createdBy"].is_null(), "{review}");
    assert_eq!((&review["items"], &review["undecided"]), (&json!(3), &json!(3)), "{review}");
    let lasts =
        "select extract(day from due_at - created_at)::int4 from access_reviews where name like '% Q_'";
    assert_eq!(app.sql().query_one(lasts, &[]).await.unwrap().get::<_, i32>(0), 30);
    // Who has not asked for it gets none.
    let all = "select count(distinct tenant_id) from access_reviews where name like '% Q_'";
    assert_eq!(app.sql().query_one(all, &[]).await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(told(&app).await, [app.person("acme", Role::Owner).credential.email.clone()]);
    app.finish().await;
}
