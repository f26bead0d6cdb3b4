//! Suppliers: a name is taken in one tenant and free in the other, and their addresses stay out of the audit log.

use erp_testkit::TestApp;
use serde_json::json;

#[tokio::test]
async fn t_09_suppliers_are_each_tenants_own() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    let steel = || json!({ "name": "Steel Works", "email": "sales@steel.example" });
    let made = alice.post("/api/v1/suppliers", steel()).await.assert(201);
    bob.get(made.header("location")).await.assert(404).problem("core.not_found");
    alice.post("/api/v1/suppliers", steel()).await.assert(409).problem("suppliers.name_taken");
    bob.post("/api/v1/suppliers", steel()).await.assert(201);
    let audit = app.audit_of("acme").await;
    let told = audit.iter().rfind(|row| row["action"] == "supplier.created").unwrap();
    assert_eq!(told["after"]["email"], "[masked]", "{told:#?}");
    app.finish().await;
}
