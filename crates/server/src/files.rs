//! `files`: what an operator sees of tenants' files and does about them.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use erp_core::bootstrap::{FileOperator, FileTenant, VerifiedFiles};
use erp_core::config::{Layers, dev_secrets};
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::SystemRng;
use serde_json::{Map, Value, json};

use crate::arguments::{limit, tenant, verb};
use crate::inspect::{internal, print, unreachable};

/// The most files that are listed of a tenant, unless it is said otherwise.
const PAGE: i64 = 50;

/// What is asked for.
pub(crate) struct FilesVerb {
    verb: FilesAction,
    /// The tenant's slug; all tenants without one.
    tenant: Option<String>,
}

enum FilesAction {
    List { kind: Option<String>, limit: i64 },
    Usage,
    Quota(Option<i64>),
    Verify { contents: bool, remove: bool },
    Sweep,
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let kind = Arg::new("kind").long("kind").value_name("KIND").help("Of this kind, such as billing.receipt");
    let limit = limit("At most so many of each tenant");
    let quota = Arg::new("quota")
        .required(true)
        .value_name("SIZE")
        .value_parser(size)
        .help("Such as 20GiB, or default");
    verb("files", "Tenants' files, as DATABASE_SYSTEM_URL and FILES_URL see them")
        .arg_required_else_help(true)
        .subcommand(verb("list", "List files, the newest first").args([tenant(), kind, limit]))
        .subcommand(
            verb("usage", "Show how much tenants' files take, and what no file refers to").arg(tenant()),
        )
        .subcommand(verb("quota", "Give a tenant a quota of its own").args([tenant().required(true), quota]))
        .subcommand(
            verb("verify", "Compare files with the store: 1 where something is missing, damaged or nobody's")
                .args([tenant(), flag("contents", "Read all bytes, and compare their SHA-256")])
                .arg(flag("remove-orphans", "Remove the objects that no file and no upload knows of")),
        )
        .subcommand(verb("sweep", "Let the nightly sweep of all tenants come at once"))
}

/// `20GiB` in bytes; `default` for none of one's own.
fn size(text: &str) -> Result<Option<i64>, String> {
    if text == "default" {
        return Ok(None);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit: Option<i64> = match text.get(digits..).unwrap_or_default() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let number: Option<i64> = text.get(..digits).and_then(|digits| digits.parse().ok());
    let bytes = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    bytes.map(Some).ok_or_else(|| "a whole number with KiB, MiB or GiB, such as 20GiB; or default".to_owned())
}

/// Reads what stands behind `files`.
pub(crate) fn read(matches: &ArgMatches) -> Option<FilesVerb> {
    let (name, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    let flag = |name: &str| given.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or_default();
    let limit = given.try_get_one::<i64>("limit").ok().flatten().copied();
    let verb = match name {
        "list" => FilesAction::List { kind: text("kind"), limit: limit.unwrap_or(PAGE) },
        "usage" => FilesAction::Usage,
        "quota" => FilesAction::Quota(*given.get_one::<Option<i64>>("quota")?),
        "verify" => FilesAction::Verify { contents: flag("contents"), remove: flag("remove-orphans") },
        _ => FilesAction::Sweep,
    };
    Some(FilesVerb { verb, tenant: text("tenant") })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: FilesVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let mut config = settings(product).load(layers)?;
    dev_secrets(&mut config, &SystemRng::new())?; // the key that a server of this machine has
    let operator = FileOperator::open(product, &config, Arc::new(SystemRng::new()))?;
    let outcome = Box::pin(perform(&operator, asked, json)).await;
    operator.close().await;
    outcome
}

async fn perform(
    operator: &FileOperator,
    FilesVerb { verb, tenant }: FilesVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    if let FilesAction::Sweep = verb {
        return sweep(operator, json).await;
    }
    let tenants = operator.tenants(tenant.as_deref()).await.map_err(failed)?;
    if let (Some(slug), true) = (&tenant, tenants.is_empty()) {
        return Err(StartError::new(Exit::Usage, format!("There is no tenant '{slug}'")));
    }
    let mut all = Map::new();
    let mut clean = true;
    for tenant in &tenants {
        let value = match &verb {
            FilesAction::List { kind, limit } => {
                list(operator, tenant, kind.as_deref(), *limit, json).await?
            }
            FilesAction::Quota(quota) => {
                operator.set_quota(tenant, *quota).await.map_err(failed)?;
                usage(operator, tenant, json).await?
            }
            FilesAction::Verify { contents, remove } => {
                let found = operator.verify(tenant, *contents, *remove).await.map_err(failed)?;
                clean &= found.is_clean();
                verified(tenant, &found, json)?
            }
            FilesAction::Usage | FilesAction::Sweep => usage(operator, tenant, json).await?,
        };
        all.insert(tenant.slug.clone(), value);
    }
    if json {
        print(&serde_json::to_string_pretty(&all).map_err(internal)?);
    }
    Ok(ExitCode::from(if clean { Exit::Done } else { Exit::Finding } as u8))
}

async fn list(
    operator: &FileOperator,
    tenant: &FileTenant,
    kind: Option<&str>,
    limit: i64,
    json: bool,
) -> Result<Value, StartError> {
    let files = operator.list(tenant, kind, limit).await.map_err(failed)?;
    for file in files.iter().filter(|_| !json) {
        let slug = &tenant.slug;
        let at = file.created_at.strftime("%Y-%m-%dT%H:%M:%SZ");
        let gone = if file.removed_at.is_some() { "  (its time is over)" } else { "" };
        print(&format!(
            "{}  {slug:<16} {:<24} {:>12} {at}  {}{gone}",
            file.id, file.kind, file.bytes, file.name
        ));
    }
    serde_json::to_value(files).map_err(internal)
}

async fn usage(operator: &FileOperator, tenant: &FileTenant, json: bool) -> Result<Value, StartError> {
    let usage = operator.usage(tenant).await.map_err(failed)?;
    if !json {
        let quota = usage.quota.map_or("default".to_owned(), |bytes| bytes.to_string());
        let bytes = usage.bytes.unwrap_or_default();
        let (files, loose) = (usage.files, usage.unreferenced);
        print(&format!(
            "{:<16} {files:>10} files {bytes:>16} bytes  quota {quota}  without a file {loose}",
            tenant.slug
        ));
    }
    serde_json::to_value(usage).map_err(internal)
}

fn verified(tenant: &FileTenant, found: &VerifiedFiles, json: bool) -> Result<Value, StartError> {
    if !json {
        let VerifiedFiles { files, missing, damaged, orphans, removed } = found;
        print(&format!(
            "{:<16} {files:>10} files, {} missing, {} damaged, {} objects of nobody's, {removed} of them removed",
            tenant.slug,
            missing.len(),
            damaged.len(),
            orphans.len()
        ));
        for (what, ids) in [("missing", missing), ("damaged", damaged), ("nobody's", orphans)] {
            ids.iter().for_each(|id| print(&format!("  {what} {id}")));
        }
    }
    serde_json::to_value(found).map_err(internal)
}

async fn sweep(operator: &FileOperator, json: bool) -> Result<ExitCode, StartError> {
    let comes = operator.sweep().await.map_err(failed)?;
    match (json, comes) {
        (true, _) => print(&json!({ "comes": comes }).to_string()),
        (false, true) => print(
            "The sweep comes within a second, where a process works on jobs: see 'jobs list --kind files.sweep'.",
        ),
        (false, false) => {
            print("No schedule is noted yet: start a process that works on jobs, and say it again.");
        }
    }
    Ok(ExitCode::from(if comes { Exit::Done } else { Exit::Finding } as u8))
}

fn failed(error: erp_core::error::Error) -> StartError {
    if error.code().code != "files.store_unavailable" {
        return unreachable("Tenants' files cannot be looked at", error);
    }
    let what = "The store of files cannot be reached";
    let fix = "look at FILES_URL, its keys, and the store's own log";
    StartError::with_fix(Exit::Unavailable, what, fix).because(error)
}
