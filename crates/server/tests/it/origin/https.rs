//! Plain HTTP is kept out where the server can tell (H-03).

use erp_testkit::{Answer, TestApp};
use http::{Method, Request};

const ITEMS: &str = "/api/v1/items";
const URL: &str = "https://api.example.com";

async fn ask(app: &TestApp, method: &Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.alice().request(request.body("").unwrap()).await
}

fn behind_a_proxy(url: Option<&str>) -> erp_testkit::Builder {
    let app = TestApp::builder().setting("APP_ENV", "production").setting("TRUSTED_PROXIES", "127.0.0.1");
    match url {
        Some(url) => app.setting("PUBLIC_URL", url),
        None => app,
    }
}

#[tokio::test]
async fn h_03_over_plain_http_reads_are_redirected_and_writes_refused() {
    let app = behind_a_proxy(Some(URL)).start().await;
    for proto in [&[("x-forwarded-proto", "http")][..], &[("forwarded", "for=192.0.2.1;proto=http")], &[]] {
        for path in ["/api/v1/items?limit=5&q=a%20b", "/nowhere", "//evil.example/x", "/api/v1/items/%2e%2e"]
        {
            for method in [Method::GET, Method::HEAD] {
                let answer = ask(&app, &method, path, proto).await.assert(308);
                assert_eq!(answer.header("location"), format!("{URL}{path}"));
                assert_eq!(answer.header("cache-control"), "no-store");
                assert!(answer.body.is_empty());
            }
        }
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            let answer = ask(&app, &method, ITEMS, proto).await.assert(403);
            let problem = answer.problem("core.https_required");
            assert!(problem["detail"].as_str().unwrap().contains("plain HTTP"));
            assert_eq!(answer.header("location"), "");
        }
    }
    ask(&app, &Method::GET, ITEMS, &[("x-forwarded-proto", "https")]).await.assert(200);
    ask(&app, &Method::GET, ITEMS, &[("forwarded", "for=192.0.2.1;proto=https")]).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn h_03_no_redirection_leads_where_the_request_says() {
    let app = behind_a_proxy(Some(URL)).start().await;
    for (name, value) in [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example;proto=http"),
        ("x-original-url", "//evil.example"),
    ] {
        let answer = ask(&app, &Method::GET, ITEMS, &[(name, value)]).await.assert(308);
        assert_eq!(answer.header("location"), format!("{URL}{ITEMS}"));
    }
    app.finish().await;
    let app = behind_a_proxy(None).start().await;
    let answer = ask(&app, &Method::GET, ITEMS, &[("host", "evil.example")]).await.assert(403);
    answer.problem("core.https_required");
    assert_eq!(answer.header("location"), "");
    app.finish().await;
}

#[tokio::test]
async fn h_03_probes_and_the_management_listener_are_exempt() {
    let token = "pL5vXo2Rk9Zt7Qw3Nc8Yb1Hs6Jd4Mf0G";
    let app = behind_a_proxy(Some(URL)).setting("METRICS_TOKEN", token).start().await;
    for path in ["/ping", "/livez", "/readyz", "/health"] {
        app.anonymous().get(path).await.assert(200);
    }
    app.anonymous().with_token(token).get("/metrics").await.assert(200);
    app.anonymous().with_token(token).get("/health/detailed").await.assert(308);
    app.finish().await;
    let app = behind_a_proxy(None).setting("METRICS_PORT", "0").start().await;
    let detailed = format!("http://{}/health/detailed", app.management().unwrap());
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<http_body_util::Empty<axum::body::Bytes>>();
    assert_eq!(client.get(detailed.parse().unwrap()).await.unwrap().status(), 200);
    app.finish().await;
}

#[tokio::test]
async fn h_03_where_nobody_can_tell_nothing_is_refused_and_the_start_warns() {
    let blind =
        |line: &serde_json::Value| line["message"].as_str().unwrap().starts_with("FORCE_HTTPS is on, but");
    let app = TestApp::builder().setting("APP_ENV", "production").start().await;
    app.alice().get(ITEMS).await.assert(200);
    assert_eq!(app.log().lines().iter().filter(|line| blind(line)).count(), 1);
    app.finish().await;
    let app = behind_a_proxy(None).setting("FORCE_HTTPS", "false").start().await;
    app.alice().get(ITEMS).await.assert(200);
    assert!(!app.log().lines().iter().any(blind));
    app.finish().await;
}
