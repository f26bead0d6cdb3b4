//! `user`: brings people from another system into a tenant.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use erp_core::auth::Role;
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::error::Error;
use erp_core::factory::settings;
use erp_core::imports::RowReader;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::{SystemClock, SystemRng};
use erp_modules::identity::people_import::{self, NewPerson, PeopleImported, PeopleTerms};

use crate::arguments::verb;
use crate::inspect::{internal, print, unreachable};

/// What is asked for.
pub(crate) enum UserVerb {
    Import { tenant: String, file: PathBuf, role: Role, dry_run: bool },
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let about = "Make the people of a file members of a tenant, with their passwords as another system has hashed them";
    verb("user", "People, as DATABASE_SYSTEM_URL sees them").arg_required_else_help(true).subcommand(
        verb("import", about)
            .arg(Arg::new("tenant").value_name("SLUG").required(true))
            .arg(
                Arg::new("file")
                    .value_name("FILE")
                    .required(true)
                    .value_parser(clap::value_parser!(PathBuf))
                    .help("CSV with a header, or NDJSON (.ndjson): email, name, role, passwordHash"),
            )
            .arg(
                Arg::new("role")
                    .long("role")
                    .value_name("ROLE")
                    .default_value("member")
                    .value_parser(|text: &str| {
                        text.parse::<Role>().map_err(|_| "no built-in role".to_owned())
                    })
                    .help("Of those whose row names none"),
            )
            .arg(
                Arg::new("dry-run")
                    .long("dry-run")
                    .action(ArgAction::SetTrue)
                    .help("Write nothing, and tell what would be written"),
            ),
    )
}

/// Reads what stands behind `user`.
pub(crate) fn read(matches: &ArgMatches) -> Option<UserVerb> {
    let (_, given) = matches.subcommand()?;
    Some(UserVerb::Import {
        tenant: given.get_one::<String>("tenant")?.clone(),
        file: given.get_one::<PathBuf>("file")?.clone(),
        role: *given.get_one::<Role>("role")?,
        dry_run: given.get_flag("dry-run"),
    })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &'static Product,
    layers: &Layers,
    UserVerb::Import { tenant, file, role, dry_run }: UserVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let rng = SystemRng::new();
    let unreadable = |why: String| StartError::new(Exit::Usage, format!("{}: {why}", file.display()));
    let source = tokio::fs::File::open(&file).await.map_err(|error| unreadable(error.to_string()))?;
    let is_csv = file.extension().is_none_or(|extension| extension != "ndjson");
    let rows = RowReader::<NewPerson>::of_source(source, is_csv).await;
    let rows = rows.map_err(|error| unreadable(error.told().to_owned()))?;
    let session = OperatorSession::open(&config, &rng, people_import::WORK)?;
    let terms = PeopleTerms { role, dry_run, clock: &SystemClock, rng: &rng };
    let told = Box::pin(people_import::import(&session, &tenant, rows, terms)).await.map_err(failed);
    session.close().await;
    show(&told?, json)
}

fn show(told: &PeopleImported, json: bool) -> Result<ExitCode, StartError> {
    let PeopleImported { rows, created, joined, unchanged, rejected, dry_run } = told;
    if json {
        print(&serde_json::to_string_pretty(told).map_err(internal)?);
    } else {
        for person in rejected {
            print(&format!("row {}: {}", person.row, person.why));
        }
        let tried = if *dry_run { ", and nothing was written" } else { "" };
        print(&format!(
            "{rows} rows: {created} people are new, {joined} had an account and are members now, {unchanged} were members, {} were \
             rejected{tried}.",
            rejected.len()
        ));
    }
    Ok(if rejected.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Exit::Finding as u8) })
}

fn failed(error: Error) -> StartError {
    match error.code().status {
        404 => StartError::new(Exit::Usage, "There is no such tenant"),
        409 => StartError::new(Exit::Finding, error.told().to_owned()),
        _ => unreachable("The people cannot be written", error),
    }
}
