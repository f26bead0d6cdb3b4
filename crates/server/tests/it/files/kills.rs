//! kill -9 in the middle of uploads, and a disk that is full: what is left is found, and removed by the sweep.
//!
//! The server that is killed is this test's own program, begun anew: the product's has no route that takes a file of the test's.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use erp_core::bootstrap::{BootstrapOptions, LogSetup, bootstrap_and_start};
use erp_core::config::{Layers, MapSource};
use erp_core::module::Product;
use erp_core::shared::ManualClock;
use erp_testkit::{JWT_SECRET, TestApp};
use serde_json::Value;

use super::super::deep;
use super::{PAPERS, PATIENCE, PNG, filing, stored, until, used};

const UPLOADERS: usize = 4;
const SIZE: usize = 3 * 1024 * 1024;
/// Where the server that is killed finds its settings, as JSON; it writes its address beside them.
const SETTINGS: &str = "FILES_KILL_SETTINGS";

/// The server that is killed.
#[tokio::test]
#[ignore = "other tests of this file run it as a process of its own"]
async fn serves_until_it_is_killed() {
    let path = PathBuf::from(std::env::var(SETTINGS).expect("run by another test"));
    let settings: Vec<(String, String)> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let modules: Vec<_> = erp_modules::ALL.iter().copied().chain([&PAPERS]).collect();
    let product = Product { modules: Vec::leak(modules), ..erp_modules::PRODUCT };
    let mut options = BootstrapOptions::new(LogSetup::Install { terminal: false }, std::ffi::OsString::new());
    // Its tokens are those of the test, whose clock stands.
    options.clock = Arc::new(ManualClock::new("2026-02-03T04:05:06Z".parse().unwrap()));
    let layers = Layers::from(MapSource::environment(settings));
    let running = bootstrap_and_start(&product, &layers, options).await.expect("the server starts");
    let draft = path.with_extension("draft");
    std::fs::write(&draft, running.address.to_string()).unwrap();
    std::fs::rename(draft, path.with_extension("address")).unwrap();
    std::future::pending::<()>().await;
}

/// A server on the app's database and store, as a process of its own; `shell` may limit it first.
fn serve(app: &TestApp, shell: &str) -> (ServerProcess, String) {
    let roles = &app.database().roles;
    let files = format!("file://{}", app.files().display());
    let settings = [
        ("APP_ENV", "development"),
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
        ("LOG_LEVEL", "warn"),
        ("DATABASE_URL", roles.runtime_url.as_str()),
        ("DATABASE_SYSTEM_URL", &roles.system_url),
        ("JWT_SECRET", JWT_SECRET),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("JOB_WORKERS", "0"),
        ("RATE_LIMIT_MAX", "1000000"),
        ("FILES_URL", &files),
    ];
    let path = std::env::temp_dir().join(format!("{}-kill.json", app.database().name));
    let address = path.with_extension("address");
    let _ = std::fs::remove_file(&address);
    std::fs::write(&path, serde_json::to_vec(&settings).unwrap()).unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{shell} exec \"$0\" \"$@\"")]).arg(std::env::current_exe().unwrap());
    command.args(["files::kills::serves_until_it_is_killed", "--exact", "--ignored", "--nocapture"]);
    command.env(SETTINGS, &path).env_remove("NEXTEST_EXECUTION_MODE");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = ServerProcess(command.spawn().unwrap());
    let begun = Instant::now();
    loop {
        if let Ok(found) = std::fs::read_to_string(&address) {
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_file(&address);
            return (server, found);
        }
        assert!(begun.elapsed() < PATIENCE, "the server does not come up");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server, which dropping this kills.
struct ServerProcess(Child);

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Files a paper, slowly enough to be killed; what was answered, if the server lived.
fn upload(address: &str, token: &str, bytes: usize) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!(
        "POST /test/papers HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: image/png\r\ncontent-length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(PNG).ok()?;
    let chunk = vec![7; 64 * 1024];
    let mut left = bytes - PNG.len();
    while left > 0 {
        let now = left.min(chunk.len());
        if stream.write_all(&chunk[..now]).is_err() {
            break; // it may have answered already
        }
        left -= now;
    }
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    (!answer.is_empty()).then_some(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_11_kill_9_in_the_middle_of_uploads_leaves_only_what_the_sweep_removes() {
    let app = filing().await;
    let token = app.alice().token().to_owned();
    let acknowledged = Arc::new(AtomicUsize::new(0));
    for round in 0..if deep() { 100 } else { 4 } {
        let (server, address) = serve(&app, "");
        let before = acknowledged.load(Ordering::Relaxed);
        let uploads: Vec<_> = (0..UPLOADERS)
            .map(|_| {
                let (address, token, acknowledged) =
                    (address.clone(), token.clone(), Arc::clone(&acknowledged));
                tokio::task::spawn_blocking(move || {
                    while let Some(answer) = upload(&address, &token, SIZE) {
                        let done = answer.starts_with("HTTP/1.1 200");
                        acknowledged.fetch_add(usize::from(done), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let begun = Instant::now();
        while acknowledged.load(Ordering::Relaxed) == before {
            assert!(begun.elapsed() < PATIENCE, "nothing is uploaded");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis((round * 37) % 130)).await; // at another moment of the uploads each time
        drop(server);
        for upload in uploads {
            upload.await.unwrap();
        }
    }
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    let busy = "select count(*) = 0 from pg_stat_activity where datname = current_database() and usename = 'erp_app' \
        and state <> 'idle' and query like '%unreferenced_objects%'";
    until(&app, busy).await;
    // What is left is old enough, and the sweep comes.
    app.sql()
        .batch_execute("update unreferenced_objects set since = now() - interval '25 hours'")
        .await
        .unwrap();
    let sweep = "update job_schedules set next_at = now() - interval '1 s' where name = 'files.nightly'";
    until(&app, "select count(*) = 1 from job_schedules where name = 'files.nightly'").await;
    app.sql().batch_execute(sweep).await.unwrap();
    until(&app, "select count(*) = 2 from job_done where kind = 'files.sweep'").await;
    let row = app
        .sql()
        .query_one("select count(*), coalesce(sum(bytes), 0)::bigint from files", &[])
        .await
        .unwrap();
    let (files, bytes): (i64, i64) = (row.get(0), row.get(1));
    let objects = stored(&app);
    println!("deep: files: {acknowledged} uploads acknowledged, {files} files, {} objects", objects.len());
    assert!(files >= acknowledged as i64, "{files} of {acknowledged} acknowledged files");
    assert_eq!((objects.len() as i64, used(&app, "acme").await), (files, bytes), "{objects:?}");
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    // As it is stored: each chunk of 64 KiB has a tag.
    let sealed = (SIZE + SIZE.div_ceil(64 * 1024) * 16) as u64;
    for object in objects {
        assert_eq!(std::fs::metadata(object).unwrap().len(), sealed, "no file is half");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_a_503_that_leaves_nothing() {
    let app = filing().await;
    let token = app.alice().token().to_owned();
    // No file may be longer than some 2 MiB: to write on fails, as on a disk that is full.
    let (server, address) = serve(&app, "trap '' XFSZ; ulimit -f 4000;");
    let answer =
        tokio::task::spawn_blocking(move || upload(&address, &token, 5 * SIZE)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("files.store_unavailable"), "{answer}");
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (0, 0));
    let problem: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap_or_default();
    assert_eq!(problem["status"], 503);
    drop(server);
    app.finish().await;
}
