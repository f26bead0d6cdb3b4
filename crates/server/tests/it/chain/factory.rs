//! An application with middleware, routes and probes of its own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::Response;
use erp_core::app::App;
use erp_core::error::{Error, codes};
use erp_core::factory::{AppOptions, modules};
use erp_core::health::OWN_CHECKS;
use erp_core::middleware::Peer;
use erp_core::module::{Access, Module, Probe};
use erp_modules::PRODUCT;
use erp_testkit::TestApp;
use http::HeaderValue;

async fn tag(mut response: Response) -> Response {
    response.headers_mut().insert("x-served-by", HeaderValue::from_static("erp"));
    response
}

/// Answers one path itself: the chain never sees it.
async fn intercept(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    match request.uri().path() {
        "/intercepted" => {
            Response::new(request.extensions().get::<Peer>().unwrap().address.to_string().into())
        }
        _ => next.run(request).await,
    }
}

async fn custom(Extension(Peer { address: client, .. }): Extension<Peer>, State(app): State<App>) -> String {
    format!("{} from {client}", app.version)
}

#[tokio::test]
async fn custom_middleware_is_around_everything_and_custom_routes_are_inside() {
    let options = AppOptions::new()
        .custom_middleware(axum::middleware::map_response(tag))
        .custom_middleware(axum::middleware::from_fn(intercept))
        .custom_routes(|routes| {
            routes.get("/custom", Access::Public, custom).get("/custom/members", Access::SignedIn, custom)
        });
    let app = TestApp::builder().options(options).start().await;
    let answer = app.anonymous().get("/custom").await.assert(200);
    assert!(answer.text().ends_with("from 127.0.0.1"));
    assert_eq!(answer.header("x-served-by"), "erp");
    assert_eq!(answer.header("x-frame-options"), "DENY");
    app.anonymous().get("/custom/members").await.assert(401);
    app.alice().get("/custom/members").await.assert(200);
    let intercepted = app.anonymous().get("/intercepted").await.assert(200);
    assert_eq!((intercepted.text().as_str(), intercepted.header("x-served-by")), ("127.0.0.1", "erp"));
    assert_eq!(app.anonymous().get("/nowhere").await.assert(404).header("x-served-by"), "erp");
    app.finish().await;
}

#[tokio::test]
async fn layers_that_carry_no_isolation_can_be_left_out() {
    async fn slow() -> &'static str {
        tokio::time::sleep(Duration::from_millis(200)).await; // longer than REQUEST_TIMEOUT
        "slow"
    }
    let options = AppOptions::new()
        .enable_request_log(false)
        .enable_security_headers(false)
        .enable_deadline(false)
        .custom_routes(|routes| routes.get("/slow", Access::Public, slow));
    let app = TestApp::builder().options(options).setting("REQUEST_TIMEOUT", "50ms").start().await;
    let answer = app.anonymous().get("/slow").await.assert(200);
    assert!(!answer.headers.contains_key("x-frame-options"));
    assert!(answer.headers.contains_key("x-request-id"));
    app.anonymous().get("/api/v1/items").await.assert(401);
    assert!(app.log().with_message("GET /slow 200").is_empty());
    app.finish().await;
}

static CHECKS: AtomicU32 = AtomicU32::new(0);
static BROKEN: AtomicU32 = AtomicU32::new(0);

static PROBED: Module = Module { name: "probed", probes: PROBES, ..Module::BARE };
const PROBES: &[Probe] = &[
    Probe { name: "needed", required: true, timeout: Duration::from_secs(5), check: |_| Box::pin(needed()) },
    Probe {
        name: "slow",
        required: false,
        timeout: Duration::from_millis(10),
        check: |_| Box::pin(std::future::pending()),
    },
];

async fn needed() -> Result<(), Error> {
    CHECKS.fetch_add(1, Ordering::SeqCst);
    match BROKEN.load(Ordering::SeqCst) {
        0 => Ok(()),
        1 => Err(Error::new(&codes::UNAVAILABLE).because("the drawer is locked")),
        _ => panic!("the drawer fell"),
    }
}

#[tokio::test]
async fn each_check_has_a_name_of_its_own() {
    let app = TestApp::start().await;
    let health = app.anonymous().get("/health/detailed").await.assert(200).json();
    let names: Vec<_> =
        health["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    let probes: Vec<_> = modules(&PRODUCT).flat_map(|module| module.probes).map(|probe| probe.name).collect();
    let known: BTreeSet<_> = OWN_CHECKS.iter().chain(&probes).copied().collect();
    assert_eq!(names.iter().copied().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    assert_eq!(known.len(), OWN_CHECKS.len() + probes.len(), "{known:?}");
    let unknown: Vec<_> = names.iter().filter(|name| !known.contains(*name)).collect();
    assert!(unknown.is_empty(), "add to OWN_CHECKS: {unknown:?}");
    app.finish().await;
}

#[tokio::test]
async fn modules_probes_decide_readiness_and_are_asked_once_a_second() {
    let app = TestApp::builder().module(&PROBED).start().await;
    let before = CHECKS.load(Ordering::SeqCst);
    for _ in 0..20 {
        app.anonymous().get("/readyz").await.assert(200);
    }
    assert!(CHECKS.load(Ordering::SeqCst) <= before + 5, "twenty requests within a second or few");
    let detailed = app.anonymous().get("/health/detailed").await.assert(200).json();
    assert_eq!(detailed["status"], "degraded");
    let slow = detailed["checks"].as_array().unwrap().iter().find(|check| check["name"] == "slow").unwrap();
    assert_eq!(slow["required"], false);
    assert_eq!(slow["details"]["failure"], "no answer within 10ms");
    for (broken, said) in [(1, "the drawer is locked"), (2, "the drawer fell")] {
        BROKEN.store(broken, Ordering::SeqCst);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !app.anonymous().get("/health/detailed").await.text().contains(said) {
            assert!(tokio::time::Instant::now() < deadline, "{said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let unready = app.anonymous().get("/readyz").await.assert(503);
        assert_eq!(unready.json()["failed"], serde_json::json!(["needed"]));
        assert!(!unready.text().contains("drawer"), "why is for operators");
    }
    app.anonymous().get("/livez").await.assert(200);
    app.expect_errors();
    app.finish().await;
}
