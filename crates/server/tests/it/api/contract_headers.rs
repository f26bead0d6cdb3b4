//! The headers that the contract derives from the route table, and the server: neither has what the other has not.

use erp_core::extract::violations;
use erp_core::module::Route;
use erp_testkit::{Actor, Answer, TestApp};
use http::{Method, Request};
use serde_json::Value;

use crate::api::contract::{check_headers, document, resolve};
use crate::api::fixtures::sweeps;

const KEY: &str = "Idempotency-Key";
const CONDITION: &str = "If-None-Match";

fn operation<'a>(document: &'a Value, route: &Route) -> &'a Value {
    &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()]
}

fn parameter<'a>(operation: &'a Value, name: &str) -> Option<&'a Value> {
    operation["parameters"].as_array().into_iter().flatten().find(|parameter| parameter["name"] == name)
}

/// What `operation` declares for the answer's status.
fn declared<'a>(document: &'a Value, operation: &'a Value, answer: &Answer) -> &'a Value {
    let response = operation["responses"].get(answer.status.as_u16().to_string());
    resolve(document, response.unwrap_or_else(|| panic!("undeclared: {answer}")))
}

/// The codes that a response declares.
fn codes<'a>(document: &'a Value, operation: &'a Value, status: &str) -> Vec<&'a str> {
    let response = resolve(document, &operation["responses"][status]);
    let examples = &response["content"]["application/problem+json"]["examples"];
    examples.as_object().into_iter().flatten().map(|(code, _)| code.as_str()).collect()
}

#[test]
fn h_09_what_changes_something_for_a_member_declares_its_key_and_nothing_else_does() {
    let document = document();
    let mut taking = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let is_member = operation["security"].to_string().contains("accessToken");
            let takes = is_member && method != "get";
            let name = format!("{method} {path}");
            assert_eq!(parameter(operation, KEY).is_some(), takes, "{name}");
            let mut replayed = false;
            for response in operation["responses"].as_object().unwrap().values() {
                replayed |= resolve(&document, response)["headers"].get("Idempotency-Replayed").is_some();
            }
            assert_eq!(replayed, takes, "{name}");
            for (status, code) in [
                ("400", "core.malformed_header"),
                ("409", "core.idempotency_in_flight"),
                ("422", "core.idempotency_key_reused"),
            ] {
                let has = codes(&document, operation, status).contains(&code);
                assert!(has == takes || status == "400", "{name} {code}");
                assert!(has || !takes, "{name} {code}");
            }
            if takes {
                let conflict = resolve(&document, &operation["responses"]["409"]);
                assert!(conflict["headers"]["Retry-After"].is_object(), "{name}");
                taking += 1;
            }
        }
    }
    assert!(taking >= 4, "items are made, replaced, changed and deleted");
}

#[test]
fn h_10_what_reads_with_a_tag_declares_the_condition_and_304() {
    let document = document();
    let mut conditional = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let tagged = method == "get" && operation["responses"]["200"]["headers"].get("ETag").is_some();
            let name = format!("{method} {path}");
            assert_eq!(parameter(operation, CONDITION).is_some(), tagged, "{name}");
            let unchanged = operation["responses"].get("304");
            assert_eq!(unchanged.is_some(), tagged, "{name}");
            if let Some(unchanged) = unchanged {
                assert!(unchanged["headers"]["ETag"].is_object() && unchanged.get("content").is_none());
                conditional += 1;
            }
        }
    }
    assert!(conditional >= 1, "an item is read with its tag");
}

/// The pattern of a header must take what the header's own parser takes, and no more.
#[test]
fn h_09_the_pattern_of_a_key_is_that_of_its_parser() {
    let document = document();
    let schema = &parameter(&document["paths"]["/api/v1/items"]["post"], KEY).unwrap()["schema"];
    let longest = "x".repeat(255);
    for good in ["a", "8e03978e-40d5", r"a\b", "\"a b\"", r#""a\"b\\c""#, &longest] {
        assert!(violations(&document, schema, &good.into()).is_empty(), "{good:?}");
    }
    let long = "x".repeat(256);
    for bad in ["", "\"\"", "a b", "\"a", "a\"b", r#""a\b""#, r#""a"b""#, "\"a\tb\"", "é", &long] {
        assert!(!violations(&document, schema, &bad.into()).is_empty(), "{bad:?}");
    }
}

async fn send(actor: &Actor<'_>, method: &Method, path: &str, header: (&str, &str), body: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header(header.0, header.1);
    let request = request.header("content-type", "application/json").body(body.to_owned()).unwrap();
    actor.request(request).await
}

#[tokio::test]
async fn h_09_h_10_what_is_declared_is_taken_and_answered() {
    let app = TestApp::start().await;
    let document = document();
    let sweeps = sweeps(&app).await;
    // What takes a file is sent one by the tests of files, under a key too, and what takes a form is sent one by the tests of
    // pages. Who has signed out repeats nothing.
    let ends = |path: &str| path.starts_with("/api/v1/auth/logout");
    for route in
        sweeps.routes().filter(|route| route.upload.is_none() && !route.takes_form && !ends(route.path))
    {
        let operation = operation(&document, route);
        let ready = sweeps.ready(route, "acme").await;
        if ready.success >= 400 {
            continue; // what it takes is not there, as its fixture says
        }
        let send = async |path: &str, header: (&str, &str), body: bool| {
            let body = if body { ready.body.as_ref().map(Value::to_string) } else { None };
            send(&ready.actor, &route.method, path, header, &body.unwrap_or_default()).await
        };
        let key = format!("key-{}", sweeps.number());
        let key = (KEY, key.as_str());
        if parameter(operation, KEY).is_some() {
            let bad = send(&ready.path, (KEY, "a b"), true).await.assert(400);
            bad.problem("core.malformed_header");
            check_headers(&document, declared(&document, operation, &bad), &bad);
            for replayed in ["", "true"] {
                let answer = send(&ready.path, key, true).await.assert(ready.success);
                assert_eq!(answer.header("idempotency-replayed"), replayed);
                check_headers(&document, declared(&document, operation, &answer), &answer);
            }
            let other = format!("{}?other", ready.path);
            let reused = send(&other, key, true).await.assert(422);
            reused.problem("core.idempotency_key_reused");
            check_headers(&document, declared(&document, operation, &reused), &reused);
        } else {
            // What takes no key does not look at it.
            send(&ready.path, (KEY, "a b"), true).await.assert(ready.success);
        }
        if parameter(operation, CONDITION).is_some() && ready.success == 200 {
            for (condition, status) in [("*", 304), ("\"0\"", 200), ("no tag", 200)] {
                let answer = send(&ready.path, (CONDITION, condition), false).await.assert(status);
                check_headers(&document, declared(&document, operation, &answer), &answer);
            }
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn refusals_of_the_chain_are_declared_with_their_headers() {
    let app = TestApp::builder().setting("RATE_LIMIT_MAX", "1").start().await;
    let document = document();
    let operation = &document["paths"]["/api/v1/me"]["get"];
    app.alice().get("/api/v1/me").await.assert(200);
    let limited = app.alice().get("/api/v1/me").await.assert(429);
    assert!(!limited.header("ratelimit").is_empty() && !limited.header("ratelimit-policy").is_empty());
    check_headers(&document, declared(&document, operation, &limited), &limited);
    let stranger = app.anonymous().get("/api/v1/me").await.assert(401);
    check_headers(&document, declared(&document, operation, &stranger), &stranger);
    app.finish().await;
}

#[tokio::test]
async fn d_03_every_route_declares_that_it_refuses_a_body_that_is_too_large() {
    let app = TestApp::start().await;
    let document = document();
    for route in app.edge().routes.iter() {
        let answer = send(&app.alice(), &route.method, route.path, ("content-length", "9999999999999"), "")
            .await
            .assert(413);
        check_headers(&document, declared(&document, operation(&document, route), &answer), &answer);
    }
    app.finish().await;
}
