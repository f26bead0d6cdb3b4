//! The security headers of every answer (H-01 to H-03).

use axum::response::{IntoResponse as _, Response};
use erp_core::error::{Error, codes};
use erp_core::factory::AppOptions;
use erp_core::module::{Access, Csp, SecurityHeaders};
use erp_testkit::{Answer, TestApp};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ITEMS: &str = "/api/v1/items";
const JSON_CSP: &str = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

/// Helmet's, or stricter: what goes out over plain HTTP.
const EXPECTED: [(&str, &str); 12] = [
    ("content-security-policy", JSON_CSP),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("origin-agent-cluster", "?1"),
    ("referrer-policy", "no-referrer"),
    ("strict-transport-security", ""),
    ("x-content-type-options", "nosniff"),
    ("x-dns-prefetch-control", "off"),
    ("x-download-options", "noopen"),
    ("x-frame-options", "DENY"),
    ("x-permitted-cross-domain-policies", "none"),
    ("x-xss-protection", "0"),
];

async fn panics() -> &'static str {
    panic!("on purpose")
}

async fn hangs() -> &'static str {
    std::future::pending().await
}

/// A handler that says too much, and tries to loosen what everybody gets.
async fn loose() -> Response {
    let headers = [(header::CONTENT_SECURITY_POLICY, "default-src *"), (header::X_FRAME_OPTIONS, "ALLOWALL")];
    (headers, "loose").into_response()
}

async fn refuses(code: &'static erp_core::error::ErrorCode) -> Error {
    Error::new(code)
}

async fn of(app: &TestApp, method: Method, path: &str, status: u16) -> Answer {
    app.alice().send(method, path, None).await.assert(status)
}

#[tokio::test]
async fn h_01_every_answer_carries_the_twelve_headers() {
    let options = AppOptions::new().custom_routes(|routes| {
        routes
            .get("/panics", Access::Public, panics)
            .get("/hangs", Access::Public, hangs)
            .get("/loose", Access::Public, loose)
            .get("/overloaded", Access::Public, || refuses(&codes::OVERLOADED))
            .get("/conflict", Access::Public, || refuses(&codes::CONFLICT))
            .get("/unacceptable", Access::Public, || refuses(&codes::NOT_ACCEPTABLE))
    });
    let app = TestApp::builder().options(options).setting("REQUEST_TIMEOUT", "500ms").start().await;
    app.expect_errors();
    let made = app.alice().post(ITEMS, serde_json::json!({ "sku": "H-1", "name": "n", "quantity": 1 })).await;
    let item = format!("{ITEMS}/{}", made.json()["id"].as_str().unwrap());
    let stale = Request::delete(&item).header("if-match", "\"99\"").body("").unwrap();
    let text = Request::post(ITEMS).header("content-type", "text/plain").body("x").unwrap();
    let bad = Request::get(ITEMS).header("x-tenant-id", "a b").body("").unwrap();
    let fat = Request::get(ITEMS).header("x-padding", "x".repeat(17_000)).body("").unwrap();
    let foreign = Request::get(ITEMS).header("x-tenant-id", "globex").body("").unwrap();
    let answers = [
        made.assert(201),
        app.alice().request(stale).await.assert(412),
        app.alice().request(text).await.assert(415),
        app.alice().request(bad).await.assert(400),
        app.alice().request(fat).await.assert(431),
        app.alice().request(foreign).await.assert(403),
        of(&app, Method::GET, &item, 200).await,
        of(&app, Method::HEAD, &item, 200).await,
        of(&app, Method::DELETE, &item, 204).await,
        of(&app, Method::OPTIONS, ITEMS, 204).await,
        of(&app, Method::TRACE, ITEMS, 405).await,
        of(&app, Method::GET, "/nowhere", 404).await,
        of(&app, Method::GET, "/metrics", 200).await,
        of(&app, Method::GET, "/livez", 200).await,
        of(&app, Method::GET, &format!("{ITEMS}?limit=x"), 422).await,
        of(&app, Method::GET, &format!("{ITEMS}?q={}", "x".repeat(9000)), 414).await,
        of(&app, Method::GET, "/conflict", 409).await,
        of(&app, Method::GET, "/unacceptable", 406).await,
        of(&app, Method::GET, "/panics", 500).await,
        of(&app, Method::GET, "/hangs", 503).await,
        of(&app, Method::GET, "/overloaded", 503).await,
        of(&app, Method::GET, "/loose", 200).await,
        app.anonymous().get(ITEMS).await.assert(401),
        app.alice().post(ITEMS, "x".repeat(2_000_000)).await.assert(413),
    ];
    for answer in answers {
        carries_all(&answer.headers, &answer.to_string());
    }
    app.finish().await;
}

#[track_caller]
fn carries_all(headers: &HeaderMap, answer: &str) {
    let of = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
    for (name, value) in EXPECTED {
        assert_eq!(of(name), value, "{name}: {answer}");
        assert!(headers.get_all(name).iter().count() < 2, "{name} twice: {answer}");
    }
    assert_eq!((of("server"), of("x-powered-by")), ("", ""), "{answer}");
    assert_eq!(of("x-request-id"), of("x-correlation-id"), "{answer}");
    assert!(!of("x-request-id").is_empty(), "{answer}");
}

/// What a client hears that announces a body and sends none of it.
async fn without_its_body(app: &TestApp) -> (String, HeaderMap) {
    let mut stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let fields = head.lines().skip(1).map(|line| line.split_once(": ").unwrap());
    let headers = fields
        .map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap()));
    let headers = headers.collect();
    (answer, headers)
}

#[tokio::test]
async fn h_01_also_of_a_limit_of_a_body_that_does_not_come_and_of_plain_http() {
    let app = TestApp::builder().setting("BODY_TIMEOUT", "300ms").setting("RATE_LIMIT_MAX", "2");
    let app = app.setting("SPEED_LIMIT_STEP", "0").start().await;
    let (answer, headers) = without_its_body(&app).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    carries_all(&headers, &answer);
    app.anonymous().get(ITEMS).await;
    let answer = app.anonymous().get(ITEMS).await.assert(429);
    carries_all(&answer.headers, &answer.to_string());
    app.finish().await;
    let app = TestApp::builder().setting("APP_ENV", "production").setting("TRUSTED_PROXIES", "127.0.0.1");
    let app = app.setting("PUBLIC_URL", "https://api.example.com").start().await;
    for (method, status) in [(Method::GET, 308), (Method::POST, 403)] {
        let answer = of(&app, method, ITEMS, status).await;
        carries_all(&answer.headers, &answer.to_string());
    }
    app.finish().await;
}

#[tokio::test]
async fn h_02_what_is_behind_a_credential_is_not_stored() {
    let app = TestApp::start().await;
    for path in [ITEMS, "/api/v1/me", "/api/v1/items/x", "/nowhere"] {
        assert_eq!(app.alice().get(path).await.header("cache-control"), "no-store", "{path}");
        assert_eq!(app.anonymous().get(path).await.header("cache-control"), "no-store", "{path}");
    }
    app.finish().await;
}

#[tokio::test]
async fn h_03_hsts_is_on_every_answer_over_tls_and_on_no_other() {
    let app = TestApp::builder().setting("TRUSTED_PROXIES", "127.0.0.1").start().await;
    for path in ["/ping", ITEMS, "/nowhere"] {
        for (proto, hsts) in [("https", "max-age=31536000; includeSubDomains"), ("http", ""), ("", "")] {
            let request = Request::get(path).header("x-forwarded-proto", proto).body("").unwrap();
            let answer = app.anonymous().request(request).await;
            assert_eq!(answer.header("strict-transport-security"), hsts, "{proto}: {answer}");
            assert_eq!(answer.header("x-xss-protection"), "0");
        }
    }
    app.finish().await;
    let app = TestApp::start().await;
    let forged = Request::get("/ping").header("x-forwarded-proto", "https").body("").unwrap();
    assert_eq!(app.anonymous().request(forged).await.header("strict-transport-security"), "");
    app.finish().await;
}

/// A layer that answers some requests itself: the chain never sees them.
async fn gate(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    match request.uri().path() {
        "/teapot" => {
            (StatusCode::IM_A_TEAPOT, [("server", "kettle/1.0"), ("x-powered-by", "steam")]).into_response()
        }
        "/panic" => panic!("of a layer"),
        _ => next.run(request).await,
    }
}

#[tokio::test]
async fn h_04_a_panic_of_a_custom_layer_is_500_and_whole() {
    let options = AppOptions::new().custom_middleware(axum::middleware::from_fn(gate));
    let app = TestApp::builder().options(options).start().await;
    app.expect_errors();
    let answer = app.anonymous().get("/panic").await.assert(500);
    assert_eq!(answer.json()["code"], "core.internal", "{answer}");
    assert_ne!(answer.header("content-security-policy"), "", "{answer}");
    let lines = app.log().with_message("A request was answered outside of the chain");
    assert!(lines.len() == 1 && lines[0].to_string().contains("of a layer"), "{lines:?}");
    app.anonymous().get("/ping").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn h_01_answers_of_custom_layers_and_routes_of_their_own_headers() {
    let page = SecurityHeaders::json()
        .csp(Csp::new().default_src(["'none'"]).script_src(["'self'"]))
        .csp(Csp::new().default_src(["'self'"]).report_only())
        .without(&header::X_FRAME_OPTIONS)
        .set(HeaderName::from_static("permissions-policy"), HeaderValue::from_static("camera=()"));
    let options = AppOptions::new()
        .security_headers(SecurityHeaders::helmet())
        .custom_middleware(axum::middleware::from_fn(gate))
        .custom_routes(|routes| routes.get("/page", Access::Public, async || "page").headers(page));
    let app = TestApp::builder().options(options).start().await;
    let anonymous = app.anonymous();
    let page = anonymous.get("/page").await.assert(200);
    assert_eq!(page.header("content-security-policy"), "default-src 'none'; script-src 'self'");
    assert_eq!(page.header("content-security-policy-report-only"), "default-src 'self'");
    assert_eq!((page.header("x-frame-options"), page.header("permissions-policy")), ("", "camera=()"));
    for answer in [anonymous.get("/teapot").await.assert(418), anonymous.get("/ping").await.assert(200)] {
        assert_eq!(answer.header("x-frame-options"), "SAMEORIGIN", "{answer}");
        assert!(answer.header("content-security-policy").ends_with(";upgrade-insecure-requests"), "{answer}");
        assert_eq!((answer.header("server"), answer.header("x-powered-by")), ("", ""), "{answer}");
        assert_eq!(
            (answer.header("cache-control"), answer.header("vary")),
            ("no-store", "Origin"),
            "{answer}"
        );
    }
    app.finish().await;
}
