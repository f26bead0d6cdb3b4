//! The product: who it is, and what it is made of.

pub mod fleet;
pub mod rentals;

use erp_core::module::Product;

/// Its modules are upstream's identity, without which nobody signs in, and its own. Their migrations come with them.
pub const PRODUCT: Product = Product {
    name: "wheels",
    version: env!("CARGO_PKG_VERSION"),
    modules: &[&erp_modules::identity::MODULE, &fleet::MODULE, &rentals::MODULE],
    seed: |seed| Box::pin(erp_modules::demo::seed(seed)),
};
