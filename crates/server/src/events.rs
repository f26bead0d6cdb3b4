//! `events`: how far subscribers are, and what an operator does about one that has stopped.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use erp_core::bootstrap::{CursorFilter, CursorMove, EventOperator, ListedCursor};
use erp_core::config::Layers;
use erp_core::factory::{settings, subscribers};
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::SystemRng;
use serde_json::json;

use crate::arguments::{tenant, verb};
use crate::inspect::{internal, print, unreachable};

/// What is asked for.
pub(crate) struct EventsVerb {
    verb: EventsAction,
    filter: CursorFilter,
}

enum EventsAction {
    List,
    Move(CursorMove),
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let subscriber = || {
        let help = "Of this subscriber, such as webhooks.fan_out";
        Arg::new("subscriber").long("subscriber").value_name("NAME").help(help)
    };
    let time = |text: &str| {
        text.parse::<jiff::Timestamp>().map_err(|_| "a time such as 2026-02-03T04:05:06Z".to_owned())
    };
    let steering = |name, about| verb(name, about).args([tenant(), subscriber().required(true)]);
    verb("events", "Subscribers of events, as DATABASE_SYSTEM_URL sees them")
        .arg_required_else_help(true)
        .subcommand(verb("list", "Show how far subscribers are, those that have stopped first").args([
            tenant(),
            subscriber(),
            Arg::new("failing").long("failing").action(ArgAction::SetTrue).help("Only where an event fails"),
        ]))
        .subcommand(steering("retry", "Try an event that fails again, at once"))
        .subcommand(steering("skip", "Leave out the event that fails"))
        .subcommand(
            steering("replay", "Read again what was emitted since a time").arg(
                Arg::new("since")
                    .long("since")
                    .value_name("TIME")
                    .required(true)
                    .value_parser(time)
                    .help("From this time on, such as 2026-02-03T04:05:06Z"),
            ),
        )
}

/// Reads what stands behind `events`.
pub(crate) fn read(matches: &ArgMatches) -> Option<EventsVerb> {
    let (name, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    let since = given.try_get_one::<jiff::Timestamp>("since").ok().flatten().copied();
    let (verb, failing) = match (name, since) {
        ("retry", _) => (EventsAction::Move(CursorMove::Retry), true),
        ("skip", _) => (EventsAction::Move(CursorMove::Skip), true),
        (_, Some(since)) => (EventsAction::Move(CursorMove::Replay(since)), false),
        _ => (EventsAction::List, given.get_flag("failing")),
    };
    let filter = CursorFilter { tenant: text("tenant"), subscriber: text("subscriber"), failing };
    Some(EventsVerb { verb, filter })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    EventsVerb { verb, filter }: EventsVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let operator = EventOperator::open(&config, &SystemRng::new())?;
    let outcome = Box::pin(async {
        let cursors = operator.list(&filter).await.map_err(failed)?;
        match verb {
            EventsAction::List => list(&cursors, json),
            EventsAction::Move(action) => steer(&operator, product, action, &cursors, json).await,
        }
    });
    let outcome = outcome.await;
    operator.close().await;
    outcome
}

fn list(cursors: &[ListedCursor], json: bool) -> Result<ExitCode, StartError> {
    if json {
        print(&serde_json::to_string_pretty(cursors).map_err(internal)?);
    } else {
        if cursors.is_empty() {
            print("No subscriber matches.");
        }
        cursors.iter().for_each(|cursor| print(&line(cursor)));
    }
    let stopped = cursors.iter().any(|cursor| cursor.stopped_at.is_some());
    Ok(ExitCode::from(if stopped { Exit::Finding } else { Exit::Done } as u8))
}

/// One subscriber in one tenant, on one line: how far it is, and what fails.
fn line(cursor: &ListedCursor) -> String {
    let ListedCursor { tenant, subscriber, number, head, failures, error, stopped_at, .. } = cursor;
    let state = match (stopped_at, failures) {
        (Some(_), _) => "stopped",
        (None, 0) => "well",
        (None, _) => "failing",
    };
    let error = error.as_ref().map(|error| format!("  {error}")).unwrap_or_default();
    format!(
        "{tenant:<16} {subscriber:<32} {state:<8} {number:>10} of {head:<10} {failures:>2} failures{error}"
    )
}

async fn steer(
    operator: &EventOperator,
    product: &Product,
    action: CursorMove,
    cursors: &[ListedCursor],
    json: bool,
) -> Result<ExitCode, StartError> {
    let known = subscribers(product);
    let mut moved = 0;
    for cursor in cursors {
        let Some(subscriber) = known.get(&cursor.subscriber) else { continue };
        if operator.steer(action, cursor, subscriber).await.map_err(failed)?.is_some() {
            moved += 1;
        }
    }
    if json {
        print(&json!({ "matched": cursors.len(), "moved": moved }).to_string());
    } else {
        print(&format!("Of {} subscribers that match {moved} go on from there.", cursors.len()));
    }
    Ok(ExitCode::from(if moved == cursors.len() { Exit::Done } else { Exit::Finding } as u8))
}

fn failed(error: erp_core::error::Error) -> StartError {
    unreachable("The subscribers of events cannot be reached", error)
}
