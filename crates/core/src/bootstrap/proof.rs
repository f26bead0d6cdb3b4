//! The isolation proof at start, and again and again while serving.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::db::proof::{Finding, Report};
use crate::db::{RowCondition, Schema};
use crate::error::{Error, Result, codes};
use crate::lifecycle::{Background, Exit, StartError, StopStage};

/// How often a running server proves its isolation again.
const INTERVAL: Duration = Duration::from_secs(300);
/// How often a table that a migration holds is tried again, and after what pause. Then it counts as a finding.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(2);
/// A proof that could not be made is tried again sooner. When it fails so often in a row, or the last one is so old, it
/// counts as a finding: what cannot be shown any more does not hold.
const RETRY: Duration = Duration::from_secs(5);
const MOST_ERRORS: u32 = 3;
const OVERDUE: Duration = Duration::from_secs(600);

/// Proves the isolation while the server runs.
pub(super) static PROOF: Background<(App, Arc<Schema>)> = Background {
    name: "isolation proof",
    about: "Proves the isolation of tenants every five minutes, and when the database had to be connected to anew.",
    critical: true,
    stops: StopStage::Work,
    run: |(app, schema), stop| Box::pin(again(app, schema, stop.token().clone())),
    observe: |(app, _)| observe(app),
};

/// Proves the isolation, or refuses to go on: the port is not bound.
pub(super) async fn at_start(app: &App, schema: &Schema) -> Result<(), StartError> {
    let report = prove(app, schema).await.map_err(|error| {
        StartError::new(Exit::Unavailable, "The isolation proof could not be made").because(error)
    })?;
    if report.passed() {
        tracing::info!(verdict = report.one_line(), hash = report.hash(), "Isolation proven");
        agree_on_rows(&report, app.db.row_conditions())?;
        agree_on_personal_data(&report, schema)?;
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

/// Compares the tables that the modules say show one's own rows only with those that do. A table that this binary knows nothing
/// of is a newer one's: to us it shows nobody anything.
fn agree_on_rows(report: &Report, conditions: &[RowCondition]) -> Result<(), StartError> {
    let is_registered = |condition: &&RowCondition| {
        let names = |(relation, lifted_by): &(String, String)| {
            relation.strip_prefix("public.") == Some(condition.table) && lifted_by == condition.lifted_by.name
        };
        report.row_conditions.iter().any(names)
    };
    match conditions.iter().find(|condition| !is_registered(condition)) {
        None => Ok(()),
        Some(RowCondition { table, lifted_by }) => Err(StartError::new(
            Exit::Internal,
            format!(
                "A module says that {table} shows one's own rows only, and all to those with {}; the database does not. \
                 Write select app.row_condition('public.{table}', owner => '…', lifted_by => '{}') in its migration.",
                lifted_by.name, lifted_by.name
            ),
        )),
    }
}

/// Compares what the modules declare of people with the register of the database, which the audit log and erasures follow. What a
/// newer version has migrated is that version's matter.
fn agree_on_personal_data(report: &Report, schema: &Schema) -> Result<(), StartError> {
    if !report.migrations.iter().all(|name| schema.knows(name)) {
        return Ok(());
    }
    let is_registered = |relation: &str, column: &str| {
        report.personal.iter().any(|(table, name)| table == relation && name == column)
    };
    for data in schema.personal() {
        if let Some(column) = data.columns.iter().find(|column| !is_registered(data.relation, column.name)) {
            return Err(StartError::with_fix(
                Exit::Configuration,
                format!(
                    "{}.{} is declared as personal, and the register of the database does not have it",
                    data.relation, column.name
                ),
                "run 'erp-backend db migrate', which writes the register",
            ));
        }
    }
    Ok(())
}

/// The proof; one that met a locked table has said nothing yet, and is made again.
async fn prove(app: &App, schema: &Schema) -> Result<Report> {
    let once = async || Ok(app.pools.prove(schema.samples()).await?.for_version(schema));
    for _ in 1..TRIES {
        let report = once().await?;
        if !report.inconclusive() {
            return Ok(report);
        }
        tracing::warn!(verdict = report.one_line(), "The isolation proof met a lock; it is made again");
        tokio::time::sleep(PAUSE).await;
    }
    once().await
}

/// Proves it again every five minutes, and when the database had to be connected to anew: it may be another one. A
/// finding, or a proof that cannot be made, turns readiness to 503 until a later proof passes.
async fn again(app: App, schema: Arc<Schema>, stop: CancellationToken) {
    let mut pause = INTERVAL;
    let mut errors = 0;
    loop {
        let due = tokio::time::timeout(pause, app.db.came_back());
        if stop.run_until_cancelled(due).await.is_none() {
            return;
        }
        match stop.run_until_cancelled(prove(&app, &schema)).await {
            None => return,
            Some(Ok(report)) => {
                (pause, errors) = (INTERVAL, 0);
                note(&app, report);
            }
            Some(Err(error)) => {
                // While it is down the monitor says so, and when it is back, too.
                pause = if app.db.is_up() { RETRY } else { INTERVAL };
                errors = cannot_be_made(&app, &error, errors);
            }
        }
    }
}

fn observe(app: &App) {
    if let Some(proof) = app.proof() {
        let passed = proof.report.passed();
        let at = proof.at.as_millisecond() as f64 / 1000.0;
        app.metrics.isolation_proof_passed.with(&[]).set(f64::from(u8::from(passed)));
        app.metrics.isolation_proof_timestamp_seconds.with(&[]).set(at);
    }
}

fn note(app: &App, report: Report) {
    let (report, unreachable) = report.while_serving();
    for Finding { check, object, fix, .. } in &unreachable {
        tracing::warn!(check, object, fix, "A table is registered nowhere; the next start will be refused");
    }
    for finding in &report.findings {
        let check = finding.check;
        let object = &finding.object;
        let fix = &finding.fix;
        tracing::error!(check, object, fix, "Isolation is broken");
    }
    if report.passed() && app.proof().is_some_and(|last| !last.report.passed()) {
        tracing::info!(verdict = report.one_line(), "Isolation proven again");
    }
    app.proved(report);
}

/// Returns how many `errors` in a row there are now. A database that gives no connection says nothing of isolation: the
/// last verdict then stands, until it is overdue.
fn cannot_be_made(app: &App, error: &Error, errors: u32) -> u32 {
    tracing::warn!(error = error as &dyn std::error::Error, "The isolation proof could not be made");
    let unreached = [&codes::UNAVAILABLE, &codes::OVERLOADED, &codes::READ_ONLY].contains(&error.code());
    let errors = if unreached { errors } else { errors + 1 };
    let age = app.proof().map(|last| app.clock.instant().saturating_duration_since(last.made));
    let overdue = age.is_none_or(|age| age >= OVERDUE);
    if app.db.is_up() && (errors == MOST_ERRORS || overdue) {
        tracing::error!(errors, "Not ready, since the isolation proof cannot be made");
        app.proved(Report::not_made());
    }
    errors
}
