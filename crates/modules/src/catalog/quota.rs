//! How many items a plan has.

use erp_core::auth::Meter;

pub(super) static ITEMS: Meter =
    Meter::rows("catalog.items", "items", "items", "Items of the catalogue that are kept.");
