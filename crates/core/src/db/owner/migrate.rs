//! Applies the migrations of a [`Schema`]: in its order, checksummed, one transaction each, under an advisory lock.
//!
//! A file that says so runs outside a transaction, for `create index concurrently` and its like: see `piecemeal.rs`.
//!
//! The table `app.migrations` has a row for each name that a migration is or was known by, so that an older version
//! finds its own in it, too. `carry_over` adds the rows that are missing; nothing is applied twice for being renamed.

mod piecemeal;
mod status;
mod unregistered;

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::db::owner::register;
use crate::db::schema::{Entry, Schema};
use crate::lifecycle::{Exit, StartError};
pub(in crate::db) use status::status;
pub use status::{State, Status, pending, refuse_changed, tell_unclaimed, to_carry_over};

/// Any number that no other program takes: "erp" in ASCII.
const LOCK: i64 = 0x65_72_70;
/// How long an instance waits while another one migrates, and how often it asks.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// The names of the logins that serve: migrations grant them what the tables' constructors say.
pub(in crate::db) struct LoginRoles<'a> {
    pub(in crate::db) runtime: &'a str,
    pub(in crate::db) system: &'a str,
}

/// What `db migrate` has done.
#[derive(Debug, Default)]
pub struct Migrated {
    /// The full names of what was applied, in order.
    pub applied: Vec<String>,
    /// The full names of what had been applied under a former name, and now has a row under its own.
    pub carried_over: Vec<String>,
}

/// Applies what is pending, as the owner role.
///
/// Any number of instances may call it at once: one works, the others wait and then find nothing to do.
///
/// # Errors
/// `Exit::Internal` when a migration fails (it is then rolled back whole) or when an applied file was changed.
pub(in crate::db) async fn migrate(
    client: &Client,
    schema: &Schema,
    logins: &LoginRoles<'_>,
) -> Result<Migrated, StartError> {
    exclusively(client, apply_pending(client, schema, logins)).await
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
    schema: &Schema,
    logins: &LoginRoles<'_>,
) -> Result<Migrated, StartError> {
    refuse_encoding(client).await?;
    refuse_missing(client, logins).await?;
    let known = status(client, schema)
        .await
        .map_err(|error| failed("The table of migrations cannot be read", error))?;
    refuse_changed(&known)?;
    status::refuse_unclaimed(&known)?;
    tell_unclaimed(&known);
    let mut migrated = Migrated { carried_over: carry_over(client, &known).await?, ..Migrated::default() };
    let pending = pending(&known);
    let unregistered = unregistered::all(client).await?;
    for entry in schema.migrations().iter().filter(|entry| pending.contains(&&*entry.name)) {
        if entry.migration.is_outside_a_transaction() {
            piecemeal::apply(client, entry, logins, &unregistered).await?;
        } else {
            apply(client, entry, logins, &unregistered).await?;
        }
        tracing::info!(migration = entry.name, "Migration applied");
        migrated.applied.push(entry.name.clone());
    }
    register::declare(client, schema).await?;
    Ok(migrated)
}

/// Gives what was applied under a former name a row under its own, with the checksum and time that it has: `refuse_changed`
/// has compared the text. The former row stays, for the version that knows it. All in one statement, or nothing.
async fn carry_over(client: &Client, known: &[Status]) -> Result<Vec<String>, StartError> {
    let renamed: Vec<(&str, &str)> =
        known.iter().filter_map(|row| Some((row.name.as_str(), row.was.as_deref()?))).collect();
    if renamed.is_empty() {
        return Ok(Vec::new());
    }
    let (names, former): (Vec<&str>, Vec<&str>) = renamed.into_iter().unzip();
    let sql = "insert into app.migrations (name, checksum, applied_at)
        select renamed.name, was.checksum, was.applied_at
        from unnest($1::text[], $2::text[]) as renamed (name, former) join app.migrations was on was.name = renamed.former
        on conflict (name) do nothing";
    let message = "The names of applied migrations could not be carried over";
    client.execute(sql, &[&names, &former]).await.map_err(|error| failed(message, error))?;
    for (name, was) in names.iter().zip(&former) {
        tracing::info!(migration = name, was, "Migration carried over from its former name");
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// Refuses to begin while a login that gets grants is not there: a version of before had one less.
async fn refuse_missing(client: &Client, logins: &LoginRoles<'_>) -> Result<(), StartError> {
    let sql = "select role from unnest($1::text[]) role where role not in (select rolname::text from pg_roles) limit 1";
    let roles: [&str; 2] = [logins.runtime, logins.system];
    let missing = client.query_opt(sql, &[&roles.as_slice()]).await;
    let missing = missing.map_err(|error| failed("The roles of the server cannot be read", error))?;
    match missing.map(|row| row.get::<_, String>(0)) {
        None => Ok(()),
        Some(role) => Err(StartError::with_fix(
            Exit::Configuration,
            format!("There is no role '{role}' for the migrations to give its rights to"),
            "run migrations/roles.sql again in this database, as a superuser, and give the role a password",
        )),
    }
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

async fn apply(
    client: &Client,
    entry: &Entry,
    logins: &LoginRoles<'_>,
    unregistered: &[String],
) -> Result<(), StartError> {
    let begin = format!("begin; {}", settings(entry, logins, "set local"));
    let outcome = async {
        let name = &entry.name;
        let what = |error: &tokio_postgres::Error| {
            format!("Migration {name} failed and was rolled back{}", position(entry, error))
        };
        let refused = |error| refused(what(&error), error);
        client.batch_execute(&begin).await.map_err(refused)?;
        client.batch_execute(&entry.migration.text()).await.map_err(refused)?;
        unregistered::refuse(client, entry, unregistered).await?;
        client.batch_execute(&format!("{}; commit", record(entry))).await.map_err(refused)
    };
    let outcome = outcome.await;
    if outcome.is_err() {
        let _ = client.batch_execute("rollback").await;
    }
    outcome
}

/// What a migration finds set. Without row security a statement that it would cut down to nothing, since it has no
/// tenant, fails instead.
fn settings(entry: &Entry, logins: &LoginRoles<'_>, set: &str) -> String {
    let row_security = if entry.migration.has_row_security() { "on" } else { "off" };
    let [runtime, system] = [logins.runtime, logins.system].map(|role| role.replace('\'', "''"));
    format!(
        "{set} app.runtime_role = '{runtime}'; {set} app.system_role = '{system}'; \
         {set} app.actor = 'system:migration'; {set} row_security = {row_security}"
    )
}

/// Notes that it was applied, under each of its names; gives the rules of columns (times, money, no floats) to those that it
/// has added, and writes the audit triggers' functions anew where it has changed their tables. The platform log tells of it.
fn record(entry: &Entry) -> String {
    let rules = "do $rules$ begin
        if to_regprocedure('app.column_rules(regclass)') is not null then
            perform app.column_rules(to_regclass(r.relation)) from app.relations r where to_regclass(r.relation) is not null;
        elsif to_regprocedure('app.bound_times(regclass)') is not null then
            perform app.bound_times(to_regclass(r.relation)) from app.relations r where to_regclass(r.relation) is not null;
        end if;
        if to_regprocedure('app.compile_audits()') is not null then
            perform app.compile_audits();
        end if;
    end $rules$; ";
    let rules = if entry.migration.has_row_security() { "" } else { rules };
    let checksum = entry.migration.checksum();
    let told = format!(
        "do $told$ begin
            if to_regclass('app.platform_log') is not null then
                insert into app.platform_log (actor, action, subject, details, correlation_id) values ('system:migration', \
                 'platform.migrated', '{}', '{{\"sha256\": \"{checksum}\"}}', 'migration');
            end if;
        end $told$; ",
        entry.name
    );
    let names = std::iter::once(entry.name.as_str()).chain(entry.migration.was.iter().copied());
    let rows: Vec<String> = names.map(|name| format!("('{name}', '{checksum}')")).collect();
    format!(
        "{rules}{told}insert into app.migrations (name, checksum) values {} on conflict (name) do nothing",
        rows.join(", ")
    )
}

/// What makes a foreign key between tenants' tables.
const REFERENCE: &str = "a foreign key to a tenant's table pairs the tenants: below app.tenant_table write select \
    app.tenant_reference('public.order_lines', 'item_id', 'public.items')";

/// What `app.tenant_table` did not ask for once.
const AUDITED: &str = "add audit_as => 'item', the word for a row in the audit log, or unaudited => 'why not'; \
    where the migration was applied before that was asked for, do as docs/reference/migrations.md says under \
    \"Before 0.1.0\"";

/// The error of a migration, with what the house wants where it knows the mistake, or PostgreSQL's or a constructor's
/// hint.
fn refused(message: String, error: tokio_postgres::Error) -> StartError {
    let Some(db) = error.as_db_error() else { return failed(&message, error) };
    let code = db.code();
    let about_tenant = db.message().contains("\"tenant_id\"");
    // Adding one looks at the rows that are there, in a statement of PostgreSQL's own that calls the table so.
    let checks_a_key = db.where_().is_some_and(|place| place.contains(" fk LEFT OUTER JOIN ONLY "));
    let hidden = *code == SqlState::INSUFFICIENT_PRIVILEGE && db.routine() == Some("check_enable_rls");
    let fix = if *code == SqlState::INVALID_FOREIGN_KEY || (hidden && checks_a_key) {
        REFERENCE
    } else if hidden {
        "the rows belong to tenants; change them with select app.for_each_tenant('update …')"
    } else if *code == SqlState::UNDEFINED_COLUMN && about_tenant {
        "app.tenant_table adds the column tenant_id: call it before what names that column"
    } else if db.message().ends_with("say whether changes are audited") {
        AUDITED
    } else if let Some(hint) = db.hint() {
        hint
    } else {
        return failed(&message, error);
    };
    because(StartError::with_fix(Exit::Internal, message, fix.to_owned()), error)
}

/// `: <PostgreSQL's message> (line n)`.
fn position(entry: &Entry, error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return ": the connection was lost".to_owned() };
    let line = match db.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(at)) => {
            let text = entry.migration.text();
            let before = text.chars().take(*at as usize);
            format!(" (line {})", before.filter(|c| *c == '\n').count() + 1)
        }
        _ => String::new(),
    };
    format!(": {}{line}", db.message())
}

fn failed(message: &str, error: tokio_postgres::Error) -> StartError {
    because(StartError::new(Exit::Internal, message), error)
}

/// The same with its cause, unless all that the server said of it stands in the message: [`position`].
fn because(told: StartError, error: tokio_postgres::Error) -> StartError {
    match error.as_db_error() {
        Some(db) if told.what().contains(db.message()) && db.detail().is_none() => told,
        _ => told.because(error),
    }
}
