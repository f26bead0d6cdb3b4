//! What becomes of an approved order elsewhere: an event, a mail to the supplier, a webhook; and the supplier's quote, a file.

use std::net::Ipv4Addr;

use erp_testkit::{Actor, Answer, TestApp};
use http::Request;
use serde_json::{Value, json};

use super::{ORDERS, approver, item, made, order, step};
use crate::jobs::until;
use crate::webhooks::{HOST, Receiver};

pub(crate) async fn put_quote(actor: &Actor<'_>, order: &str, text: &str) -> Answer {
    let request = Request::put(format!("{ORDERS}/{order}/quote"))
        .header("content-type", "application/pdf")
        .header("content-disposition", "attachment; filename=\"offer.pdf\"");
    actor.request(request.body(text.to_owned()).expect("a request")).await
}

async fn working() -> TestApp {
    TestApp::builder()
        .name(HOST, Ipv4Addr::LOCALHOST.into())
        .setting("OUTBOUND_ALLOW", HOST)
        .setting("WEBHOOK_SECRET", "q8Zr5Xw2Nk7Lm3Vt9Bc4Hd6Jf1Gs0PyAeU")
        .setting("JOB_WORKERS", "4")
        .start()
        .await
}

/// An order of a supplier with this address: its id.
async fn ordered(actor: &Actor<'_>, email: Option<&str>) -> String {
    let supplier = made(actor, "/api/v1/suppliers", json!({ "name": "Steel & Works", "email": email })).await;
    let item = item(actor, "SERVED-1", 0).await;
    made(actor, ORDERS, order(&supplier, &[(&item, 2)])).await
}

#[tokio::test]
async fn an_approved_order_is_told_to_webhooks_and_mailed_to_its_supplier_once() {
    let (app, receiver) = (working().await, Receiver::start().await);
    let alice = app.alice();
    let body = json!({ "url": receiver.url("/orders"), "events": ["purchasing.order_approved"] });
    let secret = alice.post("/api/v1/webhooks", body).await.assert(201).json()["secret"].clone();
    let id = ordered(&alice, Some("sales@steel.example")).await;
    let approver = approver(&app).await;
    step(&approver, &id, "approve", &[]).await.assert(200);
    step(&approver, &id, "approve", &[]).await.assert(409);

    let received = receiver.until("/orders", 1).await;
    assert!(received[0].verifies(secret.as_str().expect("a secret")));
    let told = received[0].json();
    assert_eq!(
        (&told["type"], &told["data"]["total"]),
        (&json!("purchasing.order_approved"), &json!({ "amount": "2.50", "currency": "EUR" }))
    );
    until(&app, "select count(*) = 1 from mails where template = 'purchasing.order_placed'").await;
    let mails = alice.get("/api/v1/mails").await.assert(200).json();
    let mail = &mails["items"][0];
    assert_eq!(mail["recipient"], "sales@steel.example", "{mails:#}");
    let number = alice.get(&format!("{ORDERS}/{id}")).await.assert(200).json()["number"].clone();
    assert_eq!(mail["subject"], format!("Purchase order {}", number.as_str().expect("a number")));
    assert_eq!(app.bob().get("/api/v1/mails").await.assert(200).json()["items"], json!([]));
    assert_eq!(app.bob().get("/api/v1/events").await.assert(200).json()["items"], json!([]));
    app.finish().await;
}

#[tokio::test]
async fn a_supplier_without_an_address_holds_nothing_up() {
    let app = working().await;
    let alice = app.alice();
    for email in [None, Some("no address")] {
        let supplier =
            made(&alice, "/api/v1/suppliers", json!({ "name": format!("{email:?}"), "email": email })).await;
        let item = item(&alice, &format!("SERVED-{}", email.is_some()), 0).await;
        let id = made(&alice, ORDERS, order(&supplier, &[(&item, 2)])).await;
        step(&approver(&app).await, &id, "approve", &[]).await.assert(200);
    }
    let read = "select bool_and(c.number = 2 and c.stopped_at is null) from event_cursors c join tenants t on t.id = c.tenant_id
        where t.slug = 'acme' and subscriber = 'purchasing.tell_supplier'";
    until(&app, read).await;
    until(&app, "select count(*) = 0 from mails").await;
    app.finish().await;
}

#[tokio::test]
async fn a_quote_takes_the_place_of_the_one_before_and_is_its_tenants() {
    let app = working().await;
    let (alice, bob) = (app.alice(), app.bob());
    let id = ordered(&alice, None).await;
    let path = format!("{ORDERS}/{id}/quote");
    alice.get(&path).await.assert(404);
    put_quote(&alice, &id, "%PDF-1.7\nthe first").await.assert(204);
    put_quote(&alice, &id, "%PDF-1.7\nthe second").await.assert(204);
    let read = alice.get(&path).await.assert(200);
    assert_eq!(read.text(), "%PDF-1.7\nthe second");
    assert!(read.header("content-disposition").contains("offer.pdf"), "{read}");
    for refused in [bob.get(&path).await, put_quote(&bob, &id, "%PDF-1.7\n").await] {
        refused.assert(404).problem("core.not_found");
    }
    put_quote(&alice, &id, "<html><script>").await.any_problem();
    let kept: Value = app
        .sql()
        .query_one("select to_jsonb(count(*)) from files where removed_at is null", &[])
        .await
        .expect("a row")
        .get(0);
    assert_eq!(kept, json!(1), "the first is gone, and bob's was not kept");
    app.finish().await;
}
