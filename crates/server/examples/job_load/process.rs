//! The processes that work: this one, and others of this program.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use erp_core::bootstrap::{BootstrapOptions, Context, LogSetup, bootstrap};
use erp_core::config::{Layers, MapSource};
use erp_core::middleware::Peer;
use erp_testkit::Database;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::product::measured;

const PEER: Peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };

/// A process that works until its standard input ends.
pub(crate) async fn work(settings: String) -> io::Result<()> {
    let settings: Vec<(String, String)> = serde_json::from_str(&settings).map_err(io::Error::other)?;
    let context = start(settings).await?;
    let mut end = String::new();
    tokio::task::spawn_blocking(move || io::stdin().read_line(&mut end))
        .await
        .map_err(io::Error::other)??;
    context.shut_down(false).await;
    Ok(())
}

pub(crate) fn settings(database: &Database, workers: u32) -> Vec<(String, String)> {
    let rows = [
        ("APP_ENV", "production"),
        ("DATABASE_URL", database.roles.runtime_url.as_str()),
        ("DATABASE_SYSTEM_URL", database.roles.system_url.as_str()),
        ("JWT_SECRET", "n3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0Aa"),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("LOG_FILE", "/dev/null"),
        ("REQUEST_TIMEOUT", "10m"),
        ("JOB_BACKLOG", "10000000"),
        ("RATE_LIMIT_MAX", "1000000"),
        ("SPEED_LIMIT_STEP", "0"),
        ("SHUTDOWN_DRAIN_DELAY", "0s"),
    ];
    let rows = rows.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    rows.chain([("JOB_WORKERS".to_owned(), workers.to_string())]).collect()
}

/// One log is all that a process may install.
static LOGGING: Mutex<Option<erp_core::logging::Logging>> = Mutex::new(None);

pub(crate) async fn start(settings: Vec<(String, String)>) -> io::Result<Context> {
    let held = LOGGING.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let logging = held.map_or(LogSetup::Install { terminal: false }, LogSetup::Given);
    let layers = Layers::from(MapSource::environment(
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())),
    ));
    let options = BootstrapOptions::new(logging, std::ffi::OsString::new());
    let context = bootstrap(&measured(), &layers, options).await.map_err(io::Error::other)?;
    *LOGGING.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.edge.app.logging.clone());
    Ok(context)
}

/// Asks this process to enqueue.
pub(crate) async fn ask(
    context: &Context,
    database: &Database,
    count: u32,
    at_a_time: u32,
) -> io::Result<()> {
    request(context, database, "/bench/enqueue", &json!({"count": count, "atATime": at_a_time})).await
}

/// A request of this process, as somebody of the first tenant.
pub(crate) async fn request(
    context: &Context,
    database: &Database,
    path: &str,
    body: &Value,
) -> io::Result<()> {
    let person = database.people.first().ok_or_else(|| io::Error::other("the seed made nobody"))?;
    let issued = context.edge.app.authenticator.issue(person.tenant_id, person.user_id, None);
    let token = issued.map_err(io::Error::other)?.access_token.expose().clone();
    let request = Request::post(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("x-forwarded-proto", "https")
        .body(Body::from(body.to_string()))
        .map_err(io::Error::other)?;
    let response = Arc::clone(&context.edge).handle(PEER, request).await;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{path}: {}", response.status())))
    }
}

/// What this process's metrics say.
pub(crate) fn figure(context: &Context, name: &str) -> f64 {
    let scraped = context.edge.app.scrape(erp_core::metrics::Format::Text004);
    let line = scraped.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse::<f64>().ok()).unwrap_or(f64::NAN)
}

/// The buckets of a histogram without labels: their upper bounds, and how many values were no larger.
pub(crate) fn buckets(context: &Context, name: &str) -> Vec<(f64, f64)> {
    let scraped = context.edge.app.scrape(erp_core::metrics::Format::Text004);
    let prefix = format!("{name}_bucket{{le=\"");
    let bucket = |line: &str| {
        let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
        Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
    };
    scraped.lines().filter_map(bucket).collect()
}

/// Another process with ten slots, which ends with its standard input.
pub(crate) fn child(database: &Database) -> io::Result<Child> {
    let settings = serde_json::to_string(&settings(database, 10)).map_err(io::Error::other)?;
    let program = std::env::current_exe()?;
    Command::new(program)
        .arg("work")
        .arg(settings)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}
