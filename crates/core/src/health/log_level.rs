//! `GET` and `PUT /log-level`: how much is logged, changed without a restart.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::config::Level;
use crate::error::{Error, Result, Violation, codes};
use crate::extract::Json;

/// What both take and give.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogLevel {
    level: String,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        Self { level: level.to_string() }
    }
}

pub(super) async fn get(State(app): State<App>) -> Json<LogLevel> {
    Json(app.logging.level().into())
}

pub(super) async fn put(State(app): State<App>, Json(wanted): Json<LogLevel>) -> Result<Json<LogLevel>> {
    let (before, after) = (app.logging.level(), parse(&wanted.level)?);
    // Said at the more talkative of both levels, or a change to `error` would leave no trace.
    app.logging.set_level(before.max(after));
    tracing::warn!(%before, %after, "The log level was changed");
    app.logging.set_level(after);
    Ok(Json(after.into()))
}

fn parse(level: &str) -> Result<Level> {
    level.parse().map_err(|_| {
        let words: Vec<&str> = Level::ALL.iter().map(|level| level.as_str()).collect();
        let detail = format!("one of: {}", words.join(", "));
        Error::new(&codes::INVALID).violation(Violation {
            pointer: "/level".to_owned(),
            code: "unknown",
            detail,
        })
    })
}
