//! The table of all metrics. A row here is all that a new metric needs.

use super::family::{Family, Series};
use super::instrument::{Counter, Histogram, Instrument};

/// One metric: everything that is known about it before a value is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name, such as `http_requests_total`.
    pub name: &'static str,
    /// What it does with values.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram's buckets, ascending; `+Inf` is implied.
    pub buckets: &'static [f64],
    /// What a value counts or measures: `ms`, `requests`.
    pub unit: &'static str,
    /// When somebody should look, in words; empty when never.
    pub alert: &'static str,
    /// The lines of its help, untrimmed; [`Metric::help`] is the text.
    pub help_lines: &'static [&'static str],
}

/// What a metric does with values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by size.
    Histogram,
}

impl Kind {
    /// The word for it in both formats.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    const fn named(name: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels: &[], buckets: &[], unit: "", alert: "", help_lines: &[] }
    }

    /// What it says, as one line.
    pub fn help(&self) -> String {
        self.help_lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

const DURATION_MS: &[f64] =
    &[1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0];

/// Declares the metrics. Each row is `/// help` `name: Kind[label, …] { unit: …, alert: …, … }`, where the braces fill
/// fields of [`Metric`].
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $kind:ident[$($label:ident),*] { $($field:ident: $value:expr),* $(,)? })+) => {
        #[allow(non_upper_case_globals)] // the rows are called what the metrics are called
        mod row {
            use super::*;
            $(pub(super) static $name: Metric = Metric {
                kind: Kind::$kind,
                labels: &[$(stringify!($label)),*],
                help_lines: &[$($help),+],
                $($field: $value,)*
                ..Metric::named(stringify!($name))
            };)+
        }

        /// Every metric there is, in the order of the reference.
        pub static METRICS: &[&Metric] = &[$(&row::$name),+];

        /// One family for each row of [`METRICS`].
        pub struct Families {
            $($(#[doc = $help])+ pub $name: Family<$kind, { <[&str]>::len(&[$(stringify!($label)),*]) }>,)+
        }

        impl Families {
            pub(super) fn new(enabled: bool, most_series: usize) -> Self {
                // Made first: it counts what the others leave out.
                let uncounted = Counter::disabled();
                let dropped = Family::<Counter, 0>::new(&row::metrics_series_dropped_total, enabled, 1, uncounted);
                let counter = dropped.with(&[]);
                $(let $name = Family::new(&row::$name, enabled, most_series, counter.clone());)+
                Self { metrics_series_dropped_total: dropped, ..Self { $($name),+ } }
            }

            pub(super) fn all(&self) -> Vec<&dyn Series> {
                vec![$(&self.$name),+]
            }
        }
    };
}

metrics! {
    /// Requests answered, by method, route template and status.
    http_requests_total: Counter[method, path, status_code] { unit: "requests" }

    /// Time from the last byte of a request's head to the answer, in milliseconds.
    http_request_duration_ms: Histogram[method, path] {
        unit: "ms", buckets: DURATION_MS, alert: "95th percentile over 500 ms for 5 minutes",
    }

    /// Requests answered with a status of 400 or more.
    http_errors_total: Counter[method, path, status_code] {
        unit: "requests", alert: "status 5xx on more than 1 % of requests for 5 minutes",
    }

    /// Operations on the database, by kind, table and success.
    db_operations_total: Counter[operation, table, success] {
        unit: "operations", alert: "success=\"false\" on more than 1 % of operations for 5 minutes",
    }

    /// Time of one database operation, waiting for a connection not included, in milliseconds.
    db_operation_duration_ms: Histogram[operation, table] {
        unit: "ms", buckets: DURATION_MS, alert: "95th percentile over 100 ms for 5 minutes",
    }

    /// Recordings whose labels were replaced by `other`, because the metric had too many series.
    metrics_series_dropped_total: Counter[] { unit: "recordings", alert: "any increase: a label has no bound" }

    /// Log lines lost because the sink was too slow or failed.
    log_lines_dropped_total: Counter[] { unit: "lines", alert: "any increase" }
}
