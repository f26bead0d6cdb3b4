//! `user`: finds people, keeps them out and lets them in, and brings those of another system into a tenant.

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
use erp_modules::identity::operator::DemandedAction;
use erp_modules::identity::people::{self, ListedPerson, PersonMove};
use erp_modules::identity::people_import::{self, NewPerson, PeopleImported, PeopleTerms};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{confirmed, limit, tenant, usage, verb, why, yes};
use crate::inspect::{done, internal, print, unreachable};

/// What is asked for.
pub(crate) enum UserVerb {
    List { tenant: Option<String>, most: i64 },
    Show(String),
    Move { what: PersonMove, who: String, why: String, yes: bool },
    Demand { who: String, demand: (DemandedAction, bool), why: String },
    Import(PeopleFile),
}

/// A file of people, and how it is taken.
pub(crate) struct PeopleFile {
    tenant: String,
    file: PathBuf,
    role: Role,
    dry_run: bool,
}

/// What is done with one person, and what `--help` says of it.
const MOVES: [(&str, PersonMove, &str); 5] = [
    ("disable", PersonMove::Disable, "Let a person in nowhere until it is enabled"),
    ("enable", PersonMove::Enable, "Let a person in again"),
    ("sign-out", PersonMove::SignOut, "End all sessions of a person, in all tenants"),
    ("remove-factor", PersonMove::RemoveFactor, "Take the second factor away from a person who has lost it"),
    ("erase", PersonMove::Erase, "Forget a person: its address, password, factors, sessions and memberships"),
];

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let who = || Arg::new("who").value_name("WHO").required(true).help("An address, or an id");
    let moves = MOVES.map(|(name, what, about)| {
        let command = verb(name, about).arg(who()).arg(why());
        if what == PersonMove::Erase { command.arg(yes()) } else { command }
    });
    verb("user", "People, as DATABASE_SYSTEM_URL sees them")
        .arg_required_else_help(true)
        .subcommand(
            verb("list", "List people").args([tenant(), limit("At most so many").default_value("1000")]),
        )
        .subcommand(verb("show", "Show a person, and which tenants it belongs to").arg(who()))
        .subcommands(moves)
        .subcommand(
            verb("demand", "Demand something of a person before its sessions open anything else").args([
                who(),
                Arg::new("action")
                    .value_name("ACTION")
                    .required(true)
                    .value_parser(["change-password", "second-factor"]),
                Arg::new("withdraw").long("withdraw").action(ArgAction::SetTrue).help("Take the demand back"),
                why(),
            ]),
        )
        .subcommand(import())
}

fn import() -> Command {
    let about = "Make the people of a file members of a tenant, with their passwords as another system has hashed them";
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
                .value_parser(|text: &str| text.parse::<Role>().map_err(|_| "no built-in role".to_owned()))
                .help("Of those whose row names none"),
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Write nothing, and tell what would be written"),
        )
}

/// Reads what stands behind `user`.
pub(crate) fn read(matches: &ArgMatches) -> Option<UserVerb> {
    let (name, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    Some(match name {
        "list" => UserVerb::List { tenant: text("tenant"), most: *given.get_one::<i64>("limit")? },
        "show" => UserVerb::Show(text("who")?),
        "demand" => {
            let action = match text("action")?.as_str() {
                "change-password" => DemandedAction::ChangePassword,
                _ => DemandedAction::SecondFactor,
            };
            let demand = (action, !given.get_flag("withdraw"));
            UserVerb::Demand { who: text("who")?, demand, why: text("why")? }
        }
        "import" => UserVerb::Import(PeopleFile {
            tenant: text("tenant")?,
            file: given.get_one::<PathBuf>("file")?.clone(),
            role: *given.get_one::<Role>("role")?,
            dry_run: given.get_flag("dry-run"),
        }),
        _ => {
            let what = MOVES.iter().find(|(verb, ..)| *verb == name)?.1;
            let yes = given.try_get_one::<bool>("yes").ok().flatten().copied().unwrap_or_default();
            UserVerb::Move { what, who: text("who")?, why: text("why")?, yes }
        }
    })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &'static Product,
    layers: &Layers,
    asked: UserVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let session = OperatorSession::open(&config, &SystemRng::new(), people::WORK)?;
    let outcome = match asked {
        UserVerb::List { tenant, most } => {
            let found = people::list(session.begin(), ("", tenant.as_deref()), most).await;
            found.map_err(failed).and_then(|found| list(&found, json))
        }
        UserVerb::Show(who) => {
            let found = shown(&session, &who).await;
            found.map_err(failed).and_then(|found| if json { told(&found) } else { list(&[found], false) })
        }
        UserVerb::Move { what, who, why, yes } => steer(&session, (what, &who, &why), yes, json).await,
        UserVerb::Demand { who, demand, why } => {
            let demanded = async {
                let person = people::find(session.begin(), &who).await?;
                people::demand(|| session.begin(), person, (demand, &why)).await
            };
            let tenants = Box::pin(demanded).await.map_err(failed);
            tenants.map(|tenants| {
                done(json, &json!({ "tenants": tenants, "done": true }));
                ExitCode::SUCCESS
            })
        }
        UserVerb::Import(file) => Box::pin(import_file(&session, &file, json)).await,
    };
    session.close().await;
    outcome
}

async fn shown(session: &OperatorSession, who: &str) -> Result<ListedPerson, Error> {
    let id = people::find(session.begin(), who).await?;
    people::read(session.begin(), id).await
}

async fn steer(
    session: &OperatorSession,
    (what, who, why): (PersonMove, &str, &str),
    yes: bool,
    json: bool,
) -> Result<ExitCode, StartError> {
    let person = shown(session, who).await.map_err(failed)?;
    let question = format!("Erase {} for good? [y/N] ", person.email);
    if what == PersonMove::Erase && !yes && !confirmed(&question) {
        return Err(usage("Nothing is done: it cannot be undone, so say --yes"));
    }
    let moved = Box::pin(people::steer(|| session.begin(), person.id, (what, why))).await;
    let tenants = moved.map_err(failed)?;
    done(json, &json!({ "id": person.id, "tenants": tenants, "done": true }));
    Ok(ExitCode::SUCCESS)
}

fn list(found: &[ListedPerson], json: bool) -> Result<ExitCode, StartError> {
    if json {
        return told(found);
    }
    for person in found {
        let factor = if person.has_factor { "factor" } else { "-" };
        let tenants = if person.tenants.is_empty() { "-".to_owned() } else { person.tenants.join(",") };
        print(&format!("{:<40} {:<9} {factor:<7} {tenants}  {}", person.email, person.status, person.id));
    }
    Ok(ExitCode::SUCCESS)
}

fn told(found: &(impl Serialize + ?Sized)) -> Result<ExitCode, StartError> {
    print(&serde_json::to_string_pretty(found).map_err(internal)?);
    Ok(ExitCode::SUCCESS)
}

async fn import_file(
    session: &OperatorSession,
    PeopleFile { tenant, file, role, dry_run }: &PeopleFile,
    json: bool,
) -> Result<ExitCode, StartError> {
    let unreadable = |why: String| usage(format!("{}: {why}", file.display()));
    let source = tokio::fs::File::open(file).await.map_err(|error| unreadable(error.to_string()))?;
    let is_csv = file.extension().is_none_or(|extension| extension != "ndjson");
    let rows = RowReader::<NewPerson>::of_source(source, is_csv).await;
    let rows = rows.map_err(|error| unreadable(error.told().to_owned()))?;
    let rng = SystemRng::new();
    let terms = PeopleTerms { role: *role, dry_run: *dry_run, clock: &SystemClock, rng: &rng };
    show(&people_import::import(session, tenant, rows, terms).await.map_err(not_imported)?, json)
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
        404 => StartError::new(Exit::Usage, "There is no such person"),
        409 => StartError::new(Exit::Finding, error.told().to_owned()),
        _ => unreachable("The people cannot be reached", error),
    }
}

fn not_imported(error: Error) -> StartError {
    match error.code().status {
        404 => StartError::new(Exit::Usage, "There is no such tenant"),
        _ => failed(error),
    }
}
