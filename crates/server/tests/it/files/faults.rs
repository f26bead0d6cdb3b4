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
    let files = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "files").unwrap();
    assert_eq!((&health["status"], &files["passed"]), (&"degraded".into(), &false.into()));
    assert!(!app.log().text().contains("secret-of-the-test"));
    // What the store may still complete is left to the sweep.
    until(&app, "select count(*) = 1 from unreferenced_objects").await;
    drop(silent);
    app.finish().await;
}
