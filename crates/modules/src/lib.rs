//! The feature modules, one folder each, and everything that is built into the binary.

pub mod catalog;
pub mod identity;

mod demo;
mod migrations;

use erp_core::module::{Module, Product};

/// Every feature module. To add one: write its folder, and name it here.
pub const ALL: &[&Module] = &[&identity::MODULE, &catalog::MODULE];

/// The product that this repository builds.
pub const PRODUCT: Product = Product {
    name: "erp-backend",
    version: env!("CARGO_PKG_VERSION"),
    modules: ALL,
    migrations: migrations::MIGRATIONS,
    samples: migrations::SAMPLES,
    seed: |seed| Box::pin(demo::seed(seed)),
};
