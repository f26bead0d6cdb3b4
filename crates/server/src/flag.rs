//! `flag`: features that are on for some tenants and off for others.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use erp_core::auth::EntitlementTable;
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::error::Error;
use erp_core::factory::{entitlements, settings};
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::SystemRng;
use erp_modules::tenants::operator::{self, ExplainedFlag, ListedFlag};
use serde_json::json;

use crate::arguments::{usage, verb};
use crate::inspect::{done, internal, print, unreachable};

/// What is asked for.
pub(crate) enum FlagVerb {
    List,
    Show(String),
    Set { slug: String, flag: String, is_on: Option<bool> },
    RollOut { flag: String, basis_points: Option<i32> },
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let slug = || Arg::new("slug").value_name("SLUG").required(true).help("The tenant");
    let flag =
        || Arg::new("flag").value_name("FLAG").required(true).help("The feature, such as catalog.import");
    let state = Arg::new("state").value_name("on|off").required(true).value_parser(["on", "off"]);
    let part = Arg::new("part").value_name("PART").required(true).value_parser(part);
    verb("flag", "Features that are on for some tenants and off for others")
        .arg_required_else_help(true)
        .subcommand(verb("list", "List all features"))
        .subcommand(verb("show", "Show which features a tenant has, and why").arg(slug()))
        .subcommand(verb("set", "Switch a feature on or off for one tenant").args([slug(), flag(), state]))
        .subcommand(verb("clear", "Let a feature be for a tenant as it is for others").args([slug(), flag()]))
        .subcommand(verb("rollout", "Let a part of all tenants have a feature").args([
            flag(),
            part.help(
                "Such as 25% or 0.5%, or 'none' to end it; who has a feature keeps it as the part grows",
            ),
        ]))
}

/// How many of 10,000 tenants; `None` of `none`.
fn part(text: &str) -> Result<Option<i32>, String> {
    let wrong = || "a part such as 25% or 0.25%, or none".to_owned();
    if text == "none" {
        return Ok(None);
    }
    let (whole, decimals) =
        text.strip_suffix('%').map(|text| text.split_once('.').unwrap_or((text, ""))).ok_or_else(wrong)?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || decimals.len() > 2 || !digits(decimals) {
        return Err(wrong());
    }
    let hundredths: i32 = format!("{whole}{decimals:0<2}").parse().map_err(|_| wrong())?;
    (0..=10_000).contains(&hundredths).then_some(Some(hundredths)).ok_or_else(wrong)
}

/// Reads what stands behind `flag`.
pub(crate) fn read(matches: &ArgMatches) -> Option<FlagVerb> {
    let (verb, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    match verb {
        "show" => Some(FlagVerb::Show(text("slug")?)),
        "set" => {
            let is_on = Some(text("state")? == "on");
            Some(FlagVerb::Set { slug: text("slug")?, flag: text("flag")?, is_on })
        }
        "clear" => Some(FlagVerb::Set { slug: text("slug")?, flag: text("flag")?, is_on: None }),
        "rollout" => {
            let basis_points = *given.get_one::<Option<i32>>("part")?;
            Some(FlagVerb::RollOut { flag: text("flag")?, basis_points })
        }
        _ => Some(FlagVerb::List),
    }
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: FlagVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let table = entitlements(product, &config)?;
    let rng = SystemRng::new();
    let session = OperatorSession::of_verb(product, &config, &rng, "flag")?;
    let outcome = match asked {
        FlagVerb::List => {
            operator::flags(&session, &table).await.map_err(failed).and_then(|flags| list(&flags, json))
        }
        FlagVerb::Show(slug) => operator::explain(&session, &table, &slug)
            .await
            .map_err(failed)
            .and_then(|flags| show(&flags, json)),
        FlagVerb::Set { slug, flag, is_on } => {
            let known = declared(&table, &flag);
            let setting = async { operator::set_flag(&session, &slug, known?, is_on).await.map_err(failed) };
            Box::pin(setting).await.map(|()| done(json, &json!({ "done": true })))
        }
        FlagVerb::RollOut { flag, basis_points } => {
            let known = declared(&table, &flag);
            let rolling =
                async { operator::roll_out(&session, &rng, known?, basis_points).await.map_err(failed) };
            Box::pin(rolling).await.map(|()| done(json, &json!({ "done": true })))
        }
    };
    session.close().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The name of a feature that a module declares: a misspelt one would be set for nobody.
fn declared(table: &EntitlementTable, name: &str) -> Result<&'static str, StartError> {
    let known = table.flags().find(|flag| flag.name == name);
    known
        .map(|flag| flag.name)
        .ok_or_else(|| usage(format!("No module declares the feature '{name}': flag list")))
}

fn list(flags: &[ListedFlag], json: bool) -> Result<(), StartError> {
    if json {
        print(&serde_json::to_string_pretty(flags).map_err(internal)?);
        return Ok(());
    }
    for flag in flags {
        let default = if flag.default { "on" } else { "off" };
        let rollout = flag
            .rollout
            .map_or_else(String::new, |part| format!("  {}.{:02} % of all", part / 100, part % 100));
        let set = format!("{} on, {} off", flag.on, flag.off);
        print(&format!("{:<32} {default:<4} {set}{rollout}  {}", flag.name, flag.about));
    }
    Ok(())
}

fn show(flags: &[ExplainedFlag], json: bool) -> Result<(), StartError> {
    if json {
        print(&serde_json::to_string_pretty(flags).map_err(internal)?);
        return Ok(());
    }
    for flag in flags {
        let state = if flag.is_on { "on" } else { "off" };
        print(&format!("{:<32} {state:<4} by the {}", flag.name, flag.reason.as_str()));
    }
    Ok(())
}

fn failed(error: Error) -> StartError {
    match error.code().status {
        404 => StartError::new(Exit::Usage, "There is no such tenant"),
        _ => unreachable("The features cannot be reached", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_to_the_hundredth_of_a_percent() {
        for (text, read) in
            [("0%", 0), ("25%", 2500), ("0.5%", 50), ("0.25%", 25), ("100%", 10_000), ("99.99%", 9999)]
        {
            assert_eq!(part(text), Ok(Some(read)), "{text}");
        }
        assert_eq!(part("none"), Ok(None));
        for text in ["25", "%", "101%", "100.01%", "-1%", "0.125%", "a%", "1.-5%", "", ".5 %"] {
            assert!(part(text).is_err(), "{text}");
        }
    }
}
