//! From bytes to a file, and back.

use std::os::unix::fs::PermissionsExt as _;

use erp_testkit::{Actor, Answer};
use http::Request;
use serde_json::{Value, json};

use super::{filing, stored, until, used};

async fn take(actor: &Actor<'_>, path: &str, text: &str) -> Answer {
    actor.request(Request::post(path).body(text.to_owned()).expect("a request")).await
}

fn path_of(file: &Value) -> String {
    format!("/test/notes/{}", file["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn t_18_a_file_is_its_tenants_in_the_database_and_in_the_store() {
    let app = filing().await;
    let answer = take(&app.alice(), "/test/notes", "Buy bread.").await.assert(200);
    let (file_request, file) = (answer.header("x-request-id").to_owned(), answer.json());
    assert_eq!(
        (&file["name"], &file["mediaType"], &file["bytes"]),
        (&json!("note.txt"), &json!("text/plain"), &json!(10))
    );
    assert_eq!(app.alice().get(&path_of(&file)).await.assert(200).text(), "Buy bread.");
    app.bob().get(&path_of(&file)).await.assert(404).problem("core.not_found");
    let objects = stored(&app);
    let tenant = app.tenant_id("acme").to_string();
    assert_eq!(objects.len(), 1);
    assert!(objects[0].components().any(|part| part.as_os_str() == tenant.as_str()), "{objects:?}");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&objects[0]), mode(app.files())), (0o600, 0o700));
    assert_eq!((used(&app, "acme").await, used(&app, "globex").await), (10, 0));
    let audit = app.audit_of("acme").await;
    let rows: Vec<&Value> =
        audit.iter().filter(|row| row["correlation_id"] == file_request.as_str()).collect();
    assert_eq!(rows.len(), 1, "one row for one upload: {rows:?}");
    assert_eq!(rows[0]["action"], "file.created");
    app.finish().await;
}

#[tokio::test]
async fn a_deleted_file_leaves_the_store_after_the_commit_and_gives_its_room_back_once() {
    let app = filing().await;
    let [one, two] = ["one", "three"];
    let first = take(&app.alice(), "/test/notes", one).await.assert(200).json();
    take(&app.alice(), "/test/notes", two).await.assert(200);
    app.bob().delete(&path_of(&first)).await.assert(404);
    app.alice().delete(&path_of(&first)).await.assert(204);
    app.alice().get(&path_of(&first)).await.assert(404);
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    until(&app, "select count(*) = 1 from job_done where kind = 'files.remove'").await;
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (1, 5));
    app.finish().await;
}

#[tokio::test]
async fn what_a_rolled_back_transaction_leaves_is_swept() {
    let app = filing().await;
    take(&app.alice(), "/test/notes/forgotten", "never").await.assert(204);
    let kept = take(&app.alice(), "/test/notes", "kept").await.assert(200).json();
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (2, 9));
    let sweep = "update job_schedules set next_at = now() - interval '1 s' where name = 'files.nightly'";
    until(&app, "select count(*) = 1 from job_schedules where name = 'files.nightly'").await;
    app.sql().batch_execute(sweep).await.unwrap();
    until(&app, "select count(*) = 2 from job_done where kind = 'files.sweep'").await;
    assert_eq!(stored(&app).len(), 2, "it may be an upload under way");
    app.sql()
        .batch_execute("update unreferenced_objects set since = now() - interval '25 hours'")
        .await
        .unwrap();
    app.sql().batch_execute(sweep).await.unwrap();
    until(&app, "select count(*) = 4 from job_done where kind = 'files.sweep'").await;
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (1, 4));
    app.alice().get(&path_of(&kept)).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn t_20_a_job_reads_and_stores_files_of_its_tenant() {
    let app = filing().await;
    let note = take(&app.alice(), "/test/notes", "Buy bread.").await.assert(200).json();
    app.bob().post(&format!("{}/copies", path_of(&note)), json!({})).await.assert(204);
    app.alice().post(&format!("{}/copies", path_of(&note)), json!({})).await.assert(204);
    until(&app, "select count(*) = 1 from job_done where kind = 'papers.copy'").await;
    let row =
        app.sql().query_one("select result from job_done where kind = 'papers.copy'", &[]).await.unwrap();
    let result: Value = row.get(0);
    assert_eq!(result[1], "Buy bread.");
    let copy = format!("/test/notes/{}", result[0].as_str().unwrap());
    assert_eq!(app.alice().get(&copy).await.assert(200).text(), "Buy bread.");
    until(&app, "select count(*) = 1 from job_scheduled where error like 'core.not_found%'").await;
    assert_eq!((used(&app, "acme").await, used(&app, "globex").await), (20, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_file_that_ends_early_or_is_no_text_leaves_nothing() {
    let app = filing().await;
    app.expect_errors(); // the test's route does not declare its refusals
    let too_long = "x".repeat(65 * 1024);
    take(&app.alice(), "/test/notes", &too_long).await.assert(413).problem("files.too_large");
    take(&app.alice(), "/test/notes", "a\0b").await.assert(422).problem("files.not_what_it_says");
    take(&app.alice(), "/test/notes", "%PDF-1.7").await.assert(422).problem("files.not_what_it_says");
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn the_quota_holds_exactly_under_parallel_uploads() {
    let app = erp_testkit::TestApp::builder()
        .module(&super::PAPERS)
        .setting("FILES_TENANT_QUOTA", "10KiB")
        .setting("FILES_MAX_UPLOADS", "40")
        .start()
        .await;
    let alice = app.alice();
    app.expect_errors(); // the test's route does not declare its refusals
    let text = "x".repeat(1000);
    let uploads = (0..20).map(|_| take(&alice, "/test/notes", &text));
    let answers = futures_util::future::join_all(uploads).await;
    let stored_now = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 413).count();
    assert_eq!(
        (stored_now, refused),
        (10, 10),
        "{:?}",
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>()
    );
    assert_eq!(used(&app, "acme").await, 10_000);
    take(&app.bob(), "/test/notes", &text).await.assert(200);
    app.finish().await;
}
