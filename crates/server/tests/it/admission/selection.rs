//! By which ways a tenant is selected, and that none of them grants anything (T-17).

use erp_core::auth::Role;
use erp_testkit::{Actor, Answer, TestApp};
use http::Request;
use serde_json::{Value, json};

use crate::api::fixtures::sweeps;

const DOMAIN: &str = "erp.example.com";

async fn started() -> TestApp {
    TestApp::builder().setting("TENANT_DOMAIN", DOMAIN).start().await
}

/// Asks `GET path` with these headers.
async fn ask(by: &Actor<'_>, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request =
        headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
    by.request(request.body("").unwrap()).await
}

/// Who answers to be the caller there: the tenant's slug, and the first role.
async fn me(by: &Actor<'_>, path: &str, headers: &[(&str, &str)]) -> (Value, Value) {
    let me = ask(by, path, headers).await.assert(200).json();
    (me["tenant"]["slug"].clone(), me["roles"][0].clone())
}

#[tokio::test]
async fn t_17_each_way_selects_among_the_callers_memberships() {
    let app = started().await;
    app.join("globex", app.person("acme", Role::Owner).user_id, Role::ReadOnly).await;
    let (alice, id) = (app.alice(), app.tenant_id("globex").to_string());
    for (path, headers) in [
        ("/api/v1/me", &[("x-tenant-id", "globex")][..]),
        ("/api/v1/me", &[("host", "globex.erp.example.com")]),
        ("/api/v1/me", &[("host", "GLOBEX.erp.example.com:8443")]),
        ("/t/globex/api/v1/me", &[]),
        ("/t/globex/api/v1/me", &[("host", "globex.erp.example.com"), ("x-tenant-id", "Globex")]),
        ("/t/globex/api/v1/me", &[("x-tenant-id", &id)]),
        (&format!("/t/{id}/api/v1/me"), &[("host", "erp.example.com")]),
    ] {
        assert_eq!(
            me(&alice, path, headers).await,
            (json!("globex"), json!("read-only")),
            "{path} {headers:?}"
        );
    }
    for (path, headers) in [
        ("/api/v1/me", &[("host", "acme.erp.example.com")][..]),
        ("/t/acme/api/v1/me", &[]),
        ("/api/v1/me", &[("host", "globex.erp.example.org")]),
        ("/api/v1/me", &[("x-forwarded-host", "globex.erp.example.com")]),
        ("/api/v1/me", &[("forwarded", "host=globex.erp.example.com")]),
    ] {
        assert_eq!(me(&alice, path, headers).await, (json!("acme"), json!("owner")), "{path} {headers:?}");
    }
    // What is made there is there, and its own tenant's name leaves the session what it is: a proof of who one is counts.
    let made = alice.post("/t/acme/api/v1/items", json!({ "sku": "T-17", "name": "By a path" })).await;
    alice.get(made.assert(201).header("location")).await.assert(200);
    let owner = &app.person("acme", Role::Owner).credential;
    let login = json!({ "tenant": "acme", "email": owner.email, "password": owner.password });
    let tokens = app.anonymous().post("/api/v1/auth/login", login).await.assert(200).json();
    let fresh = app.anonymous().with_token(tokens["accessToken"].as_str().unwrap());
    let key = json!({ "name": "Script", "scopes": ["catalog.item.read"] });
    fresh.post("/t/acme/api/v1/api-keys", key).await.assert(201);
    app.finish().await;
}

#[tokio::test]
async fn t_17_ways_that_disagree_and_names_of_nobody_are_400() {
    let app = started().await;
    app.join("globex", app.person("acme", Role::Owner).user_id, Role::ReadOnly).await;
    let (alice, globex) = (app.alice(), app.tenant_id("globex").to_string());
    for (path, headers) in [
        ("/t/acme/api/v1/me", &[("x-tenant-id", "globex")][..]),
        ("/t/acme/api/v1/me", &[("x-tenant-id", &globex)]),
        ("/t/acme/api/v1/me", &[("host", "globex.erp.example.com")]),
        ("/api/v1/me", &[("x-tenant-id", "acme"), ("host", "globex.erp.example.com")]),
        ("/t/acme/api/v1/me", &[("x-tenant-id", "globex"), ("host", "acme.erp.example.com")]),
        ("/api/v1/me", &[("host", "a.b.erp.example.com")]),
        ("/api/v1/me", &[("host", "acme.erp.example.com.")]),
        ("/api/v1/me", &[("host", "ac_me.erp.example.com")]),
        ("/t/ac_me/api/v1/me", &[]),
    ] {
        let answer = ask(&alice, path, headers).await;
        assert_eq!(answer.status, 400, "{path} {headers:?}: {answer}");
        answer.problem("core.tenant_selection");
    }
    // Of a tenant that the caller does not belong to nobody learns whose id it has.
    let stranger = app.another("acme", Role::Owner).await;
    for other in [&globex, "0190163d-8694-739b-aea5-966c26f8ad91"] {
        let answer = ask(&stranger, "/t/globex/api/v1/me", &[("x-tenant-id", other)]).await;
        answer.assert(403).problem("core.tenant_mismatch");
    }
    for nowhere in ["/t/acme/livez", "/t/acme/sign-in", "/t/acme/t/acme/api/v1/me", "/t/acme/api/v1/none"] {
        ask(&alice, nowhere, &[]).await.assert(404);
    }
    app.finish().await;
}

#[tokio::test]
async fn t_17_a_foreign_tenant_is_told_whichever_way_it_is_selected_by() {
    let app = started().await;
    let before = app.audit_of("acme").await.len();
    for (path, headers) in [
        ("/t/globex/api/v1/me", &[][..]),
        ("/t/no-such/api/v1/me", &[]),
        ("/api/v1/me", &[("host", "globex.erp.example.com")]),
        ("/api/v1/me", &[("host", "no-such.erp.example.com")]),
    ] {
        ask(&app.alice(), path, headers).await.assert(403).problem("core.tenant_mismatch");
        ask(&app.anonymous(), path, headers).await.assert(401).problem("core.unauthenticated");
    }
    app.edge().app.write_denials().await;
    let rows = app.audit_of("acme").await.split_off(before);
    assert_eq!(rows.len(), 1, "one for the person, the code and the minute: {rows:?}");
    let told = (&rows[0]["action"], &rows[0]["details"]["count"]);
    assert_eq!(told, (&json!("core.tenant_mismatch"), &json!(4)));
    let lines: Vec<_> = app.log().lines().into_iter().filter(|line| line["severity"] == "HIGH").collect();
    let targets: Vec<_> = lines.iter().map(|line| line["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["globex", "no-such", "globex", "no-such"]);
    app.finish().await;
}

#[tokio::test]
async fn a_request_to_a_tenants_own_name_that_was_seen_a_moment_ago_costs_no_statement() {
    let app = started().await;
    let by_host = [("host", "acme.erp.example.com")];
    ask(&app.alice(), "/api/v1/flags", &by_host).await.assert(200);
    let before = app.log().with_message("Query").len();
    assert!(before > 0, "statements are logged");
    for _ in 0..5 {
        ask(&app.alice(), "/api/v1/flags", &by_host).await.assert(200);
        ask(&app.alice(), "/t/acme/api/v1/flags", &[]).await.assert(200);
    }
    assert_eq!(app.log().with_message("Query").len(), before);
    app.finish().await;
}

#[tokio::test]
async fn t_17_who_signs_in_may_leave_the_selected_tenant_out_and_names_no_other() {
    let app = started().await;
    let owner = &app.person("acme", Role::Owner).credential;
    let send = async |path: &str, host: &str, tenant: Option<&str>| {
        let mut body = json!({ "email": owner.email, "password": owner.password });
        if let Some(tenant) = tenant {
            body["tenant"] = tenant.into();
        }
        let request = Request::post(path).header("host", host).header("content-type", "application/json");
        app.anonymous().request(request.body(body.to_string()).unwrap()).await
    };
    let (plain, by_path) = ("/api/v1/auth/login", "/t/acme/api/v1/auth/login");
    let (acme, globex) = ("acme.erp.example.com", "globex.erp.example.com");
    for (path, host, tenant) in [
        (plain, acme, None),
        (plain, acme, Some("acme")),
        (plain, acme, Some(" ACME ")),
        (by_path, DOMAIN, None),
        (by_path, acme, Some("acme")),
        (plain, DOMAIN, Some("acme")),
    ] {
        let tokens = send(path, host, tenant).await.assert(200).json();
        let there = app.anonymous().with_token(tokens["accessToken"].as_str().unwrap());
        assert_eq!(me(&there, "/api/v1/me", &[]).await.0, "acme");
    }
    let before = app.log().with_message("Query").len();
    for (path, host, tenant) in [
        (plain, acme, Some("globex")),
        (plain, globex, Some("acme")),
        (by_path, globex, None),
        (by_path, DOMAIN, Some("globex")),
        (plain, "a.b.erp.example.com", Some("acme")),
    ] {
        send(path, host, tenant).await.assert(400).problem("core.tenant_selection");
    }
    send(plain, DOMAIN, None).await.assert(422).problem("core.invalid");
    assert_eq!(app.log().with_message("Query").len(), before, "nothing was looked up");
    send(plain, globex, None).await.assert(401).problem("identity.sign_in_failed");
    // The page says which it is, and its form goes there.
    let page = ask(&app.anonymous(), "/sign-in", &[("host", acme)]).await.assert(200).text();
    assert!(page.contains("value=\"acme\""), "{page}");
    let page = ask(&app.anonymous(), "/sign-in", &[("host", "a.b.erp.example.com")]).await.assert(200).text();
    assert!(!page.contains("a.b"), "{page}");
    let form = async |tenant: &str| {
        let password = owner.password.replace(' ', "+");
        let body = format!("tenant={tenant}&email={}&password={password}", owner.email.replace('@', "%40"));
        let request = Request::post("/sign-in").header("host", acme);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        app.anonymous().request(request.body(body).unwrap()).await
    };
    let cookie = form("acme").await.assert(303).header("set-cookie").to_owned();
    assert!(cookie.starts_with("__Host-") && !cookie.to_ascii_lowercase().contains("domain="), "{cookie}");
    form("globex").await.assert(400);
    app.finish().await;
}

#[tokio::test]
async fn t_17_no_route_of_the_sweep_follows_a_foreign_selection() {
    let app = started().await;
    sweeps(&app).await.selection(DOMAIN).await;
    app.finish().await;
}
