//! What operators do with tenants: made, suspended, resumed and closed, and told in the tenant's own audit log.

use erp_core::auth::Role;
use erp_testkit::{Actor, TestApp};
use jiff::SignedDuration;
use serde_json::{Value, json};

const TENANTS: &str = "/api/v1/admin/tenants";

fn new(slug: &str, owner: &str) -> Value {
    json!({ "slug": slug, "name": "Initech", "owner": owner })
}

/// The secret in the last mail to an address.
async fn mailed(app: &TestApp, email: &str) -> String {
    let sql = "select text from mails where recipient = $1 order by queued_at desc limit 1";
    let text: String = app.sql().query_one(sql, &[&email]).await.unwrap().get(0);
    let (_, rest) = text.split_once("/invitation?token=").unwrap();
    rest.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_tenant_is_made_once_and_its_first_owner_accepts_by_mail() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let first = operator.post(TENANTS, new("initech", "peter@initech.example")).await.assert(200).json();
    assert_eq!(first["created"], true);
    let again = operator.post(TENANTS, new("initech", "peter@initech.example")).await.assert(200).json();
    assert_eq!((&again["created"], &again["id"]), (&json!(false), &first["id"]));
    let token = mailed(&app, "peter@initech.example").await;
    assert!(
        again["invitation"].as_str().unwrap().ends_with(&token),
        "the link that is shown is the one that is sent"
    );
    let password = "correct horse battery staple";
    let body = json!({ "token": token, "name": "Peter Gibbons", "password": password });
    app.anonymous().post("/api/v1/invitations/accept", body).await.assert(200);
    let body = json!({ "tenant": "initech", "email": "peter@initech.example", "password": password });
    let tokens = app.anonymous().post("/api/v1/auth/login", body).await.assert(200).json();
    let peter = app.anonymous().with_token(tokens["accessToken"].as_str().unwrap());
    assert_eq!(peter.get("/api/v1/me").await.assert(200).json()["roles"], json!(["owner"]));
    let taken = operator.post(TENANTS, new("initech", "mallory@example.com")).await.assert(409);
    taken.problem("identity.tenant_taken");
    for bad in ["", "Initech", "-a", "a-", "a_b", "a b", &"a".repeat(64)] {
        operator.post(TENANTS, new(bad, "peter@initech.example")).await.assert(422);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_tenant_has_its_plan_its_settings_and_its_roles_from_the_first_day() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    app.sql()
        .execute("insert into plans (name, rate_limit_max) values ('business', 5000)", &[])
        .await
        .unwrap();
    let mut body = new("initech", "peter@initech.example");
    body["plan"] = json!("business");
    body["settings"] = json!({ "tenants.currency": "CHF", "tenants.locale": "de" });
    let role = json!({ "name": "Storekeeper", "permissions": ["catalog.item.read", "catalog.item.write"] });
    body["roles"] = json!([role]);
    for _ in 0..2 {
        operator.post(TENANTS, body.clone()).await.assert(200);
    }
    let had = "select (select plan from tenant_plans p where p.tenant_id = t.id), \
        (select string_agg(name || '=' || value, ' ' order by name) from tenant_settings s where s.tenant_id = t.id), \
        (select string_agg(r.name || ' ' || p.permission, ', ' order by p.permission) from roles r \
          join role_permissions p on p.tenant_id = r.tenant_id and p.role_id = r.id where r.tenant_id = t.id) \
        from tenants t where slug = 'initech'";
    let had = app.sql().query_one(had, &[]).await.unwrap();
    assert_eq!(had.get::<_, &str>(0), "business");
    assert_eq!(had.get::<_, &str>(1), "tenants.currency=\"CHF\" tenants.locale=\"de\"");
    assert_eq!(had.get::<_, &str>(2), "Storekeeper catalog.item.read, Storekeeper catalog.item.write");

    let wrong = [
        ("plan", json!("golden"), "/plan"),
        ("settings", json!({ "tenants.currency": "Francs" }), "/settings/tenants.currency"),
        ("settings", json!({ "tenants.colour": "red" }), "/settings/tenants.colour"),
        ("roles", json!([role, { "name": "X", "permissions": ["no.such.thing"] }]), "/roles/1/permissions/0"),
    ];
    for (field, value, pointer) in wrong {
        let mut body = new("umbrella", "ada@umbrella.example");
        body[field] = value;
        let refused = operator.post(TENANTS, body).await.assert(422).json();
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
    }
    let made = "select count(*) from tenants where slug = 'umbrella'";
    assert_eq!(app.sql().query_one(made, &[]).await.unwrap().get::<_, i64>(0), 0, "all of it, or nothing");
    app.finish().await;
}

#[tokio::test]
async fn two_who_make_the_same_tenant_at_the_same_time_make_one() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let tries = (0..8).map(|_| operator.post(TENANTS, new("initech", "peter@initech.example")));
    let all = futures_util::future::join_all(tries).await;
    for answer in &all {
        assert!([200, 409].contains(&answer.status.as_u16()), "{answer}");
    }
    let made = all.iter().filter(|answer| answer.status == 200).map(|answer| answer.json());
    assert_eq!(made.filter(|made| made["created"] == true).count(), 1);
    app.finish().await;
}

/// What answers somebody, five seconds later.
async fn later(app: &TestApp, actor: &Actor<'_>) -> u16 {
    app.clock().advance(SignedDuration::from_secs(5));
    actor.get("/api/v1/items").await.status.as_u16()
}

#[tokio::test]
async fn t_21_every_credential_of_a_suspended_tenant_stops_within_five_seconds_on_both_instances() {
    let app = TestApp::start().await;
    let second = TestApp::builder().beside(&app).start().await;
    let operator = app.operator().await;
    let credential = &app.person("acme", Role::Owner).credential;
    let login = json!({ "tenant": "acme", "email": credential.email, "password": credential.password });
    let tokens = app.anonymous().post("/api/v1/auth/login", login.clone()).await.assert(200).json();
    let key = json!({ "name": "Script", "scopes": ["catalog.item.read"] });
    let key = app.alice().post("/api/v1/api-keys", key).await.assert(201).json();
    let key = key["key"].as_str().unwrap();
    let token = tokens["accessToken"].as_str().unwrap();
    let others = [app.bob(), second.bob()];
    let all = [
        app.anonymous().with_token(token),
        app.anonymous().with_token(key),
        second.anonymous().with_token(token),
        second.anonymous().with_token(key),
    ];
    for actor in &all {
        actor.get("/api/v1/items").await.assert(200);
    }
    let path = format!("{TENANTS}/{}", app.tenant_id("acme"));
    let why = json!({ "reason": "The invoice of March is open" });
    operator.post(&format!("{path}/suspend"), why.clone()).await.assert(204);
    assert_eq!(operator.get(&path).await.assert(200).json()["status"], "suspended");
    for (app, actor) in [(&app, &all[0]), (&app, &all[1]), (&second, &all[2]), (&second, &all[3])] {
        assert_eq!(later(app, actor).await, 401);
    }
    let refresh = json!({ "refreshToken": tokens["refreshToken"] });
    app.anonymous().post("/api/v1/auth/refresh", refresh).await.assert(401);
    app.anonymous().post("/api/v1/auth/login", login).await.assert(401);
    for (app, other) in [(&app, &others[0]), (&second, &others[1])] {
        assert_eq!(later(app, other).await, 200, "others notice nothing");
    }
    let told = app.audit_of("acme").await;
    let told = told.iter().find(|row| row["action"] == "identity.tenant_suspended").unwrap();
    assert!(told["actor"].as_str().unwrap().starts_with("operator:"), "{told}");
    assert!(told.to_string().contains("The invoice of March is open"), "{told}");

    operator.post(&format!("{path}/suspend"), why.clone()).await.assert(409).problem("core.wrong_state");
    operator.post(&format!("{path}/resume"), why.clone()).await.assert(204);
    assert_eq!(later(&app, &all[0]).await, 200);
    operator.post(&format!("{path}/close"), why.clone()).await.assert(204);
    assert_eq!(later(&app, &all[0]).await, 401);
    let nowhere = format!("{TENANTS}/0190163d-8694-739b-aea5-966c26f8ad91/suspend");
    operator.post(&nowhere, why.clone()).await.assert(404);
    let reserved = format!("{TENANTS}/00000000-0000-7000-8000-00000000c001/suspend");
    operator.post(&reserved, why).await.assert(404);
    second.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn operators_make_plans_and_switch_features_over_http_and_the_logs_tell_of_it() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let plan = json!({ "rateLimitMax": 5000, "quotas": { "catalog.items": 10 } });
    operator.patch("/api/v1/admin/plans/business", plan).await.assert(204);
    operator.patch("/api/v1/admin/plans/business", json!({ "connections": 4 })).await.assert(204);
    let listed = operator.get("/api/v1/admin/plans").await.assert(200).json();
    let plan = &listed["plans"][0];
    assert_eq!(
        (&plan["rateLimitMax"], &plan["connections"], &plan["quotas"]),
        (&json!(5000), &json!(4), &json!({ "catalog.items": 10 })),
        "{listed}"
    );
    let unlimited = json!({ "rateLimitMax": null, "quotas": { "catalog.items": null } });
    operator.patch("/api/v1/admin/plans/business", unlimited).await.assert(204);
    let listed = operator.get("/api/v1/admin/plans").await.assert(200).json();
    assert_eq!(
        (&listed["plans"][0]["rateLimitMax"], &listed["plans"][0]["quotas"]),
        (&json!(null), &json!({}))
    );
    operator.patch("/api/v1/admin/plans/business", json!({ "quotas": { "no.such": 1 } })).await.assert(422);
    operator.patch("/api/v1/admin/plans/Not-A-Name", json!({})).await.assert(422);

    let path = format!("{TENANTS}/{}", app.tenant_id("acme"));
    operator.put(&format!("{path}/plan"), json!({ "plan": "golden" })).await.assert(422);
    operator.put(&format!("{path}/plan"), json!({ "plan": "business" })).await.assert(204);
    operator.put(&format!("{path}/flags/catalog.import"), json!({ "isOn": false })).await.assert(204);
    operator.put(&format!("{path}/flags/no.such"), json!({ "isOn": false })).await.assert(404);
    let flags = operator.get(&format!("{path}/flags")).await.assert(200).json();
    let import =
        flags["flags"].as_array().unwrap().iter().find(|flag| flag["name"] == "catalog.import").unwrap();
    assert_eq!((&import["isOn"], &import["reason"]), (&json!(false), &json!("tenant")));
    operator
        .put("/api/v1/admin/flags/catalog.import/rollout", json!({ "basisPoints": 2500 }))
        .await
        .assert(204);
    let all = operator.get("/api/v1/admin/flags").await.assert(200).json();
    let import =
        all["flags"].as_array().unwrap().iter().find(|flag| flag["name"] == "catalog.import").unwrap();
    assert_eq!((&import["rollout"], &import["off"]), (&json!(2500), &json!(1)));

    let told = app.audit_of("acme").await;
    let actions: Vec<&str> = told.iter().filter_map(|row| row["action"].as_str()).collect();
    assert!(
        actions.contains(&"tenant_plan.created") && actions.contains(&"tenant_flag.created"),
        "{actions:?}"
    );
    let log = super::log(&operator).await;
    assert_eq!(
        (&log[0]["action"], &log[0]["subject"]),
        (&json!("operators.flag_rolled_out"), &json!("catalog.import")),
        "{log:?}"
    );
    app.finish().await;
}
