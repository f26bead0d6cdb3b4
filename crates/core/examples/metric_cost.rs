//! What recording a metric costs: nanoseconds for held handles, for a whole request and by name.
//!
//! `cargo run --release -p erp-core --example metric_cost` · when a held handle takes more than 100 ns, it exits with 1.

use std::cell::Cell;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use erp_core::metrics::Metrics;
use erp_core::shared::{SystemClock, SystemRng, TenantId};

const TIMES: u32 = 20_000;
const ROUNDS: u32 = 50;
/// The most that a held handle may take, in nanoseconds.
const BOUND: f64 = 100.0;

fn main() -> ExitCode {
    let metrics = Metrics::new(true);
    let tenant = Some(TenantId::new(&SystemClock, &SystemRng::new()));
    let (path, took) = ("/api/v1/items/{id}", Duration::from_micros(1234));
    let counter = metrics.http_requests_total.with(&["GET", path, "200", ""]);
    let gauge = metrics.db_pool_connections.with(&["used"]);
    let histogram = metrics.http_request_duration_ms.with(&["GET", path, ""]);
    let held = [
        report("held counter", || counter.inc()),
        report("held histogram", || histogram.observe(1.5)),
        report("held gauge", || gauge.set(1.0)),
    ];
    report("request", || metrics.record_request("GET", path, 200, took, tenant));
    report("request without tenant", || metrics.record_request("GET", path, 200, took, None));
    report("statement", || metrics.record_database("select", "items", took, true, tenant));
    report("counter by name", || metrics.counter("user_created", 1, &[("source", "import")]));
    report("timing by name", || drop(metrics.time("api_request", &[])));
    let (crowded, crowd, next) = (Metrics::new(true), crowd(), Cell::new(0));
    report("request of one of 1000 tenants, 50 of which have places", || {
        next.set((next.get() + 1) % crowd.len());
        crowded.record_request("GET", path, 200, took, crowd.get(next.get()).copied());
    });
    ExitCode::from(u8::from(held.iter().any(|cost| *cost > BOUND)))
}

/// More tenants than have places or are counted while they wait.
fn crowd() -> Vec<TenantId> {
    (0..1000).map(|_| TenantId::new(&SystemClock, &SystemRng::new())).collect()
}

/// The best round: what the code costs, without what else the machine was doing.
fn report(what: &str, record: impl Fn()) -> f64 {
    let round = || {
        let started = Instant::now();
        (0..TIMES).for_each(|_| record());
        started.elapsed()
    };
    let best = (0..ROUNDS).map(|_| round()).min().unwrap_or_default();
    let cost = best.as_nanos() as f64 / f64::from(TIMES);
    let _ = io::stdout().write_all(format!("metric, {what}: {cost:.1} ns\n").as_bytes());
    cost
}
