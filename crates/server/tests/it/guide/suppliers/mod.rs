//! Suppliers: who a tenant buys from.

mod records;

use erp_core::module::{Access, Module, Routes};

/// The suppliers module.
pub static MODULE: Module =
    Module { name: "suppliers", permissions: PERMISSIONS, errors: ERRORS, routes, ..Module::BARE };

erp_core::permissions! {
    /// The permissions of the suppliers module.
    pub PERMISSIONS {
        READ = "suppliers.supplier.read" to [Owner, Member, ReadOnly]: "List and read suppliers.";
        WRITE = "suppliers.supplier.write" to [Owner, Member]: "Create, change and delete suppliers.";
    }
}

erp_core::error_codes! {
    /// The codes of the suppliers module.
    pub ERRORS in codes {
        NAME_TAKEN = "suppliers.name_taken", 409, "Name already in use";
            "Another supplier of this tenant has the same name.";
            "Choose another name, or change the supplier that has it.";
    }
}

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/suppliers", Access::Permission(&READ), records::list)
        .post("/api/v1/suppliers", Access::Permission(&WRITE), records::create)
        .get("/api/v1/suppliers/{id}", Access::Permission(&READ), records::read)
        .put("/api/v1/suppliers/{id}", Access::Permission(&WRITE), records::replace)
        .delete("/api/v1/suppliers/{id}", Access::Permission(&WRITE), records::delete)
}
