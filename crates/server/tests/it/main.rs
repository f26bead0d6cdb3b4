//! The whole product.

mod e2e;
