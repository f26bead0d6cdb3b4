//! `plan`: what tenants pay for.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::error::{Error, codes as core};
use erp_core::factory::{modules, settings};
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::{LARGEST_EXACT, SystemRng};
use erp_modules::tenants::operator::{self, ListedPlan, PlanChange};
use serde_json::json;

use crate::arguments::{usage, verb};
use crate::inspect::{done, internal, print, unreachable};

/// What is asked for.
pub(crate) enum PlanVerb {
    List,
    Show(String),
    Set(String, PlanChange),
    Give(String, Option<String>),
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let name = || Arg::new("name").value_name("PLAN").required(true).value_parser(name);
    let number = |id: &'static str, most: i32, help: &'static str| {
        Arg::new(id)
            .long(id)
            .value_name("N|none")
            .value_parser(move |text: &str| number(text, most))
            .help(help)
    };
    verb("plan", "What tenants pay for")
        .arg_required_else_help(true)
        .subcommand(verb("list", "List all plans"))
        .subcommand(verb("show", "Show a plan").arg(name()))
        .subcommand(
            verb("set", "Make a plan, or change what is given of it").arg(name()).args([
                Arg::new("about").long("about").value_name("TEXT").help("What it is"),
                number("requests", 1_000_000, "Requests in a window; none: RATE_LIMIT_MAX"),
                number(
                    "connections",
                    1000,
                    "Connections to the database of one process; none: DATABASE_TENANT_MAX_CONNECTIONS",
                ),
                number(
                    "requests-at-once",
                    100_000,
                    "Requests that one process works on at a time; none: as many as any",
                ),
                number(
                    "database-ms",
                    60_000_000,
                    "Database time of one process in a minute, in milliseconds; none: as much as any",
                ),
                Arg::new("quota")
                    .long("quota")
                    .value_name("METER=N|none")
                    .action(ArgAction::Append)
                    .value_parser(quota)
                    .help("How much a tenant may use of what is counted, such as catalog.items=1000"),
            ]),
        )
        .subcommand(
            verb("give", "Give a tenant a plan in place of the one that it has")
                .arg(Arg::new("slug").value_name("SLUG").required(true).help("The tenant"))
                .arg(name().value_name("PLAN|none").help("The plan, or 'none' to take it away")),
        )
}

fn name(text: &str) -> Result<String, String> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(letter) && text.bytes().next_back().is_some_and(letter);
    let good = ends && text.len() <= 63 && text.bytes().all(|byte| letter(byte) || byte == b'-');
    good.then(|| text.to_owned()).ok_or_else(|| "1 to 63 small letters, digits and hyphens".to_owned())
}

fn number(text: &str, most: i32) -> Result<Option<i32>, String> {
    if text == "none" {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.map(Some).ok_or_else(|| format!("a number from 1 to {most}, or none"))
}

/// What a meter's name begins with is asked of the product later.
fn quota(text: &str) -> Result<(String, Option<i64>), String> {
    let wrong = || format!("METER=N with a number from 0 to {LARGEST_EXACT}, or METER=none");
    let (meter, number) = text.split_once('=').ok_or_else(wrong)?;
    let number = match number {
        "none" => None,
        number => Some(
            number.parse().ok().filter(|number| (0..=LARGEST_EXACT).contains(number)).ok_or_else(wrong)?,
        ),
    };
    Ok((meter.to_owned(), number))
}

/// Refuses a quota of what is not counted, or has none.
fn known(product: &Product, quotas: &BTreeMap<String, Option<i64>>) -> Result<(), StartError> {
    let meters = || modules(product).flat_map(|module| module.meters).filter(|meter| meter.has_quota());
    let unknown = |name: &&String| meters().all(|meter| meter.name != **name);
    quotas.keys().find(unknown).map_or(Ok(()), |name| {
        let all: Vec<&str> = meters().map(|meter| meter.name).collect();
        Err(usage(format!("There is no quota of {name}; there is one of {}", all.join(", "))))
    })
}

/// Reads what stands behind `plan`.
pub(crate) fn read(matches: &ArgMatches) -> Option<PlanVerb> {
    let (verb, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    let number = |name: &str| given.try_get_one::<Option<i32>>(name).ok().flatten().copied();
    match verb {
        "show" => Some(PlanVerb::Show(text("name")?)),
        "set" => {
            let change = PlanChange {
                about: text("about"),
                rate_limit_max: number("requests"),
                connections: number("connections"),
                requests_at_once: number("requests-at-once"),
                database_ms: number("database-ms"),
                quotas: given
                    .get_many::<(String, Option<i64>)>("quota")
                    .into_iter()
                    .flatten()
                    .cloned()
                    .collect(),
            };
            Some(PlanVerb::Set(text("name")?, change))
        }
        "give" => Some(PlanVerb::Give(text("slug")?, text("name").filter(|name| name != "none"))),
        _ => Some(PlanVerb::List),
    }
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: PlanVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let session = OperatorSession::of_verb(product, &config, &SystemRng::new(), "plan")?;
    let outcome = match asked {
        PlanVerb::List => {
            operator::plans(&session).await.map_err(failed).and_then(|plans| list(&plans, json))
        }
        PlanVerb::Show(name) => {
            let plans = operator::plans(&session).await.map_err(failed);
            plans.and_then(|plans| {
                let plan = plans.into_iter().find(|plan| plan.name == name).ok_or_else(no_plan)?;
                list(&[plan], json)
            })
        }
        PlanVerb::Set(_, change) if known(product, &change.quotas).is_err() => known(product, &change.quotas),
        PlanVerb::Set(name, change) => operator::set_plan(&session, &name, &change)
            .await
            .map_err(failed)
            .map(|()| done(json, &json!({ "done": true }))),
        PlanVerb::Give(slug, plan) => {
            let given = operator::give_plan(&session, &slug, plan.as_deref()).await;
            given.map_err(failed).map(|()| done(json, &json!({ "done": true })))
        }
    };
    session.close().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

fn list(plans: &[ListedPlan], json: bool) -> Result<(), StartError> {
    if json {
        print(&serde_json::to_string_pretty(plans).map_err(internal)?);
        return Ok(());
    }
    if plans.is_empty() {
        print("There is no plan yet: erp-backend plan set PLAN --requests N");
    }
    let or_general =
        |number: Option<i32>| number.map_or_else(|| "as any".to_owned(), |number| number.to_string());
    for plan in plans {
        let (limit, share) = (or_general(plan.rate_limit_max), or_general(plan.connections));
        let quotas = plan.quotas.as_object().into_iter().flatten();
        let mut quotas: String = quotas.map(|(meter, number)| format!("{meter}: {number}  ")).collect();
        for (what, number) in [("at once", plan.requests_at_once), ("database ms", plan.database_ms)] {
            number.into_iter().for_each(|number| quotas.push_str(&format!("{what}: {number}  ")));
        }
        print(&format!(
            "{:<20} {} tenants  requests: {limit}  connections: {share}  {quotas}{}",
            plan.name, plan.tenants, plan.about
        ));
    }
    Ok(())
}

fn no_plan() -> StartError {
    StartError::new(Exit::Usage, "There is no such plan: plan list")
}

fn failed(error: Error) -> StartError {
    match error.code() {
        code if code == &core::INVALID => no_plan(),
        code if code.status == 404 => StartError::new(Exit::Usage, "There is no such tenant"),
        _ => unreachable("The plans cannot be reached", error),
    }
}
