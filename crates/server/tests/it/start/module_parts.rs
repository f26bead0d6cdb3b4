//! What a module brings beside its routes: settings, metrics, and work that runs beside requests.

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use erp_core::app::App;
use erp_core::bootstrap::{BootstrapOptions, LogSetup, background, bootstrap};
use erp_core::config::{Layers, MapSource, Section};
use erp_core::error::Result;
use erp_core::extract::Json;
use erp_core::lifecycle::{Background, Exit, Stop, StopStage};
use erp_core::metrics::MetricTable;
use erp_core::module::{Access, Module, Product, Routes};
use erp_modules::PRODUCT;
use erp_testkit::TestApp;

erp_core::settings! {
    /// How invoices are sent.
    struct BillingSettings in "Billing" of BILLING;

    /// How many days a customer has to pay.
    BILLING_TERM_DAYS term_days: u32 { default: Defaults::all("30"), range: Some(("1", "365")) };
}

erp_core::settings! {
    /// Of a module that the product does not have.
    struct ForgottenSettings in "Forgotten" of FORGOTTEN;

    /// What nobody will ever read.
    FORGOTTEN_TERM_DAYS term_days: u32 { default: Defaults::all("30") };
}

erp_core::metrics! {
    /// What is counted of invoices.
    struct BillingMetrics of BILLING;

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

static FORGOTTEN: Module =
    Module { name: "forgotten", settings: &[Section::of::<ForgottenSettings>()], ..Module::BARE };

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

/// How often the work of `REMINDERS` began, and whether the database was there at its end.
static BEGUN: AtomicU32 = AtomicU32::new(0);
static ENDED_WITH_DATABASE: AtomicBool = AtomicBool::new(false);

erp_core::metrics! {
    /// What the background work of the tests shows.
    struct ReminderMetrics of REMINDING;

    /// How often it began.
    reminders_begun: Gauge[] { unit: "times" }
}

/// Panics the first time. When it is to stop it asks the database something.
async fn remind(app: App, stop: Stop) {
    assert!(BEGUN.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
    assert!(stop.sleep(Duration::from_millis(1)).await);
    stop.requested().await;
    ENDED_WITH_DATABASE.store(app.db.connection_budget().await.is_ok(), Ordering::SeqCst);
}

static REMINDERS: Background<App> = Background {
    name: "reminders",
    about: "Reminds, for tests.",
    critical: false,
    stops: StopStage::Work,
    run: |app, stop| Box::pin(remind(app, stop)),
    observe: |app| {
        let begun = app.metrics.of::<ReminderMetrics>().unwrap().reminders_begun.with(&[]);
        begun.set(f64::from(BEGUN.load(Ordering::SeqCst)));
    },
};
static REMINDING: Module = Module {
    name: "reminding",
    metrics: &[MetricTable::of::<ReminderMetrics>()],
    background: &[&REMINDERS],
    ..Module::BARE
};

#[tokio::test]
async fn a_modules_work_is_started_observed_started_again_and_stopped_before_the_pool_closes() {
    let app = TestApp::builder().module(&REMINDING).start().await;
    app.expect_errors();
    let lifecycle = app.edge().app.lifecycle.clone();
    let task = || lifecycle.tasks().into_iter().find(|task| task.facts.name == "reminders").unwrap();
    let begun = Instant::now();
    while task().restarts == 0 || !task().running {
        assert!(begun.elapsed() < Duration::from_secs(5), "it is started again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let scraped = app.anonymous().get("/metrics").await.assert(200).text();
    for line in [
        "reminders_begun 2",
        "background_panics_total{task=\"reminders\"} 1",
        "background_restarts_total{task=\"reminders\"} 1",
    ] {
        assert!(scraped.contains(&format!("\n{line}\n")), "{line} is not in {scraped}");
    }
    let health = app.anonymous().get("/health/detailed").await.assert(200).json();
    let checks = health["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "background").unwrap();
    assert_eq!((&check["passed"], &check["details"]["restarts"]["reminders"]), (&true.into(), &1.into()));
    let died = app.log().with_message("A background task ended unexpectedly");
    assert!(died[0]["task"] == "reminders" && died[0]["reason"] == "on purpose", "{died:?}");
    app.finish().await;
    assert!(ENDED_WITH_DATABASE.load(Ordering::SeqCst), "the pool was open at its stop");
}

static FATAL: Module = Module {
    name: "fatal",
    background: &[&Background {
        name: "fatal",
        about: "Returns at once, for tests.",
        critical: true,
        stops: StopStage::Work,
        run: |_, _| Box::pin(async {}),
        observe: |_| {},
    }],
    ..Module::BARE
};

#[tokio::test]
async fn critical_work_of_a_module_that_keeps_dying_ends_the_process() {
    let app = TestApp::builder().module(&FATAL).start().await;
    app.expect_errors();
    let failed = app.edge().app.lifecycle.failed().clone();
    tokio::time::timeout(Duration::from_secs(10), failed.cancelled()).await.expect("the process ends");
    let health = app.anonymous().get("/health/detailed").await.assert(200).json();
    assert_eq!(health["status"], "degraded");
    app.finish().await;
}

#[tokio::test]
async fn two_rows_of_background_work_have_two_names() {
    static SAME: Module = Module { name: "same", background: &[&REMINDERS], ..Module::BARE };
    let (exit, message) = refused(&[&REMINDING, &SAME], &[]).await;
    assert_eq!(exit, Exit::Internal);
    assert!(
        message.starts_with("The background work \"reminders\" of same has the name of another"),
        "{message}"
    );
}

/// Everything that runs beside requests has a row: also what starts before there is an app.
#[tokio::test]
async fn every_task_is_of_the_table_and_the_table_knows_all_rows() {
    let app = TestApp::start().await;
    let table: Vec<_> = background(&PRODUCT).into_iter().map(|(_, row)| row.name).collect();
    let tasks = app.edge().app.lifecycle.tasks();
    assert!(tasks.len() >= 5, "{tasks:?}");
    for task in tasks {
        assert!(table.contains(&task.facts.name), "{task:?}");
    }
    app.finish().await;
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    let rows: usize =
        rust_files(&core).iter().map(|text| text.matches(" = Background {\n    name:").count()).sum();
    assert_eq!(rows, table.len(), "a row of the core is missing in bootstrap/background.rs: {table:?}");
}

/// The text of every file below a folder, but for the one that says what a row is.
fn rust_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.ends_with("lifecycle/background.rs") {
            continue;
        } else {
            found.push(std::fs::read_to_string(&path).unwrap_or_default());
        }
    }
    found
}
