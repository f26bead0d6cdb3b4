//! Files in a bucket, of a real store that speaks S3.

use erp_testkit::{BucketServer, TestApp};
use serde_json::Value;

use super::{PAPERS, PNG, file_png, send, until, used};

/// The product with the test's module on a bucket of its own; `None` where there is no such store.
async fn in_a_bucket(what: &str) -> Option<(BucketServer, TestApp)> {
    if !BucketServer::is_installed(what) {
        return None;
    }
    let folder = std::env::temp_dir().join(format!("erp-bucket-{}", std::process::id()));
    let server = BucketServer::start(&folder);
    let builder =
        TestApp::builder().module(&PAPERS).setting("JOB_WORKERS", "4").setting("FILES_STORE_TIMEOUT", "2s");
    let builder =
        server.settings().iter().fold(builder, |builder, (name, value)| builder.setting(name, value));
    Some((server, builder.start().await))
}

fn content_of(file: &Value) -> String {
    format!("/api/v1/files/{}/content", file["id"].as_str().expect("an id"))
}

/// The names of the objects that the store has.
fn objects(server: &BucketServer) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![server.folder()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match path.is_dir() {
                true => folders.push(path),
                false if !name.starts_with('.') => found.push(name),
                false => {} // the store's own notes
            }
        }
    }
    found
}

#[tokio::test]
async fn a_bucket_keeps_small_files_and_those_of_several_parts() {
    let Some((server, app)) = in_a_bucket("a_bucket_keeps_small_files_and_those_of_several_parts").await
    else {
        return;
    };
    let small = file_png(&app.alice()).await;
    assert_eq!(app.alice().get(&content_of(&small)).await.assert(200).body, PNG);
    let large = [PNG, &vec![7; 12 * 1024 * 1024]].concat();
    let png = [("content-type", "image/png")];
    let file = send(&app.alice(), ("POST", "/test/papers"), &png, large.clone()).await.assert(200).json();
    assert_eq!(app.alice().get(&content_of(&file)).await.assert(200).body, large);
    let part =
        send(&app.alice(), ("GET", &content_of(&file)), &[("range", "bytes=5242878-5242881")], "").await;
    assert_eq!(part.assert(206).body, large[5_242_878..5_242_882]);
    app.bob().get(&content_of(&file)).await.assert(404);
    assert_eq!(objects(&server).len(), 2, "{:?}", objects(&server));
    // Refused at its end: nothing is left of its parts.
    let wrong = [
        ("content-type", "image/png"),
        ("content-digest", "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),
    ];
    send(&app.alice(), ("POST", "/test/papers"), &wrong, large.clone()).await.assert(422);
    app.execute_in("acme", "delete from papers").await;
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    assert_eq!((objects(&server), used(&app, "acme").await), (Vec::<String>::new(), 0));
    let health = app.anonymous().get("/health/detailed").await.assert(200).json();
    let store = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "store").unwrap();
    assert_eq!(store["passed"], true);
    app.finish().await;
}

#[tokio::test]
async fn a_store_that_is_killed_or_paused_fails_files_alone_and_comes_back() {
    let Some((mut server, app)) = in_a_bucket("a_store_that_is_killed_or_paused_fails_files_alone").await
    else {
        return;
    };
    app.expect_errors();
    let file = file_png(&app.alice()).await;
    let path = content_of(&file);
    server.kill();
    app.alice().get(&path).await.assert(503).problem("files.store_unavailable");
    let png = [("content-type", "image/png")];
    send(&app.alice(), ("POST", "/test/papers"), &png, PNG)
        .await
        .assert(503)
        .problem("files.store_unavailable");
    app.alice().get("/api/v1/items").await.assert(200);
    app.anonymous().get("/readyz").await.assert(200);
    // What is deleted meanwhile is removed when the store is back.
    app.execute_in("acme", "delete from papers").await;
    app.alice().get(&path).await.assert(404);
    server.restart();
    app.sql().batch_execute("update job_scheduled set run_at = now()").await.unwrap();
    let second = file_png(&app.alice()).await;
    server.pause();
    app.alice().get(&content_of(&second)).await.assert(503).problem("files.store_unavailable");
    server.resume();
    app.alice().get(&content_of(&second)).await.assert(200);
    app.sql().batch_execute("update job_scheduled set run_at = now()").await.unwrap();
    until(&app, "select count(*) = 1 from job_done where kind = 'files.remove'").await;
    app.finish().await;
}

#[tokio::test]
async fn a_wrong_key_is_told_to_operators_and_never_shown() {
    if !BucketServer::is_installed("a_wrong_key_is_told_to_operators_and_never_shown") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("erp-bucket-{}", std::process::id()));
    let server = BucketServer::start(&folder);
    let [url, access, _] = server.settings();
    let app = TestApp::builder()
        .module(&PAPERS)
        .setting(url.0, &url.1)
        .setting(access.0, &access.1)
        .setting("FILES_SECRET_KEY", "another-secret-key-of-the-tests")
        .start()
        .await;
    app.expect_errors();
    let answer = send(&app.alice(), ("POST", "/test/papers"), &[("content-type", "image/png")], PNG).await;
    answer.assert(503).problem("files.store_unavailable");
    let logged = app.log().text();
    assert!(logged.contains("SignatureDoesNotMatch") || logged.contains("403"), "the log says why");
    assert!(!logged.contains("another-secret-key-of-the-tests"));
    app.finish().await;
}
