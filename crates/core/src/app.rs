//! Everything that a handler can reach. There are no globals: two apps can live in one process.

mod probes;

use std::sync::{Arc, RwLock};

use jiff::Timestamp;

use crate::auth::{Authenticator, Passwords, Permission, Role};
use crate::config::Config;
use crate::db::Db;
use crate::db::proof::Report;
use crate::lifecycle::Lifecycle;
use crate::logging::Logging;
use crate::metrics::Metrics;
use crate::shared::{Clock, Rng};

pub use probes::{Outcome, Probe, Probes};

/// The running application; cheap to clone. Handlers take it as `State(app): State<App>`.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub struct Parts {
    /// The settings, validated.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// Access tokens.
    pub authenticator: Authenticator,
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
    /// Every permission of every module.
    pub permissions: Vec<&'static Permission>,
    /// Every probe of every module.
    pub probes: Probes,
    /// The version, as `/health` shows it.
    pub version: &'static str,
    /// When the process started.
    pub started: Timestamp,
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
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The last isolation proof.
    pub fn proof(&self) -> Option<Proof> {
        self.0.proof.read().ok().and_then(|proof| proof.clone())
    }

    /// Notes the outcome of an isolation proof; readiness follows it.
    pub fn proved(&self, report: Report) {
        let proof = Proof { report: Arc::new(report), at: self.clock.now() };
        if let Ok(mut slot) = self.0.proof.write() {
            *slot = Some(proof);
        }
    }

    /// Names of the permissions that a role has, in the order of the table.
    pub fn permissions_of(&self, role: Role) -> Vec<&'static str> {
        let held = self.permissions.iter().filter(|permission| permission.roles.contains(&role));
        held.map(|permission| permission.name).collect()
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
