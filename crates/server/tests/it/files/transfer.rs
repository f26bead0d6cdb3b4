//! Files over HTTP: up and down, and who may.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use erp_core::auth::Role;
use serde_json::{Value, json};

use super::{PNG, file_png, filing, send, stored, until, used};

const PAPERS: (&str, &str) = ("POST", "/test/papers");

fn content_of(file: &Value) -> String {
    format!("/api/v1/files/{}/content", file["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn what_was_sent_comes_back_as_an_attachment_under_its_safe_name() {
    let app = filing().await;
    let name = "attachment; filename=x; filename*=UTF-8''..%2F..%2FZ%C3%BCrich%E2%80%AE.exe";
    let headers = [("content-type", "image/png; x=1"), ("content-disposition", name)];
    let file = send(&app.alice(), PAPERS, &headers, PNG).await.assert(200).json();
    assert_eq!((&file["name"], &file["bytes"]), (&json!("Zürich.exe.png"), &json!(PNG.len())));
    let answer = app.alice().get(&content_of(&file)).await.assert(200);
    assert_eq!(answer.body, PNG);
    let tag = format!("\"{}\"", file["sha256"].as_str().unwrap());
    for (header, expected) in [
        ("content-type", "image/png"),
        ("content-length", &PNG.len().to_string()),
        (
            "content-disposition",
            "attachment; filename=\"Z_rich.exe.png\"; filename*=UTF-8''Z%C3%BCrich.exe.png",
        ),
        ("x-content-type-options", "nosniff"),
        ("accept-ranges", "bytes"),
        ("cache-control", "no-store"),
        ("etag", &tag),
    ] {
        assert_eq!(answer.header(header), expected, "{header}");
    }
    assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{answer}");
    let metadata =
        app.alice().get(&format!("/api/v1/files/{}", file["id"].as_str().unwrap())).await.assert(200);
    assert_eq!(metadata.json(), file);
    app.finish().await;
}

#[tokio::test]
async fn a_part_is_answered_and_what_the_client_has_is_not_sent_again() {
    let app = filing().await;
    let file = file_png(&app.alice()).await;
    let path = content_of(&file);
    let get = |name, value| {
        let (alice, path) = (app.alice(), path.clone());
        async move { send(&alice, ("GET", &path), &[(name, value)], "").await }
    };
    let part = get("range", "bytes=1-3").await.assert(206);
    assert_eq!(
        (&*part.body, part.header("content-range")),
        (&b"PNG"[..], format!("bytes 1-3/{}", PNG.len()).as_str())
    );
    assert_eq!(get("range", "bytes=-2").await.assert(206).body, "on");
    get("range", "bytes=999-").await.assert(416).problem("files.range_not_satisfiable");
    let tag = app.alice().get(&path).await.header("etag").to_owned();
    assert!(get("if-none-match", tag.as_str()).await.assert(304).body.is_empty());
    let head = send(&app.alice(), ("HEAD", &path), &[], "").await.assert(200);
    assert_eq!((head.header("content-length"), head.body.len()), (PNG.len().to_string().as_str(), 0));
    app.finish().await;
}

#[tokio::test]
async fn what_is_not_what_it_says_is_refused_and_leaves_nothing() {
    let app = filing().await;
    let alice = app.alice();
    let other = format!("sha-256=:{}:", BASE64_STANDARD.encode([7; 32]));
    let png = ("content-type", "image/png");
    let html = b"<!DOCTYPE html><script>alert(1)</script>".as_slice();
    for (headers, body, status, code) in [
        (vec![], PNG, 415, "files.type_not_allowed"),
        (vec![("content-type", "text/html")], html, 415, "files.type_not_allowed"),
        (vec![("content-type", "image/svg+xml")], PNG, 415, "files.type_not_allowed"),
        (vec![png], html, 422, "files.not_what_it_says"),
        (vec![png], b"", 422, "files.not_what_it_says"),
        (vec![("content-type", "application/pdf")], PNG, 422, "files.not_what_it_says"),
        (vec![png, ("content-digest", &other)], PNG, 422, "files.digest_mismatch"),
        (vec![png, ("content-digest", "sha-256=:x:")], PNG, 400, "core.malformed_header"),
        (vec![png, ("content-disposition", "attachment; filename=\"x")], PNG, 400, "core.malformed_header"),
        (vec![png, ("content-encoding", "gzip")], PNG, 415, "core.unsupported_coding"),
    ] {
        send(&alice, PAPERS, &headers, body).await.assert(status).problem(code);
    }
    // Declared as longer than it may be: not a byte of it is read.
    let slip = vec![b'x'; 10 * 1024 * 1024 + 1];
    let text = [("content-type", "text/plain")];
    send(&alice, ("POST", "/test/slips"), &text, slip).await.assert(413).problem("files.too_large");
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (0, 0));
    let digest = "md5=:x:, sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    let headers = [text[0], ("content-digest", digest)];
    send(&alice, ("POST", "/test/slips"), &headers, "not this").await.assert(422);
    app.finish().await;
}

#[tokio::test]
async fn t_16_a_file_is_another_tenants_nothing_and_its_kind_says_who_reads_it() {
    let app = filing().await;
    let file = file_png(&app.alice()).await;
    let path = format!("/api/v1/files/{}", file["id"].as_str().unwrap());
    for (method, tail, body) in [("GET", "", ""), ("GET", "/content", "")] {
        let path = format!("{path}{tail}");
        let json = [("content-type", "application/json")];
        send(&app.bob(), (method, &path), &json, body).await.assert(404).problem("core.not_found");
        send(&app.reader_of("acme"), (method, &path), &json, body)
            .await
            .assert(403)
            .problem("core.forbidden");
        send(&app.anonymous(), (method, &path), &json, body).await.assert(401);
        send(&app.actor("acme", Role::Member), (method, &path), &json, body).await.assert(200);
    }
    send(
        &app.bob(),
        ("PUT", &format!("/test/papers/{}/scan", file["id"].as_str().unwrap())),
        &[("content-type", "image/png")],
        PNG,
    )
    .await
    .assert(404);
    // A kind without a permission is given out by its module only.
    let slip = send(&app.alice(), ("POST", "/test/slips"), &[("content-type", "text/plain")], "x")
        .await
        .assert(200)
        .json();
    app.alice().get(&content_of(&slip)).await.assert(404);
    app.finish().await;
}

#[tokio::test]
async fn a_file_goes_with_the_row_that_owns_it() {
    let app = filing().await;
    app.execute_in("acme", "insert into folders (id) values ('00000000-0000-7000-8000-0000000000f1')").await;
    let (first, second) = (file_png(&app.alice()).await, file_png(&app.alice()).await);
    let replace = format!("/test/papers/{}/scan", first["id"].as_str().unwrap());
    let third =
        send(&app.alice(), ("PUT", &replace), &[("content-type", "image/png")], PNG).await.assert(200).json();
    app.alice().get(&content_of(&first)).await.assert(404);
    app.alice().get(&content_of(&third)).await.assert(200);
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    assert_eq!(stored(&app).len(), 2);
    let id = second["id"].as_str().unwrap();
    app.execute_in("acme", &format!("delete from papers where scan_id = '{id}'")).await;
    app.alice().get(&content_of(&second)).await.assert(404);
    app.execute_in("acme", "delete from folders").await;
    app.alice().get(&content_of(&third)).await.assert(404);
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_file_whose_time_is_over_is_gone_and_leaves_its_line_with_its_owner() {
    let app = filing().await;
    let slip = send(&app.alice(), ("POST", "/test/slips"), &[("content-type", "text/plain")], "x")
        .await
        .assert(200)
        .json();
    assert!(slip["expiresAt"].is_string(), "{slip}");
    let owned = file_png(&app.alice()).await;
    app.alice().get(&content_of(&owned)).await.assert(200);
    app.execute_in("acme", "update files set expires_at = now() - interval '1 s'").await;
    app.alice().get(&content_of(&owned)).await.assert(404);
    let sweep = "update job_schedules set next_at = now() - interval '1 s' where name = 'files.nightly'";
    until(&app, "select count(*) = 1 from job_schedules where name = 'files.nightly'").await;
    app.sql().batch_execute(sweep).await.unwrap();
    until(&app, "select count(*) = 2 from job_done where kind = 'files.sweep'").await;
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    until(&app, "select count(*) = 1 and bool_and(removed_at is not null) from files").await;
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (0, 0));
    app.alice().get(&content_of(&owned)).await.assert(404);
    app.execute_in("acme", "delete from papers").await;
    until(&app, "select count(*) = 0 from files").await;
    assert_eq!(used(&app, "acme").await, 0, "its room was given back once");
    app.finish().await;
}

#[tokio::test]
async fn h_09_an_upload_under_a_key_is_made_once_and_answered_again() {
    let app = filing().await;
    let headers = [("content-type", "image/png"), ("idempotency-key", "one")];
    let first = send(&app.alice(), PAPERS, &headers, PNG).await.assert(200);
    let again = send(&app.alice(), PAPERS, &headers, PNG).await.assert(200);
    assert_eq!((first.json(), again.header("idempotency-replayed")), (again.json(), "true"));
    let longer = [PNG, b"!"].concat();
    send(&app.alice(), PAPERS, &headers, longer).await.assert(422).problem("core.idempotency_key_reused");
    until(&app, "select count(*) = 0 from unreferenced_objects").await;
    assert_eq!((stored(&app).len(), used(&app, "acme").await), (1, PNG.len() as i64));
    app.finish().await;
}
