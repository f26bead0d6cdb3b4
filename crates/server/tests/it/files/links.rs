//! Links: without a credential, for a while, and for one file.

use jiff::SignedDuration;

use serde_json::json;

use super::{PNG, file_png, filing, send};

#[tokio::test]
async fn a_link_works_without_a_credential_until_its_time_or_the_files() {
    let app = filing().await;
    let file = file_png(&app.alice()).await;
    let id = file["id"].as_str().unwrap();
    let links = format!("/test/papers/{id}/links");
    let path = app.alice().post(&links, json!({ "seconds": 60 })).await.assert(200).text();
    let path = path.as_str();
    let answer = app.anonymous().get(path).await.assert(200);
    assert_eq!((&*answer.body, answer.header("content-type")), (PNG, "image/png"));
    send(&app.anonymous(), ("GET", path), &[("range", "bytes=0-0")], "").await.assert(206);
    app.bob().get(path).await.assert(200);
    let logged = app.log().text();
    assert!(!logged.contains(path.split_once("link=").unwrap().1), "a link is as good as a password");
    app.clock().advance(SignedDuration::from_secs(61));
    app.anonymous().get(path).await.assert(404).problem("core.not_found");
    app.finish().await;
}

#[tokio::test]
async fn a_link_that_was_changed_deleted_or_suspended_is_one_and_the_same_404() {
    let app = filing().await;
    let file = file_png(&app.alice()).await;
    let id = file["id"].as_str().unwrap();
    let make = async || {
        let links = format!("/test/papers/{id}/links");
        app.alice().post(&links, json!({ "seconds": 90_000 })).await.assert(200).text()
    };
    let path = make().await;
    let unknown = app.anonymous().get("/api/v1/files/linked?link=AAAA").await.assert(404).comparable();
    for at in [0, 30, 60, 90] {
        let mut changed = path.clone().into_bytes();
        let index = "/api/v1/files/linked?link=".len() + at;
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(app.anonymous().get(&changed).await.comparable(), unknown, "character {at}");
    }
    app.anonymous().get("/api/v1/files/linked").await.assert(422);
    app.sql().execute("update tenants set status = 'suspended' where slug = 'acme'", &[]).await.unwrap();
    assert_eq!(app.anonymous().get(&path).await.comparable(), unknown, "suspended");
    app.sql().execute("update tenants set status = 'active' where slug = 'acme'", &[]).await.unwrap();
    app.anonymous().get(&path).await.assert(200);
    app.execute_in("acme", "delete from papers").await;
    assert_eq!(app.anonymous().get(&path).await.comparable(), unknown, "deleted");
    app.finish().await;
}
