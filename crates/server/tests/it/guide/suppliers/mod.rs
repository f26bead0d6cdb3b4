//! Suppliers: who a tenant buys from.

mod records;

use erp_core::module::{Access, Module, Operation, Routes};

/// The suppliers module.
pub static MODULE: Module = Module {
    name: "suppliers",
    about: "Who a tenant buys from.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    ..Module::BARE
};

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
    use records::{Supplier, Suppliers};
    Routes::new()
        .get("/api/v1/suppliers", Access::Permission(&READ), records::list)
        .doc(Operation::new("listSuppliers", "List suppliers").answers::<Suppliers>(200))
        .post("/api/v1/suppliers", Access::Permission(&WRITE), records::create)
        .doc(
            Operation::new("createSupplier", "Create a supplier")
                .creates::<Supplier>()
                .refuses(&codes::NAME_TAKEN)
                .leads_to("readSupplier", "id", "/id"),
        )
        .get("/api/v1/suppliers/{id}", Access::Permission(&READ), records::read)
        .doc(Operation::new("readSupplier", "Read a supplier").answers::<Supplier>(200).tagged())
        .put("/api/v1/suppliers/{id}", Access::Permission(&WRITE), records::replace)
        .doc(
            Operation::new("replaceSupplier", "Replace a supplier")
                .answers::<Supplier>(200)
                .tagged()
                .refuses(&codes::NAME_TAKEN),
        )
        .delete("/api/v1/suppliers/{id}", Access::Permission(&WRITE), records::delete)
        .doc(Operation::new("deleteSupplier", "Delete a supplier").answers_nothing(204))
}
