//! The tables that the tests of core work on: a module that no product has, with migrations and samples of its own.
//!
//! The product's tables change with its modules; the sabotages of the proof must not (F51).

use erp_core::db::{Namespace, Schema};

const SPECIMEN: Namespace<'static> = Namespace {
    samples: erp_core::samples!["tenant_profiles", "items"],
    ..Namespace::of("specimen", erp_core::migrations!["0001_people", "0002_items"])
};

/// Core's tables and these.
pub(crate) fn schema() -> Schema {
    Schema::new([SPECIMEN]).unwrap()
}
