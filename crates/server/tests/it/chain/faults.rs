//! Faults inside a handler: a panic, a slow statement, a client that leaves.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::time::{Duration, Instant};

use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::error::{Error, Result};
use erp_core::module::{Access, Module, Routes};
use erp_testkit::{Pooler, TestApp};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;

const SECRET: &str = "the-drawer-on-the-left";

static FAULTY: Module = Module { name: "faulty", routes, ..Module::BARE };

fn routes() -> Routes {
    Routes::new()
        .get("/test/broken", Access::Public, panics)
        .post("/test/panic-in-transaction", Access::SignedIn, panics_in_transaction)
        .get("/test/error", Access::Public, fails)
        .get("/test/sleep", Access::SignedIn, sleeps)
}

async fn panics() -> &'static str {
    panic!("{SECRET}")
}

async fn fails() -> Result<&'static str> {
    Err(Error::internal(SECRET))
}

async fn panics_in_transaction(
    axum::extract::State(app): axum::extract::State<App>,
    caller: Caller,
) -> Result<&'static str> {
    let mut tx = app.db.tenant(&caller);
    let _: Vec<()> = tx.rows("update items set name = 'panicked'", &[]).await?;
    panic!("{SECRET}")
}

async fn sleeps(
    axum::extract::State(app): axum::extract::State<App>,
    caller: Caller,
) -> Result<&'static str> {
    let _: Vec<()> = app.db.tenant_read(&caller).last().rows("select pg_sleep(60)", &[]).await?;
    Ok("slept")
}

async fn sleeping(app: &TestApp) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' \
        and query like '%pg_sleep(60)' and pid <> pg_backend_pid()";
    app.sql().query_one(sql, &[]).await.unwrap().get(0)
}

/// Waits until as many statements sleep, at most 1 s.
async fn until_sleeping(app: &TestApp, wanted: i64) {
    let started = Instant::now();
    while sleeping(app).await != wanted {
        assert!(started.elapsed() < Duration::from_secs(1), "{wanted} statements should sleep by now");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn h_04_a_panic_is_a_500_that_tells_nothing_and_the_process_lives() {
    let app = TestApp::builder().module(&FAULTY).setting("APP_ENV", "production").start().await;
    app.expect_errors();
    for path in ["/test/broken", "/test/error"] {
        let answer = app.anonymous().get(path).await.assert(500);
        let problem = answer.problem("core.internal");
        assert_eq!(problem.get("debug"), None);
        for leak in [SECRET, "panic", "src/", ".rs", "erp_core"] {
            assert!(!answer.text().contains(leak), "{answer}");
        }
        assert!(app.log().text().contains(SECRET));
    }
    let failures = app.log().with_message("Request failed");
    assert_eq!(failures.len(), 2, "each failure is logged once");
    let backtrace = failures[1]["backtrace"].as_str();
    match Backtrace::capture().status() {
        BacktraceStatus::Captured => assert!(backtrace.is_some_and(|text| text.contains("erp_core"))),
        _ => assert_eq!(backtrace, None, "RUST_BACKTRACE asks for none"),
    }
    app.anonymous().get("/ping").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn in_development_a_problem_says_why() {
    let app = TestApp::builder().module(&FAULTY).start().await;
    app.expect_errors();
    let problem = app.anonymous().get("/test/error").await.problem("core.internal");
    assert_eq!(problem["debug"]["causes"][0], SECRET);
    let backtrace = problem["debug"]["backtrace"].to_string();
    match Backtrace::capture().status() {
        BacktraceStatus::Captured => assert!(backtrace.contains("faults::fails"), "{backtrace}"),
        _ => assert_eq!(backtrace, "null", "RUST_BACKTRACE asks for none"),
    }
    app.finish().await;
}

#[tokio::test]
async fn t_04_a_panic_rolls_its_transaction_back() {
    let app = TestApp::builder().module(&FAULTY).setting("DATABASE_MAX_CONNECTIONS", "1").start().await;
    app.expect_errors();
    let before = app.alice().get("/api/v1/items").await.assert(200).json();
    app.alice().post("/test/panic-in-transaction", serde_json::Value::Null).await.assert(500);
    assert_eq!(app.alice().get("/api/v1/items").await.assert(200).json(), before);
    app.finish().await;
}

#[tokio::test]
async fn d_07_at_the_deadline_the_client_gets_503_and_the_statement_is_cancelled() {
    let app = TestApp::builder().module(&FAULTY).setting("REQUEST_TIMEOUT", "300ms").start().await;
    app.expect_errors();
    let started = Instant::now();
    let answer = app.alice().get("/test/sleep").await.assert(503);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    answer.problem("core.timeout");
    assert!(!answer.header("retry-after").is_empty());
    until_sleeping(&app, 0).await;
    app.finish().await;
}

#[tokio::test]
async fn d_07_a_statement_ends_with_its_limit() {
    let app = TestApp::builder().module(&FAULTY).setting("DATABASE_TIMEOUT", "200ms").start().await;
    app.expect_errors();
    app.alice().get("/test/sleep").await.assert(503).problem("core.timeout");
    app.finish().await;
}

#[tokio::test]
async fn d_07_a_reader_that_hangs_up_takes_its_statement_along() {
    hang_up_while_it_sleeps(TestApp::builder().module(&FAULTY).start().await).await;
}

#[tokio::test]
async fn d_07_a_stream_of_http2_that_is_reset_takes_its_statement_along() {
    let app = TestApp::builder().module(&FAULTY).start().await;
    let stream = TokioIo::new(tokio::net::TcpStream::connect(app.address()).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let get = |path: &str| {
        let request = http::Request::get(format!("http://{}{path}", app.address()));
        let request = request.header("authorization", format!("Bearer {}", app.alice().token()));
        request.body(Empty::<bytes::Bytes>::new()).unwrap()
    };
    let sleeping = tokio::spawn(client.send_request(get("/test/sleep")));
    until_sleeping(&app, 1).await;
    sleeping.abort();
    until_sleeping(&app, 0).await;
    let answer = client.send_request(get("/api/v1/items")).await.unwrap();
    assert_eq!(answer.status(), 200, "over the same connection");
    app.finish().await;
}

/// PgBouncer 1.18 ended itself when the client of a cancel request hung up at once.
#[tokio::test]
async fn d_07_behind_a_pooler_which_survives_it() {
    if Pooler::is_installed("D-07 behind a pooler") {
        hang_up_while_it_sleeps(TestApp::builder().module(&FAULTY).pooled().start().await).await;
    }
}

async fn hang_up_while_it_sleeps(app: TestApp) {
    let mut stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
    let head = format!(
        "GET /test/sleep HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        app.alice().token()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    until_sleeping(&app, 1).await;
    drop(stream);
    until_sleeping(&app, 0).await;
    app.alice().get("/api/v1/items").await.assert(200);
    app.finish().await;
}
