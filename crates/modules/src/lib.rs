//! The feature modules, one folder each, and everything that is built into the binary.
//!
//! This file is their list and nothing else: `script/new-module` adds a line to each part of it.

// Amounts are `Money`, and numbers `Int`: a float holds no decimal exactly.
#![warn(clippy::float_arithmetic)]

pub mod audit_trail;
pub mod catalog;
pub mod demo;
pub mod identity;
pub mod jobs;
pub mod mails;
pub mod operators;
pub mod privacy;
pub mod purchasing;
pub mod suppliers;
pub mod tenants;
pub mod webhooks;

#[cfg(test)]
mod facades;
mod product;

use erp_core::module::Module;
pub use product::PRODUCT;

/// Every feature module. To add one: write its folder, and name it here.
pub const ALL: &[&Module] = &[
    &identity::MODULE,
    &tenants::MODULE,
    &privacy::MODULE,
    &jobs::MODULE,
    &mails::MODULE,
    &operators::MODULE,
    &catalog::MODULE,
    &suppliers::MODULE,
    &purchasing::MODULE,
    &webhooks::MODULE,
    &audit_trail::MODULE,
];
