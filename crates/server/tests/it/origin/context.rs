//! The context of a request, from its header to its metrics; and what must never be part of it.

use std::collections::BTreeSet;

use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::{Caller, Role};
use erp_core::error::Result;
use erp_core::module::{Access, Module, Routes};
use erp_testkit::{Actor, JWT_SECRET, TestApp};
use http::Request;
use serde_json::{Value, json};

static CONTEXT: Module = Module { name: "context", routes, ..Module::BARE };

fn routes() -> Routes {
    Routes::new().get("/test/context", Access::SignedIn, database_setting)
}

struct Setting {
    tenant: String,
}
erp_core::from_row!(Setting { tenant });

/// The tenant that the database believes in; a task and a thread of the pool for blocking work log on the way.
async fn database_setting(State(app): State<App>, caller: Caller) -> Result<String> {
    tracing::info!("In the handler");
    let task = app.lifecycle.spawn("context-test", async { tracing::info!("In a task") });
    let _ = task.await;
    let span = app.lifecycle.spawn_blocking("context-test", tracing::Span::current).await;
    span.into_iter().for_each(|span| span.in_scope(|| tracing::info!("Beside blocking work")));
    let sql = "select current_setting('app.tenant_id', true) as tenant";
    let row: Option<Setting> = app.db.tenant_read(&caller).last().optional(sql, &[]).await?;
    Ok(row.map(|row| row.tenant).unwrap_or_default())
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

async fn metrics(app: &TestApp) -> String {
    app.anonymous().get("/metrics").await.assert(200).text()
}

#[tokio::test]
async fn header_claim_database_log_and_metrics_name_the_same_tenant() {
    let app = TestApp::builder().module(&CONTEXT).start().await;
    for (slug, actor) in [("acme", app.alice()), ("globex", app.bob())] {
        let tenant = app.tenant_id(slug).to_string();
        let (id, header) = (format!("five-stages-{slug}"), Request::get("/test/context"));
        let request = header.header("x-tenant-id", slug).header("x-request-id", &id).body("").unwrap();
        assert!(claims(actor.token()).as_object().unwrap().values().any(|claim| *claim == tenant));
        assert_eq!(actor.request(request).await.assert(200).text(), tenant, "the database's setting");
        let lines: Vec<Value> =
            app.log().lines().into_iter().filter(|line| line["correlationId"] == id).collect();
        for message in ["In the handler", "In a task", "Beside blocking work", "GET /test/context 200"] {
            let line = lines.iter().find(|line| line["message"] == message).expect(message);
            assert_eq!((&line["tenantId"], &line["module"]), (&json!(tenant), &json!("context")), "{line}");
        }
        let text = metrics(&app).await;
        let label = format!("tenant=\"{tenant}\"");
        let counted = [
            format!(
                "http_requests_total{{method=\"GET\",path=\"/test/context\",status_code=\"200\",{label}}} 1\n"
            ),
            format!("http_request_duration_ms_count{{method=\"GET\",path=\"/test/context\",{label}}} 1\n"),
            format!(
                "db_operations_total{{operation=\"select\",table=\"none\",success=\"true\",{label}}} 1\n"
            ),
        ];
        counted.iter().for_each(|series| assert!(text.contains(series), "{series}{text}"));
    }
    app.finish().await;
}

#[tokio::test]
async fn the_scrape_shows_the_process_the_pool_and_the_proof() {
    let app = TestApp::start().await;
    app.alice().get("/api/v1/items").await.assert(200);
    let text = metrics(&app).await;
    for line in ["isolation_proof_passed 1", "db_pool_waiting 0", "log_write_errors_total 0"] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name)).expect(name);
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
        "tokio_workers",
        "tokio_alive_tasks",
        "db_pool_max_connections",
        "isolation_proof_timestamp_seconds",
    ] {
        assert!(value(name) > 0.0, "{name}\n{text}");
    }
    app.finish().await;
}

/// Secrets wherever a client can put one, and whatever it then hears.
async fn send_secrets(app: &TestApp, actor: &Actor<'_>) -> Vec<String> {
    let mut heard = Vec::new();
    for name in
        ["authorization", "cookie", "x-api-key", "proxy-authorization", "x-csrf-token", "x-reset-token"]
    {
        for path in
            ["/api/v1/me", "/nowhere", "/api/v1/items?token=unseen-query", "/nowhere?resetToken=unseen-link"]
        {
            let request = Request::get(path).header(name, format!("Bearer unseen-{name}"));
            heard.push(app.anonymous().request(request.body("").unwrap()).await);
        }
    }
    let body = json!({
        "tenant": "acme", "email": "nobody@acme.example", "password": "unseen-password",
        "cardNumber": "unseen-4111111111111111", "totpSeed": "unseen-seed", "resetToken": "unseen-reset",
    });
    heard.push(app.anonymous().post("/api/v1/auth/login", body.clone()).await);
    let refused = json!({ "tenant": "acme", "email": "owner@acme.example", "password": "unseen-guess" });
    heard.push(app.anonymous().post("/api/v1/auth/login", refused).await);
    heard.push(app.anonymous().post("/api/v1/auth/login", json!({ "refreshToken": "unseen-refresh" })).await);
    heard.push(actor.post("/api/v1/items", body).await);
    let malformed = "{\"password\":\"unseen-malformed\",\"password\"";
    let request = Request::post("/api/v1/auth/login").header("content-type", "application/json");
    heard.push(app.anonymous().request(request.body(malformed).unwrap()).await);
    let credential = &app.person("acme", Role::Owner).credential;
    let right = json!({ "tenant": "acme", "email": credential.email, "password": credential.password });
    app.anonymous().post("/api/v1/auth/login", right).await.assert(200);
    heard.iter().for_each(|answer| assert!(!answer.status.is_server_error(), "{answer}"));
    heard.iter().map(|answer| format!("{:?} {}", answer.headers, answer.text())).collect()
}

#[tokio::test]
async fn o_02_secrets_are_in_no_log_no_metric_and_no_answer() {
    // The test's cluster asks for no password, so it takes this one.
    let with_password = |url: String| url.replacen("erp_app@", "erp_app:unseen-database@", 1);
    let secret = ("WEBHOOK_SECRET", "unseen-webhook-secret-of-32-bytes!!");
    let builder = TestApp::builder().setting(secret.0, secret.1).log_statements();
    let app = builder.start_through(with_password).await;
    let alice = app.alice();
    let heard = send_secrets(&app, &alice).await.join("\n");
    alice
        .post("/api/v1/items", json!({ "sku": "O-02", "name": "Seen by the server's log" }))
        .await
        .assert(201);
    let audit = json!(app.audit_of("acme").await).to_string();
    let places = [
        ("log", app.log().text()),
        ("log of PostgreSQL", app.database().server_log().await),
        ("metrics", metrics(&app).await),
        ("audit log", audit),
        ("answers", heard),
    ];
    let owner = &app.person("acme", Role::Owner).credential.password;
    let database = &app.edge().app.config.database;
    assert!(
        database.url.is_none() && database.system_url.is_none(),
        "no handler sees the way to the database"
    );
    for secret in ["unseen-", JWT_SECRET, alice.token(), owner] {
        for (place, text) in &places {
            let hit = text.find(secret).map(|at| &text[text.floor_char_boundary(at.saturating_sub(200))..at]);
            assert_eq!(hit, None, "a secret of {} bytes follows this in the {place}", secret.len());
        }
    }
    assert!(
        places[0].1.contains("authorization: [redacted]"),
        "the headers are logged, without their values"
    );
    assert!(
        places[1].1.contains("Seen by the server's log") || places[1].1.contains("Seen by the server''s log")
    );
    app.finish().await;
}

#[tokio::test]
async fn o_01_whatever_a_client_sends_each_line_is_one_object() {
    let app = TestApp::start().await;
    // What a header may hold, and what would end, colour or forge a line, or fill it.
    let evil = [b"x\", \"level\":\"error\\ \t\xe2\x80\xa8\xc2\x9b31m\xff".as_slice(), &[b'a'; 9000]].concat();
    for name in ["user-agent", "x-request-id", "x-tenant-id", "accept", "x-other", "referer"] {
        let request = Request::get("/api/v1/me").header(name, evil.as_slice());
        app.alice().request(request.body("").unwrap()).await;
    }
    let lines = app.log().lines(); // fails on what is not JSON
    assert!(lines.iter().all(|line| line["level"] != "error"));
    let texts = lines.iter().flat_map(|line| line.as_object().unwrap().values().filter_map(Value::as_str));
    assert!(texts.map(str::len).all(|length| length <= 8192));
    app.finish().await;
}

#[tokio::test]
async fn o_01_line_ends_and_escapes_in_paths_and_fields_stay_inside_their_line() {
    let app = TestApp::start().await;
    let evil = "x\r\n{\"level\":\"error\"}\u{1b}[2J\u{2028}\u{85}\u{9b}31m\u{202e}";
    let coded: String = evil.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for path in [format!("/{coded}"), format!("/api/v1/items/{coded}"), format!("/api/v1/items?q={coded}")] {
        app.alice().get(&path).await;
    }
    for field in ["tenant", "email", "password"] {
        let mut body = json!({ "tenant": "acme", "email": "x@acme.example", "password": "wrong" });
        body[field] = json!(evil);
        app.anonymous().post("/api/v1/auth/login", body).await;
    }
    app.alice().post("/api/v1/items", json!({ "sku": evil, "name": evil, evil: evil })).await;
    let lines = app.log().lines(); // fails on what is not JSON
    assert!(lines.len() >= 7 && lines.iter().all(|line| line["level"] != "error"));
    let raw = app.log().text();
    let control = raw.chars().find(|c| c.is_control() && *c != '\n' || "\u{2028}\u{202e}".contains(*c));
    assert_eq!(control, None, "{raw}");
    app.finish().await;
}

/// O-01: of a megabyte the parser reads as much as it has room for, and nothing of it is logged.
#[tokio::test]
async fn o_01_a_user_agent_of_a_megabyte_is_refused_and_logged_nowhere() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = TestApp::start().await;
    let mut stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
    let head = format!("GET /ping HTTP/1.1\r\nhost: a\r\nuser-agent: {}\r\n\r\n", "unseen".repeat(170_000));
    let _ = stream.write_all(head.as_bytes()).await; // refused midway
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert!(!app.log().text().contains("unseenunseen"));
    app.anonymous().get("/ping").await.assert(200);
    app.finish().await;
}

/// Every series of the exposition, without its value.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

/// One of the kinds of request with which a client chooses path, method, host and, by what it provokes, the status.
fn random(number: u32) -> Request<&'static str> {
    let (unknown, long) = (format!("M{number}"), "x".repeat(9000));
    let (method, path) = match number % 6 {
        0 => ("GET", format!("/random/{number}")),                     // 404
        1 => (unknown.as_str(), format!("/random/{number}?{number}")), // 404
        2 => (unknown.as_str(), "/api/v1/items".to_owned()),           // 405
        3 => ("GET", format!("/api/v1/items/{number}")),               // 401, or 404 when signed in
        4 => ("GET", format!("/{number}/{long}")),                     // 414
        _ => ("GET", format!("/api/v1/items?limit=x{number}")),        // 401, or 422 when signed in
    };
    let request = Request::builder().method(method).uri(path).header("host", format!("host-{number}"));
    request.body("").unwrap()
}

#[tokio::test]
async fn o_05_random_paths_methods_hosts_and_statuses_add_at_most_five_series() {
    let app = TestApp::start().await;
    let (alice, anonymous) = (app.alice(), app.anonymous());
    let mut statuses = BTreeSet::new();
    // One of each kind, and what is counted for the look at the metrics itself.
    for number in 0..12 {
        (if number < 6 { &alice } else { &anonymous }).request(random(number)).await;
    }
    metrics(&app).await;
    let before = series(&metrics(&app).await);
    for number in 0..5000 {
        let actor = if number % 7 == 0 { &alice } else { &anonymous };
        statuses.insert(actor.request(random(number)).await.status.as_u16());
    }
    let after = series(&metrics(&app).await);
    // What requests are counted in is written every few seconds, and may be so for the first time in between.
    let added: Vec<_> =
        after.difference(&before).filter(|series| !series.contains("table=\"usage")).collect();
    assert!(added.len() <= 5, "{added:#?}");
    assert!(statuses.len() >= 5, "{statuses:?}");
    app.finish().await;
}
