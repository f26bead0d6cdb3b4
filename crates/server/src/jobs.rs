//! `jobs`: what an operator sees of the queue and does about it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use erp_core::bootstrap::{JobAction, JobFilter, JobOperator, ListedJob, ListedSchedule, PauseOf};
use erp_core::config::Layers;
use erp_core::factory::{modules, settings};
use erp_core::jobs::{JobId, JobState};
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::{SystemRng, TenantId};
use serde_json::json;

use crate::arguments::{confirmed, ids, limit, tenant, usage, verb, yes};
use crate::inspect::{internal, print, unreachable};

/// The most jobs that one command moves, unless it says otherwise.
const MOST: i64 = 10_000;
/// The most that it lists.
const PAGE: i64 = 50;

/// What is asked for.
pub(crate) struct JobsVerb {
    verb: Verb,
    filter: JobFilter,
    /// The tenant's slug.
    tenant: Option<String>,
    /// Whether to show arguments and results.
    contents: bool,
    /// Whether not to ask first.
    yes: bool,
}

enum Verb {
    List,
    Show,
    Schedules,
    Steer(JobAction),
    Pause(bool),
    Weigh(i32),
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let ids = || ids::<JobId>("These jobs");
    let steering = |name, about| verb(name, about).args(narrowing()).arg(ids()).arg(yes());
    verb("jobs", "The queue of jobs, as DATABASE_SYSTEM_URL sees it")
        .arg_required_else_help(true)
        .subcommand(verb("list", "List jobs, the newest first").args(narrowing()))
        .subcommand(
            verb("show", "Show jobs with all that is known of them")
                .arg(ids().num_args(1..).required(true))
                .arg(contents()),
        )
        .subcommand(verb("schedules", "List what the clock enqueues, with its next and its last run"))
        .subcommand(steering("retry", "Let dead jobs run again"))
        .subcommand(steering("cancel", "End jobs that wait or run"))
        .subcommand(steering("discard", "Put dead jobs away"))
        .subcommand(verb("pause", "Begin no more jobs of a kind, or of a tenant").args([tenant(), kind()]))
        .subcommand(verb("resume", "Begin them again").args([tenant(), kind()]))
        .subcommand(
            verb("weight", "Give a tenant's jobs so many times the run time of others'")
                .arg(tenant().required(true))
                .arg(
                    Arg::new("weight")
                        .required(true)
                        .value_name("1-100")
                        .value_parser(clap::value_parser!(i32).range(1..=100)),
                ),
        )
}

fn kind() -> Arg {
    Arg::new("kind").long("kind").value_name("KIND").help("Of this kind, such as billing.remind")
}

fn contents() -> Arg {
    let help = "With arguments and results, which are the tenant's data";
    Arg::new("contents").long("contents").action(ArgAction::SetTrue).help(help)
}

fn narrowing() -> [Arg; 5] {
    let state = |text: &str| {
        let known = JobState::ALL.iter().find(|state| state.as_str() == text).copied();
        let words = || JobState::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
        known.ok_or_else(|| format!("it is one of {}", words()))
    };
    [
        tenant(),
        kind(),
        Arg::new("state").long("state").value_name("STATE").value_parser(state).help("In this state"),
        Arg::new("older-than")
            .long("older-than")
            .value_name("TIME")
            .value_parser(seconds)
            .help("Enqueued longer ago than 90s, 15m, 1h or 2d"),
        limit("At most so many"),
    ]
}

/// `90s`, `15m`, `1h` or `2d`, in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let unit = text.chars().next_back().and_then(|unit| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        _ => None,
    });
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u32>().ok());
    number
        .zip(unit)
        .map(|(number, unit)| f64::from(number) * f64::from(unit))
        .ok_or_else(|| "a whole number with s, m, h or d, such as 15m".to_owned())
}

/// Reads what stands behind `jobs`.
pub(crate) fn read(matches: &ArgMatches) -> Option<JobsVerb> {
    let (name, given) = matches.subcommand()?;
    let verb = match name {
        "list" => Verb::List,
        "show" => Verb::Show,
        "schedules" => Verb::Schedules,
        "retry" => Verb::Steer(JobAction::Retry),
        "cancel" => Verb::Steer(JobAction::Cancel),
        "discard" => Verb::Steer(JobAction::Discard),
        "pause" => Verb::Pause(true),
        "resume" => Verb::Pause(false),
        _ => Verb::Weigh(*given.get_one::<i32>("weight")?),
    };
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    let flag = |name: &str| given.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or_default();
    let limit = given.try_get_one::<i64>("limit").ok().flatten().copied();
    let filter = JobFilter {
        ids: given.try_get_many::<JobId>("id").ok().flatten().into_iter().flatten().copied().collect(),
        tenant: None,
        kind: text("kind"),
        state: given.try_get_one::<JobState>("state").ok().flatten().copied(),
        older_than: given.try_get_one::<f64>("older-than").ok().flatten().copied(),
        limit: limit.unwrap_or(if matches!(verb, Verb::Steer(_)) { MOST } else { PAGE }),
    };
    Some(JobsVerb { verb, filter, tenant: text("tenant"), contents: flag("contents"), yes: flag("yes") })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: JobsVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    if let (Verb::Pause(true), Some(kind)) = (&asked.verb, &asked.filter.kind)
        && !modules(product).any(|module| module.jobs.iter().any(|known| known.facts().name == kind))
    {
        let _ =
            writeln!(io::stderr(), "This version has no kind '{kind}'; it is paused for those that have it.");
    }
    let operator = JobOperator::open(&config, &SystemRng::new())?;
    let outcome = Box::pin(perform(&operator, asked, json)).await;
    operator.close().await;
    outcome
}

async fn perform(
    operator: &JobOperator,
    JobsVerb { verb, mut filter, tenant, contents, yes }: JobsVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    filter.tenant = match &tenant {
        Some(slug) => Some(named(operator, slug).await?),
        None => None,
    };
    match verb {
        Verb::List => list(operator, &filter, json).await,
        Verb::Show => show(operator, &filter, contents).await,
        Verb::Schedules => schedules(operator, json).await,
        Verb::Steer(action) => steer(operator, action, &filter, yes, json).await,
        Verb::Pause(paused) => {
            let of = match (filter.kind, filter.tenant) {
                (Some(kind), None) => PauseOf::Kind(kind),
                (None, Some(tenant)) => PauseOf::Tenant(tenant),
                _ => return Err(usage("Say either --kind or --tenant")),
            };
            operator.pause(&of, paused).await.map_err(failed)?;
            print(if paused { "Paused: what runs, runs to its end." } else { "It goes on." });
            Ok(ExitCode::SUCCESS)
        }
        Verb::Weigh(weight) => {
            let tenant = filter.tenant.ok_or_else(|| usage("Say --tenant"))?;
            operator.weigh(tenant, weight).await.map_err(failed)?;
            print(&format!("Its jobs get {weight} times the run time of a tenant of weight 1."));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn named(operator: &JobOperator, slug: &str) -> Result<TenantId, StartError> {
    let found = operator.tenant(slug).await.map_err(failed)?;
    found.ok_or_else(|| usage(format!("There is no tenant '{slug}'")))
}

async fn list(operator: &JobOperator, filter: &JobFilter, json: bool) -> Result<ExitCode, StartError> {
    let jobs = operator.list(filter, false).await.map_err(failed)?;
    if json {
        print(&serde_json::to_string_pretty(&jobs).map_err(internal)?);
        return Ok(ExitCode::SUCCESS);
    }
    if jobs.is_empty() {
        print("No job matches.");
    }
    jobs.iter().for_each(|job| print(&line(job)));
    Ok(ExitCode::SUCCESS)
}

/// One job, on one line: what it is, how far, and why it failed.
fn line(job: &ListedJob) -> String {
    let error = job.error.as_ref().map(|error| format!("  {error}")).unwrap_or_default();
    format!(
        "{}  {:<16} {:<28} {:<9} {:>2}/{:<2} {}{error}",
        job.id,
        job.tenant,
        job.kind,
        job.state.as_str(),
        job.attempt,
        job.attempts,
        job.enqueued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
}

/// Always as JSON: it is all that is known.
async fn show(operator: &JobOperator, filter: &JobFilter, contents: bool) -> Result<ExitCode, StartError> {
    let jobs = operator.list(filter, contents).await.map_err(failed)?;
    print(&serde_json::to_string_pretty(&jobs).map_err(internal)?);
    Ok(ExitCode::from(if jobs.len() == filter.ids.len() { Exit::Done } else { Exit::Finding } as u8))
}

async fn schedules(operator: &JobOperator, json: bool) -> Result<ExitCode, StartError> {
    let schedules = operator.schedules().await.map_err(failed)?;
    if json {
        print(&serde_json::to_string_pretty(&schedules).map_err(internal)?);
        return Ok(ExitCode::SUCCESS);
    }
    if schedules.is_empty() {
        print("No schedule is noted yet: a process with workers does that within a second.");
    }
    for ListedSchedule { name, spec, next_at, last_at } in &schedules {
        let last = last_at.map_or("never".to_owned(), |at| at.to_string());
        print(&format!("{name:<28} {spec:<24} next {next_at}  last {last}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells how many are meant before anything is done, unless they were named one by one.
async fn steer(
    operator: &JobOperator,
    action: JobAction,
    filter: &JobFilter,
    yes: bool,
    json: bool,
) -> Result<ExitCode, StartError> {
    if !filter.narrows() {
        return Err(usage("Say which jobs: by id, or with --tenant, --kind, --state or --older-than"));
    }
    let found = operator.find(action, filter).await.map_err(failed)?;
    let one_by_one = !filter.ids.is_empty();
    if !found.is_empty() && !one_by_one && !yes && !confirmed(&question(found.len(), action)) {
        let message = format!("{} jobs match, and nothing was done: confirm it with --yes", found.len());
        return Err(usage(message));
    }
    let moved = operator.steer(action, &found, filter).await.map_err(failed)?;
    if json {
        print(
            &json!({ "matched": found.len(), action.done(): moved.done, "running": moved.running })
                .to_string(),
        );
    } else {
        print(&format!("Of {} jobs that match {} are {}.", found.len(), moved.done, action.done()));
        if moved.running > 0 {
            print(&format!("{} run; their workers end them within about a second.", moved.running));
        }
    }
    let whole = i64::try_from(found.len()).is_ok_and(|count| count < filter.limit);
    if !whole && !one_by_one && !json {
        print("There may be more: run it again.");
    }
    let all = moved.done + moved.running == found.len() && (!one_by_one || found.len() == filter.ids.len());
    Ok(ExitCode::from(if all { Exit::Done } else { Exit::Finding } as u8))
}

fn question(count: usize, action: JobAction) -> String {
    format!("{count} jobs match, and would be {}. Go on? [y/N] ", action.done())
}

fn failed(error: erp_core::error::Error) -> StartError {
    unreachable("The queue of jobs cannot be reached", error)
}
