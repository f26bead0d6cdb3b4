//! Webhooks that others send to us: what is refused, and that one has its effect once.

use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Trace;
use erp_core::db::{Migration, Sample, System};
use erp_core::extract::Path;
use erp_core::webhooks::{Receipt, SignedWebhook};
use erp_testkit::Answer;
use http::Request;

use super::*;

static BANK: Module = Module {
    name: "bank",
    routes: bank_routes,
    system: SYSTEM,
    migrations: &[Migration { name: "0001_payments", sql: TABLE, after: &[], was: &[] }],
    samples: &[Sample { table: "payments", insert: "insert into public.payments (what) values ('canary');" }],
    ..Module::BARE
};

const TABLE: &str = "
    create table public.payments (id uuid not null default gen_random_uuid(), what text not null);
    select app.tenant_table('public.payments', audit_as => 'payment');
    select app.system_access('public.payments', '{select,insert}', 'the bank tells of payments, and is no caller');";

erp_core::system_work! {
    /// What the test's module does as the system.
    SYSTEM {
        PAYMENTS = "bank-payments": "Notes payments that the bank tells of; the bank is nobody's member.";
    }
}

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[derive(Deserialize)]
struct Payment {
    what: String,
}

fn bank_routes() -> Routes {
    Routes::new()
        .post("/test/bank/{tenant}", Access::Public, paid)
        .system(&PAYMENTS)
        .doc(Operation::new("notePayment", "Note a payment"))
}

async fn paid(
    State(_): State<App>,
    system: System,
    trace: Trace,
    Path(tenant): Path<String>,
    hook: SignedWebhook,
) -> Result<NoContent> {
    let secrets = [OLD, NEW].map(|text| SigningSecret::parse(text).unwrap());
    let hook = hook.verify(&secrets)?;
    let mut tx = system.within(&trace, &tenant).await?;
    if hook.receive(&mut tx, "bank").await? == Receipt::New {
        let Payment { what } = hook.json()?;
        tx.rows::<()>("insert into payments (what) values ($1)", &[&what]).await?;
        if what == "fails" {
            return Err(erp_core::error::Error::unavailable());
        }
    }
    tx.commit().await?;
    Ok(NoContent)
}

struct Message<'a> {
    id: &'a str,
    late: i64,
    secret: &'a str,
    body: &'a str,
}

const PLAIN: Message<'_> =
    Message { id: "msg_1", late: 0, secret: OLD, body: r#"{"what": "rent", "more": 1}"# };

/// Sends a message, with one header left out or replaced.
async fn send(app: &TestApp, tenant: &str, message: &Message<'_>, other: Option<(&str, &str)>) -> Answer {
    let at = app.edge().app.clock.now().as_second() - message.late;
    let secret = SigningSecret::parse(message.secret).unwrap();
    let signature = secret.sign(message.id, at, message.body.as_bytes());
    let at = at.to_string();
    let headers = [("webhook-id", message.id), ("webhook-timestamp", &at), ("webhook-signature", &signature)];
    let mut request =
        Request::post(format!("/test/bank/{tenant}")).header("content-type", "application/json");
    for (name, value) in headers {
        let value = other.filter(|(replaced, _)| *replaced == name).map_or(value, |(_, with)| with);
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    app.anonymous().request(request.body(message.body.to_owned()).unwrap()).await
}

async fn payments(app: &TestApp) -> i64 {
    app.sql().query_one("select count(*) from payments", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn w_01_an_incoming_webhook_is_verified_over_its_bytes_by_each_of_its_secrets() {
    let app = TestApp::builder().module(&BANK).start().await;
    for (number, secret) in [OLD, NEW].into_iter().enumerate() {
        let id = format!("msg_{number}");
        send(&app, "acme", &Message { id: &id, secret, ..PLAIN }, None).await.assert(204);
    }
    assert_eq!(payments(&app).await, 2);
    let stranger = "whsec_Y0RTcEFvVGZlb1B4c2V2Wk1rS2lRb2lG";
    let none = format!("{} v1,AAAA", "v2,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=");
    let refused = [
        (Message { secret: stranger, ..PLAIN }, None),
        (Message { late: 301, ..PLAIN }, None),
        (Message { late: -301, ..PLAIN }, None),
        (PLAIN, Some(("webhook-id", "msg_other"))),
        (PLAIN, Some(("webhook-id", ""))),
        (PLAIN, Some(("webhook-timestamp", ""))),
        (PLAIN, Some(("webhook-timestamp", "1e9"))),
        (PLAIN, Some(("webhook-timestamp", "-5"))),
        (PLAIN, Some(("webhook-timestamp", "99999999999999999999"))),
        (PLAIN, Some(("webhook-signature", ""))),
        (PLAIN, Some(("webhook-signature", &none))),
    ];
    for (message, other) in &refused {
        send(&app, "acme", message, *other).await.assert(401).problem("core.webhook_not_signed");
    }
    for late in [299, -299] {
        let id = format!("msg_late{late}");
        send(&app, "acme", &Message { id: &id, late, ..PLAIN }, None).await.assert(204);
    }
    send(&app, "nobody", &PLAIN, None).await.assert(404).problem("core.not_found");
    send(&app, "acme", &Message { id: "msg_odd", body: "[]", ..PLAIN }, None)
        .await
        .assert(400)
        .problem("core.malformed_body");
    app.finish().await;
}

#[tokio::test]
async fn w_04_an_incoming_webhook_has_its_effect_once_in_each_tenant() {
    let app = TestApp::builder().module(&BANK).start().await;
    for _ in 0..3 {
        send(&app, "acme", &PLAIN, None).await.assert(204);
    }
    send(&app, "globex", &PLAIN, None).await.assert(204);
    assert_eq!(payments(&app).await, 2);
    let message = Message { id: "msg_2", ..PLAIN };
    let at_once = futures_util::future::join_all((0..16).map(|_| send(&app, "acme", &message, None))).await;
    at_once.into_iter().for_each(|answer| drop(answer.assert(204)));
    assert_eq!(payments(&app).await, 3, "of sixteen at a time one has its effect");
    let audit = app.audit_of("acme").await;
    assert!(audit.iter().any(|row| row["actor"] == "system:bank-payments"), "{audit:#?}");
    app.expect_errors();
    send(&app, "acme", &Message { id: "msg_3", body: r#"{"what": "fails"}"#, ..PLAIN }, None)
        .await
        .assert(503);
    let again = Message { id: "msg_3", body: r#"{"what": "goes well"}"#, ..PLAIN };
    send(&app, "acme", &again, None).await.assert(204);
    assert_eq!(payments(&app).await, 4, "what was rolled back is not remembered");
    app.finish().await;
}
