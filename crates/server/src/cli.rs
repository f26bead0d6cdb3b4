//! The command line: verbs by hand, a flag for every setting from the table.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches};
use clap_complete::Shell;
use erp_core::config::{EnvFile, Layers, MapSource, ProcessEnvironment, Setting, Source as _};
use erp_core::factory;
use erp_core::lifecycle::Exit;
use erp_core::module::Product;

use crate::access::{self, AccessVerb};
use crate::audit::{self, AuditVerb};
use crate::events::{self, EventsVerb};
use crate::files::{self, FilesVerb};
use crate::flag::{self, FlagVerb};
use crate::jobs::{self, JobsVerb};
use crate::key::{self, KeyVerb};
use crate::mail::{self, MailVerb};
use crate::operator::{self, OperatorVerb};
use crate::plan::{self, PlanVerb};
use crate::privacy::{self, PrivacyVerb};
use crate::role::{self, RoleVerb};
use crate::secret;
use crate::setting::{self, SettingVerb};
use crate::tenant::{self, TenantVerb};
use crate::usage::{self, UsageVerb};
use crate::user::{self, UserVerb};
use crate::webhooks::{self, WebhooksVerb};

/// What the process was asked to do.
pub(crate) enum Command {
    Serve { skip_health: bool },
    Worker { skip_health: bool },
    Rehearse,
    ConfigCheck,
    ConfigExplain,
    DoctorIsolation,
    DoctorPrivacy,
    Privacy(PrivacyVerb),
    Healthcheck,
    Openapi,
    DbMigrate { dry_run: bool },
    DbStatus,
    DbCheck,
    DbMaintain,
    DbSeed,
    DbReset { yes: bool },
    Jobs(JobsVerb),
    Files(FilesVerb),
    Mail(MailVerb),
    Secret(secret::SecretVerb),
    Tenant(TenantVerb),
    Operator(OperatorVerb),
    Flag(FlagVerb),
    Plan(PlanVerb),
    Setting(SettingVerb),
    Usage(UsageVerb),
    User(UserVerb),
    Key(KeyVerb),
    Role(RoleVerb),
    Completions(Shell),
    Access(AccessVerb),
    Events(EventsVerb),
    Webhooks(WebhooksVerb),
    Audit(AuditVerb),
}

/// The command, and where its settings come from.
pub(crate) struct Invocation {
    pub(crate) command: Command,
    pub(crate) layers: Layers,
    /// Machine-readable output.
    pub(crate) json: bool,
    /// The process's `PATH`.
    pub(crate) path: OsString,
}

/// Reads the command line; `Err` is the code to end with, its reason already said.
pub(crate) fn parse(product: &Product) -> Result<Invocation, ExitCode> {
    let matches = command(product).try_get_matches().map_err(|error| {
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 })
    })?;
    let layers = layers(product, &matches);
    let path = ProcessEnvironment::read().get("PATH").unwrap_or_default().into();
    Ok(Invocation { command: verb(&matches), layers, json: matches.get_flag("json"), path })
}

fn verb(matches: &ArgMatches) -> Command {
    let serve = Command::Serve { skip_health: matches.get_flag("skip-health") };
    if matches.get_flag("check-config") {
        return Command::ConfigCheck;
    }
    let Some((name, inner)) = matches.subcommand() else { return serve };
    match (name, inner.subcommand_name().unwrap_or_default()) {
        ("serve", _) if inner.get_flag("rehearse") => Command::Rehearse,
        ("worker", _) => Command::Worker { skip_health: matches.get_flag("skip-health") },
        ("config", "explain") => Command::ConfigExplain,
        ("config", _) => Command::ConfigCheck,
        ("doctor", "privacy") => Command::DoctorPrivacy,
        ("doctor", _) => Command::DoctorIsolation,
        ("healthcheck", _) => Command::Healthcheck,
        ("openapi", _) => Command::Openapi,
        ("events", _) => events::read(inner).map_or(serve, Command::Events),
        ("files", _) => files::read(inner).map_or(serve, Command::Files),
        ("mail", _) => mail::read(inner).map_or(serve, Command::Mail),
        ("webhooks", _) => webhooks::read(inner).map_or(serve, Command::Webhooks),
        ("privacy", _) => privacy::read(inner).map_or(serve, Command::Privacy),
        ("audit", _) => audit::read(inner).map_or(serve, Command::Audit),
        ("access", _) => access::read(inner).map_or(serve, Command::Access),
        ("secret", _) => secret::read(inner).map_or(serve, Command::Secret),
        ("flag", _) => flag::read(inner).map_or(serve, Command::Flag),
        ("setting", _) => setting::read(inner).map_or(serve, Command::Setting),
        ("plan", _) => plan::read(inner).map_or(serve, Command::Plan),
        ("tenant", _) => tenant::read(inner).map_or(serve, Command::Tenant),
        ("operator", _) => operator::read(inner).map_or(serve, Command::Operator),
        ("key", _) => key::read(inner).map_or(serve, Command::Key),
        ("role", _) => role::read(inner).map_or(serve, Command::Role),
        ("completions", _) => inner.get_one("shell").copied().map_or(serve, Command::Completions),
        ("usage", _) => usage::read(inner).map_or(serve, Command::Usage),
        ("user", _) => user::read(inner).map_or(serve, Command::User),
        ("jobs", _) => jobs::read(inner).map_or(serve, Command::Jobs),
        ("db", "migrate") => {
            let dry_run = inner.subcommand().is_some_and(|(_, migrate)| migrate.get_flag("dry-run"));
            Command::DbMigrate { dry_run }
        }
        ("db", "status") => Command::DbStatus,
        ("db", "maintain") => Command::DbMaintain,
        ("db", "seed") => Command::DbSeed,
        ("db", "reset") => {
            let yes = inner.subcommand().is_some_and(|(_, reset)| reset.get_flag("yes"));
            Command::DbReset { yes }
        }
        ("db", _) => Command::DbCheck,
        _ => serve,
    }
}

/// What completes the command line in a shell: `source <(erp-backend completions bash)`.
pub(crate) fn completions(product: &Product, shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(product), product.name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Flag over environment over `.env` file over default.
fn layers(product: &Product, matches: &ArgMatches) -> Layers {
    let schema = factory::settings(product);
    let flags = schema.rows().map(source_name).filter_map(|name| {
        let value = matches.get_one::<String>(&name)?.clone();
        Some((name, value))
    });
    let file = matches.get_one::<PathBuf>("env-file");
    Layers::new().with(MapSource::flags(flags)).with(ProcessEnvironment::read()).with_optional(match file {
        Some(named) => Some(EnvFile::named(named)),
        None => EnvFile::read(".env".as_ref()),
    })
}

fn command(product: &Product) -> clap::Command {
    let verb = |name: &'static str, about: &'static str| clap::Command::new(name).about(about);
    let has = |name: &str| {
        let mut verbs = product.modules.iter().flat_map(|module| module.system_verbs);
        verbs.any(|(verb, _)| *verb == name)
    };
    clap::Command::new(product.name)
        .version(product.version)
        .about("Core infrastructure of a multitenant ERP: tenants that provably cannot see each other.")
        .after_help(
            "Without a verb: serve. Every setting has a flag: see --help; FEATURE_<NAME>=on, off or 25% have none. A secret comes from \
             the environment or from a file.\nExit codes: 0 done, 1 a finding, 2 usage, 69 something is missing or unreachable, \
             70 internal, 73 data folder, 77 isolation refused, 78 configuration, 128+n forced by signal n.",
        )
        .args(general())
        .args(settings(product))
        .subcommand(verb("serve", "Run the server (the default)").arg(
            Arg::new("rehearse").long("rehearse").action(ArgAction::SetTrue).help(
                "Start on a free port, ask every probe, drain under light load, and report: 0 if all went well",
            ),
        ))
        .subcommand(verb("worker", "Work on jobs and answer probes, without the API"))
        .subcommand(
            verb("config", "The settings")
                .arg_required_else_help(true)
                .subcommand(verb("check", "Check all settings and report every problem"))
                .subcommand(verb("explain", "Show each setting's value, source, default and meaning")),
        )
        .subcommand(
            verb("db", "The database")
                .arg_required_else_help(true)
                .subcommand(verb("migrate", "Apply pending migrations as DATABASE_OWNER_URL").arg(
                    Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help(
                        "Change nothing; print what would be applied, in order",
                    ),
                ))
                .subcommand(verb("status", "Show which migrations are applied"))
                .subcommand(verb("check", "Check URL, address, TLS, credentials, session, privileges, version and migrations"))
                .subcommand(verb("maintain", "Make the partitions of the next months and days, and drop those of old jobs"))
                .subcommand(verb("seed", "Make the demo tenants, and new passwords for their people (never in production)"))
                .subcommand(
                    verb("reset", "Remove the private database with all its data (in development only)").arg(
                        Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Do not ask first"),
                    ),
                ),
        )
        .subcommand(
            verb("doctor", "Look for faults")
                .arg_required_else_help(true)
                .subcommand(verb("isolation", "Prove the isolation of tenants and print the matrix"))
                .subcommand(verb("privacy", "Find columns that look personal, and of which nothing is declared")),
        )
        .subcommand(jobs::command())
        .subcommand(audit::command())
        .subcommand(privacy::command())
        .subcommand(files::command())
        .subcommand(mail::command())
        .subcommand(events::command())
        .subcommands(has("webhooks").then(webhooks::command))
        .subcommands(has("operator").then(operator::command))
        .subcommand(secret::command())
        .subcommand(tenant::command())
        .subcommands(has("plan").then(|| [flag::command(), plan::command(), setting::command(), usage::command()]).into_iter().flatten())
        .subcommand(user::command())
        .subcommand(key::command())
        .subcommand(role::command())
        .subcommand(access::command())
        .subcommand(verb("openapi", "Print the API's OpenAPI 3.1 document"))
        .subcommand(
            verb("completions", "Print what completes these verbs and flags in a shell").arg(
                Arg::new("shell").value_name("SHELL").required(true).value_parser(clap::value_parser!(Shell)),
            ),
        )
        .subcommand(verb("healthcheck", "Ask a running server whether it is ready: 0 if it is"))
}

fn general() -> [Arg; 4] {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).global(true);
    [
        flag("json").help("Machine-readable output"),
        flag("skip-health").help("Skip the health phase's checks; never the isolation proof"),
        flag("check-config").help("The same as 'config check'"),
        Arg::new("env-file")
            .long("env-file")
            .value_name("PATH")
            .value_parser(clap::value_parser!(PathBuf))
            .global(true)
            .help("Read settings from this file instead of .env"),
    ]
}

/// A flag for every setting. A secret is given as the path of its file: its value would show in the list of
/// processes (C-06).
fn settings(product: &Product) -> Vec<Arg> {
    let flag = |setting: &'static Setting| {
        let name = source_name(setting);
        let about = if setting.secret {
            format!("File that holds {}. {}", setting.name, setting.doc())
        } else {
            let default = setting.default.words().unwrap_or_else(|| "none".to_owned());
            format!("{} [{}; default {default}]", setting.doc(), setting.expectation())
        };
        Arg::new(name.clone())
            .long(name.to_ascii_lowercase().replace('_', "-"))
            .value_name(if setting.secret { "PATH" } else { "VALUE" })
            .global(true)
            .hide_short_help(true)
            .help(about)
            .help_heading(setting.group)
    };
    factory::settings(product).rows().map(flag).collect()
}

fn source_name(setting: &Setting) -> String {
    if setting.secret { format!("{}_FILE", setting.name) } else { setting.name.to_owned() }
}
