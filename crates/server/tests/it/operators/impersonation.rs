//! An operator in a person's place: seen by all, no longer than was said, and nothing that is the person's own affair.

use erp_core::auth::Role;
use erp_testkit::{Actor, TestApp};
use jiff::SignedDuration;
use serde_json::{Value, json};

const IMPERSONATE: &str = "/api/v1/admin/impersonate";

fn asked(app: &TestApp, minutes: i64) -> Value {
    let person = app.person("acme", Role::Member).user_id;
    json!({ "tenant": "acme", "userId": person, "reason": "Ticket 4711", "minutes": minutes })
}

async fn begin<'a>(app: &'a TestApp, operator: &Actor<'_>, minutes: i64) -> (Actor<'a>, Value) {
    let begun = operator.post(IMPERSONATE, asked(app, minutes)).await.assert(200).json();
    (app.anonymous().with_token(begun["accessToken"].as_str().unwrap()), begun)
}

fn pass(app: &TestApp, seconds: i64) {
    app.clock().advance(SignedDuration::from_secs(seconds));
}

#[tokio::test]
async fn what_is_done_in_a_persons_place_says_both_and_the_person_is_told() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let (there, begun) = begin(&app, &operator, 15).await;
    assert!(begun.get("refreshToken").is_none() && begun["expiresIn"].as_u64().unwrap() <= 900, "{begun}");
    let person = app.person("acme", Role::Member);
    let me = there.get("/api/v1/me").await.assert(200).json();
    assert_eq!(me["user"]["id"], json!(person.user_id));
    let id = me["operator"].as_str().unwrap().to_owned();
    let own = app.member_of("acme").get("/api/v1/me").await.assert(200).json();
    assert!(own.get("operator").is_none(), "{own}");
    assert_eq!(me["permissions"], own["permissions"], "the person's own");

    let item = json!({ "sku": "IMP-1", "name": "A thing", "quantity": 1 });
    there.post("/api/v1/items", item).await.assert(201);
    let rows = app.audit_of("acme").await;
    let both = format!("operator:{id} as {}", person.user_id);
    assert!(
        rows.iter().any(|row| row["action"] == "item.created" && row["actor"] == both.as_str()),
        "{rows:#?}"
    );
    let told = rows.iter().find(|row| row["action"] == "operators.impersonation_begun").unwrap();
    assert_eq!(told["actor"], format!("operator:{id}"));
    assert!(told.to_string().contains("Ticket 4711"), "{told}");
    let mail = "select text from mails where recipient = $1 and template = 'operators.impersonated'";
    let mail: String = app.sql().query_one(mail, &[&person.credential.email]).await.unwrap().get(0);
    assert!(mail.contains("Ticket 4711") && mail.contains("15 minutes"), "{mail}");
    // The person sees it, and ends it.
    let me = app.member_of("acme");
    let sessions = me.get("/api/v1/auth/sessions").await.assert(200).json();
    let listed =
        sessions["sessions"].as_array().unwrap().iter().find(|one| one["id"] == begun["id"]).unwrap();
    assert_eq!(listed["device"], "An operator of the platform");
    me.delete(&format!("/api/v1/auth/sessions/{}", begun["id"].as_str().unwrap())).await.assert(204);
    there.get("/api/v1/me").await.assert(401);
    app.finish().await;
}

#[tokio::test]
async fn each_way_to_end_it_counts_within_five_seconds_on_both_instances() {
    let app = TestApp::start().await;
    let second = TestApp::builder().beside(&app).start().await;
    for way in ["itself", "delete", "sign-out", "disabled", "person", "tenant"] {
        let (operator, other) = (app.operator().await, app.operator().await);
        let (there, begun) = begin(&app, &operator, 15).await;
        let across = second.anonymous().with_token(there.token());
        for actor in [&there, &across] {
            actor.get("/api/v1/items").await.assert(200);
        }
        let path = format!("{IMPERSONATE}/{}", begun["id"].as_str().unwrap());
        other.delete(&path).await.assert(404); // one's own alone
        let person = app.person("acme", Role::Member).user_id;
        match way {
            "itself" => {
                let over =
                    "update sessions set expires_at = now(), idle_at = now() where operator_id is not null";
                app.sql().batch_execute(over).await.unwrap();
            }
            "delete" => _ = operator.delete(&path).await.assert(204),
            "sign-out" => _ = operator.post("/api/v1/admin/auth/logout", json!({})).await.assert(204),
            "disabled" => {
                let id =
                    there.get("/api/v1/me").await.assert(200).json()["operator"].as_str().unwrap().to_owned();
                let path = format!("/api/v1/admin/operators/{id}/disable");
                other.post(&path, json!({})).await.assert(204);
            }
            "person" => {
                let path = format!("/api/v1/users/{person}/deactivate");
                app.alice().post(&path, json!({})).await.assert(204);
            }
            _ => {
                let path = format!("/api/v1/admin/tenants/{}/suspend", app.tenant_id("acme"));
                other.post(&path, json!({ "reason": "A test" })).await.assert(204);
            }
        }
        pass(&app, 5);
        pass(&second, 5);
        for actor in [&there, &across] {
            assert_eq!(actor.get("/api/v1/items").await.status.as_u16(), 401, "{way}");
        }
        if way == "person" {
            app.alice().post(&format!("/api/v1/users/{person}/reactivate"), json!({})).await.assert(204);
        }
    }
    let told = app.audit_of("acme").await;
    let ended = told.iter().filter(|row| row["action"] == "operators.impersonation_ended").count();
    assert_eq!(ended, 3, "by the operator, with its session, and with itself");
    second.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn it_is_for_an_hour_at_most_and_for_members_of_that_tenant_alone() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    for minutes in [0, 61, -1] {
        operator.post(IMPERSONATE, asked(&app, minutes)).await.assert(422);
    }
    for (name, value) in [("reason", json!("")), ("tenant", json!("nowhere")), ("tenant", json!("globex"))] {
        let mut body = asked(&app, 5);
        body[name] = value;
        let status = operator.post(IMPERSONATE, body).await.status.as_u16();
        assert_eq!(status, if name == "reason" { 422 } else { 404 });
    }
    // One who belongs to both tenants is stood in for in one of them.
    let person = app.person("acme", Role::Member).user_id;
    app.join("globex", person, Role::Owner).await;
    let (there, _) = begin(&app, &operator, 60).await;
    let headers = http::Request::get("/api/v1/items").header("x-tenant-id", "globex").body("").unwrap();
    there.request(headers).await.assert(403).problem("core.tenant_mismatch");
    there.get("/api/v1/auth/tenants").await.assert(403).problem("core.impersonated");
    // It lasts as long as the operator's session could, and is over by the token, too.
    pass(&app, 3600);
    there.get("/api/v1/items").await.assert(401);
    app.finish().await;
}

#[tokio::test]
async fn of_a_sign_out_and_an_impersonation_at_the_same_time_nothing_is_left() {
    let app = TestApp::start().await;
    for _ in 0..10 {
        let operator = app.operator().await;
        let (begun, out) = tokio::join!(
            operator.post(IMPERSONATE, asked(&app, 5)),
            operator.post("/api/v1/admin/auth/logout", json!({}))
        );
        out.assert(204);
        if begun.status.as_u16() == 200 {
            let there = app.anonymous().with_token(begun.json()["accessToken"].as_str().unwrap());
            pass(&app, 5);
            there.get("/api/v1/items").await.assert(401);
        }
    }
    app.finish().await;
}
