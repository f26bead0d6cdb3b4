//! The pages that links in mails lead to: usable without script, and GET spends nothing.

use erp_testkit::{Answer, TestApp};
use http::Request;
use serde_json::json;

use super::sign_in;

const PASSWORD: &str = "correct horse battery staple";

async fn send(app: &TestApp, path: &str, body: &str) -> Answer {
    let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    app.anonymous().request(request.body(body.to_owned()).unwrap()).await
}

/// The path and query of the link in the last mail to an address.
async fn link(app: &TestApp, email: &str) -> String {
    let sql = "select text from mails where recipient = $1 order by queued_at desc, id desc limit 1";
    let text: String = app.sql().query_one(sql, &[&email]).await.unwrap().get(0);
    let line = text.lines().find(|line| line.starts_with("http://")).unwrap();
    line.splitn(4, '/').nth(3).map(|rest| format!("/{rest}")).unwrap()
}

async fn invited(app: &TestApp, email: &str) -> String {
    let body = json!({ "email": email, "roles": ["member"] });
    app.alice().post("/api/v1/invitations", body).await.assert(202);
    link(app, email).await
}

#[tokio::test]
async fn a_link_is_followed_and_the_form_of_its_page_accepts_the_invitation() {
    let app = TestApp::start().await;
    let link = invited(&app, "ada@example.com").await;
    let token = link.split_once("token=").unwrap().1;
    for _ in 0..3 {
        let page = app.anonymous().get(&link).await.assert(200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let policy = page.header("content-security-policy").to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("script"), "{policy}");
        assert_eq!(
            (page.header("referrer-policy"), page.header("cache-control")),
            ("no-referrer", "no-store")
        );
        assert!(page.text().contains(token) && !page.text().contains("<script"));
    }
    let weak = send(&app, "/invitation", &format!("token={token}&name=Ada&password=short")).await.assert(422);
    assert!(
        weak.text().contains("fewer than 15") && weak.text().contains("value=\"Ada\""),
        "{}",
        weak.text()
    );
    let form = format!("token={token}&name=Ada+Lovelace&password={}", PASSWORD.replace(' ', "+"));
    let done = send(&app, "/invitation", &form).await.assert(200);
    assert!(done.text().contains("acme") && done.text().contains("ada@example.com"));
    sign_in(&app, "acme", "ada@example.com", PASSWORD).await.assert(200);
    let again = send(&app, "/invitation", &form).await.assert(410);
    assert!(
        again.text().contains("cannot be accepted") && !again.text().contains("<form"),
        "{}",
        again.text()
    );
    app.finish().await;
}

#[tokio::test]
async fn a_password_is_set_by_the_page_of_its_link() {
    let app = TestApp::start().await;
    let email = app.person("acme", erp_core::auth::Role::Member).credential.email.clone();
    let body = json!({ "tenant": "acme", "email": email });
    app.anonymous().post("/api/v1/auth/password/forgot", body).await.assert(202);
    app.until("select count(*) = 1 from mails", "select to_jsonb(count(*)) from mails").await;
    let link = link(&app, &email).await;
    let token = link.split_once("token=").unwrap().1;
    app.anonymous().get(&link).await.assert(200);
    send(&app, "/password", &format!("token={token}&password=short")).await.assert(422);
    let form = format!("token={token}&password={}", PASSWORD.replace(' ', "+"));
    send(&app, "/password", &form).await.assert(200);
    sign_in(&app, "acme", &email, PASSWORD).await.assert(200);
    send(&app, "/password", &form).await.assert(410);
    app.finish().await;
}

#[tokio::test]
async fn what_stands_in_a_link_is_text_and_no_page() {
    let app = TestApp::start().await;
    let link = "/invitation?token=%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    let page = app.anonymous().get(link).await.assert(200);
    assert!(!page.text().contains("<script>"), "{}", page.text());
    for path in ["/invitation", "/password"] {
        app.anonymous().get(path).await.assert(200);
        send(&app, path, "token=x&password=y").await.assert(410);
        app.anonymous().post(path, json!({ "token": "x", "password": "y" })).await.assert(415);
        send(&app, path, "token=x&password=y&more=z").await.assert(422);
        send(&app, path, "token=%ff&password=y").await.assert(422);
    }
    app.finish().await;
}

#[tokio::test]
async fn o_02_the_secret_of_a_link_is_in_no_line_of_the_log() {
    let app = TestApp::start().await;
    let link = invited(&app, "ada@example.com").await;
    let token = link.split_once("token=").unwrap().1;
    app.anonymous().get(&link).await.assert(200);
    let form = format!("token={token}&name=Ada&password={}", PASSWORD.replace(' ', "+"));
    send(&app, "/invitation", &form).await.assert(200);
    let log = app.log().text();
    assert!(!log.contains(token) && !log.contains("horse"), "the log has a secret");
    app.finish().await;
}
