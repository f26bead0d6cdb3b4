//! A mail on its way.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use erp_testkit::{MailServer, TestApp};
use serde_json::{Value, json};

use super::{until, with_server, working};

fn content(mail: &Value) -> String {
    String::from_utf8(STANDARD.decode(mail["content"].as_str().unwrap()).unwrap()).unwrap()
}

/// The names of the headers, as they stand before the first empty line.
fn headers(content: &str) -> BTreeSet<String> {
    let (head, _) = content.split_once("\r\n\r\n").unwrap();
    let lines = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
    lines
        .map(|line| line.split_once(':').unwrap_or_else(|| panic!("no header: {line}")).0.to_owned())
        .collect()
}

/// What a part that is quoted-printable or plain says.
fn decoded(part: &str) -> String {
    let (head, body) = part.split_once("\r\n\r\n").unwrap();
    if head.contains("base64") {
        return String::from_utf8(STANDARD.decode(body.replace("\r\n", "")).unwrap()).unwrap();
    }
    if !head.contains("quoted-printable") {
        return body.to_owned();
    }
    let (joined, mut bytes) = (body.replace("=\r\n", ""), Vec::new());
    let mut rest = joined.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'=' {
            let hex = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}

async fn post(app: &TestApp, letter: Value) {
    app.alice().post("/test/letters", letter).await.assert(204);
}

fn letter(to: &str) -> Value {
    json!({"template": "plain", "to": to, "subject": "Order 7", "what": "It is here."})
}

#[tokio::test]
async fn a_mail_is_sent_after_the_commit_and_not_after_a_rollback() {
    let Some((mut server, app)) = with_server().await else { return };
    let letter = |to: &str, dropped: bool| json!({"template": "full", "to": to, "name": "Bob", "subject": "Order 7", "what": "It is <here>.", "dropped": dropped});
    post(&app, letter("never@example.com", true)).await;
    post(&app, letter("bob@example.com", false)).await;
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
        "<html lang=\"en\">",
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
    let id = all["items"][0]["id"].as_str().unwrap().to_owned();
    until(&app, "select count(*) = 1 from job_done").await;
    let result = app.alice().get(&format!("/api/v1/jobs/{id}/result")).await.assert(200).json();
    assert_eq!(result, json!({"result": {"outcome": "sent"}}));
    assert!(text.contains(&format!("Message-ID: <{}@product.example>", id.replace('-', ""))), "{text}");
    let name = "select name from tenant_profiles where tenant_id = $1";
    let name: String = app.sql().query_one(name, &[&app.tenant_id("acme")]).await.unwrap().get(0);
    assert!(
        text.contains(&format!("From: {name} <")) || text.contains(&format!("From: \"{name}\" <")),
        "{text}"
    );
    app.finish().await;
}

#[tokio::test]
async fn whatever_stands_in_a_subject_or_a_name_adds_no_header_and_no_recipient() {
    let Some((mut server, app)) = with_server().await else { return };
    let payloads = [
        "x\r\nBcc: eve@example.com",
        "x\nBcc: eve@example.com",
        "x\rBcc: eve@example.com",
        "x\r\n\r\nBcc: eve@example.com",
        "x\r\n Bcc: eve@example.com",
        "x\u{85}Bcc: eve@example.com",
        "x\u{2028}Bcc: eve@example.com",
        "x\u{2029}Bcc: eve@example.com",
        "x\u{b}Bcc: eve@example.com",
        "x\u{c}Bcc: eve@example.com",
        "x\u{1}Bcc: eve@example.com",
        "=?utf-8?q?x=0d=0aBcc:_eve?=",
        "=?utf-8?b?DQpCY2M6IGV2ZQ==?=",
        "x%0d%0aBcc:eve@example.com",
        "\" <eve@example.com>, \"",
        "eve@example.com, bob",
        "<eve@example.com>",
        "(comment) \\\" ;:",
        "\u{202e}moc.elpmaxe@eve",
        "ü\r\nBcc: eve@example.com",
        "x\r\n.\r\nMAIL FROM:<eve@example.com>",
        &"ü ".repeat(150),
    ];
    let mut seen = BTreeSet::new();
    for payload in payloads {
        post(&app, json!({"template": "full", "to": "bob@example.com", "name": payload, "subject": payload, "what": "x"})).await;
        let mail = server.mail().await;
        assert_eq!(mail["to"], json!(["bob@example.com"]), "{payload:?}");
        let content = content(&mail);
        seen.insert(headers(&content));
        let head = content.split_once("\r\n\r\n").unwrap().0;
        assert!(
            head.is_ascii()
                && head.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n']))
        );
        let to: Vec<&str> = head.split("\r\n").filter(|line| line.contains("<bob@example.com>")).collect();
        assert_eq!(to.len(), 1, "{payload:?}: {head}");
    }
    let expected =
        ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"];
    assert_eq!(
        seen,
        BTreeSet::from([expected.into_iter().map(str::to_owned).collect()]),
        "the same ones for all"
    );
    app.finish().await;
}

#[tokio::test]
async fn what_a_mail_says_arrives_byte_by_byte() {
    let Some((mut server, app)) = with_server().await else { return };
    for what in [
        ".\n..\n.\r\n.hidden\n\n.\nend".to_owned(),
        "Grüezi 👋 مرحبا 日本語".to_owned(),
        "x".repeat(5000),
        "ü".repeat(5000),
        format!("{}\n.\n{}", "long ".repeat(500), "= =3D =\n \ttab and blank at the end \t"),
        "From the beginning\nFrom the middle".to_owned(),
        "a\rb\r\nc\nd".to_owned(),
    ] {
        post(&app, json!({"template": "plain", "to": "bob@example.com", "subject": "x", "what": &what}))
            .await;
        let mail = server.mail().await;
        let content = content(&mail);
        assert!(
            content.is_ascii()
                && content.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n']))
        );
        let expected = format!("Dear reader,\n\n{what}\n").replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(decoded(&content).replace("\r\n", "\n").trim_end(), expected.trim_end(), "{what:.40}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_mail_is_in_the_language_of_its_recipient_and_goes_to_international_domains() {
    let Some((mut server, app)) = with_server().await else { return };
    post(
        &app,
        json!({"template": "full", "to": "b@Bücher.example", "locale": "de-CH", "subject": "x", "what": "y"}),
    )
    .await;
    let mail = server.mail().await;
    assert_eq!(mail["to"], json!(["b@xn--bcher-kva.example"]));
    let text = content(&mail);
    assert!(text.contains("Subject: Zu: x\r\n") && text.contains("Guten Tag"), "{text}");
    for refused in ["jürg@example.com", "a@example.com\r\nBcc: b@example.com", "a b@example.com", "a"] {
        let refused = json!({"template": "plain", "to": refused, "subject": "x", "what": "y"});
        app.alice().post("/test/letters", refused).await.assert(422).problem("core.invalid");
    }
    let large =
        json!({"template": "plain", "to": "b@example.com", "subject": "x", "what": "x".repeat(300_000)});
    app.expect_errors();
    app.alice().post("/test/letters", large).await.assert(500).problem("mail.too_large");
    app.finish().await;
}

#[tokio::test]
async fn an_address_that_bounces_gets_no_more_mail_until_somebody_says_so() {
    let Some((mut server, app)) = with_server().await else { return };
    for _ in 0..2 {
        post(&app, letter("550@example.com")).await;
        until(&app, "select count(*) = 0 from mails where state = 'queued'").await;
    }
    let states =
        "select string_agg(state || ' ' || error || ' ' || attempts, ', ' order by queued_at) from mails";
    let states: String = app.sql().query_one(states, &[]).await.unwrap().get(0);
    assert_eq!(states, "failed recipient 550 5.1.1 1, suppressed bounced 0");
    let all = app.alice().get("/api/v1/mail-suppressions").await.assert(200).json();
    assert_eq!(
        (&all["items"][0]["address"], &all["items"][0]["reason"]),
        (&json!("550@example.com"), &json!("bounced"))
    );
    // Of the other tenant nothing is known, and what concerns us or the mail suppresses nobody.
    app.bob().post("/test/letters", letter("550@example.com")).await.assert(204);
    for to in ["552@example.com", "content@example.com", "relay@example.com", "450@example.com"] {
        app.expect_errors();
        post(&app, letter(to)).await;
    }
    until(&app, "select count(*) = 2 from mails where state = 'failed' and recipient !~ '^550'").await;
    until(&app, "select count(*) = 2 from mails where state = 'queued' and attempts >= 1").await;
    let errors = "select string_agg(recipient || ' ' || error, ', ' order by recipient) from mails where recipient !~ '^550'";
    let errors: String = app.sql().query_one(errors, &[]).await.unwrap().get(0);
    assert_eq!(
        errors,
        "450@example.com recipient 450 4.2.0, 552@example.com recipient 552 5.2.2, content@example.com content 554 5.6.0, \
         relay@example.com recipient 554 5.7.1"
    );
    let count = app.sql().query_one("select count(*) from mail_suppressions", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 2, "one address, of each tenant");
    let path = format!("/api/v1/mail-suppressions/{}", all["items"][0]["id"].as_str().unwrap());
    app.alice().delete(&path).await.assert(204);
    post(&app, letter("550@example.com")).await;
    until(&app, "select count(*) = 3 from mails where error = 'recipient 550 5.1.1'").await;
    assert!(server.mails_until_silent(Duration::from_millis(200)).await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn somebody_unsubscribes_with_one_click_and_gets_what_is_no_promotion_all_the_same() {
    let Some((mut server, app)) = with_server().await else { return };
    let news = json!({"template": "news", "to": "Bob@example.com", "subject": "New", "what": "Look."});
    post(&app, news.clone()).await;
    let text = content(&server.mail().await);
    assert!(text.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"), "{text}");
    assert!(!text.contains("Auto-Submitted"), "{text}");
    let unfolded = text.replace("\r\n ", "");
    let (_, link) = unfolded.split_once("List-Unsubscribe: <").unwrap();
    let link = link.split_once('>').unwrap().0;
    let path = link[link.find("/unsubscribe/").unwrap()..].to_owned();
    assert!(
        decoded(&text.replace("\r\n ", "")).contains(&path) || text.replace("=\r\n", "").contains(&path),
        "{text}"
    );
    let page = app.anonymous().get(&path).await.assert(200);
    assert!(page.text().contains("<form method=\"post\">"), "{page}");
    let count = async || {
        app.sql().query_one("select count(*) from mail_suppressions", &[]).await.unwrap().get::<_, i64>(0)
    };
    assert_eq!(count().await, 0, "a program that looks at links unsubscribes nobody");
    for _ in 0..2 {
        let click = axum::http::Request::post(&path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("List-Unsubscribe=One-Click")
            .unwrap();
        app.anonymous().request(click).await.assert(200);
    }
    assert_eq!(count().await, 1);
    let audit = app.audit_of("acme").await;
    let told: Vec<_> = audit.iter().filter(|row| row["action"] == "mail.unsubscribed").collect();
    assert_eq!((told.len(), &told[0]["actor"]), (1, &json!("system:unsubscribe")));
    post(&app, news.clone()).await;
    until(&app, "select count(*) = 1 from mails where state = 'suppressed' and error = 'unsubscribed'").await;
    post(&app, letter("bob@example.com")).await;
    assert_eq!(server.mail().await["to"], json!(["bob@example.com"]));
    // Of the other tenant Bob still gets news; and no other link leads anywhere.
    app.bob().post("/test/letters", news).await.assert(204);
    server.mail().await;
    let token = path.rsplit('/').next().unwrap();
    let mut bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).unwrap();
    for at in [0, 15, 16, 31, 32, 47] {
        bytes[at] ^= 1;
        let forged = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes);
        app.anonymous().post(&format!("/unsubscribe/{forged}"), json!({})).await.assert(404);
        bytes[at] ^= 1;
    }
    for odd in ["x", "", &token[..63], &format!("{token}AAAA")] {
        app.anonymous().get(&format!("/unsubscribe/{odd}")).await.assert(404);
    }
    assert_eq!(count().await, 1);
    app.finish().await;
}

#[tokio::test]
async fn what_is_confidential_is_gone_once_it_is_sent_and_the_rest_after_some_days() {
    let Some((mut server, app)) = with_server().await else { return };
    post(
        &app,
        json!({"template": "secret", "to": "bob@example.com", "subject": "x", "what": "https://token"}),
    )
    .await;
    post(&app, letter("bob@example.com")).await;
    let both = [content(&server.mail().await), content(&server.mail().await)];
    assert!(both.iter().any(|text| text.contains("https://token")));
    until(&app, "select count(*) = 2 from mails where state = 'sent'").await;
    until(&app, "select count(*) = 1 from mails where text is null and confidential").await;
    let old = "update mails set ended_at = now() - interval '31 days'; \
        update job_schedules set next_at = now() where name = 'mail.forget'";
    app.sql().batch_execute(old).await.unwrap();
    until(&app, "select count(*) = 2 from mails where text is null and html is null and subject = subject")
        .await;
    app.finish().await;
}

#[tokio::test]
async fn in_staging_mail_reaches_listed_domains_only() {
    if !MailServer::is_installed("mail in staging") {
        return;
    }
    let mut server = MailServer::start();
    let app = working(server.port())
        .setting("APP_ENV", "staging")
        .setting("PUBLIC_URL", "https://erp.example.com")
        .setting("REQUIRE_TLS", "false")
        .setting("FORCE_HTTPS", "false")
        .setting("OUTBOUND_ALLOW", "team.example,*.partner.example")
        .start()
        .await;
    for to in [
        "a@team.example",
        "b@customer.example",
        "c@x.partner.example",
        "d@partner.example",
        "e@notteam.example",
    ] {
        post(&app, letter(to)).await;
    }
    until(&app, "select count(*) = 0 from mails where state = 'queued'").await;
    let mut sent: Vec<_> = server.mails_until_silent(Duration::from_millis(300)).await;
    sent.sort_by_key(|mail| mail["to"].to_string());
    let sent: Vec<_> = sent.iter().map(|mail| mail["to"][0].as_str().unwrap()).collect();
    assert_eq!(sent, ["a@team.example", "c@x.partner.example"]);
    until(&app, "select count(*) = 3 from mails where state = 'held' and error = 'not_on_outbound_allow'")
        .await;
    app.finish().await;
}

#[tokio::test]
async fn a_dead_mail_server_costs_no_mail_and_no_readiness_and_holds_up_no_other_job() {
    if !MailServer::is_installed("a dead mail server") {
        return;
    }
    let mut server = MailServer::start();
    let app = working(server.port()).setting("SMTP_TIMEOUT", "200ms").start().await;
    server.kill();
    for number in 0..12 {
        post(&app, letter(&format!("{number}@example.com"))).await;
    }
    until(&app, "select count(*) = 12 from job_scheduled where kind = 'mail.send'").await;
    until(&app, "select count(*) = 0 from job_running").await;
    app.anonymous().get("/readyz").await.assert(200);
    // What probes have said is kept for a second.
    let begun = std::time::Instant::now();
    let (health, smtp) = loop {
        let health = app.anonymous().get("/health/detailed").await.assert(200).json();
        let smtp = health["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["name"] == "smtp")
            .unwrap()
            .clone();
        if smtp["passed"] == false || begun.elapsed() > Duration::from_secs(10) {
            break (health, smtp);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&smtp["passed"], &smtp["required"]), (&json!(false), &json!(false)), "{health:#}");
    assert!(smtp["details"]["failure"].as_str().unwrap().contains("connect"), "{smtp}");
    assert_eq!(health["status"], "degraded");
    let tried = app.sql().query_one("select sum(attempts) from mails", &[]).await.unwrap();
    assert!(tried.get::<_, i64>(0) <= 8, "the breaker spares the rest: {}", tried.get::<_, i64>(0));
    server.restart();
    let now = async || app.sql().batch_execute("update job_scheduled set run_at = now()").await.unwrap();
    let begun = std::time::Instant::now();
    let mut arrived = BTreeSet::new();
    while arrived.len() < 12 {
        now().await;
        for mail in server.mails_until_silent(Duration::from_millis(500)).await {
            assert!(arrived.insert(mail["to"].to_string()), "each once");
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{arrived:?}");
    }
    until(&app, "select count(*) = 12 from mails where state = 'sent'").await;
    app.finish().await;
}

#[tokio::test]
async fn after_four_days_a_mail_is_given_up_and_one_without_a_job_too() {
    if !MailServer::is_installed("an old mail") {
        return;
    }
    let server = MailServer::start();
    let app = working(server.port()).start().await;
    post(&app, letter("450@example.com")).await;
    post(&app, letter("450@example.org")).await;
    until(&app, "select count(*) = 2 from job_scheduled where kind = 'mail.send'").await;
    let old = "update mails set queued_at = now() - interval '5 days'; \
        delete from job_scheduled where id = (select id from mails where recipient like '%org'); \
        update job_scheduled set run_at = now(); \
        update job_schedules set next_at = now() where name = 'mail.forget'";
    app.sql().batch_execute(old).await.unwrap();
    until(&app, "select count(*) = 2 from mails where state = 'failed'").await;
    let errors = "select string_agg(error, ', ' order by error) from mails";
    let errors: String = app.sql().query_one(errors, &[]).await.unwrap().get(0);
    assert_eq!(errors, "job gone, recipient 450 4.2.0");
    app.finish().await;
}

#[tokio::test]
async fn jobs_and_the_system_send_mail_too_to_somebody_without_an_account() {
    let Some((mut server, app)) = with_server().await else { return };
    app.alice().post("/test/letters/by-a-job", json!({})).await.assert(204);
    assert_eq!(server.mail().await["to"], json!(["job@example.com"]));
    let tenant = app.tenant_id("globex");
    app.anonymous().post(&format!("/test/letters/invitations/{tenant}"), json!({})).await.assert(204);
    assert_eq!(server.mail().await["to"], json!(["guest@example.com"]));
    until(&app, "select count(*) = 2 from mails where state = 'sent'").await;
    let ours = app.alice().get("/api/v1/mails").await.assert(200).json()["items"].clone();
    let theirs = app.bob().get("/api/v1/mails").await.assert(200).json()["items"].clone();
    assert_eq!((ours.as_array().unwrap().len(), &ours[0]["recipient"]), (1, &json!("job@example.com")));
    assert_eq!((theirs.as_array().unwrap().len(), &theirs[0]["recipient"]), (1, &json!("guest@example.com")));
    app.finish().await;
}
