//! What a start may be told beside the settings.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::factory::AppOptions;
use crate::logging::Logging;
use crate::metrics::AskAllocator;
use crate::outbound::{Resolver, SystemResolver};
use crate::shared::{Clock, Rng, SystemClock, SystemRng};

/// What a start may be told beside the settings.
pub struct BootstrapOptions {
    /// Skips the health phase's checks of services and of the machine; never the isolation proof. Default: no.
    pub skip_health_checks: bool,
    /// Whether the API is served. Without it `PORT` answers probes and operators only, as `erp-backend worker` does.
    /// Default: yes.
    pub serves_api: bool,
    /// Whether the first signal lets what is under way finish; else it ends the process as a second one would.
    /// Default: yes.
    pub enable_graceful_shutdown: bool,
    /// How long a stop may take after the drain delay; `None`, the default, is `SHUTDOWN_TIMEOUT`.
    pub shutdown_timeout: Option<Duration>,
    /// Middleware and routes of the product's own.
    pub app: AppOptions,
    /// Where to look for PostgreSQL's binaries: the process's `PATH`.
    pub path: OsString,
    /// The log: a process installs its own as the global subscriber, a test brings one.
    pub logging: LogSetup,
    /// For `allocator_allocated_bytes` and its kin; the default tells nothing, which leaves them out.
    pub allocator: AskAllocator,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Looks up the names of other services.
    pub resolver: Arc<dyn Resolver>,
    /// Cancelled when the start is to be given up.
    pub interrupt: CancellationToken,
}

/// Where the log comes from.
pub enum LogSetup {
    /// Install one as the settings say, to standard output; `terminal` says whether that shows colours.
    Install {
        /// Whether standard output is a terminal.
        terminal: bool,
    },
    /// This one, which is installed already.
    Given(Logging),
}

impl BootstrapOptions {
    /// The machine's clock and randomness; PostgreSQL's binaries are looked for on `path` first.
    pub fn new(logging: LogSetup, path: OsString) -> Self {
        Self {
            skip_health_checks: false,
            serves_api: true,
            enable_graceful_shutdown: true,
            shutdown_timeout: None,
            app: AppOptions::new(),
            path,
            logging,
            allocator: || None,
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng::new()),
            resolver: Arc::new(SystemResolver::default()),
            interrupt: CancellationToken::new(),
        }
    }
}
