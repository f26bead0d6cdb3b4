//! `mail`: tries the settings of mail out, and shows an operator what became of mails.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use erp_core::bootstrap::{ListedMail, MailFilter, MailOperator, tried, try_mail};
use erp_core::config::Layers;
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::mail::MailAddress;
use erp_core::mailer::{MailId, MailState};
use erp_core::module::Product;
use erp_core::shared::SystemRng;
use serde_json::json;

use crate::arguments::{ids, limit, tenant, verb};
use crate::inspect::{internal, print, unreachable};

/// The most mails that one command moves, unless it says otherwise.
const MOST: i64 = 10_000;
/// The most that it lists.
const PAGE: i64 = 50;

/// What is asked for.
pub(crate) enum MailVerb {
    Test(MailAddress),
    Of(MailAsk, MailFilter, Option<String>),
}

/// What is asked of the mails that match.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum MailAsk {
    List,
    Show,
    Retry,
    Suppressions,
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let ids = || ids::<MailId>("These mails");
    verb("mail", "Mails: whether they can be sent, and what became of them")
        .arg_required_else_help(true)
        .subcommand(
            verb("test", "Send one mail with these settings, and say at which stage it fails if it does")
                .arg(
                    Arg::new("to")
                        .long("to")
                        .value_name("ADDRESS")
                        .required(true)
                        .value_parser(|text: &str| text.parse::<MailAddress>())
                        .help("Who gets it"),
                ),
        )
        .subcommand(verb("list", "List mails, the newest first").args(narrowing()))
        .subcommand(verb("show", "Show mails, but not what they say").arg(ids().num_args(1..).required(true)))
        .subcommand(
            verb("retry", "Send mails again that were held, suppressed or given up")
                .args(narrowing())
                .arg(ids()),
        )
        .subcommand(
            verb("suppressions", "List the addresses that get no more mail")
                .args([tenant(), limit("At most so many")]),
        )
}

fn narrowing() -> [Arg; 4] {
    let state = |text: &str| {
        let known = MailState::ALL.iter().find(|state| state.as_str() == text).copied();
        let words = || MailState::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
        known.ok_or_else(|| format!("it is one of {}", words()))
    };
    [
        tenant(),
        Arg::new("state").long("state").value_name("STATE").value_parser(state).help("In this state"),
        Arg::new("template")
            .long("template")
            .value_name("NAME")
            .action(ArgAction::Set)
            .help("Such as billing.overdue"),
        limit("At most so many"),
    ]
}

/// Reads what stands behind `mail`.
pub(crate) fn read(matches: &ArgMatches) -> Option<MailVerb> {
    let (name, given) = matches.subcommand()?;
    if name == "test" {
        return given.get_one::<MailAddress>("to").cloned().map(MailVerb::Test);
    }
    let ask = match name {
        "list" => MailAsk::List,
        "show" => MailAsk::Show,
        "retry" => MailAsk::Retry,
        _ => MailAsk::Suppressions,
    };
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    let most = given.try_get_one::<i64>("limit").ok().flatten().copied();
    let filter = MailFilter {
        ids: given.try_get_many::<MailId>("id").ok().flatten().into_iter().flatten().copied().collect(),
        tenant: None,
        state: given.try_get_one::<MailState>("state").ok().flatten().copied(),
        template: text("template"),
        limit: most.unwrap_or(if ask == MailAsk::Retry { MOST } else { PAGE }),
    };
    Some(MailVerb::Of(ask, filter, text("tenant")))
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &'static Product,
    layers: &Layers,
    asked: MailVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    match asked {
        MailVerb::Test(to) => {
            let outcome = Box::pin(try_mail(&config, product.name, &to)).await;
            if json {
                print(&tried(&to, &outcome).to_string());
                return Ok(ExitCode::from(outcome.map_or_else(|error| error.exit, |()| Exit::Done) as u8));
            }
            outcome?;
            print(&format!("The mail server has taken a mail to {to}."));
            Ok(ExitCode::SUCCESS)
        }
        MailVerb::Of(ask, filter, slug) => {
            let operator = MailOperator::open(&config, &SystemRng::new())?;
            let outcome = Box::pin(perform(&operator, ask, filter, slug, json)).await;
            operator.close().await;
            outcome
        }
    }
}

async fn perform(
    operator: &MailOperator,
    ask: MailAsk,
    mut filter: MailFilter,
    slug: Option<String>,
    json: bool,
) -> Result<ExitCode, StartError> {
    if let Some(slug) = slug {
        let found = operator.tenant(&slug).await.map_err(failed)?;
        let none = || StartError::new(Exit::Usage, format!("There is no tenant '{slug}'"));
        filter.tenant = Some(found.ok_or_else(none)?);
    }
    match ask {
        MailAsk::List | MailAsk::Show => {
            let mails = operator.list(&filter).await.map_err(failed)?;
            if json || ask == MailAsk::Show {
                print(&serde_json::to_string_pretty(&mails).map_err(internal)?);
            } else if mails.is_empty() {
                print("No mail matches.");
            } else {
                mails.iter().for_each(|mail| print(&line(mail)));
            }
            let all = ask == MailAsk::List || mails.len() == filter.ids.len();
            Ok(ExitCode::from(if all { Exit::Done } else { Exit::Finding } as u8))
        }
        MailAsk::Retry => {
            if !filter.narrows() {
                let message = "Say which mails: by id, or with --tenant, --state or --template";
                return Err(StartError::new(Exit::Usage, message));
            }
            let done = operator.retry(&filter).await.map_err(failed)?;
            match json {
                true => print(&json!({ "retried": done }).to_string()),
                false => print(&format!("{done} mails are queued again.")),
            }
            Ok(ExitCode::SUCCESS)
        }
        MailAsk::Suppressions => {
            let listed = operator.suppressions(filter.tenant, filter.limit).await.map_err(failed)?;
            if json {
                print(&serde_json::to_string_pretty(&listed).map_err(internal)?);
            } else if listed.is_empty() {
                print("Every address gets mail.");
            }
            for row in listed.iter().filter(|_| !json) {
                print(&format!("{:<16} {:<12} {}", row.tenant, row.reason, row.address));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// One mail, on one line.
fn line(mail: &ListedMail) -> String {
    let error = mail.error.as_ref().map(|error| format!("  {error}")).unwrap_or_default();
    format!(
        "{}  {:<16} {:<28} {:<10} {:>2} {} {}{error}",
        mail.id,
        mail.tenant,
        mail.template,
        mail.state.as_str(),
        mail.attempts,
        mail.queued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        mail.recipient,
    )
}

fn failed(error: erp_core::error::Error) -> StartError {
    unreachable("The mails cannot be reached", error)
}
