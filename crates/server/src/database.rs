//! `db migrate|status|maintain|seed|reset`; `db check` is next door.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use erp_core::auth::Passwords;
use erp_core::bootstrap::{
    self, BootstrapOptions, LogSetup, logins, migrate_as_owner, owner_connection, runtime_connection,
};
use erp_core::config::{Config, Layers};
use erp_core::db::{self, Migrated, Owner, Status};
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use tokio_util::task::TaskTracker;

use crate::inspect::{internal, print};

/// `db migrate`: applies what is pending, then proves the isolation again.
pub(crate) async fn migrate(
    product: &Product,
    layers: &Layers,
    dry_run: bool,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let (owner, logins) = (owner_connection(&config)?, logins(&config)?);
    let tasks = TaskTracker::new();
    let schema = product.schema()?;
    if dry_run {
        return rehearse(&db::migration_status(&owner, &schema, &tasks).await?, json);
    }
    let (_, migrated) = migrate_as_owner(&owner, &logins, &schema, &tasks).await?;
    let report = db::prove_once(&logins, &schema, &tasks).await?;
    if json {
        let Migrated { applied, carried_over } = migrated;
        let outcome =
            serde_json::json!({ "applied": applied, "carriedOver": carried_over, "isolation": report });
        print(&outcome.to_string());
    } else {
        print(&format!("{} {}", told(&migrated, "Applied", "Carried over"), report.one_line()));
        if !report.passed() {
            print(&report.matrix());
        }
    }
    Ok(ExitCode::from(if report.passed() { Exit::Done } else { Exit::Isolation } as u8))
}

/// `db migrate --dry-run`: what `db migrate` would do. Exit 0, unless it would be refused.
fn rehearse(status: &[Status], json: bool) -> Result<ExitCode, StartError> {
    db::refuse_changed(status)?;
    let names = |rows: Vec<&str>| rows.into_iter().map(str::to_owned).collect();
    let would =
        Migrated { applied: names(db::pending(status)), carried_over: names(db::to_carry_over(status)) };
    if json {
        let Migrated { applied, carried_over } = would;
        let outcome = serde_json::json!({ "dryRun": true, "pending": applied, "carriedOver": carried_over });
        print(&outcome.to_string());
    } else {
        print(&told(&would, "Would apply", "Would carry over"));
    }
    Ok(ExitCode::SUCCESS)
}

fn told(migrated: &Migrated, applied: &str, carried_over: &str) -> String {
    let Migrated { applied: new, carried_over: old } = migrated;
    let mut parts = Vec::new();
    if !old.is_empty() {
        parts.push(format!("{carried_over} from their former names: {}.", old.join(", ")));
    }
    parts.push(if new.is_empty() {
        "Nothing was pending.".to_owned()
    } else {
        format!("{applied} {}.", new.join(", "))
    });
    parts.join(" ")
}

/// `db status`: which migrations are applied; exit 1 when one is pending or refused.
pub(crate) async fn status(product: &Product, layers: &Layers, json: bool) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let runtime = runtime_connection(&config)?;
    let schema = product.schema()?;
    let rows = db::migration_status(&runtime, &schema, &TaskTracker::new()).await?;
    if json {
        print(&serde_json::to_string_pretty(&rows).map_err(internal)?);
    } else {
        for row in &rows {
            let at = row.applied_at.map(|at| format!(" at {at}")).unwrap_or_default();
            let was = row.was.as_ref().map(|was| format!(" as {was}")).unwrap_or_default();
            print(&format!("{:<32} {}{was}{at}", row.name, row.state));
        }
    }
    let settled = rows.iter().all(Status::is_settled);
    Ok(ExitCode::from(if settled { Exit::Done } else { Exit::Finding } as u8))
}

/// `db maintain`: what the schedule `maintenance.partitions` does, now; exit 1 when something is left to be done.
pub(crate) async fn maintain(product: &Product, layers: &Layers, json: bool) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let system = logins(&config)?.system;
    let outcomes = db::maintain_partitions(&system, config.jobs.retention_days, &TaskTracker::new()).await?;
    if json {
        print(&serde_json::to_string_pretty(&outcomes).map_err(internal)?);
    } else {
        for outcome in &outcomes {
            print(&format!("{} {}", outcome.part, outcome.trouble().unwrap_or(&outcome.outcome)));
        }
        if outcomes.is_empty() {
            print("Nothing was to be done.");
        }
    }
    let left = outcomes.iter().any(|outcome| outcome.trouble().is_some());
    Ok(ExitCode::from(if left { Exit::Finding } else { Exit::Done } as u8))
}

/// `db seed`: the demo tenants, on a database that exists, and new passwords for their people.
pub(crate) async fn seed(product: &Product, layers: &Layers, path: OsString) -> Result<ExitCode, StartError> {
    let mut config = settings(product).load(layers)?;
    let options = BootstrapOptions::new(LogSetup::Install { terminal: false }, path);
    erp_core::config::dev_secrets(&mut config, options.rng.as_ref())?;
    let owner = Owner::connect(&owner_connection(&config)?, &TaskTracker::new()).await?;
    let passwords = Passwords::new(1, std::sync::Arc::clone(&options.rng));
    bootstrap::seed(&owner, product, &config, &options, &passwords, true).await?;
    let file = config.process.data_dir.join("demo-credentials.json");
    print(&format!("The demo tenants acme and globex are there, with new passwords in {}", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// `db reset`: the next start makes the private database anew.
pub(crate) async fn reset(
    product: &Product,
    layers: &Layers,
    path: &OsStr,
    yes: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    if !yes && config.profile().migrates_at_start && !confirmed(&config) {
        let message = format!("Nothing was removed: confirm it with '{} db reset --yes'", product.name);
        return Err(StartError::new(Exit::Usage, message));
    }
    let data = bootstrap::reset(&config, path).await?;
    print(&format!("The private database in {} is gone; the next start makes it anew", data.display()));
    Ok(ExitCode::SUCCESS)
}

/// Asks on the terminal; without one the answer is no.
fn confirmed(config: &Config) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    let question = format!(
        "Remove the private database of {} with all its data? [y/N] ",
        config.process.data_dir.display()
    );
    let mut answer = String::new();
    let asked = io::stderr().write_all(question.as_bytes()).and_then(|()| io::stdin().read_line(&mut answer));
    asked.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
