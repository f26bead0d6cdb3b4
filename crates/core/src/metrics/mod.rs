//! Metrics: declared once in a table, recorded with atomics, printed for Prometheus.
//!
//! By handle where it matters, by name with the calls of the specification where it does not. What the specification
//! passes as `context` or `metadata` belongs into a log line: a metric's labels must have few values.
//!
//! ```
//! use std::time::Duration;
//! use erp_core::metrics::{Format, Metrics};
//!
//! let metrics = Metrics::new(true);
//! metrics.record_request("GET", "/api/v1/items/{id}", 200, Duration::from_millis(2), None);
//! let held = metrics.http_requests_total.with(&["GET", "/api/v1/items/{id}", "200", ""]);
//! held.inc(); // a held handle neither looks up nor allocates
//! metrics.counter("user_created", 1, &[("source", "import")]);
//! let text = metrics.render(Format::Text004);
//! assert!(text.contains(r#"status_code="200"} 2"#) && text.contains(r#"user_created_total{source="import"} 1"#));
//! ```

mod instrument;
mod process;
mod reference;
mod registry;
mod runtime;
mod series;
mod table;
mod tenants;
mod text;
mod timer;

pub use instrument::{Counter, FloatCounter, Gauge, Histogram, Instrument};
pub(crate) use process::open_files;
pub use process::{Allocated, AskAllocator};
pub use reference::render_markdown;
pub use registry::AnyFamily;
pub(crate) use runtime::LAG;
pub use runtime::watch_lag;
pub use series::Family;
pub use table::{
    DURATION_MS, DURATION_SECONDS, DeclaredMetrics, Families, Kind, METRICS, Maker, Metric, MetricTable,
    ModuleMetrics, lists,
};
pub use tenants::TenantLabel;
pub use text::Format;
pub use timer::{TimerId, Timing};

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::lifecycle::{Exit, StartError};
use crate::shared::TenantId;
use registry::Registry;
use series::Rooms;
use table::HeldTable;
use tenants::Tenants;
use timer::Timers;

/// Names and values of labels, in any order. A label with an empty value is left out.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

/// Bounds on what is kept.
#[derive(Debug, Clone, Copy)]
pub struct SeriesLimits {
    /// Most series of one metric that belong to no single tenant; further ones are counted together under labels that
    /// all say `other`. All metrics that registered by name share one such bound. Default: 1000.
    pub series: usize,
    /// Most series of one metric that belong to single tenants; further ones are counted under the tenant `other`.
    /// Default: 4000.
    pub tenant_series: usize,
    /// `METRICS_TENANT_LIMIT`: most tenants with series of their own, the busiest. Default: 50; 0 leaves the label out.
    pub tenants: usize,
}

impl Default for SeriesLimits {
    fn default() -> Self {
        Self { series: 1000, tenant_series: 4000, tenants: 50 }
    }
}

/// The metrics of one process, one field for each row of [`METRICS`]. Clones share everything.
#[derive(Clone)]
pub struct Metrics(Arc<MetricsInner>);

struct MetricsInner {
    enabled: bool,
    families: Families,
    of_modules: Vec<HeldTable>,
    registry: Registry,
    tenants: Tenants,
    timers: Timers,
}

impl Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.0.families
    }
}

impl Metrics {
    /// A fresh registry. When not `enabled` every recording is a no-op and nothing is kept.
    pub fn new(enabled: bool) -> Self {
        Self::with_limits(enabled, SeriesLimits::default())
    }

    /// The same with other bounds.
    pub fn with_limits(enabled: bool, limits: SeriesLimits) -> Self {
        Self::made(enabled, limits, &[])
    }

    /// The same with the tables of modules.
    ///
    /// # Errors
    /// `Exit::Internal` when two tables claim one name, or Prometheus would not take a name, a label or buckets.
    pub fn with_tables(
        enabled: bool,
        limits: SeriesLimits,
        tables: impl IntoIterator<Item = MetricTable>,
    ) -> Result<Self, StartError> {
        let tables: Vec<_> = tables.into_iter().collect();
        let rows = METRICS.iter().copied().chain(tables.iter().flat_map(|table| table.rows).copied());
        registry::check_rows(rows).map_err(|why| {
            StartError::with_fix(Exit::Internal, format!("The metric {why}"), "change its row in the code")
        })?;
        Ok(Self::made(enabled, limits, &tables))
    }

    fn made(enabled: bool, limits: SeriesLimits, tables: &[MetricTable]) -> Self {
        let (families, maker) = Families::first(enabled, limits);
        let of_modules: Vec<_> = tables.iter().map(|table| (table.make)(&maker)).collect();
        let rooms = Rooms::new(limits.series, limits.tenant_series);
        let dropped = families.metrics_series_dropped_total.with(&[]);
        let mut declared = families.families();
        declared.extend(of_modules.iter().flat_map(|held| held.families.iter().cloned()));
        let registry = Registry::new(declared, rooms, dropped);
        let tenants = Tenants::new(limits.tenants);
        let timers = Timers::default();
        Self(Arc::new(MetricsInner { enabled, families, of_modules, registry, tenants, timers }))
    }

    /// The metrics of a module's table.
    ///
    /// # Errors
    /// `core.internal` when the table's module is not one of the product's.
    pub fn of<T: ModuleMetrics>(&self) -> Result<&T> {
        let undeclared = || {
            let table = std::any::type_name::<T>();
            Error::internal(format!("the module of {table} is not one of the product's: add it there"))
        };
        self.0.of_modules.iter().find_map(|held| held.table.downcast_ref()).ok_or_else(undeclared)
    }

    /// Whether anything is recorded.
    pub fn is_enabled(&self) -> bool {
        self.0.enabled
    }

    /// One answered request. `path` is the route's template, never the raw path, which has no bound.
    pub fn record_request(
        &self,
        method: &str,
        path: &str,
        status: u16,
        duration: Duration,
        tenant: Option<TenantId>,
    ) {
        if !self.is_enabled() {
            return;
        }
        // A client chooses its method: what is not a method of HTTP must not become a series.
        let method = METHODS.iter().find(|known| **known == method).copied().unwrap_or("other");
        let status = StatusDigits::new(status);
        let tenant = self.tenant_label(tenant);
        let code = status.text();
        let tenant = tenant.as_str();
        self.http_requests_total.with(&[method, path, code, tenant]).inc();
        self.http_request_duration_ms.with(&[method, path, tenant]).observe(milliseconds(duration));
        if status.is_error() {
            self.http_errors_total.with(&[method, path, code, tenant]).inc();
        }
    }

    /// One operation on the database, such as `select` on `items`.
    pub fn record_database(
        &self,
        operation: &str,
        table: &str,
        duration: Duration,
        success: bool,
        tenant: Option<TenantId>,
    ) {
        if !self.is_enabled() {
            return;
        }
        let tenant = self.tenant_label(tenant);
        let success = if success { "true" } else { "false" };
        self.db_operations_total.with(&[operation, table, success, tenant.as_str()]).inc();
        self.db_operation_duration_ms
            .with(&[operation, table, tenant.as_str()])
            .observe(milliseconds(duration));
    }

    /// What the label `tenant` says: the tenant if it is among the busiest, else `other`; empty without a tenant.
    /// The call counts towards the tenant's traffic.
    pub fn tenant_label(&self, tenant: Option<TenantId>) -> TenantLabel {
        self.0.tenants.label(tenant)
    }

    /// Every metric in `format`. [`Format::content_type`] goes with it.
    pub fn render(&self, format: Format) -> String {
        let text = text::render(&self.0.registry.all(), format);
        for tenant in self.0.tenants.replace_if_due() {
            self.forget(tenant);
        }
        text
    }

    /// Drops the series of a tenant that has lost its place.
    fn forget(&self, tenant: TenantId) {
        let label = TenantLabel::of(tenant);
        for family in self.0.registry.all() {
            family.forget_tenant(label.as_str());
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The three digits of an HTTP status, without an allocation.
struct StatusDigits(Option<[u8; 3]>);

impl StatusDigits {
    fn new(status: u16) -> Self {
        let digit = |place: u16| b'0' + u8::try_from(status / place % 10).unwrap_or_default();
        Self((100..600).contains(&status).then(|| [digit(100), digit(10), digit(1)]))
    }

    fn text(&self) -> &str {
        self.0.as_ref().and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or("other")
    }

    fn is_error(&self) -> bool {
        matches!(self.0, None | Some([b'4' | b'5', ..]))
    }
}

#[cfg(test)]
mod tests;
