//! Mails without a mail server: files and a page in development, and `held` elsewhere.

use std::path::PathBuf;

use serde_json::json;

use super::{LETTERS, TestApp, until};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("erp-mail-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[tokio::test]
async fn in_development_a_mail_becomes_a_file_and_is_shown_to_the_developer() {
    let folder = folder("dev");
    let data = folder.to_str().unwrap();
    let app = TestApp::builder()
        .module(&LETTERS)
        .setting("JOB_WORKERS", "2")
        .setting("DATA_DIR", data)
        .start()
        .await;
    let page = app.anonymous().get("/dev/mail").await.assert(200);
    assert!(page.text().contains("No mail was sent yet"), "{page}");
    let letter = json!({"template": "full", "to": "bob@example.com", "subject": "<b>Seven</b>",
        "what": "<script>alert(1)</script>"});
    app.alice().post("/test/letters", letter).await.assert(204);
    until(&app, "select count(*) = 1 from mails where state = 'sent'").await;
    let page = app.anonymous().get("/dev/mail").await.assert(200);
    assert!(page.text().contains("&#60;b&#62;Seven") && page.text().contains("bob@example.com"), "{page}");
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("script-src"), "{policy}");
    let at = page.text().find("/dev/mail/").unwrap();
    let path = page.text()[at..at + "/dev/mail/".len() + 36].to_owned();
    let one = app.anonymous().get(&path).await.assert(200);
    assert!(one.text().contains("<iframe sandbox ") && !one.text().contains("<script>"), "{one}");
    let html = app.anonymous().get(&format!("{path}/html")).await.assert(200);
    let policy = html.header("content-security-policy");
    assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
    assert!(!html.text().contains("<script>"), "{html}");
    let id = path.rsplit('/').next().unwrap();
    let eml = std::fs::read_to_string(folder.join(format!("mails/{id}.eml"))).unwrap();
    assert!(eml.contains("To: bob@example.com\r\n") && eml.contains("Subject: <b>Seven</b>\r\n"), "{eml}");
    app.anonymous().get("/dev/mail/00000000-0000-7000-8000-000000000000").await.assert(404);
    app.anonymous().get("/dev/mail/..%2F..%2Fetc%2Fpasswd").await.assert(404);
    app.finish().await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn outside_development_there_is_no_page_and_mails_without_a_server_are_held() {
    for environment in ["staging", "production"] {
        let app = TestApp::builder()
            .module(&LETTERS)
            .setting("JOB_WORKERS", "2")
            .setting("APP_ENV", environment)
            .setting("PUBLIC_URL", "https://erp.example.com")
            .setting("REQUIRE_TLS", "false")
            .setting("FORCE_HTTPS", "false")
            .setting("METRICS_TOKEN", "kR4-vX9_mT2-kR4-vX9_mT2-kR4-vX9_mT2")
            .start()
            .await;
        for path in ["/dev/mail", "/dev/mail/00000000-0000-7000-8000-000000000000"] {
            app.anonymous().get(path).await.assert(404);
            app.anonymous().with_token("kR4-vX9_mT2-kR4-vX9_mT2-kR4-vX9_mT2").get(path).await.assert(404);
        }
        let letter =
            json!({"template": "plain", "to": "bob@example.com", "subject": "Hello", "what": "Hello"});
        app.alice().post("/test/letters", letter).await.assert(204);
        until(&app, "select count(*) = 1 from mails where state = 'held' and error like '%o%'").await;
        let told = |line: &serde_json::Value| {
            line["message"].as_str().is_some_and(|text| text.contains("SMTP_HOST is not set"))
        };
        assert!(app.log().lines().iter().any(told), "the operator is told at the start");
        app.finish().await;
    }
}
