//! For tests of the whole product: [`TestApp`], a database of its own for each, and actors that speak.
//!
//! ```no_run
//! # async fn test() {
//! let app = erp_testkit::TestApp::start().await;
//! app.alice().get("/api/v1/items").await.assert(200);
//! app.bob().get("/api/v1/items/no-such-id").await.problem("core.not_found");
//! app.finish().await;
//! # }
//! ```
//!
//! PostgreSQL comes from `script/test`, which says where it is in `TEST_DATABASE_URL`.

// What goes wrong here fails the test, with the message of the `expect`; the environment, the driver and tasks are used
// as a test's own, outside the product.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods
)]

extern crate self as erp_testkit;

mod actor;
mod app;
mod authenticator_app;
mod browser;
mod bucket;
mod builder;
mod database;
// Beside the routes that it is of; here, so that a product of one's own has it, too.
#[path = "../../modules/src/identity/tests.rs"]
mod identity;
mod log;
mod measurement;
mod people;
mod pooler;
mod probe;
mod redis;
mod smtp;
mod software_passkey;
mod sweeps;
mod with_postgres;

pub use actor::{Actor, Answer};
pub use app::TestApp;
pub use authenticator_app::AuthenticatorApp;
pub use browser::{Browser, Tab};
pub use bucket::BucketServer;
pub use builder::{Builder, JWT_SECRET, with_modules};
pub use database::Database;
pub use log::Log;
pub use measurement::{Bound, Measurement, report};
pub use people::Person;
pub use pooler::Pooler;
pub use probe::PROBE;
pub use redis::Redis;
pub use smtp::MailServer;
pub use software_passkey::SoftwarePasskey;
pub use sweeps::{Fixture, Prepared, Preparing, Ready, Setup, Sweep, Sweeps};
pub use with_postgres::with_postgres;
