//! What operators do with people: they are kept out everywhere, helped and forgotten, and each tenant of theirs is told.

use erp_core::auth::Role;
use erp_testkit::{Actor, AuthenticatorApp, TestApp};
use jiff::SignedDuration;
use serde_json::{Value, json};

const USERS: &str = "/api/v1/admin/users";

fn why() -> Value {
    json!({ "reason": "It was asked for" })
}

/// A member of acme who belongs to globex, too: its id.
async fn of_both(app: &TestApp) -> (String, Actor<'_>) {
    let credential = &app.person("acme", Role::Member).credential;
    let id = app.person("acme", Role::Member).user_id;
    app.join("globex", id, Role::Member).await;
    let login = json!({ "tenant": "globex", "email": credential.email, "password": credential.password });
    let tokens = app.anonymous().post("/api/v1/auth/login", login).await.assert(200).json();
    (id.to_string(), app.anonymous().with_token(tokens["accessToken"].as_str().unwrap()))
}

async fn login(app: &TestApp, tenant: &str) -> u16 {
    let credential = &app.person("acme", Role::Member).credential;
    let login = json!({ "tenant": tenant, "email": credential.email, "password": credential.password });
    app.anonymous().post("/api/v1/auth/login", login).await.status.as_u16()
}

/// What answers somebody, five seconds later.
async fn later(app: &TestApp, actor: &Actor<'_>) -> u16 {
    app.clock().advance(SignedDuration::from_secs(5));
    actor.get("/api/v1/items").await.status.as_u16()
}

async fn told(app: &TestApp, tenant: &str, action: &str) -> Value {
    let all = app.audit_of(tenant).await;
    all.into_iter().rev().find(|row| row["action"] == action).unwrap_or_else(|| panic!("{tenant}: {action}"))
}

#[tokio::test]
async fn who_is_disabled_is_out_of_all_tenants_within_five_seconds_with_sessions_and_keys() {
    let app = TestApp::start().await;
    let second = TestApp::builder().beside(&app).start().await;
    let operator = app.operator().await;
    let (id, there) = of_both(&app).await;
    let here = app.member_of("acme");
    let machine = json!({ "name": "Script", "scopes": ["catalog.item.read"] });
    let made = app.alice().post("/api/v1/api-keys", machine).await.assert(201).json();
    let give = "update api_keys set principal_id = $1::text::uuid where id = $2::text::uuid";
    app.sql().execute(give, &[&id, &made["id"].as_str().unwrap()]).await.unwrap();
    let key = second.anonymous().with_token(made["key"].as_str().unwrap());
    for actor in [&here, &there, &key] {
        actor.get("/api/v1/items").await.assert(200);
    }
    let path = format!("{USERS}/{id}");
    let person = operator.get(&path).await.assert(200).json();
    assert_eq!(
        (&person["status"], &person["tenants"]),
        (&json!("active"), &json!(["acme", "globex"])),
        "{person}"
    );

    operator.post(&format!("{path}/disable"), why()).await.assert(204);
    for (app, actor) in [(&app, &here), (&app, &there), (&second, &key)] {
        assert_eq!(later(app, actor).await, 401);
    }
    assert_eq!((login(&app, "acme").await, login(&app, "globex").await), (401, 401));
    for tenant in ["acme", "globex"] {
        let told = told(&app, tenant, "identity.person_disabled").await;
        assert!(told["actor"].as_str().unwrap().starts_with("operator:"), "{told}");
        assert!(told.to_string().contains("It was asked for"), "{told}");
    }
    // Said again, it is done again, for what was left to do.
    operator.post(&format!("{path}/disable"), why()).await.assert(204);
    operator.post(&format!("{path}/enable"), why()).await.assert(204);
    assert_eq!((login(&app, "acme").await, login(&app, "globex").await), (200, 200));
    assert_eq!(later(&second, &key).await, 200);
    second.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn who_is_signed_out_signs_in_again_and_links_of_old_times_are_void() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let (id, there) = of_both(&app).await;
    let link = "insert into auth.one_time (kind, hash, person_id, expires_at) \
        values ('reset', sha256('x'), $1::text::uuid, now() + interval '1 hour')";
    app.sql().execute(link, &[&id]).await.unwrap();
    operator.post(&format!("{USERS}/{id}/sign-out"), why()).await.assert(204);
    assert_eq!(later(&app, &there).await, 401);
    let open = "select count(*) from auth.one_time where person_id = $1::text::uuid";
    assert_eq!(app.sql().query_one(open, &[&id]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!((login(&app, "acme").await, login(&app, "globex").await), (200, 200));
    app.finish().await;
}

#[tokio::test]
async fn who_has_lost_the_second_factor_gets_in_without_it_and_is_told_by_mail() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let member = app.member_of("acme");
    let id = app.person("acme", Role::Member).user_id.to_string();
    operator
        .post(&format!("{USERS}/{id}/remove-factor"), why())
        .await
        .assert(409)
        .problem("identity.no_factor");
    let credential = &app.person("acme", Role::Member).credential;
    let password = json!({ "password": credential.password });
    let begun = member.post("/api/v1/auth/mfa/totp", password).await.assert(200).json();
    let code = AuthenticatorApp::of(begun["secret"].as_str().unwrap()).code(&app, 0);
    member.post("/api/v1/auth/mfa/totp/confirm", json!({ "code": code })).await.assert(204);
    let body = json!({ "tenant": "acme", "email": credential.email, "password": credential.password });
    let pending = app.anonymous().post("/api/v1/auth/login", body.clone()).await.assert(200).json();
    assert!(pending.get("mfaToken").is_some(), "{pending}");

    operator.post(&format!("{USERS}/{id}/remove-factor"), why()).await.assert(204);
    let pending = json!({ "mfaToken": pending["mfaToken"], "code": "000000" });
    app.anonymous().post("/api/v1/auth/mfa/verify", pending).await.assert(401);
    let tokens = app.anonymous().post("/api/v1/auth/login", body).await.assert(200).json();
    assert!(tokens.get("accessToken").is_some(), "{tokens}");
    let mails = "select count(*) from mails where recipient = $1 and template = 'identity.factor_removed'";
    assert_eq!(app.sql().query_one(mails, &[&credential.email]).await.unwrap().get::<_, i64>(0), 1);
    app.finish().await;
}

#[tokio::test]
async fn who_has_lost_a_passkey_gets_in_without_it() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let person = app.person("acme", Role::Member);
    let (id, credential) = (person.user_id.to_string(), &person.credential);
    let add = "insert into auth.passkeys (id, person_id, name, credential, public_key) \
        values (gen_random_uuid(), $1::text::uuid, 'x', sha256('x'), '')";
    app.sql().execute(add, &[&id]).await.unwrap();
    let path = format!("{USERS}/{id}");
    assert_eq!(operator.get(&path).await.assert(200).json()["hasFactor"], true);
    let body = json!({ "tenant": "acme", "email": credential.email, "password": credential.password });
    let pending = app.anonymous().post("/api/v1/auth/login", body.clone()).await.assert(200).json();
    assert_eq!(pending["factors"], json!(["passkey", "recovery"]));

    operator.post(&format!("{path}/remove-factor"), why()).await.assert(204);
    assert_eq!(operator.get(&path).await.assert(200).json()["hasFactor"], false);
    let ended = json!({ "mfaToken": pending["mfaToken"] });
    app.anonymous().post("/api/v1/auth/mfa/passkey", ended).await.assert(401);
    let tokens = app.anonymous().post("/api/v1/auth/login", body).await.assert(200).json();
    assert!(tokens.get("accessToken").is_some(), "{tokens}");
    app.finish().await;
}

#[tokio::test]
async fn who_is_erased_leaves_nothing_in_any_table_of_people() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let (id, there) = of_both(&app).await;
    let credential = &app.person("acme", Role::Member).credential;
    let fill = [
        "insert into auth.identities (issuer, subject, person_id) values ('https://idp.example', 'x', $1::text::uuid)",
        "insert into auth.recovery_codes (person_id, hash) values ($1::text::uuid, sha256('x'))",
        "insert into auth.factors (id, person_id, kind, secret_sealed, confirmed_at) values (gen_random_uuid(), $1::text::uuid, 'totp', 'x', now())",
        "insert into auth.passkeys (id, person_id, name, credential, public_key) values (gen_random_uuid(), $1::text::uuid, 'x', sha256('x'), '')",
        "insert into auth.factor_failures (person_id) values ($1::text::uuid)",
        "insert into auth.one_time (kind, hash, person_id, expires_at) values ('reset', sha256('x'), $1::text::uuid, now() + interval '1 hour')",
        "insert into auth.address_changes (hash, person_id, old_email, new_email, expires_at) \
           values (sha256('x'), $1::text::uuid, 'a@b.example', 'c@d.example', now() + interval '1 hour')",
    ];
    for sql in fill {
        app.sql().execute(sql, &[&id]).await.unwrap();
    }
    operator.post(&format!("{USERS}/{id}/erase"), why()).await.assert(204);
    assert_eq!(later(&app, &there).await, 401);
    assert_eq!((login(&app, "acme").await, login(&app, "globex").await), (401, 401));
    // Whatever refers to people: also a table that comes after this test.
    let tables = "select c.conrelid::regclass::text as name, a.attname::text from pg_constraint c \
        join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1] \
        where c.confrelid = 'auth.people'::regclass and c.contype = 'f' and c.conrelid <> 'public.memberships'::regclass";
    let tables = app.sql().query(tables, &[]).await.unwrap();
    assert!(tables.len() >= 7, "{}", tables.len());
    for table in tables {
        let (name, column): (String, String) = (table.get(0), table.get(1));
        let left = format!("select count(*) from {name} where {column} = $1::text::uuid");
        assert_eq!(app.sql().query_one(&left, &[&id]).await.unwrap().get::<_, i64>(0), 0, "{name}");
    }
    let left = "select count(*) from sessions where principal_id = $1::text::uuid";
    assert_eq!(app.sql().query_one(left, &[&id]).await.unwrap().get::<_, i64>(0), 0);
    let known = "select p.email || p.name from auth.people p where p.id = $1::text::uuid";
    let known: String = app.sql().query_one(known, &[&id]).await.unwrap().get(0);
    assert_eq!(known, format!("erased-{id}@erp.invalid"));
    for tenant in ["acme", "globex"] {
        let told = told(&app, tenant, "identity.person_erased").await;
        assert!(!told.to_string().contains(&credential.email), "{told}");
    }
    // The address is free for somebody new, who is somebody else.
    assert_eq!(operator.get(&format!("{USERS}/{id}")).await.assert(200).json()["status"], "erased");
    operator.post(&format!("{USERS}/{id}/enable"), why()).await.assert(409).problem("core.wrong_state");
    let invite = json!({ "email": credential.email, "roles": ["member"] });
    app.alice().post("/api/v1/invitations", invite).await.assert(202);
    app.finish().await;
}

#[tokio::test]
async fn the_only_owner_of_a_tenant_is_not_erased_and_stays_a_member_of_it() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let id = app.person("acme", Role::Owner).user_id.to_string();
    let refused = operator.post(&format!("{USERS}/{id}/erase"), why()).await.assert(409);
    refused.problem("identity.last_owner");
    app.alice().get("/api/v1/me").await.assert(200);
    // Those of the isolation proof, and who is nobody, are found by no operator.
    for id in ["00000000-0000-7000-8000-00000000ca01", "0190163d-8694-739b-aea5-966c26f8ad91"] {
        operator.get(&format!("{USERS}/{id}")).await.assert(404);
        operator.post(&format!("{USERS}/{id}/erase"), why()).await.assert(404);
    }
    let listed = operator.get(&format!("{USERS}?tenant=acme&limit=2")).await.assert(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
    let next = listed["nextCursor"].as_str().unwrap();
    let more = operator.get(&format!("{USERS}?tenant=acme&limit=200&cursor={next}")).await.assert(200).json();
    assert!(!more["items"].as_array().unwrap().is_empty(), "{more}");
    assert!(more["nextCursor"].is_null(), "{more}");
    app.finish().await;
}

#[tokio::test]
async fn what_an_operator_demands_of_a_person_comes_before_everything_else_in_all_its_tenants() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let (id, there) = of_both(&app).await;
    there.get("/api/v1/items").await.assert(200);
    let mut body = json!({ "action": "change-password", "reason": "The password was seen elsewhere" });
    operator.post(&format!("{USERS}/{id}/demand"), body.clone()).await.assert(204);
    app.clock().advance(SignedDuration::from_secs(5));
    there.get("/api/v1/items").await.assert(403).problem("core.password_change_required");
    for tenant in ["acme", "globex"] {
        let told = told(&app, tenant, "identity.action_demanded").await;
        assert!(told.to_string().contains("seen elsewhere"), "{told}");
    }
    body["withdraw"] = json!(true);
    operator.post(&format!("{USERS}/{id}/demand"), body).await.assert(204);
    assert_eq!(later(&app, &there).await, 200);
    app.finish().await;
}

#[tokio::test]
async fn whatever_is_done_with_a_person_stands_in_the_operators_own_log() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let (id, _) = of_both(&app).await;
    let demand = json!({ "action": "second-factor", "reason": "It was asked for" });
    let withdrawn = json!({ "action": "second-factor", "reason": "It was asked for", "withdraw": true });
    let acts = [
        ("disable", why(), "person_disabled"),
        ("enable", why(), "person_enabled"),
        ("sign-out", why(), "person_signed_out"),
        ("demand", demand, "person_action_demanded"),
        ("demand", withdrawn, "person_demand_withdrawn"),
        ("erase", why(), "person_erased"),
    ];
    for (act, body, told) in acts {
        operator.post(&format!("{USERS}/{id}/{act}"), body).await.assert(204);
        let line = operator.get("/api/v1/admin/log?limit=1").await.assert(200).json()["items"][0].clone();
        assert_eq!(line["action"], format!("operators.{told}"), "{line}");
        assert_eq!(
            (&line["subject"], line["actor"].as_str().unwrap().starts_with("operator:")),
            (&json!(id), true)
        );
        let details = "select details::text from app.platform_log order by id desc limit 1";
        let details: String = app.sql().query_one(details, &[]).await.unwrap().get(0);
        assert!(details.contains("It was asked for"), "{details}");
    }
    app.finish().await;
}
