//! A tenant's mails over HTTP: who may see what of them. The rows are written here; mails that are sent are tested with a mail
//! server.

use erp_testkit::{Actor, Fixture, Prepared, Setup, TestApp};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) const FIXTURES: &[Fixture] = &[
    Fixture::new("GET /api/v1/mails/{id}", |setup| {
        Box::pin(async move { Prepared::at([mail(setup.app(), setup.tenant(), "sent", false).await]) })
    }),
    Fixture::new("GET /unsubscribe/{token}", |_| Box::pin(no_link())).answers(404),
    Fixture::new("POST /unsubscribe/{token}", |_| Box::pin(no_link())).answers(404),
    Fixture::new("DELETE /api/v1/mail-suppressions/{id}", |setup| Box::pin(suppressed(setup))),
];

async fn no_link() -> Prepared {
    Prepared::at(["no-such-link"])
}

async fn suppressed(setup: &Setup<'_>) -> Prepared {
    Prepared::at([suppression(setup.app(), setup.tenant(), &format!("{}@example.com", Uuid::now_v7())).await])
}

/// Writes a mail in this state; its id.
async fn mail(app: &TestApp, tenant: &str, state: &str, confidential: bool) -> String {
    let (id, tenant) = (Uuid::now_v7(), *app.tenant_id(tenant).as_uuid());
    let sql = "insert into mails (id, tenant_id, template, recipient, locale, subject, text, html, promotional, confidential, \
        message_id, state, ended_at) values ($1, $2, 'tests.letter', 'bob@example.com', 'en', 'Hello', 'It is salary day.', \
        '<p>It is salary day.</p>', false, $4, 'x@example.com', $3, case when $3 <> 'queued' then now() end)";
    app.sql().execute(sql, &[&id, &tenant, &state, &confidential]).await.expect("the test's SQL");
    id.to_string()
}

async fn suppression(app: &TestApp, tenant: &str, address: &str) -> String {
    let (id, tenant) = (Uuid::now_v7(), *app.tenant_id(tenant).as_uuid());
    let sql = "insert into mail_suppressions (id, tenant_id, address, reason, mail) values ($1, $2, $3, 'bounced', $1)";
    app.sql().execute(sql, &[&id, &tenant, &address]).await.expect("the test's SQL");
    id.to_string()
}

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().expect("a page").iter().filter_map(|mail| mail["id"].as_str()).collect()
}

async fn read(actor: &Actor<'_>, id: &str) -> erp_testkit::Answer {
    actor.get(&format!("/api/v1/mails/{id}")).await
}

#[tokio::test]
async fn mails_are_listed_the_newest_first_and_what_they_say_is_with_the_mail_alone() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let mut made = Vec::new();
    for state in ["queued", "sent", "held", "failed", "suppressed"] {
        made.push(mail(&app, "acme", state, false).await);
    }
    made.reverse();
    let all = alice.get("/api/v1/mails").await.assert(200).json();
    assert_eq!(ids(&all), made, "{all:#}");
    assert!(!all.to_string().contains("salary"), "{all:#}");
    for listed in all["items"].as_array().unwrap() {
        let state = listed["state"].as_str().unwrap();
        assert_eq!(alice.get(&format!("/api/v1/mails?state={state}")).await.json()["items"], json!([listed]));
        let whole = read(&alice, listed["id"].as_str().unwrap()).await.assert(200).json();
        assert_eq!(
            (&whole["text"], &whole["html"]),
            (&json!("It is salary day."), &json!("<p>It is salary day.</p>"))
        );
    }
    assert!(ids(&alice.get("/api/v1/mails?template=tests.other").await.json()).is_empty());
    alice.get("/api/v1/mails?state=lost").await.assert(422).problem("core.invalid");
    app.max().get("/api/v1/mails").await.assert(403).problem("core.forbidden");
    app.finish().await;
}

#[tokio::test]
async fn what_a_confidential_mail_says_is_shown_to_nobody() {
    let app = TestApp::start().await;
    let id = mail(&app, "acme", "queued", true).await;
    let whole = read(&app.alice(), &id).await.assert(200).json();
    assert_eq!(
        (&whole["text"], &whole["html"]),
        (&Value::Null, &Value::Null),
        "an owner could use the link in it"
    );
    app.finish().await;
}

#[tokio::test]
async fn t_18_another_tenants_mails_and_addresses_do_not_exist() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    let theirs = mail(&app, "globex", "sent", false).await;
    let address = suppression(&app, "globex", "carol@example.com").await;
    read(&alice, &theirs).await.assert(404).problem("core.not_found");
    let path = format!("/api/v1/mail-suppressions/{address}");
    alice.delete(&path).await.assert(404).problem("core.not_found");
    for list in ["/api/v1/mails", "/api/v1/mail-suppressions"] {
        assert!(ids(&alice.get(list).await.assert(200).json()).is_empty());
        assert_eq!(ids(&bob.get(list).await.assert(200).json()).len(), 1);
    }
    bob.delete(&path).await.assert(204);
    bob.delete(&path).await.assert(404);
    let audit = app.audit_of("globex").await;
    let told = audit.iter().find(|row| row["action"] == "mail_suppression.removed").expect("it is audited");
    assert!(!told.to_string().contains("carol"), "the audit log keeps no address: {told}");
    app.finish().await;
}
