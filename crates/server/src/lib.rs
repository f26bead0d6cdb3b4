//! The program of a product: parses the command line, runs one verb, and ends with the contract's exit code.
//!
//! A product is the list of its modules. Its whole `main.rs`:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     erp_backend::run(&erp_modules::PRODUCT)
//! }
//! ```

mod access;
mod allocator;
mod arguments;
mod audit;
mod banner;
mod check;
mod cli;
mod database;
mod events;
mod files;
mod flag;
mod inspect;
mod jobs;
mod key;
mod mail;
mod operator;
mod plan;
mod privacy;
mod rehearse;
mod role;
mod secret;
mod serve;

mod setting;
mod tenant;
mod usage;
mod user;
mod webhooks;

use std::process::ExitCode;
use std::sync::Mutex;
use std::thread::{self, available_parallelism};
use std::time::Duration;

use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::cli::{Command, Invocation};

/// Threads beside the workers': the main one's, and for work that blocks, such as names and passwords.
const SPARE_THREADS: usize = 4;
/// How long blocking work may go on after the last word.
const LAST_WORK: Duration = Duration::from_millis(200);

/// Does what the command line asks of `product`, and returns the code that the process is to end with.
///
/// It is for `main`, and for nothing before it: on glibc it begins the program anew, with an allocator that gives
/// memory back. It speaks of itself under the product's name, which the built program should have.
pub fn run(product: &'static Product) -> ExitCode {
    allocator::settle();
    forbid_core_dumps();
    let invocation = match cli::parse(product) {
        Ok(invocation) => invocation,
        Err(code) => return code,
    };
    match perform(product, invocation) {
        Ok(code) => code,
        Err(error) => {
            banner::complain(product, &error);
            ExitCode::from(error.exit as u8)
        }
    }
}

/// A dump would hold every secret of the process, and other people's data (O-02).
///
/// One byte, and not none: then Linux does not pipe it to a collector either (core(5), `do_coredump`). Where it cannot be
/// set the process has less already.
fn forbid_core_dumps() {
    let nothing = Rlimit { current: Some(1), maximum: Some(1) };
    let _ = setrlimit(Resource::Core, nothing);
}

/// Tries whether so many threads can be had at a time. The runtime cannot be asked: it panics where it gets too few, and
/// waits for ever for those that it got.
fn room_for_threads(count: usize) -> Result<(), StartError> {
    let gate = Mutex::new(());
    let refused = thread::scope(|scope| {
        let _closed = gate.lock();
        let wait = || drop(gate.lock());
        (0..count).find_map(|_| thread::Builder::new().spawn_scoped(scope, wait).err())
    });
    refused.map_or(Ok(()), |error| {
        Err(StartError::with_fix(
            Exit::Unavailable,
            format!("The {count} threads of WORKER_THREADS and of other work cannot be started"),
            "raise the limit of processes (ulimit -u, TasksMax of the unit, --pids-limit of the container), or lower \
             WORKER_THREADS",
        )
        .because(error))
    })
}

fn perform(product: &'static Product, invocation: Invocation) -> Result<ExitCode, StartError> {
    let Invocation { command, layers, json, path } = invocation;
    // What is wrong with the settings is for the verb to say.
    let threads = settings(product).load(&layers).ok().and_then(|config| config.process.worker_threads);
    let threads =
        threads.map_or_else(|| available_parallelism().map_or(1, usize::from), |threads| threads as usize);
    room_for_threads(threads + SPARE_THREADS)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(threads);
    let runtime = runtime.enable_all().build().map_err(|error| {
        StartError::new(Exit::Internal, "The runtime could not be started").because(error)
    })?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve { skip_health } => {
                Box::pin(serve::serve(product, &layers, path, skip_health)).await
            }
            Command::Worker { skip_health } => {
                Box::pin(serve::work(product, &layers, path, skip_health)).await
            }
            Command::Rehearse => Box::pin(rehearse::rehearse(product, layers, path, json)).await,
            Command::ConfigCheck => inspect::config_check(product, &layers, json).await,
            Command::ConfigExplain => inspect::config_explain(product, &layers, json),
            Command::DoctorIsolation => inspect::doctor_isolation(product, &layers, json).await,
            Command::DoctorPrivacy => inspect::doctor_privacy(product, &layers, json).await,
            Command::Privacy(verb) => Box::pin(privacy::run(product, &layers, verb, json)).await,
            Command::Openapi => inspect::openapi(product),
            Command::Healthcheck => inspect::healthcheck(product, &layers, json).await,
            Command::DbMigrate { dry_run } => database::migrate(product, &layers, dry_run, json).await,
            Command::DbStatus => database::status(product, &layers, json).await,
            Command::DbCheck => check::check(product, &layers, json).await,
            Command::DbMaintain => database::maintain(product, &layers, json).await,
            Command::DbSeed => database::seed(product, &layers, path).await,
            Command::Events(verb) => Box::pin(events::run(product, &layers, verb, json)).await,
            Command::Files(verb) => Box::pin(files::run(product, &layers, verb, json)).await,
            Command::Secret(verb) => Box::pin(secret::run(product, &layers, verb, json)).await,
            Command::Tenant(verb) => Box::pin(tenant::run(product, &layers, verb, json)).await,
            Command::Operator(verb) => Box::pin(operator::run(product, &layers, verb, json)).await,
            Command::User(verb) => Box::pin(user::run(product, &layers, verb, json)).await,
            Command::Key(verb) => Box::pin(key::run(product, &layers, verb, json)).await,
            Command::Role(verb) => Box::pin(role::run(product, &layers, verb, json)).await,
            Command::Completions(shell) => inspect::completions(product, shell),
            Command::Audit(verb) => Box::pin(audit::run(product, &layers, verb, json)).await,
            Command::Access(verb) => Box::pin(access::run(product, &layers, verb, json)).await,
            Command::Flag(verb) => Box::pin(flag::run(product, &layers, verb, json)).await,
            Command::Usage(verb) => Box::pin(usage::run(product, &layers, verb, json)).await,
            Command::Setting(verb) => Box::pin(setting::run(product, &layers, verb, json)).await,
            Command::Plan(verb) => Box::pin(plan::run(product, &layers, verb, json)).await,
            Command::Mail(verb) => Box::pin(mail::run(product, &layers, verb, json)).await,
            Command::Webhooks(verb) => Box::pin(webhooks::run(product, &layers, verb, json)).await,
            Command::Jobs(verb) => Box::pin(jobs::run(product, &layers, verb, json)).await,
            Command::DbReset { yes } => database::reset(product, &layers, &path, yes).await,
        }
    });
    // A password hash that nobody waits for any more must not hold up a forced stop.
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}
