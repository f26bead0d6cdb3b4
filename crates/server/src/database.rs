//! `db migrate|status|check|seed`.

use std::ffi::OsString;
use std::process::ExitCode;

use erp_core::auth::Passwords;
use erp_core::bootstrap::{
    self, BootstrapOptions, LogSetup, migrate_as_owner, owner_connection, runtime_connection,
};
use erp_core::config::{Config, Layers};
use erp_core::db::{self, Owner, ServerVersion};
use erp_core::lifecycle::{Exit, StartError};
use erp_modules::PRODUCT;
use serde::Serialize;
use tokio_util::task::TaskTracker;

use crate::inspect::{internal, print};

/// `db migrate`: applies what is pending, then proves the isolation again.
pub(crate) async fn migrate(layers: &Layers, _: OsString, json: bool) -> Result<ExitCode, StartError> {
    let config = Config::load(layers)?;
    let (owner, runtime) = (owner_connection(&config)?, runtime_connection(&config)?);
    let tasks = TaskTracker::new();
    let (_, applied) = migrate_as_owner(&owner, &runtime, &PRODUCT, &tasks).await?;
    let report = db::prove_once(&runtime, PRODUCT.samples, &tasks).await?;
    if json {
        print(&serde_json::json!({ "applied": applied, "isolation": report }).to_string());
    } else {
        let what = if applied.is_empty() {
            "Nothing was pending.".to_owned()
        } else {
            format!("Applied {}.", applied.join(", "))
        };
        print(&format!("{what} {}", report.one_line()));
        if !report.passed() {
            print(&report.matrix());
        }
    }
    Ok(ExitCode::from(if report.passed() { Exit::Done } else { Exit::Isolation } as u8))
}

/// `db status`: which migrations are applied; exit 1 when one is pending or changed.
pub(crate) async fn status(layers: &Layers, json: bool) -> Result<ExitCode, StartError> {
    let config = Config::load(layers)?;
    let rows =
        db::migration_status(&runtime_connection(&config)?, PRODUCT.migrations, &TaskTracker::new()).await?;
    if json {
        print(&serde_json::to_string_pretty(&rows).map_err(internal)?);
    } else {
        for row in &rows {
            let at = row.applied_at.map(|at| format!(" at {at}")).unwrap_or_default();
            print(&format!("{:<24} {}{at}", row.name, row.state));
        }
    }
    let settled = rows.iter().all(|row| matches!(row.state, "applied" | "ahead"));
    Ok(ExitCode::from(if settled { Exit::Done } else { Exit::Finding } as u8))
}

/// `db seed`: the demo tenants, on a database that exists.
pub(crate) async fn seed(layers: &Layers, path: OsString) -> Result<ExitCode, StartError> {
    let mut config = Config::load(layers)?;
    let options = BootstrapOptions::new(LogSetup::Install { terminal: false }, path);
    erp_core::config::dev_secrets(&mut config, options.rng.as_ref())?;
    let owner = Owner::connect(&owner_connection(&config)?, &TaskTracker::new()).await?;
    let passwords = Passwords::new(1, std::sync::Arc::clone(&options.rng));
    bootstrap::seed(&owner, &PRODUCT, &config, &options, &passwords).await?;
    let file = config.data_dir.join("demo-credentials.json");
    print(&format!("The demo tenants acme and globex are there; their passwords are in {}", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// One step of `db check`.
#[derive(Serialize)]
struct Step {
    name: &'static str,
    passed: bool,
    /// It passed, and still wants an operator's attention.
    warning: bool,
    detail: String,
}

impl Step {
    fn verdict(&self) -> &'static str {
        match (self.passed, self.warning) {
            (false, _) => "FAIL",
            (true, true) => "warn",
            (true, false) => "ok  ",
        }
    }
}

/// `db check`: from the URL to the migrations, each step with a verdict; exit 1 at the first that fails.
pub(crate) async fn check(layers: &Layers, json: bool) -> Result<ExitCode, StartError> {
    let config = Config::load(layers)?;
    let runtime = runtime_connection(&config)?;
    let steps = steps(&runtime).await;
    if json {
        print(&serde_json::to_string_pretty(&steps).map_err(internal)?);
    } else {
        for step in &steps {
            print(&format!("{} {:<12} {}", step.verdict(), step.name, step.detail));
        }
    }
    let passed = steps.iter().all(|step| step.passed);
    Ok(ExitCode::from(if passed { Exit::Done } else { Exit::Finding } as u8))
}

async fn steps(runtime: &db::Connection) -> Vec<Step> {
    let tasks = TaskTracker::new();
    let pass = |name, detail: String| Step { name, passed: true, warning: false, detail };
    let fail = |name, detail: String| Step { name, passed: false, warning: false, detail };
    let mut steps = vec![pass("url", format!("{} as {}", runtime.place(), runtime.user().unwrap_or("?")))];
    if let Err(refusal) = db::reach(runtime, &tasks).await {
        steps.push(fail("connection", refusal.error.message));
        return steps;
    }
    steps.push(pass("connection", "address, credentials and database are right".to_owned()));
    match db::accepted_version(runtime, &tasks).await {
        Ok(version) => {
            let warning = version.and_then(ServerVersion::warning);
            let shown = version.map_or("unknown".to_owned(), |version| format!("PostgreSQL {version}"));
            steps.push(Step { warning: warning.is_some(), ..pass("version", warning.unwrap_or(shown)) });
        }
        Err(error) => {
            steps.push(fail("version", error.message));
            return steps;
        }
    }
    match db::refuse_privileged_role(runtime, &tasks).await {
        Ok(()) => steps.push(pass("role", "bound by row level security".to_owned())),
        Err(error) => steps.push(fail("role", error.message)),
    }
    match db::migration_status(runtime, PRODUCT.migrations, &tasks).await {
        Ok(rows) => match db::pending(&rows).as_slice() {
            [] => steps.push(pass("migrations", format!("{} applied", rows.len()))),
            pending => {
                steps.push(fail(
                    "migrations",
                    format!("pending: {}; run 'erp-backend db migrate'", pending.join(", ")),
                ));
                return steps;
            }
        },
        Err(error) => steps.push(fail("migrations", error.message)),
    }
    match db::prove_once(runtime, PRODUCT.samples, &tasks).await {
        Ok(report) if report.passed() => steps.push(pass("isolation", report.one_line())),
        Ok(report) => steps
            .push(fail("isolation", format!("{}; run 'erp-backend doctor isolation'", report.one_line()))),
        Err(error) => steps.push(fail("isolation", error.message)),
    }
    steps
}
