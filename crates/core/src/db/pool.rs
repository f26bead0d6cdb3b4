use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use tokio::sync::{Notify, watch};
use tokio_postgres::{Config, NoTls};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::checkout::Checkout;
use super::monitor::{self, Availability};
use super::transaction::{SystemReason, SystemTx, TenantTx};
use crate::auth::{Caller, Trace};
use crate::error::{Error, Result, codes};
use crate::lifecycle::{Exit, StartError};
use crate::metrics::Metrics;

/// How the runtime role's connections are made and bounded.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where, as whom: `DATABASE_URL`.
    pub connection: Config,
    /// `DATABASE_MAX_CONNECTIONS`.
    pub max_connections: usize,
    /// `DATABASE_ACQUIRE_TIMEOUT`: how long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// `DATABASE_CONNECT_TIMEOUT`: how long opening one may take.
    pub connect_timeout: Duration,
    /// `DATABASE_TIMEOUT`: the longest that one statement may run.
    pub statement_timeout: Duration,
    /// `DATABASE_SLOW_QUERY`: a statement that takes longer is logged as a warning.
    pub slow_query: Duration,
}

/// The database, as the rest of the house sees it: transactions that carry a tenant, and nothing else.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    pool: Pool,
    options: Options,
    metrics: Metrics,
    cleaners: TaskTracker,
    availability: watch::Receiver<Availability>,
    /// Asks the monitor to look at once, since a connection has just broken.
    doubt: Arc<Notify>,
}

impl Db {
    /// A pool that opens connections as they are needed, and a task that watches the server until `stop`.
    ///
    /// # Errors
    /// `Exit::Internal` when the pool cannot be built.
    pub fn open(
        options: Options,
        metrics: Metrics,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let mut connection = options.connection.clone();
        connection.connect_timeout(options.connect_timeout).options(session_settings(&options));
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(connection.clone(), NoTls, recycling))
            .max_size(options.max_connections)
            .timeouts(Timeouts {
                wait: Some(options.acquire_timeout),
                create: Some(options.connect_timeout),
                recycle: None,
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| {
                StartError::new(Exit::Internal, "the connection pool could not be built").because(error)
            })?;
        let (report, availability) = watch::channel(Availability::Up);
        let doubt = Arc::new(Notify::new());
        tasks.spawn(monitor::watch(connection, pool.clone(), report, Arc::clone(&doubt), stop));
        Ok(Self(Arc::new(Inner { pool, options, metrics, cleaners: tasks.clone(), availability, doubt })))
    }

    /// A transaction in the caller's tenant that may change data. Dropped without commit, it is rolled back.
    pub fn tenant(&self, caller: &Caller) -> TenantTx<'_> {
        TenantTx::write(self, caller)
    }

    /// A READ ONLY transaction in the caller's tenant. With one statement, `.last()`, it costs one round trip.
    pub fn tenant_read(&self, caller: &Caller) -> TenantTx<'_> {
        TenantTx::read(self, caller)
    }

    /// A transaction without a tenant, for a listed reason: it sees shared tables only.
    pub fn system(&self, reason: SystemReason, trace: Trace) -> SystemTx<'_> {
        tracing::debug!(reason = reason.as_str(), "System transaction");
        SystemTx::new(self, reason, trace)
    }

    /// Whether the server answered when it was last asked, at most a second ago.
    pub fn is_up(&self) -> bool {
        *self.0.availability.borrow() == Availability::Up
    }

    /// Connections open now, and those of them that nobody uses.
    pub fn connections(&self) -> (usize, usize) {
        let status = self.0.pool.status();
        (status.size, status.available)
    }

    /// Closes the pool: waiters fail, and connections close as they come back.
    pub fn close(&self) {
        self.0.pool.close();
    }

    /// Runs the isolation proof on a connection of the pool, as the runtime role.
    ///
    /// # Errors
    /// `core.unavailable` when the database cannot be reached.
    pub async fn prove(&self, samples: &[super::proof::Sample]) -> Result<super::proof::Report> {
        let mut checkout = self.checkout().await?;
        checkout.arm();
        let Some(client) = checkout.client() else { return Err(Error::unavailable()) };
        let report = self.unless_down(async { Ok(super::proof::prove(client, samples).await?) }).await?;
        checkout.disarm();
        Ok(report)
    }

    /// How many connections the server takes, replicas and superusers included; `None` when it would not say.
    ///
    /// # Errors
    /// `core.unavailable` when the database cannot be reached.
    pub async fn server_max_connections(&self) -> Result<Option<i64>> {
        let checkout = self.checkout().await?;
        let Some(client) = checkout.client() else { return Ok(None) };
        let row = client.query_one("select current_setting('max_connections')::bigint", &[]).await?;
        Ok(row.try_get(0)?)
    }

    pub(super) fn options(&self) -> &Options {
        &self.0.options
    }

    /// A connection of our own, outside any transaction.
    pub(super) async fn checkout(&self) -> Result<Checkout> {
        let waiting = async {
            let object = self.0.pool.get().await.map_err(no_connection)?;
            Ok(Checkout::new(object, self.0.cleaners.clone()))
        };
        self.unless_down(waiting).await
    }

    /// Waits for `work`, but no longer than the database is believed to answer: a server that hangs answers nothing,
    /// and its clients must not hang with it.
    pub(super) async fn unless_down<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut availability = self.0.availability.clone();
        let outcome = tokio::select! {
            biased;
            outcome = work => outcome,
            Ok(_) = availability.wait_for(|state| *state == Availability::Down) => Err(Error::unavailable()),
        };
        if outcome.as_ref().is_err_and(|error| error.code() == &codes::UNAVAILABLE) {
            self.0.doubt.notify_one();
        }
        outcome
    }

    /// Counts a statement, and logs it when it was slow.
    pub(super) fn observe(&self, sql: &'static str, started: Instant, success: bool) {
        let (operation, table) = super::statement::describe(sql);
        let elapsed = started.elapsed();
        let duration = elapsed.as_secs_f64() * 1000.0;
        self.0.metrics.record_database(operation, table, duration, success);
        if elapsed > self.0.options.slow_query {
            tracing::warn!(operation, table, duration, sql, "Slow query");
        }
    }
}

/// Settings of the session: bounds that hold even when our own side forgets.
fn session_settings(options: &Options) -> String {
    format!(
        "-c statement_timeout={} -c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
        options.statement_timeout.as_millis()
    )
}

fn no_connection(error: PoolError) -> Error {
    match error {
        PoolError::Backend(error) => Error::from(error),
        PoolError::Timeout(TimeoutType::Wait) => {
            Error::new(&codes::OVERLOADED).retry_after(Duration::from_secs(2)).because(error)
        }
        _ => Error::unavailable().because(error),
    }
}
