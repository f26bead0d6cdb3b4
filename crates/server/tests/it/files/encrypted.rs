//! What the store has of a file: ciphertext, and still what was stored before there were keys of tenants.

use erp_testkit::TestApp;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{PNG, file_png, filing, stored};

fn content_of(file: &Value) -> String {
    format!("/api/v1/files/{}/content", file["id"].as_str().expect("an id"))
}

async fn filed(app: &TestApp) -> (Value, std::path::PathBuf) {
    let file = file_png(&app.alice()).await;
    let [object] = stored(app).try_into().unwrap();
    (file, object)
}

/// The answer to the end of its connection, which may come early.
async fn raw(app: &TestApp, path: &str, range: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(app.address()).await.unwrap();
    let token = app.alice().token().to_owned();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nrange: {range}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn c_01_the_bytes_of_a_file_are_encrypted_in_the_store_and_read_as_they_were_sent() {
    let app = filing().await;
    let (file, object) = filed(&app).await;
    let bytes = std::fs::read(&object).unwrap();
    assert_eq!(bytes.len(), PNG.len() + 16);
    assert!(
        !bytes.windows(8).any(|part| PNG.windows(8).any(|plain| plain == part)),
        "nothing of it is plain"
    );
    let alice = app.alice();
    assert_eq!(alice.get(&content_of(&file)).await.assert(200).body, PNG);
    let part = http::Request::get(content_of(&file)).header("range", "bytes=3-10").body("").unwrap();
    assert_eq!(alice.request(part).await.assert(206).body, PNG[3..=10]);
    let sealed: String = app.sql().query_one("select content_key from files", &[]).await.unwrap().get(0);
    assert!(sealed.starts_with("v1:"), "{sealed}");
    let log = serde_json::to_string(&app.audit_of("acme").await).unwrap();
    assert!(log.contains("file.created"), "{log}");
    app.finish().await;
}

#[tokio::test]
async fn c_05_a_bit_that_is_flipped_in_the_store_is_an_error_also_of_a_part() {
    let app = filing().await;
    app.expect_errors();
    let (file, object) = filed(&app).await;
    let whole = std::fs::read(&object).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&object, &bytes).unwrap();
        for range in ["bytes=0-3", "bytes=5-"] {
            let answer = raw(&app, &content_of(&file), range).await;
            assert!(
                !answer.windows(4).any(|found| found == &PNG[..4] || found == &PNG[5..9]),
                "{at} {range}"
            );
        }
    }
    std::fs::write(&object, &whole).unwrap();
    assert_eq!(app.alice().get(&content_of(&file)).await.assert(200).body, PNG);
    app.finish().await;
}

#[tokio::test]
async fn a_file_that_was_stored_as_it_is_is_read_as_it_is() {
    let app = filing().await;
    let (file, object) = filed(&app).await;
    let plain = std::path::PathBuf::from(object.to_str().unwrap().replace("/v2/", "/v1/"));
    std::fs::create_dir_all(plain.parent().unwrap()).unwrap();
    std::fs::write(&plain, PNG).unwrap();
    std::fs::remove_file(&object).unwrap();
    app.execute_in("acme", "update files set content_key = null").await;
    assert_eq!(app.alice().get(&content_of(&file)).await.assert(200).body, PNG);
    app.finish().await;
}

#[tokio::test]
async fn c_04_files_of_a_destroyed_key_are_gone() {
    let app = filing().await;
    app.expect_errors();
    let (file, _) = filed(&app).await;
    let destroy = "update tenant_keys set wrapped = null, wrapped_by = null, destroyed_at = now()";
    app.sql().batch_execute(destroy).await.unwrap();
    app.clock().advance(jiff::SignedDuration::from_secs(61));
    app.alice().get(&content_of(&file)).await.assert(500).problem("core.unreadable");
    app.finish().await;
}
