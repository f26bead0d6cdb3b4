//! What a log line costs the request that writes it: nanoseconds a line, with a span of three fields.
//!
//! `cargo run --release -p erp-core --example log_cost` · over the bound of 3 µs, or with a line lost, it exits with 1.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use erp_core::logging::{Level, LogFormat, LogOptions, Logging};
use erp_core::shared::SystemClock;

const LINES: u32 = 2_000;
const ROUNDS: u32 = 200;
/// The most that a line may cost.
const BOUND: Duration = Duration::from_micros(3);

fn main() -> ExitCode {
    let mut kept = true;
    for format in [LogFormat::Json, LogFormat::Console] {
        let options = LogOptions::new(Level::Info, format, "boot_00000000", Arc::new(SystemClock));
        let (logging, subscriber) = Logging::new(options.to(io::sink()));
        let best = tracing::subscriber::with_default(subscriber, || measure(&logging));
        let (cost, dropped) = (best / LINES, logging.dropped());
        kept &= cost <= BOUND && dropped == 0;
        let line =
            format!("log, {format:?}: {} ns a line, {dropped} dropped; bound {BOUND:?}\n", cost.as_nanos());
        let _ = io::stdout().write_all(line.as_bytes());
    }
    ExitCode::from(u8::from(!kept))
}

/// The best round: what the code costs, without what else the machine was doing.
fn measure(logging: &Logging) -> Duration {
    let span =
        tracing::info_span!("request", correlation_id = "req_0123", tenant_id = "acme", user_id = "u1");
    let _request = span.entered();
    let round = || {
        let started = Instant::now();
        for _ in 0..LINES {
            tracing::info!(status_code = 200, duration = 1.5, path = "/api/v1/items", "Request");
        }
        let elapsed = started.elapsed();
        logging.flush();
        elapsed
    };
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}
