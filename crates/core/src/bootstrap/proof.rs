//! The isolation proof at start, and again and again while serving.

use std::time::Duration;

use crate::app::App;
use crate::db::proof::Sample;
use crate::lifecycle::{Exit, StartError};
use crate::module::Product;

/// How often a running server proves its isolation again.
const INTERVAL: Duration = Duration::from_secs(300);

/// Proves the isolation, or refuses to go on: the port is not bound.
pub(super) async fn at_start(app: &App, product: &Product) -> Result<(), StartError> {
    let report = app.db.prove(product.samples).await.map_err(|error| {
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

/// Proves it again every five minutes; a finding turns readiness to 503 until a later proof passes.
pub(super) async fn again(app: App, samples: &'static [Sample]) {
    let stop = app.lifecycle.stop_background().clone();
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        match app.db.prove(samples).await {
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
