//! Which pages may read answers in a browser.

use erp_core::factory::AppOptions;
use erp_testkit::{Answer, TestApp};
use http::{Method, Request};

const ITEMS: &str = "/api/v1/items";
const GOOD: &str = "https://app.example.com";

async fn ask(app: &TestApp, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.alice().request(request.body("").unwrap()).await
}

/// Nothing is granted, and caches are told that an origin makes a difference.
fn assert_nothing_granted(answer: &Answer) {
    let granted = answer.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
    assert_eq!(granted, None, "{answer}");
    assert!(answer.header("vary").contains("Origin"), "{answer}");
}

#[tokio::test]
async fn r_08_a_listed_origin_may_read_answers_with_credentials() {
    let list = format!("{GOOD}, http://intranet:8080");
    let app = TestApp::builder().setting("CORS_ORIGINS", &list).start().await;
    for (path, status) in
        [(ITEMS, 200), ("/nowhere", 404), ("/api/v1/items/x", 404), ("/api/v1/items?limit=x", 422)]
    {
        for origin in [GOOD, "http://intranet:8080"] {
            let answer = ask(&app, Method::GET, path, &[("origin", origin)]).await.assert(status);
            assert_eq!(answer.header("access-control-allow-origin"), origin);
            assert_eq!(answer.header("access-control-allow-credentials"), "true");
            assert_eq!(
                answer.header("access-control-expose-headers"),
                "ETag, Location, Retry-After, RateLimit, RateLimit-Policy, Idempotency-Replayed, Deprecation, \
                 Sunset, X-Request-ID, X-Correlation-ID, traceparent, Content-Disposition, Content-Range, Accept-Ranges, \
                 Repr-Digest"
            );
            assert!(answer.header("vary").contains("Origin"));
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn r_08_any_other_origin_is_granted_nothing_and_answered_all_the_same() {
    let app = TestApp::builder().setting("CORS_ORIGINS", GOOD).start().await;
    let others = [
        "null",
        "*",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com:443",
        "https://app.example.com/",
        "https://app.example.com.evil.example",
        "https://evil.example/app.example.com",
        "https://x.app.example.com",
        "https://example.com",
        "https://evilapp.example.com",
        "https://APP.example.com",
        "https://app.example.com, https://evil.example",
        "https://app.example.com https://evil.example",
        "http://localhost:3000",
        "",
    ];
    for origin in others {
        assert_nothing_granted(&ask(&app, Method::GET, ITEMS, &[("origin", origin)]).await.assert(200));
        let asked = [("origin", origin), ("access-control-request-method", "POST")];
        assert_nothing_granted(&ask(&app, Method::OPTIONS, ITEMS, &asked).await.assert(204));
    }
    assert_nothing_granted(&ask(&app, Method::GET, ITEMS, &[("origin", GOOD), ("origin", GOOD)]).await);
    assert_nothing_granted(&ask(&app, Method::GET, ITEMS, &[]).await.assert(200));
    assert_nothing_granted(&ask(&app, Method::GET, "/nowhere", &[]).await.assert(404));
    app.finish().await;
}

#[tokio::test]
async fn r_08_a_preflight_is_granted_what_the_path_knows() {
    let app = TestApp::builder().setting("CORS_ORIGINS", GOOD).start().await;
    let asked = [
        ("origin", GOOD),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "authorization,content-type,x-evil"),
    ];
    for (path, methods) in [
        (ITEMS, "GET, POST, HEAD, OPTIONS"),
        ("/api/v1/items/x", "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        ("/api/v1/auth/login", "POST, OPTIONS"),
    ] {
        let answer = ask(&app, Method::OPTIONS, path, &asked).await.assert(204);
        assert_eq!(answer.header("access-control-allow-origin"), GOOD);
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert_eq!(answer.header("access-control-allow-methods"), methods);
        assert_eq!(answer.header("access-control-max-age"), "7200");
        let headers = answer.header("access-control-allow-headers").to_ascii_lowercase();
        for name in [
            "authorization",
            "content-type",
            "if-match",
            "if-none-match",
            "idempotency-key",
            "x-request-id",
            "x-tenant-id",
            "traceparent",
        ] {
            assert!(headers.split(", ").any(|known| known == name), "{name}");
        }
        assert!(!headers.contains("x-evil") && !headers.contains('*'));
    }
    let unknown = ask(&app, Method::OPTIONS, "/nowhere", &asked).await.assert(404);
    assert_eq!(unknown.header("access-control-allow-methods"), "");
    app.finish().await;
}

#[tokio::test]
async fn r_08_without_a_list_development_knows_this_machine_and_nobody_else() {
    let app = TestApp::start().await;
    for origin in ["http://localhost:5173", "http://127.0.0.1:3000"] {
        let answer = ask(&app, Method::GET, ITEMS, &[("origin", origin)]).await;
        assert_eq!(answer.header("access-control-allow-origin"), origin);
    }
    for origin in [GOOD, "http://localhost.evil.example", "null"] {
        assert_nothing_granted(&ask(&app, Method::GET, ITEMS, &[("origin", origin)]).await);
    }
    app.finish().await;
    let app = TestApp::builder().setting("APP_ENV", "production").start().await;
    assert_nothing_granted(&ask(&app, Method::GET, ITEMS, &[("origin", "http://localhost:5173")]).await);
    app.finish().await;
}

#[tokio::test]
async fn r_08_the_switch_takes_all_of_it_away() {
    let options = AppOptions::new().enable_cors(false);
    let app = TestApp::builder().options(options).setting("CORS_ORIGINS", GOOD).start().await;
    let answer = ask(&app, Method::GET, "/ping", &[("origin", GOOD)]).await.assert(200);
    assert_eq!(answer.header("access-control-allow-origin"), "");
    app.finish().await;
}
