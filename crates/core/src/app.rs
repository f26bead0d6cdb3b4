//! Everything that a handler can reach. There are no globals: two apps can live in one process.

mod answers;
mod backlogs;
mod bodies;
mod denials;
mod probes;
mod streams;
mod tenancy;
mod usage;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use erp_postgres::{Channel, Notifications};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::assets::Assets;
use crate::auth::{
    Authenticator, Caller, GuardedColumns, KnownEntitlements, KnownKeys, KnownPermissions, KnownSlugs,
    Passwords, PermissionTable, PublicKeys,
};
use crate::cache::Caches;
use crate::config::{Config, ModuleSettings};
use crate::db::proof::Report;
use crate::db::{Db, Pools, System, SystemWork, TenantKeys};
use crate::error::{Constraints, Error, Result, codes};
use crate::files::FileStore;
use crate::lifecycle::Lifecycle;
use crate::limits::{Limits, SlowDown};
use crate::logging::Logging;
use crate::mail::Mail;
use crate::metrics::{AskAllocator, Format, Metrics};
use crate::outbound::Outbound;
use crate::shared::{Clock, Rng};

pub use answers::{Answers, Flowing};
pub(crate) use backlogs::BELIEVED;
pub use backlogs::Backlogs;
pub use bodies::Bodies;
pub(crate) use bodies::SMALL;
pub(crate) use denials::DENIALS;
pub use denials::{Denial, Denials};
pub use probes::{Outcome, Probe, Probes};
pub use streams::{StreamPlace, Streams};
pub use tenancy::Tenancy;
pub(crate) use usage::{FILE_BYTES, JOBS_RUN, MAILS_SENT, UsageAddition};
pub use usage::{GatheredUsage, REQUESTS};

/// The running application; cheap to clone. Handlers take it as `State(app): State<App>`.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub struct Parts {
    /// The settings, validated.
    pub config: Config,
    /// The database, as requests use it.
    pub db: Db,
    /// The same with the system's pool, which is for those who declare what they do there.
    pub(crate) pools: Pools,
    /// The keys that encrypt what tenants have.
    pub keys: TenantKeys,
    /// Access tokens.
    pub authenticator: Authenticator,
    /// The counters of rate limits.
    pub limits: Limits,
    /// Holds back clients that have used half of their limit.
    pub slow_down: SlowDown,
    /// What was read and is kept for a while.
    pub caches: Caches,
    /// What tenants have, as it was read a moment ago.
    pub entitlements: KnownEntitlements,
    /// How that is read.
    pub(crate) tenancy: Option<&'static Tenancy>,
    /// Calls of other services.
    pub outbound: Outbound,
    /// The store of tenants' files.
    pub files: FileStore,
    /// How mail is sent.
    pub mail: Mail,
    /// Password hashes.
    pub passwords: Passwords,
    /// Counters, gauges and histograms.
    pub metrics: Metrics,
    /// The log, whose level can be changed.
    pub logging: Logging,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// The owner of all tasks.
    pub lifecycle: Lifecycle,
    /// Refusals that are to be audited.
    pub denials: Denials,
    /// What has happened in tenants and is to be added to what they have used.
    pub usage: GatheredUsage,
    /// The names of every kind of job of every module.
    pub job_kinds: BTreeSet<&'static str>,
    /// The names of every kind of event of every module.
    pub event_kinds: BTreeSet<&'static str>,
    /// How many jobs each tenant has waiting, as far as this process knows.
    pub backlogs: Backlogs,
    /// Every permission of every module.
    pub permissions: Arc<PermissionTable>,
    /// The columns that want a permission of their own, for those who show rows of the audit log.
    pub guarded_columns: GuardedColumns,
    /// What principals may do, as it was read a moment ago.
    pub known_permissions: KnownPermissions,
    /// Whose API keys are, as it was read a moment ago.
    pub known_keys: KnownKeys,
    /// Whose slugs are, as it was read a moment ago.
    pub known_slugs: KnownSlugs,
    /// The error codes of every module, by the constraints whose breach they tell.
    pub constraints: Constraints,
    /// Every probe of every module.
    pub probes: Probes,
    /// The places of requests that are worked on: `MAX_CONCURRENT_REQUESTS`.
    pub requests: Arc<Semaphore>,
    /// The connections that clients have open: at most `MAX_CONNECTIONS`.
    pub connections: Arc<AtomicU32>,
    /// The memory for request bodies.
    pub bodies: Bodies,
    /// The memory for answers that their clients have not taken yet.
    pub answers: Answers,
    /// The places of streamed lists.
    pub streams: Arc<Streams>,
    /// Every file of every module.
    pub assets: Assets,
    /// What the allocator holds, where it tells.
    pub allocator: AskAllocator,
    /// The version, as `/health` shows it.
    pub version: &'static str,
    /// When the process started.
    pub started: Instant,
    /// The last isolation proof; `None` until the first one.
    pub proof: RwLock<Option<Proof>>,
}

/// The outcome of an isolation proof, and when it was made.
#[derive(Clone)]
pub struct Proof {
    /// The whole report.
    pub report: Arc<Report>,
    /// When it was made.
    pub at: Timestamp,
    /// The same, for its age: the time of day can be set back.
    pub made: Instant,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// By what a form or a script shows that its page is of the caller's session: see `middleware/admission/csrf.rs`.
    ///
    /// # Errors
    /// `core.forbidden` for a caller without a session.
    pub fn csrf_token(&self, caller: &Caller) -> Result<String> {
        let session = caller.signed_in().ok_or_else(|| {
            Error::new(&codes::FORBIDDEN).detail("The credential is of no session, and needs no such token.")
        })?;
        let token = self.authenticator.csrf_keys().token(session.session, self.rng.as_ref());
        token.ok_or_else(|| Error::internal("there is no key for the tokens of pages"))
    }

    /// The keys that others verify access tokens with; none where these are signed with HS256.
    pub fn public_keys(&self) -> PublicKeys {
        self.authenticator.public_keys()
    }

    /// The settings of a module's section, as they were read at the start.
    ///
    /// # Errors
    /// `core.internal` when the section's module is not one of the product's.
    pub fn settings<S: ModuleSettings>(&self) -> Result<&S> {
        let undeclared = || {
            let section = std::any::type_name::<S>();
            Error::internal(format!("the module of {section} is not one of the product's: add it there"))
        };
        self.config.of_module().ok_or_else(undeclared)
    }

    /// The right to do one kind of system work, for the core to hand over.
    pub(crate) fn system(&self, work: &'static SystemWork) -> System {
        System::new(self.pools.system.clone(), work)
    }

    /// The same for the queue of jobs, which is asked all the time: its statements are counted, and not logged one by one.
    pub(crate) fn queue(&self, work: &'static SystemWork) -> System {
        System::new(self.pools.queue.clone(), work)
    }

    /// Listens to what other processes say to this one.
    pub(crate) async fn listen(&self, channel: Channel, capacity: usize) -> Result<Notifications> {
        self.pools.system.listen(channel, capacity).await
    }

    /// The tenants that sessions of the database carry while nobody uses them: none (T-04).
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenants_left_behind(&self) -> Result<Vec<String>> {
        self.pools.tenants_left_behind().await
    }

    /// The last isolation proof.
    pub fn proof(&self) -> Option<Proof> {
        self.0.proof.read().ok().and_then(|proof| proof.clone())
    }

    /// Notes the outcome of an isolation proof; readiness follows it.
    pub(crate) fn proved(&self, report: Report) {
        let proof = Proof { report: Arc::new(report), at: self.clock.now(), made: self.clock.instant() };
        if let Ok(mut slot) = self.0.proof.write() {
            *slot = Some(proof);
        }
    }

    /// What `/metrics` answers, with what is only known when somebody asks.
    pub fn scrape(&self, format: Format) -> String {
        let metrics = &self.metrics;
        metrics.observe_process();
        if let Some(held) = (self.allocator)() {
            metrics.observe_allocator(held);
        }
        metrics.log_lines_dropped_total.with(&[]).catch_up(self.logging.dropped());
        metrics.log_write_errors_total.with(&[]).catch_up(self.logging.write_errors());
        for (task, panics) in self.lifecycle.panics() {
            metrics.background_panics_total.with(&[task]).catch_up(panics);
        }
        for (task, restarts) in self.lifecycle.restarts() {
            metrics.background_restarts_total.with(&[task]).catch_up(restarts);
        }
        self.lifecycle.observe();
        metrics.render(format)
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
