//! Suppliers: who a tenant buys from.

use erp_core::answer::NoContent;
use erp_core::db::{Category, LegalBasis, PersonalColumn, PersonalData, Whose};
use erp_core::error::Result;
use erp_core::extract::{IfMatch, Json, Path};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::{Call, Created, Encrypted, Indexed, Listed, Page, Searched, THIS, Tagged};
use erp_core::shared::{Id, Identifier, Text, Version};
use erp_core::{input, list, record, sql};
use jiff::Timestamp;

/// The suppliers module.
pub static MODULE: Module = Module {
    name: "suppliers",
    about: "Who a tenant buys from.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    migrations: erp_core::migrations!["0001_suppliers", "0002_iban"],
    samples: erp_core::samples!["suppliers"],
    personal: &[CONTACTS, ACCOUNTS],
    demo: &[
        "insert into suppliers (id, name, email) values (gen_random_uuid(), 'Bolt & Co', 'sales@bolt.example'), \
         (gen_random_uuid(), 'Northern Steel', null)",
    ],
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
        NAME_TAKEN = "suppliers.name_taken", 409, "Name already in use", on suppliers [suppliers_name_key];
            "Another supplier of this tenant has the same name.";
            "Choose another name, or change the supplier that has it.";
    }
}

const SUPPLIER: Whose = Whose::Id("supplier", "id");

const CONTACTS: PersonalData = PersonalData::new("public.suppliers", SUPPLIER)
    .purpose("sending orders", LegalBasis::Contract)
    .kept("as long as the supplier")
    .columns(&[PersonalColumn::new("email", Category::Contact)])
    .deleted();

/// A supplier may be a person in business: its name and account stand on vouchers.
const ACCOUNTS: PersonalData = PersonalData::new("public.suppliers", SUPPLIER)
    .purpose("ordering, and paying what was ordered", LegalBasis::LegalObligation)
    .kept("as long as a law wants its vouchers to be kept")
    .columns(&[
        PersonalColumn::new("name", Category::Identity).erased_as("'erased ' || id"),
        PersonalColumn::new("iban", Category::Bank),
        PersonalColumn::new("iban_index", Category::Credential),
    ])
    .deleted();

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/suppliers", Access::Permission(&READ), list)
        .doc(Operation::new("listSuppliers", "List suppliers"))
        .post("/api/v1/suppliers", Access::Permission(&WRITE), create)
        .doc(Operation::new("createSupplier", "Create a supplier"))
        .get("/api/v1/suppliers/{id}", Access::Permission(&READ), read)
        .doc(Operation::new("readSupplier", "Read a supplier"))
        .put("/api/v1/suppliers/{id}", Access::Permission(&WRITE), replace)
        .doc(Operation::new("replaceSupplier", "Replace a supplier"))
        .delete("/api/v1/suppliers/{id}", Access::Permission(&WRITE), delete)
        .doc(Operation::new("deleteSupplier", "Delete a supplier"))
}

/// What other modules use of this one.
pub mod facade {
    use erp_core::db::TenantTx;
    use erp_core::error::Result;
    use erp_core::shared::Id;

    pub use super::Supplier;

    /// The supplier of this id, if there is one.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn read(tx: &mut TenantTx<'_>, id: Id<Supplier>) -> Result<Option<Supplier>> {
        tx.optional(super::READ_ONE, &[&id]).await
    }
}

record! {
    /// A supplier, as it is stored and answered.
    pub Supplier in "suppliers" as "supplier" {
        id: Id<Supplier>,
        /// What it is called, unique within the tenant.
        pub name: String,
        /// Where orders go.
        pub email: Option<String>,
        /// The account that it is paid to.
        #[schemars(example = &"DE02120300000000202051")]
        pub iban: Option<Encrypted<String>>,
        created_at: Timestamp,
        updated_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST and PUT.
    NewSupplier {
        name: Text<1, 200>,
        email: Option<Text<3, 254>>,
        /// The account that it is paid to. It has at least ten digits that nobody knows.
        #[schemars(example = &"DE02120300000000202051")]
        iban: Option<Encrypted<Identifier<15, 34>, Indexed<33>>>,
    }
}

input! {
    /// What the list can be narrowed to.
    Search {
        /// The whole account, as it was written.
        #[schemars(example = &"DE02120300000000202051")]
        iban: Option<Searched<Identifier<15, 34>>>,
    }
}

list! {
    /// Suppliers by name.
    Suppliers of Supplier by Search
    from "suppliers" where "$1::text[] is null or iban_index = any ($1)"
    sorted [name, created_at]
}

const READ_ONE: &str = sql!["select ", Supplier::COLUMNS, " from suppliers where id = $1"];
const CREATE: &str = sql![
    "insert into suppliers (id, ",
    NewSupplier::COLUMNS,
    ") values ($1, ",
    NewSupplier::VALUES,
    ") returning ",
    Supplier::COLUMNS
];
const REPLACE: &str =
    sql!["update suppliers set ", NewSupplier::SET, " where ", THIS, " returning ", Supplier::COLUMNS];
const DELETE: &str = sql!["delete from suppliers where ", THIS, " returning id"];

async fn list(call: Call, page: Page<Suppliers>) -> Result<Listed<Suppliers>> {
    call.list(page).await
}

async fn create(call: Call, Json(new): Json<NewSupplier>) -> Result<Created<Supplier>> {
    call.create(CREATE, &new.values()).await
}

async fn read(call: Call, Path(id): Path<Id<Supplier>>) -> Result<Tagged<Supplier>> {
    call.read(READ_ONE, id).await
}

async fn replace(
    call: Call,
    Path(id): Path<Id<Supplier>>,
    when: IfMatch,
    Json(new): Json<NewSupplier>,
) -> Result<Tagged<Supplier>> {
    call.change(REPLACE, id, when, &new.values()).await
}

async fn delete(call: Call, Path(id): Path<Id<Supplier>>, when: IfMatch) -> Result<NoContent> {
    call.remove(DELETE, id, when).await
}

#[cfg(test)]
mod tests {
    use super::NewSupplier;

    #[test]
    fn a_body_names_the_supplier_and_nothing_else() {
        assert!(serde_json::from_str::<NewSupplier>(r#"{"name": "Bolt & Co"}"#).is_ok());
        assert!(serde_json::from_str::<NewSupplier>(r#"{"name": " "}"#).is_err());
        assert!(serde_json::from_str::<NewSupplier>(r#"{"name": "Bolt & Co", "tenant_id": "x"}"#).is_err());
    }
}
