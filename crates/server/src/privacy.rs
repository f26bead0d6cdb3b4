//! `privacy`: what an operator does with what the product holds of people.

use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::db::{CORE, record_markdown};
use erp_core::error::Error;
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::{Id, SystemClock, SystemRng};
use erp_modules::privacy::operator::{self, Erasure, ErasureReason};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::arguments::{confirmed, verb, yes};
use crate::inspect::{internal, print, unreachable};

/// How long `privacy erase` waits for a process that carries the order out.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked for.
pub(crate) enum PrivacyVerb {
    Record,
    Export(String),
    Erase { who: String, reason: ErasureReason, dry_run: bool, yes: bool },
    Receipt(Id<Erasure>),
}

const REASONS: [(&str, ErasureReason); 5] = [
    ("no-longer-needed", ErasureReason::NoLongerNeeded),
    ("consent-withdrawn", ErasureReason::ConsentWithdrawn),
    ("objection", ErasureReason::Objection),
    ("unlawful", ErasureReason::Unlawful),
    ("law", ErasureReason::Law),
];

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let who = || Arg::new("who").value_name("WHO").required(true).help("An address, or an id");
    let reason = Arg::new("reason").long("reason").value_name("REASON").default_value("consent-withdrawn");
    let reason = reason.value_parser(PossibleValuesParser::new(REASONS.map(|(word, _)| word)));
    let dry_run = Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue);
    let id =
        Arg::new("id").value_name("ID").required(true).value_parser(|text: &str| text.parse::<Id<Erasure>>());
    verb("privacy", "What the product holds of people, as DATABASE_SYSTEM_URL sees it")
        .arg_required_else_help(true)
        .subcommand(verb("record", "Print the record of processing (GDPR, article 30), as Markdown"))
        .subcommand(verb("export", "Print what is held of a person in all tenants, as JSON lines").arg(who()))
        .subcommand(verb("erase", "Forget a person in all tenants, and print the receipt").args([
            who(),
            reason.help("Why (GDPR, article 17 (1))"),
            dry_run.help("Change nothing, and tell what would be forgotten"),
            yes(),
        ]))
        .subcommand(verb("receipt", "Print the receipt of an erasure").arg(id.help("That of the order")))
}

/// Reads what stands behind `privacy`.
pub(crate) fn read(matches: &ArgMatches) -> Option<PrivacyVerb> {
    let (name, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    Some(match name {
        "export" => PrivacyVerb::Export(text("who")?),
        "erase" => {
            let word = text("reason")?;
            let reason = REASONS.iter().find(|(name, _)| *name == word)?.1;
            let (dry_run, yes) = (given.get_flag("dry-run"), given.get_flag("yes"));
            PrivacyVerb::Erase { who: text("who")?, reason, dry_run, yes }
        }
        "receipt" => PrivacyVerb::Receipt(*given.get_one::<Id<Erasure>>("id")?),
        _ => PrivacyVerb::Record,
    })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: PrivacyVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    if let PrivacyVerb::Record = asked {
        print(record(product).trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let config = settings(product).load(layers)?;
    let session = OperatorSession::of_verb(product, &config, &SystemRng::new(), "privacy")?;
    let outcome = Box::pin(perform(&session, asked, json)).await;
    session.close().await;
    outcome
}

async fn perform(session: &OperatorSession, asked: PrivacyVerb, json: bool) -> Result<ExitCode, StartError> {
    match asked {
        PrivacyVerb::Record => Ok(ExitCode::SUCCESS),
        PrivacyVerb::Export(who) => export(session, &who).await,
        PrivacyVerb::Receipt(id) => {
            let erasure = operator::read(session, id).await.map_err(failed)?;
            tell(&erasure, json)
        }
        PrivacyVerb::Erase { who, dry_run: true, .. } => outlook(session, &who, json).await,
        PrivacyVerb::Erase { who, reason, yes, .. } => erase(session, (&who, reason), yes, json).await,
    }
}

async fn export(session: &OperatorSession, who: &str) -> Result<ExitCode, StartError> {
    let person = operator::find(session, who).await.map_err(failed)?;
    for line in operator::export(session, person).await.map_err(failed)? {
        print(&line.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

async fn outlook(session: &OperatorSession, who: &str, json: bool) -> Result<ExitCode, StartError> {
    let person = operator::find(session, who).await.map_err(failed)?;
    let places = operator::outlook(session, person).await.map_err(failed)?;
    if json {
        let all: Vec<Value> =
            places.into_iter().map(|(at, report)| json!({ "at": at, "done": report })).collect();
        print(&serde_json::to_string_pretty(&all).map_err(internal)?);
        return Ok(ExitCode::SUCCESS);
    }
    for (at, report) in places {
        for table in report["tables"].as_array().into_iter().flatten() {
            let name = table["table"].as_str().unwrap_or_default();
            print(&format!("{at} {name} deleted {} cleared {}", table["deleted"], table["cleared"]));
        }
    }
    print("Nothing was changed.");
    Ok(ExitCode::SUCCESS)
}

async fn erase(
    session: &OperatorSession,
    (who, reason): (&str, ErasureReason),
    yes: bool,
    json: bool,
) -> Result<ExitCode, StartError> {
    let person = operator::find(session, who).await.map_err(failed)?;
    if !yes && !confirmed("Forget this person in all tenants, for ever?") {
        return Err(StartError::new(Exit::Usage, "Nobody was forgotten: say --yes"));
    }
    let id = operator::order(session, (person, reason), (&SystemClock, &SystemRng::new()))
        .await
        .map_err(failed)?;
    let until = Instant::now() + PATIENCE;
    loop {
        let erasure = operator::read(session, id).await.map_err(failed)?;
        if erasure.done_at.is_some() || Instant::now() > until {
            return tell(&erasure, json);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The receipt; 1 where there is none yet.
fn tell(erasure: &Erasure, json: bool) -> Result<ExitCode, StartError> {
    match &erasure.receipt {
        _ if json => print(&serde_json::to_string_pretty(erasure).map_err(internal)?),
        Some(receipt) => print(receipt.trim_end()),
        None => print(&format!(
            "Ordered, and not done yet: a server or worker that runs does it. See 'privacy receipt {}'.",
            erasure.id
        )),
    }
    Ok(ExitCode::from(if erasure.receipt.is_some() { Exit::Done } else { Exit::Finding } as u8))
}

/// The record of processing of the product.
fn record(product: &Product) -> String {
    let modules = product.modules.iter().map(|module| (module.name, module.personal));
    let duties = product.modules.iter().flat_map(|module| module.duties);
    record_markdown(std::iter::once(("core", CORE.personal)).chain(modules), duties)
}

fn failed(error: Error) -> StartError {
    unreachable("What is held of people cannot be looked at", error)
}
