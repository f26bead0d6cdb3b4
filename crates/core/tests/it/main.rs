//! The core's tests against real services.

mod database;
mod proof;
