//! Gauges of what stands in the rows of all tenants.

use crate::db::SystemWork;
use crate::error::Result;
use crate::metrics::Metrics;

/// A gauge of what the rows of all tenants say, which no request or job of one of them could set. A process that works on jobs asks
/// every ten seconds.
pub struct SystemGauge {
    /// The metric, of the module's own table.
    pub metric: &'static str,
    /// The work of the system that asking is; the module names it in [`Module::system`](super::Module::system).
    pub work: &'static SystemWork,
    /// Returns one row for each series, with the columns `label` (text) and `value` (float8).
    pub sql: &'static str,
    /// All labels; one that has no row is 0.
    pub labels: &'static [&'static str],
    /// Sets the series of one label.
    pub set: fn(&Metrics, &str, f64) -> Result<()>,
}
