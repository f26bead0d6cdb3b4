//! The first four phases, and the way back from each.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::proof::PROOF;
use super::{BootstrapOptions, Databases, LogSetup, background, database, proof, resources, shutdown};
use crate::app::{Answers, App, Backlogs, Bodies, DENIALS, Denials, GatheredUsage, Parts, Probes, Streams};
use crate::assets::Assets;
use crate::auth::{Authenticator, KnownEntitlements, KnownKeys, KnownPermissions, KnownSlugs, Passwords};
use crate::cache::{CacheOptions, Caches};
use crate::config::{Config, Environment, Layers};
use crate::crypto::KeyEncryption;
use crate::db::cluster::{Cluster, PRIVATE_POSTGRESQL};
use crate::db::{Db, Logins, PoolOptions, Pools, RowCondition, Schema, System, TenantKeys};
use crate::encryption::{self, KEEP_KEYS};
use crate::error::Constraints;
use crate::factory;
use crate::files::{FileStore, FileStoreOptions};
use crate::jobs::ScheduleTable;
use crate::lifecycle::{Exit, Lifecycle, StartError};
use crate::limits::{self, Limits, Shared, SlowDown};
use crate::logging::Logging;
use crate::mail::Mail;
use crate::metrics::{self, LAG, Metrics};
use crate::middleware::Edge;
use crate::module::Product;
use crate::outbound::{Outbound, OutboundOptions};
use crate::redis::Redis;
use crate::server::{CERTIFICATE, Tls};
use crate::shared::Secret;
use crate::worker::{Firing, JOBS, RELAY, Relay, SCHEDULES, UPKEEP, Worker};

/// What the second phase makes.
struct Services {
    pools: Pools,
    keys: TenantKeys,
    logging: Logging,
    metrics: Metrics,
    passwords: Passwords,
    limits: Limits,
    outbound: Outbound,
    files: FileStore,
    caches: Caches,
}

/// What has been started so far, so that it can be taken down again.
pub(super) struct Start {
    lifecycle: Lifecycle,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) tls: Option<Tls>,
    logging: Option<Logging>,
    pub(super) phases: Vec<(&'static str, Duration)>,
}

impl Start {
    pub(super) fn new() -> Self {
        Self {
            lifecycle: Lifecycle::new(),
            cluster: None,
            tls: None,
            logging: None,
            phases: Vec::with_capacity(5),
        }
    }

    pub(super) async fn phases(
        &mut self,
        product: &Product,
        layers: &Layers,
        mut options: BootstrapOptions,
    ) -> Result<(Arc<Edge>, String), StartError> {
        let started = Instant::now();
        background::refuse_same_names(product)?;
        let schema = Arc::new(product.schema()?);
        let schedules = factory::schedules(product)?;
        let mut config = factory::settings(product).load(layers)?;
        crate::config::dev_secrets(&mut config, options.rng.as_ref())?;
        self.phase("configuration", started);

        let started = Instant::now();
        let logging = self.logging.insert(logging(&config, &options)?).clone();
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let tenants = config.metrics.tenant_limit as usize;
        let bounds = metrics::SeriesLimits { tenants, ..Default::default() };
        let tables = factory::modules(product).flat_map(|module| module.metrics).copied();
        let metrics = Metrics::with_tables(config.metrics.enabled, bounds, tables)?;
        self.lifecycle.start(&LAG, metrics.clone());
        self.tls = self.tls(&config, metrics.clone(), &options).await?;
        let passwords = passwords(&options);
        let databases = Box::pin(self.databases((product, &schema), &config, &options, &passwords)).await?;
        let pools = self.open(product, &databases, &config, &metrics)?;
        let keys = self.keys(&config, &options, &pools);
        let redis = self.redis(&config, &metrics).await?;
        let limits = limits(&config, &options, redis.clone(), metrics.clone())?;
        let caches = self.caches(product, &config, &options, redis, &pools, &metrics)?;
        let outbound = outbound(product, &config, &options, metrics.clone())?;
        let files = self.files(product, &config, (&outbound, &metrics), &keys, &options)?;
        self.phase("services", started);

        let started = Instant::now();
        let services = Services { pools, keys, logging, metrics, passwords, limits, caches, outbound, files };
        let app = self.app(product, config, services, &options)?;
        let edge = factory::create_app(app, product, std::mem::take(&mut options.app))?;
        self.phase("application", started);

        let started = Instant::now();
        proof::at_start(&edge.app, &schema).await?;
        encryption::refuse_unknown_key(&edge.app).await?;
        if !options.skip_health_checks {
            database::check_budget(&edge.app).await;
            resources::check_machine(&edge.app).await;
            let probed = resources::probe_modules(&edge.app);
            options.interrupt.run_until_cancelled(probed).await.unwrap_or_else(|| Err(interrupted()))?;
        }
        self.lifecycle.start(&DENIALS, edge.app.clone());
        self.lifecycle.start(&PROOF, (edge.app.clone(), schema));
        for row in factory::modules(product).flat_map(|module| module.background) {
            self.lifecycle.start(row, edge.app.clone());
        }
        self.work(product, schedules, &edge)?;
        self.phase("health checks", started);
        Ok((edge, databases.place))
    }

    /// Starts this process's worker, with `JOB_WORKERS` slots.
    fn work(&self, product: &Product, schedules: ScheduleTable, edge: &Edge) -> Result<(), StartError> {
        let app = &edge.app;
        let worker = Worker::new(app.clone(), factory::jobs(product), edge.authentication())?;
        let gauges = factory::modules(product).flat_map(|module| module.gauges).copied();
        let relay = Relay::new(&worker, factory::subscribers(product), gauges);
        self.lifecycle.start(&UPKEEP, worker.clone());
        self.lifecycle.start(&RELAY, relay);
        if app.config.jobs.workers > 0 {
            self.lifecycle.start(&SCHEDULES, Firing::new(&worker, schedules));
            self.lifecycle.start(&JOBS, worker);
        }
        Ok(())
    }

    /// The certificate, watched from here on.
    async fn tls(
        &self,
        config: &Config,
        metrics: Metrics,
        options: &BootstrapOptions,
    ) -> Result<Option<Tls>, StartError> {
        let tls = Tls::load(config, metrics).await?;
        if let Some(tls) = tls.clone() {
            self.lifecycle.start(&CERTIFICATE, (tls, Arc::clone(&options.clock)));
        }
        Ok(tls)
    }

    async fn databases(
        &mut self,
        (product, schema): (&Product, &Schema),
        config: &Config,
        options: &BootstrapOptions,
        passwords: &Passwords,
    ) -> Result<Databases, StartError> {
        let databases = database::resolve(config, &options.path, &mut self.cluster).await?;
        if let Some(cluster) = &self.cluster {
            self.lifecycle.start(&PRIVATE_POSTGRESQL, Arc::clone(cluster));
        }
        // Only here: a cluster whose start was dropped midway would be left running.
        let prepared =
            database::prepare(&databases, (product, schema), config, options, passwords, &self.lifecycle);
        match Box::pin(options.interrupt.run_until_cancelled(prepared)).await {
            Some(prepared) => prepared.map(|()| databases),
            None => Err(interrupted()),
        }
    }

    fn open(
        &self,
        product: &Product,
        databases: &Databases,
        config: &Config,
        metrics: &Metrics,
    ) -> Result<Pools, StartError> {
        let conditions =
            factory::modules(product).flat_map(|module| module.row_conditions).copied().collect();
        let (runtime, system) = pool_options(&databases.logins, config, conditions);
        Db::open(runtime, system, metrics, &self.lifecycle)
    }

    /// The keys of tenants, with which transactions open what is encrypted.
    fn keys(&self, config: &Config, options: &BootstrapOptions, pools: &Pools) -> TenantKeys {
        let keys = TenantKeys::new(
            KeyEncryption::of(config),
            System::new(pools.system.clone(), &KEEP_KEYS),
            (Arc::clone(&options.clock), Arc::clone(&options.rng)),
            self.lifecycle.background().clone(),
        );
        pools.runtime.opens_with(keys.clone());
        keys
    }

    async fn redis(&self, config: &Config, metrics: &Metrics) -> Result<Option<Redis>, StartError> {
        let Some(url) = &config.redis.url else { return Ok(None) };
        let patience = config.redis.timeout;
        Redis::open(url, patience, limits::probe, metrics.clone(), &self.lifecycle).await.map(Some)
    }

    fn caches(
        &self,
        product: &Product,
        config: &Config,
        options: &BootstrapOptions,
        redis: Option<Redis>,
        pools: &Pools,
        metrics: &Metrics,
    ) -> Result<Caches, StartError> {
        let declared = factory::modules(product).flat_map(|module| module.caches);
        Caches::new(CacheOptions {
            declared: declared.map(|cache| cache.facts()).collect(),
            memory: config.cache.memory.0,
            instances: config.process.instances,
            redis,
            secret: secret(config)?.clone(),
            longest_load: config.traffic.request_timeout,
            db: pools.runtime.clone(),
            clock: Arc::clone(&options.clock),
            rng: Arc::clone(&options.rng),
            metrics: metrics.clone(),
            lifecycle: self.lifecycle.clone(),
        })
    }

    fn files(
        &self,
        product: &Product,
        config: &Config,
        (outbound, metrics): (&Outbound, &Metrics),
        keys: &TenantKeys,
        options: &BootstrapOptions,
    ) -> Result<FileStore, StartError> {
        let development = config.process.app_env == Environment::Development;
        Ok(FileStore::new(FileStoreOptions {
            secret: secret(config)?.clone(),
            other_secrets: config.jwt.ring().skip(1).cloned().collect(),
            settings: config.files.clone(),
            default_folder: development.then(|| config.process.data_dir.join("files")),
            kinds: factory::file_kinds(product),
            outbound: outbound.clone(),
            metrics: metrics.clone(),
            lifecycle: self.lifecycle.clone(),
            keys: keys.clone(),
            rng: Arc::clone(&options.rng),
        }))
    }

    fn app(
        &self,
        product: &Product,
        mut config: Config,
        services: Services,
        options: &BootstrapOptions,
    ) -> Result<App, StartError> {
        // Handlers reach the database by transactions, and have no use for the way to it.
        (config.database.url, config.database.system_url, config.database.owner_url) = (None, None, None);
        (config.files.access_key, config.files.secret_key) = (None, None);
        let authenticator =
            Authenticator::new(&config.jwt, Arc::clone(&options.clock), Arc::clone(&options.rng));
        let assets = factory::modules(product).flat_map(|module| module.assets);
        let (templates, sender_name) = factory::mails(product)?;
        factory::links_lead_somewhere(product, &config)?;
        let mail =
            Mail::new(&config, services.outbound.clone(), services.metrics.clone(), templates, sender_name)
                .map_err(|error| {
                StartError::new(Exit::Configuration, "SMTP_FROM is no address").because(error)
            })?;
        mail.warn_if_held();
        Ok(App::new(Parts {
            authenticator,
            mail,
            outbound: services.outbound,
            files: services.files,
            passwords: services.passwords,
            limits: services.limits,
            caches: services.caches,
            slow_down: SlowDown::new(
                config.speed_limit.step,
                config.speed_limit.max_delay,
                config.speed_limit.sleepers,
            ),
            entitlements: KnownEntitlements::new(factory::entitlements(product, &config)?),
            tenancy: factory::tenancy(product)?,
            db: services.pools.runtime.clone(),
            pools: services.pools,
            keys: services.keys,
            metrics: services.metrics,
            logging: services.logging,
            clock: Arc::clone(&options.clock),
            rng: Arc::clone(&options.rng),
            lifecycle: self.lifecycle.clone(),
            denials: Denials::default(),
            usage: GatheredUsage::default(),
            job_kinds: factory::jobs(product).facts().map(|kind| kind.name).collect(),
            event_kinds: factory::modules(product)
                .flat_map(|module| module.events)
                .map(|kind| kind.facts().name)
                .collect(),
            backlogs: Backlogs::new(config.jobs.backlog),
            permissions: Arc::new(factory::permissions(product)),
            guarded_columns: factory::guarded_columns(product),
            known_permissions: KnownPermissions::default(),
            known_keys: KnownKeys::default(),
            known_slugs: KnownSlugs::default(),
            constraints: Constraints::new(
                factory::modules(product).flat_map(|module| module.errors).copied(),
            ),
            probes: Probes::new(factory::modules(product).flat_map(|module| module.probes)),
            requests: Arc::new(Semaphore::new(config.traffic.max_concurrent_requests as usize)),
            connections: Arc::default(),
            bodies: Bodies::default(),
            answers: Answers::default(),
            streams: Streams::new(config.traffic.max_streams, config.database.max_connections),
            assets: Assets::new(config.http.asset_base_url.as_deref(), assets)?,
            allocator: options.allocator,
            version: product.version,
            started: options.clock.instant(),
            proof: RwLock::new(None),
            config,
        }))
    }

    fn phase(&mut self, name: &'static str, started: Instant) {
        note(&mut self.phases, name, started);
    }

    pub(super) async fn tear_down(&mut self) {
        self.lifecycle.stop(Duration::from_secs(2)).await;
        shutdown::stop_cluster(self.cluster.take()).await;
        if let Some(logging) = &self.logging {
            logging.flush(); // the process ends next, and its last lines say why
        }
    }
}

/// How the pools of the two logins are made and bounded.
pub(super) fn pool_options(
    logins: &Logins,
    config: &Config,
    row_conditions: Arc<[RowCondition]>,
) -> (PoolOptions, PoolOptions) {
    let runtime = PoolOptions {
        connection: logins.runtime.clone(),
        max_connections: config.database.max_connections as usize,
        acquire_timeout: config.database.acquire_timeout,
        connect_timeout: config.database.connect_timeout,
        statement_timeout: config.database.timeout,
        idle_timeout: config.database.idle_timeout,
        slow_query: config.database.slow_query,
        log_queries: config.database.logging,
        tenant_max_connections: config.database.tenant_max_connections as usize,
        prepared_statements: config.database.prepared_statements,
        row_conditions,
    };
    let most = config.database.system_max_connections as usize;
    let system = PoolOptions {
        connection: logins.system.clone(),
        max_connections: most,
        // One tenant's sign-ins leave a connection to those of others.
        tenant_max_connections: runtime.tenant_max_connections.min(most.saturating_sub(1).max(1)),
        row_conditions: Arc::default(),
        ..runtime.clone()
    };
    (runtime, system)
}

fn secret(config: &Config) -> Result<&Secret<String>, StartError> {
    config.jwt.secret.as_ref().ok_or_else(|| {
        StartError::new(Exit::Configuration, "JWT_SECRET is not set: set it to at least 32 random bytes")
    })
}

pub(super) fn note(phases: &mut Vec<(&'static str, Duration)>, name: &'static str, started: Instant) {
    let elapsed = started.elapsed();
    tracing::debug!(phase = name, duration = elapsed.as_secs_f64() * 1000.0, "Phase complete");
    phases.push((name, elapsed));
}

fn interrupted() -> StartError {
    StartError::new(Exit::Internal, "The start was interrupted")
}

fn logging(config: &Config, options: &BootstrapOptions) -> Result<Logging, StartError> {
    match &options.logging {
        LogSetup::Given(logging) => Ok(logging.clone()),
        LogSetup::Install { terminal } => {
            let boot_id = crate::logging::boot_id(options.rng.as_ref());
            let log = crate::logging::LogOptions::new(
                config.logging.level,
                config.logging.format,
                boot_id,
                Arc::clone(&options.clock),
            );
            Logging::install(match &config.logging.file {
                Some(path) => log.to_file(path)?,
                None => log.colour(*terminal),
            })
        }
    }
}

fn outbound(
    product: &Product,
    config: &Config,
    options: &BootstrapOptions,
    metrics: Metrics,
) -> Result<Outbound, StartError> {
    let options = OutboundOptions {
        resolver: Arc::clone(&options.resolver),
        user_agent: format!("{}/{}", product.name, product.version),
        metrics,
        clock: Arc::clone(&options.clock),
        rng: Arc::clone(&options.rng),
    };
    Outbound::new(config, options)
}

fn limits(
    config: &Config,
    options: &BootstrapOptions,
    redis: Option<Redis>,
    metrics: Metrics,
) -> Result<Limits, StartError> {
    Ok(Limits::new(limits::LimitOptions {
        secret: secret(config)?.clone(),
        instances: config.process.instances,
        shared: redis.map(|redis| Shared::new(redis, metrics.clone())),
        clock: Arc::clone(&options.clock),
        metrics,
    }))
}

fn passwords(options: &BootstrapOptions) -> Passwords {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Passwords::new(cores, Arc::clone(&options.rng))
}
