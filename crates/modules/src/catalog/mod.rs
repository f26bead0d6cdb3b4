//! The catalogue: items with a stock keeping unit, unique within their tenant.
//!
//! This module is the example to follow (`docs/guides/add-a-module.md`): tables first, then one handler after the other.

mod items;
mod list;

use erp_core::auth::Permission;
use erp_core::module::{Access, Module, Routes};

/// The catalogue module.
pub static MODULE: Module =
    Module { name: "catalog", permissions: PERMISSIONS, errors: ERRORS, routes, ..Module::BARE };

erp_core::permissions! {
    /// The permissions of the catalogue.
    pub PERMISSIONS {
        READ = "catalog.item.read" to [Owner, Member, ReadOnly]: "List and read items.";
        WRITE = "catalog.item.write" to [Owner, Member]: "Create, change and delete items.";
    }
}

erp_core::error_codes! {
    /// The codes of the catalogue.
    pub ERRORS in codes {
        SKU_TAKEN = "catalog.sku_taken", 409, "SKU already in use";
            "Another item of this tenant has the same sku.";
            "Choose another sku, or change the item that has it.";
    }
}

const fn may(permission: &'static Permission) -> Access {
    Access::Permission(permission)
}

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/items", may(&READ), list::list)
        .post("/api/v1/items", may(&WRITE), items::create)
        .get("/api/v1/items/{id}", may(&READ), items::read)
        .put("/api/v1/items/{id}", may(&WRITE), items::replace)
        .patch("/api/v1/items/{id}", may(&WRITE), items::patch)
        .delete("/api/v1/items/{id}", may(&WRITE), items::delete)
}
