//! A mail on its way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{until, with_server};

fn content(mail: &serde_json::Value) -> String {
    String::from_utf8(STANDARD.decode(mail["content"].as_str().unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_mail_is_sent_after_the_commit_and_not_after_a_rollback() {
    let Some((mut server, app)) = with_server().await else { return };
    let letter = |to: &str, dropped: bool| json!({"template": "full", "to": to, "name": "Bob", "subject": "Order 7", "what": "It is <here>.", "dropped": dropped});
    app.alice().post("/test/letters", letter("never@example.com", true)).await.assert(204);
    app.alice().post("/test/letters", letter("bob@example.com", false)).await.assert(204);
    let mail = server.mail().await;
    assert_eq!((&mail["from"], &mail["to"]), (&json!("erp@product.example"), &json!(["bob@example.com"])));
    let text = content(&mail);
    for part in [
        "From: ",
        "<erp@product.example>\r\n",
        "To: Bob <bob@example.com>\r\n",
        "Subject: Order 7\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "It is <here>.",
        "It is &#60;here&#62;.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    until(
        &app,
        "select count(*) = 1 from mails where state = 'sent' and attempts = 1 and ended_at is not null",
    )
    .await;
    let all = app.alice().get("/api/v1/mails").await.assert(200).json();
    assert_eq!(all["items"].as_array().unwrap().len(), 1, "{all:#}");
    assert_eq!(all["items"][0]["state"], "sent");
    let id = all["items"][0]["id"].as_str().unwrap().to_owned();
    until(&app, "select count(*) = 1 from job_done").await;
    let result = app.alice().get(&format!("/api/v1/jobs/{id}/result")).await.assert(200).json();
    assert_eq!(result, json!({"result": {"outcome": "sent"}}));
    assert!(text.contains(&format!("Message-ID: <{}@product.example>", id.replace('-', ""))), "{text}");
    app.finish().await;
}
