//! `db migrate|status|seed|reset`; `db check` is next door.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use erp_core::auth::Passwords;
use erp_core::bootstrap::{
    self, BootstrapOptions, LogSetup, migrate_as_owner, owner_connection, runtime_connection,
};
use erp_core::config::{Config, Layers};
use erp_core::db::{self, Owner};
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_modules::PRODUCT;
use tokio_util::task::TaskTracker;

use crate::inspect::{internal, print};

/// `db migrate`: applies what is pending, then proves the isolation again.
pub(crate) async fn migrate(layers: &Layers, _: OsString, json: bool) -> Result<ExitCode, StartError> {
    let config = settings(&PRODUCT).load(layers)?;
    let (owner, runtime) = (owner_connection(&config)?, runtime_connection(&config)?);
    let tasks = TaskTracker::new();
    let (_, applied) = migrate_as_owner(&owner, &runtime, &PRODUCT, &tasks).await?;
    let report = db::prove_once(&runtime, PRODUCT.samples, PRODUCT.migrations, &tasks).await?;
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
    let config = settings(&PRODUCT).load(layers)?;
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

/// `db seed`: the demo tenants, on a database that exists, and new passwords for their people.
pub(crate) async fn seed(layers: &Layers, path: OsString) -> Result<ExitCode, StartError> {
    let mut config = settings(&PRODUCT).load(layers)?;
    let options = BootstrapOptions::new(LogSetup::Install { terminal: false }, path);
    erp_core::config::dev_secrets(&mut config, options.rng.as_ref())?;
    let owner = Owner::connect(&owner_connection(&config)?, &TaskTracker::new()).await?;
    let passwords = Passwords::new(1, std::sync::Arc::clone(&options.rng));
    bootstrap::seed(&owner, &PRODUCT, &config, &options, &passwords, true).await?;
    let file = config.process.data_dir.join("demo-credentials.json");
    print(&format!("The demo tenants acme and globex are there, with new passwords in {}", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// `db reset`: the next start makes the private database anew.
pub(crate) async fn reset(layers: &Layers, path: &OsStr, yes: bool) -> Result<ExitCode, StartError> {
    let config = settings(&PRODUCT).load(layers)?;
    if !yes && config.profile().migrates_at_start && !confirmed(&config) {
        let message = "Nothing was removed: confirm it with 'erp-backend db reset --yes'";
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
