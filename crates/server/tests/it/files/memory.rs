//! Large files flow through: the process does not grow with them.

use std::time::Instant;

use erp_testkit::TestApp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{PNG, filing};

const SIZE: usize = 200 * 1024 * 1024;
/// What the process may grow by, in MiB: buffers of the test's client too.
const ROOM: f64 = 40.0;

/// The most memory that this process has had so far, in MiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

async fn connect(app: &TestApp, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.address()).await.unwrap();
    let token = app.alice().token().to_owned();
    let head = format!("{head}\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_file_of_200_mb_goes_up_and_down_in_flat_memory() {
    let app = filing().await;
    app.alice().get("/api/v1/items").await.assert(200);
    std::fs::write("/proc/self/clear_refs", "5").unwrap(); // the peak is reckoned from here on
    let before = peak();
    let begun = Instant::now();
    let head = format!("POST /test/papers HTTP/1.1\r\ncontent-type: image/png\r\ncontent-length: {SIZE}");
    let mut stream = connect(&app, &head).await;
    stream.write_all(PNG).await.unwrap();
    let (chunk, mut left) = (vec![7; 64 * 1024], SIZE - PNG.len());
    while left > 0 {
        let now = left.min(chunk.len());
        stream.write_all(&chunk[..now]).await.unwrap();
        left -= now;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let id = answer.split("\"id\":\"").nth(1).and_then(|rest| rest.get(..36)).unwrap();
    let up = begun.elapsed();

    let begun = Instant::now();
    let mut stream = connect(&app, &format!("GET /api/v1/files/{id}/content HTTP/1.1")).await;
    let (mut buffer, mut got) = (vec![0; 64 * 1024], 0);
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            read => got += read,
        }
    }
    assert!(got > SIZE && got < SIZE + 4096, "{got}");
    let grown = peak() - before;
    println!(
        "200 MiB up in {up:.2?} and down in {:.2?}: {grown:.1} MiB more than {before:.0}",
        begun.elapsed()
    );
    assert!(grown < ROOM, "{grown} MiB more");
    app.finish().await;
}
