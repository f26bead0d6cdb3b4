//! The pool of connections, and [`Db`], which is all that the rest of the house sees of it.

#![expect(
    clippy::disallowed_types,
    reason = "the keys of tenants are read by this very pool, and so come after it"
)]

pub(super) mod checkout;
pub(super) mod monitor;
pub(super) mod observed;
pub(super) mod parked;
pub(super) mod shortage;

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{
    Manager, Metrics as Usage, Object, Pool, PoolError, RecycleError, RecycleResult, TimeoutType, Timeouts,
};
use erp_postgres::{Channel, Connector, Notifications, Plan, Plans, SqlState, Wire};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use crate::auth::Caller;
use crate::db::doorbell::Doorbell;
use crate::db::generations::Generations;
use crate::db::outbox::Outbox;
use crate::db::proof::{Report, prove_both};
use crate::db::row_condition::RowScope;
use crate::db::{Connection, RowCondition, Sample, TenantKeys, Writes};
use crate::error::{Error, Result, codes};
use crate::lifecycle::{Background, Exit, Lifecycle, StartError, StopStage};
use crate::metrics::Metrics;
use crate::shared::TenantId;
use crate::shares::{TenantLoads, TenantShares};
use checkout::Checkout;
use monitor::{Availability, Watched};
use parked::Deferrals;
use shortage::Shortage;

/// How one login's connections are made and bounded.
#[derive(Clone)]
pub struct PoolOptions {
    /// Where, as whom: `DATABASE_URL` or `DATABASE_SYSTEM_URL`.
    pub connection: Connection,
    /// `DATABASE_MAX_CONNECTIONS` or `DATABASE_SYSTEM_MAX_CONNECTIONS`.
    pub max_connections: usize,
    /// `DATABASE_ACQUIRE_TIMEOUT`: how long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// `DATABASE_CONNECT_TIMEOUT`: how long opening one may take.
    pub connect_timeout: Duration,
    /// `DATABASE_TIMEOUT`: the longest that one statement may run.
    pub statement_timeout: Duration,
    /// `DATABASE_IDLE_TIMEOUT`: a connection that nobody has used for so long is closed.
    pub idle_timeout: Duration,
    /// `DATABASE_SLOW_QUERY`: a statement that takes longer is logged as a warning.
    pub slow_query: Duration,
    /// `DATABASE_LOGGING`: every statement is logged, without its parameters.
    pub log_queries: bool,
    /// `DATABASE_TENANT_MAX_CONNECTIONS`: how many connections one tenant may hold.
    pub tenant_max_connections: usize,
    /// `DATABASE_PREPARED_STATEMENTS`: off behind a pooler in transaction mode.
    pub prepared_statements: bool,
    /// The tables of which one sees one's own rows only.
    pub row_conditions: Arc<[RowCondition]>,
}

/// The database, as the rest of the house sees it: transactions that carry a tenant, and nothing else.
#[derive(Clone)]
pub struct Db(Arc<DbInner>);

/// The two pools of a process, which have no connection and no right in common.
#[derive(Clone)]
pub struct Pools {
    /// Of the runtime role: for requests, each in its caller's tenant.
    pub runtime: Db,
    /// Of the system's login: for the declared work of the system.
    pub system: Db,
    /// The same pool for the queue of jobs, which is asked all the time: its statements are not logged one by one.
    pub(crate) queue: Db,
}

struct DbInner {
    pool: Pool<Opener>,
    options: PoolOptions,
    metrics: Metrics,
    /// Owns the clean-up of connections whose borrower has gone, and short sessions beside the pool.
    tasks: TaskTracker,
    shares: TenantShares,
    shortage: Arc<Shortage>,
    availability: watch::Receiver<Availability>,
    writes: watch::Receiver<Writes>,
    /// Asks the monitor to look at once, since a connection has just broken.
    doubt: Arc<Notify>,
    /// A change was refused for being read-only: the monitor finds out why.
    distrust: Arc<AtomicBool>,
    /// The monitor had to connect anew.
    reconnected: Arc<Notify>,
    /// What waits for the end of its request, whichever pool it went through.
    deferrals: Arc<Deferrals>,
    /// Rings for jobs that this process has enqueued, whichever pool they went through.
    doorbell: Arc<Doorbell>,
    /// Tells of events that this process has emitted, whichever pool they went through.
    outbox: Arc<Outbox>,
    generations: Arc<Generations>,
    /// Opens what is encrypted in callers' tenants, once it is there.
    keys: OnceLock<TenantKeys>,
}

/// Watches the server. Requests that would wait in vain rely on it.
pub(crate) static MONITOR: Background<(Watched, Pools)> = Background {
    name: "database monitor",
    about: "Asks the database twice a second whether it answers and takes changes, and closes connections that nobody uses.",
    critical: true,
    stops: StopStage::Foundation,
    run: |(watched, _), stop| Box::pin(monitor::watch(watched, stop.token().clone())),
    observe: |(_, pools)| pools.show_use(),
};

impl Db {
    /// Two pools that open connections as they are needed, and a task of `lifecycle` that watches the server.
    ///
    /// # Errors
    /// `Exit::Internal` when a pool cannot be built.
    pub fn open(
        runtime: PoolOptions,
        system: PoolOptions,
        metrics: &Metrics,
        lifecycle: &Lifecycle,
    ) -> Result<Pools, StartError> {
        let pools = [pool(&runtime)?, pool(&system)?];
        let (report, availability) = watch::channel(Availability::Up);
        let (report_writes, writes) = watch::channel(Writes::Taken);
        let distrust = Arc::new(AtomicBool::new(false));
        let doorbell = Arc::new(Doorbell::default());
        let outbox = Arc::new(Outbox::default());
        let (doubt, reconnected) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let watched = Watched {
            connection: runtime.connection.clone(),
            pools: pools.clone(),
            idle_timeout: runtime.idle_timeout,
            report,
            writes: report_writes,
            doubt: Arc::clone(&doubt),
            distrust: Arc::clone(&distrust),
            reconnected: Arc::clone(&reconnected),
        };
        // What is known of the server is known to both.
        let generations = Arc::<Generations>::default();
        let deferrals = Arc::<Deferrals>::default();
        let loads = Arc::<TenantLoads>::default();
        let db = |pool, options: PoolOptions| {
            Self(Arc::new(DbInner {
                pool,
                shares: TenantShares::new(options.tenant_max_connections, Arc::clone(&loads)),
                shortage: Arc::default(),
                options,
                metrics: metrics.clone(),
                tasks: lifecycle.background().clone(),
                availability: availability.clone(),
                writes: writes.clone(),
                doubt: Arc::clone(&doubt),
                distrust: Arc::clone(&distrust),
                reconnected: Arc::clone(&reconnected),
                deferrals: Arc::clone(&deferrals),
                doorbell: Arc::clone(&doorbell),
                outbox: Arc::clone(&outbox),
                generations: Arc::clone(&generations),
                keys: OnceLock::new(),
            }))
        };
        let [first, second] = pools;
        let quiet = PoolOptions { log_queries: false, ..system.clone() };
        let queue = db(second.clone(), quiet);
        let pools = Pools { runtime: db(first, runtime), system: db(second, system), queue };
        lifecycle.start(&MONITOR, (watched, pools.clone()));
        Ok(pools)
    }

    /// Lets transactions in callers' tenants open what is encrypted there.
    pub(crate) fn opens_with(&self, keys: TenantKeys) {
        let _ = self.0.keys.set(keys); // it is said once
    }

    pub(in crate::db) fn keys(&self) -> Result<&TenantKeys> {
        let none = "encrypted fields are read in a caller's tenant, and not as the system";
        self.0.keys.get().ok_or_else(|| Error::internal(none))
    }

    /// Rings when jobs have been committed.
    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.0.doorbell
    }

    /// Tells when events have been committed.
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    pub(in crate::db) fn deferrals(&self) -> &Deferrals {
        &self.0.deferrals
    }

    /// Which data has changed, as the transactions that were committed have told.
    pub(crate) fn generations(&self) -> &Arc<Generations> {
        &self.0.generations
    }

    /// Whether the server answered when it was last asked, at most a second ago.
    pub fn is_up(&self) -> bool {
        *self.0.availability.borrow() == Availability::Up
    }

    /// Whether the server takes changes, as a new session or the last refused change has told.
    pub fn writes(&self) -> Writes {
        *self.0.writes.borrow()
    }

    /// Waits until the server had to be connected to anew: it has been away, or is another one. For one waiter, which
    /// misses none while it is busy.
    pub async fn came_back(&self) {
        self.0.reconnected.notified().await;
    }

    /// Connections open now, and those of them that nobody uses.
    pub fn connections(&self) -> (usize, usize) {
        let status = self.0.pool.status();
        (status.size, status.available)
    }

    /// How many requests wait for a connection, or for their tenant's share of them.
    pub fn waiting(&self) -> usize {
        self.0.pool.status().waiting + self.0.shares.waiting() + self.0.shortage.waiting()
    }

    /// How many connections the server gives the runtime role in this database.
    ///
    /// # Errors
    /// `core.unavailable` when the database cannot be reached.
    pub async fn connection_budget(&self) -> Result<i64> {
        Ok(crate::db::owner::connection_budget(&self.session().await?).await?)
    }

    /// A session beside the pool, for a short piece of work that is no request's.
    async fn session(&self) -> Result<tokio_postgres::Client> {
        let opening = crate::db::owner::connect(&self.0.options.connection, &self.0.tasks);
        opening.await.map_err(|error| Error::unavailable().because(error))
    }

    /// Listens on a connection beside the pool, as long as somebody takes what it brings.
    pub(crate) async fn listen(&self, channel: Channel, capacity: usize) -> Result<Notifications> {
        let options = &self.0.options;
        let connector = options.connection.connector(options.connect_timeout, options.prepared_statements);
        let (notifications, listening) = connector.listen(&[channel], capacity).await?;
        self.0.tasks.spawn(listening.run());
        Ok(notifications)
    }

    /// Owns what goes on after its borrower has gone.
    pub(in crate::db) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// A connection was given back, or closed.
    pub(in crate::db) fn freed(&self) {
        self.0.shortage.freed();
    }

    pub(in crate::db) fn shares(&self) -> &TenantShares {
        &self.0.shares
    }

    /// The tables of which one sees one's own rows only.
    pub(crate) fn row_conditions(&self) -> &[RowCondition] {
        &self.0.options.row_conditions
    }

    /// Whose rows `caller` sees where a table has a row condition.
    pub(in crate::db) fn row_scope(&self, caller: &Caller) -> Option<RowScope> {
        RowScope::of(&self.0.options.row_conditions, caller)
    }

    /// How much each tenant asks of this process.
    pub fn loads(&self) -> &TenantLoads {
        self.0.shares.loads()
    }

    /// How many connections a tenant may hold from here on; `None`: as many as any.
    pub(crate) fn allow(&self, tenant: TenantId, connections: Option<u32>) {
        self.0.shares.allow(tenant, connections.map(|connections| connections as usize));
    }

    pub(in crate::db) fn options(&self) -> &PoolOptions {
        &self.0.options
    }

    /// What this process knows of its statements.
    pub(in crate::db) fn plans(&self) -> &Plans {
        self.0.pool.manager().0.plans()
    }

    /// A migration made prepared statements stale: connections that have them are replaced.
    pub(in crate::db) fn forget_statements(&self) {
        self.0.pool.manager().0.forget();
    }

    /// A connection of our own, outside any transaction, out of the tenant's share. Wait for it
    /// [`unless_down`](Self::unless_down).
    pub(in crate::db) async fn checkout(&self, tenant: Option<TenantId>) -> Result<Checkout> {
        let inner = &self.0;
        let begun = Instant::now();
        let place = match tenant {
            Some(tenant) => {
                let waiting = inner.shares.wait(tenant);
                let place = tokio::time::timeout(inner.options.acquire_timeout, waiting).await;
                place.map_err(overloaded)?.map(Box::new)
            }
            None => None,
        };
        // One limit for all waits: who got its place late does not wait as long again for a connection.
        let left = inner.options.acquire_timeout.saturating_sub(begun.elapsed());
        let timeouts = wait_for(left);
        let queue = || Box::pin(self.get_in_turn(begun)); // seldom
        let object = if inner.shortage.waiting() > 0 {
            queue().await?
        } else {
            match inner.pool.timeout_get(&timeouts).await {
                Err(error) if self.is_short(&error) => queue().await?,
                outcome => outcome.map_err(no_connection)?,
            }
        };
        Ok(Checkout::new(self.clone(), object, place))
    }

    /// Waits for a connection that somebody gives back, since the server gives no further one.
    async fn get_in_turn(&self, begun: Instant) -> Result<Object<Opener>> {
        let pool = &self.0.pool;
        let left = self.0.options.acquire_timeout.saturating_sub(begun.elapsed());
        let waiting = self.0.shortage.queue(pool.status().size);
        let getting = async {
            let _turn = waiting.turn().await;
            loop {
                if pool.status().available == 0 {
                    waiting.freed().await;
                }
                match pool.timeout_get(&wait_for(left)).await {
                    Err(error) if self.is_short(&error) => {}
                    outcome => return outcome.map_err(no_connection),
                }
            }
        };
        tokio::time::timeout(left, getting).await.map_err(overloaded)?
    }

    /// Whether it is for want of connections that there is none, while there are some of ours to wait for.
    fn is_short(&self, error: &PoolError<erp_postgres::WireError>) -> bool {
        let PoolError::Backend(error) = error else { return false };
        let full = error.server().is_some_and(|server| server.state == SqlState::TOO_MANY_CONNECTIONS);
        full && self.0.pool.status().size > 0
    }

    /// Waits for `work`, but no longer than the database is believed to answer: a server that hangs answers nothing,
    /// and its clients must not hang with it. `work` comes pinned, so that a request does not hold it twice.
    pub(in crate::db) async fn unless_down<T>(
        &self,
        work: Pin<&mut impl Future<Output = Result<T>>>,
    ) -> Result<T> {
        let mut availability = self.0.availability.clone();
        let outcome = tokio::select! {
            biased;
            outcome = work => outcome,
            Ok(_) = availability.wait_for(|state| *state == Availability::Down) => Err(Error::unavailable()),
        };
        if let Err(error) = &outcome
            && [&codes::UNAVAILABLE, &codes::READ_ONLY].contains(&error.code())
        {
            if error.code() == &codes::READ_ONLY {
                self.0.distrust.store(true, Ordering::Relaxed);
            }
            self.0.doubt.notify_one();
        }
        outcome
    }

    /// Counts a statement, and logs it when it was slow or when all are logged. Parameters are never logged.
    pub(in crate::db) fn observe(
        &self,
        sql: &'static str,
        plan: Option<&Plan>,
        started: Instant,
        success: bool,
        tenant: Option<TenantId>,
    ) {
        let described = plan.map(|plan| (plan.operation, plan.table));
        let described = described.unwrap_or_else(|| erp_postgres::describe(sql));
        let elapsed = started.elapsed();
        self.0.metrics.record_database(described.0, described.1, elapsed, success, tenant);
        self.log(sql, described, elapsed, success);
    }

    /// Counts a statement whose request was given up, and logs it as others are.
    #[cold]
    pub(in crate::db) fn cancelled(
        &self,
        sql: &'static str,
        described: (&'static str, &'static str),
        elapsed: Duration,
        tenant: Option<TenantId>,
    ) {
        self.0.metrics.record_database(described.0, described.1, elapsed, false, tenant);
        self.log(sql, described, elapsed, false);
    }

    /// Logs a statement when it was slow or when all are logged; of a stream, the time up to its first row.
    pub(in crate::db) fn log(
        &self,
        sql: &'static str,
        (operation, table): (&'static str, &'static str),
        elapsed: Duration,
        success: bool,
    ) {
        let duration = elapsed.as_secs_f64() * 1000.0;
        if elapsed > self.0.options.slow_query {
            tracing::warn!(operation, table, duration, success, sql, "Slow query");
        } else if self.0.options.log_queries {
            tracing::info!(operation, table, duration, success, sql, "Query");
        }
    }

    /// Counts a stream, whose time is its reader's as much as the server's.
    pub(in crate::db) fn count(
        &self,
        plan: &Plan,
        elapsed: Duration,
        success: bool,
        tenant: Option<TenantId>,
    ) {
        self.0.metrics.record_database(plan.operation, plan.table, elapsed, success, tenant);
    }
}

impl Pools {
    /// Runs the isolation proof, as each of the two logins on a session of its own.
    ///
    /// # Errors
    /// `core.unavailable` when the database cannot be reached.
    pub async fn prove(&self, samples: &[Sample]) -> Result<Report> {
        let proving = pin!(async {
            let runtime = self.runtime.session().await?;
            let system = self.system.session().await?;
            Ok(prove_both(&runtime, &system, samples).await?)
        });
        self.runtime.unless_down(proving).await
    }

    /// The tenants that sessions carry while nobody uses them: none (T-04).
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenants_left_behind(&self) -> Result<Vec<String>> {
        let mut left = self.runtime.tenants_left_behind().await?;
        left.extend(self.system.tenants_left_behind().await?);
        Ok(left)
    }

    /// Closes both: waiters fail, and connections close as they come back.
    pub fn close(&self) {
        self.runtime.0.pool.close();
        self.system.0.pool.close();
    }

    fn show_use(&self) {
        let of_both = [&self.runtime, &self.system];
        let sum = |count: fn(&Db) -> usize| of_both.iter().map(|db| count(db)).sum::<usize>() as f64;
        let metrics = &self.runtime.0.metrics;
        metrics.db_pool_connections.with(&["used"]).set(sum(|db| {
            let (open, idle) = db.connections();
            open.saturating_sub(idle)
        }));
        metrics.db_pool_connections.with(&["idle"]).set(sum(|db| db.connections().1));
        metrics.db_pool_max_connections.with(&[]).set(sum(|db| db.options().max_connections));
        metrics.db_pool_waiting.with(&[]).set(sum(Db::waiting));
    }
}

fn pool(options: &PoolOptions) -> Result<Pool<Opener>, StartError> {
    let connector = options.connection.connector(options.connect_timeout, options.prepared_statements);
    let pool = Pool::builder(Opener(connector))
        .max_size(options.max_connections)
        .timeouts(wait_for(options.acquire_timeout))
        .runtime(Runtime::Tokio1)
        .build();
    pool.map_err(|error| {
        StartError::new(Exit::Internal, "the connection pool could not be built").because(error)
    })
}

/// The pool's own work: to open connections, and to see that those it has are still good.
pub(in crate::db) struct Opener(pub(in crate::db) Connector);

impl Manager for Opener {
    /// Boxed, since it is handed from one to the other a dozen times a request, and is large.
    type Type = Box<Wire>;
    type Error = erp_postgres::WireError;

    async fn create(&self) -> std::result::Result<Box<Wire>, erp_postgres::WireError> {
        // Seldom, and large: requests do not carry it along.
        Box::pin(self.0.connect()).await.map(Box::new)
    }

    async fn recycle(&self, wire: &mut Box<Wire>, _: &Usage) -> RecycleResult<erp_postgres::WireError> {
        if wire.is_fit(&self.0).await {
            Ok(())
        } else {
            Err(RecycleError::message("closed, forgotten on the way, or out of date"))
        }
    }
}

/// For a connection; the connector has limits of its own, one for each address.
fn wait_for(wait: Duration) -> Timeouts {
    Timeouts { wait: Some(wait), ..Timeouts::new() }
}

fn no_connection(error: PoolError<erp_postgres::WireError>) -> Error {
    match error {
        PoolError::Backend(error) => Error::from(error),
        PoolError::Timeout(TimeoutType::Wait) => overloaded(error),
        _ => Error::unavailable().because(error),
    }
}

fn overloaded(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(&codes::OVERLOADED).retry_after(Duration::from_secs(2)).because(error)
}
