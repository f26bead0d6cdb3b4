//! Encrypted columns and the keys of tenants, over real HTTP and a real PostgreSQL.

mod columns;
mod rotation;

use std::time::Duration;

use erp_testkit::{Actor, TestApp};
use serde_json::{Value, json};

const PATH: &str = "/api/v1/suppliers";
const IBAN: &str = "DE02120300000000202051";

/// Longer than a process keeps an opened key.
fn minute() -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(61)
}

/// Adds a supplier, and says where it is.
async fn supplier(by: &Actor<'_>, name: &str, iban: Option<&str>) -> String {
    let made = by.post(PATH, json!({ "name": name, "iban": iban })).await.assert(201);
    assert_eq!(made.json()["iban"], json!(iban));
    made.header("location").to_owned()
}

/// One value of a statement, as the superuser sees it.
async fn value(app: &TestApp, sql: &str) -> Value {
    app.sql().query_one(&format!("select to_jsonb(({sql}))"), &[]).await.unwrap().get(0)
}

/// Waits until the audit log of acme has an entry of this action, and returns the last one.
async fn told(app: &TestApp, action: &str) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let log = app.audit_of("acme").await;
        if let Some(entry) = log.iter().rfind(|entry| entry["action"] == action) {
            return entry.clone();
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing was told of {action}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
