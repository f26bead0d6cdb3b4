//! The core's tests against real services.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and their environment is the process's"
)]

mod allocations;
mod architecture;
mod audit;
mod database;
mod outbound;
mod proof;
mod sources;
mod specimen;
mod tls;
