//! `webhooks`: what an operator sees of tenants' endpoints and does about them.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use erp_core::config::Layers;
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::SystemRng;
use erp_modules::webhooks::operator::{
    EndpointAction, EndpointFilter, EndpointId, EndpointState, ListedEndpoint, WebhookOperator,
};
use serde_json::json;

use crate::arguments::{confirmed, ids, limit, tenant, usage, verb, yes};
use crate::inspect::{internal, print, unreachable};

/// The most endpoints that one command moves, unless it says otherwise.
const MOST: i64 = 10_000;
/// The most that it lists.
const PAGE: i64 = 50;

/// What is asked for.
pub(crate) struct WebhooksVerb {
    ask: WebhooksAsk,
    filter: EndpointFilter,
    /// The tenant's slug.
    tenant: Option<String>,
    /// Whether not to ask first.
    yes: bool,
}

#[derive(Clone, Copy)]
enum WebhooksAsk {
    List,
    Show,
    Steer(EndpointAction),
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let ids = || ids::<EndpointId>("These endpoints");
    let steering = |name, about| verb(name, about).args(narrowing()).arg(ids()).arg(yes());
    verb("webhooks", "Tenants' webhooks, as DATABASE_SYSTEM_URL sees them")
        .arg_required_else_help(true)
        .subcommand(verb("list", "List endpoints, the newest first").args(narrowing()))
        .subcommand(
            verb("show", "Show endpoints with their last deliveries, but not what these say")
                .arg(ids().num_args(1..).required(true)),
        )
        .subcommand(steering("retry", "Send again at once what has failed, is held or waits"))
        .subcommand(steering("disable", "Tell endpoints of nothing more"))
        .subcommand(steering("enable", "Tell endpoints of events again"))
}

fn narrowing() -> [Arg; 3] {
    let state = |text: &str| {
        let known = EndpointState::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| {
            format!("it is one of {}", EndpointState::ALL.map(EndpointState::as_str).join(", "))
        })
    };
    [
        tenant(),
        Arg::new("state").long("state").value_name("STATE").value_parser(state).help("In this state"),
        limit("At most so many"),
    ]
}

/// Reads what stands behind `webhooks`.
pub(crate) fn read(matches: &ArgMatches) -> Option<WebhooksVerb> {
    let (name, given) = matches.subcommand()?;
    let ask = match name {
        "list" => WebhooksAsk::List,
        "show" => WebhooksAsk::Show,
        "retry" => WebhooksAsk::Steer(EndpointAction::Retry),
        "disable" => WebhooksAsk::Steer(EndpointAction::Disable),
        _ => WebhooksAsk::Steer(EndpointAction::Enable),
    };
    let filter = EndpointFilter {
        ids: given.try_get_many::<EndpointId>("id").ok().flatten().into_iter().flatten().copied().collect(),
        tenant: None,
        state: given.try_get_one::<EndpointState>("state").ok().flatten().copied(),
        limit: given.try_get_one::<i64>("limit").ok().flatten().copied().unwrap_or(match ask {
            WebhooksAsk::List | WebhooksAsk::Show => PAGE,
            WebhooksAsk::Steer(_) => MOST,
        }),
    };
    let tenant = given.try_get_one::<String>("tenant").ok().flatten().cloned();
    let yes = given.try_get_one::<bool>("yes").ok().flatten().copied().unwrap_or_default();
    Some(WebhooksVerb { ask, filter, tenant, yes })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: WebhooksVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let operator = WebhookOperator::open(product, &config, &SystemRng::new())?;
    let outcome = Box::pin(perform(&operator, asked, json)).await;
    operator.close().await;
    outcome
}

async fn perform(
    operator: &WebhookOperator,
    WebhooksVerb { ask, mut filter, tenant, yes }: WebhooksVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    if let Some(slug) = tenant {
        let found = operator.tenant(&slug).await.map_err(failed)?;
        filter.tenant = Some(found.ok_or_else(|| usage(format!("There is no tenant '{slug}'")))?);
    }
    match ask {
        WebhooksAsk::List => list(operator, &filter, json).await,
        WebhooksAsk::Show => {
            // Always as JSON: it is all that is known.
            let shown = operator.show(&filter).await.map_err(failed)?;
            print(&serde_json::to_string_pretty(&shown).map_err(internal)?);
            Ok(code(shown.len() == filter.ids.len()))
        }
        WebhooksAsk::Steer(action) => steer(operator, action, &filter, yes, json).await,
    }
}

async fn list(
    operator: &WebhookOperator,
    filter: &EndpointFilter,
    json: bool,
) -> Result<ExitCode, StartError> {
    let endpoints = operator.list(filter).await.map_err(failed)?;
    if json {
        print(&serde_json::to_string_pretty(&endpoints).map_err(internal)?);
    } else if endpoints.is_empty() {
        print("No webhook matches.");
    }
    endpoints.iter().filter(|_| !json).for_each(|endpoint| print(&line(endpoint)));
    Ok(ExitCode::SUCCESS)
}

/// One endpoint, on one line: whose it is, how it answers, and what waits for it.
fn line(endpoint: &ListedEndpoint) -> String {
    let state = match &endpoint.disabled_reason {
        Some(reason) => reason.as_str(),
        None if endpoint.failures > 0 => EndpointState::Failing.as_str(),
        None => EndpointState::Enabled.as_str(),
    };
    let succeeded =
        endpoint.succeeded_at.map_or("never".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    format!(
        "{}  {:<16} {state:<12} failures {:>3}  pending {:>5}  last success {succeeded:<20}  {}",
        endpoint.id, endpoint.tenant, endpoint.failures, endpoint.pending, endpoint.origin
    )
}

/// Tells how many are meant before anything is done, unless they were named one by one.
async fn steer(
    operator: &WebhookOperator,
    action: EndpointAction,
    filter: &EndpointFilter,
    yes: bool,
    json: bool,
) -> Result<ExitCode, StartError> {
    if !filter.narrows() {
        return Err(usage("Say which webhooks: by id, or with --tenant or --state"));
    }
    let found = operator.find(action, filter).await.map_err(failed)?;
    let one_by_one = !filter.ids.is_empty();
    if !found.is_empty() && !one_by_one && !yes && !confirmed(&question(found.len(), action)) {
        let message = format!("{} webhooks match, and nothing was done: confirm it with --yes", found.len());
        return Err(usage(message));
    }
    let moved = operator.steer(action, &found).await.map_err(failed)?;
    let sent = (action == EndpointAction::Retry).then_some(moved.deliveries);
    if json {
        print(
            &json!({ "matched": moved.matched, action.done(): moved.endpoints, "deliveries": sent })
                .to_string(),
        );
    } else {
        print(&format!(
            "Of {} webhooks that match {} are {}.",
            moved.matched,
            moved.endpoints,
            action.done()
        ));
        sent.into_iter().for_each(|sent| print(&format!("{sent} deliveries are sent again.")));
    }
    Ok(code(!one_by_one || found.len() == filter.ids.len()))
}

fn question(count: usize, action: EndpointAction) -> String {
    format!("{count} webhooks match, and would be {}. Go on? [y/N] ", action.done())
}

/// Whether there was everything that was named.
fn code(all: bool) -> ExitCode {
    ExitCode::from(if all { Exit::Done } else { Exit::Finding } as u8)
}

fn failed(error: erp_core::error::Error) -> StartError {
    unreachable("The webhooks cannot be reached", error)
}
