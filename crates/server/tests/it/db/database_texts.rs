//! What PostgreSQL says stays inside: no answer holds SQL, names of the schema, plans, DETAIL or HINT (T-15).

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::{Caller, Role};
use erp_core::error::Result;
use erp_core::extract::Path;
use erp_core::from_row;
use erp_core::module::{Access, Module, Routes};
use erp_testkit::{Answer, TestApp};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Faults of every kind that a module could meet, by the code that PostgreSQL gives them.
const FAULTS: [(&str, &str); 14] = [
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
    (
        "42501",
        "insert into items (id, tenant_id, sku, name) values (gen_random_uuid(), gen_random_uuid(), 'theirs', 'n')",
    ),
    ("P0001", "select hidden_fault() as n"),
    ("42601", "select hidden_word from where"),
    ("21000", "select (select id from items) from items"),
];

/// A function that fails with all that an error may carry.
const RAISES: &str = "create function public.hidden_fault() returns int language plpgsql as $$ begin
    raise 'hidden_text' using detail = 'hidden_detail', hint = 'hidden_advice', column = 'hidden_colum',
        constraint = 'hidden_constraint', table = 'hidden_table', schema = 'hidden_schema'; end $$;
    grant execute on function public.hidden_fault() to public";

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

struct Number {
    n: i32,
}
from_row!(Number { n });

static FAULTY: Module = Module { name: "faulty", routes, ..Module::BARE };

fn routes() -> Routes {
    Routes::new()
        .post("/test/fault/{n}", Access::SignedIn, fault)
        .post("/test/two-locks/{n}", Access::SignedIn, deadlock)
        .post("/test/plan", Access::SignedIn, plan)
        .get("/test/cut", Access::SignedIn, cut)
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

/// A stream that fails when its first rows are with the client.
async fn cut(State(app): State<App>, caller: Caller) -> Result<Body> {
    let sql = "select 1000 / (20000 - n) as n from generate_series(1, 30000) n";
    let rows = app.db.tenant_read(&caller).stream::<Number>(sql, &[]).await?;
    Ok(Body::from_stream(rows.into_stream().map(|row| row.map(|row| format!("{}\n", row.n)))))
}

/// The lines of the request.
fn log_of(app: &TestApp, answer: &Answer) -> String {
    let id = answer.header("x-request-id");
    let lines = app.log().lines().into_iter().filter(|line| line["correlationId"] == id);
    lines.map(|line| line.to_string()).collect()
}

#[track_caller]
fn tells_nothing(answer: &Answer) {
    answer.any_problem();
    let headers = answer.headers.values().map(|value| value.to_str().unwrap_or_default());
    let said = headers.chain([answer.text().as_str()]).collect::<Vec<_>>().join("\n").to_lowercase();
    holds_nothing(&said);
}

#[track_caller]
fn holds_nothing(said: &str) {
    for part in TELLING {
        assert!(!said.contains(part), "{part:?} in {said}");
    }
}

/// Both that serve strangers; what development shows of a failure is for the developer who runs it.
#[tokio::test]
async fn t_15_no_answer_repeats_what_the_database_said() {
    for environment in ["staging", "production"] {
        Box::pin(no_answer_repeats_it(environment)).await;
    }
}

async fn no_answer_repeats_it(environment: &str) {
    let app = TestApp::builder().module(&FAULTY).setting("APP_ENV", environment).start().await;
    app.expect_errors();
    app.sql().batch_execute(RAISES).await.unwrap();
    let alice = app.alice();
    for (n, (code, sql)) in FAULTS.iter().enumerate() {
        let answer = alice.post(&format!("/test/fault/{n}"), json!({})).await;
        assert!(answer.status.is_client_error() || answer.status.is_server_error(), "{code} {sql}: {answer}");
        tells_nothing(&answer);
        let logged = log_of(&app, &answer);
        assert!(logged.contains(&format!("({code})")), "PostgreSQL did not say {code} of {sql}: {logged}");
    }
    let plan = alice.post("/test/plan", json!({})).await.assert(500);
    tells_nothing(&plan);
    assert!(log_of(&app, &plan).contains("'explain' has no place"), "no plan is made");
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
    let person = &app.person("acme", Role::Owner).credential;
    for email in [format!("{}\u{0}", person.email), "' or 1 = 1 --@example.com".to_owned()] {
        let body = json!({ "email": email, "password": person.password });
        tells_nothing(&app.anonymous().post("/api/v1/auth/login", body).await);
    }
    // The log, which clients do not see, has it all.
    let log = app.log().text();
    for part in ["hidden_table", "hidden_text"] {
        assert!(log.contains(part), "the cause is logged: no {part}");
    }
    app.finish().await;
}

#[tokio::test]
async fn t_15_a_stream_that_breaks_off_says_nothing_of_why() {
    let app = TestApp::builder().module(&FAULTY).setting("APP_ENV", "production").start().await;
    app.expect_errors();
    let mut stream = TcpStream::connect(app.address()).await.unwrap();
    let token = app.alice().token().to_owned();
    let request = format!(
        "GET /test/cut HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await; // however it ends, it is broken off
    let text = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(text.starts_with("http/1.1 200") && text.contains("\r\n0\n"), "rows came");
    assert!(!text.ends_with("\r\n0\r\n\r\n"), "it has no end");
    holds_nothing(&text);
    app.finish().await;
}

#[tokio::test]
async fn t_15_the_runtime_role_sees_no_statistics_of_values_and_no_statement_of_others() {
    let app = TestApp::start().await;
    app.sql().batch_execute("analyze items; analyze memberships").await.unwrap();
    let kept =
        "select count(*) from pg_stats where schemaname = 'public' and tablename in ('items', 'memberships')";
    let count: i64 = app.sql().query_one(kept, &[]).await.unwrap().get(0);
    assert!(count > 0, "there are statistics, for whom row level security does not bind");
    let runtime = app.database().runtime().await;
    // In a tenant or in none.
    for context in [String::new(), format!("set app.tenant_id = '{}'", app.tenant_id("acme"))] {
        runtime.batch_execute(&context).await.unwrap();
        let count: i64 = runtime.query_one(kept, &[]).await.unwrap().get(0);
        assert_eq!(count, 0, "{context}");
    }
    let others = "select count(*) from pg_stat_activity where usename <> current_user and query <> '<insufficient privilege>'";
    assert!(
        app.sql()
            .query_one(&others.replace("usename <> current_user", "true"), &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            > 0
    );
    assert_eq!(runtime.query_one(others, &[]).await.unwrap().get::<_, i64>(0), 0);
    for secret in ["pg_statistic", "pg_authid", "pg_statistic_ext_data", "pg_user_mapping"] {
        let refused = runtime.query(&format!("select * from {secret}"), &[]).await.unwrap_err();
        assert_eq!(refused.code().map(|state| state.code()), Some("42501"), "{secret}");
    }
    app.finish().await;
}
