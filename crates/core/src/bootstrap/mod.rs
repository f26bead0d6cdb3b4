//! Five phases from settings to an open port; a phase that fails takes the earlier ones down in reverse.

mod database;
mod proof;
mod shutdown;

use std::ffi::OsString;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::app::{App, Parts};
use crate::auth::{Authenticator, Passwords};
use crate::config::{Config, Layers};
use crate::db::cluster::Cluster;
use crate::db::{Db, Options};
use crate::factory;
use crate::lifecycle::{Exit, Lifecycle, Phase, StartError};
use crate::logging::Logging;
use crate::metrics::{Limits, Metrics, watch_lag};
use crate::middleware::Edge;
use crate::module::Product;
use crate::server::Server;
use crate::shared::{Clock, Rng, SystemClock, SystemRng};

pub use shutdown::{NotStarted, Signals, Stopped};

pub use database::{Databases, migrate_as_owner, owner_connection, runtime_connection, seed};

/// What a start may be told beside the settings.
pub struct BootstrapOptions {
    /// Skips the health phase's checks of services; never the isolation proof.
    pub skip_health_checks: bool,
    /// Where to look for PostgreSQL's binaries: the process's `PATH`.
    pub path: OsString,
    /// The log: a process installs its own as the global subscriber, a test brings one.
    pub logging: LogSetup,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Cancelled when the start is to be given up.
    pub interrupt: CancellationToken,
}

/// Where the log comes from.
pub enum LogSetup {
    /// Install one as the settings say, to standard output; `terminal` says whether that shows colours.
    Install {
        /// Whether standard output is a terminal.
        terminal: bool,
    },
    /// This one, which is installed already.
    Given(Logging),
}

impl BootstrapOptions {
    /// The machine's clock and randomness; PostgreSQL's binaries are looked for on `path` first.
    pub fn new(logging: LogSetup, path: OsString) -> Self {
        Self {
            skip_health_checks: false,
            path,
            logging,
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng::new()),
            interrupt: CancellationToken::new(),
        }
    }
}

/// A started application that does not listen yet.
pub struct Context {
    /// What answers requests.
    pub edge: Arc<Edge>,
    /// Each phase and what it took.
    pub phases: Vec<(&'static str, Duration)>,
    /// Where the database is, for the banner; no password.
    pub database: String,
    cluster: Option<Arc<Cluster>>,
}

/// Validates the settings, starts the services, creates the app and proves the isolation.
///
/// # Errors
/// With the contract's exit code; nothing then still runs.
pub async fn bootstrap(
    product: &Product,
    layers: &Layers,
    options: BootstrapOptions,
) -> Result<Context, StartError> {
    let mut start = Start::new();
    match start.phases(product, layers, options).await {
        Ok((edge, database)) => Ok(Context { edge, phases: start.phases, database, cluster: start.cluster }),
        Err(error) => {
            start.tear_down().await;
            Err(error)
        }
    }
}

/// Binds `host` and `port` and starts to answer.
///
/// # Errors
/// `Exit::Unavailable` when the port is taken; the context is then shut down.
pub async fn start_server(mut context: Context, port: u16, host: &str) -> Result<Running, StartError> {
    let started = Instant::now();
    match Server::bind(host, port).await {
        Ok(server) => {
            let address = server.address();
            server.start(&context.edge);
            context.edge.app.lifecycle.enter(Phase::Ready);
            context.phase("server", started);
            Ok(Running { context, address })
        }
        Err(error) => {
            context.shut_down(false).await;
            Err(error)
        }
    }
}

/// Both in one step, with the settings' host and port.
///
/// # Errors
/// As [`bootstrap`] and [`start_server`].
pub async fn bootstrap_and_start(
    product: &Product,
    layers: &Layers,
    options: BootstrapOptions,
) -> Result<Running, StartError> {
    let context = bootstrap(product, layers, options).await?;
    let (port, host) = (context.edge.app.config.port, context.edge.app.config.host.clone());
    start_server(context, port, &host).await
}

/// A server that answers.
pub struct Running {
    /// What it was started from.
    pub context: Context,
    /// The first address it listens on.
    pub address: std::net::SocketAddr,
}

/// What the second phase makes.
struct Services {
    db: Db,
    logging: Logging,
    metrics: Metrics,
    passwords: Passwords,
}

/// What has been started so far, so that it can be taken down again.
struct Start {
    lifecycle: Lifecycle,
    cluster: Option<Arc<Cluster>>,
    phases: Vec<(&'static str, Duration)>,
}

impl Start {
    fn new() -> Self {
        Self { lifecycle: Lifecycle::new(), cluster: None, phases: Vec::with_capacity(5) }
    }

    async fn phases(
        &mut self,
        product: &Product,
        layers: &Layers,
        options: BootstrapOptions,
    ) -> Result<(Arc<Edge>, String), StartError> {
        let started = Instant::now();
        let mut config = Config::load(layers)?;
        crate::config::dev_secrets(&mut config, options.rng.as_ref())?;
        self.phase("configuration", started);

        let started = Instant::now();
        let logging = logging(&config, &options)?;
        let tenants = config.metrics_tenant_limit as usize;
        let metrics = Metrics::with_limits(config.metrics_enabled, Limits { tenants, ..Limits::default() });
        let stop = self.lifecycle.stop_background().clone();
        self.lifecycle.spawn("event-loop-lag", watch_lag(metrics.clone(), stop));
        let passwords = passwords(&options);
        let databases = self.databases(product, &config, &options, &passwords).await?;
        let db = self.open(&databases, &config, metrics.clone())?;
        self.phase("services", started);

        let started = Instant::now();
        let app = self.app(product, config, Services { db, logging, metrics, passwords }, &options)?;
        let edge = factory::create_app(app, product)?;
        self.phase("application", started);

        let started = Instant::now();
        proof::at_start(&edge.app, product).await?;
        if !options.skip_health_checks {
            database::check_budget(&edge.app).await;
        }
        self.lifecycle.spawn("isolation-proof", proof::again(edge.app.clone(), product.samples));
        self.phase("health checks", started);
        Ok((edge, databases.place))
    }

    async fn databases(
        &mut self,
        product: &Product,
        config: &Config,
        options: &BootstrapOptions,
        passwords: &Passwords,
    ) -> Result<Databases, StartError> {
        let databases = database::resolve(config, &options.path, &mut self.cluster).await?;
        if let Some(cluster) = &self.cluster {
            let (cluster, stop) = (Arc::clone(cluster), self.lifecycle.stop_background().clone());
            self.lifecycle.spawn("private-cluster", async move { cluster.supervise(stop).await });
        }
        // Only here: a cluster whose start was dropped midway would be left running.
        let prepared = database::prepare(&databases, product, config, options, passwords, &self.lifecycle);
        match options.interrupt.run_until_cancelled(prepared).await {
            Some(prepared) => prepared.map(|()| databases),
            None => Err(StartError::new(Exit::Internal, "The start was interrupted")),
        }
    }

    fn open(&self, databases: &Databases, config: &Config, metrics: Metrics) -> Result<Db, StartError> {
        let options = Options {
            connection: databases.runtime.clone(),
            max_connections: config.database_max_connections as usize,
            acquire_timeout: config.database_acquire_timeout,
            connect_timeout: config.database_connect_timeout,
            statement_timeout: config.database_timeout,
            idle_timeout: config.database_idle_timeout,
            slow_query: config.database_slow_query,
            log_queries: config.database_logging,
            tenant_max_connections: config.database_tenant_max_connections as usize,
            prepared_statements: config.database_prepared_statements,
        };
        let (tasks, stop) = (self.lifecycle.background(), self.lifecycle.stop_background());
        Db::open(options, metrics, tasks, stop.clone())
    }

    fn app(
        &self,
        product: &Product,
        config: Config,
        services: Services,
        options: &BootstrapOptions,
    ) -> Result<App, StartError> {
        let secret = config.jwt_secret.as_ref().ok_or_else(|| {
            StartError::new(Exit::Configuration, "JWT_SECRET is not set: set it to at least 32 random bytes")
        })?;
        let authenticator = Authenticator::new(
            secret,
            config.jwt_secret_previous.as_ref(),
            config.jwt_expires_in,
            Arc::clone(&options.clock),
            Arc::clone(&options.rng),
        );
        Ok(App::new(Parts {
            authenticator,
            passwords: services.passwords,
            db: services.db,
            metrics: services.metrics,
            logging: services.logging,
            clock: Arc::clone(&options.clock),
            rng: Arc::clone(&options.rng),
            lifecycle: self.lifecycle.clone(),
            permissions: factory::modules(product).flat_map(|module| module.permissions).copied().collect(),
            version: product.version,
            started: options.clock.now(),
            proof: RwLock::new(None),
            config,
        }))
    }

    fn phase(&mut self, name: &'static str, started: Instant) {
        note(&mut self.phases, name, started);
    }

    async fn tear_down(&mut self) {
        self.lifecycle.stop(Duration::from_secs(2)).await;
        shutdown::stop_cluster(self.cluster.take()).await;
    }
}

impl Context {
    fn phase(&mut self, name: &'static str, started: Instant) {
        note(&mut self.phases, name, started);
    }
}

fn note(phases: &mut Vec<(&'static str, Duration)>, name: &'static str, started: Instant) {
    let elapsed = started.elapsed();
    tracing::debug!(phase = name, duration = elapsed.as_secs_f64() * 1000.0, "Phase complete");
    phases.push((name, elapsed));
}

fn logging(config: &Config, options: &BootstrapOptions) -> Result<Logging, StartError> {
    match &options.logging {
        LogSetup::Given(logging) => Ok(logging.clone()),
        LogSetup::Install { terminal } => {
            let boot_id = crate::logging::boot_id(options.rng.as_ref());
            let log = crate::logging::Options::new(
                config.log_level,
                config.log_format,
                boot_id,
                Arc::clone(&options.clock),
            );
            Logging::install(match &config.log_file {
                Some(path) => log.to_file(path)?,
                None => log.colour(*terminal),
            })
        }
    }
}

fn passwords(options: &BootstrapOptions) -> Passwords {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Passwords::new(cores, Arc::clone(&options.rng))
}
