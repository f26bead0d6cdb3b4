//! Customers: who a tenant sells to.

use erp_core::answer::NoContent;
use erp_core::error::Result;
use erp_core::extract::{IfMatch, Json, Path};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::{Call, Created, Listed, Page, THIS, Tagged};
use erp_core::shared::{Id, Text, Version};
use erp_core::{input, list, record, sql};
use jiff::Timestamp;

/// The customers module.
pub static MODULE: Module = Module {
    name: "customers",
    about: "Who a tenant sells to.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    migrations: erp_core::migrations!["0001_customers"],
    samples: erp_core::samples!["customers"],
    ..Module::BARE
};

erp_core::permissions! {
    /// The permissions of the customers module.
    pub PERMISSIONS {
        READ = "customers.customer.read" to [Owner, Member, ReadOnly]: "List and read customers.";
        WRITE = "customers.customer.write" to [Owner, Member]: "Create, change and delete customers.";
    }
}

erp_core::error_codes! {
    /// The codes of the customers module.
    pub ERRORS in codes {
        NAME_TAKEN = "customers.name_taken", 409, "Name already in use", on customers [customers_name_key];
            "Another customer of this tenant has the same name.";
            "Choose another name, or change the customer that has it.";
    }
}

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/customers", Access::Permission(&READ), list)
        .doc(Operation::new("listCustomers", "List customers"))
        .post("/api/v1/customers", Access::Permission(&WRITE), create)
        .doc(Operation::new("createCustomer", "Create a customer"))
        .get("/api/v1/customers/{id}", Access::Permission(&READ), read)
        .doc(Operation::new("readCustomer", "Read a customer"))
        .put("/api/v1/customers/{id}", Access::Permission(&WRITE), replace)
        .doc(Operation::new("replaceCustomer", "Replace a customer"))
        .delete("/api/v1/customers/{id}", Access::Permission(&WRITE), delete)
        .doc(Operation::new("deleteCustomer", "Delete a customer"))
}

record! {
    /// A customer, as it is stored and answered.
    Customer in "customers" as "customer" {
        id: Id<Customer>,
        name: String,
        email: Option<String>,
        created_at: Timestamp,
        updated_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST and PUT.
    NewCustomer {
        name: Text<1, 200>,
        email: Option<Text<3, 254>>,
    }
}

list! {
    /// Customers by name.
    Customers of Customer from "customers" sorted [name, created_at]
}

const READ_ONE: &str = sql!["select ", Customer::COLUMNS, " from customers where id = $1"];
const CREATE: &str = sql![
    "insert into customers (id, ",
    NewCustomer::COLUMNS,
    ") values ($1, ",
    NewCustomer::VALUES,
    ") returning ",
    Customer::COLUMNS
];
const REPLACE: &str =
    sql!["update customers set ", NewCustomer::SET, " where ", THIS, " returning ", Customer::COLUMNS];
const DELETE: &str = sql!["delete from customers where ", THIS, " returning id"];

async fn list(call: Call, page: Page<Customers>) -> Result<Listed<Customers>> {
    call.list(page).await
}

async fn create(call: Call, Json(new): Json<NewCustomer>) -> Result<Created<Customer>> {
    call.create(CREATE, &new.values()).await
}

async fn read(call: Call, Path(id): Path<Id<Customer>>) -> Result<Tagged<Customer>> {
    call.read(READ_ONE, id).await
}

async fn replace(
    call: Call,
    Path(id): Path<Id<Customer>>,
    when: IfMatch,
    Json(new): Json<NewCustomer>,
) -> Result<Tagged<Customer>> {
    call.change(REPLACE, id, when, &new.values()).await
}

async fn delete(call: Call, Path(id): Path<Id<Customer>>, when: IfMatch) -> Result<NoContent> {
    call.remove(DELETE, id, when).await
}

#[cfg(test)]
mod tests {
    use super::NewCustomer;

    #[test]
    fn a_body_names_the_customer_and_nothing_else() {
        assert!(serde_json::from_str::<NewCustomer>(r#"{"name": "Bolt & Co"}"#).is_ok());
        assert!(serde_json::from_str::<NewCustomer>(r#"{"name": " "}"#).is_err());
        assert!(serde_json::from_str::<NewCustomer>(r#"{"name": "Bolt & Co", "tenant_id": "x"}"#).is_err());
    }
}
