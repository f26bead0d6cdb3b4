//! The probes and the management surface.
//!
//! `/livez` and `/health` touch no dependency: a database that is away must not make an orchestrator restart us.

mod log_level;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::{App, Proof};
use crate::db::ServerVersion;
use crate::extract::Json;
use crate::lifecycle::Phase;
use crate::metrics::Format;
use crate::module::{Access, Module, Routes};

/// The core's own routes, as a module like any other.
pub static HEALTH: Module = Module { name: "health", errors: crate::error::CORE, routes, ..Module::BARE };

/// Whatever `Accept` says: a probe's client looks at the status.
const ANYTHING: &[&str] = &[];

fn routes() -> Routes {
    Routes::new()
        .get("/ping", Access::Public, ping)
        .produces(ANYTHING)
        .get("/livez", Access::Public, livez)
        .produces(ANYTHING)
        .get("/readyz", Access::Public, readyz)
        .produces(ANYTHING)
        .get("/health", Access::Public, health)
        .produces(ANYTHING)
        .get("/health/detailed", Access::Management, detailed)
        .produces(ANYTHING)
        .get("/metrics", Access::Management, metrics)
        .produces(ANYTHING)
        .get("/log-level", Access::Management, log_level::get)
        .put("/log-level", Access::Management, log_level::put)
}

/// `GET /ping`: the shortest way through the whole chain.
async fn ping() -> &'static str {
    "pong"
}

/// `GET /livez`: the process can answer.
async fn livez() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// One thing that health depends on.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    /// Whether readiness depends on it.
    required: bool,
    passed: bool,
    #[serde(skip_serializing_if = "Value::is_null")]
    details: Value,
}

impl Check {
    fn refuses(&self) -> bool {
        self.required && !self.passed
    }
}

/// `GET /readyz`: 503 while starting, draining, or when the database, the isolation proof or a required probe fails.
async fn readyz(State(app): State<App>) -> Response {
    let failed: Vec<&str> =
        checks(&app).await.iter().filter(|check| check.refuses()).map(|check| check.name).collect();
    let (code, status) =
        if failed.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unready") };
    (code, Json(json!({ "status": status, "failed": failed }))).into_response()
}

/// `GET /health`: as the specification's basic status; 503 while draining.
async fn health(State(app): State<App>) -> Response {
    let draining = app.lifecycle.phase() == Phase::Draining;
    let code = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(basics(&app, if draining { "draining" } else { "ok" }))).into_response()
}

/// `GET /health/detailed`: every check with its numbers. What is behind them is asked at most once a second.
async fn detailed(State(app): State<App>) -> Response {
    let checks = checks(&app).await;
    let well = checks.iter().all(|check| check.passed);
    let mut body = basics(&app, if well { "ok" } else { "degraded" });
    if let Some(fields) = body.as_object_mut() {
        fields.insert("checks".to_owned(), json!(checks));
    }
    let unready = checks.iter().any(Check::refuses);
    let code = if unready { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(body)).into_response()
}

/// `GET /metrics`: Prometheus's text format, or OpenMetrics when `Accept` asks for it.
async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    if !app.config.metrics_enabled {
        return crate::error::Error::new(&crate::error::codes::NOT_FOUND).into_response();
    }
    let format = Format::from_accept(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    ([(header::CONTENT_TYPE, format.content_type())], app.scrape(format)).into_response()
}

fn basics(app: &App, status: &str) -> Value {
    let uptime = app.clock.now().duration_since(app.started);
    json!({ "status": status, "version": app.version, "uptime": uptime.as_secs() })
}

async fn checks(app: &App) -> Vec<Check> {
    let probes = app.probe().await;
    let probes = probes.iter().map(|outcome| Check {
        name: outcome.name,
        required: outcome.required,
        passed: outcome.failure.is_none(),
        details: outcome.failure.as_ref().map_or(Value::Null, |failure| json!({ "failure": failure })),
    });
    own_checks(app).into_iter().chain(probes).collect()
}

fn own_checks(app: &App) -> [Check; 3] {
    let phase = app.lifecycle.phase();
    let (open, idle) = app.db.connections();
    let proof = app.proof();
    let check = |name, passed, details| Check { name, required: true, passed, details };
    let proven = proof.as_ref().is_some_and(|proof| proof.report.passed());
    [
        check("lifecycle", phase == Phase::Ready, json!({ "phase": format!("{phase:?}").to_lowercase() })),
        check("database", app.db.is_up(), {
            let version = proof.as_ref().and_then(|proof| ServerVersion::parse(&proof.report.server_version));
            json!({
                "connections": open,
                "idle": idle,
                "max": app.config.database_max_connections,
                "version": version,
                "warning": version.and_then(ServerVersion::warning),
            })
        }),
        check("isolation", proven, proof.map_or(Value::Null, |Proof { report, at }| {
            json!({ "verdict": report.one_line(), "hash": report.hash(), "provedAt": at.to_string() })
        })),
    ]
}
