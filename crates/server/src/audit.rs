//! `audit`: what an operator and an auditor do with tenants' audit logs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command};
use erp_core::audit::VerifiedLog;
use erp_core::audit::note::Checkpoint;
use erp_core::bootstrap::{AuditOperator, AuditedTenant};
use erp_core::config::Layers;
use erp_core::error::Error;
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::{Rng, SystemRng};
use serde_json::{Value, json};

use crate::arguments::{tenant, verb, why};
use crate::inspect::{internal, print, unreachable};

/// What is asked for.
pub(crate) struct AuditVerb {
    verb: AuditAction,
    /// The tenant's slug; all tenants without one.
    tenant: Option<String>,
    /// Files with checkpoints that somebody has kept.
    kept: Vec<PathBuf>,
}

enum AuditAction {
    Verify,
    Prove(i64),
    Export(PathBuf),
    Checkpoint,
    Reopen(String),
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let kept = || {
        let arg = Arg::new("checkpoint").long("checkpoint").value_name("FILE").num_args(1);
        arg.action(clap::ArgAction::Append).value_parser(clap::value_parser!(PathBuf))
    };
    let one = || tenant().required(true).help("Of this tenant; erp-platform is the platform itself");
    let seq = Arg::new("seq").value_name("SEQ").required(true);
    let seq = seq.value_parser(clap::value_parser!(i64).range(1..)).help("The number of the row");
    let folder = Arg::new("folder").value_name("FOLDER").required(true);
    let folder = folder.value_parser(clap::value_parser!(PathBuf)).help("A folder that does not exist yet");
    verb("audit", "Tenants' audit logs, as DATABASE_SYSTEM_URL and AUDIT_SIGNING_KEY see them")
        .arg_required_else_help(true)
        .subcommand(
            verb("verify", "Hash all entries anew, compare them with what was signed and with the rows: 1 where one is wrong")
                .args([tenant(), kept().help("A checkpoint that was kept; several may be given")]),
        )
        .subcommand(verb("prove", "Prove that a row is in the log (C2SP tlog-proof)").args([one(), seq]))
        .subcommand(verb("export", "Write what an auditor verifies without the database").args([one(), folder]))
        .subcommand(verb("checkpoint", "Show the signed checkpoint, and the key that verifies it").arg(one()))
        .subcommand(
            verb("reopen", "After a restore: begin a new log, which holds the last checkpoint of the old one").args([
                tenant(),
                why(),
                kept().help("The last checkpoint of the old log, where the database does not have it"),
            ]),
        )
}

/// Reads what stands behind `audit`.
pub(crate) fn read(matches: &ArgMatches) -> Option<AuditVerb> {
    let (name, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    let kept = given.try_get_many::<PathBuf>("checkpoint").ok().flatten();
    let kept = kept.map(|paths| paths.cloned().collect()).unwrap_or_default();
    let verb = match name {
        "prove" => AuditAction::Prove(*given.get_one::<i64>("seq")?),
        "export" => AuditAction::Export(given.get_one::<PathBuf>("folder")?.clone()),
        "checkpoint" => AuditAction::Checkpoint,
        "reopen" => AuditAction::Reopen(text("why")?),
        _ => AuditAction::Verify,
    };
    Some(AuditVerb { verb, tenant: text("tenant"), kept })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: AuditVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
    let operator = AuditOperator::open(settings(product).load(layers)?, &rng)?;
    let outcome = Box::pin(perform(&operator, asked, (json, rng.as_ref()))).await;
    operator.close().await;
    outcome
}

async fn perform(
    operator: &AuditOperator,
    AuditVerb { verb, tenant, kept }: AuditVerb,
    (json, rng): (bool, &dyn Rng),
) -> Result<ExitCode, StartError> {
    let kept = kept.iter().map(|path| read_kept(operator, path)).collect::<Result<Vec<_>, _>>()?;
    let tenants = operator.tenants(tenant.as_deref()).await.map_err(failed)?;
    let Some(first) = tenants.first() else {
        let slug = tenant.unwrap_or_default();
        return Err(StartError::new(Exit::Usage, format!("There is no tenant '{slug}'")));
    };
    match verb {
        AuditAction::Verify => verify(operator, &tenants, &kept, json).await,
        AuditAction::Prove(seq) => prove(operator, first, seq, json).await,
        AuditAction::Checkpoint => checkpoint(operator, first, json).await,
        AuditAction::Reopen(why) => reopen(operator, &tenants, (&why, kept.first()), json).await,
        AuditAction::Export(folder) => {
            let entries = operator.export(first, &folder, rng).await?;
            let folder = folder.display().to_string();
            print(&match json {
                true => json!({ "folder": folder, "entries": entries }).to_string(),
                false => format!(
                    "{entries} entries are in {folder}. Verify them with: python3 {folder}/verify.py {folder} PUBLIC_KEY.pem"
                ),
            });
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn read_kept(operator: &AuditOperator, path: &PathBuf) -> Result<Checkpoint, StartError> {
    let note = std::fs::read_to_string(path).map_err(|error| {
        StartError::new(Exit::Usage, format!("{}: {error}", path.display())).because(error)
    })?;
    operator.read_checkpoint(&note)
}

async fn verify(
    operator: &AuditOperator,
    tenants: &[AuditedTenant],
    kept: &[Checkpoint],
    json: bool,
) -> Result<ExitCode, StartError> {
    let (mut all, mut clean) = (serde_json::Map::new(), true);
    for tenant in tenants {
        let logs = operator.verify(tenant, kept).await.map_err(failed)?;
        clean &= logs.iter().all(VerifiedLog::is_clean);
        if !json {
            logs.iter().for_each(|log| tell(&tenant.slug, log));
        }
        all.insert(tenant.slug.clone(), serde_json::to_value(logs).map_err(internal)?);
    }
    if json {
        print(&serde_json::to_string_pretty(&Value::Object(all)).map_err(internal)?);
    }
    Ok(ExitCode::from(if clean { Exit::Done } else { Exit::Finding } as u8))
}

fn tell(slug: &str, log: &VerifiedLog) {
    let VerifiedLog { origin, size, removed, checkpoints, lost, unsealed, .. } = log;
    let verdict = if log.is_clean() { "verified" } else { "NOT VERIFIED" };
    print(&format!(
        "{slug:<16} {verdict}: {origin}: {size} entries, {removed} of them removed, {checkpoints} checkpoints, {lost} lost in a restore, {unsealed} rows not sealed yet"
    ));
    for finding in &log.findings {
        print(&format!(
            "  entry {}, row {}: {}: {}",
            finding.index, finding.seq, finding.what, finding.detail
        ));
    }
    if log.further_findings > 0 {
        print(&format!("  and {} more", log.further_findings));
    }
}

async fn prove(
    operator: &AuditOperator,
    tenant: &AuditedTenant,
    seq: i64,
    json: bool,
) -> Result<ExitCode, StartError> {
    let Some(proof) = operator.prove(tenant, seq).await.map_err(failed)? else {
        print(&match json {
            true => json!({ "sealed": false }).to_string(),
            false => format!("Row {seq} is not there, or not sealed yet"),
        });
        return Ok(ExitCode::from(Exit::Finding as u8));
    };
    print(&match json {
        true => json!({ "sealed": true, "seq": seq, "index": proof.index, "entry": proof.entry, "proof": proof.proof }).to_string(),
        false => proof.proof.trim_end().to_owned(),
    });
    Ok(ExitCode::SUCCESS)
}

async fn checkpoint(
    operator: &AuditOperator,
    tenant: &AuditedTenant,
    json: bool,
) -> Result<ExitCode, StartError> {
    let Some(signed) = operator.checkpoint(tenant).await.map_err(failed)? else {
        print(if json { "null" } else { "Nothing is sealed yet" });
        return Ok(ExitCode::from(Exit::Finding as u8));
    };
    print(&match json {
        true => json!({ "checkpoint": signed.note, "key": signed.key }).to_string(),
        false => signed.note.trim_end().to_owned(),
    });
    Ok(ExitCode::SUCCESS)
}

async fn reopen(
    operator: &AuditOperator,
    tenants: &[AuditedTenant],
    (why, kept): (&str, Option<&Checkpoint>),
    json: bool,
) -> Result<ExitCode, StartError> {
    let mut opened = serde_json::Map::new();
    for tenant in tenants {
        match operator.reopen(tenant, why, kept).await {
            Ok(origin) => {
                if !json {
                    print(&format!("{:<16} {origin}", tenant.slug));
                }
                opened.insert(tenant.slug.clone(), origin.into());
            }
            Err(error) if error.code().status == 409 => {} // nothing of it was sealed
            Err(error) => return Err(failed(error)),
        }
    }
    if json {
        print(&Value::Object(opened).to_string());
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(error: Error) -> StartError {
    unreachable("Audit logs cannot be looked at", error)
}
