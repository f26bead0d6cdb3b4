//! What a log line costs the request that writes it: nanoseconds a line, with a span of three fields.
//!
//! `cargo run --release -p erp-core --example log_cost` · the bound is 3 µs.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use erp_core::logging::{Level, LogFormat, Logging, Options};
use erp_core::shared::SystemClock;

const LINES: u32 = 2_000;
const ROUNDS: u32 = 200;

fn main() {
    for format in [LogFormat::Json, LogFormat::Console] {
        let options = Options::new(Level::Info, format, "boot_00000000", Arc::new(SystemClock));
        let (logging, subscriber) = Logging::new(options.to(io::sink()));
        let best = tracing::subscriber::with_default(subscriber, || measure(&logging));
        let line = format!(
            "{format:?}: {} ns a line, {} dropped\n",
            best.as_nanos() / u128::from(LINES),
            logging.dropped()
        );
        let _ = io::stdout().write_all(line.as_bytes());
    }
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
