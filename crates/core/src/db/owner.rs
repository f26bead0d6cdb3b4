use tokio_postgres::{Client, Config, NoTls};
use tokio_util::task::TaskTracker;

use super::migrate::{self, Migration, Status};
use super::{Params, monitor};
use crate::lifecycle::StartError;
use crate::shared::TenantId;

/// A session as the owner role: migrates and seeds, and serves no request.
///
/// Row level security is forced on the owner too, so that even a seed must say in which tenant it works.
pub struct Owner(Client);

impl Owner {
    /// Opens a session; its task ends when the session is dropped.
    ///
    /// # Errors
    /// `Exit::Unavailable` when the server cannot be reached, the password is wrong or the database is missing.
    pub async fn connect(connection: &Config, tasks: &TaskTracker) -> Result<Self, StartError> {
        connect(connection, tasks).await.map(Self)
    }

    /// Applies what is pending and returns its names; grants go to `runtime_role`.
    ///
    /// # Errors
    /// `Exit::Internal` when a migration fails (it is rolled back whole) or an applied file was changed.
    pub async fn migrate(
        &self,
        migrations: &[Migration],
        runtime_role: &str,
    ) -> Result<Vec<&'static str>, StartError> {
        migrate::migrate(&self.0, migrations, runtime_role).await
    }

    /// The state of every migration of this binary and of the database.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn status(&self, migrations: &[Migration]) -> Result<Vec<Status>, tokio_postgres::Error> {
        migrate::status(&self.0, migrations).await
    }

    /// Runs one statement in a transaction of its own, in `tenant` or in none, and returns the number of rows.
    ///
    /// # Errors
    /// As the database answers; nothing is then changed.
    pub async fn execute(
        &self,
        tenant: Option<TenantId>,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<u64, tokio_postgres::Error> {
        let tenant = tenant.map(|tenant| tenant.to_string()).unwrap_or_default();
        let begin = format!("begin; set local app.tenant_id = '{tenant}'; set local app.actor = 'system:seed'");
        self.0.batch_execute(&begin).await?;
        let outcome = self.0.execute(sql, params).await;
        self.0.batch_execute(if outcome.is_ok() { "commit" } else { "rollback" }).await?;
        outcome
    }
}

/// Opens a session for a short piece of work that is no request's.
pub(super) async fn connect(connection: &Config, tasks: &TaskTracker) -> Result<Client, StartError> {
    let mut connection = connection.clone();
    connection.connect_timeout(std::time::Duration::from_secs(3));
    let (client, session) =
        connection.connect(NoTls).await.map_err(|error| monitor::explain(&connection, error))?;
    tasks.spawn(async move {
        let _ = session.await; // its error reaches whoever waits for a reply
    });
    Ok(client)
}

/// The state of the migrations, asked by whatever role `connection` names.
///
/// # Errors
/// `Exit::Unavailable` when the database cannot be asked.
pub async fn migration_status(
    connection: &Config,
    migrations: &[Migration],
    tasks: &TaskTracker,
) -> Result<Vec<Status>, StartError> {
    let client = connect(connection, tasks).await?;
    migrate::status(&client, migrations).await.map_err(|error| monitor::explain(connection, error))
}
