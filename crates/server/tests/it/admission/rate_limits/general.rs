//! The general limit: what is counted, for whom, and what a client is told.

use axum::body::Body;
use erp_core::factory::AppOptions;
use erp_core::limits::{Policy, Quota};
use erp_core::module::Access;
use erp_testkit::{Builder, TestApp};
use http::Request;
use jiff::SignedDuration;
use serde_json::json;
use sfv::{List, Parser};
use std::time::Duration;

use super::{HERE, THERE, Told, ask, get};

/// An app that allows so many requests, and slows nobody down.
fn limited(max: u32) -> Builder {
    TestApp::builder().setting("RATE_LIMIT_MAX", &max.to_string()).setting("SPEED_LIMIT_STEP", "0")
}

async fn nothing() {}

/// A route that anybody may call.
fn open() -> AppOptions {
    AppOptions::new().custom_routes(|routes| routes.get("/open", Access::Public, nothing))
}

#[tokio::test]
async fn l_03_the_headers_are_structured_fields_that_count_down() {
    let app = limited(100).options(open()).start().await;
    for used in 1..=3 {
        let told = get(&app, HERE, "/open", None).await;
        assert_eq!(told.status, 200);
        let policy = ("default".to_owned(), vec![("q".to_owned(), 100), ("w".to_owned(), 900)]);
        assert_eq!(told.entry("ratelimit-policy"), policy);
        assert_eq!(told.left(), ("default".to_owned(), 100 - used, 9));
    }
    app.clock().advance(SignedDuration::from_secs(12));
    assert_eq!(
        get(&app, HERE, "/open", None).await.left(),
        ("default".to_owned(), 97, 6),
        "one has come back"
    );
    assert!(Parser::new("limit=100, remaining=99, reset=900").parse::<List>().is_err());
    app.finish().await;
}

#[tokio::test]
async fn h_06_beyond_the_limit_the_answer_says_which_and_for_how_long() {
    let app = limited(3).options(open()).start().await;
    for _ in 0..3 {
        assert_eq!(get(&app, HERE, "/open", None).await.status, 200);
    }
    let told = get(&app, HERE, "/open", None).await;
    assert_eq!(told.status, 429);
    assert_eq!(told.left(), ("default".to_owned(), 0, 300));
    assert_eq!((told.header("retry-after"), told.header("cache-control")), ("300", "no-store"));
    let problem = told.json();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["violated-policies"], json!(["default"]));
    assert_eq!(problem["code"], "core.rate_limited");
    app.clock().advance(SignedDuration::from_secs(299));
    let told = get(&app, HERE, "/open", None).await;
    assert_eq!((told.status, told.header("retry-after")), (429, "1"), "a refused request consumes nothing");
    app.clock().advance(SignedDuration::from_secs(1));
    assert_eq!(get(&app, HERE, "/open", None).await.status, 200);
    assert_eq!(get(&app, HERE, "/open", None).await.status, 429);
    assert_eq!(get(&app, THERE, "/open", None).await.status, 200, "another address has a limit of its own");
    app.finish().await;
}

#[tokio::test]
async fn l_01_parallel_requests_pass_exactly_as_many_as_the_limit() {
    let app = limited(100).options(open()).start().await;
    let anonymous = app.anonymous();
    let answers = futures_util::future::join_all((0..300).map(|_| anonymous.get("/open"))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 100);
    assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), 200);
    app.finish().await;
}

#[tokio::test]
async fn what_is_refused_before_it_is_routed_counts_for_the_address() {
    let app = limited(5).start().await;
    let garbage = Some("garbage");
    let statuses = [
        get(&app, HERE, "/nowhere", None).await.status,
        get(&app, HERE, "/api/v1/me", None).await.status,
        get(&app, HERE, "/api/v1/me", garbage).await.status,
        ask(&app, HERE, Request::delete("/api/v1/me"), Body::empty()).await.status,
        get(&app, HERE, &format!("/{}", "x".repeat(9000)), None).await.status,
    ];
    assert_eq!(statuses, [404, 401, 401, 405, 414]);
    for (path, token) in [("/nowhere", None), ("/api/v1/me", None), ("/api/v1/me", garbage)] {
        let told = get(&app, HERE, path, token).await;
        assert_eq!(told.status, 429, "{path}");
    }
    // A browser must be able to ask for everybody in an office before each new path.
    assert_eq!(ask(&app, HERE, Request::options("/api/v1/me"), Body::empty()).await.status, 204);
    app.finish().await;
}

#[tokio::test]
async fn l_02_all_addresses_of_one_network_of_ipv6_share_a_limit() {
    let app = limited(1).options(open()).start().await;
    assert_eq!(get(&app, "2001:db8::1", "/open", None).await.status, 200);
    assert_eq!(get(&app, "2001:db8::ffff:2", "/open", None).await.status, 429);
    assert_eq!(get(&app, "2001:db8:0:1::1", "/open", None).await.status, 200);
    app.finish().await;
}

#[tokio::test]
async fn t_18_tenants_behind_one_address_do_not_take_from_each_other() {
    let app = limited(4).options(open()).start().await;
    let (alice, max, bob) = (app.alice(), app.max(), app.bob());
    for left in [3, 2, 1, 0] {
        let told = get(&app, HERE, "/api/v1/me", Some(alice.token())).await;
        assert_eq!((told.status, told.left().1), (200, left));
    }
    let refused = |told: Told| assert_eq!(told.status, 429);
    refused(get(&app, HERE, "/api/v1/me", Some(alice.token())).await);
    refused(get(&app, THERE, "/api/v1/me", Some(alice.token())).await); // a person takes the limit along
    refused(get(&app, HERE, "/api/v1/me", Some(max.token())).await); // the tenant has used up this address
    assert_eq!(get(&app, THERE, "/api/v1/me", Some(max.token())).await.status, 200);
    assert_eq!(get(&app, HERE, "/api/v1/me", Some(bob.token())).await.status, 200, "another tenant");
    let told = get(&app, HERE, "/open", None).await;
    assert_eq!((told.status, told.left().1), (200, 3), "and the address itself");
    app.finish().await;
}

#[tokio::test]
async fn a_tenant_can_have_a_limit_of_its_own() {
    let app = limited(2).start().await;
    let (alice, bob) = (app.alice(), app.bob());
    let plans = "insert into plans (name, rate_limit_max) values ('five', 5), ('any', null)";
    app.sql().batch_execute(plans).await.unwrap();
    let give = async |plan: &str| {
        let sql = format!("delete from tenant_plans; insert into tenant_plans (plan) values ('{plan}')");
        app.execute_in("acme", &sql).await;
    };
    let limit =
        async |token: &str| get(&app, HERE, "/api/v1/me", Some(token)).await.entry("ratelimit-policy").1[0].1;
    give("five").await;
    assert_eq!((limit(alice.token()).await, limit(bob.token()).await), (5, 2));
    give("any").await;
    app.clock().advance(SignedDuration::from_millis(4_999));
    assert_eq!(limit(alice.token()).await, 5);
    app.clock().advance(SignedDuration::from_millis(1));
    assert_eq!(limit(alice.token()).await, 2);
    let none = app.sql().batch_execute("update plans set rate_limit_max = 0").await;
    assert!(none.is_err(), "no tenant can be shut out by its limit");
    app.finish().await;
}

static TWICE: Policy = Policy::requests("twice", |_| Quota::new(2, Duration::from_secs(60)));

#[tokio::test]
async fn a_route_can_have_a_limit_of_its_own() {
    let options = AppOptions::new().custom_routes(|routes| {
        routes
            .get("/rare", Access::Public, nothing)
            .limit(&TWICE)
            .get("/members", Access::SignedIn, nothing)
            .limit(&TWICE)
            .get("/open", Access::Public, nothing)
    });
    let app = limited(10).options(options).start().await;
    assert_eq!(get(&app, HERE, "/rare", None).await.left(), ("twice".to_owned(), 1, 30));
    assert_eq!(get(&app, HERE, "/rare", None).await.status, 200);
    let told = get(&app, HERE, "/rare", None).await;
    assert_eq!((told.status, told.header("retry-after")), (429, "30"));
    assert_eq!(told.json()["violated-policies"], json!(["twice"]));
    let told = get(&app, HERE, "/open", None).await;
    assert_eq!(
        told.left(),
        ("default".to_owned(), 7, 90),
        "what was refused took nothing from the general limit"
    );
    let (alice, max) = (app.alice(), app.max());
    for status in [200, 200, 429] {
        assert_eq!(get(&app, HERE, "/members", Some(alice.token())).await.status, status);
    }
    assert_eq!(get(&app, HERE, "/members", Some(max.token())).await.status, 200, "each person has it");
    app.finish().await;
}

#[tokio::test]
async fn probes_and_operators_are_never_limited() {
    let app = limited(1).setting("RATE_LIMIT_WINDOW", "24h").start().await;
    // A kubelet asks 270 times in a quarter of an hour; a monitor may ask more often.
    for path in ["/ping", "/livez", "/readyz", "/health", "/health/detailed", "/metrics", "/log-level"] {
        for _ in 0..500 {
            let told = get(&app, HERE, path, None).await;
            assert_eq!(told.status, 200, "{path}");
            assert!(!told.headers.contains_key("ratelimit"), "{path}");
        }
    }
    assert_eq!(get(&app, HERE, "/nowhere", None).await.status, 404, "nothing was used");
    assert_eq!(get(&app, HERE, "/ping", None).await.status, 200);
    app.finish().await;
}

#[tokio::test]
async fn nothing_on_the_management_listener_is_limited() {
    let app = limited(1).setting("METRICS_PORT", "0").start().await;
    let address = app.management().unwrap();
    for path in ["/metrics", "/nowhere"] {
        for _ in 0..20 {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
            let status = if path == "/metrics" { "200" } else { "404" };
            assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn the_limit_can_be_left_out() {
    let app = limited(1).options(open().enable_rate_limit(false)).start().await;
    for _ in 0..5 {
        let told = get(&app, HERE, "/open", None).await;
        assert!(told.status == 200 && !told.headers.contains_key("ratelimit"));
    }
    app.finish().await;
}

#[tokio::test]
async fn decisions_are_counted_by_policy_and_outcome() {
    let app = limited(2).options(open()).start().await;
    for _ in 0..5 {
        get(&app, HERE, "/open", None).await;
    }
    let metrics = app.anonymous().get("/metrics").await.assert(200).text();
    for line in [
        r#"rate_limit_decisions_total{policy="default",outcome="allowed"} 2"#,
        r#"rate_limit_decisions_total{policy="default",outcome="refused"} 3"#,
        "rate_limit_fallback 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    app.finish().await;
}

#[tokio::test]
async fn l_01_a_clock_that_is_set_back_refuses_nobody() {
    let app = limited(10).setting("RATE_LIMIT_WINDOW", "5s").options(open()).start().await;
    for left in [9, 8, 7] {
        assert_eq!(get(&app, HERE, "/open", None).await.left().1, left);
    }
    app.clock().advance(SignedDuration::from_hours(-1));
    let told = get(&app, HERE, "/open", None).await;
    assert_eq!((told.status, told.left().1), (200, 6));
    app.clock().advance(SignedDuration::from_secs(5));
    assert_eq!(
        get(&app, HERE, "/open", None).await.left().1,
        9,
        "what was used came back by the time that passed"
    );
    app.finish().await;
}

#[tokio::test]
async fn operators_see_in_log_and_metric_which_tenant_is_throttled() {
    let app = limited(1).start().await;
    let alice = app.alice();
    assert_eq!(get(&app, HERE, "/api/v1/me", Some(alice.token())).await.status, 200);
    assert_eq!(get(&app, HERE, "/api/v1/me", Some(alice.token())).await.status, 429);
    let tenant = app.tenant_id("acme").to_string();
    let line = app.log().with_message("GET /api/v1/me 429").pop().unwrap();
    let user = app.person("acme", erp_core::auth::Role::Owner).user_id.to_string();
    assert_eq!((&line["tenantId"], &line["userId"]), (&json!(tenant), &json!(user)), "{line}");
    let metrics = app.anonymous().get("/metrics").await.assert(200).text();
    let counted =
        |line: &&str| line.starts_with("http_requests_total{") && line.contains("status_code=\"429\"");
    let counted = metrics.lines().find(counted).unwrap();
    assert!(counted.contains(&format!("tenant=\"{tenant}\"")), "{counted}");
    app.finish().await;
}
