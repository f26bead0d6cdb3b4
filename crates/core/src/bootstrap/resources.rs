//! Phase four looks at what the machine gives and what the modules depend on.

use std::time::{Duration, Instant};

use crate::app::App;
use crate::lifecycle::{Exit, StartError};

/// How long to wait before a failing probe is asked again: longer than its answer is kept.
const PAUSE: Duration = Duration::from_millis(1100);
/// Less memory than this, in KiB, is soon none.
const LITTLE_MEMORY: u64 = 128 * 1024;
/// File descriptors that are neither a client's nor the pool's: listeners, the log, files.
const OTHER_FILES: u64 = 32;

/// Waits until every required probe passes, and warns of optional ones that do not.
///
/// # Errors
/// `Exit::Unavailable` when one still fails after `STARTUP_TIMEOUT`.
pub(super) async fn probe_modules(app: &App) -> Result<(), StartError> {
    let deadline = Instant::now() + app.config.lifecycle.startup_timeout;
    loop {
        let outcomes = app.probe().await;
        let failures = || outcomes.iter().filter_map(|probe| Some((probe, probe.failure.as_deref()?)));
        for (probe, failure) in failures() {
            tracing::warn!(probe = probe.name, required = probe.required, failure, "A probe failed");
        }
        match failures().find(|(probe, _)| probe.required) {
            None => return Ok(()),
            Some((probe, failure)) if Instant::now() + PAUSE > deadline => {
                let message = format!("{} is required, and fails: {failure}", probe.name);
                return Err(StartError::new(Exit::Unavailable, message));
            }
            Some(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Warns when the machine gives fewer file descriptors than the settings may take, or hardly any memory.
pub(super) async fn check_machine(app: &App) {
    let config = &app.config;
    let pools = config.database.max_connections + config.database.system_max_connections;
    let wanted = u64::from(config.traffic.max_connections) + u64::from(pools) + OTHER_FILES;
    let limits = tokio::fs::read_to_string("/proc/self/limits").await.unwrap_or_default();
    if let Some(given) = number_after(&limits, "Max open files")
        && given < wanted
    {
        tracing::warn!(given, wanted, "The limit of open files is lower than MAX_CONNECTIONS needs");
    }
    let memory = tokio::fs::read_to_string("/proc/meminfo").await.unwrap_or_default();
    if let Some(kib) = number_after(&memory, "MemAvailable:")
        && kib < LITTLE_MEMORY
    {
        tracing::warn!(available_kib = kib, "Hardly any memory is left on this machine");
    }
}

/// The first number on the line that starts with `name`; `unlimited` is none.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(number_after(limits, "Max open files"), Some(1024));
        assert_eq!(number_after("Max open files            unlimited  unlimited", "Max open files"), None);
        assert_eq!(number_after("MemAvailable:    5120 kB\n", "MemAvailable:"), Some(5120));
    }
}
