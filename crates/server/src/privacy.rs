//! `privacy`: what an operator does with what the product holds of people.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use erp_core::config::Layers;
use erp_core::db::{CORE, record_markdown};
use erp_core::lifecycle::StartError;
use erp_core::module::Product;

use crate::arguments::verb;
use crate::inspect::print;

/// What is asked for.
pub(crate) enum PrivacyVerb {
    Record,
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    verb("privacy", "What the product holds of people")
        .arg_required_else_help(true)
        .subcommand(verb("record", "Print the record of processing (GDPR, article 30), as Markdown"))
}

/// Reads what stands behind `privacy`.
pub(crate) fn read(matches: &ArgMatches) -> Option<PrivacyVerb> {
    let (name, _) = matches.subcommand()?;
    (name == "record").then_some(PrivacyVerb::Record)
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    _: &Layers,
    asked: PrivacyVerb,
    _: bool,
) -> Result<ExitCode, StartError> {
    match asked {
        PrivacyVerb::Record => print(record(product).trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The record of processing of the product.
pub(crate) fn record(product: &Product) -> String {
    let modules = product.modules.iter().map(|module| (module.name, module.personal));
    let duties = product.modules.iter().flat_map(|module| module.duties);
    record_markdown(std::iter::once(("core", CORE.personal)).chain(modules), duties)
}
