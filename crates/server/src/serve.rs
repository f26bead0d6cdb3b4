//! `serve` and `worker`: start, answer, drain, stop.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use erp_core::bootstrap::{BootstrapOptions, LogSetup, NotStarted, Signals, Stopped, bootstrap_and_start};
use erp_core::config::Layers;
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;

use crate::{allocator, banner};

/// Runs the server until a signal.
pub(crate) async fn serve(
    product: &Product,
    layers: &Layers,
    path: OsString,
    skip_health: bool,
) -> Result<ExitCode, StartError> {
    let mut options = options(path);
    options.skip_health_checks = skip_health;
    Box::pin(until_signal(product, layers, options)).await
}

/// Works on jobs until a signal; answers probes and operators, and serves no API.
pub(crate) async fn work(
    product: &Product,
    layers: &Layers,
    path: OsString,
    skip_health: bool,
) -> Result<ExitCode, StartError> {
    if settings(product).load(layers)?.jobs.workers == 0 {
        let message = "JOB_WORKERS is 0, so this process would do nothing";
        return Err(StartError::with_fix(
            Exit::Configuration,
            message,
            "set it for `serve` only, or leave it out here",
        ));
    }
    let mut options = options(path);
    options.skip_health_checks = skip_health;
    options.serves_api = false;
    Box::pin(until_signal(product, layers, options)).await
}

fn options(path: OsString) -> BootstrapOptions {
    let terminal = std::io::stdout().is_terminal();
    BootstrapOptions::new(LogSetup::Install { terminal }, path)
}

async fn until_signal(
    product: &Product,
    layers: &Layers,
    mut options: BootstrapOptions,
) -> Result<ExitCode, StartError> {
    let serves_api = options.serves_api;
    options.allocator = allocator::ask;
    let mut signals = Signals::listen()?;
    let interrupt = options.interrupt.clone();
    let running = match signals.or_started(bootstrap_and_start(product, layers, options), interrupt).await {
        Ok(running) => running,
        Err(NotStarted::Failed(error)) => return Err(error),
        Err(NotStarted::Interrupted(signal)) => return Ok(ExitCode::from(128 + signal)),
    };
    let app = running.context.edge.app.clone();
    tracing::info!(
        version = app.version,
        environment = %app.config.process.app_env,
        address = %running.address,
        tls = app.config.transport.certificate().is_some(),
        redirect = running.redirect.map(tracing::field::display),
        "{}",
        if serves_api { "Server started" } else { "Worker started" }
    );
    if serves_api && app.config.profile().banner {
        banner::greet(product, &running);
    }
    Ok(match running.until_signal(signals).await {
        Stopped::Cleanly => ExitCode::SUCCESS,
        Stopped::Forced(signal) => ExitCode::from(128 + signal),
        Stopped::Failed => ExitCode::from(Exit::Internal as u8),
    })
}
