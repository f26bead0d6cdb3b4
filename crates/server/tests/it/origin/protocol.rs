//! Paths, methods and headers: what HTTP promises (H-04, H-05, D-04).

use erp_testkit::TestApp;
use http::{HeaderValue, Method, Request};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};

const ITEMS: &str = "/api/v1/items";

#[tokio::test]
async fn h_05_an_unknown_path_is_404_to_everybody() {
    let app = TestApp::start().await;
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/items/",
        "/api/v1/Items",
        "/api/v1//items",
        "/api/v2/items",
        "/%2e%2e/etc",
        "/items;x",
    ] {
        for actor in [app.anonymous(), app.alice()] {
            let problem = actor.get(path).await.assert(404).problem("core.not_found");
            assert_eq!(problem["instance"], path);
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn h_05_another_method_is_405_and_options_say_which() {
    let app = TestApp::start().await;
    for (path, allowed) in [
        (ITEMS, "GET, POST, HEAD, OPTIONS"),
        ("/api/v1/items/x", "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        ("/api/v1/auth/login", "POST, OPTIONS"),
        ("/ping", "GET, HEAD, OPTIONS"),
    ] {
        let answer = app.alice().send(Method::OPTIONS, path, None).await.assert(204);
        assert_eq!(answer.header("allow"), allowed);
        for method in [Method::TRACE, Method::from_bytes(b"PURGE").unwrap()] {
            let answer = app.alice().send(method, path, None).await.assert(405);
            answer.problem("core.method_not_allowed");
            assert_eq!(answer.header("allow"), allowed);
        }
    }
    app.alice().delete(ITEMS).await.assert(405);
    app.anonymous().delete(ITEMS).await.assert(405);
    app.finish().await;
}

#[tokio::test]
async fn h_05_head_answers_as_get_without_a_body() {
    let app = TestApp::start().await;
    for path in [ITEMS, "/api/v1/me", "/ping", "/health", "/api/v1/items/x", "/nowhere"] {
        let (get, head) = (app.alice().get(path).await, app.alice().send(Method::HEAD, path, None).await);
        assert!(head.body.is_empty());
        assert_eq!(get.status, head.status, "{path}");
        for header in ["content-type", "content-length", "cache-control", "x-content-type-options"] {
            assert_eq!(get.header(header), head.header(header), "{path}: {header}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn d_04_too_long_a_target_is_414_and_too_many_headers_431() {
    let app = TestApp::start().await;
    let long = format!("{ITEMS}?q={}", "x".repeat(9000));
    app.alice().get(&long).await.assert(414).problem("core.uri_too_long");
    let below = format!("{ITEMS}?q={}", "x".repeat(8000));
    app.alice().get(&below).await.assert(422);
    let large = Request::get(ITEMS).header("x-padding", "x".repeat(17_000)).body("").unwrap();
    app.alice().request(large).await.assert(431).problem("core.headers_too_large");
    let mut many = Request::get(ITEMS);
    for number in 0..101 {
        many = many.header(format!("x-{number}"), "x");
    }
    app.alice().request(many.body("").unwrap()).await.assert(431); // by the parser, which knows no route
    let fine = Request::get(ITEMS).header("x-padding", "x".repeat(12_000)).body("").unwrap();
    app.alice().request(fine).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn d_04_h_05_the_bounds_and_methods_of_http2_are_the_same() {
    let app = TestApp::start().await;
    let stream = TokioIo::new(tokio::net::TcpStream::connect(app.address()).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let url = |path: &str| format!("http://{}{path}", app.address());
    let mut many = Request::get(url("/ping"));
    for number in 0..101 {
        many = many.header(format!("x-{number}"), "x");
    }
    for (request, status) in [
        (many, 431),
        (Request::get(url("/ping")).header("x-padding", "x".repeat(17_000)), 431),
        (Request::get(url(&format!("/ping?q={}", "x".repeat(9000)))), 414),
        (Request::trace(url("/ping")), 405),
        (Request::connect("db:5432"), 405),
        (Request::get(url("/ping")), 200),
    ] {
        let answer = client.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{answer:?}");
        assert_eq!(answer.headers().contains_key("allow"), status == 405, "{answer:?}");
        assert_eq!(
            answer.headers()["x-content-type-options"],
            "nosniff",
            "the chain has answered: {answer:?}"
        );
    }
    app.finish().await;
}

/// The parser refuses it before there is a request.
#[tokio::test]
async fn h_04_what_never_becomes_a_request_is_a_problem_like_all_others_and_closed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = TestApp::start().await;
    let many: String = (0..101).map(|number| format!("x-{number}: x\r\n")).collect();
    let fine = "GET /ping HTTP/1.1\r\nhost: x\r\n\r\n";
    for (head, status, code) in [
        ("NO HTTP\r\n\r\n".to_owned(), 400, "core.malformed_request"),
        ("GET /ping HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400, "core.malformed_request"),
        (
            "GET /ping HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n".to_owned(),
            400,
            "core.malformed_request",
        ),
        (format!("GET /ping HTTP/1.1\r\nhost: x\r\n{many}\r\n"), 431, "core.headers_too_large"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
        stream.write_all(fine.as_bytes()).await.unwrap();
        let mut first = [0; 4096];
        assert!(stream.read(&mut first).await.unwrap() > 0 && first.starts_with(b"HTTP/1.1 200 "));
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await; // reset, where not all was read
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        for header in ["connection: close", "content-type: application/problem+json", "x-frame-options: DENY"]
        {
            assert!(head.lines().any(|line| line == header), "H-01: {header} is missing from {head}");
        }
        assert!(head.lines().any(|line| line == format!("content-length: {}", body.len())), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()));
        let id = problem["correlationId"].as_str().unwrap();
        assert!(head.contains(id), "the header names the request as the body does: {head}");
        let line = app.log().with_message(&format!("- / {status}")).pop().expect("it is logged");
        assert_eq!(line["correlationId"], id);
    }
    app.anonymous().get("/ping").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn h_05_malformed_and_repeated_headers_are_refused() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let get = |name: &'static str, values: &[&[u8]]| {
        let mut request = Request::get("/api/v1/me").body("").unwrap();
        for value in values {
            request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
        }
        request
    };
    let tenants: [&[&[u8]]; 6] =
        [&[b"acme", b"acme"], &[b""], &[b"acme,globex"], &[b"\xff"], &[&[b'x'; 64]], &[b"acme'; --"]];
    for values in tenants {
        alice.request(get("x-tenant-id", values)).await.assert(400).problem("core.malformed_header");
    }
    let bearer = format!("Bearer {}", alice.token());
    let twice = get("authorization", &[bearer.as_bytes(), bearer.as_bytes()]);
    app.anonymous().request(twice).await.assert(400).problem("core.malformed_header");
    let credentials: [&[u8]; 8] = [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic YWxpY2U6eA==",
        b"Bearer x",
        b"\xff",
        b"Bearer \xff",
        alice.token().as_bytes(),
    ];
    for value in credentials {
        let answer = app.anonymous().request(get("authorization", &[value])).await.assert(401);
        answer.problem("core.unauthenticated");
    }
    app.anonymous()
        .request(get("authorization", &[format!("bEARER {}", alice.token()).as_bytes()]))
        .await
        .assert(200);
    app.anonymous().get(&format!("/api/v1/me?access_token={}", alice.token())).await.assert(401);
    app.finish().await;
}

#[tokio::test]
async fn h_10_a_malformed_if_match_is_400() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let item = alice.get(ITEMS).await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("{ITEMS}/{item}");
    for value in ["1", "\"1", "'1'", "\"1\" \"2\"", "W/1", "\u{fffd}"] {
        let mut request = Request::delete(&path).body("").unwrap();
        request.headers_mut().insert("if-match", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        alice.request(request).await.assert(400).problem("core.malformed_header");
    }
    alice.get(&path).await.assert(200);
    let both =
        Request::delete(&path).header("if-match", "\"9\"").header("if-match", "\"1\"").body("").unwrap();
    alice.request(both).await.assert(204);
    app.finish().await;
}

#[tokio::test]
async fn h_10_a_change_only_where_nothing_is_overwrites_nothing() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let before = alice.get(ITEMS).await.json()["items"][0].clone();
    let path = format!("{ITEMS}/{}", before["id"].as_str().unwrap());
    let ask = |method: &str, condition: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("if-none-match", condition);
        let body = if method == "DELETE" { "" } else { r#"{"sku":"OTHER","name":"Other","quantity":1}"# };
        request.header("content-type", "application/json").body(body).unwrap()
    };
    for method in ["PUT", "PATCH", "DELETE"] {
        alice.request(ask(method, "*", &path)).await.assert(412).problem("core.stale");
        alice.request(ask(method, "\"1\"", &path)).await.assert(400).problem("core.malformed_header");
        let nowhere = format!("{ITEMS}/00000000-0000-7000-8000-000000000000");
        alice.request(ask(method, "*", &nowhere)).await.assert(404);
    }
    assert_eq!(alice.get(&path).await.json(), before);
    app.finish().await;
}

#[tokio::test]
async fn o_03_a_well_formed_request_id_is_echoed_and_another_replaced() {
    let app = TestApp::start().await;
    let get = |id: &str| Request::get("/ping").header("x-request-id", id).body("").unwrap();
    let answer = app.anonymous().request(get("order-7_a.b")).await;
    assert_eq!(answer.header("x-correlation-id"), "order-7_a.b");
    for bad in ["a b", "a'b", "{\"a\":1}", "<script>", &"x".repeat(129)] {
        let answer = app.anonymous().request(get(bad)).await;
        assert!(answer.header("x-request-id").starts_with("req_"), "{answer}");
    }
    let agent = "\u{2028}\u{9b}31m\",\"level\":\"error";
    let mut request = Request::get("/ping").body("").unwrap();
    request.headers_mut().insert("user-agent", HeaderValue::from_bytes(agent.as_bytes()).unwrap());
    app.anonymous().request(request).await.assert(200);
    assert!(app.log().lines().iter().all(|line| line["level"] != "error")); // each line is one JSON document (O-01)
    app.finish().await;
}
