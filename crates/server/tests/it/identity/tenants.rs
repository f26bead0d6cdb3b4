//! People who belong to several tenants.

use std::time::SystemTime;

use erp_core::auth::Role;
use erp_testkit::TestApp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{items, refresh, tokens};

/// Lets acme's member belong to globex, too.
async fn join_globex(app: &TestApp) {
    let person = app.person("acme", Role::Member).user_id;
    let email = &app.person("acme", Role::Member).credential.email;
    let join = format!(
        "insert into memberships (user_id, email, name) values ('{person}', '{email}', 'Max at Globex'); \
         insert into grants (id, principal_id, built_in) values (gen_random_uuid(), '{person}', 'read-only')"
    );
    app.execute_in("globex", &join).await;
}

fn bearer(tokens: &Value) -> &str {
    tokens["accessToken"].as_str().unwrap()
}

#[tokio::test]
async fn r_05_another_tenant_is_another_session_that_is_proven_no_better_and_lasts_no_longer() {
    let app = TestApp::start().await;
    join_globex(&app).await;
    let here = tokens(&app, "acme", Role::Member).await;
    let proven =
        "update sessions set auth_time = now() - interval '1 hour', expires_at = now() + interval '2 hours'";
    app.sql().batch_execute(proven).await.unwrap();
    let me = app.anonymous().with_token(bearer(&here));
    let listed = me.get("/api/v1/auth/tenants").await.assert(200).json();
    let slugs: Vec<_> =
        listed["tenants"].as_array().unwrap().iter().map(|one| (&one["slug"], &one["current"])).collect();
    assert_eq!(slugs, [(&json!("acme"), &json!(true)), (&json!("globex"), &json!(false))]);

    let there = me.post("/api/v1/auth/switch", json!({ "tenant": "Globex" })).await.assert(200).json();
    let they = app.anonymous().with_token(bearer(&there));
    let profile = they.get("/api/v1/me").await.assert(200).json();
    assert_eq!((&profile["tenant"]["slug"], &profile["roles"]), (&json!("globex"), &json!(["read-only"])));
    let told = "select id, auth_time, expires_at, amr, idle_at from sessions \
        where principal_id = $1 order by created_at desc limit 2"; // and not those that its demo began with
    let person = app.person("acme", Role::Member).user_id.as_uuid().to_owned();
    let sessions = app.sql().query(told, &[&person]).await.unwrap();
    let [second, first] = &sessions[..] else { panic!("{} sessions", sessions.len()) };
    assert_ne!(first.get::<_, Uuid>(0), second.get::<_, Uuid>(0));
    let time = |row: &Row, at: usize| row.get::<_, SystemTime>(at);
    assert_eq!(time(first, 1), time(second, 1), "it is proven when the first was");
    assert_eq!(time(first, 2), time(second, 2), "it lasts as long");
    assert_eq!(first.get::<_, Vec<String>>(3), second.get::<_, Vec<String>>(3));
    assert!(time(second, 4) <= time(second, 2));
    // What wants a recent proof wants it there, too.
    they.delete("/api/v1/auth/mfa/totp").await.assert(409).problem("identity.no_factor");
    let told = json!(app.audit_of("globex").await).to_string();
    assert!(told.contains("identity.sign_in"), "{told}");
    // Both go on, each in its tenant.
    assert_eq!((items(&app, &here).await, items(&app, &there).await), (200, 200));
    refresh(&app, &there).await.assert(200);
    me.post("/api/v1/auth/logout", json!({})).await.assert(204);
    assert_eq!((items(&app, &here).await, items(&app, &there).await), (401, 200));
    app.finish().await;
}

#[tokio::test]
async fn t_16_nobody_goes_on_where_they_do_not_belong_or_where_nobody_does() {
    let app = TestApp::start().await;
    let here = tokens(&app, "acme", Role::Member).await;
    let me = app.anonymous().with_token(bearer(&here));
    let go = async |slug: &str| me.post("/api/v1/auth/switch", json!({ "tenant": slug })).await;
    let (foreign, unknown) = (go("globex").await.assert(404), go("nowhere").await.assert(404));
    assert_eq!(foreign.comparable(), unknown.comparable());
    join_globex(&app).await;
    go("globex").await.assert(200);
    app.execute_in("globex", "update memberships set deactivated_at = now() where name = 'Max at Globex'")
        .await;
    go("globex").await.assert(404);
    let listed = me.get("/api/v1/auth/tenants").await.assert(200).json();
    assert_eq!(listed["tenants"].as_array().unwrap().len(), 1, "{listed}");
    app.execute_in("globex", "update memberships set deactivated_at = null where name = 'Max at Globex'")
        .await;
    app.sql().batch_execute("update tenants set status = 'suspended' where slug = 'globex'").await.unwrap();
    go("globex").await.assert(404);
    app.finish().await;
}
