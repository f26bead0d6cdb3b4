//! What an answer looks like: its media type, its coding, whether it is sent at all, and who may keep it (H-02, H-05).

use std::io::{Read as _, Write as _};

use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use erp_core::factory::AppOptions;
use erp_core::module::{Access, Cache};
use erp_testkit::{Actor, Answer, TestApp};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

const ITEMS: &str = "/api/v1/items";

async fn ask(actor: &Actor<'_>, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    actor.request(request.body("").unwrap()).await
}

async fn get(actor: &Actor<'_>, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(actor, Method::GET, path, headers).await
}

/// The body as the client sees it after decoding.
fn decoded(answer: &Answer) -> Vec<u8> {
    let (mut plain, coded) = (Vec::new(), &answer.body[..]);
    match answer.header("content-encoding") {
        "" => (&mut &*coded).read_to_end(&mut plain),
        "gzip" => flate2::read::GzDecoder::new(coded).read_to_end(&mut plain),
        "br" => brotli::Decompressor::new(coded, 4096).read_to_end(&mut plain),
        "zstd" => zstd::stream::read::Decoder::new(coded).unwrap().read_to_end(&mut plain),
        other => panic!("{other} is not ours"),
    }
    .unwrap();
    plain
}

/// An item whose JSON is larger than what is sent uncompressed; its path.
async fn large_item(alice: &Actor<'_>) -> String {
    let body = json!({ "sku": "LARGE", "name": "Large", "description": "bolt ".repeat(390) });
    alice.post(ITEMS, body).await.assert(201).header("location").to_owned()
}

#[tokio::test]
async fn h_05_large_answers_are_compressed_as_the_client_likes() {
    let app = TestApp::start().await;
    let (alice, path) = (app.alice(), large_item(&app.alice()).await);
    for path in [ITEMS, &path] {
        let plain = get(&alice, path, &[]).await.assert(200);
        assert_eq!(plain.header("content-encoding"), "");
        assert!(plain.header("vary").ends_with("Accept-Encoding, Origin"), "{}", plain.header("vary"));
        for (accepts, coding) in [
            ("gzip", "gzip"),
            ("gzip, deflate, br", "br"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("*;q=0.5, zstd;q=0", "br"),
            ("deflate", ""),
            ("identity, *;q=0.1", ""),
        ] {
            let answer = get(&alice, path, &[("accept-encoding", accepts)]).await.assert(200);
            assert_eq!(answer.header("content-encoding"), coding, "{accepts}");
            assert_eq!(answer.header("vary"), plain.header("vary"));
            assert_eq!(decoded(&answer), plain.body, "{accepts}");
            assert_eq!(answer.header("content-length"), answer.body.len().to_string());
            assert!(coding.is_empty() || answer.body.len() < plain.body.len() / 2, "{accepts}");
            let head = ask(&alice, Method::HEAD, path, &[("accept-encoding", accepts)]).await;
            for name in
                ["content-encoding", "content-length", "content-type", "etag", "vary", "cache-control"]
            {
                assert_eq!(head.header(name), answer.header(name), "{name}");
            }
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_small_or_an_error_or_switched_off_is_not_compressed() {
    let app = TestApp::start().await;
    let accepts = [("accept-encoding", "gzip")];
    for path in ["/api/v1/auth/tenants", "/ping", "/nowhere"] {
        assert_eq!(get(&app.alice(), path, &accepts).await.header("content-encoding"), "", "{path}");
    }
    // A client that refuses what is not compressed gets even that.
    let forced = get(&app.alice(), "/api/v1/auth/tenants", &[("accept-encoding", "identity;q=0, gzip")])
        .await
        .assert(200);
    assert_eq!(forced.header("content-encoding"), "gzip");
    assert_eq!(decoded(&forced), app.alice().get("/api/v1/auth/tenants").await.body);
    for refusing in ["*;q=0", "identity;q=0", "deflate, identity;q=0"] {
        let answer = get(&app.alice(), ITEMS, &[("accept-encoding", refusing)]).await.assert(406);
        answer.problem("core.not_acceptable");
    }
    app.finish().await;
    for builder in [
        TestApp::builder().setting("COMPRESSION", "off"),
        TestApp::builder().options(AppOptions::new().enable_compression(false)),
    ] {
        let app = builder.start().await;
        let path = large_item(&app.alice()).await;
        let answer = get(&app.alice(), &path, &accepts).await.assert(200);
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), ("", "Origin"));
        app.finish().await;
    }
}

#[tokio::test]
async fn a_secret_beside_what_the_client_sent_is_not_compressed() {
    async fn reflecting(headers: HeaderMap) -> Response {
        ([("content-type", "text/plain")], format!("{headers:?} secret").repeat(100)).into_response()
    }
    let options = AppOptions::new().custom_routes(|routes| {
        let routes = routes.get("/mixed", Access::Public, reflecting).compress(false).produces(&[]);
        routes.get("/plain", Access::Public, reflecting).produces(&[]).post(
            "/acted",
            Access::Public,
            reflecting,
        )
    });
    let app = TestApp::builder().options(options).start().await;
    let accepts = [("accept-encoding", "gzip, br, zstd")];
    assert_eq!(get(&app.anonymous(), "/plain", &accepts).await.header("content-encoding"), "zstd");
    assert_eq!(get(&app.anonymous(), "/mixed", &accepts).await.header("content-encoding"), "");
    let acted = ask(&app.anonymous(), Method::POST, "/acted", &accepts).await.assert(200);
    assert_eq!(acted.header("content-encoding"), "");
    // Sign-in, at whatever length.
    let refusing = [("accept-encoding", "gzip, identity;q=0")];
    let answer = ask(&app.anonymous(), Method::POST, "/api/v1/auth/login", &refusing).await.assert(406);
    answer.problem("core.not_acceptable");
    app.finish().await;
}

#[tokio::test]
async fn h_10_the_tag_of_a_compressed_answer_is_good_for_if_match() {
    let app = TestApp::start().await;
    let (alice, path) = (app.alice(), large_item(&app.alice()).await);
    for coding in ["gzip", "br", "zstd", "identity"] {
        let answer = get(&alice, &path, &[("accept-encoding", coding)]).await.assert(200);
        let tag = answer.header("etag").to_owned();
        assert!(tag.starts_with('"'), "a strong tag: {tag}");
        assert_eq!(tag.contains(coding), coding != "identity", "a tag of its own (RFC 9110, 8.8.3.3)");
        let again =
            get(&alice, &path, &[("accept-encoding", coding), ("if-none-match", &tag)]).await.assert(304);
        assert_eq!(again.header("etag"), tag);
        let patch = |tag: &str| {
            let request =
                Request::patch(&path).header("if-match", tag).header("content-type", "application/json");
            request.body(format!("{{\"name\":\"Changed over {coding}\"}}")).unwrap()
        };
        alice.request(patch(&tag)).await.assert(200);
        alice.request(patch(&tag)).await.assert(412).problem("core.stale");
        get(&alice, &path, &[("accept-encoding", coding), ("if-none-match", &tag)]).await.assert(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn what_the_client_has_is_304_with_the_headers_that_matter() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let id = alice.get(ITEMS).await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("{ITEMS}/{id}");
    let whole = alice.get(&path).await.assert(200);
    for tag in ["\"1\"", "W/\"1\"", "*", "\"0\", \"1\"", "\"1-gzip\""] {
        for method in [Method::GET, Method::HEAD] {
            let answer = ask(&alice, method, &path, &[("if-none-match", tag)]).await.assert(304);
            assert!(answer.body.is_empty());
            for (name, value) in [("content-type", ""), ("content-length", ""), ("cache-control", "no-store")]
            {
                assert_eq!(answer.header(name), value, "{name} for {tag}");
            }
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert!(!answer.header("etag").is_empty() && !answer.header("x-request-id").is_empty());
        }
    }
    for tag in ["\"2\"", "1", "", "\"1"] {
        assert_eq!(get(&alice, &path, &[("if-none-match", tag)]).await.assert(200).body, whole.body, "{tag}");
    }
    get(&alice, ITEMS, &[("if-none-match", "*")]).await.assert(200); // a list has no tag
    get(&alice, "/api/v1/items/x", &[("if-none-match", "*")]).await.assert(404);
    let foreign = get(&app.bob(), &path, &[("if-none-match", "\"1\"")]).await.assert(404);
    foreign.problem("core.not_found"); // a guess of the tag tells nothing
    get(&app.anonymous(), &path, &[("if-none-match", "\"1\"")]).await.assert(401);
    app.finish().await;
}

#[tokio::test]
async fn h_02_a_route_declares_who_may_keep_its_answers() {
    async fn page() -> Response {
        ([("etag", "\"x\"")], "page").into_response()
    }
    let options = AppOptions::new().custom_routes(|routes| {
        let routes = routes.get("/kept", Access::SignedIn, page).cache(Cache::Revalidate);
        routes.get("/forever", Access::SignedIn, page).cache(Cache::Immutable).get(
            "/never",
            Access::SignedIn,
            page,
        )
    });
    let app = TestApp::builder().options(options).start().await;
    for (path, expected) in [
        ("/kept", "private, no-cache"),
        ("/forever", "public, max-age=31536000, immutable"),
        ("/never", "no-store"),
        (ITEMS, "no-store"),
        ("/api/v1/me", "no-store"),
    ] {
        assert_eq!(app.alice().get(path).await.assert(200).header("cache-control"), expected, "{path}");
        assert_eq!(app.anonymous().get(path).await.assert(401).header("cache-control"), "no-store", "{path}");
    }
    let again = get(&app.alice(), "/kept", &[("if-none-match", "\"x\"")]).await.assert(304);
    assert_eq!(again.header("cache-control"), "private, no-cache");
    app.finish().await;
}

#[tokio::test]
async fn h_05_what_is_not_acceptable_is_406_before_anything_is_done() {
    let app = TestApp::start().await;
    let alice = app.alice();
    for accept in
        ["text/html", "application/json;q=0", "*/*;q=0", "image/*, text/*", "application/problem+json"]
    {
        let answer = get(&alice, "/api/v1/me", &[("accept", accept)]).await.assert(406);
        answer.problem("core.not_acceptable");
        for path in ["/ping", "/livez", "/readyz", "/health", "/health/detailed", "/metrics"] {
            get(&app.anonymous(), path, &[("accept", accept)]).await.assert(200);
        }
        get(&app.anonymous(), "/api/v1/me", &[("accept", accept)])
            .await
            .assert(401)
            .problem("core.unauthenticated");
        get(&alice, "/nowhere", &[("accept", accept)]).await.assert(404).problem("core.not_found");
    }
    for accept in ["application/json", "application/*", "*/*", "text/html, */*;q=0.1", "", "nonsense;q=z"] {
        get(&alice, "/api/v1/me", &[("accept", accept)]).await.assert(200);
    }
    let create =
        Request::post(ITEMS).header("accept", "text/html").header("content-type", "application/json");
    let create = create.body(json!({ "sku": "NEVER", "name": "Never" }).to_string()).unwrap();
    alice.request(create.clone()).await.assert(406);
    let mut keyed = create;
    keyed.headers_mut().insert("idempotency-key", "\"406-before-anything\"".parse().unwrap());
    alice.request(keyed).await.assert(406).problem("core.not_acceptable");
    assert_eq!(alice.get("/api/v1/items?q=NEVER").await.json()["items"], json!([]));
    // DELETE has no answer to choose the type of: clients made from a description accept problems only.
    let id = alice.get(ITEMS).await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    let accept = [("accept", "application/problem+json")];
    ask(&alice, Method::DELETE, &format!("{ITEMS}/{id}"), &accept).await.assert(204);
    app.finish().await;
}

#[tokio::test]
async fn d_03_a_compressed_body_is_refused_and_never_unpacked() {
    let app = TestApp::start().await;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&vec![b' '; 4 << 20]).unwrap();
    let bomb = packer.finish().unwrap().repeat(128); // members of one gzip file: half a gibibyte when unpacked
    assert!(bomb.len() < 1 << 20, "no larger than a body may be");
    let bomb = bytes::Bytes::from(bomb);
    let alice = app.alice();
    let throw = async |coding: &str| {
        let request = Request::post(ITEMS)
            .header("content-type", "application/json")
            .header("content-encoding", coding);
        let answer = alice.request(request.body(bomb.clone()).unwrap()).await.assert(415);
        answer.problem("core.unsupported_coding");
        assert_eq!(answer.header("accept-encoding"), "identity");
    };
    throw("gzip").await; // what a first request takes for good is not counted
    let before = resident_kib();
    let codings = ["gzip", "br", "zstd", "deflate", "gzip, gzip", "GZIP"].into_iter().cycle().take(24);
    futures_util::future::join_all(codings.map(throw)).await;
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
    let plain = Request::post(ITEMS)
        .header("content-type", "application/json")
        .header("content-encoding", "identity");
    let plain = plain.body(json!({ "sku": "PLAIN", "name": "Plain" }).to_string()).unwrap();
    alice.request(plain).await.assert(201);
    app.finish().await;
}

/// What this process, with the server in it, holds in memory.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn h_05_over_http2_head_has_no_body_and_answers_are_compressed() {
    let app = TestApp::start().await;
    let path = large_item(&app.alice()).await;
    let stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut client, connection) = handshake.await.unwrap();
    let driver = tokio::spawn(connection);
    for (method, path, coding) in [
        (Method::HEAD, "/api/v1/auth/tenants", ""),
        (Method::HEAD, "/api/v1/items/x", ""), // a problem
        (Method::HEAD, &path, "gzip"),
        (Method::GET, &path, "gzip"),
    ] {
        let request = Request::builder().method(&method).uri(format!("http://{}{path}", app.address()));
        let request = request.header("authorization", format!("Bearer {}", app.alice().token()));
        let request = request.header("accept-encoding", "gzip").body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = client.send_request(request).await.unwrap();
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let shown = answer.headers().get("content-encoding").map_or("", |value| value.to_str().unwrap());
        assert_eq!(shown, coding, "{method} {path}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), if method == Method::HEAD { 0 } else { length }, "{method} {path}");
        assert!(length > 50);
    }
    drop(client);
    driver.await.unwrap().unwrap();
    app.finish().await;
}

#[tokio::test]
async fn h_05_the_server_is_no_proxy_and_names_its_methods() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = TestApp::start().await;
    for (target, status) in [
        ("CONNECT db:5432", "405"),
        ("CONNECT /api/v1/items", "405"),
        ("TRACE /api/v1/items", "405"),
        ("TRACE *", "405"),
        ("GET *", "405"),
        ("OPTIONS *", "204"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
        let request = format!("{target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
        assert!(answer.contains("\r\nallow: GET"), "{target}: {answer}");
        assert!(!answer.contains("host: x"), "TRACE echoes nothing: {answer}");
    }
    app.finish().await;
}
