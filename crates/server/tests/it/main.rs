//! The whole product, over real HTTP and a real PostgreSQL.

// What goes wrong in a test's own helpers fails the test; it reads files and starts tasks outside the product.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod assets;
mod auditing;
mod browser;
mod cancellation;
mod catalog;
mod client;
mod context;
mod contract;
mod contract_headers;
mod cors;
mod database_texts;
mod database_use;
mod e2e;
mod exhaustion;
mod exports;
mod factory;
mod failed_start;
mod faults;
mod first;
mod guide;
mod headers;
mod https;
mod idempotency;
mod input;
mod listing;
mod management;
mod module_parts;
mod module_sql;
mod overload;
mod pipelining;
mod pooler;
mod profiles;
mod protocol;
mod rate_limits;
mod representations;
mod reproof;
mod round_trip;
mod samples;
mod security_page;
mod sign_in;
mod specification;
mod start_options;
mod streaming;
mod stress;
mod sweeps;
mod tables;
mod tenancy;
mod tokens;
mod tracing;
mod transactions;

/// Whether script/check-deep runs the tests: what is short in script/test is then as long as the requirement asks.
fn deep() -> bool {
    std::env::var("DEEP").as_deref() == Ok("1")
}
