//! Structured logs: `tracing` events in, one line each out, as JSON for machines or as text for people.
//!
//! Context comes from spans: `info_span!("request", correlation_id, tenant_id, user_id, module, action)`, at creation or
//! later by `Span::record`, applies to every event inside. Context spans are `info_span!`s: those are open at any level.
//!
//! The calls of the specification's logger, and what they are here:
//!
//! | specification | here |
//! | --- | --- |
//! | `logger.error(message, error, context)` | `tracing::error!(error = &error as &dyn Error, key = value, "message")` |
//! | `logger.warn`, `.info`, `.debug`, `.verbose` | `tracing::warn!`, `info!`, `debug!`, `trace!`, likewise |
//! | `logger.http` | `tracing::info!(target: "http", …)`: the access log's line |
//! | `logger.security(message, severity, context)` | [`security_event!`](crate::security_event)`(severity, "message", …)` |
//! | `logger.audit(message, action, resource, context)` | [`audit_event!`](crate::audit_event)`(action, resource, "message", …)` |
//! | `logger.business(message, event, context)` | [`business_event!`](crate::business_event)`(event, "message", …)` |
//! | `logger.profile(name, fn)` | [`profile`]`(name, future).await` |
//! | `logger.child({ module })`, `createModuleLogger` | [`child!`]`(module = "auth")`, then `.in_scope(…)` or `.instrument(…)` |
//!
//! ```
//! use std::sync::Arc;
//! use erp_core::logging::{CapturingSink, Level, LogFormat, Logging, LogOptions};
//! use erp_core::shared::SystemClock;
//!
//! let sink = CapturingSink::new();
//! let options = LogOptions::new(Level::Info, LogFormat::Json, "boot_00000000", Arc::new(SystemClock)).to(sink.clone());
//! let (logging, subscriber) = Logging::new(options);
//! tracing::subscriber::with_default(subscriber, || tracing::info!(module = "auth", "Signed in"));
//! assert!(logging.flush());
//! assert!(sink.lines()[0].contains(r#""message":"Signed in""#));
//! ```

mod capture;
mod child;
mod events;
mod field;
mod file;
mod format;
mod layer;
mod output;
mod panics;
mod profile;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;

pub use crate::config::{Level, LogFormat};
use crate::lifecycle::{Exit, StartError};
pub use crate::log_child as child;
use crate::shared::{Clock, Rng};
pub use capture::CapturingSink;
pub use child::Child;
pub use events::Severity;
pub use field::{redacted, redacted_json};
pub use profile::profile;
#[doc(hidden)]
pub use tracing as __tracing; // for the macros, in other crates

use file::LogFile;
use format::Formatter;
use layer::LogLayer;
use output::Output;

/// How logs are written.
pub struct LogOptions {
    level: Level,
    format: LogFormat,
    boot_id: String,
    clock: Arc<dyn Clock>,
    sink: Box<dyn Write + Send>,
    colour: bool,
    capacity: usize,
}

impl LogOptions {
    /// Lines at `level` and above in `format` to standard output, without colour. `boot_id` is the correlation id of
    /// what happens outside requests and jobs: see [`boot_id`].
    pub fn new(level: Level, format: LogFormat, boot_id: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        let sink = Box::new(std::io::stdout());
        Self { level, format, boot_id: boot_id.into(), clock, sink, colour: false, capacity: 8192 }
    }

    /// Writes to `sink` instead. It is used by one thread only and gets whole lines.
    #[must_use]
    pub fn to(mut self, sink: impl Write + Send + 'static) -> Self {
        self.sink = Box::new(sink);
        self
    }

    /// Appends to the file at `path` instead; it may be rotated away at any time.
    ///
    /// # Errors
    /// [`Exit::DataFolder`] when it cannot be opened for writing.
    pub fn to_file(self, path: &Path) -> Result<Self, StartError> {
        LogFile::open(path).map(|file| self.to(file)).map_err(|error| unwritable(path, error))
    }

    /// Whether the sink is a terminal that understands colour. Default: no.
    #[must_use]
    pub fn colour(mut self, colour: bool) -> Self {
        self.colour = colour;
        self
    }

    /// Most lines that may wait for the sink; further ones are dropped and counted. Default: 8192.
    #[must_use]
    pub fn capacity(mut self, lines: usize) -> Self {
        self.capacity = lines;
        self
    }
}

/// Whether a process could log to the file at `path`; what is not there is not made.
///
/// # Errors
/// As [`LogOptions::to_file`].
pub fn try_file(path: &Path) -> Result<(), StartError> {
    LogFile::try_open(path).map_err(|error| unwritable(path, error))
}

fn unwritable(path: &Path, error: std::io::Error) -> StartError {
    let message = format!(
        "LOG_FILE {} cannot be written: {error}. Name a file in a folder that this user may write to.",
        path.display()
    );
    StartError::new(Exit::DataFolder, message).because(error)
}

/// `boot_` and 8 hexadecimal digits: the correlation id of one process.
pub fn boot_id(rng: &dyn Rng) -> String {
    let mut bytes = [0; 4];
    rng.fill(&mut bytes);
    format!("boot_{:08x}", u32::from_be_bytes(bytes))
}

/// The handle on a process's logs. Clones share everything.
#[derive(Clone)]
pub struct Logging {
    level: Arc<AtomicU8>,
    output: Arc<Output>,
}

impl Logging {
    /// The handle, and the subscriber that events must reach: for a test, with `tracing::subscriber::with_default`.
    pub fn new(options: LogOptions) -> (Self, impl Subscriber + Send + Sync + 'static) {
        let LogOptions { level, format, boot_id, clock, sink, colour, capacity } = options;
        let level = Arc::new(AtomicU8::new(level as u8));
        let output = Arc::new(Output::start(sink, capacity));
        let formatter = Formatter::new(format, colour, boot_id);
        let layer = LogLayer::new(Arc::clone(&level), Arc::clone(&output), clock, formatter);
        (Self { level, output }, tracing_subscriber::registry().with(layer))
    }

    /// Makes these the logs of the whole process, panics included.
    ///
    /// # Errors
    /// [`Exit::Internal`] when the process has a subscriber already.
    pub fn install(options: LogOptions) -> Result<Self, StartError> {
        let format = options.format;
        let (logging, subscriber) = Self::new(options);
        tracing::subscriber::set_global_default(subscriber)
            .map_err(|error| StartError::new(Exit::Internal, "logging was installed twice").because(error))?;
        panics::log_panics(format);
        Ok(logging)
    }

    /// The least important level that is written.
    pub fn level(&self) -> Level {
        layer::level_of(&self.level)
    }

    /// Changes the level for everything from now on.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// How many lines were lost since the start, because too many were waiting or the sink failed.
    pub fn dropped(&self) -> u64 {
        self.output.dropped()
    }

    /// How many writes the sink has refused since the start: a closed pipe, a full disk.
    pub fn write_errors(&self) -> u64 {
        self.output.write_errors()
    }

    /// Whether the sink refused the last write.
    pub fn is_failing(&self) -> bool {
        self.output.is_failing()
    }

    /// Waits until every line so far is out, at most 2 s; whether it is. Call it last before the process ends.
    pub fn flush(&self) -> bool {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests;
