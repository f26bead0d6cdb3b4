//! Whole lists as NDJSON and CSV: complete or broken off, in flat memory, each tenant its own.

use std::time::{Duration, Instant};

use bytes::Bytes;
use erp_core::shared::{SystemClock, SystemRng, TenantId};
use erp_testkit::{Actor, TestApp};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use crate::representation::representations::resident_kib;

const ITEMS: &str = "/api/v1/items";
const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";
/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(10);

fn request(actor: &Actor<'_>, path: &str, accept: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(path).header("host", "x").header("accept", accept);
    request.header("authorization", format!("Bearer {}", actor.token())).body(Empty::new()).unwrap()
}

async fn get(actor: &Actor<'_>, path: &str, accept: &str) -> erp_testkit::Answer {
    actor.request(Request::get(path).header("accept", accept).body("").unwrap()).await
}

/// An answer over a connection of its own, whose body is read as slowly as the test likes.
async fn open(app: &TestApp, actor: &Actor<'_>, accept: &str) -> Incoming {
    // It takes little ahead of its reader: one who reads slowly also takes slowly.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let stream = socket.connect(app.address()).await.unwrap();
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(8 * 1024);
    let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = client.send_request(request(actor, ITEMS, accept)).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

/// Takes 3 KiB/s of a body for so long. `false`: it has ended.
async fn sip(body: &mut Incoming, time: Duration, mut seen: impl FnMut(&[u8])) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < time {
        let Some(frame) = body.frame().await else { return false };
        let chunk = frame.expect("it is not broken off").into_data().unwrap();
        seen(&chunk);
        tokio::time::sleep(Duration::from_secs(1) * u32::try_from(chunk.len()).unwrap() / 3072).await;
    }
    true
}

/// Adds so many items to a tenant, past triggers: what is measured is reading.
async fn fill(app: &TestApp, tenant: &str, count: u32) {
    let sql = format!(
        "set session_replication_role = replica; \
         insert into items (tenant_id, id, sku, sku_folded, name, description) \
         select '{}', gen_random_uuid(), 'BULK-' || n, 'bulk-' || n, 'Item ' || n, repeat('text ', 40) from generate_series(1, {count}) n; \
         set session_replication_role = origin; analyze items",
        app.tenant_id(tenant)
    );
    app.sql().batch_execute(&sql).await.unwrap();
}

/// Waits until no statement of the product runs, and no transaction is open.
async fn until_idle(app: &TestApp) {
    let busy = "select count(*) from pg_stat_activity \
        where datname = current_database() and usename = 'erp_app' and state <> 'idle'";
    let begun = Instant::now();
    while app.sql().query_one(busy, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(begun.elapsed() < PATIENCE, "a statement is still running");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The cells of a CSV document, read by the rules of RFC 4180.
fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => cell.extend(rest.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                line.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut line));
            }
            c => cell.push(c),
        }
    }
    assert!(!quoted && cell.is_empty() && line.is_empty(), "the last line is complete");
    lines
}

#[tokio::test]
async fn a_list_is_the_same_in_all_three_types() {
    let app = TestApp::start().await;
    let alice = app.alice();
    for (number, name) in ["=1+1", "say \"no\", please", "two\nlines; one", "Größe ∅"].into_iter().enumerate()
    {
        let body =
            json!({ "sku": format!("X-{number}"), "name": name, "description": name, "quantity": number });
        alice.post(ITEMS, body).await.assert(if name.contains('\n') { 422 } else { 201 });
    }
    for query in ["", "?sort=name", "?sort=-sku", "?q=x-", "?q=nothing-like-this"] {
        let path = format!("{ITEMS}{query}");
        let page = alice.get(&path).await.assert(200);
        assert!(page.header("vary").starts_with("Accept, "), "{}", page.header("vary"));
        let expected = page.json()["items"].as_array().unwrap().clone();

        let lines = get(&alice, &path, NDJSON).await.assert(200);
        assert_eq!((lines.header("content-type"), lines.header("cache-control")), (NDJSON, "no-store"));
        assert!(lines.header("vary").starts_with("Accept, "), "{}", lines.header("vary"));
        let read: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, expected, "{query}");

        let table = get(&alice, &path, CSV).await.assert(200);
        assert_eq!(table.header("content-type"), "text/csv; charset=utf-8; header=present");
        let table = cells(&table.text());
        let (header, rows) = table.split_first().unwrap();
        assert_eq!(rows.len(), expected.len(), "{query}");
        for (row, item) in rows.iter().zip(&expected) {
            assert_eq!(header.len(), item.as_object().unwrap().len());
            for (name, cell) in header.iter().zip(row) {
                let text = match &item[name] {
                    Value::Null => String::new(),
                    Value::String(text) if text.starts_with('=') => format!("'{text}"),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                assert_eq!(*cell, text, "{name}");
            }
        }
    }
    for query in ["?limit=10", "?cursor=x", "?cursor=x&limit=10"] {
        get(&alice, &format!("{ITEMS}{query}"), CSV).await.assert(422).problem("core.invalid");
    }
    get(&alice, ITEMS, "text/html").await.assert(406).problem("core.not_acceptable");
    get(&app.anonymous(), ITEMS, CSV).await.assert(401).problem("core.unauthenticated");
    let head = Request::head(ITEMS).header("accept", CSV).body("").unwrap();
    assert!(alice.request(head).await.assert(200).body.is_empty());
    until_idle(&app).await;
    app.finish().await;
}

#[tokio::test]
async fn t_01_each_tenant_streams_its_own_rows() {
    let app = TestApp::start().await;
    fill(&app, "acme", 3000).await;
    fill(&app, "globex", 10).await;
    let (acme, globex) = (app.alice(), app.bob());
    let ids = |text: String| -> Vec<String> { text.lines().map(|line| line[..50].to_owned()).collect() };
    let (theirs, ours) = (get(&acme, ITEMS, NDJSON).await, get(&globex, ITEMS, NDJSON).await);
    let (theirs, ours) = (ids(theirs.text()), ids(ours.text()));
    assert_eq!((theirs.len(), ours.len()), (3003, 13));
    assert!(ours.iter().all(|id| !theirs.contains(id)));
    app.finish().await;
}

/// A million rows in script/check-deep, a tenth of them here: both are far more than the memory that is allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d_02_a_slow_reader_gets_every_row_and_memory_stays_flat() {
    let app = TestApp::start().await;
    let count = if crate::deep() { 1_000_000 } else { 100_000 };
    fill(&app, "acme", count).await;
    for (accept, header) in [(NDJSON, 0), (CSV, 1)] {
        let mut body = open(&app, &app.alice(), accept).await;
        let (mut lines, mut bytes, mut grown, mut before) = (0, 0, 0, 0);
        while let Some(frame) = body.frame().await {
            let chunk = frame.unwrap().into_data().unwrap();
            lines += chunk.iter().filter(|byte| **byte == b'\n').count();
            if bytes >> 20 != (bytes + chunk.len()) >> 20 {
                tokio::time::sleep(Duration::from_millis(20)).await; // after each MiB: slower than the database
                before = if before == 0 { resident_kib() } else { before };
                grown = grown.max(resident_kib().saturating_sub(before));
            }
            bytes += chunk.len();
        }
        println!(
            "deep: D-02: {accept}: {lines} lines, {} MiB for a slow reader, {grown} KiB of memory",
            bytes >> 20
        );
        assert_eq!(lines, count as usize + 3 + header);
        assert!(grown < 6 * 1024, "{grown} KiB over {} MiB", bytes >> 20);
    }
    until_idle(&app).await;
    assert_eq!(app.log().with_message("Streamed").len(), 2);
    app.finish().await;
}

#[tokio::test]
async fn t_04_who_leaves_midway_takes_the_statement_along() {
    let app = TestApp::builder().setting("DATABASE_MAX_CONNECTIONS", "2").start().await;
    fill(&app, "acme", 50_000).await;
    for _ in 0..5 {
        let mut body = open(&app, &app.alice(), NDJSON).await;
        body.frame().await.unwrap().unwrap();
        drop(body);
        until_idle(&app).await;
        // The connection serves another tenant, and nothing of the first.
        assert_eq!(app.bob().get(ITEMS).await.assert(200).json()["items"].as_array().unwrap().len(), 3);
    }
    let begun = Instant::now();
    while app.log().with_message("Stream left by its client").len() < 5 {
        assert!(begun.elapsed() < PATIENCE, "each is logged once");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    app.finish().await;
}

/// Ends the connection that a stream holds, as a failover would.
async fn kill_streams(app: &TestApp) {
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
        where datname = current_database() and usename = 'erp_app' and state <> 'idle'";
    assert!(app.sql().query_one(kill, &[]).await.unwrap().get::<_, i64>(0) > 0, "a stream is under way");
}

#[tokio::test]
async fn a_stream_that_fails_is_broken_off_and_logged_once() {
    let app = TestApp::start().await;
    app.expect_errors();
    fill(&app, "acme", 50_000).await;
    let alice = app.alice();
    for accept in [NDJSON, CSV] {
        let mut body = open(&app, &alice, accept).await;
        body.frame().await.unwrap().unwrap();
        kill_streams(&app).await;
        let outcome = body.collect().await;
        assert!(outcome.is_err(), "HTTP/1.1 ends without its last chunk");
    }
    // HTTP/2, and compressed.
    let stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    for coding in ["identity", "gzip", "br", "zstd"] {
        let mut asked = request(&alice, &format!("http://{}{ITEMS}", app.address()), NDJSON);
        asked.headers_mut().remove("host");
        asked.headers_mut().insert("accept-encoding", coding.parse().unwrap());
        let answer = client.send_request(asked).await.unwrap();
        let shown =
            answer.headers().get("content-encoding").map_or("identity", |coding| coding.to_str().unwrap());
        assert_eq!(shown, coding);
        let mut body = answer.into_body();
        body.frame().await.unwrap().unwrap();
        kill_streams(&app).await;
        let error = body.collect().await.expect_err("HTTP/2 resets the stream");
        assert!(format!("{error:?}").contains("Reset"), "{error:?}");
    }
    let lines = app.log().with_message("Stream broke off");
    assert_eq!(lines.len(), 6);
    assert!(
        lines.iter().all(|line| line["correlationId"].as_str().unwrap().starts_with("req_")),
        "{lines:?}"
    );
    get(&alice, ITEMS, "application/json").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn a_compressed_stream_is_whole() {
    use std::io::Read as _;
    let app = TestApp::start().await;
    fill(&app, "acme", 2000).await;
    let plain = get(&app.alice(), ITEMS, NDJSON).await.assert(200);
    let coded =
        Request::get(ITEMS).header("accept", NDJSON).header("accept-encoding", "gzip").body("").unwrap();
    let coded = app.alice().request(coded).await.assert(200);
    assert_eq!(
        (coded.header("content-encoding"), coded.header("vary")),
        ("gzip", "Accept, Accept-Encoding, Origin")
    );
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&coded.body[..]).read_to_end(&mut text).unwrap();
    assert!(text == plain.body && coded.body.len() < plain.body.len() / 3);
    app.finish().await;
}

/// The `http` line is written with the head: of a body whose length is not known by then it says nothing.
#[tokio::test]
async fn o_01_the_http_line_has_bytes_only_where_they_are_known() {
    let app = TestApp::start().await;
    fill(&app, "acme", 2000).await;
    let (page, all) = ("/api/v1/items?limit=5", format!("{ITEMS}?limit=200"));
    for (method, path, accept, coding, sized) in [
        (Method::GET, page, "application/json", "identity", true),
        (Method::GET, page, "application/json", "gzip", true), // compressed as a whole
        (Method::GET, &*all, "application/json", "gzip", true), // however long it is
        (Method::GET, ITEMS, NDJSON, "identity", false),
        (Method::GET, ITEMS, CSV, "identity", false),
        (Method::GET, ITEMS, NDJSON, "zstd", false),
        (Method::HEAD, page, "application/json", "identity", true),
        (Method::HEAD, ITEMS, NDJSON, "identity", true),
        (Method::OPTIONS, ITEMS, "*/*", "identity", true),
        (Method::GET, "/api/v1/no-such", "*/*", "identity", true),
    ] {
        let request = Request::builder().method(&method).uri(path);
        let request = request.header("accept", accept).header("accept-encoding", coding);
        let answer = app.alice().request(request.body("").unwrap()).await;
        let id = answer.header("x-request-id").to_owned();
        let mut lines = app.log().lines().into_iter();
        let line = lines.find(|line| line["correlationId"] == *id && line["level"] == "http").unwrap();
        let bytes = if sized { json!(answer.body.len()) } else { Value::Null };
        assert_eq!(line["bytes"], bytes, "{method} {path} as {accept} in {coding}: {line}");
        assert_eq!(line.as_object().unwrap().contains_key("bytes"), sized, "{line}");
    }
    app.finish().await;
}

#[tokio::test]
async fn t_22_streams_are_few_and_no_tenant_has_them_all() {
    let app = TestApp::builder().setting("MAX_STREAMS", "2").start().await;
    fill(&app, "acme", 50_000).await;
    fill(&app, "globex", 50_000).await;
    let mut first = open(&app, &app.alice(), NDJSON).await;
    first.frame().await.unwrap().unwrap();
    let refused = get(&app.max(), ITEMS, NDJSON).await.assert(503);
    refused.problem("core.overloaded");
    assert_eq!(refused.header("retry-after"), "10");
    app.alice().get(ITEMS).await.assert(200);
    let second = open(&app, &app.bob(), CSV).await;
    drop((first, second));
    until_idle(&app).await;
    app.expect_errors(); // the 503
    let begun = Instant::now();
    while get(&app.alice(), &format!("{ITEMS}?q=BULK-1"), NDJSON).await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "the places come back");
    }
    app.finish().await;
}

/// Slow readers of two tenants hold no place that a third has need of. The 30 s of their patience are in script/check-deep.
#[tokio::test]
async fn t_22_slow_readers_of_two_tenants_keep_no_third_from_its_export() {
    let app = TestApp::start().await;
    app.expect_errors(); // the 503
    fill(&app, "acme", 50_000).await;
    fill(&app, "globex", 50_000).await;
    let (alice, bob) = (app.alice(), app.bob());
    let mut held = vec![];
    for actor in [&alice, &alice, &bob] {
        held.push(open(&app, actor, CSV).await);
    }
    // The last place is for a tenant that has none: bob has one.
    get(&bob, ITEMS, CSV).await.assert(503).problem("core.overloaded");
    let streams = &app.edge().app.streams;
    let [third, fourth] = [(); 2].map(|()| TenantId::new(&SystemClock, &SystemRng::new()));
    let last = streams.place(third).unwrap();
    assert!(streams.place(fourth).is_err(), "nobody is known to be slow yet");
    if crate::deep() {
        drop(last);
        let _last = streams.place(third).unwrap(); // the youngest, after whatever the others were sent at first
        let begun = Instant::now();
        let _theirs = loop {
            let sips = held.iter_mut().map(|body| sip(body, Duration::from_secs(5), |_| ()));
            futures_util::future::join_all(sips).await;
            if let Ok(place) = streams.place(fourth) {
                break place;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "nobody is slow");
        };
        let mut broken = 0;
        for body in held.drain(..) {
            broken += usize::from(body.collect().await.is_err());
        }
        assert_eq!(broken, 1, "the slowest makes room, and nobody else");
    }
    drop(held);
    until_idle(&app).await;
    app.finish().await;
}

/// PostgreSQL ends a transaction that it has not heard of for a minute: a pause of more than that, by the wall's clock,
/// only in script/check-deep.
#[tokio::test]
async fn d_02_stress_a_reader_who_pauses_for_longer_than_the_database_bears_gets_every_row() {
    if !crate::deep() {
        return;
    }
    let app = TestApp::start().await;
    fill(&app, "acme", 5000).await;
    let widen = "set session_replication_role = replica; \
                 update items set description = repeat('wide ', 400); \
                 set session_replication_role = origin";
    app.sql().batch_execute(widen).await.unwrap();
    let mut body = open(&app, &app.alice(), NDJSON).await;
    let (mut lines, mut bytes) = (0, 0);
    let mut count = |chunk: &[u8]| {
        lines += chunk.iter().filter(|byte| **byte == b'\n').count();
        bytes += chunk.len();
    };
    assert!(sip(&mut body, Duration::from_secs(100), &mut count).await, "the line is slow");
    while let Some(frame) = body.frame().await {
        count(&frame.expect("it is not broken off").into_data().unwrap());
    }
    println!("deep: D-02: {lines} lines, {} KiB to a reader of 3 KiB/s at first", bytes >> 10);
    assert_eq!(lines, 5003);
    app.finish().await;
}

#[tokio::test]
async fn d_02_a_stream_that_nobody_reads_ends_at_its_deadline() {
    let app = TestApp::builder().setting("STREAM_TIMEOUT", "3s").start().await;
    app.expect_errors();
    fill(&app, "acme", 100_000).await;
    let body = open(&app, &app.alice(), NDJSON).await;
    until_held_back(&app).await;
    let begun = Instant::now();
    until_idle(&app).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "nothing was read, and the connection is free");
    assert!(body.collect().await.is_err(), "and what comes late is not taken for whole");
    assert_eq!(app.log().with_message("Stream broke off")[0]["code"], "core.timeout");
    app.finish().await;
}

/// Waits until the one stream that is under way is held back by its reader, and the database with it.
async fn until_held_back(app: &TestApp) {
    let held = "select count(*) from pg_stat_activity \
        where datname = current_database() and usename = 'erp_app' and state = 'idle in transaction'";
    let begun = Instant::now();
    while app.sql().query_one(held, &[]).await.unwrap().get::<_, i64>(0) != 1 {
        assert!(begun.elapsed() < PATIENCE, "the database waits too");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn h_05_a_stream_has_no_body_for_head_over_http2() {
    let app = TestApp::start().await;
    let stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let mut asked = request(&app.alice(), &format!("http://{}{ITEMS}", app.address()), CSV);
    asked.headers_mut().remove("host");
    *asked.method_mut() = Method::HEAD;
    let answer = client.send_request(asked).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    until_idle(&app).await;
    app.finish().await;
}
