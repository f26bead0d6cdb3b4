//! Five phases from settings to an open port; a phase that fails takes the earlier ones down in reverse.

mod audit_operator;
mod background;
mod database;
mod event_operator;
mod file_operator;
mod job_operator;
mod listeners;
mod mail_operator;
mod operator_session;
mod options;
mod proof;
mod resources;
mod secret_operator;
mod shutdown;
mod start;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Layers;
use crate::db::cluster::Cluster;
use crate::lifecycle::{Phase, StartError};
use crate::middleware::Edge;
use crate::module::Product;
use crate::server::{Server, Tls};

pub use crate::encryption::{KeyStatus, KeysOfTenant};
pub use audit_operator::{AuditOperator, AuditedTenant, SignedCheckpoint};
pub use background::{background, background_markdown};
pub use database::{
    Databases, budget_warning, logins, migrate_as_owner, owner_connection, reset, runtime_connection, seed,
};
pub use event_operator::{CursorFilter, CursorMove, EventOperator, ListedCursor};
pub use file_operator::{FileOperator, FileTenant, FileUsage, ListedFile, VerifiedFiles};
pub use job_operator::{
    FoundJob, JobAction, JobFilter, JobOperator, JobsMoved, ListedJob, ListedSchedule, PauseOf,
};
pub use mail_operator::{ListedMail, ListedSuppression, MailFilter, MailOperator, tried, try_mail};
pub use operator_session::OperatorSession;
pub use options::{BootstrapOptions, LogSetup};
pub use secret_operator::SecretOperator;
pub use shutdown::{NotStarted, Signals, Stopped};

use listeners::Listeners;
use start::{Start, note};

/// A started application that does not listen yet.
pub struct Context {
    /// What answers requests.
    pub edge: Arc<Edge>,
    /// Each phase and what it took.
    pub phases: Vec<(&'static str, Duration)>,
    /// Where the database is, for the banner; no password.
    pub database: String,
    cluster: Option<Arc<Cluster>>,
    tls: Option<Tls>,
    /// Whether the API is served.
    serves_api: bool,
    /// How long a stop may take; `None` when it is not to wait for anything.
    patience: Option<Duration>,
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
    let graceful = options.enable_graceful_shutdown;
    let timeout = options.shutdown_timeout;
    let serves_api = options.serves_api;
    match Box::pin(start.phases(product, layers, options)).await {
        Ok((edge, database)) => {
            let patience = graceful.then(|| timeout.unwrap_or(edge.app.config.lifecycle.shutdown_timeout));
            let Start { phases, cluster, tls, .. } = start;
            Ok(Context { edge, phases, database, cluster, tls, serves_api, patience })
        }
        Err(error) => {
            start.tear_down().await;
            Err(error)
        }
    }
}

/// Binds `host` and `port`, and `METRICS_PORT` where there is one, and starts to answer.
///
/// # Errors
/// `Exit::Unavailable` when a port is taken; the context is then shut down.
pub async fn start_server(mut context: Context, port: u16, host: &str) -> Result<Running, StartError> {
    let started = Instant::now();
    match Box::pin(Listeners::bind(&context, port, host)).await {
        Ok(listeners) => {
            let address = listeners.api.address();
            let management = listeners.management.as_ref().map(Server::address);
            let redirect = listeners.redirect.as_ref().map(|(server, _)| server.address());
            listeners.answer(&context.edge, context.serves_api);
            context.edge.app.lifecycle.enter(Phase::Ready);
            context.phase("server", started);
            Ok(Running { context, address, management, redirect })
        }
        Err(error) => {
            context.shut_down(false).await;
            Err(error)
        }
    }
}

/// Both in one step, with the settings' host and port.
///
/// ```no_run
/// use erp_core::bootstrap::{BootstrapOptions, LogSetup, bootstrap, bootstrap_and_start, start_server};
/// # use erp_core::{config::Layers, lifecycle::StartError, module::Product};
///
/// # async fn start(product: &Product, layers: &Layers) -> Result<(), StartError> {
/// let mut options = BootstrapOptions::new(LogSetup::Install { terminal: false }, "/usr/bin".into());
/// options.skip_health_checks = false;
/// options.enable_graceful_shutdown = true;
/// options.shutdown_timeout = Some(std::time::Duration::from_secs(30));
/// let context = bootstrap(product, layers, options).await?;
/// let server = start_server(context, 3001, "localhost").await?;
/// server.stop().await;
///
/// let options = BootstrapOptions::new(LogSetup::Install { terminal: false }, "/usr/bin".into());
/// let server = bootstrap_and_start(product, layers, options).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`bootstrap`] and [`start_server`].
pub async fn bootstrap_and_start(
    product: &Product,
    layers: &Layers,
    options: BootstrapOptions,
) -> Result<Running, StartError> {
    let context = bootstrap(product, layers, options).await?;
    let port = context.edge.app.config.process.port;
    let host = context.edge.app.config.process.host.clone();
    start_server(context, port, &host).await
}

/// A server that answers.
pub struct Running {
    /// What it was started from.
    pub context: Context,
    /// The first address it listens on.
    pub address: SocketAddr,
    /// Where the management surface is, with `METRICS_PORT`.
    pub management: Option<SocketAddr>,
    /// Where plain HTTP is led to HTTPS, with `HTTP_REDIRECT_PORT`.
    pub redirect: Option<SocketAddr>,
}

impl Context {
    fn phase(&mut self, name: &'static str, started: Instant) {
        note(&mut self.phases, name, started);
    }
}
