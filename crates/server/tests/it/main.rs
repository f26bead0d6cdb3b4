//! The whole product, over real HTTP and a real PostgreSQL.

// What goes wrong in a test's own helpers fails the test; it reads files and starts tasks outside the product.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod admission;
mod api;
mod audit;
mod cache;
mod chain;
mod db;
mod e2e;
mod encryption;
mod events;
mod files;
mod guide;
mod identity;
mod imports;
mod jobs;
mod mail;
mod modules;
mod operators;
mod origin;
mod pages;
mod purchasing;
mod representation;
#[path = "../../../core/tests/it/sources.rs"]
mod sources;
mod start;
mod usage;
mod webhooks;

/// Whether script/check-deep runs the tests: what is short in script/test is then as long as the requirement asks.
fn deep() -> bool {
    std::env::var("DEEP").as_deref() == Ok("1")
}
