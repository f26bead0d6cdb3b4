//! Metrics: declared once in a table, recorded with atomics, printed for Prometheus.
//!
//! ```
//! use erp_core::metrics::{Format, Metrics};
//!
//! let metrics = Metrics::new(true);
//! metrics.record_request("GET", "/api/v1/items/{id}", 200, 1.5);
//! let held = metrics.http_requests_total.with(&["GET", "/api/v1/items/{id}", "200"]);
//! held.inc(); // a held handle neither looks up nor allocates
//! assert!(metrics.render(Format::Text004).contains(r#"status_code="200"} 2"#));
//! ```

mod family;
mod instrument;
mod reference;
mod table;
mod text;

pub use family::Family;
pub use instrument::{Counter, Gauge, Histogram};
pub use reference::render_markdown;
pub use table::{Families, Kind, METRICS, Metric};
pub use text::Format;

use std::ops::Deref;
use std::sync::Arc;

/// Most series of one metric; further ones are counted together under labels that all say `other`.
const MOST_SERIES: usize = 1000;
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

/// The metrics of one process, one field for each row of [`METRICS`]. Clones share everything.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Families>,
    enabled: bool,
}

impl Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.families
    }
}

impl Metrics {
    /// A fresh registry. When not `enabled` every recording is a no-op and nothing is kept.
    pub fn new(enabled: bool) -> Self {
        Self::with_series_limit(enabled, MOST_SERIES)
    }

    /// The same with another bound on the series of one metric. [`Metrics::new`] takes 1000.
    pub fn with_series_limit(enabled: bool, most_series: usize) -> Self {
        Self { families: Arc::new(Families::new(enabled, most_series)), enabled }
    }

    /// Whether anything is recorded.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// One answered request. `path` is the route's template, never the raw path, which has no bound.
    pub fn record_request(&self, method: &str, path: &str, status: u16, duration_ms: f64) {
        if !self.enabled {
            return;
        }
        // A client chooses its method: what is not a method of HTTP must not become a series.
        let method = METHODS.iter().find(|known| **known == method).copied().unwrap_or("other");
        let status = Status::new(status);
        self.http_requests_total.with(&[method, path, status.text()]).inc();
        self.http_request_duration_ms.with(&[method, path]).observe(duration_ms);
        if status.is_error() {
            self.http_errors_total.with(&[method, path, status.text()]).inc();
        }
    }

    /// One operation on the database, such as `select` on `item`.
    pub fn record_database(&self, operation: &str, table: &str, duration_ms: f64, success: bool) {
        let success = if success { "true" } else { "false" };
        self.db_operations_total.with(&[operation, table, success]).inc();
        self.db_operation_duration_ms.with(&[operation, table]).observe(duration_ms);
    }

    /// Every metric in `format`. [`Format::content_type`] goes with it.
    pub fn render(&self, format: Format) -> String {
        text::render(&self.families.all(), format)
    }
}

/// The three digits of an HTTP status, without an allocation.
struct Status(Option<[u8; 3]>);

impl Status {
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
