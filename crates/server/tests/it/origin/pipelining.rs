//! What the pipelined transaction must never do: report a commit that was none.

use erp_core::db::AuditEntry;
use erp_core::error::codes;
use erp_core::from_row;
use erp_testkit::{PROBE, TestApp};
use serde_json::{Value, json};

struct Count {
    count: i64,
}
from_row!(Count { count });

const ADD: &str = "insert into items (id, sku, name) values (gen_random_uuid(), $1, 'pipelined')";
const COUNT: &str = "select count(*) from items where name = 'pipelined'";

fn entry(details: Value) -> AuditEntry {
    AuditEntry { action: "test.done", resource: "test", resource_id: None, outcome: "success", details }
}

async fn count(app: &TestApp) -> i64 {
    let caller = app.caller(&app.alice()).await;
    let found: Option<Count> =
        app.edge().app.db.tenant_read(&caller).last().optional(COUNT, &[]).await.unwrap();
    found.unwrap().count
}

#[tokio::test]
async fn a_commit_of_a_failed_transaction_is_an_error() {
    let app = TestApp::builder().module(&PROBE).start().await;
    let (db, caller) = (&app.edge().app.db, app.caller(&app.alice()).await);
    // Failed before: nothing else is sent.
    let mut tx = db.tenant(&caller);
    let _: Vec<()> = tx.rows(ADD, &[&"C-1"]).await.unwrap();
    tx.rows::<()>(ADD, &[&"C-1"]).await.unwrap_err();
    assert_eq!(tx.rows::<()>(COUNT, &[]).await.unwrap_err().code(), &codes::INTERNAL);
    assert_eq!(tx.commit().await.unwrap_err().code(), &codes::INTERNAL);
    // Failing along with its COMMIT, which PostgreSQL answers with ROLLBACK and the driver with Ok.
    let mut tx = db.tenant(&caller);
    let _: Vec<()> = tx.rows(ADD, &[&"C-2"]).await.unwrap();
    assert_eq!(tx.last().rows::<()>(ADD, &[&"C-2"]).await.unwrap_err().code(), &codes::CONFLICT);
    db.tenant(&caller).last().rows::<()>("select 1 / 0", &[]).await.unwrap_err();
    // A write in a READ ONLY transaction.
    db.tenant_read(&caller).last().rows::<()>(ADD, &[&"C-3"]).await.unwrap_err();
    assert_eq!(count(&app).await, 0);
    app.finish().await;
}

#[tokio::test]
async fn u_05_an_audit_entry_that_fails_rolls_the_change_back() {
    let app = TestApp::builder().module(&PROBE).start().await;
    let (db, caller) = (&app.edge().app.db, app.caller(&app.alice()).await);
    let before = app.audit_of("acme").await;
    let mut tx = db.tenant(&caller);
    let _: Vec<()> = tx.rows(ADD, &[&"A-1"]).await.unwrap();
    tx.audit(&entry(json!({ "nul": "\0" }))).unwrap(); // jsonb takes no NUL
    tx.commit().await.unwrap_err();
    let mut tx = db.tenant(&caller);
    tx.audit(&entry(json!({ "nul": "\0" }))).unwrap();
    tx.last().rows::<()>(ADD, &[&"A-2"]).await.unwrap_err();
    assert_eq!((count(&app).await, app.audit_of("acme").await), (0, before.clone()));
    // And one that does not fail goes in with the change.
    let mut tx = db.tenant(&caller);
    tx.audit(&entry(json!({ "why": "test" }))).unwrap();
    tx.last().rows::<()>(ADD, &[&"A-3"]).await.unwrap();
    let added = app.audit_of("acme").await.split_off(before.len());
    let mut actions: Vec<&Value> = added.iter().map(|row| &row["action"]).collect();
    actions.sort_by_key(|action| action.to_string());
    assert_eq!((count(&app).await, actions), (1, vec![&json!("item.created"), &json!("test.done")]));
    app.finish().await;
}

#[tokio::test]
async fn u_05_a_deferred_trigger_that_fails_at_the_commit_is_an_error() {
    let app = TestApp::builder().module(&PROBE).start().await;
    app.expect_errors();
    app.execute_in(
        "acme",
        "delete from audit_heads where tenant_id = current_setting('app.tenant_id')::uuid",
    )
    .await;
    let body = json!({ "sku": "D-1", "name": "pipelined" });
    app.alice().post("/api/v1/items", body).await.assert(500).problem("core.internal");
    assert_eq!(count(&app).await, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_nothing() {
    let app = TestApp::builder().module(&PROBE).setting("DATABASE_MAX_CONNECTIONS", "1").start().await;
    let (db, caller) = (&app.edge().app.db, app.caller(&app.alice()).await);
    let before = app.audit_of("acme").await;
    let mut tx = db.tenant(&caller);
    let _: Vec<()> = tx.rows(ADD, &[&"D-1"]).await.unwrap();
    tx.audit(&entry(Value::Null)).unwrap();
    drop(tx);
    assert_eq!((count(&app).await, app.audit_of("acme").await), (0, before));
    // Never sent, never opened.
    drop(db.tenant(&caller));
    db.tenant(&caller).commit().await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn after_a_migration_stale_plans_are_made_anew() {
    let app = TestApp::builder().module(&PROBE).setting("DATABASE_MAX_CONNECTIONS", "2").start().await;
    let (alice, caller) = (app.alice(), app.caller(&app.alice()).await);
    let all = async || {
        app.edge()
            .app
            .db
            .tenant_read(&caller)
            .last()
            .rows::<()>("select * from items", &[])
            .await
            .map(|rows| rows.len())
    };
    // A statement of its own: nothing else could find out for it.
    let streamed = async || {
        let sql = "select *, 'streamed' as how from items";
        let mut rows = app.edge().app.db.tenant_read(&caller).stream::<()>(sql, &[]).await?;
        let mut count = 0;
        while let Some(row) = rows.next().await {
            row?;
            count += 1;
        }
        Ok::<_, erp_core::error::Error>(count)
    };
    let item =
        alice.get("/api/v1/items").await.assert(200).json()["items"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/items/{item}");
    alice.patch(&path, json!({ "quantity": 1 })).await.assert(200);
    assert_eq!((all().await.unwrap(), streamed().await.unwrap()), (3, 3));
    for migration in [
        "alter table items add column colour text",
        "alter table items alter column name type varchar(300)",
        "alter table items drop column colour",
    ] {
        // As the runner does behind each migration: sessions have planned their audit trigger for other types.
        let migration_run = format!("begin; {migration}; select app.compile_audits(); commit");
        app.sql().batch_execute(&migration_run).await.unwrap();
        assert_eq!(streamed().await.unwrap(), 3, "{migration}");
        assert_eq!(all().await.unwrap(), 3, "{migration}");
        alice.get("/api/v1/items").await.assert(200);
        alice.patch(&path, json!({ "quantity": 2 })).await.assert(200);
        alice.post("/api/v1/items", json!({ "sku": migration, "name": "x" })).await.assert(201);
        app.sql().execute("delete from items where sku = $1", &[&migration]).await.unwrap_err(); // wants a tenant
        app.execute_in("acme", &format!("delete from items where sku = '{migration}'")).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn t_04_a_plain_read_is_read_only_and_its_context_ends_with_it() {
    struct Setting {
        value: String,
    }
    from_row!(Setting { value });
    const STATE: &str = "select concat_ws(' ', current_setting('transaction_read_only'), current_setting('statement_timeout'), \
        nullif(current_setting('app.tenant_id', true), '')) as value";
    let app = TestApp::builder().module(&PROBE).setting("DATABASE_MAX_CONNECTIONS", "1").start().await;
    let (db, caller) = (&app.edge().app.db, app.caller(&app.alice()).await);
    let state =
        async |tx: erp_core::db::TenantTx<'_>| tx.last().row::<Setting>(STATE, &[]).await.unwrap().value;
    let tenant = caller.tenant();
    for _ in 0..2 {
        // The statement's one exchange is its transaction: nothing says BEGIN or COMMIT.
        let error = db.tenant_read(&caller).last().rows::<()>(ADD, &[&"R-1"]).await.unwrap_err();
        assert!(error.cause().unwrap().to_string().contains("25006"), "{error:?}");
        assert_eq!(error.code(), &codes::INTERNAL);
        assert!(format!("{error:?}").contains("use `tenant`"), "{error:?}");
        let mut tx = db.tenant_read(&caller);
        let _: Vec<()> = tx.rows(COUNT, &[]).await.unwrap();
        let error = tx.last().rows::<()>(ADD, &[&"R-1"]).await.unwrap_err();
        assert!(error.cause().unwrap().to_string().contains("25006"), "{error:?}");
        assert_eq!(error.code(), &codes::INTERNAL);
        assert!(format!("{error:?}").contains("use `tenant`"), "{error:?}");
        assert_eq!(state(db.tenant_read(&caller)).await, format!("on 30s {tenant}"));
        let limited = db.tenant_read(&caller).statement_timeout(std::time::Duration::from_millis(1500));
        assert_eq!(state(limited).await, format!("on 1500ms {tenant}"));
        assert_eq!(state(db.tenant(&caller)).await, format!("off 30s {tenant}"));
        let trace = erp_core::auth::Trace::new("test");
        let granted = app.system().await;
        let mut system = granted.begin(&trace);
        let seen: Option<Setting> = system.optional(STATE, &[]).await.unwrap();
        assert_eq!(seen.unwrap().value, "off 30s", "nothing is left in the session");
        assert_eq!(state(system.within(tenant).await.unwrap()).await, format!("off 30s {tenant}"));
    }
    app.finish().await;
}

#[tokio::test]
async fn d_07_a_lowered_limit_holds_in_the_one_exchange_of_a_read() {
    let app = TestApp::builder().module(&PROBE).start().await;
    let caller = app.caller(&app.alice()).await;
    let limit = std::time::Duration::from_millis(200);
    for _ in 0..2 {
        let begun = std::time::Instant::now();
        let read = app.edge().app.db.tenant_read(&caller).statement_timeout(limit).last();
        let error = read.rows::<()>("select pg_sleep(20)", &[]).await.unwrap_err();
        assert_eq!(error.code(), &codes::TIMEOUT);
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    app.finish().await;
}
