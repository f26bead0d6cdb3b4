//! `serve`: start, answer, drain, stop.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use erp_core::bootstrap::{BootstrapOptions, LogSetup, Running, Signals, Stopped, bootstrap_and_start};
use erp_core::config::{Config, Layers};
use erp_core::lifecycle::StartError;
use erp_modules::PRODUCT;

use crate::banner;

/// Runs the server until a signal.
pub(crate) async fn serve(
    layers: &Layers,
    path: OsString,
    skip_health: bool,
) -> Result<ExitCode, StartError> {
    let terminal = std::io::stdout().is_terminal();
    let mut options = BootstrapOptions::new(LogSetup::Install { terminal }, path);
    options.skip_health_checks = skip_health;
    let running = match start(layers, options).await? {
        Ok(running) => running,
        Err(signal) => return Ok(ExitCode::from(128 + signal)),
    };
    let app = running.context.edge.app.clone();
    tracing::info!(
        version = app.version,
        environment = %app.config.app_env,
        address = %running.address,
        "Server started"
    );
    if app.config.profile().banner {
        banner::greet(&running);
    }
    Ok(match running.until_signal().await? {
        Stopped::Cleanly => ExitCode::SUCCESS,
        Stopped::Forced(signal) => ExitCode::from(128 + signal),
    })
}

/// A started server, or the number of the signal that came before it was.
async fn start(layers: &Layers, options: BootstrapOptions) -> Result<Result<Running, u8>, StartError> {
    let mut signals = Signals::listen()?;
    let mut starting = std::pin::pin!(bootstrap_and_start(&PRODUCT, layers, options));
    let (number, name) = tokio::select! {
        running = starting.as_mut() => return running.map(Ok),
        signal = signals.next() => signal,
    };
    // A private PostgreSQL may be coming up just now: cut off here, the start would leave it behind.
    if Config::load(layers).is_ok_and(|config| config.database_url.is_none()) {
        tracing::info!(signal = name, "Stopping as soon as the start is complete; once more stops at once");
        tokio::select! {
            running = starting => { running?.stop().await; }
            _ = signals.next() => {}
        }
    }
    Ok(Err(number))
}
