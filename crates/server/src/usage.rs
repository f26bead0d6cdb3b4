//! `usage`: what tenants use, for their quotas and the bill.

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command};
use erp_core::auth::EntitlementTable;
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::error::Error;
use erp_core::factory::{entitlements, settings};
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::{Clock as _, Day, LARGEST_EXACT, SystemClock, SystemRng};
use erp_modules::tenants::operator;
use erp_modules::tenants::usage::MeterUsage;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::arguments::{usage, verb};
use crate::inspect::{internal, print, unreachable};

/// What is asked for.
pub(crate) enum UsageVerb {
    Show(String),
    Export(Day, Day),
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let day = |id: &'static str, help: &'static str| {
        Arg::new(id).long(id).value_name("DAY").required(true).value_parser(Day::parse).help(help)
    };
    verb("usage", "What tenants use")
        .arg_required_else_help(true)
        .subcommand(
            verb("show", "Show what a tenant uses now, and what its plan has")
                .arg(Arg::new("slug").value_name("SLUG").required(true).help("The tenant")),
        )
        .subcommand(
            verb(
                "export",
                "Print what each tenant has used, day by day: CSV, or with --json an object a line",
            )
            .args([
                day("from", "The first day, such as 2026-11-01"),
                day("to", "The last day, which counts, too"),
            ]),
        )
}

/// Reads what stands behind `usage`.
pub(crate) fn read(matches: &ArgMatches) -> Option<UsageVerb> {
    let (verb, given) = matches.subcommand()?;
    let day = |name: &str| given.try_get_one::<Day>(name).ok().flatten().copied();
    match verb {
        "export" => Some(UsageVerb::Export(day("from")?, day("to")?)),
        _ => Some(UsageVerb::Show(given.try_get_one::<String>("slug").ok().flatten()?.clone())),
    }
}

/// What all tenants have alike: what is counted, the quota of files, and today.
struct BillingTerms {
    table: Arc<EntitlementTable>,
    file_quota: i64,
    today: Day,
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: UsageVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let today = Day::new(SystemClock.now().to_zoned(TimeZone::UTC).date()).map_err(usage)?;
    let file_quota = i64::try_from(config.files.tenant_quota.0).unwrap_or(LARGEST_EXACT);
    let terms = BillingTerms { table: Arc::new(entitlements(product, &config)?), file_quota, today };
    let session = OperatorSession::of_verb(product, &config, &SystemRng::new(), "usage")?;
    let outcome = match asked {
        UsageVerb::Show(slug) => {
            let days = today..=today;
            let shown = operator::usage(&session, (&terms.table, file_quota), &slug, (&days, today)).await;
            shown.map_err(failed).and_then(|shown| show(&shown, json))
        }
        UsageVerb::Export(first, last) if first > last => Err(usage("The last day is before the first")),
        UsageVerb::Export(first, last) => export(&session, &terms, &(first..=last), json).await,
    };
    session.close().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

fn show(shown: &[MeterUsage], json: bool) -> Result<(), StartError> {
    if json {
        print(&serde_json::to_string_pretty(shown).map_err(internal)?);
        return Ok(());
    }
    for meter in shown {
        let limit = meter.limit().map_or_else(|| "no quota".to_owned(), |limit| format!("of {limit}"));
        print(&format!("{:<24} {:>12} {:<10} {limit}", meter.meter(), meter.used(), meter.unit()));
    }
    Ok(())
}

/// One tenant after the other, so that the memory that it takes does not grow with their number. What is nothing is left out.
async fn export(
    session: &OperatorSession,
    terms: &BillingTerms,
    days: &RangeInclusive<Day>,
    json: bool,
) -> Result<(), StartError> {
    let tenants = operator::billed(session).await.map_err(failed)?;
    if !json {
        print("tenant,meter,unit,day,used,most");
    }
    for slug in &tenants {
        let table = (&terms.table, terms.file_quota);
        let all = operator::usage(session, table, slug, (days, terms.today)).await.map_err(failed)?;
        for (meter, day) in all.iter().flat_map(|meter| meter.days().iter().map(move |day| (meter, day))) {
            if day.used == 0 && day.most.unwrap_or_default() == 0 {
                continue;
            }
            let (name, unit, most) = (meter.meter(), meter.unit(), day.most);
            print(&match json {
                true => {
                    let row = json!({ "tenant": slug, "meter": name, "unit": unit, "day": day.day, "used": day.used, "most": most });
                    row.to_string()
                }
                false => {
                    let most = most.map(|most| most.to_string()).unwrap_or_default();
                    format!("{slug},{name},{unit},{},{},{most}", day.day, day.used)
                }
            });
        }
    }
    let (first, last) = (days.start().to_string(), days.end().to_string());
    tracing::info!(
        first,
        last,
        tenants = tenants.len(),
        trace = &*session.trace().correlation_id,
        "Usage was exported"
    );
    Ok(())
}

fn failed(error: Error) -> StartError {
    match error.code().status {
        404 => StartError::new(Exit::Usage, "There is no such tenant"),
        _ => unreachable("What tenants use cannot be read", error),
    }
}
