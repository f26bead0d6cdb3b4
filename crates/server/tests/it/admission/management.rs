//! The management surface: on its own port, behind a token, or open in development (O-02).

use std::net::SocketAddr;

use erp_testkit::TestApp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TOKEN: &str = "k3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0Bb";

/// Staging, as a test can have it: strict, and with the test's own database.
fn strict() -> erp_testkit::Builder {
    TestApp::builder().setting("APP_ENV", "staging").setting("REQUIRE_TLS", "false")
}

/// The status of an answer.
async fn ask(address: SocketAddr, request: &str) -> u16 {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer[9..12].parse().unwrap()
}

#[tokio::test]
async fn metrics_port_serves_operators_without_a_token_and_the_main_port_no_longer() {
    let app = strict().setting("METRICS_PORT", "0").setting("METRICS_TOKEN", TOKEN).start().await;
    let management = app.management().unwrap();
    for path in ["/metrics", "/health/detailed", "/log-level", "/livez", "/readyz", "/health", "/ping"] {
        assert_eq!(ask(management, &format!("GET {path}")).await, 200, "{path}");
    }
    for request in ["GET /api/v1/items", "GET /api/v1/me", "POST /api/v1/auth/login", "GET /nowhere"] {
        assert_eq!(ask(management, request).await, 404, "{request}");
    }
    let operator = app.anonymous().with_token(TOKEN);
    for path in ["/metrics", "/health/detailed", "/log-level"] {
        app.anonymous().get(path).await.assert(404);
        operator.get(path).await.assert(404);
    }
    app.anonymous().get("/readyz").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn without_a_port_of_its_own_it_wants_the_token() {
    let app = strict().setting("METRICS_TOKEN", TOKEN).start().await;
    for path in ["/metrics", "/health/detailed", "/log-level"] {
        app.anonymous().get(path).await.assert(404);
        app.alice().get(path).await.assert(404);
        app.anonymous().with_token(TOKEN).get(path).await.assert(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn the_log_level_changes_at_run_time_and_leaves_a_line() {
    let app = TestApp::start().await;
    let operator = app.anonymous();
    assert_eq!(operator.get("/log-level").await.assert(200).json()["level"], "debug");
    for level in ["error", "http"] {
        let answer = operator.put("/log-level", serde_json::json!({ "level": level })).await.assert(200);
        assert_eq!(answer.json()["level"], level);
    }
    let lines = app.log().with_message("The log level was changed");
    let changes: Vec<_> = lines.iter().map(|line| (&line["before"], &line["after"])).collect();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!((changes[0].0.as_str(), changes[0].1.as_str()), (Some("debug"), Some("error")));
    for wrong in [serde_json::json!({ "level": "loud" }), serde_json::json!({ "lever": "info" })] {
        operator.put("/log-level", wrong).await.assert(422);
    }
    assert_eq!(operator.get("/log-level").await.json()["level"], "http");
    app.finish().await;
}

#[tokio::test]
async fn the_connections_of_clients_are_a_check() {
    let app = TestApp::builder().setting("MAX_CONNECTIONS", "3").start().await;
    let check = async || {
        let health = app.anonymous().get("/health/detailed").await.assert(200).json();
        let checks = health["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == "connections").unwrap().clone()
    };
    let alone = check().await;
    assert_eq!((&alone["passed"], &alone["details"]["max"]), (&true.into(), &3.into()), "{alone}");
    assert!(alone["details"]["used"].as_u64().is_some_and(|used| (1..3).contains(&used)), "{alone}");
    let mut others = Vec::new();
    while check().await["passed"] == true {
        others.push(tokio::net::TcpStream::connect(app.address()).await.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(check().await["details"], serde_json::json!({ "used": 3, "max": 3 }));
    drop(others);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while check().await["passed"] != true {
        assert!(tokio::time::Instant::now() < deadline, "they are gone");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn t_14_operators_see_the_databases_version() {
    let app = TestApp::start().await;
    let text: String =
        app.sql().query_one("select current_setting('server_version')", &[]).await.unwrap().get(0);
    let version = erp_core::db::ServerVersion::parse(&text).unwrap();
    let health = app.anonymous().get("/health/detailed").await.assert(200).json();
    let checks = health["checks"].as_array().unwrap();
    let database = &checks.iter().find(|check| check["name"] == "database").unwrap()["details"];
    assert_eq!(database["version"], version.to_string(), "{database}");
    assert_eq!(database["warning"].as_str().map(str::to_owned), version.warning(), "{database}");
    let warned = app.log().lines().iter().any(|line| line["outdated"] == true);
    assert_eq!(warned, version.upgrade().is_some());
    app.finish().await;
}

#[tokio::test]
async fn without_metrics_there_is_no_such_path_and_nothing_is_recorded() {
    let app = TestApp::builder().setting("METRICS_ENABLED", "false").start().await;
    app.anonymous().get("/metrics").await.assert(404).problem("core.not_found");
    app.alice().get("/api/v1/items").await.assert(200);
    app.anonymous().get("/health/detailed").await.assert(200);
    assert!(!app.edge().app.metrics.is_enabled());
    app.finish().await;
}
