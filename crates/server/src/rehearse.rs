//! `serve --rehearse`: starts everything, asks itself over real HTTP, drains under load, and says whether it went well.
//!
//! For a pipeline, or for the last minute before a deployment: the settings, the database and the binary are those that
//! will serve. Only the ports, the host, the log level and the drain delay are the rehearsal's own; and clients need not
//! show a certificate, nor come through the proxy that ends TLS.

mod client;
mod load;
mod report;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use erp_core::bootstrap::{BootstrapOptions, LogSetup, NotStarted, Running, Signals, bootstrap_and_start};
use erp_core::config::{ClientAuth, Layers, MapSource};
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::logging::{self, LogOptions, Logging};
use erp_core::module::Product;
use http::StatusCode;

use crate::inspect::{internal, print};
use client::{Ask, LoopbackClient, ServerAddress};
use load::Load;
use report::{Drain, Probed, RehearsalReport};

/// How long the load runs before the stop, and how long the drain delay is.
const WARM: Duration = Duration::from_secs(1);
const DELAY: &str = "500ms";

/// Runs the rehearsal; exit 0 when all of it went well.
pub(crate) async fn rehearse(
    product: &Product,
    layers: Layers,
    path: OsString,
    json: bool,
) -> Result<ExitCode, StartError> {
    let layers = ours(product, layers)?;
    let config = settings(product).load(&layers)?;
    if let Some(path) = &config.logging.file {
        logging::try_file(path)?;
    }
    // The report is on standard output.
    let mut options = BootstrapOptions::new(LogSetup::Install { terminal: false }, path);
    let boot_id = logging::boot_id(options.rng.as_ref());
    let log = LogOptions::new(config.logging.level, config.logging.format, boot_id, options.clock.clone());
    options.logging = LogSetup::Given(Logging::install(log.to(std::io::stderr()))?);
    let mut signals = Signals::listen()?;
    let interrupt = options.interrupt.clone();
    let running = match signals.or_started(bootstrap_and_start(product, &layers, options), interrupt).await {
        Ok(running) => running,
        Err(NotStarted::Failed(error)) => return Err(error),
        Err(NotStarted::Interrupted(signal)) => return Ok(ExitCode::from(128 + signal)),
    };
    let mut performance = std::pin::pin!(perform(running));
    let report = tokio::select! {
        report = &mut performance => report,
        (signal, _) = signals.next() => {
            performance.await; // it is short, and ends with a stop that leaves nothing behind
            return Ok(ExitCode::from(128 + signal));
        }
    };
    if json {
        print(&serde_json::to_string_pretty(&report).map_err(internal)?);
    } else {
        print(&report.to_string());
    }
    Ok(ExitCode::from(if report.passed { Exit::Done } else { Exit::Finding } as u8))
}

/// The given settings under the rehearsal's own.
fn ours(product: &Product, layers: Layers) -> Result<Layers, StartError> {
    let mut own =
        vec![("PORT", "0"), ("HOST", "127.0.0.1"), ("LOG_LEVEL", "warn"), ("SHUTDOWN_DRAIN_DELAY", DELAY)];
    let config = settings(product).load(&layers)?;
    if config.process.metrics_port.is_some() {
        own.push(("METRICS_PORT", "0"));
    }
    if config.transport.http_redirect_port.is_some() {
        own.push(("HTTP_REDIRECT_PORT", "0"));
    }
    if config.transport.certificate().is_none() {
        own.push(("FORCE_HTTPS", "false")); // what the proxy says of its client, nobody says here
    }
    if config.transport.tls_client_auth == ClientAuth::Required {
        own.push(("TLS_CLIENT_AUTH", "optional")); // the rehearsal has no certificate to show
    }
    Ok(layers.under(MapSource::flags(own)))
}

async fn perform(running: Running) -> RehearsalReport {
    let phases = running.context.phases.clone();
    let probes = probe(&running).await;
    let place = api(&running);
    let load = Load::start(&place);
    tokio::time::sleep(WARM).await;
    let stopping = Instant::now();
    let (clean, unready) =
        tokio::join!(running.context.shut_down(true), load::until_unready(&place, stopping));
    let drain = Drain { clean, unready_after: unready, duration: stopping.elapsed() };
    RehearsalReport::new(&phases, &probes, &load.finish().await, &drain)
}

/// Asks each path once, with the credential that an operator would use.
async fn probe(running: &Running) -> Vec<Probed> {
    let app = &running.context.edge.app;
    let api = api(running);
    let operators = running.management.map_or(api.clone(), |address| ServerAddress { address, config: None });
    let token = app.config.metrics.token.as_ref().map(|token| token.expose().clone());
    let open = running.management.is_some() || token.is_some() || app.config.profile().open_management;
    let seen = |path: &str| {
        let served = open && (path != "/metrics" || app.config.metrics.enabled);
        if served { StatusCode::OK } else { StatusCode::NOT_FOUND }
    };
    let mut probed = Vec::new();
    for path in ["/ping", "/livez", "/readyz", "/health"] {
        probed.push(one(&api, path, None, StatusCode::OK).await);
    }
    for path in ["/health/detailed", "/metrics", "/log-level"] {
        probed.push(one(&operators, path, token.as_deref(), seen(path)).await);
    }
    probed.push(one(&api, "/no-such-path", None, StatusCode::NOT_FOUND).await);
    probed
}

fn api(running: &Running) -> ServerAddress {
    ServerAddress { address: running.address, config: Some(running.context.edge.app.config.clone()) }
}

async fn one(place: &ServerAddress, path: &'static str, token: Option<&str>, expected: StatusCode) -> Probed {
    let started = Instant::now();
    let status = match LoopbackClient::connect(place).await {
        Ok(mut client) => match client.get(path, token).await {
            Ask::Answered { status, .. } => Some(status),
            Ask::Unanswered | Ask::Cut => None,
        },
        Err(_) => None,
    };
    Probed { path, expected, status, duration: started.elapsed() }
}
