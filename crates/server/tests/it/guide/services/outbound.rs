//! A module that calls other services.

use std::collections::BTreeMap;
use std::convert::Infallible;

use erp_core::answer::NoContent;
use erp_core::config::Section;
use erp_core::error::Result;
use erp_core::extract::Json;
use erp_core::module::{Access, Module, Routes};
use erp_core::outbound::Destination;
use erp_core::resource::Call;
use erp_testkit::TestApp;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

erp_core::settings! {
    /// Exchange rates.
    pub struct RatesSettings in "Rates" of RATES;

    /// Service of exchange rates.
    RATES_URL service: Destination { default: Defaults::all("https://rates.example.com/v1") };
}

async fn latest(call: Call) -> Result<Json<BTreeMap<String, Value>>> {
    let service = &call.app.settings::<RatesSettings>()?.service;
    let answer = call.app.outbound.get(call.caller.trace(), service.at("/latest?base=EUR")).send().await?;
    Ok(Json(answer.json()?))
}

erp_core::input! {
    /// Where to say hello.
    Hook { url: String }
}

async fn greet(call: Call, Json(hook): Json<Hook>) -> Result<NoContent> {
    let url = call.app.outbound.admit(call.caller.tenant(), "/url", &hook.url).await?;
    let greeting = json!({ "hello": "world" });
    call.app.outbound.post(call.caller.trace(), &url).json(&greeting).once().send().await?.success()?;
    Ok(NoContent)
}

static RATES: Module = Module {
    name: "rates",
    settings: &[Section::of::<RatesSettings>()],
    routes: || {
        Routes::new().get("/api/v1/rates", Access::SignedIn, latest).post(
            "/api/v1/greetings",
            Access::SignedIn,
            greet,
        )
    },
    ..Module::BARE
};

/// A service on this machine: rates, and a hook that takes whatever comes.
async fn service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = async |request: http::Request<Incoming>| {
        let trace = request.headers()["traceparent"].to_str().unwrap().to_owned();
        Ok::<_, Infallible>(match request.uri().path() {
            "/v1/latest" => http::Response::new(json!({ "USD": "1.08", "trace": trace }).to_string()),
            _ => http::Response::builder().status(202).body(String::new()).unwrap(),
        })
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    port
}

#[tokio::test]
async fn a_module_calls_other_services_as_the_guide_shows() {
    let port = service().await;
    let app = TestApp::builder()
        .module(&RATES)
        .setting("RATES_URL", &format!("http://127.0.0.1:{port}/v1"))
        .setting("OUTBOUND_ALLOW", &format!("hooks.example.com:{port}"))
        .name("hooks.example.com", [127, 0, 0, 1].into())
        .start()
        .await;
    let rates = app.alice().get("/api/v1/rates").await.assert(200);
    assert_eq!(rates.json()["USD"], "1.08");
    assert_eq!(rates.json()["trace"], rates.header("traceparent"));
    let hook = async |url: &str| app.alice().post("/api/v1/greetings", json!({ "url": url })).await;
    hook(&format!("http://hooks.example.com:{port}/hook")).await.assert(204);
    for inside in
        ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1/", "http://nowhere.example.com/"]
    {
        let problem = hook(inside).await.assert(422);
        assert_eq!(problem.json()["errors"][0]["pointer"], "/url", "{inside}");
    }
    let calls = app.log().with_message("Outbound call");
    assert_eq!(calls.len(), 2, "what was refused was not called: {calls:#?}");
    assert_eq!(calls[0]["destination"], "RATES_URL");
    assert_eq!(calls[0]["correlationId"], rates.header("x-request-id"));
    assert_eq!(calls[1]["url"], format!("http://hooks.example.com:{port}"));
    let metrics = app.anonymous().get("/metrics").await.assert(200);
    assert!(
        metrics.text().contains("outbound_requests_total{destination=\"RATES_URL\",outcome=\"success\"} 1")
    );
    app.finish().await;
}

#[tokio::test]
async fn a_service_that_is_not_there_is_a_502_of_ours() {
    let app = TestApp::builder().module(&RATES).start().await;
    app.expect_errors();
    let problem = app.alice().get("/api/v1/rates").await.assert(502);
    assert_eq!(problem.any_problem()["code"], "core.external_failed");
    app.finish().await;
}
