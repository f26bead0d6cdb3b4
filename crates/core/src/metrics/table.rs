//! The table of the core's metrics, and the macro that declares a table. A row is all that a new metric needs.

use std::any::Any;

use super::SeriesLimits;
use super::instrument::{Counter, Instrument};
use super::registry::AnyFamily;
use super::series::{Family, Rooms};
use crate::shared::is_same_text;

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
    /// Whether one without labels is there from the start, at zero; else from its first value on.
    pub from_start: bool,
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
    /// A row with nothing but its name: what [`metrics!`](macro@crate::metrics) fills up.
    pub const fn named(name: &'static str) -> Self {
        let kind = Kind::Counter;
        Self { name, kind, labels: &[], buckets: &[], unit: "", alert: "", from_start: true, help_lines: &[] }
    }

    /// What it says, as one line.
    pub fn help(&self) -> String {
        self.help_lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// Buckets for milliseconds, from 1 ms to 10 s.
pub const DURATION_MS: &[f64] =
    &[1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0];

/// Buckets for seconds, from 1 ms to 10 s.
pub const DURATION_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The metrics of one table, as [`metrics!`](macro@crate::metrics) declares it: a family for each row.
pub trait DeclaredMetrics: Send + Sync + Sized + 'static {
    /// Its rows, in the order of the reference.
    const ROWS: &'static [&'static Metric];

    /// The families, without a value yet.
    fn new(maker: &Maker) -> Self;

    /// The families in the order of the rows.
    fn families(&self) -> Vec<AnyFamily>;
}

/// A table of a module's that its row in the product lists: [`metrics!`](macro@crate::metrics) with `of MODULE` says so, and
/// does not compile where that is not true.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whose metrics they are, and nobody may count with them",
    note = "write `metrics! {{ struct {Self} of MODULE; … }}`, and `metrics: &[MetricTable::of::<{Self}>()]` in that \
            module's row"
)]
pub trait ModuleMetrics: DeclaredMetrics {}

/// Whether a module's row lists the table that has these rows.
pub const fn lists(tables: &[MetricTable], rows: &[&Metric]) -> bool {
    let mut index = 0;
    while index < tables.len() {
        if let ([first, ..], [wanted, ..]) = (tables[index].rows, rows)
            && is_same_text(first.name, wanted.name)
        {
            return true;
        }
        index += 1;
    }
    false
}

/// Makes the families of tables, all with the same bounds.
pub struct Maker {
    enabled: bool,
    limits: SeriesLimits,
    /// Counts what families leave out.
    dropped: Counter,
}

impl Maker {
    /// The family of one row.
    pub fn family<I: Instrument, const N: usize>(&self, metric: &'static Metric) -> Family<I, N> {
        let rooms = Rooms::new(self.limits.series, self.limits.tenant_series);
        Family::new(metric, self.enabled, rooms, self.dropped.clone())
    }
}

/// A table, for the table of a module.
#[derive(Clone, Copy)]
pub struct MetricTable {
    pub(super) rows: &'static [&'static Metric],
    pub(super) make: fn(&Maker) -> HeldTable,
}

/// A table whose type is not known, with its families.
pub(super) struct HeldTable {
    pub(super) table: Box<dyn Any + Send + Sync>,
    pub(super) families: Vec<AnyFamily>,
}

impl MetricTable {
    /// The table that `T` is.
    pub const fn of<T: DeclaredMetrics>() -> Self {
        let make = |maker: &Maker| {
            let table = T::new(maker);
            HeldTable { families: table.families(), table: Box::new(table) }
        };
        Self { rows: T::ROWS, make }
    }

    /// Its rows, in the order of the reference.
    pub fn rows(&self) -> &'static [&'static Metric] {
        self.rows
    }
}

/// Declares one table of metrics: a struct with a family for each row, and what the reference says of it.
///
/// A row is `/// help` `name: Kind[label, …] { unit: …, alert: …, … }`, where the kind is `Counter`, `FloatCounter`, `Gauge`
/// or `Histogram`, and the braces fill fields of [`Metric`](crate::metrics::Metric). Each has the bounds of the core's: so
/// many series and no more, whatever its labels say.
///
/// A module names its table in its own, and its handlers reach it through the app. `of` says in whose, so that one that is not
/// listed there does not compile:
///
/// ```
/// use erp_core::app::App;
/// use erp_core::error::Result;
/// use erp_core::metrics::MetricTable;
/// use erp_core::module::Module;
///
/// erp_core::metrics! {
///     /// What is counted of invoices.
///     pub struct BillingMetrics of BILLING;
///
///     /// Invoices sent, by the way they went.
///     billing_invoices_sent_total: Counter[way] { unit: "invoices" }
/// }
///
/// static BILLING: Module =
///     Module { name: "billing", metrics: &[MetricTable::of::<BillingMetrics>()], ..Module::BARE };
///
/// fn sent_by_mail(app: &App) -> Result<()> {
///     app.metrics.of::<BillingMetrics>()?.billing_invoices_sent_total.with(&["mail"]).inc();
///     Ok(())
/// }
/// ```
///
/// ```compile_fail,E0080
/// # use erp_core::module::Module;
/// erp_core::metrics! {
///     /// What is counted of invoices.
///     pub struct BillingMetrics of BILLING;
///
///     /// Invoices sent.
///     billing_invoices_sent_total: Counter[] { unit: "invoices" }
/// }
///
/// static BILLING: Module = Module { name: "billing", ..Module::BARE }; // error: it lists no metrics
/// ```
#[macro_export]
macro_rules! metrics {
    ($(#[$meta:meta])* $vis:vis struct $table:ident $(of $module:path)?;
     $($(#[doc = $help:literal])+ $name:ident: $kind:ident[$($label:ident),*] { $($field:ident: $value:expr),* $(,)? })+) => {
        $(#[$meta])*
        $vis struct $table {
            $($(#[doc = $help])+
            $vis $name: $crate::metrics::Family<
                $crate::metrics::$kind, { <[&str]>::len(&[$(stringify!($label)),*]) }
            >,)+
        }

        #[allow(non_upper_case_globals)] // the rows are called what the metrics are called
        const _: () = {
            #[allow(unused_imports)] // what the rows of any table may name
            use $crate::metrics::{DURATION_MS, DURATION_SECONDS};

            $(static $name: $crate::metrics::Metric = $crate::metrics::Metric {
                kind: <$crate::metrics::$kind as $crate::metrics::Instrument>::KIND,
                labels: &[$(stringify!($label)),*],
                help_lines: &[$($help),+],
                $($field: $value,)*
                ..$crate::metrics::Metric::named(stringify!($name))
            };)+

            $(
                impl $crate::metrics::ModuleMetrics for $table {}

                const _: () = assert!(
                    $crate::metrics::lists($module.metrics, <$table as $crate::metrics::DeclaredMetrics>::ROWS),
                    concat!(
                        stringify!($table), " is not in its module's row: add `metrics: &[MetricTable::of::<",
                        stringify!($table), ">()]` to ", stringify!($module)
                    )
                );
            )?

            impl $crate::metrics::DeclaredMetrics for $table {
                const ROWS: &'static [&'static $crate::metrics::Metric] = &[$(&$name),+];

                fn new(maker: &$crate::metrics::Maker) -> Self {
                    Self { $($name: maker.family(&$name)),+ }
                }

                fn families(&self) -> Vec<$crate::metrics::AnyFamily> {
                    vec![$(self.$name.any()),+]
                }
            }
        };
    };
}

/// Every metric of the core, in the order of the reference.
pub static METRICS: &[&Metric] = Families::ROWS;

impl Families {
    /// The core's families, and what makes those of modules. What any of them leaves out is counted in
    /// `metrics_series_dropped_total`, which therefore comes first.
    pub(super) fn first(enabled: bool, limits: SeriesLimits) -> (Self, Maker) {
        let uncounted = Maker { enabled, limits, dropped: Counter::disabled() };
        let dropped = Self::new(&uncounted).metrics_series_dropped_total;
        let maker = Maker { dropped: dropped.with(&[]), ..uncounted };
        (Self { metrics_series_dropped_total: dropped, ..Self::new(&maker) }, maker)
    }
}

metrics! {
    /// The core's metrics, one family for each row of [`METRICS`].
    pub struct Families;

    /// Requests answered, by method, route template, status and tenant.
    http_requests_total: Counter[method, path, status_code, tenant] { unit: "requests" }

    /// Time from the last byte of a request's head to the answer, in milliseconds.
    http_request_duration_ms: Histogram[method, path, tenant] {
        unit: "ms", buckets: DURATION_MS, alert: "95th percentile over 500 ms for 5 minutes",
    }

    /// Requests answered with a status of 400 or more.
    http_errors_total: Counter[method, path, status_code, tenant] {
        unit: "requests",
        alert: "status 5xx on more than 0.01 % of requests, or 4xx on more than 0.1 %, for 5 minutes",
    }

    /// Requests refused because `MAX_CONCURRENT_REQUESTS` were being worked on.
    http_requests_shed_total: Counter[] { unit: "requests", alert: "any for 5 minutes: too little capacity" }

    /// Operations on the database, by kind, table, success and tenant.
    db_operations_total: Counter[operation, table, success, tenant] {
        unit: "operations", alert: "success=\"false\" on more than 1 % of operations for 5 minutes",
    }

    /// Time of one database operation, in milliseconds; that of a transaction's first includes the wait for a connection.
    db_operation_duration_ms: Histogram[operation, table, tenant] {
        unit: "ms", buckets: DURATION_MS, alert: "95th percentile over 100 ms for 5 minutes",
    }

    /// Connections of the pool, by state: `used` or `idle`.
    db_pool_connections: Gauge[state] {
        unit: "connections", alert: "used over 80 % of db_pool_max_connections for 5 minutes",
    }

    /// Most connections that the pool opens.
    db_pool_max_connections: Gauge[] { unit: "connections" }

    /// Requests that wait for a connection of the pool.
    db_pool_waiting: Gauge[] { unit: "requests", alert: "above 0 for 1 minute" }

    /// Whether the last isolation proof passed: 1, or 0 when it did not or was not made yet.
    isolation_proof_passed: Gauge[] { unit: "boolean", alert: "0, at once: tenants may see each other's data" }

    /// When the last isolation proof was made, in seconds since 1970.
    isolation_proof_timestamp_seconds: Gauge[] { unit: "s", alert: "more than 15 minutes ago" }

    /// Decisions about requests, by the policy that was closest to its end and by outcome: `allowed` or `refused`.
    rate_limit_decisions_total: Counter[policy, outcome] {
        unit: "requests", alert: "outcome=\"refused\" on more than 1 % of decisions for 15 minutes",
    }

    /// Requests that were answered more slowly, since their client had used more than half of its limit.
    rate_limit_delayed_total: Counter[] { unit: "requests" }

    /// Calls to Redis that failed or took longer than `REDIS_TIMEOUT`. Decisions that are made without asking it, while
    /// `rate_limit_fallback` is 1, are not counted.
    rate_limit_store_errors_total: Counter[] { unit: "errors", alert: "any increase" }

    /// Whether each instance limits by itself, since Redis does not answer: 1, else 0.
    rate_limit_fallback: Gauge[] { unit: "boolean", alert: "1 for 1 minute" }

    /// Calls of other services by destination, `tenants` for all URLs that tenants gave; by outcome, which is the class of the
    /// status or why there was none; and by the tenant that gave the URL.
    outbound_requests_total: Counter[destination, outcome, tenant] {
        unit: "calls",
        alert: "outcome other than success on more than 5 % of calls of a destination of the operator's for 5 minutes",
    }

    /// Time of a call of another service with its repetitions, in seconds; those that were not sent are left out.
    outbound_request_duration_seconds: Histogram[destination] { unit: "s", buckets: DURATION_SECONDS }

    /// Repetitions of calls of other services, by destination and outcome: `sent`, or `over_budget` where the destination
    /// fails so often that the call was not repeated.
    outbound_retries_total: Counter[destination, outcome] {
        unit: "calls", alert: "outcome=\"over_budget\" for 5 minutes",
    }

    /// Destinations that fail and are left alone, by name; of tenants' URLs their number.
    outbound_breakers_open: Gauge[destination] {
        unit: "destinations", alert: "above 0 for 5 minutes, for a destination of the operator's",
    }

    /// Values that caches had, by cache and where: `process` or `redis`.
    cache_hits_total: Counter[cache, tier] {
        unit: "values", alert: "less than 90 % of hits and misses together for 15 minutes, of a cache that is asked often",
    }

    /// Values that a cache did not have and that were read for a caller, by cache. Several callers at a time share a load.
    cache_misses_total: Counter[cache] { unit: "values" }

    /// Time of one load, in seconds, by cache.
    cache_load_duration_seconds: Histogram[cache] { unit: "s", buckets: DURATION_SECONDS }

    /// Values that made room for others, by cache.
    cache_evictions_total: Counter[cache] {
        unit: "values", alert: "steadily more than a tenth of misses: raise CACHE_MEMORY",
    }

    /// What the values of a cache take in this process, about.
    cache_bytes: Gauge[cache] { unit: "bytes" }

    /// What all values may take in this process: `CACHE_MEMORY`.
    cache_max_bytes: Gauge[] { unit: "bytes" }

    /// Values that were not kept, by cache and reason: `changed` while they were loaded, `too_large`, or `unreadable` as
    /// Redis had them from another version.
    cache_values_refused_total: Counter[cache, reason] { unit: "values" }

    /// Calls of the cache to Redis that failed or took longer than `REDIS_TIMEOUT`. While Redis is not asked, none is counted.
    cache_store_errors_total: Counter[] { unit: "errors", alert: "any increase" }

    /// Background tasks that ended by a panic, by task; those of the table of background work are started again.
    background_panics_total: Counter[task] { unit: "tasks", alert: "any increase" }

    /// How often a task of the table of background work had ended before its stop and was started again, by task.
    background_restarts_total: Counter[task] { unit: "tasks", alert: "any increase" }

    /// How much later than asked a timer fires, in seconds: the event loop's lag. Timers tick once a millisecond.
    event_loop_lag_seconds: Histogram[] {
        unit: "s", buckets: DURATION_SECONDS, alert: "99th percentile over 0.1 s for 5 minutes",
    }

    /// Threads that run requests and tasks.
    tokio_workers: Gauge[] { unit: "threads" }

    /// Time that these threads were busy, in seconds; its rate divided by their number is the busy ratio.
    tokio_busy_seconds_total: FloatCounter[] {
        unit: "s", alert: "rate above 0.7 of tokio_workers for 10 minutes",
    }

    /// Tasks that are not finished: connections, requests and background work.
    tokio_alive_tasks: Gauge[] { unit: "tasks", alert: "grows steadily while requests do not" }

    /// Tasks that wait for any thread to run them.
    tokio_global_queue_depth: Gauge[] { unit: "tasks", alert: "above 100 for 1 minute" }

    /// Processor time used, in seconds.
    process_cpu_seconds_total: FloatCounter[] { unit: "s", alert: "rate above 70 % of the cores for 10 minutes" }

    /// Memory that is held in RAM.
    process_resident_memory_bytes: Gauge[] { unit: "bytes", alert: "over 80 % of what the process may use" }

    /// Memory of the process's own that is resident: the allocator's heap, in use or kept for later, and stacks. How much
    /// of it is in use the system's allocator does not tell; see `allocator_allocated_bytes`.
    process_resident_anonymous_bytes: Gauge[] { unit: "bytes" }

    /// The most memory that has been resident since the start.
    process_resident_memory_peak_bytes: Gauge[] { unit: "bytes" }

    /// Open files and sockets.
    process_open_fds: Gauge[] { unit: "files", alert: "over 80 % of process_max_fds" }

    /// Most files and sockets that may be open.
    process_max_fds: Gauge[] { unit: "files" }

    /// Threads of the process.
    process_threads: Gauge[] { unit: "threads" }

    /// When the process started, in seconds since 1970.
    process_start_time_seconds: Gauge[] { unit: "s", alert: "changes more than twice in 15 minutes" }

    /// Bytes read from storage.
    process_disk_read_bytes_total: Counter[] { unit: "bytes" }

    /// Bytes sent to storage.
    process_disk_written_bytes_total: Counter[] { unit: "bytes" }

    /// What the program has asked its allocator for and not given back; absent unless it was built with the feature
    /// `jemalloc`.
    allocator_allocated_bytes: Gauge[] {
        unit: "bytes", alert: "grows for 6 hours while requests do not: a leak", from_start: false
    }

    /// What the allocator keeps of the machine's memory for it, with the same feature. Far more than is allocated is memory
    /// in pieces.
    allocator_resident_bytes: Gauge[] { unit: "bytes", from_start: false }

    /// When the certificate that the listener shows expires, in seconds since 1970; absent without TLS.
    tls_certificate_expiry_timestamp_seconds: Gauge[] {
        unit: "s", alert: "less than 14 days ahead", from_start: false
    }

    /// Times that a changed certificate was read, by outcome: `loaded`, or `refused`, which keeps the old one.
    tls_certificate_reloads_total: Counter[outcome] { unit: "reloads", alert: "any increase of refused" }

    /// TLS handshakes that failed, by reason: `timeout`, `plain_http`, `incompatible` (version, cipher or protocol),
    /// `certificate` (the client's), `alert` (the client refused ours), `other` (hung up, or no TLS).
    tls_handshake_failures_total: Counter[reason] { unit: "handshakes" }

    /// Jobs that are ready and wait for a worker, by kind.
    jobs_ready: Gauge[kind] { unit: "jobs", alert: "grows for 15 minutes" }

    /// How long the oldest ready job of a kind has waited since it was enqueued.
    jobs_oldest_age_seconds: Gauge[kind] { unit: "s", alert: "over 300 for a kind that somebody waits for" }

    /// Time that attempts at jobs took, by kind and outcome: `succeeded`, `failed`, `cancelled`, `interrupted` by a stop.
    jobs_run_duration_seconds: Histogram[kind, outcome] { unit: "s", buckets: DURATION_SECONDS }

    /// Jobs that have failed for the last time, by kind.
    jobs_dead_total: Counter[kind] { unit: "jobs", alert: "any increase" }

    /// Jobs that this process runs now.
    jobs_running: Gauge[] { unit: "jobs" }

    /// Jobs that this process may run at a time: `JOB_WORKERS`.
    jobs_slots: Gauge[] { unit: "jobs" }

    /// Seconds until a schedule fires next, by the clock of the database; below zero while it is overdue.
    jobs_schedule_next_seconds: Gauge[schedule] { unit: "s", alert: "below -60 for 5 minutes" }

    /// Time that claiming the next jobs took.
    jobs_claim_duration_seconds: Histogram[] { unit: "s", buckets: DURATION_SECONDS }

    /// Events that were emitted, by kind: counted once they are committed and have their numbers.
    events_emitted_total: Counter[event] { unit: "events" }

    /// Events that subscribers were told of, by outcome: `done`, `failed` and tried again, `stopped` after the last failure.
    events_handled_total: Counter[subscriber, outcome] { unit: "events", alert: "any increase of stopped" }

    /// Time that a subscriber took over an event.
    events_handle_duration_seconds: Histogram[subscriber] { unit: "s", buckets: DURATION_SECONDS }

    /// How old the oldest event is that a subscriber has not been told of, in all tenants together.
    events_oldest_unread_age_seconds: Gauge[subscriber] { unit: "s", alert: "over 300 for 5 minutes" }

    /// In how many tenants a subscriber has stopped at an event that fails: `erp-backend events list --stopped`.
    events_stopped_cursors: Gauge[subscriber] { unit: "tenants", alert: "above 0" }
    /// Uploads of files, by kind and outcome: `stored`, `refused` for their size, type, digest or the quota, `broken_off` by the
    /// client, `failed` for want of the store or the database.
    files_uploads_total: Counter[kind, outcome] { unit: "uploads", alert: "any increase of failed" }

    /// Downloads of files, by kind and outcome: `complete`, `left` by the client, `failed` for want of the store, `damaged`.
    files_downloads_total: Counter[kind, outcome] { unit: "downloads", alert: "any increase of failed" }

    /// Bytes of files that were stored, by kind.
    files_stored_bytes_total: Counter[kind] { unit: "bytes" }

    /// Bytes of files that were sent to clients, by kind.
    files_sent_bytes_total: Counter[kind] { unit: "bytes" }

    /// What the files of a tenant take, as far as this process has stored or removed some.
    files_used_bytes: Gauge[tenant] { unit: "bytes" }

    /// Uploads that the quota of their tenant refused.
    files_quota_refusals_total: Counter[tenant] { unit: "uploads", alert: "any increase: the tenant can store no more" }

    /// Files whose bytes are missing from the store, or are not those that were stored, by kind; each time that one is read.
    files_damaged_total: Counter[kind] { unit: "files", alert: "any increase: restore them from a backup" }

    /// Objects of the store that no file referred to any more, or never did, and that were removed, by reason: `deleted` with
    /// their file, `orphaned` by an upload that never ended.
    files_removed_total: Counter[reason] { unit: "objects", alert: "orphaned: over 100 a day" }

    /// Time that steps of the store took, by operation and outcome: `ok`, `failed`, `timeout`.
    files_store_duration_seconds: Histogram[operation, outcome] {
        unit: "s", buckets: DURATION_SECONDS, alert: "any timeout; 99th percentile over 5 s for 5 minutes",
    }

    /// Mails by what became of them: `sent`, `held`, `suppressed`, `refused` by the mail server for good, `retried` later, or
    /// `given_up` after four days.
    mails_sent_total: Counter[template, outcome] {
        unit: "mails", alert: "outcome=\"given_up\": any increase; outcome=\"retried\": grows for 15 minutes",
    }

    /// Time of the stages of the exchange with the mail server.
    mail_stage_duration_seconds: Histogram[stage] { unit: "s", buckets: DURATION_SECONDS }

    /// Exchanges with the mail server that failed, by the stage at which they did.
    mail_failures_total: Counter[stage] { unit: "exchanges", alert: "any for 15 minutes" }

    /// Whether the mail server is left alone, since it fails: 1, or 0.
    mail_breaker_open: Gauge[] { unit: "boolean", alert: "1 for 5 minutes: mails wait" }

    /// Time from the request that gave rise to a mail to the moment when the mail server had taken it.
    mail_delay_seconds: Histogram[] {
        unit: "s", buckets: &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0],
    }

    /// Rows of the audit log that were sealed.
    audit_sealed_entries_total: Counter[] { unit: "entries" }

    /// How old the oldest row of the audit log was that was not sealed yet, in all tenants together, when it was last looked.
    audit_unsealed_age_seconds: Gauge[] { unit: "s", alert: "over 10 for 1 minute" }

    /// Seals of a tenant's audit log that did not come about, by reason: `refused`, since what is there is no continuation of what
    /// was signed before; `failed`, for want of the database, say.
    audit_seal_failures_total: Counter[reason] {
        unit: "seals", alert: "any increase of refused: somebody has changed the past; docs/guides/evidence.md",
    }

    /// Rows that had vanished from the audit log before they were sealed.
    audit_missing_rows_total: Counter[] { unit: "rows", alert: "any increase: somebody has deleted rows" }

    /// How long the oldest checkpoint of the platform's log waits that the witness of `AUDIT_WITNESS_URL` has not taken.
    audit_anchor_age_seconds: Gauge[] { unit: "s", alert: "over 300: the witness is away" }

    /// Checkpoints that were told to the witness, by outcome: `told`, `failed` and tried again, `refused` since the witness knows
    /// another past, `dropped` because too many were waiting.
    audit_anchors_total: Counter[outcome] { unit: "checkpoints", alert: "any increase of refused or dropped" }

    /// Rows of audit logs that receivers have got, by stream: `platform-stream` of `AUDIT_STREAM_URL`, `own-stream` of tenants' own.
    audit_streamed_rows_total: Counter[stream] { unit: "rows" }

    /// Times that a receiver of audit rows was away, or went away before rows counted as received. They wait in the log, and come again.
    audit_stream_failures_total: Counter[stream] { unit: "failures", alert: "platform-stream: grows for 5 minutes: the receiver is away" }

    /// Log lines lost because the sink was too slow or failed.
    log_lines_dropped_total: Counter[] { unit: "lines", alert: "any increase" }

    /// Writes of log lines that failed: a closed pipe, a full disk.
    log_write_errors_total: Counter[] { unit: "writes", alert: "any increase" }

    /// Recordings whose labels were replaced by `other` for want of room, or that were refused by name.
    metrics_series_dropped_total: Counter[] { unit: "recordings", alert: "any increase: a label has no bound" }

    /// Timers started by name that were dropped because 10,000 younger ones were open.
    metrics_timers_dropped_total: Counter[] { unit: "timers", alert: "any increase: somebody forgets to stop them" }
}
