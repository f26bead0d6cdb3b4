//! Files while something is wrong: with a client, with the store, or with what it has.

use std::time::Duration;

use erp_testkit::TestApp;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{PAPERS, PNG, file_png, filing, send, stored, until, used};

fn content_of(file: &Value) -> String {
    format!("/api/v1/files/{}/content", file["id"].as_str().expect("an id"))
}

/// The head of an upload to `/test/papers`, over a connection of the test's own.
async fn begin_upload(app: &TestApp, length: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.address()).await.unwrap();
    let head = format!(
        "POST /test/papers HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: image/png\r\n{length}\r\n\r\n",
        app.alice().token()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_nothing() {
    let app = filing().await;
    let mut stream = begin_upload(&app, "content-length: 5000000").await;
    stream.write_all(PNG).await.unwrap();
    stream.write_all(&vec![7; 3_000_000]).await.unwrap();
    until(&app, "select count(*) = 1 from unreferenced_objects where bytes = 5000000").await;
    drop(stream);
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_damaged_file_is_broken_off_before_its_end_and_told_of() {
    let app = filing().await;
    app.expect_errors();
    let file = file_png(&app.alice()).await;
    let [object] = stored(&app).try_into().unwrap();
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&object, &bytes).unwrap();
    let mut stream = TcpStream::connect(app.address()).await.unwrap();
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        content_of(&file),
        app.alice().token()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await; // the connection is closed
    assert!(!answer.ends_with(&bytes), "its last part is not sent");
    assert!(app.log().text().contains("A file is damaged"));
    std::fs::remove_file(&object).unwrap();
    app.alice().get(&content_of(&file)).await.assert(500).problem("files.damaged");
    let metrics = app.alice().get("/metrics").await.text();
    assert!(metrics.contains("files_damaged_total{kind=\"papers.scan\"} 2"), "{metrics}");
    app.finish().await;
}

#[tokio::test]
async fn a_store_that_hangs_is_a_503_within_its_time_and_ready_all_the_same() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("s3://erp-files?endpoint=http://{}", silent.local_addr().unwrap());
    let app = TestApp::builder()
        .module(&PAPERS)
        .setting("FILES_URL", &url)
        .setting("FILES_ACCESS_KEY", "key")
        .setting("FILES_SECRET_KEY", "secret-of-the-test")
        .setting("FILES_STORE_TIMEOUT", "300ms")
        .start()
        .await;
    app.expect_errors();
    let begun = std::time::Instant::now();
    let answer = send(&app.alice(), ("POST", "/test/papers"), &[("content-type", "image/png")], PNG).await;
    answer.assert(503).problem("files.store_unavailable");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    app.anonymous().get("/readyz").await.assert(200);
    let health = app.anonymous().get("/health/detailed").await.assert(200).json();
    let store = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "store").unwrap();
    assert_eq!((&health["status"], &store["passed"]), (&"degraded".into(), &false.into()));
    assert!(!app.log().text().contains("secret-of-the-test"));
    // What the store may still complete is left to the sweep.
    until(&app, "select count(*) = 1 from unreferenced_objects").await;
    drop(silent);
    app.finish().await;
}

#[tokio::test]
async fn what_the_sweep_has_taken_is_no_file_any_more() {
    let app = filing().await;
    app.expect_errors();
    send(&app.alice(), ("POST", "/test/notes/late"), &[], "late")
        .await
        .assert(503)
        .problem("core.unavailable");
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    until(&app, "select count(*) = 0 from files").await;
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_file_is_stored_before_the_first_change_under_a_key() {
    let app = filing().await;
    app.expect_errors();
    send(&app.alice(), ("POST", "/test/notes/twice"), &[], "").await.assert(204);
    let key = [("idempotency-key", "one")];
    let answer = send(&app.alice(), ("POST", "/test/notes/twice"), &key, "").await.assert(500);
    assert!(answer.text().contains("before the first change"), "{answer}");
    until(&app, "select count(*) = 2 from files").await;
    app.finish().await;
}

#[tokio::test]
async fn t_22_a_tenants_uploads_leave_a_place_to_others() {
    let app = TestApp::builder().module(&PAPERS).setting("FILES_MAX_UPLOADS", "2").start().await;
    app.expect_errors();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = begin_upload(&app, "content-length: 100000").await;
        stream.write_all(PNG).await.unwrap();
        stream.write_all(&[7; 9000]).await.unwrap();
        held.push(stream);
    }
    until(&app, "select count(*) = 2 from unreferenced_objects").await;
    let png = [("content-type", "image/png")];
    send(&app.alice(), ("POST", "/test/papers"), &png, PNG).await.assert(503).problem("core.overloaded");
    drop(held);
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    send(&app.bob(), ("POST", "/test/papers"), &png, PNG).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn an_upload_may_take_longer_than_a_request_and_not_for_ever() {
    let app = TestApp::builder()
        .module(&PAPERS)
        .setting("REQUEST_TIMEOUT", "300ms")
        .setting("FILES_TRANSFER_TIMEOUT", "2s")
        .start()
        .await;
    app.expect_errors();
    let mut stream = begin_upload(&app, &format!("connection: close\r\ncontent-length: {}", PNG.len())).await;
    stream.write_all(&PNG[..10]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await; // longer than REQUEST_TIMEOUT
    stream.write_all(&PNG[10..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut stream = begin_upload(&app, "connection: close\r\ncontent-length: 5000000").await;
    stream.write_all(PNG).await.unwrap();
    stream.write_all(&[7; 20_000]).await.unwrap();
    let (mut answer, begun) = (String::new(), std::time::Instant::now());
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") || answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    assert_eq!(stored(&app).len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_large_upload_that_is_answered_early_hears_its_answer() {
    let app = filing().await;
    let (mut large, text) = (vec![0; 4 * 1024 * 1024], [("content-type", "text/plain")]);
    large[..PNG.len()].copy_from_slice(PNG);
    // Refused by its head.
    send(&app.alice(), ("POST", "/test/papers"), &text, large.clone()).await.assert(415);
    // Answered again under its key, without being read.
    let headers = [("content-type", "image/png"), ("idempotency-key", "large")];
    let first = send(&app.alice(), ("POST", "/test/papers"), &headers, large.clone()).await.assert(200);
    let again = send(&app.alice(), ("POST", "/test/papers"), &headers, large).await.assert(200);
    assert_eq!(first.json(), again.json());
    let metrics = app.alice().get("/metrics").await.text();
    for line in [
        "files_uploads_total{kind=\"papers.scan\",outcome=\"stored\"} 1",
        "files_stored_bytes_total{kind=\"papers.scan\"} 4194304",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
    app.finish().await;
}
