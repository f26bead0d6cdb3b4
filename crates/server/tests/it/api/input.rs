//! Hostile bodies on every route that reads one as JSON: always a complete problem of 4xx, never 5xx. Those that take a file
//! are tried by the tests of files.

use erp_core::module::Route;
use erp_testkit::{Answer, Ready, TestApp};
use http::Request;
use serde_json::{Value, json};

use crate::api::fixtures::sweeps;

/// A route that reads a body, how to call it, and a body that it accepts.
struct Target<'app> {
    route: &'app Route,
    ready: Ready<'app>,
    body: Value,
}

impl Target<'_> {
    async fn send(&self, content_type: Option<&str>, body: impl Into<Vec<u8>>) -> Answer {
        let mut request = Request::builder().method(self.route.method.clone()).uri(&self.ready.path);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        self.ready.actor.request(request.body(body.into()).unwrap()).await
    }

    /// The accepted body as text, with `value` (JSON text) in the place of one field.
    fn with_field(&self, field: &str, value: &str) -> String {
        let mut body = self.body.clone();
        body[field] = json!("@@");
        body.to_string().replace("\"@@\"", value)
    }

    fn fields(&self) -> Vec<String> {
        self.body.as_object().unwrap().keys().cloned().collect()
    }
}

async fn targets(app: &TestApp) -> Vec<Target<'_>> {
    let (sweeps, mut targets) = (sweeps(app).await, Vec::new());
    for route in sweeps.routes() {
        if route.takes_form {
            continue; // the tests of pages send forms
        }
        let ready = sweeps.ready(route, "acme").await;
        if ready.success >= 400 {
            continue; // what it takes is not there, as its fixture says
        }
        if let (Some(body), None) = (ready.body.clone(), route.upload) {
            targets.push(Target { route, ready, body });
        }
    }
    assert!(targets.len() >= 4, "login, create, replace and patch read a body");
    targets
}

#[track_caller]
fn refused(answer: &Answer, allowed: &[u16]) {
    assert!(allowed.contains(&answer.status.as_u16()), "expected one of {allowed:?}: {answer}");
    answer.any_problem();
}

#[tokio::test]
async fn i_02_what_is_not_json_is_400() {
    let app = TestApp::start().await;
    for target in targets(&app).await {
        let good = target.body.to_string();
        let name = target.fields().remove(0);
        let mut bodies: Vec<Vec<u8>> = vec![
            b"".to_vec(),
            b" ".to_vec(),
            good.as_bytes()[..good.len() - 1].to_vec(),
            format!("{good}{good}").into_bytes(),
            format!("{good},").into_bytes(),
            ["\u{feff}".as_bytes(), good.as_bytes()].concat(),
            target.with_field(&name, "\"\\ud800\"").into_bytes(),
            target.with_field(&name, "\"\\udc00\\ud800\"").into_bytes(),
            target.with_field(&name, "NaN").into_bytes(),
            target.with_field(&name, "'x'").into_bytes(),
            target.with_field(&name, "\"a\nb\"").into_bytes(),
            [b"{\"".as_slice(), name.as_bytes(), b"\":\"\xff\xfe\"}"].concat(),
            good.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            vec![0; 64],
        ];
        bodies.push([b"{\"".as_slice(), name.as_bytes(), b"\":", "[".repeat(10_000).as_bytes()].concat());
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        bodies.push(target.with_field(&name, &deep).into_bytes());
        bodies.push(deep.into_bytes());
        for body in bodies {
            refused(&target.send(Some("application/json"), body).await, &[400, 422]);
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn i_02_values_that_do_not_fit_are_4xx() {
    // So many values are not what limits of sign-ins and links are for.
    let app = TestApp::builder()
        .setting("RATE_LIMIT_AUTH_MAX", "100")
        .setting("RATE_LIMIT_AUTH_WINDOW", "1s")
        .start()
        .await;
    for target in targets(&app).await {
        for field in target.fields() {
            for value in [
                "\"a\\u0000b\"",
                "\"\\u0000\"",
                "\"\\u001b[31m\"",
                "1e400",
                "-1e400",
                "-0",
                "-0.0",
                "1e3",
                "1.0000000000000001",
                "123456789012345678901234567890",
                "-9223372036854775809",
                "true",
                "[]",
                "{}",
                "[[\"a\"]]",
                "{\"$gt\": \"\"}",
            ]
            .into_iter()
            .take(if target.route.limit.is_some() { 2 } else { usize::MAX })
            // their failures make all wait
            {
                // A boolean may be true, and a list empty.
                let sample = &target.body[&field];
                if (sample.is_boolean() && value == "true") || (sample.is_array() && value == "[]") {
                    continue;
                }
                let answer = target.send(Some("application/json"), target.with_field(&field, value)).await;
                // 401: a sign-in with odd text is a failed sign-in; 410: an odd link is one that leads nowhere any more.
                refused(&answer, &[400, 401, 410, 422]);
            }
        }
        for body in ["null", "true", "1", "\"x\"", "[]", "[{}]"] {
            refused(&target.send(Some("application/json"), body).await, &[422]);
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn i_02_what_no_path_or_query_may_hold_is_4xx() {
    let app = TestApp::start().await;
    let long = "9".repeat(4000);
    for text in ["%00", "%ff", "%ed%a0%80", "%ef%bb%bf", "%0d%0a", "%u0000", "%", "1e400", "-0", &long] {
        for path in ["/api/v1/items/", "/assets/", "/"] {
            refused(&app.alice().get(&format!("{path}{text}")).await, &[404]);
        }
        for name in ["limit", "sort", "cursor"] {
            refused(&app.alice().get(&format!("/api/v1/items?{name}={text}")).await, &[400, 422]);
        }
        refused(&app.alice().get(&format!("/api/v1/items?{text}=1")).await, &[422]);
    }
    for text in ["%ff", "%ed%a0%80", "a%c0%80b", "%00"] {
        let answer = app.alice().get(&format!("/api/v1/items?limit=1&q={text}")).await;
        refused(&answer, &[422]);
        let violation = &answer.json()["errors"][0];
        assert_eq!(
            (&violation["pointer"], &violation["code"]),
            (&"?q".into(), &"character".into()),
            "{text}"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn i_03_unknown_and_duplicate_fields_are_422_and_name_their_place() {
    let app = TestApp::start().await;
    for target in targets(&app).await {
        let good = target.body.to_string();
        for field in
            ["tenant_id", "tenantId", "role", "is_admin", "id", "createdAt", "version", "__proto__", ""]
        {
            let body = good.replacen('{', &format!("{{\"{field}\":\"x\","), 1);
            let problem =
                target.send(Some("application/json"), body).await.assert(422).problem("core.invalid");
            assert_eq!(problem["errors"][0]["code"], "unknown", "{problem}");
        }
        for field in target.fields() {
            let body = good.replacen('{', &format!("{{\"{field}\":{},", target.body[&field]), 1);
            target.send(Some("application/json"), body).await.assert(422).problem("core.invalid");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn d_03_a_body_of_10_mb_is_413() {
    let app = TestApp::start().await;
    for target in targets(&app).await {
        let name = target.fields().remove(0);
        let body = target.with_field(&name, &format!("\"{}\"", "x".repeat(10_000_000)));
        target.send(Some("application/json"), body).await.assert(413).problem("core.too_large");
        let just_below = target.with_field(&name, &format!("\"{}\"", "x".repeat(1_000_000)));
        refused(&target.send(Some("application/json"), just_below).await, &[401, 410, 422]);
    }
    app.finish().await;
}

#[tokio::test]
async fn h_05_another_media_type_is_415() {
    let app = TestApp::start().await;
    for target in targets(&app).await {
        let good = target.body.to_string();
        for content_type in [
            None,
            Some(""),
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("text/json"),
            Some("*/*"),
        ] {
            let answer = target.send(content_type, good.clone()).await;
            answer.assert(415).problem("core.unsupported_media_type");
        }
        let answer = target.send(Some("Application/JSON; charset=utf-8"), good).await;
        assert!(answer.status.is_success(), "{answer}");
    }
    app.finish().await;
}

/// The pointers and codes of a problem, in order.
fn violations(problem: &Value) -> Vec<(&str, &str)> {
    let errors = problem["errors"].as_array().unwrap();
    let mut all: Vec<_> =
        errors.iter().map(|one| (one["pointer"].as_str().unwrap(), one["code"].as_str().unwrap())).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn i_01_all_violations_of_a_body_and_of_a_query_come_at_once() {
    let app = TestApp::start().await;
    let body = json!({ "sku": " ", "description": "a\tb", "quantity": -1, "tenant_id": "x" });
    let problem = app.alice().post("/api/v1/items", body).await.assert(422).problem("core.invalid");
    let expected = [
        ("/description", "character"),
        ("/name", "missing"),
        ("/quantity", "range"),
        ("/sku", "length"),
        ("/tenant_id", "unknown"),
    ];
    assert_eq!(violations(&problem), expected);
    let url = "/api/v1/items?limit=201&sort=price&q=&page=2";
    let problem = app.alice().get(url).await.assert(422).problem("core.invalid");
    let expected = [("?limit", "range"), ("?page", "unknown"), ("?q", "length"), ("?sort", "unknown")];
    assert_eq!(violations(&problem), expected);
    let twice = app.alice().get("/api/v1/items?limit=1&limit=2").await.assert(422).problem("core.invalid");
    assert_eq!(violations(&twice), [("?limit", "duplicate")]);
    app.finish().await;
}
