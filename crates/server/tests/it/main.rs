//! The whole product, over real HTTP and a real PostgreSQL.

// What goes wrong in a test's own helpers fails the test; it reads files and starts tasks outside the product.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod e2e;
mod first;
