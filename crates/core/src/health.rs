//! The probes and the management surface.
//!
//! `/livez` and `/health` touch no dependency: a database that is away must not make an orchestrator restart us.

mod log_level;

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::{Answer, Outputs};
use crate::app::{App, Outcome, Proof};
use crate::db::{ServerVersion, Writes};
use crate::error::{Error, Result, codes};
use crate::extract::Json;
use crate::lifecycle::Phase;
use crate::metrics::{Format, open_files};
use crate::module::{Access, Module, Operation, Routes, Surface};
use crate::shared::LARGEST_EXACT;

/// The core's own routes, as a module like any other.
pub static HEALTH: Module = Module {
    name: "health",
    about: "Probes, and the surface that operators manage the process by.",
    errors: crate::error::CORE,
    routes,
    ..Module::BARE
};

/// The names of the checks of `/health/detailed` that are no module's probes.
pub const OWN_CHECKS: &[&str] = &[
    "lifecycle",
    "database",
    "isolation",
    "log",
    "databaseWrites",
    "databasePool",
    "background",
    "connections",
    "requests",
    "bodiesKiB",
    "streams",
    "slowDown",
    "uploads",
    "files",
    "redis",
];

/// Whatever `Accept` says: a probe's client looks at the status.
const ANYTHING: &[&str] = &[];

fn routes() -> Routes {
    use Access::{Management, Public};
    Routes::new()
        .get("/ping", Public, ping)
        .surface(Surface::Probe)
        .produces(ANYTHING)
        .doc(Operation::new("ping", "Answer pong"))
        .get("/livez", Public, livez)
        .surface(Surface::Probe)
        .produces(ANYTHING)
        .doc(Operation::new("livez", "Tell that the process answers"))
        .get("/readyz", Public, readyz)
        .surface(Surface::Probe)
        .produces(ANYTHING)
        .doc(
            Operation::new("readyz", "Tell whether requests can be served")
                .about("503 while starting or draining, and when the database, the isolation proof or a required probe fails."),
        )
        .get("/health", Public, health)
        .surface(Surface::Probe)
        .produces(ANYTHING)
        .doc(Operation::new("health", "Show status, version and uptime"))
        .get("/health/detailed", Management, detailed)
        .produces(ANYTHING)
        .doc(Operation::new("healthDetailed", "Show every check with its numbers"))
        .get("/metrics", Management, metrics)
        .surface(Surface::Probe)
        .produces(ANYTHING)
        .doc(
            Operation::new("metrics", "Export the metrics")
                .about("Prometheus's text format, or OpenMetrics when `Accept` asks for it."),
        )
        .get("/log-level", Management, log_level::get)
        .doc(Operation::new("getLogLevel", "Show how much is logged"))
        .put("/log-level", Management, log_level::put)
        .doc(Operation::new("setLogLevel", "Change how much is logged"))
}

/// `GET /ping`: the shortest way through the whole chain.
async fn ping() -> &'static str {
    "pong"
}

/// `GET /livez`: the process can answer.
async fn livez() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// The process answers.
#[derive(Serialize, JsonSchema)]
struct Alive {
    /// `ok`.
    #[schemars(example = &"ok")]
    status: &'static str,
}

/// Whether requests can be served.
#[derive(Serialize, JsonSchema)]
struct Readiness {
    /// `ok` or `unready`.
    #[schemars(example = &"ok")]
    status: &'static str,
    /// The names of the checks that fail.
    failed: Vec<&'static str>,
}

/// How the process is.
#[derive(Serialize, JsonSchema)]
struct Health {
    /// `ok`, `degraded` or `draining`.
    #[schemars(example = &"ok")]
    status: &'static str,
    version: &'static str,
    /// Seconds since the start.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    uptime: u64,
    /// What health depends on: with the details only.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Vec<HealthCheck>>,
}

/// One thing that health depends on.
#[derive(Serialize, JsonSchema)]
struct HealthCheck {
    name: &'static str,
    /// Whether readiness depends on it.
    required: bool,
    passed: bool,
    #[serde(skip_serializing_if = "Value::is_null")]
    details: Value,
}

impl HealthCheck {
    fn refuses(&self) -> bool {
        self.required && !self.passed
    }
}

/// `GET /readyz`: 503 while starting, draining, or when the database, the isolation proof or a required probe fails.
async fn readyz(State(app): State<App>) -> HealthAnswer<Readiness> {
    let failed: Vec<&'static str> = checks(&app, &app.probe_required().await)
        .filter(HealthCheck::refuses)
        .map(|check| check.name)
        .collect();
    let (code, status) =
        if failed.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unready") };
    HealthAnswer(code, Readiness { status, failed })
}

/// `GET /health`: as the specification's basic status; 503 while draining.
async fn health(State(app): State<App>) -> HealthAnswer<Health> {
    let draining = app.lifecycle.phase() == Phase::Draining;
    let code = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    HealthAnswer(code, basics(&app, if draining { "draining" } else { "ok" }))
}

/// `GET /health/detailed`: every check with its numbers. What is behind them is asked at most once a second.
async fn detailed(State(app): State<App>) -> HealthAnswer<Health> {
    let mut checks: Vec<_> = checks(&app, &app.probe().await).collect();
    checks.extend(limited(&app));
    let well = checks.iter().all(|check| check.passed);
    let unready = checks.iter().any(HealthCheck::refuses);
    let body = Health { checks: Some(checks), ..basics(&app, if well { "ok" } else { "degraded" }) };
    let code = if unready { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    HealthAnswer(code, body)
}

/// 200 or 503, with the same kind of body.
struct HealthAnswer<T>(StatusCode, T);

impl<T: Serialize> IntoResponse for HealthAnswer<T> {
    /// A client that is told 503 may ask again in a second: the database is looked at twice in that (H-06).
    fn into_response(self) -> Response {
        let mut response = (self.0, Json(self.1)).into_response();
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl<T: Serialize + JsonSchema> Answer for HealthAnswer<T> {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<T>(200).json::<T>(503);
    }
}

/// `GET /metrics`: Prometheus's text format, or OpenMetrics when `Accept` asks for it.
async fn metrics(State(app): State<App>, headers: HeaderMap) -> Result<Exposition> {
    if !app.config.metrics.enabled {
        return Err(Error::new(&codes::NOT_FOUND));
    }
    let format = Format::accepted(&headers);
    Ok(Exposition(format, app.scrape(format)))
}

/// The metrics in one of the formats.
struct Exposition(Format, String);

impl IntoResponse for Exposition {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, self.0.content_type())], self.1).into_response()
    }
}

impl Answer for Exposition {
    fn describe(outputs: &mut Outputs) {
        outputs.text(200, "text/plain; version=0.0.4; charset=utf-8");
    }
}

fn basics(app: &App, status: &'static str) -> Health {
    let uptime = app.clock.instant().saturating_duration_since(app.started).as_secs();
    Health { status, version: app.version, uptime, checks: None }
}

fn checks(app: &App, probes: &[Outcome]) -> impl Iterator<Item = HealthCheck> {
    let probes = probes.iter().map(|outcome| HealthCheck {
        name: outcome.name,
        required: outcome.required,
        passed: outcome.failure.is_none(),
        details: outcome.failure.as_ref().map_or(Value::Null, |failure| json!({ "failure": failure })),
    });
    required_checks(app).into_iter().chain(probes)
}

/// What the server can do without for a while: it answers then, and worse.
fn limited(app: &App) -> Vec<HealthCheck> {
    let check = |name, passed, details| HealthCheck { name, required: false, passed, details };
    let place =
        |name, (used, most): (usize, usize)| check(name, used < most, json!({ "used": used, "max": most }));
    let most = app.config.traffic.max_concurrent_requests as usize;
    let connections = app.connections.load(Ordering::Relaxed);
    let requests = most.saturating_sub(app.requests.available_permits());
    let mut checks = vec![
        check("log", !app.logging.is_failing(), {
            json!({ "linesDropped": app.logging.dropped(), "writeErrors": app.logging.write_errors() })
        }),
        check("databaseWrites", app.db.writes() == Writes::Taken, {
            let failure = match app.db.writes() {
                Writes::Taken => None,
                Writes::OffByDefault => Some("transactions are read-only by default"),
                Writes::Standby => Some("the server is a standby"),
            };
            json!({ "failure": failure })
        }),
        check("databasePool", app.db.waiting() == 0, json!({ "waiting": app.db.waiting() })),
        background(app),
        place("connections", (connections as usize, app.config.traffic.max_connections as usize)),
        place("requests", (requests, most)),
        place("bodiesKiB", app.bodies.use_of_members()),
        place("streams", app.streams.use_of_places()),
        place("slowDown", app.slow_down.use_of_places()),
        place("uploads", app.files.use_of_places()),
    ];
    if let (Some(files), Some(most)) = open_files() {
        checks.push(check("files", files < most / 10 * 9, json!({ "used": files, "max": most })));
    }
    if let Some(redis) = app.limits.store() {
        let limits = if redis.is_ok() { "shared" } else { "each instance by itself" };
        let caches = if app.caches.are_shared() { "shared" } else { "each instance by itself" };
        let details = json!({ "limits": limits, "caches": caches, "failure": redis.err() });
        checks.push(check("redis", redis.is_ok(), details));
    }
    checks
}

/// Whether all work of the table runs, and what had to be started again.
fn background(app: &App) -> HealthCheck {
    let tasks = app.lifecycle.tasks();
    let down: Vec<_> = tasks.iter().filter(|task| !task.running).map(|task| task.facts.name).collect();
    let restarted = app.lifecycle.restarts().into_iter().filter(|(_, restarts)| *restarts > 0);
    let restarts: serde_json::Map<_, _> =
        restarted.map(|(name, restarts)| (name.to_owned(), restarts.into())).collect();
    HealthCheck {
        name: "background",
        required: false,
        passed: down.is_empty(),
        details: json!({ "running": tasks.len() - down.len(), "down": down, "restarts": restarts }),
    }
}

fn required_checks(app: &App) -> [HealthCheck; 3] {
    let phase = app.lifecycle.phase();
    let (open, idle) = app.db.connections();
    let proof = app.proof();
    let check = |name, passed, details| HealthCheck { name, required: true, passed, details };
    let proven = proof.as_ref().is_some_and(|proof| proof.report.passed());
    [
        check("lifecycle", phase == Phase::Ready, json!({ "phase": format!("{phase:?}").to_lowercase() })),
        check("database", app.db.is_up(), {
            let version = proof.as_ref().and_then(|proof| ServerVersion::parse(&proof.report.server_version));
            json!({
                "connections": open,
                "idle": idle,
                "max": app.config.database.max_connections,
                "version": version,
                "warning": version.and_then(ServerVersion::warning),
            })
        }),
        check("isolation", proven, proof.map_or(Value::Null, |Proof { report, at, .. }| {
            json!({ "verdict": report.one_line(), "hash": report.hash(), "provedAt": at.to_string() })
        })),
    ]
}
