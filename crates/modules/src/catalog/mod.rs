//! The catalogue: items with a stock keeping unit, unique within their tenant.
//!
//! This module is the example to follow (`docs/guides/add-a-module.md`): tables first, then one handler after the other.

mod items;
mod list;

use erp_core::auth::Permission;
use erp_core::error;
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::stream;

/// The catalogue module.
pub static MODULE: Module = Module {
    name: "catalog",
    about: ABOUT,
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    ..Module::BARE
};

const ABOUT: &str = "Items with a stock keeping unit, unique within their tenant.";

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
            "Another item of this tenant has the same sku, or one that differs in case or width only.";
            "Choose another sku, or change the item that has it.";
    }
}

const fn may(permission: &'static Permission) -> Access {
    Access::Permission(permission)
}

fn routes() -> Routes {
    use items::Item;
    use list::Page;
    Routes::new()
        .get("/api/v1/items", may(&READ), list::list)
        .produces(list::TYPES)
        .doc(
            Operation::new("listItems", "List items")
                .about("As NDJSON and CSV all of them at once, without `limit` and `cursor`; an answer that cannot be completed is broken off.")
                .answers::<Page>(200)
                .answers_text(200, stream::NDJSON)
                .answers_text(200, stream::CSV)
                .refuses(&error::codes::MALFORMED_CURSOR)
                .leads_to("listItems", "cursor", "/nextCursor"),
        )
        .post("/api/v1/items", may(&WRITE), items::create)
        .doc(["readItem", "replaceItem", "changeItem", "deleteItem"].into_iter().fold(
            Operation::new("createItem", "Create an item").creates::<Item>().refuses(&codes::SKU_TAKEN),
            |operation, id| operation.leads_to(id, "id", "/id"),
        ))
        .get("/api/v1/items/{id}", may(&READ), items::read)
        .doc(Operation::new("readItem", "Read an item").answers::<Item>(200).tagged())
        .put("/api/v1/items/{id}", may(&WRITE), items::replace)
        .doc(
            Operation::new("replaceItem", "Replace an item")
                .about("Never creates one. A change of nothing keeps `version` and `updatedAt`.")
                .answers::<Item>(200)
                .tagged()
                .refuses(&codes::SKU_TAKEN),
        )
        .patch("/api/v1/items/{id}", may(&WRITE), items::patch)
        .doc(
            Operation::new("changeItem", "Change a part of an item")
                .about("As RFC 7396 says: what is absent is kept, `null` clears. A change of nothing keeps `version` and `updatedAt`.")
                .answers::<Item>(200)
                .tagged()
                .refuses(&codes::SKU_TAKEN),
        )
        .delete("/api/v1/items/{id}", may(&WRITE), items::delete)
        .doc(Operation::new("deleteItem", "Delete an item").answers_nothing(204))
}
