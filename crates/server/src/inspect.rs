//! The verbs that look and change nothing: `config`, `doctor`, `healthcheck`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap_complete::Shell;
use erp_core::bootstrap::logins;
use erp_core::config::{ClientAuth, Config, Layers, Problems};
use erp_core::db;
use erp_core::error::Error;
use erp_core::factory::{contract, settings};
use erp_core::lifecycle::{Exit, StartError};
use erp_core::metrics::Metrics;
use erp_core::module::{Product, Routes};
use erp_core::server::{Loopback, Tls, introduce};
use erp_core::shared::authority;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::cli;

/// Says that something is done that counts everywhere within five seconds; `told` is it for machines.
pub(crate) fn done(json: bool, told: &serde_json::Value) {
    match json {
        true => print(&told.to_string()),
        false => print("Done. All instances follow within five seconds."),
    }
}

/// What was said cannot be taken: each violation at its place.
pub(crate) fn refused(error: &Error) -> StartError {
    let wrong =
        error.violations().iter().map(|violation| format!("{}: {}", violation.pointer, violation.detail));
    StartError::new(Exit::Usage, wrong.collect::<Vec<_>>().join("; "))
}

/// `config check`: every problem at once, and the TLS certificate with its key, without connecting to anything.
pub(crate) async fn config_check(
    product: &Product,
    layers: &Layers,
    json: bool,
) -> Result<ExitCode, StartError> {
    match checked(product, layers).await {
        Ok(config) if json => {
            print(&serde_json::json!({ "problems": [], "warnings": config.warnings() }).to_string());
        }
        Ok(config) => {
            print("The configuration is valid.");
            config.warnings().iter().for_each(|warning| print(&format!("warning: {warning}")));
        }
        Err(problems) if json => {
            print(&problems.to_json().to_string());
            return Ok(ExitCode::from(Exit::Configuration as u8));
        }
        Err(problems) => return Err(problems.into()),
    }
    Ok(ExitCode::SUCCESS)
}

async fn checked(product: &Product, layers: &Layers) -> Result<Config, Problems> {
    let config = settings(product).load(layers)?;
    Tls::load(&config, Metrics::new(false)).await.map(|_| config)
}

/// `config explain`: each setting's value, source, default and meaning.
pub(crate) fn config_explain(product: &Product, layers: &Layers, json: bool) -> Result<ExitCode, StartError> {
    let rows = settings(product).explain(layers);
    // Values of a file that cannot be read are missing here: that must not look as if they were unset.
    if let Some(problem) = layers.problems().next() {
        return Err(Problems::from(problem.clone()).into());
    }
    if json {
        print(&serde_json::to_string_pretty(&rows).map_err(internal)?);
        return Ok(ExitCode::SUCCESS);
    }
    for row in rows {
        let value = row.value.as_deref().unwrap_or("(not set)");
        print(&format!(
            "{} = {value}\n    from {}; default {}\n    {}",
            row.name,
            row.source,
            row.default.unwrap_or("none"),
            row.doc
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// `doctor isolation`: the proof's matrix and findings; exit 1 when there is one.
pub(crate) async fn doctor_isolation(
    product: &Product,
    layers: &Layers,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let logins = logins(&config)?;
    let tasks = TaskTracker::new();
    let report = db::prove_once(&logins, &product.schema()?, &tasks).await?;
    if json {
        print(&serde_json::to_string_pretty(&report).map_err(internal)?);
    } else {
        print(&report.matrix());
    }
    Ok(ExitCode::from(if report.passed() { Exit::Done } else { Exit::Finding } as u8))
}

/// `doctor privacy`: the columns that look personal, and are not in the register; exit 1 when there is one.
pub(crate) async fn doctor_privacy(
    product: &Product,
    layers: &Layers,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let found =
        db::doubtful_columns(&logins(&config)?.runtime, &product.schema()?, &TaskTracker::new()).await?;
    if json {
        print(&serde_json::to_string_pretty(&found).map_err(internal)?);
    } else if found.is_empty() {
        print("Every column that looks personal is declared.");
    }
    for db::DoubtfulColumn { relation, column, why, fix } in found.iter().filter(|_| !json) {
        print(&format!("{relation}.{column}: {why}. Fix: {fix}"));
    }
    Ok(ExitCode::from(if found.is_empty() { Exit::Done } else { Exit::Finding } as u8))
}

/// `openapi`: the contract of the API, as `/openapi.json` answers it. Needs no configuration and no database.
pub(crate) fn openapi(product: &Product) -> Result<ExitCode, StartError> {
    let document = contract(product, Routes::new()).document();
    print(&serde_json::to_string_pretty(&document).map_err(internal)?);
    Ok(ExitCode::SUCCESS)
}

/// `completions`: what completes verbs and flags in a shell.
pub(crate) fn completions(product: &Product, shell: Shell) -> Result<ExitCode, StartError> {
    print(cli::completions(product, shell).trim_end());
    Ok(ExitCode::SUCCESS)
}

/// `healthcheck`: for a container's HEALTHCHECK, which has neither shell nor curl.
///
/// It asks as the listener wants to be asked, over TLS and behind the PROXY protocol too; it shows no certificate, so
/// with `TLS_CLIENT_AUTH=required` it asks the port of operators.
pub(crate) async fn healthcheck(
    product: &Product,
    layers: &Layers,
    json: bool,
) -> Result<ExitCode, StartError> {
    let outcome = ready(product, layers).await;
    if json {
        let error = outcome.as_ref().err().map(|error| error.message.as_str());
        print(&serde_json::json!({ "ready": outcome.is_ok(), "error": error }).to_string());
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn ready(product: &Product, layers: &Layers) -> Result<(), StartError> {
    let config = settings(product).load(layers)?;
    let host = if config.process.host == "0.0.0.0" { "127.0.0.1" } else { config.process.host.as_str() };
    let closed = config.transport.tls_client_auth == ClientAuth::Required;
    let port = match config.process.metrics_port {
        Some(port) if closed => port,
        None if closed => {
            let message = "TLS_CLIENT_AUTH is required, and this has no certificate: set METRICS_PORT";
            return Err(StartError::new(Exit::Configuration, message));
        }
        _ => config.process.port,
    };
    let api = (!closed).then_some(&config);
    let asked = tokio::time::timeout(Duration::from_secs(3), ask(host, port, api)).await;
    let status = match asked {
        Ok(Ok(status)) => status,
        _ => {
            return Err(StartError::new(
                Exit::Unavailable,
                format!("Nothing answers at {}", authority(host, port)),
            ));
        }
    };
    if status.contains(" 200 ") {
        return Ok(());
    }
    Err(StartError::new(Exit::Finding, format!("The server is not ready: {}", status.trim())))
}

/// The first line of the answer; `api` is how to speak to the port of the API.
async fn ask(host: &str, port: u16, api: Option<&Config>) -> std::io::Result<String> {
    let stream = TcpStream::connect((host, port)).await?;
    let mut stream: Box<dyn Loopback> = match api {
        Some(config) => introduce(stream, config).await?,
        None => Box::new(stream),
    };
    stream
        .write_all(format!("GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.take(1024).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

/// Output is for pipes: a reader that has gone is no error.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

pub(crate) fn internal(error: serde_json::Error) -> StartError {
    StartError::new(Exit::Internal, "The answer could not be written").because(error)
}

/// What an operator asks about cannot be read from the database.
pub(crate) fn unreachable(what: &'static str, error: erp_core::error::Error) -> StartError {
    let fix = "run 'erp-backend db check', and 'erp-backend db migrate' where migrations are pending";
    StartError::with_fix(Exit::Unavailable, what, fix).because(error)
}
