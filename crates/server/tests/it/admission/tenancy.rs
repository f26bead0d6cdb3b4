//! Which tenant a request works in (T-17), and that without one there is nothing to see (T-03, T-04).

use erp_core::auth::{Caller, Permission, Role};
use erp_core::error::{Error, Result, codes};
use erp_core::extract::Path;
use erp_core::module::{Access, Module, Routes};
use erp_testkit::{Actor, Answer, TestApp};
use http::Request;
use jiff::SignedDuration;

/// How long what a person may do is remembered.
const FRESH: SignedDuration = SignedDuration::from_secs(5);

async fn me_in(actor: &Actor<'_>, tenant: &str) -> Answer {
    actor.request(Request::get("/api/v1/me").header("x-tenant-id", tenant).body("").unwrap()).await
}

async fn join_globex(app: &TestApp, role: Role) {
    app.join("globex", app.person("acme", Role::Owner).user_id, role).await;
}

#[tokio::test]
async fn t_17_the_header_selects_among_the_callers_memberships() {
    let app = TestApp::start().await;
    join_globex(&app, Role::ReadOnly).await;
    let (alice, globex) = (app.alice(), app.tenant_id("globex").to_string());
    for name in ["globex", &globex, &globex.to_uppercase()] {
        let me = me_in(&alice, name).await.assert(200).json();
        assert_eq!((&me["tenant"]["slug"], &me["roles"][0]), (&"globex".into(), &"read-only".into()));
    }
    for name in ["acme", &app.tenant_id("acme").to_string()] {
        let me = me_in(&alice, name).await.assert(200).json();
        assert_eq!((&me["tenant"]["slug"], &me["roles"][0]), (&"acme".into(), &"owner".into()));
    }
    // The role is the one in the tenant that was selected.
    let request = Request::post("/api/v1/items")
        .header("x-tenant-id", "globex")
        .header("content-type", "application/json");
    alice
        .request(request.body(r#"{"sku":"X","name":"X"}"#).unwrap())
        .await
        .assert(403)
        .problem("core.forbidden");
    assert_eq!(app.alice().get("/api/v1/me").await.json()["tenant"]["slug"], "acme");
    app.finish().await;
}

#[tokio::test]
async fn t_17_what_is_done_in_the_selected_tenant_stays_there() {
    let app = TestApp::start().await;
    join_globex(&app, Role::Owner).await;
    let request = Request::post("/api/v1/items")
        .header("x-tenant-id", "globex")
        .header("content-type", "application/json");
    let made =
        app.alice().request(request.body(r#"{"sku":"X","name":"X"}"#).unwrap()).await.assert(201).json();
    let path = format!("/api/v1/items/{}", made["id"].as_str().unwrap());
    app.alice().get(&path).await.assert(404);
    app.bob().get(&path).await.assert(200);
    let actor = app.audit_of("globex").await.pop().unwrap()["actor"].clone();
    assert_eq!(actor, app.person("acme", Role::Owner).user_id.to_string());
    app.finish().await;
}

#[tokio::test]
async fn t_17_a_mismatch_is_403_and_leaves_an_audit_row_and_a_security_line() {
    let app = TestApp::start().await;
    let (before, theirs) = (app.audit_of("acme").await.len(), app.audit_of("globex").await);
    let unknown = [
        "globex",
        &app.tenant_id("globex").to_string(),
        "no-such",
        "0190163d-8694-739b-aea5-966c26f8ad91",
        "canary-one",
    ];
    let mut answers = Vec::new();
    for tenant in unknown {
        let answer = me_in(&app.alice(), tenant).await.assert(403);
        answer.problem("core.tenant_mismatch");
        answers.push(answer.comparable());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "an unknown tenant answers like another's");
    app.edge().app.write_denials().await;
    let rows = app.audit_of("acme").await.split_off(before);
    assert_eq!(rows.len(), 1, "one for the person, the code and the minute: {rows:?}");
    let (row, alice) = (&rows[0], app.person("acme", Role::Owner).user_id.to_string());
    assert_eq!((&row["action"], &row["outcome"]), (&"core.tenant_mismatch".into(), &"denied".into()));
    assert_eq!((&row["actor"], &row["client_ip"]), (&alice.into(), &"127.0.0.1".into()));
    assert_eq!(row["details"]["count"], unknown.len());
    assert_eq!(app.audit_of("globex").await, theirs, "a stranger cannot write into another's log");
    let lines: Vec<_> = app.log().lines().into_iter().filter(|line| line["severity"] == "HIGH").collect();
    assert_eq!(lines.len(), unknown.len());
    for (line, tenant) in lines.iter().zip(unknown) {
        assert_eq!((&line["target"], &line["ip"]), (&tenant.into(), &"127.0.0.1".into()), "{line}");
        assert_eq!(line["action"], "core.tenant_mismatch");
        assert!(
            line["userId"].is_string() && line["tenantId"] == app.tenant_id("acme").to_string(),
            "{line}"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn t_17_without_a_credential_the_header_grants_nothing() {
    let app = TestApp::start().await;
    for tenant in ["acme", "globex", &app.tenant_id("acme").to_string()] {
        me_in(&app.anonymous(), tenant).await.assert(401).problem("core.unauthenticated");
        me_in(&app.anonymous().with_token("x"), tenant).await.assert(401);
    }
    app.finish().await;
}

#[tokio::test]
async fn t_17_an_ended_membership_and_a_suspended_tenant_cannot_be_selected() {
    let app = TestApp::start().await;
    join_globex(&app, Role::Owner).await;
    me_in(&app.alice(), "globex").await.assert(200);
    app.sql().batch_execute("update tenants set status = 'suspended' where slug = 'globex'").await.unwrap();
    app.clock().advance(FRESH);
    me_in(&app.alice(), "globex").await.assert(403);
    app.sql().batch_execute("update tenants set status = 'active' where slug = 'globex'").await.unwrap();
    let alice = app.person("acme", Role::Owner).user_id;
    let ended = format!(
        "update memberships set ended_at = now() where user_id = '{alice}' and tenant_id = '{}'",
        app.tenant_id("globex")
    );
    app.execute_in("globex", &ended).await;
    app.clock().advance(FRESH);
    me_in(&app.alice(), "globex").await.assert(403);
    app.finish().await;
}

#[tokio::test]
async fn t_03_without_a_tenant_there_are_no_rows_and_nothing_can_be_written() {
    let app = TestApp::start().await;
    let runtime = app.database().runtime().await;
    let tables = ["items", "memberships", "tenant_profiles", "audit_log", "audit_heads", "sessions"];
    let set = format!("begin; set local app.tenant_id = '{}'; select 1; commit", app.tenant_id("acme"));
    // In a fresh session, and in one where the setting reads '' since a transaction has ended (T-04).
    for before in ["select 1", &set, "begin; set local app.tenant_id = ''; commit"] {
        runtime.batch_execute(before).await.unwrap();
        for table in tables {
            let count: i64 =
                runtime.query_one(&format!("select count(*) from {table}"), &[]).await.unwrap().get(0);
            assert_eq!(count, 0, "{table} after {before}");
        }
        for insert in [
            "insert into items (id, sku, name) values (gen_random_uuid(), 'x', 'x')".to_owned(),
            format!(
                "insert into items (tenant_id, id, sku, name) values ('{}', gen_random_uuid(), 'x', 'x')",
                app.tenant_id("acme")
            ),
        ] {
            let error = runtime.batch_execute(&insert).await.unwrap_err();
            assert!(matches!(error.code().unwrap().code(), "42501" | "23502"), "{insert}: {error:?}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn t_02_in_one_tenant_no_statement_reaches_another() {
    let app = TestApp::start().await;
    let runtime = app.database().runtime().await;
    let (acme, globex) = (app.tenant_id("acme"), app.tenant_id("globex"));
    let digest =
        format!("select md5(string_agg(i::text, ';' order by id)) from items i where tenant_id = '{globex}'");
    let before: String = app.sql().query_one(&digest, &[]).await.unwrap().get(0);
    let inside = |sql: &str| format!("begin; set local app.tenant_id = '{acme}'; {sql}; commit");
    for sql in [
        format!("update items set name = 'mine' where tenant_id = '{globex}'"),
        format!("delete from items where tenant_id = '{globex}'"),
    ] {
        runtime.batch_execute(&inside(&sql)).await.unwrap();
    }
    for sql in [
        format!("update items set tenant_id = '{globex}'"),
        format!(
            "insert into items (tenant_id, id, sku, name) values ('{globex}', gen_random_uuid(), 'x', 'x')"
        ),
        "truncate items".to_owned(),
    ] {
        let error = runtime.batch_execute(&inside(&sql)).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{sql}");
        runtime.batch_execute("rollback").await.unwrap();
    }
    let after: String = app.sql().query_one(&digest, &[]).await.unwrap().get(0);
    assert_eq!(after, before);
    app.finish().await;
}

#[tokio::test]
async fn t_17_the_callers_own_tenant_by_its_slug_is_entered_with_the_role_of_now() {
    let app = TestApp::start().await;
    let (alice, id) = (app.alice(), app.person("acme", Role::Owner).user_id);
    let demote = format!("update grants set built_in = 'read-only' where principal_id = '{id}'");
    app.execute_in("acme", &demote).await;
    let request = Request::post("/api/v1/items")
        .header("x-tenant-id", "acme")
        .header("content-type", "application/json");
    let write = request.body(r#"{"sku":"X","name":"X"}"#).unwrap();
    alice.request(write).await.assert(403).problem("core.forbidden");
    for me in [me_in(&alice, "acme").await, alice.get("/api/v1/me").await] {
        let me = me.assert(200).json();
        assert_eq!(me["roles"][0], "read-only");
        assert!(!me["permissions"].as_array().unwrap().contains(&"catalog.item.write".into()), "{me}");
    }
    app.finish().await;
}

#[tokio::test]
async fn t_21_who_is_disabled_and_who_is_of_a_suspended_tenant_is_nobody() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    for actor in [&alice, &bob] {
        actor.get("/api/v1/me").await.assert(200);
    }
    let id = app.person("acme", Role::Owner).user_id;
    let disabled = format!("update memberships set disabled_at = now() where user_id = '{id}'");
    app.execute_in("acme", &disabled).await;
    app.execute_in("globex", &disabled).await;
    app.sql().batch_execute("update tenants set status = 'suspended' where slug = 'globex'").await.unwrap();
    for actor in [&alice, &bob] {
        actor.get("/api/v1/me").await.assert(401).problem("core.unauthenticated");
    }
    app.clock().advance(FRESH);
    me_in(&alice, "acme").await.assert(401).problem("core.unauthenticated");
    for actor in [&alice, &bob] {
        actor.get("/api/v1/items").await.assert(401).problem("core.unauthenticated");
    }
    app.finish().await;
}

/// A module whose handler finds out itself what the caller must be allowed.
static ASKING: Module = Module { name: "asking", routes: asking, permissions: &[&CLOSE], ..Module::BARE };
static CLOSE: Permission = Permission {
    name: "asking.book.close",
    what: "Close the books.",
    roles: &[Role::Owner],
    owners_alone: false,
};

fn asking() -> Routes {
    Routes::new().get("/asking/{what}", Access::SignedIn, ask)
}

async fn ask(caller: Caller, Path(what): Path<String>) -> Result<&'static str> {
    match what.as_str() {
        "close" => caller.require(&CLOSE)?,
        _ => return Err(Error::new(&codes::FORBIDDEN)),
    }
    Ok("closed")
}

#[tokio::test]
async fn u_05_a_handler_that_refuses_is_seen_like_the_access_rule() {
    let app = TestApp::builder().module(&ASKING).start().await;
    let (reader, before) = (app.reader_of("acme"), app.audit_of("acme").await.len());
    reader.get("/asking/close").await.assert(403).problem("core.forbidden");
    reader.get("/asking/other").await.assert(403);
    let lines = app.log().with_message("Access denied");
    let seen: Vec<_> = lines.iter().map(|line| (&line["action"], &line["target"])).collect();
    let target = serde_json::json!("GET /asking/{what}");
    assert_eq!(seen, [(&"asking.book.close".into(), &target), (&"core.call".into(), &target)]);
    app.edge().app.write_denials().await;
    let mut rows = app.audit_of("acme").await.split_off(before);
    rows.sort_by_key(|row| row["action"].to_string());
    let seen: Vec<_> = rows.iter().map(|row| (&row["action"], &row["outcome"])).collect();
    let denied = serde_json::json!("denied");
    assert_eq!(seen, [(&"asking.book.close".into(), &denied), (&"core.call".into(), &denied)]);
    app.finish().await;
}

#[tokio::test]
async fn which_permission_is_missing_is_told_to_developers_only() {
    for (environment, told) in [("development", "catalog.item.write"), ("production", "")] {
        let app = TestApp::builder().setting("APP_ENV", environment).start().await;
        let refused = app.reader_of("acme").post("/api/v1/items", serde_json::json!({})).await.assert(403);
        assert_eq!(refused.header("x-missing-permission"), told, "{environment}");
        let problem = refused.problem("core.forbidden").to_string();
        assert!(!problem.contains("catalog.item"), "{problem}");
        let key = serde_json::json!({ "name": "K", "scopes": ["catalog.item.read"] });
        let key = app.alice().post("/api/v1/api-keys", key).await.assert(201).json();
        let by_key = app.anonymous().with_token(key["key"].as_str().unwrap());
        by_key.post("/api/v1/items", serde_json::json!({})).await.assert(403);
        let lines = app.log().with_message("Access denied");
        assert_eq!(lines[1]["why"], "It is beyond the key's scopes, or beyond its owner's roles");
        assert_eq!(lines.len(), 2, "each once");
        app.finish().await;
    }
}

#[tokio::test]
async fn u_05_a_denied_permission_is_a_security_line_each_and_an_audit_row_a_minute() {
    let app = TestApp::start().await;
    let (reader, before) = (app.reader_of("acme"), app.audit_of("acme").await.len());
    for _ in 0..20 {
        reader.post("/api/v1/items", serde_json::json!({ "sku": "X", "name": "X" })).await.assert(403);
    }
    let lines = app.log().with_message("Access denied");
    assert_eq!(lines.len(), 20);
    let person = app.person("acme", Role::ReadOnly).user_id.to_string();
    let line = &lines[0];
    assert_eq!(
        (&line["action"], &line["target"]),
        (&"catalog.item.write".into(), &"POST /api/v1/items".into())
    );
    assert_eq!((&line["userId"], &line["ip"]), (&person.as_str().into(), &"127.0.0.1".into()), "{line}");
    let why = "None of the caller's roles has the permission";
    assert_eq!((&line["code"], &line["why"]), (&"core.forbidden".into(), &why.into()), "{line}");
    assert_eq!(line["principal"], person.as_str(), "{line}");
    assert_eq!(
        (&line["tenantId"], &line["severity"]),
        (&app.tenant_id("acme").to_string().into(), &"MEDIUM".into())
    );
    app.edge().app.write_denials().await;
    let rows = app.audit_of("acme").await.split_off(before);
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!((&row["actor"], &row["action"]), (&person.into(), &"catalog.item.write".into()));
    assert_eq!((&row["resource_id"], &row["outcome"]), (&"POST /api/v1/items".into(), &"denied".into()));
    assert_eq!((&row["details"]["count"], &row["details"]["code"]), (&20.into(), &"core.forbidden".into()));
    app.finish().await;
}
