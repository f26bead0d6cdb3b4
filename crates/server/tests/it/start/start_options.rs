//! What a start may be told beside the settings, and what it waits for.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use erp_core::bootstrap::{BootstrapOptions, Context, LogSetup, Running, bootstrap, start_server};
use erp_core::config::{Layers, Level, LogFormat, MapSource};
use erp_core::db::RowCondition;
use erp_core::error::{Error, codes};
use erp_core::lifecycle::{Exit, StartError};
use erp_core::logging::{CapturingSink, LogOptions, Logging};
use erp_core::module::{Access, Module, Probe, Product, Routes};
use erp_core::shared::SystemClock;
use erp_modules::PRODUCT;
use erp_testkit::{Database, JWT_SECRET};
use tokio::sync::Notify;

/// How long a stop takes that waits for nobody; a setting of 30 s is far from it.
const AT_ONCE: Duration = Duration::from_secs(5);

static HANGING: Module = Module { name: "hanging", routes, ..Module::BARE };
static ARRIVED: Notify = Notify::const_new();

fn routes() -> Routes {
    Routes::new().get("/hang", Access::Public, hang)
}

async fn hang() {
    ARRIVED.notify_one();
    std::future::pending::<()>().await;
}

static ASKED: AtomicU32 = AtomicU32::new(0);
static MISSING: Module = Module { name: "missing", probes: MISSED, ..Module::BARE };
const MISSED: &[Probe] =
    &[Probe { name: "printer", required: true, timeout: Duration::from_secs(5), check: |_| Box::pin(no()) }];

async fn no() -> Result<(), Error> {
    ASKED.fetch_add(1, Ordering::SeqCst);
    Err(Error::new(&codes::UNAVAILABLE).because("out of paper"))
}

/// A database, and a product with one module more.
struct Scene {
    database: Database,
    product: Product,
    sink: CapturingSink,
    logging: Logging,
    _log: tracing::subscriber::DefaultGuard,
}

impl Scene {
    async fn set(module: &'static Module) -> Self {
        let modules = Box::leak([erp_modules::ALL, &[module]].concat().into_boxed_slice());
        let product = Product { modules, ..PRODUCT };
        let sink = CapturingSink::new();
        let log = LogOptions::new(Level::Debug, LogFormat::Json, "boot_test", Arc::new(SystemClock));
        let (logging, subscriber) = Logging::new(log.to(sink.clone()));
        let guard = tracing::subscriber::set_default(subscriber);
        let database = Database::create(&product).await;
        Self { database, product, sink, logging, _log: guard }
    }

    async fn bootstrap(&self, tell: impl FnOnce(&mut BootstrapOptions)) -> Result<Context, StartError> {
        let settings = MapSource::environment([
            ("DATABASE_URL", self.database.roles.runtime_url.as_str()),
            ("JWT_SECRET", JWT_SECRET),
            ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
            ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
            ("STARTUP_TIMEOUT", "2s"),
            ("SHUTDOWN_TIMEOUT", "30s"),
        ]);
        let mut options = BootstrapOptions::new(LogSetup::Given(self.logging.clone()), "".into());
        tell(&mut options);
        bootstrap(&self.product, &Layers::from(settings), options).await
    }

    /// A server that works on a request without an end.
    async fn hanging(&self, tell: impl FnOnce(&mut BootstrapOptions)) -> (Running, TcpStream) {
        let context = self.bootstrap(tell).await.unwrap();
        let running = start_server(context, 0, "127.0.0.1").await.unwrap();
        let mut client = TcpStream::connect(running.address).unwrap();
        client.write_all(b"GET /hang HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        ARRIVED.notified().await;
        (running, client)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.database.remove();
    }
}

#[tokio::test]
async fn a_required_probe_that_fails_is_waited_for_and_then_refuses_the_start() {
    let scene = Scene::set(&MISSING).await;
    let error = scene.bootstrap(|_| ()).await.err().unwrap();
    assert_eq!(error.exit, Exit::Unavailable, "{error}");
    let said = error.message;
    assert!(said.contains("printer is required") && said.contains("out of paper"), "{said}");
    assert!(ASKED.load(Ordering::SeqCst) >= 2, "asked again within STARTUP_TIMEOUT");
}

#[tokio::test]
async fn skipped_health_checks_ask_no_probe_and_still_prove_the_isolation() {
    let scene = Scene::set(&MISSING).await;
    let skip = |options: &mut BootstrapOptions| options.skip_health_checks = true;
    let context = scene.bootstrap(skip).await.unwrap();
    assert_eq!(ASKED.load(Ordering::SeqCst), 0);
    assert!(context.edge.app.proof().is_some_and(|proof| proof.report.passed()));
    assert!(context.shut_down(false).await);

    let sabotage = "alter table items no force row level security";
    scene.database.superuser().await.batch_execute(sabotage).await.unwrap();
    let error = scene.bootstrap(skip).await.err().unwrap();
    assert_eq!(error.exit, Exit::Isolation, "{error}");
    assert_eq!(ASKED.load(Ordering::SeqCst), 0);
}

static UNNARROWED: Module =
    Module { name: "unnarrowed", permissions: UNNARROWED_PERMISSIONS, row_conditions: ROWS, ..Module::BARE };
erp_core::permissions! {
    /// The permission of a test's module.
    UNNARROWED_PERMISSIONS {
        ALL = "unnarrowed.item.read_all" to [Owner]: "See all.";
    }
}

const ROWS: &[RowCondition] = &[RowCondition { table: "items", lifted_by: &ALL }];

#[tokio::test]
async fn t_06_a_row_condition_that_the_database_does_not_have_refuses_the_start() {
    let error = Scene::set(&UNNARROWED).await.bootstrap(|_| ()).await.err().unwrap();
    let said = "items shows one's own rows only, and all to those with unnarrowed.item.read_all; the database does not";
    assert_eq!(error.exit, Exit::Internal, "{error}");
    assert!(error.message.contains(said), "{error}");
}

#[tokio::test]
async fn a_stop_that_is_not_graceful_waits_for_nobody() {
    let scene = Scene::set(&HANGING).await;
    let (running, _client) = scene.hanging(|options| options.enable_graceful_shutdown = false).await;
    let begun = Instant::now();
    assert!(!running.stop().await, "a request was cut off");
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert!(!scene.sink.text().contains("SHUTDOWN_TIMEOUT"), "none was waited for");
}

#[tokio::test]
async fn a_stop_takes_as_long_as_the_option_says_whatever_the_setting() {
    let patience = Duration::from_millis(200);
    let scene = Scene::set(&HANGING).await;
    let (running, _client) = scene.hanging(|options| options.shutdown_timeout = Some(patience)).await;
    let begun = Instant::now();
    assert!(!running.stop().await, "a request was cut off");
    assert!((patience..AT_ONCE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert!(scene.sink.text().contains("SHUTDOWN_TIMEOUT"), "it was waited for");
}
