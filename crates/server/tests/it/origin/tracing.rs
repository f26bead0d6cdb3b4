//! A request's ids: in the answer, in the problem, on every line of the log, and for calls that go out (O-03).

use erp_core::auth::Trace;
use erp_core::factory::AppOptions;
use erp_core::module::Access;
use erp_core::shared::TraceContext;
use erp_testkit::TestApp;
use http::Request;

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn outgoing(trace: Trace) -> String {
    format!("{} {}", trace.context.unwrap(), trace.state.unwrap_or_default())
}

fn get(path: &str, headers: &[(&str, &str)]) -> Request<&'static str> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body("").unwrap()
}

#[tokio::test]
async fn o_03_a_trace_goes_through_the_answer_the_log_and_what_goes_out() {
    let options = AppOptions::new().custom_routes(|routes| routes.get("/outgoing", Access::Public, outgoing));
    let app = TestApp::builder().options(options).start().await;
    let sent = [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")];
    let answer = app.anonymous().request(get("/outgoing", &sent)).await.assert(200);
    let context = TraceContext::parse(answer.header("traceparent").as_bytes()).unwrap();
    assert_eq!(format!("{:032x}", context.trace_id), TRACE_ID);
    assert!(
        context.sampled && !answer.header("traceparent").contains("b7ad6b7169203331"),
        "a span of its own"
    );
    assert_eq!(answer.text(), format!("{context} a=1,b=2"));
    let again = app.anonymous().request(get("/outgoing", &sent)).await;
    assert_ne!(again.header("traceparent"), answer.header("traceparent"));

    let alice = app.alice().request(get("/api/v1/items", &[("traceparent", PARENT)])).await.assert(200);
    let lines = app.log().lines();
    let theirs = lines.iter().filter(|line| line["correlationId"] == alice.header("x-request-id"));
    let theirs: Vec<_> = theirs.collect();
    assert!(theirs.len() >= 2, "the statement and the request");
    for line in theirs {
        assert_eq!(line["traceId"], TRACE_ID, "{line}");
        assert!(alice.header("traceparent").contains(line["spanId"].as_str().unwrap()), "{line}");
    }
    app.finish().await;
}

#[tokio::test]
async fn o_03_a_malformed_traceparent_is_replaced() {
    let app = TestApp::start().await;
    for bad in [
        "",
        "x",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
    ] {
        let answer = app.anonymous().request(get("/ping", &[("traceparent", bad)])).await.assert(200);
        let context = TraceContext::parse(answer.header("traceparent").as_bytes()).unwrap();
        assert_eq!(answer.header("x-request-id"), format!("req_{:032x}", context.trace_id), "{bad}");
        assert!(!answer.header("traceparent").contains(TRACE_ID) && !context.sampled, "{bad}");
    }
    let twice = [("traceparent", PARENT), ("traceparent", PARENT)];
    let answer = app.anonymous().request(get("/ping", &twice)).await.assert(200);
    assert!(!answer.header("traceparent").contains(TRACE_ID));
    app.finish().await;
}

#[tokio::test]
async fn o_03_the_id_is_in_the_answer_the_problem_and_on_every_line() {
    let app = TestApp::start().await;
    for (id, path) in
        [("order-7_a.b", "/api/v1/items"), ("order-8", "/nowhere"), ("order-9", "/api/v1/items/x")]
    {
        let answer = app.alice().request(get(path, &[("x-request-id", id)])).await;
        assert_eq!((answer.header("x-request-id"), answer.header("x-correlation-id")), (id, id));
        if answer.status.is_client_error() {
            assert_eq!(answer.any_problem()["correlationId"], id);
        }
        let lines = app.log().lines();
        let line = lines.iter().find(|line| line["path"] == path && line["correlationId"] == id).unwrap();
        assert!(answer.header("traceparent").contains(line["traceId"].as_str().unwrap()), "{line}");
    }
    app.finish().await;
}
