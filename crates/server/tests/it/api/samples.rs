//! What the sweeps send to each route.

use erp_core::auth::Role;
use erp_core::module::Route;
use erp_testkit::TestApp;
use serde_json::{Value, json};

/// Makes a body; the number makes it unique.
type Body = fn(&TestApp, u32) -> Value;

/// A request that succeeds when it is made with right.
pub(crate) struct Sample {
    method: &'static str,
    path: &'static str,
    /// The status of success.
    pub(crate) success: u16,
    /// The body, for a route that reads one.
    pub(crate) body: Option<Body>,
    /// For a route with an id: the collection to POST to for a thing of one's own, and its body.
    pub(crate) made_by: Option<(&'static str, Body)>,
}

const ITEMS: Option<(&str, Body)> = Some(("/api/v1/items", item));

/// One row for each route; a new route needs a row here.
const SAMPLES: &[Sample] = &[
    read("/ping"),
    read("/livez"),
    read("/readyz"),
    read("/health"),
    read("/health/detailed"),
    read("/metrics"),
    read("/log-level"),
    read("/openapi.json"),
    read("/docs"),
    read("/docs/start.js"),
    // No file has this name: tests/it/api/contract.rs takes those of the page.
    Sample { success: 404, ..read("/docs/{file}") },
    Sample { method: "PUT", path: "/log-level", success: 200, body: Some(level), made_by: None },
    // No file has this name: tests/it/representation/assets.rs brings one.
    Sample { success: 404, ..read("/assets/{file}") },
    read("/api/v1/me"),
    Sample { method: "POST", path: "/api/v1/auth/login", success: 200, body: Some(login), made_by: None },
    read("/api/v1/items"),
    Sample { method: "POST", path: "/api/v1/items", success: 201, body: Some(item), made_by: None },
    Sample { made_by: ITEMS, ..read("/api/v1/items/{id}") },
    Sample { method: "PUT", path: "/api/v1/items/{id}", success: 200, body: Some(item), made_by: ITEMS },
    Sample { method: "PATCH", path: "/api/v1/items/{id}", success: 200, body: Some(patch), made_by: ITEMS },
    Sample { method: "DELETE", path: "/api/v1/items/{id}", success: 204, body: None, made_by: ITEMS },
];

const fn read(path: &'static str) -> Sample {
    Sample { method: "GET", path, success: 200, body: None, made_by: None }
}

/// The sample of a route, if there is one.
pub(crate) fn of(route: &Route) -> Option<&'static Sample> {
    SAMPLES.iter().find(|sample| route.method == sample.method && route.path == sample.path)
}

/// The level that tests have already.
fn level(_: &TestApp, _: u32) -> Value {
    json!({ "level": "debug" })
}

fn login(app: &TestApp, _: u32) -> Value {
    let credential = &app.person("acme", Role::Owner).credential;
    json!({ "tenant": credential.tenant, "email": credential.email, "password": credential.password })
}

fn item(_: &TestApp, number: u32) -> Value {
    json!({ "sku": format!("SWEEP-{number}"), "name": "Sweep", "description": "made by a sweep", "quantity": 7 })
}

fn patch(_: &TestApp, number: u32) -> Value {
    json!({ "name": format!("Patched {number}"), "description": null })
}
