//! The end of a tenant: it is closed, kept, and erased with its people, its files and its rows, and nobody else loses anything.

use std::collections::BTreeMap;

use erp_core::auth::Role;
use erp_testkit::{Actor, PROBE, TestApp};
use serde_json::{Value, json};

use crate::purchasing::services::put_quote;
use crate::purchasing::{ORDERS, item, made, order};

const TENANTS: &str = "/api/v1/admin/tenants";

fn why() -> Value {
    json!({ "reason": "The contract has ended" })
}

async fn working() -> TestApp {
    TestApp::builder().setting("JOB_WORKERS", "4").start().await
}

/// Rows of many kinds in a tenant, and a file.
async fn fill(actor: &Actor<'_>) {
    let supplier = made(actor, "/api/v1/suppliers", json!({ "name": "Steel & Works" })).await;
    let item = item(actor, "ERASED-1", 3).await;
    let order = made(actor, ORDERS, order(&supplier, &[(&item, 2)])).await;
    put_quote(actor, &order, "%PDF-1.7\nan offer").await.assert(204);
    let invite = json!({ "email": "new@example.com", "roles": ["member"] });
    actor.post("/api/v1/invitations", invite).await.assert(202);
    let key = json!({ "name": "Script", "scopes": ["catalog.item.read"] });
    actor.post("/api/v1/api-keys", key).await.assert(201);
}

/// How many rows a tenant has, by table.
async fn rows(app: &TestApp, tenant: &str) -> BTreeMap<String, i64> {
    let tables =
        app.sql().query("select relation from app.relations where kind = 'tenant'", &[]).await.unwrap();
    let mut counted = BTreeMap::new();
    for table in tables {
        let name: String = table.get(0);
        let count = format!("select count(*) from {name} where tenant_id = $1::text::uuid");
        let id = app.tenant_id(tenant).to_string();
        counted.insert(name, app.sql().query_one(&count, &[&id]).await.unwrap().get(0));
    }
    counted
}

fn objects(app: &TestApp) -> usize {
    let mut left = vec![app.files().to_owned()];
    let mut count = 0;
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() { left.push(entry.path()) } else { count += 1 }
        }
    }
    count
}

/// Closes acme, as long ago as it has to be.
async fn close(app: &TestApp, operator: &Actor<'_>) -> String {
    let path = format!("{TENANTS}/{}", app.tenant_id("acme"));
    operator.post(&format!("{path}/close"), why()).await.assert(204);
    let refused = operator.post(&format!("{path}/erase"), why()).await.assert(409);
    refused.problem("core.wrong_state");
    let long_ago = "update tenants set closed_at = closed_at - interval '30 days' where slug = 'acme'";
    app.sql().execute(long_ago, &[]).await.unwrap();
    path
}

async fn erased_in_the_end(app: &TestApp) {
    let end = "select count(*) = 0 from tenants where slug = 'acme'";
    app.until(end, "select coalesce(jsonb_agg(to_jsonb(j)), '[]') from (select id, kind, error from job_ready union all select id, kind, error from job_dead) j").await;
}

#[tokio::test]
async fn a_tenant_that_is_erased_leaves_its_id_and_what_was_told_of_itself_and_others_lose_nothing() {
    let app = working().await;
    let operator = app.operator().await;
    for actor in [app.alice(), app.bob()] {
        fill(&actor).await;
    }
    let of_both = app.person("acme", Role::Member).user_id;
    app.join("globex", of_both, Role::Member).await;
    let alone = app.person("acme", Role::Owner).user_id;
    let path = close(&app, &operator).await;
    app.seal_audit().await;
    let (before, stored) = (rows(&app, "globex").await, objects(&app));

    operator.post(&format!("{path}/erase"), why()).await.assert(204);
    erased_in_the_end(&app).await;
    let left: Vec<_> = rows(&app, "acme").await.into_iter().filter(|(_, count)| *count > 0).collect();
    let names: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
    let sealed = [
        "public.audit_entries",
        "public.audit_heads",
        "public.audit_log",
        "public.audit_logs",
        "public.audit_prunings",
    ];
    assert_eq!(names, sealed, "{left:?}");
    let told: Vec<String> =
        app.audit_of("acme").await.iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect();
    let expected = [
        "identity.tenant_closed",
        "identity.tenant_erasure_begun",
        "core.key_destroyed",
        "identity.tenant_erased",
    ];
    assert_eq!(told, expected);
    assert_eq!(rows(&app, "globex").await, before, "another tenant has all that it had");
    assert_eq!((stored, objects(&app)), (2, 1), "the file of the other is there");
    let operator = crate::audit::operator(&app);
    let gone = crate::audit::tenant(&operator, &format!("erased-{}", app.tenant_id("acme"))).await;
    let logs = Box::pin(operator.verify(&gone, &[])).await.unwrap();
    assert!(logs[0].is_clean() && logs[0].removed > 20, "its proofs hold: {logs:#?}");
    operator.close().await;
    let erased = "select erased_at is not null from auth.people where id = $1::text::uuid";
    for (person, expected) in [(alone, true), (of_both, false)] {
        let row = app.sql().query_one(erased, &[&person.to_string()]).await.unwrap();
        assert_eq!(row.get::<_, bool>(0), expected, "{person}");
    }
    app.finish().await;
}

#[tokio::test]
async fn what_interrupts_an_erasure_lets_it_go_on_and_the_slug_is_free_in_the_end() {
    let app = working().await;
    let operator = app.operator().await;
    fill(&app.alice()).await;
    let path = close(&app, &operator).await;
    // As if a worker had died in the middle of it.
    let begun = "select app.begin_erasure(id, '1 second') from tenants where slug = 'acme'";
    app.sql().execute(begun, &[]).await.unwrap();
    app.execute_in("acme", "select * from app.erase_rows(1); select * from app.erase_rows(3)").await;
    operator.post(&format!("{path}/resume"), why()).await.assert(409);
    operator.post(&format!("{path}/erase"), why()).await.assert(204);
    erased_in_the_end(&app).await;
    let new = json!({ "slug": "acme", "name": "Another Acme", "owner": "new@acme.example" });
    let made = operator.post(TENANTS, new).await.assert(200).json();
    assert_eq!(made["created"], true, "{made}");
    assert_ne!(made["id"].as_str().unwrap(), app.tenant_id("acme").to_string());
    app.clock().advance(jiff::SignedDuration::from_secs(5));
    app.anonymous().with_token(app.alice().token()).get("/api/v1/items").await.assert(401);
    app.finish().await;
}

#[tokio::test]
async fn no_login_erases_a_tenant_that_is_not_closed() {
    let app = TestApp::builder().module(&PROBE).start().await;
    let system = app.system().await;
    let acme = app.tenant_id("acme");
    let trace = erp_core::auth::Trace::new("test");
    let tx = system.begin(&trace).within(acme).await.unwrap();
    assert!(tx.last().rows::<()>("select app.erase_rows(10)", &[]).await.is_err());
    let tx = system.begin(&trace).within(acme).await.unwrap();
    assert!(tx.last().rows::<()>("select app.end_erasure()", &[]).await.is_err());
    let begun = "select app.begin_erasure(id, '0 seconds') as begun from tenants where slug in ('acme', 'canary-one')";
    for row in app.sql().query(begun, &[]).await.unwrap() {
        assert!(!row.get::<_, bool>(0));
    }
    let runtime = app.runtime_in("acme").await;
    for sql in [
        "select app.erase_rows(10)",
        "select app.end_erasure()",
        "select app.begin_erasure(gen_random_uuid(), '0')",
    ] {
        let refused = runtime.execute(sql, &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{sql}");
    }
    app.alice().get("/api/v1/items").await.assert(200);
    app.expect_errors();
    app.finish().await;
}
