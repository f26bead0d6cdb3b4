//! The embedded migrations: ordered, checksummed, one transaction each, under an advisory lock.

use serde::Serialize;
use tokio_postgres::Client;

use crate::lifecycle::{Exit, StartError};
use crate::shared::hex;

/// Any number that no other program takes: "erp" in ASCII.
const LOCK: i64 = 0x65_72_70;

/// One SQL file of `migrations/`, embedded.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The file's name without `.sql`, such as `0001_tenancy`; they are applied in this order.
    pub name: &'static str,
    /// Its text.
    pub sql: &'static str,
}

/// What has become of one migration in one database.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The migration's name.
    pub name: String,
    /// `applied`, `pending`, `changed` (the file differs from what was applied) or `ahead` (not in this binary).
    pub state: &'static str,
    /// When it was applied, UTC.
    pub applied_at: Option<jiff::Timestamp>,
}

impl Migration {
    /// SHA-256 of the text, hex.
    pub fn checksum(&self) -> String {
        hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.sql.as_bytes()).as_ref())
    }
}

/// Applies what is pending, as the owner role, and returns the names of what it applied.
///
/// Any number of instances may call it at once: one works, the others wait and then find nothing to do.
///
/// # Errors
/// `Exit::Internal` when a migration fails (it is then rolled back whole) or when an applied file was changed.
pub(super) async fn migrate(
    client: &Client,
    migrations: &[Migration],
    runtime_role: &str,
) -> Result<Vec<&'static str>, StartError> {
    exclusively(client, apply_pending(client, migrations, runtime_role)).await
}

/// Does `work` on `client` while no other instance migrates or seeds: the others wait for up to a minute.
///
/// # Errors
/// `Exit::Internal` when the lock does not come free; else as `work`.
pub(super) async fn exclusively<T>(
    client: &Client,
    work: impl Future<Output = Result<T, StartError>>,
) -> Result<T, StartError> {
    client
        .batch_execute(&format!(
            "set lock_timeout = '60s'; select pg_advisory_lock({LOCK}); set lock_timeout = '10s'"
        ))
        .await
        .map_err(|error| {
            failed("The migration lock was not free within 60 s: another instance is migrating", error)
        })?;
    let outcome = work.await;
    // The session ends soon; unlocking early lets the next instance go on.
    let _ = client.batch_execute(&format!("select pg_advisory_unlock({LOCK})")).await;
    outcome
}

async fn apply_pending(
    client: &Client,
    migrations: &[Migration],
    runtime_role: &str,
) -> Result<Vec<&'static str>, StartError> {
    let known = status(client, migrations)
        .await
        .map_err(|error| failed("The table of migrations cannot be read", error))?;
    refuse_changed(&known)?;
    let mut applied = Vec::new();
    for migration in
        migrations.iter().filter(|m| known.iter().any(|row| row.name == m.name && row.state == "pending"))
    {
        apply(client, migration, runtime_role).await?;
        tracing::info!(migration = migration.name, "Migration applied");
        applied.push(migration.name);
    }
    Ok(applied)
}

async fn apply(client: &Client, migration: &Migration, runtime_role: &str) -> Result<(), StartError> {
    let begin = format!("begin; set local app.runtime_role = '{}'", runtime_role.replace('\'', "''"));
    let record = format!(
        "insert into app.migrations (name, checksum) values ('{}', '{}'); commit",
        migration.name,
        migration.checksum()
    );
    let steps = async {
        client.batch_execute(&begin).await?;
        client.batch_execute(migration.sql).await?;
        client.batch_execute(&record).await
    };
    if let Err(error) = steps.await {
        let _ = client.batch_execute("rollback").await;
        let message =
            format!("Migration {} failed and was rolled back{}", migration.name, position(migration, &error));
        return Err(failed(&message, error));
    }
    Ok(())
}

/// `: <PostgreSQL's message> (line n)`.
fn position(migration: &Migration, error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return ": the connection was lost".to_owned() };
    let line = match db.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(at)) => {
            let before = migration.sql.chars().take(*at as usize);
            format!(" (line {})", before.filter(|c| *c == '\n').count() + 1)
        }
        _ => String::new(),
    };
    format!(": {}{line}", db.message())
}

/// The state of every migration of this binary and of the database, in order. Works as the runtime role too.
///
/// # Errors
/// As the database answers; a database without the table has everything pending.
pub(super) async fn status(
    client: &Client,
    migrations: &[Migration],
) -> Result<Vec<Status>, tokio_postgres::Error> {
    let exists = client.query_typed("select to_regclass('app.migrations') is not null", &[]).await?;
    let exists = exists.first().map_or(Ok(false), |row| row.try_get(0))?;
    let rows = if exists {
        client.query_typed("select name, checksum, applied_at from app.migrations order by name", &[]).await?
    } else {
        Vec::new()
    };
    let mut applied = Vec::new();
    for row in &rows {
        applied.push((row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?, row.try_get(2)?));
    }
    let ours = migrations.iter().map(|migration| {
        let found = applied.iter().find(|(name, ..)| name == migration.name);
        let state = match found {
            None => "pending",
            Some((_, checksum, _)) if *checksum == migration.checksum() => "applied",
            Some(_) => "changed",
        };
        Status { name: migration.name.to_owned(), state, applied_at: found.map(|(.., at)| *at) }
    });
    let ahead = applied
        .iter()
        .filter(|(name, ..)| migrations.iter().all(|migration| migration.name != name))
        .map(|(name, _, at)| Status { name: name.clone(), state: "ahead", applied_at: Some(*at) });
    Ok(ours.chain(ahead).collect())
}

/// Refuses a database that another text of a migration was applied to: nobody knows what its schema is.
///
/// # Errors
/// `Exit::Internal`, with the migration's name and the mend.
pub fn refuse_changed(status: &[Status]) -> Result<(), StartError> {
    match status.iter().find(|row| row.state == "changed") {
        None => Ok(()),
        Some(Status { name, .. }) => Err(StartError::with_fix(
            Exit::Internal,
            format!("Migration {name} was changed after it was applied"),
            "restore the file and put the change into a new migration",
        )),
    }
}

/// Names of what is not applied yet. A schema ahead of the binary is fine: rolling deploys have one.
pub fn pending(status: &[Status]) -> Vec<&str> {
    status.iter().filter(|row| row.state == "pending").map(|row| row.name.as_str()).collect()
}

fn failed(message: &str, error: tokio_postgres::Error) -> StartError {
    StartError::new(Exit::Internal, message).because(error)
}
