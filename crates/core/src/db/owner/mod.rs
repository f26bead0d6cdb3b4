//! What only the owner of the tables may do: migrate, seed, and look at the database before a start.

mod doubtful;
mod register;

pub(super) mod migrate;

use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use crate::db::connect::connection::Opened;
use crate::db::connect::refusal::Refusal;
use crate::db::connect::version::OLDEST;
use crate::db::proof::{self, Report};
use crate::db::schema::Schema;
use crate::db::{Connection, Logins, Params, ServerVersion, Writes};
use crate::lifecycle::{Exit, StartError};
use crate::shared::TenantId;
pub use doubtful::{DoubtfulColumn, doubtful_columns};
use migrate::{LoginRoles, Migrated, Status};

/// A session as the owner role: migrates and seeds, and serves no request.
///
/// Row level security is forced on the owner too, so that even a seed must say in which tenant it works.
pub struct Owner(Client);

impl Owner {
    /// Opens a session; its task ends when the session is dropped.
    ///
    /// # Errors
    /// `Exit::Unavailable` when the server cannot be reached, the password is wrong or the database is missing;
    /// `Exit::Configuration` behind a pooler in transaction mode.
    pub async fn connect(connection: &Connection, tasks: &TaskTracker) -> Result<Self, StartError> {
        let (session, reached) = open(connection, tasks).await.map_err(|refusal| refusal.error)?;
        refuse_read_only(connection, reached).map_err(|refusal| refusal.error)?;
        session.batch_execute(SETTINGS).await.map_err(|error| explain(connection, error))?;
        refuse_shared(&session, connection, tasks).await?;
        Ok(Self(session))
    }

    /// Applies what is pending; grants go to the roles of `logins`.
    ///
    /// # Errors
    /// `Exit::Internal` when a migration fails (it is rolled back whole) or an applied file was changed;
    /// `Exit::Configuration` when a URL names no user, or one that is not there.
    pub async fn migrate(&self, schema: &Schema, logins: &Logins) -> Result<Migrated, StartError> {
        let runtime = named(&logins.runtime, "DATABASE_URL")?;
        let system = named(&logins.system, "DATABASE_SYSTEM_URL")?;
        let roles = LoginRoles { runtime, system };
        migrate::migrate(&self.0, schema, &roles).await
    }

    /// The state of every migration of this binary and of the database.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn status(&self, schema: &Schema) -> Result<Vec<Status>, tokio_postgres::Error> {
        migrate::status(&self.0, schema).await
    }

    /// The tenant with this slug, if there is one.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenant(&self, slug: &str) -> Result<Option<TenantId>, tokio_postgres::Error> {
        let row = self.0.query_opt("select id from tenants where slug = $1", &[&slug]).await?;
        row.map(|row| row.try_get(0)).transpose()
    }

    /// Does `work` with this session while no other instance migrates or seeds.
    ///
    /// # Errors
    /// `Exit::Internal` when another holds the lock for more than a minute; else as `work`.
    pub async fn exclusively<T>(
        &self,
        work: impl Future<Output = Result<T, StartError>>,
    ) -> Result<T, StartError> {
        migrate::exclusively(&self.0, work).await
    }

    /// Does `work`, which calls [`Owner::execute`], in one transaction in `tenant`: all of it or nothing.
    ///
    /// # Errors
    /// As `work`, or as the database answers.
    pub async fn transaction<T>(
        &self,
        tenant: TenantId,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, tokio_postgres::Error> {
        let begin = format!(
            "begin; set local row_security = on; set local app.tenant_id = '{tenant}'; set local app.actor = 'system:seed'"
        );
        self.0.batch_execute(&begin).await?;
        let outcome = work.await;
        self.0.batch_execute(if outcome.is_ok() { "commit" } else { "rollback" }).await?;
        outcome
    }

    /// Runs one statement and returns the number of rows.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn execute(&self, sql: &'static str, params: Params<'_>) -> Result<u64, tokio_postgres::Error> {
        self.0.execute(sql, params).await
    }
}

fn named<'a>(connection: &'a Connection, setting: &str) -> Result<&'a str, StartError> {
    connection.user().ok_or_else(|| {
        StartError::with_fix(
            Exit::Configuration,
            format!("{setting} names no user"),
            "write postgresql://USER:PASSWORD@HOST/DATABASE",
        )
    })
}

/// What the owner's role or its database may have set for other work. A migration takes the time that it takes; and what
/// it writes down, such as the names of relations, must read the same everywhere.
const SETTINGS: &str = "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; \
    set quote_all_identifiers = off; set standard_conforming_strings = on";

/// How often two sessions are compared: once will do unless others use the pooler too.
const COMPARISONS: u32 = 3;

/// Refuses a pooler in transaction mode: the lock of a migration would stay with a session that serves somebody else in
/// the next moment. It would keep nobody out, and then every later migration.
async fn refuse_shared(
    session: &Client,
    connection: &Connection,
    tasks: &TaskTracker,
) -> Result<(), StartError> {
    let explain = |error| explain(connection, error);
    let other = connect(connection, tasks).await?;
    for _ in 0..COMPARISONS {
        let before = backend(session).await.map_err(explain)?;
        other.batch_execute("begin").await.map_err(explain)?; // keeps what serves it
        let beside = backend(&other).await.map_err(explain)?;
        let shared = beside == before || backend(session).await.map_err(explain)? != before;
        other.batch_execute("rollback").await.map_err(explain)?;
        if shared {
            return Err(StartError::with_fix(
                Exit::Configuration,
                "DATABASE_OWNER_URL leads through a pooler in transaction mode, which cannot hold the lock of a migration",
                "name PostgreSQL itself there, or a pooler in session mode",
            ));
        }
    }
    Ok(())
}

/// The process of the server that serves a session at this moment.
async fn backend(session: &Client) -> Result<i32, tokio_postgres::Error> {
    let rows = session.query_typed("select pg_backend_pid()", &[]).await?;
    rows.first().map_or(Ok(0), |row| row.try_get(0))
}

/// Opens a session for a short piece of work that is no request's.
pub(in crate::db) async fn connect(
    connection: &Connection,
    tasks: &TaskTracker,
) -> Result<Client, StartError> {
    open(connection, tasks).await.map(|(client, _)| client).map_err(|refusal| refusal.error)
}

async fn open(connection: &Connection, tasks: &TaskTracker) -> Result<(Client, Reached), Refusal> {
    let opened = connection.open().await.map_err(|error| Refusal::new(connection, error))?;
    let Opened { client, session, place, encrypted, writes } = opened;
    tasks.spawn(async move {
        let _ = session.await; // its error reaches the statement that waits for a reply
    });
    Ok((client, Reached { place, encrypted, writes }))
}

/// Refuses a database whose transactions are read-only by default.
fn refuse_read_only(connection: &Connection, reached: Reached) -> Result<Reached, Refusal> {
    if reached.writes != Writes::OffByDefault {
        return Ok(reached);
    }
    Err(Refusal::read_only(connection, reached.place))
}

/// What a query of ours met, for a person.
pub(in crate::db) fn explain(connection: &Connection, error: tokio_postgres::Error) -> StartError {
    Refusal::new(connection, error.into()).error
}

/// The state of the migrations, asked by whatever role `connection` names.
///
/// # Errors
/// `Exit::Unavailable` when the database cannot be asked.
pub async fn migration_status(
    connection: &Connection,
    schema: &Schema,
    tasks: &TaskTracker,
) -> Result<Vec<Status>, StartError> {
    let client = connect(connection, tasks).await?;
    migrate::status(&client, schema).await.map_err(|error| explain(connection, error))
}

/// A server that a session was opened on.
pub struct Reached {
    /// Where it is.
    pub place: String,
    /// Whether the way there is encrypted.
    pub encrypted: bool,
    /// Whether it takes writes.
    pub writes: Writes,
}

/// Opens a connection and closes it again.
///
/// # Errors
/// Says whether trying again may help.
pub async fn reach(connection: &Connection, tasks: &TaskTracker) -> Result<Reached, Refusal> {
    let (_, reached) = open(connection, tasks).await?;
    refuse_read_only(connection, reached)
}

/// The server's version, where it will do (T-14); `None` for a server whose version is no number.
///
/// # Errors
/// `Exit::Unavailable` when it is too old, or cannot be asked.
pub async fn accepted_version(
    connection: &Connection,
    tasks: &TaskTracker,
) -> Result<Option<ServerVersion>, StartError> {
    let client = connect(connection, tasks).await?;
    let rows = client
        .query_typed("select current_setting('server_version')", &[])
        .await
        .map_err(|error| explain(connection, error))?;
    let text: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
    let version = ServerVersion::parse(&text);
    match version.filter(|version| version.is_refused()) {
        Some(old) => Err(StartError::with_fix(
            Exit::Unavailable,
            format!(
                "PostgreSQL {OLDEST} or later is needed, and the server at {} is {old}",
                connection.place()
            ),
            "upgrade it",
        )),
        None => Ok(version),
    }
}

/// Refuses a database of another encoding than UTF8: half of the migrations would apply, and the wrong text be stored.
///
/// # Errors
/// `Exit::Configuration`, with the command that makes a right one; `Exit::Unavailable` when it cannot be asked.
pub async fn accepted_encoding(connection: &Connection, tasks: &TaskTracker) -> Result<(), StartError> {
    migrate::refuse_encoding(&connect(connection, tasks).await?).await
}

/// Whether a search and the comparison of identifiers know upper and lower case beyond ASCII: the collation of
/// `core/0004_data_rules` is as good as what PostgreSQL was built with.
///
/// # Errors
/// `Exit::Unavailable` when the database cannot be asked.
pub async fn knows_case(connection: &Connection, tasks: &TaskTracker) -> Result<bool, StartError> {
    let client = connect(connection, tasks).await?;
    let rows = client.query_typed("select lower('\u{c4}' collate app.search) = '\u{e4}'", &[]).await;
    let rows = rows.map_err(|error| explain(connection, error))?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Refuses a login that row level security does not bind (T-01). The whole proof comes later; this part can be told before
/// there is a schema. `setting` is where it was named.
///
/// # Errors
/// `Exit::Isolation`, with the mend.
pub async fn refuse_privileged_role(
    connection: &Connection,
    setting: &str,
    tasks: &TaskTracker,
) -> Result<(), StartError> {
    let client = connect(connection, tasks).await?;
    let rows = client
        .query_typed(
            "select r.rolname::text, r.rolsuper, r.rolbypassrls, d.datdba = r.oid from pg_roles r, pg_database d
             where r.rolname = current_user and d.datname = current_database()",
            &[],
        )
        .await
        .map_err(|error| explain(connection, error))?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (name, superuser, bypass, owner): (String, bool, bool, bool) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    // The proof would say so too, once for everything that is owned.
    let what = match (superuser, bypass, owner) {
        (true, ..) => "a superuser",
        (_, true, _) => "a role with BYPASSRLS",
        (.., true) => "the owner of the database",
        _ => return Ok(()),
    };
    Err(StartError::with_fix(
        Exit::Isolation,
        format!("{setting} connects as '{name}', {what}, whom row level security does not hold back"),
        "name a login of migrations/roles.sql there, and the owner in DATABASE_OWNER_URL",
    ))
}

/// How many connections the server gives this session's role in this database: without those that it keeps for
/// superusers and for `reserved_connections` (PostgreSQL 16), and within the limits of the role and the database.
pub(in crate::db) async fn connection_budget(client: &Client) -> Result<i64, tokio_postgres::Error> {
    let rows = client
        .query_typed(
            "select least(
                current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
                    - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::bigint,
                (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user),
                (select nullif(datconnlimit, -1) from pg_database where datname = current_database()))",
            &[],
        )
        .await?;
    rows.first().map_or(Ok(i64::MAX), |row| row.try_get(0))
}

/// How many connections the server gives this role in this database, asked on a session of its own.
///
/// # Errors
/// `Exit::Unavailable` when the database cannot be asked.
pub async fn connections_given(connection: &Connection, tasks: &TaskTracker) -> Result<i64, StartError> {
    let client = connect(connection, tasks).await?;
    connection_budget(&client).await.map_err(|error| explain(connection, error))
}

/// Makes the isolation proof as each of the logins, outside a server: for `doctor` and after a migration. For a binary that
/// knows this schema: see [`Report::for_version`].
///
/// # Errors
/// `Exit::Unavailable` when the database cannot be asked.
pub async fn prove_once(logins: &Logins, schema: &Schema, tasks: &TaskTracker) -> Result<Report, StartError> {
    let runtime = connect(&logins.runtime, tasks).await?;
    let system = connect(&logins.system, tasks).await?;
    let report = proof::prove_both(&runtime, &system, schema.samples()).await;
    report.map(|report| report.for_version(schema)).map_err(|error| {
        StartError::with_fix(
            Exit::Unavailable,
            "The isolation proof could not be made",
            "see whether the migrations are applied, with 'erp-backend db status'",
        )
        .because(error)
    })
}
