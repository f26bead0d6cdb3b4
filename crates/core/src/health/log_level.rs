//! `GET` and `PUT /log-level`: how much is logged, changed without a restart.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::App;
use crate::auth::Trace;
use crate::config::Level;
use crate::extract::Json;

/// How much is logged.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogLevel {
    level: Level,
}

pub(super) async fn get(State(app): State<App>) -> Json<LogLevel> {
    Json(LogLevel { level: app.logging.level() })
}

/// It is changed also while the database does not answer, and then the log alone tells of it.
pub(super) async fn put(
    State(app): State<App>,
    trace: Trace,
    Json(wanted): Json<LogLevel>,
) -> Json<LogLevel> {
    let (before, after) = (app.logging.level(), wanted.level);
    // Said at the more talkative of both levels, or a change to `error` would leave no trace.
    app.logging.set_level(before.max(after));
    tracing::warn!(%before, %after, "The log level was changed");
    app.logging.set_level(after);
    let details = json!({ "before": before, "after": after });
    if let Err(error) = app.tell_platform("platform.log_level_changed", details, &trace).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "The change is not in the platform log");
    }
    Json(LogLevel { level: after })
}
