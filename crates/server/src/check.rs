//! `db check`: from the URL to the isolation, each step with a verdict and, where it failed, a fix.

use std::process::ExitCode;

use erp_core::bootstrap::{budget_warning, logins};
use erp_core::config::{Config, Layers};
use erp_core::db::{self, Logins, Schema, ServerVersion};
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use serde::Serialize;
use tokio_util::task::TaskTracker;

use crate::banner::spoken;
use crate::inspect::{internal, print};

/// One step of the check.
#[derive(Serialize)]
struct CheckStep {
    name: &'static str,
    passed: bool,
    /// It passed, and still wants an operator's attention.
    warning: bool,
    detail: String,
    /// What to do; where it passed, nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl CheckStep {
    fn pass(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, passed: true, warning: false, detail: detail.into(), fix: None }
    }

    /// Passed, unless there is something to warn of.
    fn pass_or_warn(name: &'static str, detail: impl Into<String>, warning: Option<String>) -> Self {
        let warned = warning.is_some();
        Self { warning: warned, ..Self::pass(name, warning.unwrap_or_else(|| detail.into())) }
    }

    fn fail(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, passed: false, warning: false, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn because(name: &'static str, error: &StartError) -> Self {
        let fix = error.fix().unwrap_or("see the server's log");
        Self::fail(name, error.what(), fix)
    }

    fn line(&self) -> String {
        let verdict = match (self.passed, self.warning) {
            (false, _) => "FAIL",
            (true, true) => "warn",
            (true, false) => "ok  ",
        };
        let fix = self.fix.as_ref().map(|fix| format!("\n                  fix: {fix}")).unwrap_or_default();
        format!("{verdict} {:<12} {}{fix}", self.name, self.detail)
    }
}

/// Runs the check; exit 1 when a step failed. What rests on a step that failed is not tried.
pub(crate) async fn check(product: &Product, layers: &Layers, json: bool) -> Result<ExitCode, StartError> {
    let mut steps = Vec::new();
    let schema = product.schema()?;
    if let Some((config, logins)) = url(product, layers, &mut steps)? {
        connect(&config, &logins, &schema, &mut steps).await;
    }
    if json {
        print(&serde_json::to_string_pretty(&steps).map_err(internal)?);
    } else {
        steps.iter().for_each(|step| print(&spoken(product, &step.line())));
    }
    let passed = steps.iter().all(|step| step.passed);
    Ok(ExitCode::from(if passed { Exit::Done } else { Exit::Finding } as u8))
}

/// The settings, if the URLs of the two logins can be used. Problems of others are not this verb's.
fn url(
    product: &Product,
    layers: &Layers,
    steps: &mut Vec<CheckStep>,
) -> Result<Option<(Config, Logins)>, StartError> {
    let config = match settings(product).load(layers) {
        Ok(config) => config,
        Err(problems) => {
            let urls = ["DATABASE_URL", "DATABASE_SYSTEM_URL"];
            let Some(problem) = problems.iter().find(|problem| urls.contains(&&*problem.name)) else {
                return Err(problems.into());
            };
            let told = format!("{} {}", problem.name, problem.message);
            steps.push(CheckStep::fail("url", told, &*problem.fix));
            return Ok(None);
        }
    };
    match logins(&config) {
        Ok(logins) => {
            let whom = logins.runtime.user().unwrap_or("?");
            steps.push(CheckStep::pass("url", format!("{} as {whom}", logins.runtime.place())));
            Ok(Some((config, logins)))
        }
        Err(error) => {
            steps.push(CheckStep::because("url", &error));
            Ok(None)
        }
    }
}

/// Everything behind the URL.
async fn connect(config: &Config, logins: &Logins, schema: &Schema, steps: &mut Vec<CheckStep>) {
    let (tasks, Logins { runtime, .. }) = (TaskTracker::new(), logins);
    if !reach(runtime, &tasks, steps).await {
        return;
    }
    match db::refuse_privileged_role(runtime, "DATABASE_URL", &tasks).await {
        Ok(()) => steps.push(CheckStep::pass("privileges", "bound by row level security")),
        Err(error) => steps.push(CheckStep::because("privileges", &error)),
    }
    if !system(logins, &tasks, steps).await {
        return;
    }
    match db::accepted_version(runtime, &tasks).await {
        Ok(version) => {
            let shown = version.map_or("unknown".to_owned(), |version| format!("PostgreSQL {version}"));
            steps.push(CheckStep::pass_or_warn("version", shown, version.and_then(ServerVersion::warning)));
        }
        Err(error) => steps.push(CheckStep::because("version", &error)),
    }
    match db::accepted_encoding(runtime, &tasks).await {
        Ok(()) => steps.push(CheckStep::pass("encoding", "UTF8")),
        Err(error) => steps.push(CheckStep::because("encoding", &error)),
    }
    // Behind a pooler the server's limit is the pooler's business.
    if config.database.prepared_statements {
        steps.push(match db::connections_given(runtime, &tasks).await {
            Ok(given) => {
                let enough = format!("PostgreSQL gives {given}");
                CheckStep::pass_or_warn("connections", enough, budget_warning(config, given))
            }
            Err(error) => CheckStep::because("connections", &error),
        });
    }
    if migrations(runtime, schema, &tasks, steps).await {
        isolation(logins, schema, &tasks, steps).await;
        search(runtime, &tasks, steps).await;
    }
}

/// Whether the system's login gets in and is bound as well.
async fn system(Logins { system, .. }: &Logins, tasks: &TaskTracker, steps: &mut Vec<CheckStep>) -> bool {
    let let_in = db::reach(system, tasks).await.map_err(|refusal| refusal.error);
    let bound = match let_in {
        Ok(_) => db::refuse_privileged_role(system, "DATABASE_SYSTEM_URL", tasks).await,
        Err(error) => Err(error),
    };
    steps.push(match &bound {
        Ok(()) => {
            let whom = system.user().unwrap_or("?");
            CheckStep::pass("system", format!("{whom} is let in, and bound by row level security"))
        }
        Err(error) => CheckStep::because("system", error),
    });
    bound.is_ok()
}

/// The steps to a session, with what is said of each that was passed.
const TO_A_SESSION: [(db::Step, &str, &str); 6] = [
    (db::Step::Address, "address", "a PostgreSQL answers"),
    (db::Step::Tls, "tls", "as sslmode asks"),
    (db::Step::Credentials, "credentials", "the user is let in"),
    (db::Step::Database, "database", "it is there"),
    (db::Step::Privileges, "privileges", ""), // said later, of more than connecting
    (db::Step::Session, "session", "as it was asked to be, and takes writes"),
];

/// Opens a session, and tells each step up to the one that failed.
async fn reach(runtime: &db::Connection, tasks: &TaskTracker, steps: &mut Vec<CheckStep>) -> bool {
    let reached = db::reach(runtime, tasks).await;
    for (step, name, passed) in TO_A_SESSION {
        match &reached {
            Err(refusal) if refusal.step == step => {
                steps.push(CheckStep::because(name, &refusal.error));
                return false;
            }
            _ if step == db::Step::Privileges => {}
            Ok(reached) if step == db::Step::Tls => {
                let way = if reached.encrypted { "encrypted" } else { "in the clear, as sslmode lets it" };
                steps.push(CheckStep::pass(name, way));
            }
            Ok(reached) if step == db::Step::Session => {
                let warning = "a standby: it takes no writes".to_owned();
                steps.push(CheckStep::pass_or_warn(
                    name,
                    passed,
                    (reached.writes == db::Writes::Standby).then_some(warning),
                ));
            }
            _ => steps.push(CheckStep::pass(name, passed)),
        }
    }
    true
}

async fn migrations(
    runtime: &db::Connection,
    schema: &Schema,
    tasks: &TaskTracker,
    steps: &mut Vec<CheckStep>,
) -> bool {
    let status = db::migration_status(runtime, schema, tasks).await;
    let step = match status.and_then(|rows| db::refuse_changed(&rows).map(|()| rows)) {
        Ok(rows) => match db::pending(&rows).as_slice() {
            [] => CheckStep::pass("migrations", format!("{} applied", rows.len())),
            pending => CheckStep::fail(
                "migrations",
                format!("pending: {}", pending.join(", ")),
                "run 'erp-backend db migrate' with DATABASE_OWNER_URL",
            ),
        },
        Err(error) => CheckStep::because("migrations", &error),
    };
    steps.push(step);
    steps.last().is_some_and(|step| step.passed)
}

async fn search(runtime: &db::Connection, tasks: &TaskTracker, steps: &mut Vec<CheckStep>) {
    steps.push(match db::knows_case(runtime, tasks).await {
        Ok(knows) => {
            let warning = "upper and lower case are known of ASCII only: PostgreSQL was built without ICU and has no \
                           locale C.UTF-8";
            CheckStep::pass_or_warn("search", "in any case", (!knows).then(|| warning.to_owned()))
        }
        Err(error) => CheckStep::because("search", &error),
    });
}

async fn isolation(logins: &Logins, schema: &Schema, tasks: &TaskTracker, steps: &mut Vec<CheckStep>) {
    steps.push(match db::prove_once(logins, schema, tasks).await {
        Ok(report) if report.passed() => CheckStep::pass("isolation", report.one_line()),
        Ok(report) => CheckStep::fail(
            "isolation",
            report.one_line(),
            "run 'erp-backend doctor isolation': it lists each finding with its fix",
        ),
        Err(error) => CheckStep::because("isolation", &error),
    });
}
