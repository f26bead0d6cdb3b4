//! `operator`: makes the first operator of the platform, lists them, and disables one.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::error::{Error, codes as core};
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::mail::MailAddress;
use erp_core::module::Product;
use erp_core::shared::{SystemClock, SystemRng};
use erp_modules::operators::accounts::{self, ListedOperator};
use erp_modules::operators::enrolment::{self, InvitedOperator};
use serde_json::json;

use crate::arguments::verb;
use crate::inspect::{internal, print, unreachable};

/// What is asked for.
pub(crate) enum OperatorVerb {
    Bootstrap { email: MailAddress, again: bool },
    List,
    Disable { email: MailAddress },
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let email = || {
        Arg::new("email")
            .value_name("ADDRESS")
            .required(true)
            .value_parser(|text: &str| text.parse::<MailAddress>())
            .help("The operator's e-mail address")
    };
    verb("operator", "Operators of the platform, as DATABASE_SYSTEM_URL sees them")
        .arg_required_else_help(true)
        .subcommand(
            verb(
                "bootstrap",
                "Show the one-time secret by which the first operator sets a password and a second factor",
            )
            .arg(email())
            .arg(
                Arg::new("again")
                    .long("again")
                    .action(ArgAction::SetTrue)
                    .help("Though there is an operator: where none of them can sign in any more"),
            ),
        )
        .subcommand(verb("list", "List the operators"))
        .subcommand(verb("disable", "Let an operator in no more, not even the last one").arg(email()))
}

/// Reads what stands behind `operator`.
pub(crate) fn read(matches: &ArgMatches) -> Option<OperatorVerb> {
    let (verb, given) = matches.subcommand()?;
    let email = || given.get_one::<MailAddress>("email").cloned();
    match verb {
        "bootstrap" => Some(OperatorVerb::Bootstrap { email: email()?, again: given.get_flag("again") }),
        "disable" => Some(OperatorVerb::Disable { email: email()? }),
        _ => Some(OperatorVerb::List),
    }
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &'static Product,
    layers: &Layers,
    asked: OperatorVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let rng = SystemRng::new();
    let session = OperatorSession::of_verb(product, &config, &rng, "operator")?;
    let outcome = match asked {
        OperatorVerb::List => {
            accounts::all(session.begin()).await.map_err(failed).and_then(|all| show_all(&all, json))
        }
        OperatorVerb::Bootstrap { email, again } => {
            let made = enrolment::bootstrap(&session, &email, again, (&SystemClock, &rng)).await;
            made.map_err(failed).and_then(|made| show(&made, json))
        }
        OperatorVerb::Disable { email } => {
            disable(&session, &email).await.map_err(failed).map(|()| match json {
                true => print(&json!({ "email": email.to_string(), "done": true }).to_string()),
                false => print("Done. The sessions have ended on all instances."),
            })
        }
    };
    session.close().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn disable(session: &OperatorSession, email: &MailAddress) -> Result<(), Error> {
    let email = email.to_string().to_lowercase();
    let all = accounts::all(session.begin()).await?;
    let found = all.iter().find(|operator| operator.email == email);
    let id = found.ok_or_else(|| Error::new(&core::NOT_FOUND))?.id;
    accounts::end_by_command(session, id).await
}

fn show_all(all: &[ListedOperator], json: bool) -> Result<(), StartError> {
    if json {
        print(&serde_json::to_string_pretty(all).map_err(internal)?);
    } else if all.is_empty() {
        print("There is no operator yet: erp-backend operator bootstrap ADDRESS");
    }
    for operator in all.iter().filter(|_| !json) {
        let used = operator.used_at.map_or("never".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
        print(&format!("{:<32} {:<10} {used:<10}  {}", operator.email, operator.status, operator.id));
    }
    Ok(())
}

fn show(made: &InvitedOperator, json: bool) -> Result<(), StartError> {
    let text = serde_json::to_value(made).map_err(internal)?;
    if json {
        print(&serde_json::to_string_pretty(&text).map_err(internal)?);
        return Ok(());
    }
    let until = made.expires_at.strftime("%Y-%m-%d %H:%M UTC");
    let secret = text["secret"].as_str().unwrap_or_default();
    print(&format!(
        "{} becomes an operator by this secret, once, until {until}:\n\n    {secret}\n\n\
         POST /api/v1/admin/auth/enrol takes it, with a password.",
        made.email
    ));
    Ok(())
}

fn failed(error: Error) -> StartError {
    match error.code().status {
        404 => StartError::new(Exit::Usage, "There is no such operator"),
        409 => StartError::new(Exit::Finding, error.told().to_owned()),
        _ => unreachable("The operators cannot be reached", error),
    }
}
