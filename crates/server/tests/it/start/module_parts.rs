//! What a module brings beside its routes: settings and metrics.

use std::ffi::OsString;

use axum::extract::State;
use erp_core::app::App;
use erp_core::bootstrap::{BootstrapOptions, LogSetup, bootstrap};
use erp_core::config::{Layers, MapSource, Section};
use erp_core::error::Result;
use erp_core::extract::Json;
use erp_core::lifecycle::Exit;
use erp_core::metrics::MetricTable;
use erp_core::module::{Access, Module, Product, Routes};
use erp_modules::PRODUCT;
use erp_testkit::TestApp;

erp_core::settings! {
    /// How invoices are sent.
    struct BillingSettings in "Billing";

    /// How many days a customer has to pay.
    BILLING_TERM_DAYS term_days: u32 { default: Defaults::all("30"), range: Some(("1", "365")) };
}

erp_core::settings! {
    /// Of a section that no module names.
    struct ForgottenSettings in "Forgotten";

    /// What nobody will ever read.
    FORGOTTEN_TERM_DAYS term_days: u32 { default: Defaults::all("30") };
}

erp_core::metrics! {
    /// What is counted of invoices.
    struct BillingMetrics;

    /// How often somebody asked for the term.
    billing_terms_asked_total: Counter[] { unit: "requests" }
}

async fn term(State(app): State<App>) -> Result<Json<u32>> {
    app.metrics.of::<BillingMetrics>()?.billing_terms_asked_total.with(&[]).inc();
    Ok(Json(app.settings::<BillingSettings>()?.term_days))
}

async fn forgotten(State(app): State<App>) -> Result<Json<u32>> {
    Ok(Json(app.settings::<ForgottenSettings>()?.term_days))
}

static BILLING: Module = Module {
    name: "billing",
    settings: &[Section::of::<BillingSettings>()],
    metrics: &[MetricTable::of::<BillingMetrics>()],
    routes: || {
        Routes::new().get("/api/v1/term", Access::Public, term).get(
            "/api/v1/forgotten",
            Access::Public,
            forgotten,
        )
    },
    ..Module::BARE
};

/// Claims a name of another module's.
static GREEDY: Module =
    Module { name: "greedy", settings: &[Section::of::<BillingSettings>()], ..Module::BARE };

#[tokio::test]
async fn a_module_reads_its_settings_from_the_app() {
    let app = TestApp::builder().module(&BILLING).start().await;
    assert_eq!(app.anonymous().get("/api/v1/term").await.assert(200).json(), 30);
    app.finish().await;
    let app = TestApp::builder().module(&BILLING).setting("BILLING_TERM_DAYS", "14").start().await;
    assert_eq!(app.anonymous().get("/api/v1/term").await.assert(200).json(), 14);
    let scraped = app.anonymous().get("/metrics").await.assert(200).text();
    assert!(scraped.contains("\nbilling_terms_asked_total 1\n"), "{scraped}");
    app.expect_errors();
    app.anonymous().get("/api/v1/forgotten").await.problem("core.internal");
    app.finish().await;
}

/// The message and exit code of a start that must fail, before it has a database.
async fn refused(modules: &[&'static Module], settings: &[(&str, &str)]) -> (Exit, String) {
    let modules = Box::leak(modules.to_vec().into_boxed_slice());
    let product = Product { modules, ..PRODUCT };
    let options = BootstrapOptions::new(LogSetup::Install { terminal: false }, OsString::new());
    let settings = MapSource::environment(settings.iter().copied());
    let error = bootstrap(&product, &Layers::from(settings), options).await.err().unwrap();
    (error.exit, error.message)
}

#[tokio::test]
async fn a_modules_settings_refuse_the_start_along_with_the_cores() {
    let (exit, message) = refused(&[&BILLING], &[("BILLING_TERM_DAYS", "0"), ("PORT", "65536")]).await;
    assert_eq!(exit, Exit::Configuration);
    assert!(message.starts_with("2 settings are not right:"), "{message}");
    assert!(message.contains("BILLING_TERM_DAYS takes: number from 1 to 365"), "{message}");
    let (exit, message) = refused(&[&BILLING, &GREEDY], &[]).await;
    assert_eq!(exit, Exit::Configuration);
    assert!(message.contains("BILLING_TERM_DAYS: is declared twice: by billing and by greedy"), "{message}");
}
