//! The embedded migrations: ordered, checksummed, one transaction each, under an advisory lock.
//!
//! A file that begins with [`OUTSIDE`] runs outside a transaction, for `create index concurrently` and its like: see
//! `piecemeal.rs`.

mod piecemeal;

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::lifecycle::{Exit, StartError};
use crate::shared::hex;

/// Any number that no other program takes: "erp" in ASCII.
const LOCK: i64 = 0x65_72_70;
/// How long an instance waits while another one migrates, and how often it asks.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// The first line of a migration that runs outside a transaction, one statement after the other.
pub(in crate::db) const OUTSIDE: &str = "-- outside a transaction";

/// Migrations up to this one were released before row security was off in them.
const ROW_SECURITY_ON: &str = "0006_tenant_rate_limit";

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
    /// SHA-256 of the text with its lines ended by LF, hex: a checkout with other line ends has the same one.
    pub fn checksum(&self) -> String {
        sha256(&self.text())
    }

    /// The text that is applied.
    fn text(&self) -> Cow<'static, str> {
        let text = self.sql.strip_prefix('\u{feff}').unwrap_or(self.sql);
        if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n")) } else { Cow::Borrowed(text) }
    }

    /// Whether `checksum` is of this migration. A binary of before, built from a checkout with CRLF, has written the
    /// checksum of that text.
    fn is(&self, checksum: &str) -> bool {
        checksum == self.checksum()
            || checksum == sha256(self.sql)
            || checksum == sha256(&self.text().replace('\n', "\r\n"))
    }

    fn is_outside_a_transaction(&self) -> bool {
        self.text().starts_with(OUTSIDE)
    }
}

fn sha256(text: &str) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref())
}

/// Applies what is pending, as the owner role, and returns the names of what it applied.
///
/// Any number of instances may call it at once: one works, the others wait and then find nothing to do.
///
/// # Errors
/// `Exit::Internal` when a migration fails (it is then rolled back whole) or when an applied file was changed.
pub(in crate::db) async fn migrate(
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
pub(in crate::db) async fn exclusively<T>(
    client: &Client,
    work: impl Future<Output = Result<T, StartError>>,
) -> Result<T, StartError> {
    lock(client).await?;
    let outcome = work.await;
    // The session ends soon; unlocking early lets the next instance go on.
    let _ = client.batch_execute(&format!("select pg_advisory_unlock({LOCK})")).await;
    outcome
}

/// Asks for the lock again and again, and does not wait for it in PostgreSQL: a session that waits there holds a
/// snapshot, for whose end `create index concurrently` of the other instance would wait in turn.
async fn lock(client: &Client) -> Result<(), StartError> {
    let message = "The migration lock was not free within 60 s: another instance is migrating";
    let deadline = Instant::now() + PATIENCE;
    client.batch_execute("set lock_timeout = '10s'").await.map_err(|error| failed(message, error))?;
    loop {
        let sql = "select pg_try_advisory_lock($1)";
        let row = client.query_one(sql, &[&LOCK]).await.map_err(|error| failed(message, error))?;
        match row.try_get(0) {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Ok(false) => return Err(StartError::new(Exit::Internal, message)),
            Err(error) => return Err(failed(message, error)),
        }
    }
}

async fn apply_pending(
    client: &Client,
    migrations: &[Migration],
    runtime_role: &str,
) -> Result<Vec<&'static str>, StartError> {
    refuse_encoding(client).await?;
    let known = status(client, migrations)
        .await
        .map_err(|error| failed("The table of migrations cannot be read", error))?;
    refuse_changed(&known)?;
    let mut applied = Vec::new();
    for migration in
        migrations.iter().filter(|m| known.iter().any(|row| row.name == m.name && row.state == "pending"))
    {
        if migration.is_outside_a_transaction() {
            piecemeal::apply(client, migration, runtime_role).await?;
        } else {
            apply(client, migration, runtime_role).await?;
        }
        tracing::info!(migration = migration.name, "Migration applied");
        applied.push(migration.name);
    }
    Ok(applied)
}

/// Refuses a database of another encoding than UTF8, before anything is made in it. Works as any role.
///
/// # Errors
/// `Exit::Configuration`, with the command that makes a right one; `Exit::Internal` when the database does not say.
pub(in crate::db) async fn refuse_encoding(client: &Client) -> Result<(), StartError> {
    let sql = "select current_setting('server_encoding'), current_database()::text";
    let rows = client.query_typed(sql, &[]).await;
    let rows = rows.map_err(|error| failed("The database does not say its encoding", error))?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (encoding, database): (String, String) = (row.get(0), row.get(1));
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StartError::with_fix(
        Exit::Configuration,
        format!("The database {database} has the encoding {encoding}, and UTF8 is needed"),
        "make another one, 'createdb --template=template0 --encoding=UTF8 --locale=C.UTF-8 NAME', and run \
         migrations/roles.sql in it",
    ))
}

async fn apply(client: &Client, migration: &Migration, runtime_role: &str) -> Result<(), StartError> {
    let begin = format!("begin; {}", settings(migration, runtime_role, "set local"));
    let record = format!("{}; commit", record(migration));
    let steps = async {
        client.batch_execute(&begin).await?;
        client.batch_execute(&migration.text()).await?;
        client.batch_execute(&record).await
    };
    if let Err(error) = steps.await {
        let _ = client.batch_execute("rollback").await;
        let message =
            format!("Migration {} failed and was rolled back{}", migration.name, position(migration, &error));
        return Err(refused(message, error));
    }
    Ok(())
}

/// What a migration finds set. Without row security a statement that it would cut down to nothing, since it has no
/// tenant, fails instead.
fn settings(migration: &Migration, runtime_role: &str, set: &str) -> String {
    let row_security = if migration.name > ROW_SECURITY_ON { "off" } else { "on" };
    format!(
        "{set} app.runtime_role = '{}'; {set} app.actor = 'system:migration'; {set} row_security = {row_security}",
        runtime_role.replace('\'', "''")
    )
}

/// Notes that it was applied, and gives the bounds of times (0007) to columns that it has added.
fn record(migration: &Migration) -> String {
    let Migration { name, .. } = migration;
    let bounds = "do $$ begin
        if to_regprocedure('app.bound_times(regclass)') is not null then
            perform app.bound_times(to_regclass(r.relation)) from app.relations r where to_regclass(r.relation) is not null;
        end if;
    end $$; ";
    let bounds = if *name > ROW_SECURITY_ON { bounds } else { "" };
    format!(
        "{bounds}insert into app.migrations (name, checksum) values ('{name}', '{}')",
        migration.checksum()
    )
}

/// The error of a migration; a statement that forgot the tenant is told how to name it.
fn refused(message: String, error: tokio_postgres::Error) -> StartError {
    let forgot = error.as_db_error().is_some_and(|db| {
        db.code() == &SqlState::INSUFFICIENT_PRIVILEGE && db.routine() == Some("check_enable_rls")
    });
    if !forgot {
        return failed(&message, error);
    }
    let fix = "the rows belong to tenants; change them with select app.for_each_tenant('update …')";
    StartError::with_fix(Exit::Internal, message, fix).because(error)
}

/// `: <PostgreSQL's message> (line n)`.
fn position(migration: &Migration, error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return ": the connection was lost".to_owned() };
    let line = match db.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(at)) => {
            let text = migration.text();
            let before = text.chars().take(*at as usize);
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
pub(in crate::db) async fn status(
    client: &Client,
    migrations: &[Migration],
) -> Result<Vec<Status>, tokio_postgres::Error> {
    let exists = client.query_typed("select to_regclass('app.migrations') is not null", &[]).await?;
    let exists = exists.first().map_or(Ok(false), |row| row.try_get(0))?;
    let rows = if exists {
        client
            .query_typed(
                "select name, checksum, applied_at from app.migrations order by name collate \"C\"",
                &[],
            )
            .await?
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
            Some((_, checksum, _)) if migration.is(checksum) => "applied",
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
