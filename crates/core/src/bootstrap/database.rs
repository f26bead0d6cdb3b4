//! Finds the database, or starts the private one; migrates and seeds it where that is this process's business.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::BootstrapOptions;
use crate::app::App;
use crate::auth::Passwords;
use crate::config::Config;
use crate::db::cluster::{Cluster, ClusterOptions};
use crate::db::{self, Connection, Logins, Migrated, Owner, Schema};
use crate::lifecycle::{Exit, Lifecycle, StartError};
use crate::module::{Product, Seed};
use crate::shared::Secret;

/// The private cluster's database.
const PRIVATE_DATABASE: &str = "erp";

/// Where the data is, and as whom it is reached.
pub struct Databases {
    /// As the two logins that serve.
    pub logins: Logins,
    /// As the owner role, where this process may migrate.
    pub owner: Option<Connection>,
    /// For the banner: no password.
    pub place: String,
}

/// From the settings; without `DATABASE_URL`, in development, from a private cluster that is started.
pub(super) async fn resolve(
    config: &Config,
    path: &OsStr,
    cluster: &mut Option<Arc<Cluster>>,
) -> Result<Databases, StartError> {
    if config.database.url.is_some() {
        let logins = logins(config)?;
        let place = format!("{} as {}", logins.runtime.place(), logins.runtime.user().unwrap_or("?"));
        let owner = config.database.owner_url.is_some().then(|| owner_connection(config)).transpose()?;
        return Ok(Databases { logins, owner, place });
    }
    let folder = config.process.data_dir.join("postgres");
    let max_connections = config.database.max_connections + config.database.system_max_connections + 20;
    let options = ClusterOptions { folder, durable: true, max_connections, path: path.to_owned() };
    let started = Arc::new(Cluster::start(options).await?);
    if let Some(where_and_why) = started.displaced() {
        tracing::warn!("{where_and_why}");
    }
    let cluster = cluster.insert(started);
    let (roles, psql) =
        (cluster.provision(PRIVATE_DATABASE).await?, cluster.shown("erp_app", PRIVATE_DATABASE));
    Ok(Databases {
        logins: Logins {
            runtime: bounded(config, parse(config, &roles.runtime_url, "the private cluster's URL")?),
            system: bounded(config, parse(config, &roles.system_url, "the private cluster's URL")?),
        },
        owner: Some(parse(config, &roles.owner_url, "the private cluster's URL")?),
        place: format!("private PostgreSQL (psql '{psql}')"),
    })
}

/// Brings the schema to this binary's state, or says what to do about it.
pub(super) async fn prepare(
    databases: &Databases,
    (product, schema): (&Product, &Schema),
    config: &Config,
    options: &BootstrapOptions,
    passwords: &Passwords,
    lifecycle: &Lifecycle,
) -> Result<(), StartError> {
    let tasks = lifecycle.background();
    let Logins { runtime, system } = &databases.logins;
    wait_until_reachable(runtime, config.lifecycle.startup_timeout, tasks).await?;
    let version = db::accepted_version(runtime, tasks).await?;
    if let Some(warning) = version.and_then(db::ServerVersion::warning) {
        tracing::warn!(outdated = true, "{warning}");
    }
    db::refuse_privileged_role(runtime, "DATABASE_URL", tasks).await?;
    if config.profile().migrates_at_start
        && let Some(owner) = &databases.owner
    {
        let owner = migrate_as_owner(owner, &databases.logins, schema, tasks).await?.0;
        db::refuse_privileged_role(system, "DATABASE_SYSTEM_URL", tasks).await?;
        return seed(&owner, product, config, options, passwords, false).await;
    }
    db::refuse_privileged_role(system, "DATABASE_SYSTEM_URL", tasks).await?;
    let status = db::migration_status(runtime, schema, tasks).await?;
    db::refuse_changed(&status)?;
    db::tell_unclaimed(&status);
    match db::pending(&status).as_slice() {
        [] => Ok(()),
        pending => Err(StartError::new(
            Exit::Configuration,
            format!(
                "Migrations are pending ({}): run 'erp-backend db migrate' with DATABASE_OWNER_URL",
                pending.join(", ")
            ),
        )),
    }
}

/// Migrates as the owner; returns its session and what was done.
///
/// # Errors
/// `Exit::Internal` when a migration fails, `Exit::Unavailable` when the server cannot be reached.
pub async fn migrate_as_owner(
    owner: &Connection,
    logins: &Logins,
    schema: &Schema,
    tasks: &TaskTracker,
) -> Result<(Owner, Migrated), StartError> {
    let owner = Owner::connect(owner, tasks).await?;
    let migrated = owner.migrate(schema, logins).await?;
    Ok((owner, migrated))
}

/// Removes the private database of development with all its data, and returns where these lay.
///
/// # Errors
/// `Exit::Usage` outside development or with a `DATABASE_URL`; `Exit::DataFolder` while a server uses it.
pub async fn reset(config: &Config, path: &OsStr) -> Result<PathBuf, StartError> {
    if !config.profile().migrates_at_start {
        return Err(StartError::new(Exit::Usage, "A database is reset in development only"));
    }
    if config.database.url.is_some() || config.database.owner_url.is_some() {
        let message = "DATABASE_URL names a PostgreSQL of your own, which is left alone";
        return Err(StartError::with_fix(Exit::Usage, message, "use dropdb and createdb"));
    }
    Cluster::reset(&config.process.data_dir.join("postgres"), path).await
}

/// Makes the demo tenants where they are missing; `new_passwords` also for people who are there.
///
/// Any number of instances may call it at once: one works, the others wait and then find nothing to do.
///
/// # Errors
/// `Exit::Usage` in production; `Exit::DataFolder` when the credentials cannot be written.
pub async fn seed(
    owner: &Owner,
    product: &Product,
    config: &Config,
    options: &BootstrapOptions,
    passwords: &Passwords,
    new_passwords: bool,
) -> Result<(), StartError> {
    if !config.profile().demo_tenants {
        return Err(StartError::new(Exit::Usage, "Demo tenants are refused in production"));
    }
    let (clock, rng) = (options.clock.as_ref(), options.rng.as_ref());
    let data_dir = &config.process.data_dir;
    let seed = Seed { product, owner, passwords, data_dir, new_passwords, clock, rng };
    owner.exclusively((product.seed)(seed)).await
}

/// A database that is still coming up is waited for; one that refuses us is not.
async fn wait_until_reachable(
    runtime: &Connection,
    limit: Duration,
    tasks: &TaskTracker,
) -> Result<(), StartError> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(100);
    loop {
        match db::reach(runtime, tasks).await {
            Ok(_) => return Ok(()),
            Err(refusal) if refusal.serves_reads => return Ok(()), // the monitor tells of it
            Err(refusal) if !refusal.may_pass || Instant::now() + pause > deadline => {
                return Err(refusal.error);
            }
            Err(refusal) => tracing::warn!("{}; trying again", refusal.error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Warns when the pools of all instances ask for more connections than the server gives. Behind a pooler the server's
/// limit is the pooler's business.
pub(super) async fn check_budget(app: &App) {
    if !app.config.database.prepared_statements {
        return;
    }
    if let Ok(given) = app.db.connection_budget().await
        && let Some(warning) = budget_warning(&app.config, given)
    {
        tracing::warn!("{warning}");
    }
}

/// What is wrong when the server gives this process and others like it `given` connections; `None` when that is enough.
pub fn budget_warning(config: &Config, given: i64) -> Option<String> {
    let pools = [config.database.max_connections, config.database.system_max_connections].map(i64::from);
    let pool: i64 = pools.iter().sum();
    let instances = i64::from(config.process.instances);
    let wanted = (pool + 1) * instances; // and one that watches
    (wanted > given).then(|| {
        let who = match instances {
            1 => format!("1 instance with pools of {pool}"),
            many => format!("{many} instances with pools of {pool} each"),
        };
        format!(
            "{who} may open {wanted} connections, and PostgreSQL gives {given}: \
             lower DATABASE_MAX_CONNECTIONS, DATABASE_SYSTEM_MAX_CONNECTIONS or INSTANCES, or raise max_connections"
        )
    })
}

/// The two logins that serve: `DATABASE_URL` and `DATABASE_SYSTEM_URL`, or in development what stands for them.
///
/// # Errors
/// `Exit::Configuration` when there is no `DATABASE_URL` and no private cluster, or a URL cannot be used.
pub fn logins(config: &Config) -> Result<Logins, StartError> {
    let runtime = runtime_connection(config)?;
    match &config.database.system_url {
        Some(url) => {
            let system = bounded(config, parse(config, url.expose(), "DATABASE_SYSTEM_URL")?);
            Ok(Logins { runtime, system })
        }
        None => Ok(Logins::alike(runtime)),
    }
}

/// `DATABASE_URL`, parsed. In development, when it is not set: the private cluster of a running server.
///
/// # Errors
/// `Exit::Configuration` when there is neither.
pub fn runtime_connection(config: &Config) -> Result<Connection, StartError> {
    let connection = required(config, config.database.url.as_ref(), "DATABASE_URL", "erp_app")?;
    Ok(bounded(config, connection))
}

/// The runtime role's sessions are bounded, except behind a pooler.
fn bounded(config: &Config, connection: Connection) -> Connection {
    if config.database.prepared_statements { connection.bounded(config.database.timeout) } else { connection }
}

/// `DATABASE_OWNER_URL`, parsed. In development, when neither URL is set: the private cluster of a running server.
///
/// # Errors
/// `Exit::Configuration` when there is neither.
pub fn owner_connection(config: &Config) -> Result<Connection, StartError> {
    required(config, config.database.owner_url.as_ref(), "DATABASE_OWNER_URL", "erp_owner")
}

fn required(
    config: &Config,
    url: Option<&Secret<String>>,
    name: &str,
    role: &str,
) -> Result<Connection, StartError> {
    if let Some(url) = url {
        return parse(config, url.expose(), name);
    }
    let missing = |more: &str, fix: &str| {
        StartError::with_fix(Exit::Configuration, format!("{name} is not set{more}"), fix)
    };
    if !config.profile().migrates_at_start || config.database.url.is_some() {
        return Err(missing("", &format!("set it, or {name}_FILE")));
    }
    let folder = config.process.data_dir.join("postgres");
    let url = Cluster::running_url(&folder, role, PRIVATE_DATABASE).ok_or_else(|| {
        let nobody = format!(", and no server keeps a database in {}", folder.display());
        missing(&nobody, "start one with script/server, or set it")
    })?;
    parse(config, &url, name)
}

/// The URL may hold a password: it is not shown.
fn parse(config: &Config, url: &str, name: &str) -> Result<Connection, StartError> {
    let connection: Connection = url.parse().map_err(|problem| {
        StartError::with_fix(Exit::Configuration, format!("{name} {problem}"), "correct it")
    })?;
    Ok(connection.rereading(config.secret_files.get(name).map(PathBuf::as_path)))
}
