//! The isolation proof at start, and again and again while serving.

use std::time::Duration;

use crate::app::App;
use crate::db::proof::{Report, Sample};
use crate::error::Result;
use crate::lifecycle::{Exit, StartError};
use crate::module::Product;

/// How often a running server proves its isolation again.
const INTERVAL: Duration = Duration::from_secs(300);
/// How often a table that a migration holds is tried again, and after what pause. Then it counts as a finding.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// Proves the isolation, or refuses to go on: the port is not bound.
pub(super) async fn at_start(app: &App, product: &Product) -> Result<(), StartError> {
    let report = prove(app, product.samples).await.map_err(|error| {
        StartError::new(Exit::Unavailable, "The isolation proof could not be made").because(error)
    })?;
    if report.passed() {
        tracing::info!(verdict = report.one_line(), hash = report.hash(), "Isolation proven");
        app.proved(report);
        return Ok(());
    }
    let findings: Vec<String> = report
        .findings
        .iter()
        .map(|finding| {
            format!("  {} · {}: {}. Fix: {}", finding.check, finding.object, finding.detail, finding.fix)
        })
        .collect();
    let message =
        format!("Tenant isolation is not proven; the server does not start:\n{}", findings.join("\n"));
    Err(StartError::new(Exit::Isolation, message))
}

/// The proof; one that met a locked table has said nothing yet, and is made again.
async fn prove(app: &App, samples: &[Sample]) -> Result<Report> {
    for _ in 1..TRIES {
        let report = app.db.prove(samples).await?;
        if !report.inconclusive() {
            return Ok(report);
        }
        tracing::warn!(verdict = report.one_line(), "The isolation proof met a lock; it is made again");
        tokio::time::sleep(PAUSE).await;
    }
    app.db.prove(samples).await
}

/// Proves it again every five minutes, and when the database has been away: it may be another one. A finding turns
/// readiness to 503 until a later proof passes.
pub(super) async fn again(app: App, samples: &'static [Sample]) {
    let stop = app.lifecycle.stop_background().clone();
    let due = async || tokio::time::timeout(INTERVAL, app.db.came_back()).await;
    while stop.run_until_cancelled(due()).await.is_some() {
        let Some(outcome) = stop.run_until_cancelled(prove(&app, samples)).await else { return };
        match outcome {
            Ok(report) => {
                for finding in &report.findings {
                    tracing::error!(
                        check = finding.check,
                        object = finding.object,
                        fix = finding.fix,
                        "Isolation is broken"
                    );
                }
                app.proved(report);
            }
            // An unreachable database is the monitor's to report; the last verdict stands until it is back.
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "The isolation proof could not be made"
            ),
        }
    }
}
