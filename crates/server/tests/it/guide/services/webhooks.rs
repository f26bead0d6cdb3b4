//! The section "Webhooks": what another service tells us.

use axum::extract::State;
use erp_core::answer::NoContent;
use erp_core::app::App;
use erp_core::auth::Trace;
use erp_core::config::Section;
use erp_core::db::{Migration, Sample, System};
use erp_core::error::{Error, Result};
use erp_core::extract::Path;
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::shared::Secret;
use erp_core::webhooks::{Receipt, SignedWebhook, SigningSecret};
use erp_testkit::TestApp;
use http::Request;
use serde::Deserialize;

erp_core::settings! {
    /// The bank.
    pub struct BankSettings in "Bank" of BANK;

    /// The secret that the bank signs its webhooks with.
    BANK_WEBHOOK_SECRET webhook_secret: Option<Secret<String>> {};
}

erp_core::system_work! {
    /// What the bank's module does as the system.
    SYSTEM {
        PAYMENTS = "bank-payments": "Notes payments that the bank tells of; the bank is no member of the tenant.";
    }
}

static BANK: Module = Module {
    name: "bank",
    settings: &[Section::of::<BankSettings>()],
    system: SYSTEM,
    routes,
    migrations: &[Migration { name: "0001_payments", sql: TABLE, after: &[], was: &[] }],
    samples: &[Sample {
        table: "payments",
        insert: "insert into public.payments (invoice) values ('canary');",
    }],
    ..Module::BARE
};

const TABLE: &str = "
    create table public.payments (id uuid not null default gen_random_uuid(), invoice text not null);
    select app.tenant_table('public.payments', audit_as => 'payment');
    select app.system_access('public.payments', '{select,insert}', 'the bank tells of payments, and is no caller');";

fn routes() -> Routes {
    Routes::new()
        .post("/api/v1/bank/{tenant}/payments", Access::Public, paid)
        .system(&PAYMENTS)
        .doc(Operation::new("notePayment", "Note a payment"))
}

#[derive(Deserialize)]
struct Payment {
    invoice: String,
}

async fn paid(
    State(app): State<App>,
    system: System,
    trace: Trace,
    Path(tenant): Path<String>,
    hook: SignedWebhook,
) -> Result<NoContent> {
    let secret = app
        .settings::<BankSettings>()?
        .webhook_secret
        .as_ref()
        .map(|text| SigningSecret::parse(text.expose()));
    let hook = hook.verify(&secret.transpose().map_err(Error::internal)?.into_iter().collect::<Vec<_>>())?;
    let mut tx = system.within(&trace, &tenant).await?;
    if hook.receive(&mut tx, "bank").await? == Receipt::New {
        let Payment { invoice } = hook.json()?;
        tx.rows::<()>("insert into payments (invoice) values ($1)", &[&invoice]).await?;
    }
    tx.commit().await?;
    Ok(NoContent)
}

#[tokio::test]
async fn the_module_of_the_section_on_webhooks_runs() {
    let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let app = TestApp::builder().module(&BANK).setting("BANK_WEBHOOK_SECRET", text).start().await;
    let at = app.edge().app.clock.now().as_second();
    let body = r#"{"invoice": "R-7"}"#;
    let signature = SigningSecret::parse(text).unwrap().sign("msg_1", at, body.as_bytes());
    for (signature, status) in [("v1,AAAA", 401), (&signature, 204), (&signature, 204)] {
        let request = Request::post("/api/v1/bank/acme/payments")
            .header("webhook-id", "msg_1")
            .header("webhook-timestamp", at.to_string())
            .header("webhook-signature", signature);
        app.anonymous().request(request.body(body).unwrap()).await.assert(status);
    }
    let count = app.sql().query_one("select count(*) from payments", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
    app.finish().await;
}
