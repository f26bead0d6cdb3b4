//! What is wanted of a person before its sessions open anything else: another password, and the tenant's terms.

use erp_core::auth::{Role, Trace};
use erp_core::error::Result;
use erp_modules::identity::operator::{DemandedAction, demand_action};
use erp_testkit::{Actor, PROBE, TestApp};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{items, refresh, sign_in, tokens};

const NEW: &str = "another horse battery staple";
/// What an instance has read of sessions and settings is this old at most.
const FRESH: SignedDuration = SignedDuration::from_secs(5);

fn bearer<'app>(app: &'app TestApp, tokens: &Value) -> Actor<'app> {
    app.anonymous().with_token(tokens["accessToken"].as_str().unwrap())
}

/// What an operator does at the command line, with acme's member.
async fn demand(app: &TestApp, tenant: &str, action: (DemandedAction, bool)) -> Result<()> {
    let (tenant, person) = (app.tenant_id(tenant), app.person("acme", Role::Member).user_id);
    let system = app.system().await;
    let tx = system.begin(&Trace::new("test"));
    let tx = demand_action(tx, (tenant, person), action, "It was seen elsewhere").await?;
    tx.commit().await
}

async fn change(app: &TestApp, tokens: &Value, current: &str, new: &str) -> erp_testkit::Answer {
    let body = json!({ "currentPassword": current, "newPassword": new });
    bearer(app, tokens).post("/api/v1/auth/password/change", body).await
}

#[tokio::test]
async fn j_05_a_password_that_is_to_be_changed_opens_nothing_else_on_any_instance_until_it_is() {
    let here = TestApp::builder().module(&PROBE).start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let apps = [&here, &there];
    let (mine, password) = (
        tokens(&here, "acme", Role::Member).await,
        here.person("acme", Role::Member).credential.password.clone(),
    );
    for app in apps {
        assert_eq!(items(app, &mine).await, 200);
    }
    demand(&here, "acme", (DemandedAction::ChangePassword, true)).await.unwrap();
    demand(&here, "acme", (DemandedAction::ChangePassword, true)).await.unwrap();
    let later = tokens(&there, "acme", Role::Member).await;
    assert_eq!(later["requiredActions"], json!(["change-password"]));
    for app in apps {
        app.clock().advance(FRESH);
        for tokens in [&mine, &later] {
            let refused = bearer(app, tokens).get("/api/v1/items").await;
            refused.assert(403).problem("core.password_change_required");
        }
    }
    let next = refresh(&here, &mine).await.assert(200).json();
    assert_eq!(items(&there, &next).await, 403);
    let same =
        change(&here, &later, &password, &password).await.assert(422).problem("identity.weak_password");
    assert_eq!(same["detail"], json!("It is the one that is to be changed."));
    change(&here, &later, &password, NEW).await.assert(204);
    for app in apps {
        assert_eq!(items(app, &later).await, 200);
    }
    let email = &here.person("acme", Role::Member).credential.email;
    let begun = sign_in(&here, "acme", email, NEW).await.assert(200).json();
    assert_eq!(begun["requiredActions"], Value::Null);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn a_11_the_link_of_a_mail_changes_the_password_that_is_demanded_and_not_into_itself() {
    let app = TestApp::builder().module(&PROBE).start().await;
    let credential = app.person("acme", Role::Member).credential.clone();
    demand(&app, "acme", (DemandedAction::ChangePassword, true)).await.unwrap();
    let forgot = json!({ "tenant": "acme", "email": credential.email });
    app.anonymous().post("/api/v1/auth/password/forgot", forgot).await.assert(202);
    app.until("select count(*) = 1 from mails", "select to_jsonb(count(*)) from mails").await;
    let text: String = app.sql().query_one("select text from mails", &[]).await.unwrap().get(0);
    let token = text.split_once("token=").unwrap().1.split_whitespace().next().unwrap().to_owned();
    let reset = async |password: &str| {
        let body = json!({ "token": token, "password": password });
        app.anonymous().post("/api/v1/auth/password/reset", body).await
    };
    reset(&credential.password).await.assert(422).problem("identity.weak_password");
    reset(NEW).await.assert(204);
    let begun = sign_in(&app, "acme", &credential.email, NEW).await.assert(200).json();
    assert_eq!((&begun["requiredActions"], items(&app, &begun).await), (&Value::Null, 200));
    app.finish().await;
}

#[tokio::test]
async fn what_an_operator_demands_of_a_person_is_wanted_in_all_tenants_and_is_taken_back() {
    let app = TestApp::builder().module(&PROBE).start().await;
    let person = app.person("acme", Role::Member).user_id;
    let refused = demand(&app, "globex", (DemandedAction::SecondFactor, true)).await.unwrap_err();
    assert_eq!(refused.code().code, "core.not_found", "no member of that tenant");
    app.join("globex", person, Role::ReadOnly).await;
    let mine = tokens(&app, "acme", Role::Member).await;
    let there = bearer(&app, &mine).post("/api/v1/auth/switch", json!({ "tenant": "globex" })).await;
    let there = there.assert(200).json();
    demand(&app, "globex", (DemandedAction::SecondFactor, true)).await.unwrap();
    app.clock().advance(FRESH);
    for tokens in [&mine, &there] {
        let refused = bearer(&app, tokens).get("/api/v1/items").await.assert(403);
        refused.problem("core.second_factor_required");
    }
    demand(&app, "globex", (DemandedAction::SecondFactor, false)).await.unwrap();
    for tokens in [&mine, &there] {
        assert_eq!(items(&app, tokens).await, 200);
    }
    let told = app.audit_of("globex").await;
    let actions = told.iter().map(|entry| entry["action"].as_str().unwrap());
    let demands: Vec<_> = actions.filter(|action| action.contains("demand")).collect();
    assert_eq!(demands, ["identity.action_demanded", "identity.demand_withdrawn"]);
    app.finish().await;
}

#[tokio::test]
async fn terms_are_accepted_in_the_version_that_is_in_force_before_anything_else() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let set = async |name: &str, value: &str| {
        let path = format!("/api/v1/settings/identity.{name}");
        bearer(&app, &json!({ "accessToken": alice.token() })).put(&path, json!({ "value": value })).await
    };
    let mine = tokens(&app, "acme", Role::Member).await;
    let me = bearer(&app, &mine);
    let accept =
        async |version: &str| me.post("/api/v1/auth/terms/accept", json!({ "version": version })).await;
    assert_eq!(me.get("/api/v1/auth/terms").await.assert(200).json()["version"], Value::Null);
    accept("1").await.assert(409).problem("identity.other_terms");
    set("terms_url", "https://acme.example/terms").await.assert(200);
    set("terms_version", "1").await.assert(200);
    me.get("/api/v1/items").await.assert(403).problem("core.terms_required");
    let begun = tokens(&app, "acme", Role::Member).await;
    assert_eq!(begun["requiredActions"], json!(["accept-terms"]));
    let shown = me.get("/api/v1/auth/terms").await.assert(200).json();
    assert_eq!(shown, json!({ "version": "1", "url": "https://acme.example/terms", "acceptedAt": null }));
    for other in ["", "2", "1 "] {
        accept(other).await.assert(409).problem("identity.other_terms");
    }
    accept("1").await.assert(204);
    accept("1").await.assert(204);
    assert_eq!((items(&app, &mine).await, items(&app, &begun).await), (200, 200));
    assert!(me.get("/api/v1/auth/terms").await.json()["acceptedAt"].is_string());
    app.member_of("globex").get("/api/v1/items").await.assert(200);
    // Who sets them has not accepted them yet.
    set("terms_version", "2").await.assert(403).problem("core.terms_required");
    alice.post("/api/v1/auth/terms/accept", json!({ "version": "1" })).await.assert(204);
    set("terms_version", "2").await.assert(200);
    me.get("/api/v1/items").await.assert(403).problem("core.terms_required");
    let accepted = "select count(*), min(terms_version) from terms_acceptances where user_id = $1";
    let person = *app.person("acme", Role::Member).user_id.as_uuid();
    let kept = app.sql().query_one(accepted, &[&person]).await.unwrap();
    assert_eq!((kept.get::<_, i64>(0), kept.get::<_, String>(1)), (1, "1".to_owned()));
    let told = app.audit_of("acme").await;
    let told: Vec<_> = told.iter().filter(|entry| entry["resource"] == "terms_acceptance").collect();
    assert_eq!((told.len(), &told[0]["actor"]), (2, &json!(person.to_string())));
    app.finish().await;
}
