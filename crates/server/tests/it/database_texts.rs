//! What PostgreSQL says stays inside: no answer holds SQL, names of the schema, plans, DETAIL or HINT (T-15).

use std::time::Duration;

use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::error::Result;
use erp_core::extract::Path;
use erp_core::module::{Access, Module, Routes};
use erp_testkit::{Answer, TestApp};
use serde_json::json;

/// Faults of every kind that a module could meet, by the code that PostgreSQL gives them.
const FAULTS: [(&str, &str); 12] = [
    (
        "23505",
        "insert into items (id, sku, name) select gen_random_uuid(), 'twice', 'n' from generate_series(1, 2)",
    ),
    ("23514", "insert into items (id, sku, name, quantity) values (gen_random_uuid(), 'less', 'n', -1)"),
    ("23502", "insert into items (id, sku) values (gen_random_uuid(), 'nameless')"),
    ("22P02", "select 'no-such-uuid'::uuid"),
    ("22012", "select quantity / 0 from items"),
    ("22003", "select 2147483648::int4"),
    ("42P01", "select * from hidden_table"),
    ("42703", "select hidden_colum from items"),
    ("42883", "select hidden_function(1)"),
    ("42501", "delete from app.migrations"),
    ("42601", "selec hidden_word"),
    ("21000", "select (select id from items) from items"),
];

/// What would give PostgreSQL away, in lower case.
const TELLING: [&str; 30] = [
    "select",
    "insert into",
    "update items",
    "from items",
    "items_",
    "_key",
    "_check",
    "hidden_",
    "key (",
    "detail:",
    "hint",
    "perhaps you",
    "violates",
    "constraint",
    " relation ",
    "column",
    "sqlstate",
    "pg_",
    "cost=",
    "rows=",
    "deadlock",
    "process ",
    "syntax",
    "db error",
    "tokio",
    "postgres",
    "permission denied",
    "gen_random",
    "no-such-uuid",
    "::",
];

static FAULTY: Module = Module { name: "faulty", routes, ..Module::BARE };

fn routes() -> Routes {
    Routes::new()
        .post("/test/fault/{n}", Access::SignedIn, fault)
        .post("/test/two-locks/{n}", Access::SignedIn, deadlock)
        .post("/test/plan", Access::SignedIn, plan)
}

async fn fault(State(app): State<App>, caller: Caller, Path(n): Path<usize>) -> Result<&'static str> {
    let _: Vec<()> = app.db.tenant(&caller).last().rows(FAULTS[n].1, &[]).await?;
    Ok("no fault")
}

/// Two rows, locked in one order or the other.
async fn deadlock(State(app): State<App>, caller: Caller, Path(n): Path<usize>) -> Result<&'static str> {
    const LOCK: [&str; 2] = [
        "select from items order by sku limit 1 for update",
        "select from items order by sku desc limit 1 for update",
    ];
    let mut tx = app.db.tenant(&caller);
    let _: Vec<()> = tx.rows(LOCK[n], &[]).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _: Vec<()> = tx.rows(LOCK[1 - n], &[]).await?;
    tx.commit().await?;
    Ok("locked both")
}

/// A bug of a module: it has a plan made, and finds no use for it.
async fn plan(State(app): State<App>, caller: Caller) -> Result<&'static str> {
    let sql = "explain (analyze, verbose) select 1 / (quantity - quantity) from items";
    let _: Vec<()> = app.db.tenant(&caller).last().rows(sql, &[]).await?;
    Ok("planned")
}

#[track_caller]
fn tells_nothing(answer: &Answer) {
    answer.any_problem();
    let headers = answer.headers.values().map(|value| value.to_str().unwrap_or_default());
    let said = headers.chain([answer.text().as_str()]).collect::<Vec<_>>().join("\n").to_lowercase();
    for part in TELLING {
        assert!(!said.contains(part), "{part:?} in {answer}");
    }
}

#[tokio::test]
async fn t_15_no_answer_repeats_what_the_database_said() {
    let app = TestApp::builder().module(&FAULTY).setting("APP_ENV", "production").start().await;
    app.expect_errors();
    let alice = app.alice();
    for (n, (code, sql)) in FAULTS.iter().enumerate() {
        let answer = alice.post(&format!("/test/fault/{n}"), json!({})).await;
        assert!(answer.status.is_client_error() || answer.status.is_server_error(), "{code} {sql}: {answer}");
        tells_nothing(&answer);
    }
    tells_nothing(&alice.post("/test/plan", json!({})).await);
    let (one, other) =
        tokio::join!(alice.post("/test/two-locks/0", json!({})), alice.post("/test/two-locks/1", json!({})));
    let victim = if one.status.is_success() { other } else { one };
    tells_nothing(&victim.assert(503));

    // The product's own routes.
    let item = json!({ "sku": "T-15", "name": "n" });
    alice.post("/api/v1/items", item.clone()).await.assert(201);
    tells_nothing(&alice.post("/api/v1/items", item).await.assert(409));
    for body in [
        json!({ "sku": "T-15\u{0}", "name": "n" }),
        json!({ "sku": "x".repeat(65), "name": "n" }),
        json!({ "sku": "q", "name": "n", "quantity": -1 }),
    ] {
        tells_nothing(&alice.post("/api/v1/items", body).await);
    }
    for path in
        ["/api/v1/items/no-uuid", "/api/v1/items?cursor=%00", "/api/v1/items?limit=99999999999999999999"]
    {
        tells_nothing(&alice.get(path).await);
    }
    // The log, which clients do not see, has it all.
    assert!(app.log().text().contains("hidden_table"), "the cause is logged");
    app.finish().await;
}
