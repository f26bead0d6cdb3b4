//! `audit`: what an operator and an auditor do with tenants' audit logs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command};
use erp_core::audit::anomaly::{AnomalyRules, LabelledEvent, ReplayReport, replay};
use erp_core::audit::note::Checkpoint;
use erp_core::audit::{MadeReport, REPORTS, ReportScope, VerifiedLog};
use erp_core::auth::SettingValue as _;
use erp_core::bootstrap::{AuditOperator, AuditedTenant};
use erp_core::config::Layers;
use erp_core::error::Error;
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::{Rng, SystemRng};
use serde_json::{Value, json};

use jiff::{SignedDuration, Timestamp};

use crate::arguments::{tenant, usage, verb, why};
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
    Report(ReportAsked),
    /// Rules over history: those of a file, and over the events of another one.
    Replay(Option<PathBuf>, Option<PathBuf>),
}

/// A report, and how it is wanted.
struct ReportAsked {
    name: String,
    format: String,
    scope: ReportScope,
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
        .subcommand(report_command())
        .subcommand(replay_command())
}

fn report_command() -> Command {
    let names: Vec<&str> = REPORTS.iter().map(|report| report.name).collect();
    let name = Arg::new("name").value_name("REPORT").required(true).value_parser(names).help("Which one");
    let time = |name: &'static str, help: &'static str| {
        let read = |text: &str| text.parse::<Timestamp>();
        Arg::new(name).long(name).value_name("TIME").value_parser(read).help(help)
    };
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let format = text("format", "FORMAT", "csv, html for a page that can be printed, or json");
    verb("report", "Make a report of the audit log").args([
        name,
        tenant().required(true).help("Of this tenant; erp-platform is the platform itself"),
        time("since", "Not before this time; 30 days before --until by default"),
        time("until", "And before this one; now by default"),
        text("resource", "KIND", "Of this kind of thing"),
        text("resource-id", "ID", "Of this one"),
        format.value_parser(["csv", "html", "json"]).default_value("csv"),
    ])
}

fn replay_command() -> Command {
    let path = |name: &'static str| Arg::new(name).value_parser(clap::value_parser!(PathBuf));
    verb(
        "replay",
        "Let the rules for anomalies go over history, and say how good they are where events are labelled",
    )
    .args([
        path("file")
            .value_name("FILE")
            .help("Events as JSON lines, each with a label if somebody knows what it is"),
        tenant().help("Over the audit log of this tenant, where no file is given"),
        path("rules")
            .long("rules")
            .value_name("FILE")
            .help("Other rules than those that are built in: a JSON array"),
    ])
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
        "report" => AuditAction::Report(report_asked(given)?),
        "replay" => AuditAction::Replay(
            given.get_one::<PathBuf>("file").cloned(),
            given.get_one::<PathBuf>("rules").cloned(),
        ),
        _ => AuditAction::Verify,
    };
    Some(AuditVerb { verb, tenant: text("tenant"), kept })
}

#[expect(clippy::disallowed_methods, reason = "the time of a command is that of the machine")]
fn report_asked(given: &ArgMatches) -> Option<ReportAsked> {
    let text = |name: &str| given.get_one::<String>(name).cloned();
    let until = given.get_one::<Timestamp>("until").copied().unwrap_or_else(Timestamp::now);
    let before = until.checked_sub(SignedDuration::from_hours(30 * 24)).unwrap_or(Timestamp::UNIX_EPOCH);
    let since = given.get_one::<Timestamp>("since").copied().unwrap_or(before);
    let scope = ReportScope { since, until, resource: text("resource"), resource_id: text("resource-id") };
    Some(ReportAsked { name: text("name")?, format: text("format")?, scope })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: AuditVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    if let AuditAction::Replay(Some(file), rules) = &asked.verb {
        return replay_file(file, &read_rules(rules.as_deref())?, json);
    }
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
        AuditAction::Report(asked) => report(operator, first, &asked, json).await,
        AuditAction::Replay(_, rules) => {
            if tenant.is_none() {
                return Err(usage("Name a file of events, or a tenant with --tenant"));
            }
            let found = operator.replay(first, &read_rules(rules.as_deref())?).await.map_err(failed)?;
            tell_replay(&found, json)
        }
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

async fn report(
    operator: &AuditOperator,
    tenant: &AuditedTenant,
    asked: &ReportAsked,
    json: bool,
) -> Result<ExitCode, StartError> {
    let ReportAsked { name, format, scope } = asked;
    let Some(made) = operator.report(tenant, name, scope).await.map_err(failed)? else {
        return Err(usage(format!("There is no report '{name}'")));
    };
    let MadeReport { is_cut, .. } = made;
    print(
        match if json { "json" } else { format.as_str() } {
            "json" => serde_json::to_string_pretty(&made).map_err(internal)?,
            "html" => made.to_html(&tenant.slug),
            _ => made.to_csv(),
        }
        .trim_end(),
    );
    Ok(ExitCode::from(if is_cut { Exit::Finding } else { Exit::Done } as u8))
}

fn read_rules(path: Option<&Path>) -> Result<AnomalyRules, StartError> {
    let Some(path) = path else { return Ok(AnomalyRules::built_in()) };
    let text = read_file(path)?;
    AnomalyRules::parse(&text).map_err(|wrong| usage(format!("{} {wrong}", path.display())))
}

fn read_file(path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path)
        .map_err(|error| StartError::new(Exit::Usage, format!("{}: {error}", path.display())).because(error))
}

fn replay_file(path: &Path, rules: &AnomalyRules, json: bool) -> Result<ExitCode, StartError> {
    let text = read_file(path)?;
    let mut events = Vec::new();
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let event = LabelledEvent::read(line, number);
        events.push(event.map_err(|wrong| usage(format!("{}, line {number}: {wrong}", path.display())))?);
    }
    let is_labelled = text.contains("\"label\"") || events.iter().any(|event| event.label.is_some());
    let found = replay(rules, &mut events, is_labelled).map_err(internal)?;
    tell_replay(&found, json)
}

fn tell_replay(found: &ReplayReport, json: bool) -> Result<ExitCode, StartError> {
    if json {
        print(&serde_json::to_string_pretty(&found).map_err(internal)?);
        return Ok(ExitCode::SUCCESS);
    }
    for alert in &found.alerts {
        let numbers: Vec<String> =
            alert.numbers.iter().map(|(name, number)| format!("{name} {number}")).collect();
        print(&format!(
            "{} {:<8} {}: {}: {}; {} rows from {} on",
            alert.began_at,
            alert.severity.as_str(),
            alert.rule,
            alert.key,
            numbers.join(", "),
            alert.rows.len(),
            alert.rows.first().copied().unwrap_or_default()
        ));
    }
    print(&format!("{} events, {} alerts", found.events, found.alerts.len()));
    if let Some(score) = &found.score {
        for (label, (named, all)) in &found.labels {
            print(&format!("{label}: {named} of {all} events"));
        }
        print(&format!(
            "precision {} %, recall {} % ({} right, {} wrong, {} missed)",
            score.precision(),
            score.recall(),
            score.right,
            score.wrong,
            score.missed
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(error: Error) -> StartError {
    unreachable("Audit logs cannot be looked at", error)
}
