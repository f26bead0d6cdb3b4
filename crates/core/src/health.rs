//! The probes and the management surface.
//!
//! `/livez` and `/health` touch no dependency: a database that is away must not make an orchestrator restart us.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::extract::Json;
use crate::lifecycle::Phase;
use crate::metrics::Format;
use crate::module::{Access, Module, Routes};

/// The core's own routes, as a module like any other.
pub static HEALTH: Module = Module { name: "health", permissions: &[], errors: crate::error::CORE, routes };

fn routes() -> Routes {
    Routes::new()
        .get("/ping", Access::Public, ping)
        .get("/livez", Access::Public, livez)
        .get("/readyz", Access::Public, readyz)
        .get("/health", Access::Public, health)
        .get("/health/detailed", Access::Management, detailed)
        .get("/metrics", Access::Management, metrics)
}

/// `GET /ping`: the shortest way through the whole chain.
async fn ping() -> &'static str {
    "pong"
}

/// `GET /livez`: the process can answer.
async fn livez() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// One thing that readiness depends on.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    passed: bool,
    #[serde(skip_serializing_if = "Value::is_null")]
    details: Value,
}

/// `GET /readyz`: 503 while starting, draining, or when the database or the isolation proof fails.
async fn readyz(State(app): State<App>) -> Response {
    let failed: Vec<&str> =
        checks(&app).iter().filter(|check| !check.passed).map(|check| check.name).collect();
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

/// `GET /health/detailed`: every check with its numbers. Reads what the monitors already know; asks nothing.
async fn detailed(State(app): State<App>) -> Response {
    let checks = checks(&app);
    let ready = checks.iter().all(|check| check.passed);
    let mut body = basics(&app, if ready { "ok" } else { "degraded" });
    if let Some(fields) = body.as_object_mut() {
        fields.insert("checks".to_owned(), json!(checks));
    }
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
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

fn checks(app: &App) -> [Check; 3] {
    let phase = app.lifecycle.phase();
    let (open, idle) = app.db.connections();
    let proof = app.proof();
    [
        Check { name: "lifecycle", passed: phase == Phase::Ready, details: json!({ "phase": format!("{phase:?}").to_lowercase() }) },
        Check {
            name: "database",
            passed: app.db.is_up(),
            details: json!({ "connections": open, "idle": idle, "max": app.config.database_max_connections }),
        },
        Check {
            name: "isolation",
            passed: proof.as_ref().is_some_and(|proof| proof.report.passed()),
            details: proof.map_or(Value::Null, |proof| {
                json!({ "verdict": proof.report.one_line(), "hash": proof.report.hash(), "provedAt": proof.at.to_string() })
            }),
        },
    ]
}
