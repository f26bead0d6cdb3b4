//! `setting`: what a tenant has set for itself. Operators set a value, and take one back, such as a list of networks
//! that shuts everybody out.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::error::Error;
use erp_core::factory::{entitlements, settings};
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::SystemRng;
use erp_modules::tenants::operator;
use serde_json::{Value, json};

use crate::arguments::{assignment, verb};
use crate::inspect::{done, internal, print, refused, unreachable};

/// What is asked for.
pub(crate) enum SettingVerb {
    Show(String),
    Set(String, (String, Value)),
    Clear(String, String),
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let slug = || Arg::new("slug").value_name("SLUG").required(true).help("The tenant");
    let name = Arg::new("name").value_name("SETTING").required(true).help("Such as tenants.allowed_networks");
    verb("setting", "What a tenant has set for itself")
        .arg_required_else_help(true)
        .subcommand(verb("show", "Show what a tenant has set").arg(slug()))
        .subcommand(
            verb("set", "Give a setting of a tenant a value").arg(slug()).arg(
                Arg::new("set")
                    .value_name("SETTING=VALUE")
                    .required(true)
                    .value_parser(assignment)
                    .help("Such as tenants.currency=CHF"),
            ),
        )
        .subcommand(verb("clear", "Let a setting of a tenant be what it is by default").args([slug(), name]))
}

/// Reads what stands behind `setting`.
pub(crate) fn read(matches: &ArgMatches) -> Option<SettingVerb> {
    let (verb, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    match verb {
        "set" => Some(SettingVerb::Set(text("slug")?, given.get_one::<(String, Value)>("set")?.clone())),
        "clear" => Some(SettingVerb::Clear(text("slug")?, text("name")?)),
        _ => Some(SettingVerb::Show(text("slug")?)),
    }
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: SettingVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let session = OperatorSession::of_verb(product, &config, &SystemRng::new(), "setting")?;
    let outcome = match asked {
        SettingVerb::Show(slug) => {
            operator::settings(&session, &slug).await.map_err(failed).and_then(|set| match json {
                true => serde_json::to_string_pretty(&set).map(|text| print(&text)).map_err(internal),
                false => {
                    set.iter().for_each(|(name, value)| print(&format!("{name:<32} {value}")));
                    Ok(())
                }
            })
        }
        SettingVerb::Set(slug, (name, value)) => {
            let table = entitlements(product, &config)?;
            let set = operator::set_setting(&session, &table, &slug, (&name, value)).await;
            set.map_err(failed).map(|()| done(json, &json!({ "done": true })))
        }
        SettingVerb::Clear(slug, name) => operator::clear_setting(&session, &slug, &name)
            .await
            .map_err(failed)
            .map(|()| done(json, &json!({ "done": true }))),
    };
    session.close().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

fn failed(error: Error) -> StartError {
    match error.code().status {
        404 => StartError::new(Exit::Usage, "There is no such tenant, or it has not set this"),
        422 => refused(&error),
        _ => unreachable("The settings cannot be reached", error),
    }
}
